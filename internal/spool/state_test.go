package spool_test

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/spool/spooltest"
)

// model is what the drawing in the package's document says of one delivery.
type model struct {
	state    spool.State
	owner    int // of site.runs
	attempts int
}

// op is something that can be done to a delivery. do reports whether it was
// done; then gives what must be, and the ledger's new entries, none of which
// means that it must not be done.
type op struct {
	name  string
	do    func(s *site, d spool.Delivery) (bool, error)
	then  func(m model) (model, []ledger.Type)
	quiet bool // changes no state that the ledger tells of
}

func in(s spool.State, all ...spool.State) bool { return slices.Contains(all, s) }

// expected turns the answer to an act on a wrong state into a no.
func expected(done bool, err error) (bool, error) {
	if fault.From(err).Reason == "wrong_state" {
		return false, nil
	}
	return done, err
}

// act is an op that one transaction of the organization does.
func act(fn func(s *site, tx *db.Tx, d spool.Delivery) (bool, error)) func(*site, spool.Delivery) (bool, error) {
	return func(s *site, d spool.Delivery) (done bool, err error) {
		err = s.db.Write(ctx, d.Org, func(tx *db.Tx) error {
			done, err = fn(s, tx, d)
			return err
		})
		return expected(done && err == nil, err)
	}
}

func starts(run int) op {
	return op{name: fmt.Sprintf("start by run %d", run), do: act(func(s *site, tx *db.Tx, d spool.Delivery) (bool, error) {
		return spool.Start(tx, item(d), s.runs[run], d.Plan, spool.Sealing{Seal: policy.TLS}, nil, s.clk.Now())
	}), then: func(m model) (model, []ledger.Type) {
		if m.state != spool.Ready || m.owner != run {
			return m, nil
		}
		m.state = spool.Sending
		return m, []ledger.Type{ledger.DeliverySealed}
	}}
}

func finishes(run int, state spool.State, attempted bool) op {
	return op{name: fmt.Sprintf("finish as %s by run %d, attempted %v", state, run, attempted), do: act(func(s *site, tx *db.Tx, d spool.Delivery) (bool, error) {
		o := spool.Outcome{State: state, Reason: "why", At: s.clk.Now(), NextAt: s.clk.Now().Add(time.Minute)}
		if attempted {
			o.Attempt = &spool.Attempt{Number: 1, Seal: policy.TLS, Result: spool.ResultTemporary, Began: s.clk.Now()}
		}
		return spool.Finish(tx, item(d), s.runs[run], nil, o)
	}), then: func(m model) (model, []ledger.Type) {
		if !in(m.state, spool.Ready, spool.Sending) || m.owner != run {
			return m, nil
		}
		told := []ledger.Type{ledger.Type("delivery." + string(state))}
		if attempted {
			m.attempts++
			told = append([]ledger.Type{ledger.DeliveryAttempted}, told...)
		}
		m.state, m.owner = state, 0
		return m, told
	}}
}

func givesBack(run int) op {
	return op{name: fmt.Sprintf("given back by run %d", run), quiet: true, do: act(func(s *site, tx *db.Tx, d spool.Delivery) (bool, error) {
		return true, spool.GiveBack(tx, item(d), s.runs[run])
	}), then: func(m model) (model, []ledger.Type) {
		if in(m.state, spool.Ready, spool.Sending) && m.owner == run {
			m.state, m.owner = spool.Ready, 0
		}
		return m, nil
	}}
}

func takes(run int) op {
	return op{name: fmt.Sprintf("taken by run %d", run), quiet: true, do: func(s *site, d spool.Delivery) (bool, error) {
		s.clk.Advance(time.Hour) // everything is due
		return true, s.db.WriteAlone(ctx, db.System, func(tx *db.Tx) error {
			_, err := spooltest.TakeAll(tx, s.runs[run], s.clk.Now())
			return err
		})
	}, then: func(m model) (model, []ledger.Type) {
		if in(m.state, spool.Ready, spool.Scheduled, spool.Deferred) && m.owner == 0 {
			m.state, m.owner = spool.Ready, run
		}
		return m, nil
	}}
}

func released(run int) op {
	return op{name: fmt.Sprintf("run %d lets go of all", run), quiet: true, do: func(s *site, d spool.Delivery) (bool, error) {
		return true, s.db.WriteAlone(ctx, db.System, func(tx *db.Tx) error { return spool.Release(tx, s.runs[run]) })
	}, then: func(m model) (model, []ledger.Type) {
		if m.state == spool.Ready && m.owner == run {
			m.owner = 0
		}
		return m, nil
	}}
}

func takenOver(dead int) op {
	return op{name: fmt.Sprintf("run %d is dead", dead), do: func(s *site, d spool.Delivery) (bool, error) {
		before := len(s.told(d))
		err := spool.TakeOver(ctx, s.db, item(d), s.runs[dead], s.clk.Now())
		return len(s.told(d)) > before, err
	}, then: func(m model) (model, []ledger.Type) {
		if m.state != spool.Sending || m.owner != dead {
			return m, nil
		}
		return model{spool.Ready, 0, m.attempts + 1}, []ledger.Type{ledger.DeliveryAttempted}
	}}
}

// by is an op of an operator, the sender or the portal.
func by(name string, from []spool.State, to spool.State, told ledger.Type, fn func(s *site, tx *db.Tx, d spool.Delivery) (bool, error)) op {
	return op{name: name, do: act(fn), then: func(m model) (model, []ledger.Type) {
		if !in(m.state, from...) {
			return m, nil
		}
		if to != "" {
			m.state, m.owner = to, 0
		}
		return m, []ledger.Type{told}
	}}
}

func ops() []op {
	all := []op{
		by("hold", []spool.State{spool.Ready, spool.Scheduled, spool.Deferred}, spool.Held, ledger.DeliveryHeld,
			func(s *site, tx *db.Tx, d spool.Delivery) (bool, error) {
				return true, spool.Hold(tx, d.ID, "op", s.clk.Now())
			}),
		by("release", []spool.State{spool.Held}, spool.Ready, ledger.DeliveryReleased,
			func(s *site, tx *db.Tx, d spool.Delivery) (bool, error) {
				return true, spool.ReleaseHeld(tx, d.ID, "op", s.clk.Now())
			}),
		by("retry", []spool.State{spool.Scheduled, spool.Deferred}, "", ledger.DeliveryRetried,
			func(s *site, tx *db.Tx, d spool.Delivery) (bool, error) {
				return true, spool.Retry(tx, d.ID, "op", s.clk.Now())
			}),
		by("cancel", []spool.State{spool.Held, spool.Scheduled, spool.Ready, spool.Deferred, spool.Waiting}, spool.Canceled, ledger.DeliveryCanceled,
			func(s *site, tx *db.Tx, d spool.Delivery) (bool, error) {
				return spool.Cancel(tx, d.ID, spool.ReasonSender, "op", s.clk.Now())
			}),
		by("read", []spool.State{spool.Waiting}, spool.Read, ledger.DeliveryRead,
			func(s *site, tx *db.Tx, d spool.Delivery) (bool, error) {
				was, err := spool.LoadDelivery(tx, nil, d.ID)
				if err != nil {
					return false, err
				}
				return was.State == spool.Waiting, spool.MarkRead(tx, d.Message, d.ID, s.clk.Now())
			}),
		by("not read in time", []spool.State{spool.Waiting}, spool.Expired, ledger.DeliveryExpired,
			func(s *site, tx *db.Tx, d spool.Delivery) (bool, error) {
				was, err := spool.LoadDelivery(tx, nil, d.ID)
				if err != nil {
					return false, err
				}
				return was.State == spool.Waiting, spool.ExpireWaiting(tx, d.Message, d.ID, s.clk.Now())
			}),
	}
	for run := 1; run <= 2; run++ {
		all = append(all, starts(run), givesBack(run), takes(run), released(run), takenOver(run), finishes(run, spool.Held, false))
		for _, end := range []spool.State{spool.Deferred, spool.Delivered, spool.Waiting, spool.Failed, spool.Expired} {
			all = append(all, finishes(run, end, true))
		}
		all = append(all, finishes(run, spool.Failed, false))
	}
	return all
}

// step does an op and compares everything that is recorded with the model.
func (s *site) step(t interface{ Fatalf(string, ...any) }, d spool.Delivery, o op, m model) model {
	before := s.told(d)
	done, err := o.do(s, d)
	if err != nil {
		t.Fatalf("%s from %+v: %v", o.name, m, err)
	}
	want, entries := o.then(m)
	if !o.quiet && done != (entries != nil) {
		t.Fatalf("%s from %+v: done is %v", o.name, m, done)
	}
	if told := s.told(d); !slices.Equal(told, append(before, entries...)) {
		t.Fatalf("%s from %+v: the ledger went from %v to %v, want %v more", o.name, m, before, told, entries)
	}
	now := s.delivery(d)
	owner, unsettled := s.owner(d)
	if got := (model{now.State, owner, now.Attempts}); got != want {
		t.Fatalf("%s from %+v: is %+v, want %+v", o.name, m, got, want)
	}
	if unsettled == now.State.Settled() || now.SettledAt.IsZero() == now.State.Settled() {
		t.Fatalf("%s from %+v: %s, unsettled row %v, settled at %v", o.name, m, now.State, unsettled, now.SettledAt)
	}
	return want
}

// reach brings a new delivery to a state of the model.
func (s *site) reach(t testing.TB, m model) spool.Delivery {
	t.Helper()
	begin := func(owner int) spool.Delivery {
		_, d := s.one(given{owner: s.runs[owner]})
		return d
	}
	run := max(m.owner, 1)
	switch m.state {
	case spool.Held, spool.Scheduled, spool.Suppressed:
		_, d := s.one(given{state: m.state})
		return d
	case spool.Ready:
		return begin(m.owner)
	case spool.Sending:
		d := begin(run)
		s.step(t, d, starts(run), model{spool.Ready, run, 0})
		return d
	case spool.Read, spool.Canceled:
		d := s.reach(t, model{state: spool.Waiting})
		name := map[spool.State]string{spool.Read: "read", spool.Canceled: "cancel"}[m.state]
		all := ops()
		s.step(t, d, all[slices.IndexFunc(all, func(o op) bool { return o.name == name })], model{spool.Waiting, 0, 1})
		return d
	default:
		d := s.reach(t, model{state: spool.Sending, owner: run})
		s.step(t, d, finishes(run, m.state, true), model{spool.Sending, run, 0})
		return d
	}
}

// TestEveryStateAndEveryAct walks the whole drawing: what it allows and, just
// as much, what it does not.
func TestEveryStateAndEveryAct(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		from := []model{{state: spool.Held}, {state: spool.Scheduled}, {state: spool.Ready}, {state: spool.Ready, owner: 1}, {state: spool.Sending, owner: 1},
			{state: spool.Deferred, attempts: 1}, {state: spool.Waiting, attempts: 1}, {state: spool.Delivered, attempts: 1}, {state: spool.Read, attempts: 1},
			{state: spool.Failed, attempts: 1}, {state: spool.Expired, attempts: 1}, {state: spool.Canceled, attempts: 1}, {state: spool.Suppressed}}
		for _, m := range from {
			for _, o := range ops() {
				s.step(t, s.reach(t, m), o, m)
			}
		}
	})
}

// TestAnyOrderOfActs lets two runs, an operator, the sender and the recipient
// do what they like in any order.
func TestAnyOrderOfActs(t *testing.T) {
	for name, value := range map[string]string{"rapid.checks": "25", "rapid.nofailfile": "true"} {
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		all := ops()
		rapid.Check(t, func(rt *rapid.T) {
			m := rapid.SampledFrom([]model{{state: spool.Ready, owner: 1}, {state: spool.Ready}, {state: spool.Held}, {state: spool.Scheduled}}).Draw(rt, "from")
			one := s.reach(t, m)
			for range rapid.IntRange(5, 30).Draw(rt, "steps") {
				m = s.step(rt, one, rapid.SampledFrom(all).Draw(rt, "op"), m)
			}
		})
	})
}

func TestReleaseForgetsTheRule(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		plan := policy.Plan{Seals: []policy.Seal{policy.Portal}, NoticeFloor: policy.Encrypted, Hold: "looks odd", Rule: "odd"}
		_, held := s.one(given{state: spool.Held, plan: plan})
		s.write(s.org, func(tx *db.Tx) error { return spool.ReleaseHeld(tx, held.ID, "op", s.clk.Now()) })
		now := s.delivery(held)
		if now.Plan.Hold != "" || !now.Plan.Released || len(now.Plan.Seals) != 1 || now.State != spool.Ready {
			t.Errorf("released: %s, %+v; the rule would hold it again", now.State, now.Plan)
		}
		plan.Seals, plan.Hold = []policy.Seal{}, policy.HoldNoSeal
		_, none := s.one(given{state: spool.Held, plan: plan})
		err := s.db.Write(ctx, s.org, func(tx *db.Tx) error { return spool.ReleaseHeld(tx, none.ID, "op", s.clk.Now()) })
		refused(t, "release of what nothing can seal", err, "no_seal_left")
	})
}
