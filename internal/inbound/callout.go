package inbound

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/mail"
)

// Callout asks the next host of a domain at RCPT whether it has a mailbox, and
// remembers what it said. What it would refuse is refused while the sender is
// still there to hear it, so that nothing has to be returned to addresses that
// may be forged (backscatter).
//
// A host that cannot be asked decides nothing: whom it knew within a week is
// let in, and everybody else is asked to come again.
type Callout struct {
	// Ask asks the host. The error means that it gave no answer.
	Ask   func(ctx context.Context, r Route, to mail.Address) (known bool, err error)
	Clock clock.Clock

	mu    sync.Mutex
	known map[[sha256.Size]byte]calloutMemo // by host and address
	turns *semaphore.Weighted
}

type calloutMemo struct {
	at    time.Time
	known bool
}

const (
	calloutTime = 30 * time.Second
	callouts    = 50 // at once
	memosMax    = 100_000

	knownFresh   = time.Hour
	knownStale   = 7 * 24 * time.Hour
	unknownFresh = 5 * time.Minute
)

// NewCallout gives a callout.
func NewCallout(c clock.Clock, ask func(ctx context.Context, r Route, to mail.Address) (bool, error)) *Callout {
	return &Callout{Ask: ask, Clock: c, known: map[[sha256.Size]byte]calloutMemo{}, turns: semaphore.NewWeighted(callouts)}
}

// Takes reports whether the next host has the mailbox.
func (c *Callout) Takes(ctx context.Context, r Route, to mail.Address) (bool, error) {
	key, now := sha256.Sum256([]byte(r.Host+"\x00"+to.Normal())), c.Clock.Now()
	c.mu.Lock()
	m, had := c.known[key]
	c.mu.Unlock()
	age := now.Sub(m.at)
	switch {
	case had && m.known && age < knownFresh, had && !m.known && age < unknownFresh:
		return m.known, nil
	}
	known, err := c.ask(ctx, r, to)
	if err != nil {
		if had && m.known && age < knownStale {
			return true, nil
		}
		return false, fault.New(fault.Unavailable, "recipient_unverified", "The recipient cannot be verified now. Try again later.").Because(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= memosMax {
		clear(c.known)
	}
	c.known[key] = calloutMemo{now, known}
	return known, nil
}

func (c *Callout) ask(ctx context.Context, r Route, to mail.Address) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, calloutTime)
	defer cancel()
	if err := c.turns.Acquire(ctx, 1); err != nil {
		return false, err
	}
	defer c.turns.Release(1)
	return c.Ask(ctx, r, to)
}
