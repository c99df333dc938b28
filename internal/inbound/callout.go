package inbound

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
)

// CalloutDeps are what callouts need.
type CalloutDeps struct {
	Clock clock.Clock
	Log   *slog.Logger
	// Ask asks the host. ErrUndecided means that it answers and does not say;
	// any other error, that it gives no answer.
	Ask func(ctx context.Context, r Route, to mail.Address) (known bool, err error)
}

// Callout asks the next host of a domain at RCPT whether it has a mailbox, and
// remembers what it said. What it would refuse is refused while the sender is
// still there to hear it, so that nothing has to be returned to addresses that
// may be forged (backscatter).
//
// A host that cannot be asked decides nothing: whom it knew within a week is
// let in, and everybody else is asked to come again. It is left alone for a
// moment, and whoever waits for it waits for no other: each host of an
// organization has turns of its own, and no stranger has all of them.
type Callout struct {
	CalloutDeps
	mu      sync.Mutex
	known   map[memoKey]time.Time // when it was said
	unknown map[memoKey]time.Time // apart, for strangers can fill it
	hosts   map[hostKey]*calloutHost
}

type memoKey [sha256.Size]byte

// hostKey has the organization, so that none makes a host of another seem away.
type hostKey struct {
	org  id.ID
	host string
	port int
}

type calloutHost struct {
	turns *semaphore.Weighted

	// Under Callout.mu.
	shares map[netip.Prefix]*share
	away   time.Time // until then
	told   time.Time // the log
}

// share is what one stranger may have of the turns of a host: whoever asks for
// many mailboxes of a slow one waits for itself.
type share struct {
	turns *semaphore.Weighted
	users int // who hold or wait for one; under Callout.mu
}

const (
	calloutTime  = 30 * time.Second
	callouts     = 5 // at once, of one host
	calloutShare = 2 // of these, for one stranger
	awayFor      = 30 * time.Second
	tellAgain    = time.Minute

	memosMax = 100_000 // of each sort
	hostsMax = 10_000

	knownFresh   = time.Hour
	knownStale   = 7 * 24 * time.Hour
	unknownFresh = 5 * time.Minute
)

var (
	// ErrUndecided is what a host says that has no answer for one mailbox now.
	ErrUndecided = errors.New("the host does not say whether it has the mailbox")
	// ErrUnverified is the answer to RCPT while the next host has none. The log
	// was told of the host.
	ErrUnverified = fault.New(fault.Unavailable, "recipient_unverified", "The recipient cannot be verified now. Try again later.")

	errAway = errors.New("the host gave no answer a moment ago")
)

// NewCallout gives a callout.
func NewCallout(d CalloutDeps) *Callout {
	return &Callout{CalloutDeps: d, known: map[memoKey]time.Time{}, unknown: map[memoKey]time.Time{}, hosts: map[hostKey]*calloutHost{}}
}

// Takes reports whether the next host has the mailbox, for a stranger of some
// network.
func (c *Callout) Takes(ctx context.Context, r Route, from netip.Prefix, to mail.Address) (bool, error) {
	key, now := sha256.Sum256([]byte(r.Host+"\x00"+to.Normal())), c.Clock.Now()
	c.mu.Lock()
	knownAt, unknownAt := c.known[key], c.unknown[key]
	c.mu.Unlock()
	switch {
	case now.Sub(knownAt) < knownFresh:
		return true, nil
	case now.Sub(unknownAt) < unknownFresh:
		return false, nil
	}
	known, err := c.ask(ctx, r, from, to)
	if err != nil {
		if now.Sub(knownAt) < knownStale {
			return true, nil
		}
		return false, ErrUnverified
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	memos := c.known
	if !known {
		delete(c.known, key)
		memos = c.unknown
	}
	if len(memos) >= memosMax {
		clear(memos)
	}
	memos[key] = now
	return known, nil
}

// ask asks in turn, unless the host gave no answer a moment ago.
func (c *Callout) ask(ctx context.Context, r Route, from netip.Prefix, to mail.Address) (bool, error) {
	h := c.host(r)
	if c.away(h) {
		return false, errAway
	}
	done, err := c.turn(ctx, h, from)
	if err != nil {
		return false, err
	}
	defer done()
	if c.away(h) {
		return false, errAway
	}
	asking, cancel := context.WithTimeout(ctx, calloutTime)
	defer cancel()
	known, err := c.Ask(asking, r, to)
	if err != nil && ctx.Err() == nil {
		c.failed(h, r.Host, err)
	}
	return known, err
}

// turn waits for one. To wait in vain says nothing of the host.
func (c *Callout) turn(ctx context.Context, h *calloutHost, from netip.Prefix) (done func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, calloutTime)
	defer cancel()
	own := c.share(h, from)
	if own.turns.Acquire(ctx, 1) != nil {
		c.leave(h, from)
		return nil, ErrUndecided
	}
	if h.turns.Acquire(ctx, 1) != nil {
		own.turns.Release(1)
		c.leave(h, from)
		return nil, ErrUndecided
	}
	return func() {
		h.turns.Release(1)
		own.turns.Release(1)
		c.leave(h, from)
	}, nil
}

func (c *Callout) share(h *calloutHost, from netip.Prefix) *share {
	c.mu.Lock()
	defer c.mu.Unlock()
	own := h.shares[from]
	if own == nil {
		own = &share{turns: semaphore.NewWeighted(calloutShare)}
		h.shares[from] = own
	}
	own.users++
	return own
}

func (c *Callout) leave(h *calloutHost, from netip.Prefix) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.shares[from].users--; h.shares[from].users == 0 {
		delete(h.shares, from)
	}
}

func (c *Callout) host(r Route) *calloutHost {
	key := hostKey{r.Org, r.Host, r.Port}
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[key]
	if h == nil {
		if len(c.hosts) >= hostsMax {
			clear(c.hosts)
		}
		h = &calloutHost{turns: semaphore.NewWeighted(callouts), shares: map[netip.Prefix]*share{}}
		c.hosts[key] = h
	}
	return h
}

func (c *Callout) away(h *calloutHost) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Clock.Now().Before(h.away)
}

// failed notes that a host gave no answer, and tells the log once in a while.
func (c *Callout) failed(h *calloutHost, host string, err error) {
	now := c.Clock.Now()
	c.mu.Lock()
	if !errors.Is(err, ErrUndecided) {
		h.away = now.Add(awayFor)
	}
	tell := now.Sub(h.told) >= tellAgain
	if tell {
		h.told = now
	}
	c.mu.Unlock()
	if tell {
		c.Log.Warn("the host that mail for members goes on to cannot be asked for their mailboxes", "host", host, "error", err)
	}
}
