package deliver_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/deliver"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/pool"
	"github.com/sealpost/sealpost/internal/shaping"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
)

// passes lets a clock go on a little at a time until something has come to
// pass.
func (h *node) passes(clk *clock.Fake, what string, step time.Duration, ok func() bool) {
	h.T.Helper()
	h.until(what, func() bool {
		if ok() {
			return true
		}
		clk.Advance(step)
		return false
	})
}

// TestWhatIsNoTryDoesNotUseUpTheLast: a node was off until its mail had
// expired, and cannot try it when it comes back, for one reason or another. It
// is tried when that has passed, and given up when it does not pass.
func TestWhatIsNoTryDoesNotUseUpTheLast(t *testing.T) {
	for name, block := range map[string]func(deps *deliver.Deps, clk *clock.Fake, blocked *atomic.Bool){
		"resolver": func(deps *deliver.Deps, _ *clock.Fake, blocked *atomic.Bool) {
			deps.Route = func(context.Context, string) (r deliver.Route, found bool, err error) {
				if blocked.Load() {
					err = errors.New("no resolver")
				}
				return r, false, err
			}
		},
		"pool": func(deps *deliver.Deps, clk *clock.Fake, blocked *atomic.Bool) {
			deps.Source = func(context.Context, id.ID, string, string) (pool.Source, error) {
				if blocked.Load() {
					return pool.Source{}, &pool.Full{Fault: fault.New(fault.TooMany, "pool_full", "No more now."), Until: clk.Now().Add(6 * time.Hour)}
				}
				return pool.Source{Pool: "main"}, nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, d *db.DB) {
				var blocked atomic.Bool
				blocked.Store(true)
				clk := clock.NewFake(time.Now().UTC().Truncate(time.Second))
				h := prepare(t, d, internet(t), func(deps *deliver.Deps) {
					deps.Clock, deps.RetryMin, deps.RetryMax = clk, 10*time.Minute, 4*time.Hour
					block(deps, clk, &blocked)
				})
				h.door.Clock = clk
				h.add(fake.Domain{Name: "later.example", Host: &fake.Behavior{}})
				h.add(fake.Domain{Name: "busy.example", Host: &fake.Behavior{Rcpt: func(string, int) string { return "451 4.3.0 not now" }}})
				good := h.accept(submit.Draft{}, "p@later.example").Deliveries[0].Delivery
				busy := h.accept(submit.Draft{}, "p@busy.example").Deliveries[0].Delivery
				limited := h.accept(submit.Draft{ExpiresAt: clk.Now().Add(47 * time.Hour)}, "l@later.example").Deliveries[0].Delivery
				clk.Jump(120 * time.Hour)
				if err := h.engine.Start(context.Background()); err != nil {
					t.Fatal(err)
				}
				defer h.engine.Stop(context.Background())
				for _, i := range []id.ID{good, busy} {
					for range 2 {
						due := h.delivery(i).NextAt
						clk.Advance(max(0, due.Sub(clk.Now())))
						h.passes(clk, "it is put off", time.Second, func() bool { d := h.delivery(i); return d.State.Settled() || d.NextAt.After(due) })
					}
				}
				blocked.Store(false)
				for i, want := range map[id.ID]spool.Delivery{good: {State: spool.Delivered, Attempts: 1}, busy: {State: spool.Expired, Attempts: 1}, limited: {State: spool.Expired}} {
					h.passes(clk, "it ends", time.Minute, func() bool { return h.delivery(i).State.Settled() })
					if got := h.delivery(i); got.State != want.State || got.Attempts != want.Attempts {
						t.Errorf("%s after %d attempts, want %s after %d", got.State, got.Attempts, want.State, want.Attempts)
					}
				}

				blocked.Store(true)
				never := h.accept(submit.Draft{}, "n@later.example").Deliveries[0].Delivery
				h.exec("UPDATE spool_messages SET send_at = send_at - ?, expires_at = expires_at - ? WHERE id = (SELECT message_id FROM spool_deliveries WHERE id = ?)",
					(120 * time.Hour).Microseconds(), (120 * time.Hour).Microseconds(), never)
				h.exec("UPDATE spool_unsettled SET next_at = next_at - ?, state = 'deferred', owner = NULL WHERE delivery_id = ?", (120 * time.Hour).Microseconds(), never)
				began := clk.Now()
				h.passes(clk, "it is given up", time.Hour, func() bool { return h.delivery(never).State == spool.Expired })
				if after := clk.Now().Sub(began); after < 48*time.Hour || h.delivery(never).Attempts != 0 {
					t.Errorf("after %s", after)
				}
			})
		})
	}
}

// TestASuspensionDoesNotUseUpTheLastTry: of what a node comes back to find
// expired, the first is told to come later by its site, and the others wait.
func TestASuspensionDoesNotUseUpTheLastTry(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		var up atomic.Bool
		clk := clock.NewFake(time.Now().UTC().Truncate(time.Second))
		h := prepare(t, d, internet(t), func(deps *deliver.Deps) {
			deps.Clock, deps.RetryMin, deps.RetryMax = clk, 10*time.Minute, 4*time.Hour
			deps.Shape = func(domain string, _ []string) shaping.Site {
				return shaping.Site{Name: domain, Connections: 1, Reactions: []shaping.Reaction{{Name: "busy", Code: 451, Act: shaping.Suspend, For: time.Hour}}}
			}
		})
		h.door.Clock = clk
		h.add(fake.Domain{Name: "later.example", Host: &fake.Behavior{Rcpt: func(string, int) string {
			if up.Load() {
				return ""
			}
			return "451 4.3.0 not now"
		}}})
		var all []id.ID
		for range 5 {
			all = append(all, h.accept(submit.Draft{}, "p@later.example").Deliveries[0].Delivery)
		}
		came := func() (ended, delivered int) {
			for _, i := range all {
				switch h.delivery(i).State {
				case spool.Expired:
					ended++
				case spool.Delivered:
					delivered++
				}
			}
			return ended, delivered
		}
		clk.Jump(72 * time.Hour)
		if err := h.engine.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		defer h.engine.Stop(context.Background())
		h.until("the site is left alone", func() bool {
			n := 0
			for _, i := range all {
				if s := h.delivery(i).State; s == spool.Expired || s == spool.Deferred {
					n++
				}
			}
			return n == len(all)
		})
		up.Store(true)
		h.passes(clk, "the others go", time.Minute, func() bool { a, b := came(); return a+b == len(all) })
		if ended, delivered := came(); ended != 1 || delivered != len(all)-1 {
			t.Errorf("%d were given up and %d delivered", ended, delivered)
		}
	})
}

// TestWhatPanicsWhenItIsReadEnds, though nothing but its number is known.
func TestWhatPanicsWhenItIsReadEnds(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		var log locked
		clk := clock.NewFake(time.Now().UTC().Truncate(time.Second))
		h := prepare(t, d, internet(t), func(deps *deliver.Deps) {
			deps.Clock, deps.RetryMin, deps.RetryMax, deps.Custody = clk, time.Hour, time.Hour, nil
			deps.Log = slog.New(slog.NewTextHandler(&log, nil))
		})
		h.door.Clock = clk
		one := h.accept(submit.Draft{}, "p@modern.example").Deliveries[0].Delivery
		if err := h.engine.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		defer h.engine.Stop(context.Background())
		began := clk.Now()
		h.passes(clk, "it ends", 30*time.Minute, func() bool { return h.delivery(one).State == spool.Expired })
		if after := clk.Now().Sub(began); after < 48*time.Hour {
			t.Errorf("after %s", after)
		}
		if n := strings.Count(log.String(), "ended by a defect"); n < 3 {
			t.Errorf("it was tried %d times", n)
		}
	})
}

// TestDestroyedKeysEndWhatIsInMemory: what waits with its content for its turn
// does not go out once the organization's keys are destroyed.
func TestDestroyedKeysEndWhatIsInMemory(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		asked, answer := make(chan bool, 10), make(chan bool)
		h := start(t, d, internet(t), func(deps *deliver.Deps) { deps.PerDestination = 1 })
		h.add(fake.Domain{Name: "one.example", Host: &fake.Behavior{Rcpt: func(string, int) string {
			asked <- true
			<-answer
			return ""
		}}})
		var all []id.ID
		for range 4 {
			all = append(all, h.accept(submit.Draft{}, "p@one.example").Deliveries[0].Delivery)
		}
		<-asked
		if _, err := h.Custody.DestroyOrg(h.Org.ID); err != nil {
			t.Fatal(err)
		}
		close(answer)
		for _, i := range all[1:] {
			h.until("it ends", func() bool { return h.delivery(i).State.Settled() })
			if got := h.delivery(i); got.State != spool.Failed || got.Reason != spool.ReasonContentDestroyed || got.Attempts != 0 {
				t.Errorf("%s %s after %d attempts", got.State, got.Reason, got.Attempts)
			}
		}
		if n := len(h.net.Messages("p@one.example")); n > 1 {
			t.Errorf("%d went out", n)
		}
	})
}

// TestWaitsOfANoticeThatPanicsGrow, and it ends when its time is up.
func TestWaitsOfANoticeThatPanicsGrow(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		clk := clock.NewFake(time.Now().UTC().Truncate(time.Second))
		h := start(t, d, internet(t), func(deps *deliver.Deps) {
			deps.Clock, deps.RetryMin, deps.RetryMax = clk, time.Hour, 100*time.Hour
			deps.SMTP.Dial = func(context.Context, string, string) (net.Conn, error) { panic("notice") }
		})
		h.door.Clock = clk
		r := h.accept(submit.Draft{SendAt: clk.Now().Add(time.Hour)}, "p@modern.example")
		n := h.postKind(spool.KindDSN, r.Message, r.Deliveries[0].Delivery, "p@modern.example", 3*time.Hour)
		waits := func() (attempts int, wait time.Duration) {
			var next int64
			if err := d.Read(context.Background(), h.Org.ID, func(tx *db.Tx) error {
				return tx.Row("SELECT attempts, next_at FROM spool_notices WHERE id = ?", n).Scan(&attempts, &next)
			}); err != nil {
				t.Fatal(err)
			}
			return attempts, clock.FromMicros(next).Sub(clk.Now())
		}
		h.passes(clk, "it was tried", time.Second, func() bool { a, _ := waits(); return a == 1 })
		clk.Advance(90 * time.Minute)
		h.passes(clk, "it was tried twice", time.Second, func() bool { a, _ := waits(); return a == 2 })
		if _, wait := waits(); wait < 90*time.Minute {
			t.Errorf("it waits for %s the second time", wait)
		}
		clk.Advance(4 * time.Hour)
		h.passes(clk, "it ends", time.Second, func() bool { return h.noticeState(n) == string(spool.Expired) })
	})
}

// TestAPanicWhileTheNodeStopsIsNotForgotten: of what was begun nobody knows
// what was sent.
func TestAPanicWhileTheNodeStopsIsNotForgotten(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		told, end := make(chan bool), make(chan bool)
		h := start(t, d, internet(t), func(deps *deliver.Deps) {
			deps.Source = func(context.Context, id.ID, string, string) (pool.Source, error) {
				return pool.Source{Pool: "main"}, nil
			}
			deps.Told = func(_, _ string, r pool.Result) {
				if r == pool.Accepted {
					close(told)
					<-end
					panic("told")
				}
			}
		})
		one := h.accept(submit.Draft{}, "p@modern.example").Deliveries[0].Delivery
		<-told
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		stopped := make(chan bool)
		go func() { h.engine.Stop(ctx); close(stopped) }()
		time.AfterFunc(200*time.Millisecond, func() { close(end) }) // when Stop has broken it off
		<-stopped
		if got := h.delivery(one).State; got != spool.Sending {
			t.Errorf("it is %s", got)
		}
	})
}
