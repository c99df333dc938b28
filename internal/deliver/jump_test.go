package deliver_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/deliver"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
)

// TestTheClockIsSet sets the clock back by a day and forward by a year while
// the engine runs. What is new goes at once, what waits is tried when its time
// comes and no more often, and what the year made too old is given up by name.
func TestTheClockIsSet(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		n := internet(t)
		var up atomic.Bool
		for domain, when := range map[string]func() bool{"later.example": up.Load, "never.example": func() bool { return false }} {
			if err := n.AddDomain(fake.Domain{Name: domain, Host: &fake.Behavior{Rcpt: func(string, int) string {
				if when() {
					return ""
				}
				return "451 4.3.0 not now"
			}}}); err != nil {
				t.Fatal(err)
			}
		}
		clk := clock.NewFake(time.Now().UTC().Truncate(time.Second))
		h := start(t, d, n, func(deps *deliver.Deps) {
			deps.Clock, deps.RetryMin, deps.RetryMax = clk, 10*time.Minute, 10*time.Minute
		})
		h.door.Clock = clk
		passes := func(what string, ok func() bool) {
			t.Helper()
			left := 120 // seconds of the clock, far less than a wait
			h.until(what, func() bool {
				if left--; left > 0 {
					clk.Advance(time.Second)
				}
				return ok()
			})
		}
		later := h.accept(submit.Draft{}, "p@later.example").Deliveries[0].Delivery
		never := h.accept(submit.Draft{}, "p@never.example").Deliveries[0].Delivery
		tried := func(times int) func() bool {
			return func() bool { return h.delivery(later).Attempts >= times && h.delivery(never).Attempts >= times }
		}
		passes("a first attempt", tried(1))

		clk.Jump(-24 * time.Hour)
		for range 2 { // the second one finds what the first left behind
			i := h.accept(submit.Draft{}, "anna@modern.example").Deliveries[0].Delivery
			passes("new mail goes after the clock was set back", func() bool { return h.delivery(i).State == spool.Delivered })
		}
		if tried(2)() {
			t.Error("what waits was tried for the clock's sake")
		}
		clk.Advance(24*time.Hour + 15*time.Minute)
		passes("what waits is tried when its time comes", tried(2))

		up.Store(true)
		clk.Advance(15 * time.Minute)
		passes("the third attempt", func() bool { return h.delivery(later).State == spool.Delivered && h.delivery(never).Attempts == 3 })
		clk.Jump(365 * 24 * time.Hour)
		passes("what became too old is given up", func() bool { return h.delivery(never).State == spool.Expired })
		if got := h.delivery(never).Attempts; got > 4 {
			t.Errorf("%d attempts", got)
		}
		if got := len(n.Messages("p@later.example")); got != 1 {
			t.Errorf("arrived %d times", got)
		}
		i := h.accept(submit.Draft{}, "anna@modern.example").Deliveries[0].Delivery
		passes("new mail goes after a year", func() bool { return h.delivery(i).State == spool.Delivered })
	})
}

// TestOneLastAttempt: a clock that is set forward, or a node that was off, ends
// no message unasked, but for those whose sender said when.
func TestOneLastAttempt(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		var up atomic.Bool
		clk := clock.NewFake(time.Now().UTC().Truncate(time.Second))
		h := start(t, d, internet(t), func(deps *deliver.Deps) {
			deps.Clock, deps.RetryMin, deps.RetryMax, deps.ExpireAfter = clk, 10*time.Minute, 10*time.Minute, 48*time.Hour
		})
		h.door.Clock = clk
		h.add(fake.Domain{Name: "later.example", Host: &fake.Behavior{Rcpt: func(to string, _ int) string {
			if up.Load() && to != "never@later.example" {
				return ""
			}
			return "451 4.3.0 not now"
		}}})
		open := h.accept(submit.Draft{}, "open@later.example").Deliveries[0].Delivery
		never := h.accept(submit.Draft{}, "never@later.example").Deliveries[0].Delivery
		limited := h.accept(submit.Draft{ExpiresAt: clk.Now().Add(47 * time.Hour)}, "limited@later.example").Deliveries[0].Delivery
		passes := func(what string, ok func() bool) {
			t.Helper()
			left := 120
			h.until(what, func() bool {
				if left--; left > 0 {
					clk.Advance(time.Second)
				}
				return ok()
			})
		}
		for _, i := range []id.ID{open, never, limited} {
			passes("a first attempt", func() bool { return h.delivery(i).State == spool.Deferred && h.delivery(i).Attempts == 1 })
		}
		up.Store(true)
		clk.Jump(365 * 24 * time.Hour)
		for i, want := range map[id.ID]spool.Delivery{open: {State: spool.Delivered, Attempts: 2}, never: {State: spool.Expired, Attempts: 2},
			limited: {State: spool.Expired, Attempts: 1}} {
			passes("it ends", func() bool { return h.delivery(i).State.Settled() })
			if got := h.delivery(i); got.State != want.State || got.Attempts != want.Attempts {
				t.Errorf("%s after %d attempts, want %s after %d", got.State, got.Attempts, want.State, want.Attempts)
			}
		}
	})
}
