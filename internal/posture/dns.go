package posture

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/resolve"
)

const maxHosts = 20 // mail hosts that are looked at

// resolver finds mail hosts. What it hears is plain DNS, which proves nothing,
// except where a validating resolver is trusted.
type resolver struct {
	*resolve.Resolver
	port int // of mail hosts, which TLSA records name
	log  *slog.Logger
}

// route is where the mail of a domain goes.
type route struct {
	mx                      []MX
	null, implicit, missing bool
	secure                  bool   // DNSSEC proves that these are the hosts
	name                    string // of the domain, at the end of its chain of aliases
	ttl                     time.Duration
	incomplete              bool // some host could not be looked up now
}

// route finds the mail hosts of a domain (RFC 5321 section 5.1). usable says
// which addresses may be connected to.
func (r resolver) route(ctx context.Context, domain string, usable func(netip.Addr) bool) (route, error) {
	a, err := r.Ask(ctx, domain, dns.TypeMX)
	if err != nil {
		return route{}, err
	}
	out := route{missing: a.Missing, ttl: a.TTL, secure: a.Secure, name: a.Name}
	if a.Missing {
		return out, nil
	}
	out.mx, out.null = hosts(a.RRs)
	if len(a.RRs) == 0 {
		out.implicit = true
		out.mx = []MX{{Host: domain}}
	}
	if out.null {
		return out, nil
	}
	return r.locate(ctx, domain, out, usable)
}

// hosts sorts the MX records and drops what cannot be a host.
func hosts(rrs []dns.RR) (mxs []MX, null bool) {
	for _, rr := range rrs {
		mx := rr.(*dns.MX)
		host := strings.ToLower(strings.TrimSuffix(mx.Mx, "."))
		if host == "" {
			null = len(rrs) == 1 // RFC 7505 section 3: it stands alone
			continue
		}
		if _, err := netip.ParseAddr(host); err == nil || !isHost(host) {
			continue
		}
		if !slices.ContainsFunc(mxs, func(m MX) bool { return m.Host == host }) {
			mxs = append(mxs, MX{Host: host, Preference: mx.Preference})
		}
	}
	slices.SortStableFunc(mxs, func(a, b MX) int { return cmp.Compare(a.Preference, b.Preference) })
	return mxs[:min(len(mxs), maxHosts)], null
}

func isHost(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return len(s) <= 253
}

// locate looks up the addresses of all hosts and what DNSSEC says of their
// TLS, some at a time.
func (r resolver) locate(ctx context.Context, domain string, out route, usable func(netip.Addr) bool) (route, error) {
	type found struct {
		ttl time.Duration
		err error
	}
	results := make([]found, len(out.mx))
	turn := make(chan struct{}, 4)
	var all sync.WaitGroup
	for i := range out.mx {
		all.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			defer private.RecoverLogged(&results[i].err, r.log, "look up a mail host")
			mx := &out.mx[i]
			h, err := r.Locate(ctx, mx.Host)
			mx.Addrs = slices.DeleteFunc(h.Addrs, func(a netip.Addr) bool { return !usable(a) })
			if out.secure && len(mx.Addrs) > 0 {
				var ttl time.Duration
				mx.DANE, ttl = r.dane(ctx, mx.Host, h)
				mx.DANE.serve(mx.Host, domain, out.name)
				h.TTL = min(h.TTL, ttl)
			}
			if err == nil && mx.DANE.failed() {
				err = resolve.ErrFailed
			}
			results[i] = found{h.TTL, err}
		})
	}
	all.Wait()
	any, problem := false, error(nil)
	for i, f := range results {
		any = any || len(out.mx[i].Addrs) > 0
		if f.err != nil {
			problem, out.incomplete = f.err, true
			continue
		}
		out.ttl = min(out.ttl, f.ttl)
	}
	switch {
	case any:
	case problem != nil:
		return route{}, problem
	case out.implicit:
		// Neither MX nor address: nobody takes mail here (RFC 5321 section 5.1).
		out.mx, out.implicit, out.missing = nil, false, true
	}
	return out, nil
}
