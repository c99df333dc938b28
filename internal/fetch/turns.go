package fetch

import (
	"context"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/net/publicsuffix"
)

// Turns shares out what can be done at once, so that the hosts of one
// registered domain, which may all hang on purpose, never hold more than a few
// turns of it.
type Turns struct {
	all       chan struct{}
	perDomain int

	mu      sync.Mutex
	domains map[string]*queue
}

type queue struct {
	turns chan struct{}
	users int // that hold a turn or wait for one
}

// NewTurns makes so many turns, of which one registered domain gets perDomain.
func NewTurns(all, perDomain int) *Turns {
	return &Turns{all: make(chan struct{}, all), perDomain: perDomain, domains: map[string]*queue{}}
}

// Take waits for a turn for host until ctx is done; false says that there was
// none. Whoever waits for a turn of its domain holds none of the others'.
func (t *Turns) Take(ctx context.Context, host string) (done func(), ok bool) {
	domain := registered(host)
	q := t.join(domain)
	if !take(ctx, q.turns) {
		t.leave(domain, q)
		return nil, false
	}
	if !take(ctx, t.all) {
		<-q.turns
		t.leave(domain, q)
		return nil, false
	}
	return func() { <-t.all; <-q.turns; t.leave(domain, q) }, true
}

// take prefers a free turn to an end of the time.
func take(ctx context.Context, turns chan struct{}) bool {
	select {
	case turns <- struct{}{}:
		return true
	default:
	}
	select {
	case turns <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (t *Turns) join(domain string) *queue {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.domains[domain]
	if q == nil {
		q = &queue{turns: make(chan struct{}, t.perDomain)}
		t.domains[domain] = q
	}
	q.users++
	return q
}

func (t *Turns) leave(domain string, q *queue) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if q.users--; q.users == 0 {
		delete(t.domains, domain)
	}
}

// registered is the part of a host's name that somebody had to register: a
// provider of free names below its own is one domain. An address stands for
// the network that its owner got at the least.
func registered(host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if a, err := netip.ParseAddr(host); err == nil {
		bits := 48
		if a = a.Unmap().WithZone(""); a.Is4() {
			bits = 24
		}
		network, _ := a.Prefix(bits) // such a length is always possible
		return network.String()
	}
	suffix, official := publicsuffix.PublicSuffix(host)
	for !official {
		_, parent, more := strings.Cut(suffix, ".")
		if !more {
			break
		}
		suffix, official = publicsuffix.PublicSuffix(parent)
	}
	rest := strings.TrimSuffix(strings.TrimSuffix(host, suffix), ".")
	if rest == "" {
		return host
	}
	return rest[strings.LastIndexByte(rest, '.')+1:] + "." + suffix
}
