// Package pool chooses the address that mail leaves from and looks after its
// standing.
//
// A source pool is a set of addresses for some organizations or streams, so
// that what one does to its reputation is not felt by others. Mail goes by the
// most telling binding: organization and stream, organization, stream, and
// else the pool default, which is always there.
//
// Invariants:
//   - All nodes together let no more leave from a pool in a day (of UTC) than
//     its ceiling of that day. A node takes from it in the database, in blocks,
//     before it sends; a block that is lost with its node is lost for the day.
//   - What a pool must not send today goes to the pool it overflows to, or
//     waits. A pool that was slowed down for bounces or deferrals does not
//     overflow: bad mail does not get better from another address.
//   - Without a ceiling nothing is asked of the database.
//   - Counts are of pools, sites and days. They hold no organization and no
//     recipient.
package pool

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/resolve"
)

// Deps are what a Service works with.
type Deps struct {
	Pools      []config.Pool // checked by config
	BlockLists []string
	Hostname   string // in EHLO where a pool names none
	DB         *db.DB
	Clock      clock.Clock
	Log        *slog.Logger
	Resolver   *resolve.Resolver // for CheckLists
	// Org finds an organization by its short name.
	Org func(ctx context.Context, slug string) (id.ID, error)
	// Local reports whether this machine can connect from an address.
	Local func(netip.Addr) bool
}

// Source is where one message leaves from.
type Source struct {
	Pool string
	Helo string     // name in EHLO
	Addr netip.Addr // to connect from; invalid: the system's choice
}

// pool is one of the configuration, ready for use.
type pool struct {
	config.Pool
	addrs    []netip.Addr
	helo     []string
	overflow *pool
	started  int64 // day; only with WarmUpDays
	turn     atomic.Uint64
}

// binding is what mail is chosen by; the zero org and the empty stream stand
// for all.
type binding struct {
	org    id.ID
	stream string
}

// Service is the pools of one installation, as one node uses them. Make one
// with New; Start it before Source is called.
type Service struct {
	Deps
	pools []*pool // in the order of the configuration
	rest  *pool   // default
	bound map[binding]*pool

	mu     sync.Mutex
	blocks map[blockKey]*block
	counts map[countKey]*Counts

	stop chan struct{}
	done chan struct{}
}

// New makes a Service of a configuration that was checked.
func New(d Deps) *Service {
	s := &Service{Deps: d, blocks: map[blockKey]*block{}, counts: map[countKey]*Counts{}}
	for _, c := range d.Pools {
		s.pools = append(s.pools, ready(c, d.Hostname))
	}
	if s.rest = s.find(config.DefaultPool); s.rest == nil {
		s.rest = ready(config.Pool{Name: config.DefaultPool}, d.Hostname)
		s.pools = append(s.pools, s.rest)
	}
	for _, p := range s.pools {
		if p.Overflow != "" {
			p.overflow = s.find(p.Overflow)
		}
	}
	return s
}

func ready(c config.Pool, hostname string) *pool {
	p := &pool{Pool: c, helo: c.Helo}
	if len(p.helo) == 0 {
		p.helo = []string{hostname}
	}
	for _, text := range c.Addresses {
		p.addrs = append(p.addrs, parseAddr(text))
	}
	if at, err := time.Parse(time.DateOnly, c.WarmUpStarted); err == nil {
		p.started = dayOf(at)
	}
	return p
}

// parseAddr reads an address that config has read before.
func parseAddr(text string) netip.Addr {
	a, _ := netip.ParseAddr(text)
	return a
}

func (s *Service) find(name string) *pool {
	if i := slices.IndexFunc(s.pools, func(p *pool) bool { return p.Name == name }); i >= 0 {
		return s.pools[i]
	}
	return nil
}

// Start finds the organizations and looks for the addresses that the
// configuration names, and begins to write down what is counted. Every mistake
// is told at once.
func (s *Service) Start(ctx context.Context) error {
	if err := s.bind(ctx); err != nil {
		return err
	}
	s.stop, s.done = make(chan struct{}), make(chan struct{})
	go s.keepWriting()
	return nil
}

func (s *Service) bind(ctx context.Context) error {
	var wrong []*fault.Fault
	bound := map[binding]*pool{}
	for _, p := range s.pools {
		for _, a := range p.addrs {
			if !s.Local(a) {
				wrong = append(wrong, fault.Newf(fault.Invalid, "pool_address",
					"[[pool]] %q names the address %s, which this machine does not have. Give it to an interface, or correct addresses.", p.Name, a))
			}
		}
		orgs := []id.ID{{}}
		if len(p.Orgs) > 0 {
			orgs = nil
		}
		for _, slug := range p.Orgs {
			org, err := s.Org(ctx, slug)
			if fault.Is(err, fault.NotFound) {
				wrong = append(wrong, fault.Newf(fault.Invalid, "no_org",
					"[[pool]] %q names the organization %q, which does not exist. Make it with \"sealpost org create\" or correct the name.", p.Name, slug))
				continue
			}
			if err != nil {
				return err
			}
			orgs = append(orgs, org)
		}
		if len(p.Orgs)+len(p.Streams) > 0 {
			p.bindTo(bound, orgs)
		}
	}
	if len(wrong) > 0 {
		return fault.Join(wrong...)
	}
	s.bound = bound
	return nil
}

func (p *pool) bindTo(bound map[binding]*pool, orgs []id.ID) {
	streams := p.Streams
	if len(streams) == 0 {
		streams = []string{""}
	}
	for _, org := range orgs {
		for _, stream := range streams {
			bound[binding{org, stream}] = p
		}
	}
}

// Stop writes down what is counted and gives back what was not used.
func (s *Service) Stop() {
	if s.stop == nil {
		return
	}
	select {
	case <-s.stop:
	default:
		close(s.stop)
	}
	<-s.done
}

// Full says that a pool has reached its ceiling of the day and that no other
// takes over. It is a fault of kind TooMany.
type Full struct {
	*fault.Fault
	Pool  string
	Until time.Time // when to ask again
}

// Unwrap gives the fault.
func (f *Full) Unwrap() error { return f.Fault }

// Source takes one message's part of the day's ceiling and says where it leaves
// from. Whoever then sends nothing tells Heard with Unsent. The error is a Full
// when the message must wait.
func (s *Service) Source(ctx context.Context, org id.ID, stream, site string) (Source, error) {
	for p := s.choose(org, stream); ; p = p.overflow {
		err := s.allow(ctx, p, site)
		if err == nil {
			return p.source(), nil
		}
		var full *Full
		if !errors.As(err, &full) || full.Reason == slowedDown || p.overflow == nil {
			return Source{}, err
		}
	}
}

func (s *Service) choose(org id.ID, stream string) *pool {
	for _, b := range []binding{{org, stream}, {org, ""}, {id.ID{}, stream}} {
		if p := s.bound[b]; p != nil {
			return p
		}
	}
	return s.rest
}

// source uses the pool's addresses in turn.
func (p *pool) source() Source {
	out := Source{Pool: p.Name, Helo: p.helo[0]}
	if len(p.addrs) == 0 {
		return out
	}
	i := int((p.turn.Add(1) - 1) % uint64(len(p.addrs)))
	out.Addr = p.addrs[i]
	if len(p.helo) > 1 {
		out.Helo = p.helo[i]
	}
	return out
}
