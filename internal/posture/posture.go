// Package posture knows what a recipient's domain can do: its mail hosts, their
// TLSA records (DANE, RFC 7672), its MTA-STS policy (RFC 8461) and what TLS its hosts were seen to speak.
//
// Invariants:
//   - Cached never asks the network. It answers from memory or, once, from the
//     database.
//   - What is known expires: mail hosts with their DNS records, policies with
//     their max_age, TLS results after a day. Refresh asks again for what has
//     expired, and only once for callers who come together.
//   - An MTA-STS policy holds until its max_age has passed, even when it cannot
//     be refreshed or its TXT record is gone (RFC 8461 section 5.1). It is
//     persisted, so a restart does not forget it. Modes testing and none are
//     never enforced.
//   - A resolver that fails is not an answer: an older answer is kept for a
//     bounded time, and after that the caller gets an error and tries later.
//   - DANE (RFC 7672) is known of a host only where a trusted resolver has
//     validated all that leads to its TLSA records: the MX records, the host's
//     addresses and the records themselves. Where one of these cannot be had
//     the host is marked as one that cannot be used now; only a validated or an
//     unsigned answer says that there is no DANE.
//   - A policy is asked for at mta-sts.DOMAIN only, over HTTPS with a valid
//     certificate, without redirects, and never from an address inside the
//     own network.
//   - Nothing here is private, and everything here is a cache: losing it costs
//     look-ups.
package posture

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/fetch"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/resolve"
)

// Deps are what a Service is made with.
type Deps struct {
	DB    *db.DB
	Clock clock.Clock
	Log   *slog.Logger // nil: nothing is logged

	Resolver string // host:port; empty: those of /etc/resolv.conf
	// DNSSEC says that the resolver validates and that the way to it can be
	// trusted. Without it there is no DANE (RFC 7672 section 2.1.1).
	DNSSEC    bool
	SMTPPort  int            // of mail hosts; zero: 25
	HTTPSPort int            // of policy hosts; zero: 443
	RootCAs   *x509.CertPool // nil: the system's
	// Dial opens connections to resolvers and policy hosts; nil stands for a
	// plain net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// AllowLoopback lets mail hosts be on this machine, and policy hosts on it
	// and in its network. A named resolver does not imply it: one that
	// validates is usual, and tells what any recipient's domain says.
	AllowLoopback bool

	DNSTimeout   time.Duration // of one question to one resolver; zero: 3 s
	FetchTimeout time.Duration // of one policy; zero: 10 s
}

const (
	remembered = 10_000 // domains in memory

	minTTL      = 30 * time.Second
	maxTTL      = 6 * time.Hour
	minCheck    = 5 * time.Minute // between looks at a TXT record (RFC 8461 section 3.3)
	maxCheck    = 24 * time.Hour
	graceMX     = 24 * time.Hour     // that an answer is used while no new one can be had
	forgetMX    = 7 * 24 * time.Hour // that an answer is shown while nobody asks again
	retryMX     = time.Minute        // after a look-up that failed
	absentFor   = time.Minute        // that the database is not asked again
	learnedFor  = 24 * time.Hour     // that a TLS result is believed
	storeEvery  = time.Hour          // for what did not change
	lookupLimit = 60 * time.Second   // for everything about one domain
)

// Service is the knowledge about all domains.
type Service struct {
	db       *db.DB
	clock    clock.Clock
	log      *slog.Logger
	resolver resolver
	fetcher  *fetcher
	mailable func(netip.Addr) bool
	memory   *memory
	flights  singleflight.Group
}

// New makes a Service.
func New(d Deps) (*Service, error) {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.FetchTimeout == 0 {
		d.FetchTimeout = 10 * time.Second
	}
	if d.SMTPPort == 0 {
		d.SMTPPort = 25
	}
	var servers []string
	if d.Resolver != "" {
		servers = []string{d.Resolver}
	}
	r, err := resolve.New(resolve.Deps{Servers: servers, Timeout: d.DNSTimeout, Dial: d.Dial, Trusted: d.DNSSEC})
	if err != nil {
		return nil, err
	}
	s := &Service{
		db: d.DB, clock: d.Clock, log: d.Log, resolver: resolver{r, d.SMTPPort, d.Log}, mailable: mailable, memory: newMemory(remembered),
		fetcher: &fetcher{timeout: d.FetchTimeout, client: fetch.New(fetch.Deps{
			Resolver: r, Dial: d.Dial, Roots: d.RootCAs, Clock: d.Clock, AnyAddress: d.AllowLoopback, HTTPSPort: d.HTTPSPort,
		})},
	}
	if d.AllowLoopback {
		s.mailable = func(a netip.Addr) bool { return !a.IsUnspecified() && !a.IsMulticast() }
	}
	return s, nil
}

// Cached gives what is known without asking the network, in part perhaps out
// of date. false means that nothing is known.
func (s *Service) Cached(ctx context.Context, domain string) (Posture, bool) {
	e, err := s.entry(ctx, domain)
	if err != nil || e.posture == nil {
		return Posture{Domain: domain}, false
	}
	out := e.posture.at(s.clock.Now())
	return out, out.known()
}

// entry gives what memory holds, after asking the database where memory does
// not know.
func (s *Service) entry(ctx context.Context, domain string) (entry, error) {
	now := s.clock.Now()
	e, ok := s.memory.get(domain)
	if ok && (e.posture != nil || now.Sub(e.checked) < absentFor) {
		return e, nil
	}
	p, err := load(ctx, s.db, domain)
	if err != nil {
		return entry{}, err
	}
	if p != nil && p.DNSSEC != s.resolver.Trusted() {
		p.forgetMX() // what it says of DNSSEC is not what holds now
	}
	return s.memory.update(domain, func(e *entry) {
		e.checked = now
		if e.posture == nil && p != nil {
			e.posture, e.storedAt = p, now
		}
	}), nil
}

// Refresh gives what is known after looking up whatever has expired. The error
// is a fault of kind Unavailable: nobody can tell now where the domain's mail
// goes. domain is lower case and in A-labels, as mail.Address gives it.
func (s *Service) Refresh(ctx context.Context, domain string) (Posture, error) {
	if clean, err := mail.ParseDomain(domain); err != nil || clean != domain {
		return Posture{}, fault.New(fault.Invalid, "bad_domain", "This is not a domain name.")
	}
	e, err := s.entry(ctx, domain)
	if err != nil {
		return Posture{}, err
	}
	now := s.clock.Now()
	if e.posture != nil && e.posture.fresh(now) {
		return view(e.posture, now), nil
	}
	if left := e.failedUntil.Sub(now); left > 0 && left <= retryMX { // more where the clock was set back
		return Posture{}, e.failed
	}
	flight := s.flights.DoChan(domain, func() (_ any, err error) {
		defer private.RecoverLogged(&err, s.log, "look up a domain") // or it ends the node
		// The look-up serves all who wait for it, so it does not end with one.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookupLimit)
		defer cancel()
		return s.lookUp(ctx, domain)
	})
	select {
	case r := <-flight:
		if r.Err != nil {
			return Posture{}, r.Err
		}
		return view(r.Val.(*Posture), now), nil
	case <-ctx.Done():
		return Posture{}, ctx.Err()
	}
}

func view(p *Posture, now time.Time) Posture {
	out := p.at(now)
	out.MX = shuffled(out.MX)
	return out
}

// lookUp asks for what has expired, at the same time where it is both.
func (s *Service) lookUp(ctx context.Context, domain string) (*Posture, error) {
	e, err := s.entry(ctx, domain)
	if err != nil {
		return nil, err
	}
	now := s.clock.Now()
	old := &Posture{Domain: domain}
	if e.posture != nil {
		old = e.posture
	}
	if old.fresh(now) {
		return old, nil
	}
	next := *old
	policyDone := make(chan struct{})
	var defect error
	go func() {
		defer close(policyDone)
		defer private.Recover(&defect)
		if !now.Before(old.STS.CheckAt) {
			next.STS = s.lookUpSTS(ctx, domain, old.STS, now)
		}
	}()
	var failed error
	if !old.freshMX(now) {
		failed = s.lookUpMX(ctx, domain, &next, now)
	}
	if <-policyDone; defect != nil {
		s.log.Error("a policy made us fail", "domain", domain, "error", defect)
		return nil, defect
	}
	// A policy that was found holds even when the mail hosts are not known.
	p := s.keep(ctx, old, &next, now)
	if failed != nil {
		s.memory.update(domain, func(e *entry) { e.failed, e.failedUntil = failed, now.Add(retryMX) })
		return nil, failed
	}
	return p, nil
}

// lookUpMX puts the mail hosts into p. When the resolver fails, an answer that
// is not too old stays, unless DNSSEC proved it: then a failure may be an
// attempt to keep somebody to what was (RFC 7672 section 2.1.1).
func (s *Service) lookUpMX(ctx context.Context, domain string, p *Posture, now time.Time) error {
	r, err := s.resolver.route(ctx, domain, s.mailable)
	if err != nil {
		p.MXError = resolve.Word(err)
		if !p.MXAt.IsZero() && !p.Secure && now.Before(p.MXAt.Add(graceMX)) {
			p.MXExpires = now.Add(retryMX)
			if p.MXAt.After(now) { // the clock was set back
				p.MXAt = now
			}
			return nil
		}
		return fault.New(fault.Unavailable, "dns_failure",
			"The mail hosts of the domain cannot be looked up at the moment.").Because(fmt.Errorf("look up %s: %w", domain, err))
	}
	ttl := min(max(r.ttl, minTTL), maxTTL)
	if r.incomplete {
		ttl = retryMX
	}
	p.MX, p.NullMX, p.Implicit, p.Missing, p.MXError = r.mx, r.null, r.implicit, r.missing, ""
	p.DNSSEC, p.Secure = s.resolver.Trusted(), r.secure
	p.MXAt, p.MXExpires = now, now.Add(ttl)
	return nil
}

// lookUpSTS gives the policy that holds from now on (RFC 8461 section 3).
func (s *Service) lookUpSTS(ctx context.Context, domain string, known STS, now time.Time) STS {
	if known.Mode != "" && !now.Before(known.ExpiresAt) {
		known = STS{}
	}
	known.LastError = ""
	records, ttl, err := s.resolver.Texts(ctx, "_mta-sts."+domain)
	if err != nil {
		return known.later(STSDNS, now.Add(minCheck))
	}
	check := now.Add(min(max(ttl, minCheck), maxCheck))
	id, ok := policyID(records)
	if !ok {
		// Without a record a policy that was fetched before still holds: a
		// domain that wants to be rid of it says mode none (section 8.3).
		return known.later(recordWord(records), check)
	}
	if id == known.ID && known.Mode != "" && !known.old(now) {
		return known.later("", check)
	}
	p, word := s.fetcher.fetch(ctx, domain)
	if word != "" {
		return known.later(word, now.Add(minCheck))
	}
	fetched := STS{Mode: p.mode, ID: id, MX: p.mx, FetchedAt: now, ExpiresAt: now.Add(time.Duration(p.maxAge) * time.Second)}
	return fetched.later("", check)
}

// PolicyStands asks whether the MTA-STS policy that is known is still the
// domain's, however lately that was looked at: before anything fails for good
// by a policy it must be (RFC 8461 section 5.1). false means that there is
// another one, which Refresh gives from then on, or that nobody can tell now.
func (s *Service) PolicyStands(ctx context.Context, domain string) bool {
	stands, err, _ := s.flights.Do("policy of "+domain, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookupLimit)
		defer cancel()
		e, err := s.entry(ctx, domain)
		if err != nil || e.posture == nil {
			return false, err
		}
		now := s.clock.Now()
		old, next := e.posture, *e.posture
		next.STS = s.lookUpSTS(ctx, domain, old.STS, now)
		s.keep(ctx, old, &next, now)
		told := next.STS.LastError == "" || next.STS.LastError == STSRecord
		return told && next.STS.ID == old.STS.ID && next.STS.Mode == old.STS.Mode && slices.Equal(next.STS.MX, old.STS.MX), nil
	})
	return err == nil && stands.(bool)
}

// keep puts what was found into memory and, when it is new or was not written
// for long, into the database.
func (s *Service) keep(ctx context.Context, old, next *Posture, now time.Time) *Posture {
	write := false
	e := s.memory.update(next.Domain, func(e *entry) {
		if e.posture != nil {
			next.TLS = e.posture.TLS // learned meanwhile
		}
		write = next.worthKeeping() && (next.differs(old) || now.Sub(e.storedAt) >= storeEvery)
		e.posture, e.checked, e.failed, e.failedUntil = next, now, nil, time.Time{}
		if write {
			e.storedAt = now
		}
	})
	if write {
		s.write(ctx, e.posture, now)
	}
	return e.posture
}

func (s *Service) write(ctx context.Context, p *Posture, now time.Time) {
	if err := store(ctx, s.db, p, now); err != nil {
		s.log.Warn("the posture of a domain was not stored", "domain", p.Domain, "error", err)
		s.memory.update(p.Domain, func(e *entry) { e.storedAt = time.Time{} })
	}
}

// Learn records what an attempt to use TLS with one of the domain's hosts came
// to. It costs a write only when the grade changes or once in an hour. Results
// that the next attempt may well not repeat are not to be told.
func (s *Service) Learn(ctx context.Context, domain string, grade policy.Grade, host string) {
	if _, err := s.entry(ctx, domain); err != nil {
		return
	}
	now := s.clock.Now()
	write := false
	e := s.memory.update(domain, func(e *entry) {
		if e.checked.IsZero() {
			return // pushed out of memory meanwhile: what the database has is not known
		}
		next := Posture{Domain: domain}
		if e.posture != nil {
			next = *e.posture
		}
		was := next.at(now).TLS
		if was != nil && was.Host != host && was.Grade > grade {
			return // another host of the domain does better
		}
		next.TLS = &Learned{Grade: grade, Host: host, At: now, ExpiresAt: now.Add(learnedFor)}
		write = was == nil || was.Grade != grade || now.Sub(e.storedAt) >= storeEvery
		e.posture = &next
		if write {
			e.storedAt = now
		}
	})
	if write {
		s.write(ctx, e.posture, now)
	}
}
