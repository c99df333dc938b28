package pool

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
)

// State is what a block list says of an address.
type State string

// The states.
const (
	Listed     State = "listed"
	Clean      State = "clean"
	Unanswered State = "unanswered" // the DNS failed
	Broken     State = "broken"     // the list does not do what RFC 5782 asks, or refuses us
)

// Listing is the last answer of a list about an address.
type Listing struct {
	List      string
	Address   netip.Addr
	State     State
	Codes     string // the addresses answered, which stand for reasons
	CheckedAt time.Time
}

// RFC 5782 section 5: every list has the first address of these listed and the
// second not, so that one that lists everything or nothing is found.
var (
	inList4, notInList4 = netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")
	inList6, notInList6 = netip.MustParseAddr("::ffff:127.0.0.2"), netip.MustParseAddr("::ffff:127.0.0.1")

	answers = netip.MustParsePrefix("127.0.0.0/8") // RFC 5782 section 2.1
	// Spamhaus and others say with these that they do not answer this resolver.
	refusals = netip.MustParsePrefix("127.255.255.0/24")
)

// listsEvery is how often lists are asked: listings last for days, and lists
// count who asks too much.
const listsEvery = 24 * time.Hour

// CheckListsDue asks the block lists when the last answers are a day old. Where
// the DNS answered nothing at all, it asks again.
func (s *Service) CheckListsDue(ctx context.Context) error {
	if len(s.BlockLists) == 0 {
		return nil
	}
	var last int64
	if err := s.DB.Read(ctx, db.System, func(tx *db.Tx) error {
		return tx.Row("SELECT COALESCE(MAX(checked_at), 0) FROM pool_listings WHERE state <> 'unanswered'").Scan(&last)
	}); err != nil {
		return err
	}
	if since := s.Clock.Now().Sub(clock.FromMicros(last)); since >= 0 && since < listsEvery {
		return nil
	}
	return s.CheckLists(ctx)
}

// CheckLists asks every block list about every public address, one question at
// a time, and keeps the answers.
func (s *Service) CheckLists(ctx context.Context) error {
	var all []Listing
	now := s.Clock.Now()
	for _, list := range s.BlockLists {
		sane := map[bool]State{} // by whether it is about IPv4
		for _, a := range s.public() {
			state, known := sane[a.Is4()]
			if !known {
				state = s.sanity(ctx, list, a.Is4())
				sane[a.Is4()] = state
			}
			l := Listing{List: list, Address: a, State: state, CheckedAt: now}
			if state == Clean {
				l.State, l.Codes = s.ask(ctx, list, a)
			}
			if l.State == Listed {
				s.Log.Warn("an address that mail leaves from is on a block list", "list", list, "address", a.String(), "codes", l.Codes)
			}
			all = append(all, l)
		}
		if slices.Contains([]State{sane[true], sane[false]}, Broken) {
			s.Log.Warn("a block list does not answer as it must (RFC 5782 section 5), or not to this resolver; it is left aside", "list", list)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return s.keep(ctx, all)
}

// public are the addresses that the internet sees.
func (s *Service) public() []netip.Addr {
	var out []netip.Addr
	for _, p := range s.pools {
		for _, a := range p.public() {
			if !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out
}

func (p *pool) public() []netip.Addr {
	var out []netip.Addr
	for _, text := range p.PublicAddresses {
		out = append(out, parseAddr(text))
	}
	if len(out) > 0 {
		return out
	}
	for _, a := range p.addrs {
		if a.IsGlobalUnicast() && !a.IsPrivate() {
			out = append(out, a)
		}
	}
	return out
}

// sanity is Clean for a list that lists what it must and no more.
func (s *Service) sanity(ctx context.Context, list string, v4 bool) State {
	in, notIn := inList6, notInList6
	if v4 {
		in, notIn = inList4, notInList4
	}
	yes, _ := s.ask(ctx, list, in)
	no, _ := s.ask(ctx, list, notIn)
	switch {
	case yes == Listed && no == Clean:
		return Clean
	case yes == Unanswered || no == Unanswered:
		return Unanswered
	}
	return Broken
}

// ask looks for one address.
func (s *Service) ask(ctx context.Context, list string, a netip.Addr) (State, string) {
	answer, err := s.Resolver.Ask(ctx, reversed(a)+"."+list, dns.TypeA)
	if err != nil {
		return Unanswered, ""
	}
	var codes []string
	for _, rr := range answer.RRs {
		record, ok := rr.(*dns.A)
		if !ok {
			continue
		}
		code, _ := netip.AddrFromSlice(record.A.To4())
		if !answers.Contains(code) || refusals.Contains(code) {
			return Broken, code.String()
		}
		codes = append(codes, code.String())
	}
	if len(codes) == 0 {
		return Clean, ""
	}
	slices.Sort(codes)
	return Listed, strings.Join(codes, " ")
}

// reversed is an address as lists are asked: RFC 5782 sections 2.1 and 2.4.
func reversed(a netip.Addr) string {
	var parts []string
	if a.Is4() {
		for _, b := range a.As4() {
			parts = append(parts, fmt.Sprint(b))
		}
	} else {
		octets := a.As16()
		parts = strings.Split(hex.EncodeToString(octets[:]), "")
	}
	slices.Reverse(parts)
	return strings.Join(parts, ".")
}

// keep replaces the answers of before.
func (s *Service) keep(ctx context.Context, all []Listing) error {
	return s.DB.WriteAlone(ctx, db.System, func(tx *db.Tx) error {
		if _, err := tx.Exec("DELETE FROM pool_listings"); err != nil {
			return err
		}
		for _, l := range all {
			if _, err := tx.Exec("INSERT INTO pool_listings (list, address, state, codes, checked_at) VALUES (?, ?, ?, ?, ?) ON CONFLICT (list, address) DO NOTHING",
				l.List, l.Address.String(), string(l.State), l.Codes, clock.Micros(l.CheckedAt)); err != nil {
				return err
			}
		}
		return nil
	})
}

func listings(tx *db.Tx) ([]Listing, error) {
	return db.All(tx, func(row db.Row) (l Listing, err error) {
		var address string
		var at int64
		err = row.Scan(&l.List, &address, &l.State, &l.Codes, &at)
		l.Address, l.CheckedAt = parseAddr(address), clock.FromMicros(at)
		return l, err
	}, "SELECT list, address, state, codes, checked_at FROM pool_listings ORDER BY list, address")
}
