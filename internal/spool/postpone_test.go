package spool_test

import (
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/spool"
)

// TestPostponing puts off what a run holds and has not begun, but never beyond
// the message's end or the age at which its sender is told; what is due for
// one of these is left to the caller.
func TestPostponing(t *testing.T) {
	const tell = 4 * time.Hour
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		run, began := s.runs[1], s.clk.Now()
		var all []spool.Item
		var fresh spool.Delivery
		put := func(g given) spool.Delivery {
			_, dl := s.one(g)
			all = append(all, item(dl))
			return dl
		}
		fresh = put(given{owner: run})
		foreign := put(given{owner: s.runs[2]})
		free := put(given{})
		begun := put(given{owner: run})
		s.step(t, begun, starts(1), model{spool.Ready, 1, 0})
		told := put(given{owner: run, nextAt: began.Add(tell)})
		postpone := func(at, until time.Time) (moved map[id.ID]bool) {
			s.check(d.WriteAlone(ctx, db.System, func(tx *db.Tx) (err error) {
				moved, err = spool.Postpone(tx, run, all, spool.Postponing{Until: until, DelayAfter: tell, Reason: "why", At: at})
				return err
			}))
			return moved
		}
		if moved := postpone(began, began.Add(time.Hour)); len(moved) != 1 || !moved[fresh.ID] {
			t.Errorf("moved %v", moved)
		}
		if got := s.delivery(fresh); got.State != spool.Deferred || got.Reason != "why" || got.Attempts != 0 || !got.NextAt.Equal(began.Add(time.Hour)) {
			t.Errorf("postponed: %+v", got)
		}
		for _, dl := range []spool.Delivery{foreign, free, begun, told} {
			if got := s.delivery(dl); got.State == spool.Deferred {
				t.Errorf("postponed all the same: %+v", got)
			}
		}
		for _, c := range []struct{ at, until, want time.Duration }{
			{time.Hour, 5 * time.Hour, tell},                   // told first
			{tell + time.Minute, 6 * time.Hour, 6 * time.Hour}, // told already
			{47 * time.Hour, 50 * time.Hour, 48 * time.Hour},   // it ends before
		} {
			s.clk.Advance(began.Add(c.at).Sub(s.clk.Now()))
			s.write(s.org, func(tx *db.Tx) error {
				_, err := tx.Exec("UPDATE spool_unsettled SET owner = ?, state = 'ready', next_at = 0 WHERE delivery_id = ?", run, fresh.ID)
				return err
			})
			postpone(began.Add(c.at), began.Add(c.until))
			if got := s.delivery(fresh).NextAt.Sub(began); got != c.want {
				t.Errorf("at %v until %v: it waits until %v, want %v", c.at, c.until, got, c.want)
			}
		}
		s.write(s.org, func(tx *db.Tx) error {
			_, err := tx.Exec("UPDATE spool_unsettled SET owner = ?, state = 'ready' WHERE delivery_id = ?", run, fresh.ID)
			return err
		})
		if moved := postpone(began.Add(48*time.Hour), began.Add(50*time.Hour)); len(moved) != 0 && moved[fresh.ID] {
			t.Error("what has expired is postponed")
		}
	})
}
