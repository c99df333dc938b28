package spool_test

import (
	"slices"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/spool"
)

// What waits is counted by domain and no further than asked; what is held, or a
// run has, does not wait.
func TestBacklogs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		now := s.clk.Now()
		for range 2 {
			s.accept(given{org: s.org, nextAt: now.Add(-time.Second)}, "p@a.example")
			s.accept(given{org: s.other, nextAt: now.Add(time.Hour), state: spool.Scheduled}, "p@a.example")
		}
		s.accept(given{nextAt: now.Add(time.Hour), state: spool.Scheduled}, "p@b.example")
		s.accept(given{state: spool.Held}, "p@b.example")
		s.accept(given{owner: s.runs[1]}, "p@owned.example")
		var got []spool.Backlog
		var more bool
		look := func(limit int) {
			s.read(db.System, func(tx *db.Tx) (err error) {
				got, more, err = spool.Backlogs(tx, now, limit)
				return err
			})
		}
		look(6)
		if want := []spool.Backlog{{"a.example", 2, 2}, {"b.example", 0, 1}}; !slices.Equal(got, want) || more {
			t.Errorf("%v, more %v", got, more)
		}
		if look(2); len(got) != 1 || got[0].Due+got[0].Later != 2 || !more {
			t.Errorf("two of five: %v, more %v", got, more)
		}
	})
}
