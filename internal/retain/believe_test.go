package retain_test

import (
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/policy"
)

// A clock that jumps ahead destroys nothing, whether it comes back or a person
// has to say that it is right.
func TestAClockThatJumpsStopsPurges(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		m := w.send(policy.Treatment, "x@y.example")
		runs := func() {
			t.Helper()
			if err := w.retain.PurgeDue(ctx); err != nil {
				t.Fatal(err)
			}
		}
		stops := func() {
			t.Helper()
			for range 2 {
				if err := w.retain.PurgeDue(ctx); !fault.Is(err, fault.Conflict) {
					t.Fatalf("it runs: %v", err)
				}
			}
			w.is(m, whole)
		}
		runs()
		w.pass(day)
		runs()
		w.pass(5 * day) // closed over Easter
		runs()

		w.pass(5*day + time.Minute)
		stops()
		w.pass(200 * day)
		stops()
		w.pass(-205 * day) // it was the clock
		runs()
		if since, _, err := w.retain.Stopped(ctx); err != nil || !since.IsZero() {
			t.Errorf("stopped since %v, %v", since, err)
		}

		w.pass(200 * day) // it was switched off
		stops()
		if err := w.retain.Resume(ctx, w.clock.Now().Add(-day)); !fault.Is(err, fault.Conflict) {
			t.Errorf("another day than the clock's: %v", err)
		}
		stops()
		if since, _, err := w.retain.Stopped(ctx); err != nil || !since.Equal(w.clock.Now()) {
			t.Errorf("stopped since %v, %v", since, err)
		}
		if err := w.retain.Resume(ctx, w.clock.Now()); err != nil {
			t.Fatal(err)
		}
		if err := w.retain.Resume(ctx, w.clock.Now()); !fault.Is(err, fault.Conflict) {
			t.Errorf("resumed twice: %v", err)
		}
		runs()
		w.is(m, noBody)
		if s, r := len(w.events(db.System, ledger.RetentionStopped)), len(w.events(db.System, ledger.RetentionResumed)); s != 2 || r != 2 {
			t.Errorf("%d times stopped and %d resumed in the ledger, want 2 and 2", s, r)
		}
	})
}

// An installation of a version that did not watch the clock is as careful at
// once: it knows when its last purge was.
func TestTheClockIsComparedWithTheLastPurge(t *testing.T) {
	w := open(t, dbtest.SQLite(t))
	m := w.send(policy.Treatment, "x@y.example")
	w.purge(w.Org.ID)
	w.pass(200 * day)
	if err := w.retain.PurgeDue(ctx); !fault.Is(err, fault.Conflict) {
		t.Errorf("%v", err)
	}
	w.is(m, whole)
}
