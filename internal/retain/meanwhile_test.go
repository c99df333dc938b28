package retain_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/retain"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
)

// meddling does something once a purge has destroyed something.
type meddling struct {
	context.Context
	w    *world
	once sync.Once
	do   func()
}

func (c *meddling) Err() error {
	if rows(c.w, "retain_destroyed") > 0 {
		c.once.Do(c.do)
	}
	return nil
}

// A purge lasts for hours. What is said meanwhile counts for what it has not
// destroyed yet.
func TestWhatIsSaidDuringAPurgeCounts(t *testing.T) {
	for name, say := range map[string]func(*testing.T, *world){
		"hold": func(_ *testing.T, w *world) { w.hold(w.Org.ID, retain.Hold{Scope: retain.HoldOrganization}) },
		"longer period": func(t *testing.T, w *world) {
			change(t, w, w.Org.ID, func(p *retain.Document) { p.Purposes.Treatment.Bodies = 365 })
		},
	} {
		t.Run(name, func(t *testing.T) {
			dbtest.Each(t, func(t *testing.T, d *db.DB) {
				w := open(t, d)
				var all []id.ID
				for range 120 {
					all = append(all, w.accept(w.Org.ID, "ada@clinic.test", policy.Treatment, "x@y.example"))
				}
				w.settle(spool.Delivered)
				w.pass(90 * day)
				r, err := w.retain.Purge(&meddling{Context: ctx, w: w, do: func() { say(t, w) }}, w.Org.ID)
				if n := r.Count(retain.Bodies); err != nil || n == 0 || n >= 120 {
					t.Fatalf("%d destroyed, %v", n, err)
				}
				w.is(all[119], whole)
			})
		})
	}
}

func (w *world) acceptWithKey(key string) {
	w.T.Helper()
	if _, err := w.door.Accept(ctx, submit.Draft{Principal: auth.Principal{Org: w.Org.ID, Client: id.New(), Scopes: auth.Scopes()}, Source: spool.FromAPI, Protocol: "HTTP",
		Sender: w.address("ada@clinic.test"), Purpose: policy.Treatment, Recipients: []mail.Address{w.address("x@y.example")},
		IdempotencyKey: text(key), RequestHash: []byte(key), Message: strings.NewReader("From: ada@clinic.test\r\nSubject: Results\r\n\r\nAll is well.\r\n")}); err != nil {
		w.T.Fatal(err)
	}
	w.settle(spool.Delivered)
}

// Lists of what was destroyed stay as long as the ledger's entries of them, and
// while any hold is in effect they stay like the answers to requests. So does
// all that the ledger has learned since the hold was placed.
func TestAHoldKeepsWhatIsNoMessage(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		fill := func(n int) {
			for range n {
				w.accept(w.Org.ID, "ada@clinic.test", policy.Treatment, "x@y.example")
			}
			w.settle(spool.Delivered)
			w.checkpoint()
		}
		there := func(lists, answers int, pruned int64) {
			t.Helper()
			var first int64
			w.read(w.Org.ID, func(tx *db.Tx) (err error) { first, err = ledger.Pruned(tx); return err })
			var old int
			w.read(w.Org.ID, func(tx *db.Tx) error {
				return tx.Row("SELECT count(*) FROM retain_destroyed WHERE org_id = ? AND at <= ?", w.Org.ID, clock.Micros(w.clock.Now().Add(-retain.MinRecords*day))).Scan(&old)
			})
			if n := rows(w, "submit_answers"); old != lists || n != answers || first != pruned {
				t.Fatalf("%d old lists, %d answers, %d entries pruned; want %d, %d and %d", old, n, first, lists, answers, pruned)
			}
		}
		fill(10)
		w.pass(90 * day)
		w.purge(w.Org.ID)
		w.pass((retain.MinRecords + 1) * day)
		w.purge(w.Org.ID)
		there(1, 0, 0) // its segment is not full: the ledger still has the entry

		fill(140)
		w.pass(day)
		h := w.hold(w.Org.ID, retain.Hold{Scope: retain.HoldSender, Address: w.address("nobody@clinic.test")}) // covers no message
		w.acceptWithKey("k")
		w.pass(day)
		fill(140)
		w.pass((retain.MinRecords + 1) * day)
		w.purge(w.Org.ID)
		there(3, 1, 256)

		w.lift(w.Org.ID, h.ID)
		w.purge(w.Org.ID)
		there(0, 0, 512)
	})
}

// Between the record that an organization is destroyed and the end of its keys
// nobody is told that something is held.
func TestADestroyedOrganizationIsNotHeld(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		w.write(w.Org.ID, func(tx *db.Tx) error {
			_, err := tx.Exec("UPDATE account_orgs SET destroyed_at = 1 WHERE id = ?", w.Org.ID)
			return err
		})
		if _, err := w.retain.Place(ctx, w.Org.ID, retain.Hold{Scope: retain.HoldOrganization, Matter: text("m"), Reason: text("r"), By: text("b")}); !fault.Is(err, fault.Conflict) {
			t.Errorf("%v", err)
		}
	})
}
