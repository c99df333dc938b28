package inbound

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/resolve"
	"github.com/sealpost/sealpost/internal/verdict"
)

// PathsDeps are what return paths need.
type PathsDeps struct {
	DB       *db.DB
	Custody  *custody.Custody
	Accounts *account.Accounts
	Clock    clock.Clock
	Resolver *resolve.Resolver
	Hostname string // of this mail system: the MX of every return path
	// Sources are addresses that mail leaves from besides those of Hostname.
	Sources []netip.Addr
}

// Paths are the return paths of one installation.
type Paths struct {
	PathsDeps
	mu     sync.Mutex
	known  map[id.ID]pathsMemo
	owners map[string]ownerMemo // by host
}

// pathsMemo is what a node believes of one organization for a moment.
type pathsMemo struct {
	at    time.Time
	hosts map[string]string // sender domain → host
}

const (
	trustFor = 3 * time.Second

	// Bounds of what is remembered.
	knownOrgs   = 10_000
	knownOwners = 10_000
)

// NewPaths gives the return paths.
func NewPaths(d PathsDeps) *Paths {
	return &Paths{PathsDeps: d, known: map[id.ID]pathsMemo{}, owners: map[string]ownerMemo{}}
}

// Path is a host that the bounces of one sender domain come to.
type Path struct {
	Host      string
	Domain    string
	CreatedAt time.Time
	OffAt     time.Time // zero while it is used
}

// DefaultHost is the host of a sender domain where nobody names another.
func DefaultHost(domain string) string { return "bounce." + domain }

// Record is one DNS record that a return path needs.
type Record struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Value string `json:"value"`
}

// Records are what to publish for a host: where bounces go, and that our mail
// with this sender is ours (RFC 7208).
func (p *Paths) Records(host string) []Record {
	spf := "v=spf1 a:" + p.Hostname
	for _, a := range p.Sources {
		if a.Is4() {
			spf += " ip4:" + a.String()
		} else {
			spf += " ip6:" + a.String()
		}
	}
	return []Record{{host, "MX", "10 " + p.Hostname + "."}, {host, "TXT", spf + " -all"}}
}

// Problems asks the DNS whether a host is what a return path must be, and says
// what is not. The error means that nobody knows now.
func (p *Paths) Problems(ctx context.Context, host string) (all []string, err error) {
	mx, err := p.Resolver.Ask(ctx, host, dns.TypeMX)
	if err != nil {
		return nil, lookupFailed(host, err)
	}
	if len(mx.RRs) == 0 {
		all = append(all, fmt.Sprintf("%s has no MX record.", host))
	}
	for _, rr := range mx.RRs {
		if to := dns.CanonicalName(rr.(*dns.MX).Mx); to != dns.CanonicalName(p.Hostname) {
			all = append(all, fmt.Sprintf("An MX record of %s leads to %s and not to %s, so bounces would be lost.", host, to, p.Hostname))
		}
	}
	own, _, err := p.Resolver.Addresses(ctx, p.Hostname)
	if err != nil {
		return nil, lookupFailed(p.Hostname, err)
	}
	if len(own) == 0 {
		all = append(all, fmt.Sprintf("%s, the hostname of the configuration, has no address.", p.Hostname))
	}
	return p.spfProblems(ctx, host, append(own, p.Sources...), all)
}

func (p *Paths) spfProblems(ctx context.Context, host string, from []netip.Addr, all []string) ([]string, error) {
	sender, err := mail.ParseAddress("b@" + host)
	if err != nil {
		return nil, err
	}
	judge := verdict.New(verdict.Deps{Resolver: p.Resolver, Clock: p.Clock, Hostname: p.Hostname})
	for _, addr := range from {
		switch spf := judge.Allows(ctx, verdict.Arrival{IP: addr, EHLO: p.Hostname, MailFrom: sender}); spf.Result {
		case verdict.Pass:
		case verdict.TempError:
			return nil, lookupFailed(host, resolve.ErrFailed)
		default:
			all = append(all, fmt.Sprintf("The SPF record of %s does not allow our address %s: its result is %s.", host, addr, spf.Result))
		}
	}
	return all, nil
}

func lookupFailed(name string, err error) error {
	return fault.Newf(fault.Unavailable, "lookup_failed", "The DNS could not be asked for %s. Check the resolver and try again.", name).Because(err)
}

// pathFact is the clear part of a return path's ledger entries.
type pathFact struct {
	Domain string `json:"domain"`
	Host   string `json:"host"`
}

// free reports whether a host below a domain of the organization is nobody's
// else: what another has verified nearer to the host is its own, and so is a
// return path that it uses. A route counts only with its verified domain.
func (p *Paths) free(ctx context.Context, org id.ID, domain, host string) error {
	var names []string
	for name := host; name != domain; _, name, _ = strings.Cut(name, ".") {
		names = append(names, name)
	}
	if err := p.DB.Read(ctx, db.System, func(tx *db.Tx) error {
		used, err := db.All(tx, func(row db.Row) (above string, err error) { return above, row.Scan(&above) },
			"SELECT domain FROM inbound_return_paths WHERE host = ? AND off_at IS NULL", host)
		names = append(names, used...)
		return err
	}); err != nil {
		return err
	}
	for _, name := range names {
		if others, err := p.ofAnother(ctx, org, name); err != nil || others {
			return errors.Join(err, fault.New(fault.Denied, "host_taken",
				"The host cannot be the return path of this domain, because mail for it is not this organization's. Name another one."))
		}
	}
	return nil
}

// ofAnother reports whether another organization has verified a domain.
func (p *Paths) ofAnother(ctx context.Context, org id.ID, domain string) (bool, error) {
	owner, err := p.Accounts.DomainOwner(ctx, domain)
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	return err == nil && owner != org, err
}

// Set makes a host the return path of a verified domain of the organization,
// if the DNS shows that it can be.
func (p *Paths) Set(ctx context.Context, org id.ID, domain, host string) error {
	if !strings.HasSuffix(host, "."+domain) {
		return fault.Newf(fault.Invalid, "bad_return_path",
			"The host of a return path lies below the sender's domain, such as %s, so that SPF and DMARC count it to that domain.", DefaultHost(domain))
	}
	d, err := p.Accounts.Domain(ctx, org, domain)
	if err != nil {
		return err
	}
	if d.VerifiedAt.IsZero() {
		return fault.New(fault.Denied, "domain_not_verified", "The domain is not verified yet. \"sealpost domain verify\" does that.")
	}
	if err := p.free(ctx, org, domain, host); err != nil {
		return err
	}
	problems, err := p.Problems(ctx, host)
	if err != nil {
		return err
	}
	if len(problems) > 0 {
		return fault.New(fault.Denied, "records_missing", "The DNS does not show what a return path needs. "+strings.Join(problems, " ")+
			" Publish the records, wait until they are visible, and try again.")
	}
	now := p.Clock.Now()
	err = p.DB.WriteAlone(ctx, org, func(tx *db.Tx) error {
		if ours, err := account.OwnsDomain(tx, domain); err != nil || !ours {
			return errors.Join(err, fault.New(fault.Conflict, "domain_removed", "The domain has just been removed."))
		}
		if routed, err := exists(tx, "SELECT count(*) FROM inbound_routes WHERE org_id = ? AND domain = ?", org, host); err != nil || routed {
			return errors.Join(err, fault.Newf(fault.Denied, "host_routed",
				"Mail for members of %s comes here and goes on to their mail host; as a return path it would be taken for bounces. Name another host, such as %s.", host, DefaultHost(domain)))
		}
		if _, err := tx.Exec("UPDATE inbound_return_paths SET off_at = ? WHERE org_id = ? AND domain = ? AND off_at IS NULL", clock.Micros(now), org, domain); err != nil {
			return err
		}
		// A host that was another organization's follows its domain.
		if _, err := tx.Exec(`INSERT INTO inbound_return_paths (host, org_id, domain, created_at) VALUES (?, ?, ?, ?)
			ON CONFLICT (host) DO UPDATE SET org_id = excluded.org_id, domain = excluded.domain, created_at = excluded.created_at, off_at = NULL`,
			host, org, domain, clock.Micros(now)); err != nil {
			return err
		}
		return ledger.Append(tx, ledger.Fact{Type: ledger.DomainReturnPath, At: now, Data: pathFact{domain, host}})
	})
	p.forget(org)
	return err
}

func exists(tx *db.Tx, query string, args ...any) (bool, error) {
	var n int
	err := tx.Row(query, args...).Scan(&n)
	return n > 0, err
}

// Off lets new deliveries go with their own sender again. What comes back of
// earlier ones is still taken.
func (p *Paths) Off(ctx context.Context, org id.ID, domain string) error {
	now := p.Clock.Now()
	err := p.DB.WriteAlone(ctx, org, func(tx *db.Tx) error {
		var host string
		err := tx.Row("UPDATE inbound_return_paths SET off_at = ? WHERE org_id = ? AND domain = ? AND off_at IS NULL RETURNING host",
			clock.Micros(now), org, domain).Scan(&host)
		if errors.Is(err, sql.ErrNoRows) {
			return fault.New(fault.NotFound, "no_return_path", "The domain has no return path.")
		}
		if err != nil {
			return err
		}
		return ledger.Append(tx, ledger.Fact{Type: ledger.DomainReturnPathOff, At: now, Data: pathFact{domain, host}})
	})
	p.forget(org)
	return err
}

// List gives the organization's return paths, those in use first.
func (p *Paths) List(ctx context.Context, org id.ID) (all []Path, err error) {
	err = p.DB.Read(ctx, org, func(tx *db.Tx) error {
		all, err = db.All(tx, func(row db.Row) (path Path, err error) {
			var created int64
			var off sql.NullInt64
			err = row.Scan(&path.Host, &path.Domain, &created, &off)
			path.CreatedAt = clock.FromMicros(created)
			if off.Valid {
				path.OffAt = clock.FromMicros(off.Int64)
			}
			return path, err
		}, "SELECT host, domain, created_at, off_at FROM inbound_return_paths WHERE org_id = ? ORDER BY domain, host", org)
		return err
	})
	slices.SortStableFunc(all, func(a, b Path) int { return a.OffAt.Compare(b.OffAt) }) // the zero time comes first
	return all, err
}

func (p *Paths) forget(org id.ID) {
	p.mu.Lock()
	delete(p.known, org)
	clear(p.owners)
	p.mu.Unlock()
}

// hosts gives the organization's return paths of the last moment, by domain.
func (p *Paths) hosts(ctx context.Context, org id.ID) (map[string]string, error) {
	now := p.Clock.Now()
	p.mu.Lock()
	m, ok := p.known[org]
	p.mu.Unlock()
	if ok && now.Sub(m.at) < trustFor {
		return m.hosts, nil
	}
	all, err := p.List(ctx, org)
	if err != nil {
		return nil, err
	}
	m = pathsMemo{at: now, hosts: map[string]string{}}
	for _, path := range all {
		if path.OffAt.IsZero() {
			m.hosts[path.Domain] = path.Host
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.known) >= knownOrgs {
		clear(p.known)
	}
	p.known[org] = m
	return m.hosts, nil
}

// ownerMemo is what a node believes of one host for a moment.
type ownerMemo struct {
	at    time.Time
	org   id.ID
	found bool
}

// owner finds whose return path a host is. It is a door without an
// organization: who comes from outside knows only the name.
func (p *Paths) owner(ctx context.Context, host string) (org id.ID, found bool, err error) {
	now := p.Clock.Now()
	p.mu.Lock()
	m, ok := p.owners[host]
	p.mu.Unlock()
	if ok && now.Sub(m.at) < trustFor {
		return m.org, m.found, nil
	}
	err = p.DB.Read(ctx, db.System, func(tx *db.Tx) error {
		err := tx.Row("SELECT org_id FROM inbound_return_paths WHERE host = ?", host).Scan(&org)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		found = err == nil
		return err
	})
	if err == nil && found { // who verified the very name since gets its mail
		var others bool
		others, err = p.ofAnother(ctx, org, host)
		found = !others
	}
	if err != nil {
		return org, false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.owners) >= knownOwners {
		clear(p.owners)
	}
	p.owners[host] = ownerMemo{now, org, found}
	return org, found, nil
}
