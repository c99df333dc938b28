package inbound_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/inbound"
	"github.com/sealpost/sealpost/internal/inbound/inboundtest"
	"github.com/sealpost/sealpost/internal/mail"
)

// asking is a callout of one route, by what its host does.
type asking struct {
	t     *testing.T
	c     *inbound.Callout
	clock *clock.Fake
	route inbound.Route
}

func newAsking(t *testing.T, ask func(ctx context.Context, to mail.Address) (bool, error)) *asking {
	c := clock.NewFake(time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC))
	return &asking{t: t, clock: c, route: inbound.Route{Org: id.New(), Domain: "a.example", Host: "slow.example"},
		c: inbound.NewCallout(inbound.CalloutDeps{Clock: c, Log: slog.New(slog.DiscardHandler),
			Ask: func(ctx context.Context, _ inbound.Route, to mail.Address) (bool, error) { return ask(ctx, to) }})}
}

// takes asks for a mailbox as one of many strangers.
func (a *asking) takes(from, mailbox int) (bool, error) {
	return a.c.Takes(context.Background(), a.route, stranger(from), inboundtest.Sender(a.t, fmt.Sprintf("box%d@a.example", mailbox)))
}

// Whoever asks a slow host for many mailboxes leaves turns to others.
func TestOneStrangerHasNotAllTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, release := make(chan string, 100), make(chan struct{})
		a := newAsking(t, func(_ context.Context, to mail.Address) (bool, error) {
			asked <- to.Local()
			<-release
			return true, nil
		})
		all := make(chan error)
		ask := func(from, mailbox int) {
			go func() {
				_, err := a.takes(from, mailbox)
				all <- err
			}()
		}
		for n := range 20 {
			ask(1, n)
		}
		synctest.Wait()
		if len(asked) != 2 {
			t.Errorf("one stranger has %d turns", len(asked))
		}
		ask(2, 50)
		ask(3, 51)
		synctest.Wait()
		if len(asked) != 4 {
			t.Errorf("of two others %d are asked for", len(asked)-2)
		}
		close(release)
		for range 22 {
			if err := <-all; err != nil {
				t.Error(err)
			}
		}
	})
}

// To wait long for a turn leaves the time to ask, and to wait in vain says
// nothing of the host.
func TestAHostIsNotAwayBecauseManyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := 25 * time.Second
		a := newAsking(t, func(ctx context.Context, _ mail.Address) (bool, error) {
			select {
			case <-time.After(slow):
				return true, nil
			case <-ctx.Done():
				return false, ctx.Err()
			}
		})
		all := make(chan error)
		for n := range 15 {
			go func() {
				_, err := a.takes(n, n)
				all <- err
			}()
		}
		known := 0
		for range 15 {
			if err := <-all; err == nil {
				known++
			} else if !errors.Is(err, inbound.ErrUnverified) {
				t.Error(err)
			}
		}
		if known != 10 { // the third five waited too long
			t.Errorf("%d of 15 were answered", known)
		}
		slow = time.Second
		if _, err := a.takes(1, 99); err != nil {
			t.Errorf("the host is taken to be away: %v", err)
		}
	})
}

// Strangers choose what they guess, and cannot make known mailboxes forgotten.
func TestGuessesDoNotFlushWhoIsKnown(t *testing.T) {
	away := false
	a := newAsking(t, func(_ context.Context, to mail.Address) (bool, error) {
		if away {
			return false, errors.New("away")
		}
		return to.Local() == "box0", nil
	})
	if known, err := a.takes(1, 0); !known || err != nil {
		t.Fatal(known, err)
	}
	for n := range 317 { // of 317 hosts: 100,000 and more
		to := inboundtest.Sender(t, fmt.Sprintf("guess%d@a.example", n))
		for host := range 317 {
			r := a.route
			r.Host = fmt.Sprintf("mx%d.example", host)
			if known, err := a.c.Takes(context.Background(), r, stranger(2), to); known || err != nil {
				t.Fatal(known, err)
			}
		}
	}
	away = true
	a.clock.Advance(2 * time.Hour)
	if known, err := a.takes(3, 0); !known || err != nil {
		t.Errorf("a known mailbox was forgotten: %v, %v", known, err)
	}
}
