package retain_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/pickup"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/retain"
	"github.com/sealpost/sealpost/internal/spool"
)

func change(t testing.TB, w *world, org id.ID, fn func(*retain.Document)) {
	t.Helper()
	if _, err := w.retain.Change(ctx, org, func(p *retain.Policy) error { fn(&p.Document); return nil }); err != nil {
		t.Fatal(err)
	}
}

func TestAMessageGoesInStages(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		change(t, w, w.Org.ID, func(p *retain.Document) {
			p.Purposes.Marketing = retain.Periods{Bodies: 10, Metadata: 30, Records: retain.MinRecords}
		})
		clinical, campaign := w.send(policy.Treatment, "x@y.example"), w.send(policy.Marketing, "x@y.example", "z@y.example")
		for _, step := range []struct {
			after              time.Duration // since they were settled
			clinical, campaign string
		}{
			{9 * day, whole, whole},
			{10 * day, whole, noBody},
			{29 * day, whole, noBody},
			{30 * day, whole, recorded},
			{89 * day, whole, recorded},
			{90 * day, noBody, recorded},
			{(retain.MinRecords - 1) * day, noBody, recorded},
			{retain.MinRecords * day, gone, gone},
		} {
			w.clock.Advance(time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC).Add(step.after).Sub(w.clock.Now()))
			preview, err := w.retain.Preview(ctx, w.Org.ID)
			if err != nil {
				t.Fatal(err)
			}
			r := w.purge(w.Org.ID)
			w.is(clinical, step.clinical)
			w.is(campaign, step.campaign)
			if t.Failed() {
				t.Fatalf("after %v", step.after)
			}
			for _, stage := range []retain.Stage{retain.Bodies, retain.Records} {
				if preview.Count(stage) != r.Count(stage) {
					t.Errorf("after %v the preview says %d %s, and it was %d", step.after, preview.Count(stage), stage, r.Count(stage))
				}
			}
			if again := w.purge(w.Org.ID); len(again.Destroyed) > 0 {
				t.Errorf("after %v a second run destroyed %v", step.after, again.Destroyed)
			}
		}
		if n := rows(w, "spool_messages") + rows(w, "spool_deliveries") + rows(w, "blob_chunks") + rows(w, "retain_left"); n != 0 {
			t.Errorf("%d rows are left", n)
		}
	})
}

func rows(w *world, table string) (n int) {
	w.T.Helper()
	w.read(db.System, func(tx *db.Tx) error { return tx.Row("SELECT count(*) FROM " + table).Scan(&n) })
	return n
}

// The day counts from which the last delivery was settled, and nothing goes
// that somebody may still want to do something with.
func TestWhatIsLeft(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		portal := pickup.New(pickup.Deps{DB: d, Custody: w.Custody, Accounts: w.Accounts, Blob: w.Blob, Clock: w.clock, PublicURL: "https://mail.clinic.test", LinkTTL: 100 * day})
		waiting := w.accept(w.Org.ID, "ada@clinic.test", policy.Treatment, "waits@y.example")
		w.write(w.Org.ID, func(tx *db.Tx) error {
			m, err := spool.LoadMessage(tx, w.Custody, waiting)
			if err != nil {
				return err
			}
			all, err := spool.Deliveries(tx, m)
			if err != nil {
				return err
			}
			_, err = portal.EnsureLink(tx, m.Key, all[0], w.clock.Now())
			return err
		})
		w.settle(spool.Waiting)
		late := w.accept(w.Org.ID, "ada@clinic.test", policy.Treatment, "late@y.example")
		queued := w.accept(w.Org.ID, "ada@clinic.test", policy.Treatment, "never@y.example")
		w.write(w.Org.ID, func(tx *db.Tx) error { // held back by the operator
			for _, m := range []id.ID{late, queued} {
				all, err := spool.KeptDeliveries(tx, m)
				if err != nil {
					return err
				}
				if err := spool.Hold(tx, all[0].ID, "operator", w.clock.Now()); err != nil {
					return err
				}
			}
			return nil
		})
		w.pass(50 * day)
		w.write(w.Org.ID, func(tx *db.Tx) error {
			all, err := spool.KeptDeliveries(tx, late)
			if err != nil {
				return err
			}
			_, err = spool.Cancel(tx, all[0].ID, spool.ReasonOperator, "operator", w.clock.Now())
			return err
		})
		w.pass(40 * day)
		r := w.purge(w.Org.ID)
		if left := fmt.Sprint(r.Left[retain.Bodies]); left != "map[unsettled:2 young:1]" || r.Count(retain.Bodies) != 0 {
			t.Errorf("%v, destroyed %v", left, r.Destroyed)
		}
		read := func() { // the recipient reads at last
			w.write(w.Org.ID, func(tx *db.Tx) error {
				all, err := spool.KeptDeliveries(tx, waiting)
				if err != nil {
					return err
				}
				return spool.MarkRead(tx, waiting, all[0].ID, w.clock.Now().Add(-200*day))
			})
		}
		read()
		if left := fmt.Sprint(w.purge(w.Org.ID).Left[retain.Bodies]); left != "map[link:1 unsettled:1 young:1]" {
			t.Error(left)
		}
		w.pass(10 * day) // the link ends
		w.purge(w.Org.ID)
		w.is(waiting, noBody)
		w.is(late, whole)
		w.pass(40 * day) // 90 since it was canceled
		w.purge(w.Org.ID)
		w.is(late, noBody)
		w.pass(retain.MinRecords * day)
		w.purge(w.Org.ID)
		w.is(late, gone)
		w.is(queued, whole)
		if n := rows(w, "retain_left"); n != 3 {
			t.Errorf("%d are looked at again, want the one in three stages", n)
		}
	})
}

func TestANoticeUnderWayKeepsTheKey(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		change(t, w, w.Org.ID, func(p *retain.Document) {
			p.Purposes.Treatment = retain.Periods{Bodies: 1, Metadata: 7, Records: retain.MinRecords}
		})
		m := w.send(policy.Treatment, "x@y.example")
		w.write(w.Org.ID, func(tx *db.Tx) error {
			message, err := spool.LoadMessage(tx, w.Custody, m)
			if err != nil {
				return err
			}
			_, err = spool.PostNotice(tx, spool.Notice{ID: id.New(), Org: w.Org.ID, Message: m, Delivery: id.New(), Kind: spool.KindDSN, Once: "dsn",
				Key: message.Key, To: w.address("ada@clinic.test"), CreatedAt: w.clock.Now(), ExpiresAt: w.clock.Now().Add(30 * day)}, id.ID{})
			return err
		})
		w.pass(8 * day)
		r := w.purge(w.Org.ID)
		if r.Left[retain.Metadata][retain.LeftNotice] != 1 {
			t.Errorf("%v", r.Left)
		}
		w.is(m, noBody)
	})
}

func TestSixYearsAreTheFloor(t *testing.T) {
	w := open(t, dbtest.SQLite(t))
	for _, short := range []func(*retain.Document){
		func(p *retain.Document) { p.Ledger = retain.MinRecords - 1 },
		func(p *retain.Document) { p.Purposes.Marketing.Records, p.Purposes.Marketing.Metadata = 365, 90 },
	} {
		_, err := w.retain.Change(ctx, w.Org.ID, func(p *retain.Policy) error { short(&p.Document); return nil })
		var f *fault.Fault
		if !errors.As(err, &f) || f.Reason != "below_six_years" || !strings.Contains(f.Text, "164.316(b)(2)(i)") {
			t.Errorf("%v", err)
		}
	}
	if p, err := w.retain.Policy(ctx, w.Org.ID, 0); err != nil || p.Version != 0 {
		t.Errorf("%+v, %v", p, err)
	}
	// Nor does it help to write the row by hand.
	change(t, w, w.Org.ID, func(p *retain.Document) { p.Purposes.Treatment.Metadata = 90 })
	m := w.send(policy.Treatment, "x@y.example")
	w.write(w.Org.ID, func(tx *db.Tx) error {
		n, err := tx.Exec("UPDATE retain_policies SET document = replace(document, ?, '91') WHERE org_id = ?", fmt.Sprint(retain.MinRecords), w.Org.ID)
		if err == nil && n != 1 {
			err = fmt.Errorf("%d rows", n)
		}
		return err
	})
	w.pass(2000 * day)
	w.purge(w.Org.ID)
	w.is(m, recorded)
}

func TestMistakesInADocumentAreToldAtOnce(t *testing.T) {
	doc := retain.Default()
	doc.Answers, doc.Purposes.Payment.Bodies, doc.Purposes.Generic.Metadata, doc.Purposes.Treatment.Bodies = -1, 0, 3, 4000
	var f *fault.Fault
	if err := doc.Check(); !errors.As(err, &f) {
		t.Fatal(err)
	}
	var got []string
	for _, one := range append([]*fault.Fault{f}, f.Also...) {
		got = append(got, one.Pointer+" "+one.Reason)
	}
	if text := strings.Join(got, "\n"); text != "/answers bad_period\n/purposes/generic/metadata period_too_short\n/purposes/generic periods_out_of_order\n"+
		"/purposes/treatment periods_out_of_order\n/purposes/payment/bodies period_too_short" {
		t.Error(text)
	}
	fine := retain.Default()
	if err := fine.Check(); err != nil {
		t.Error(err)
	}
}

// A run that is broken off between two of its transactions is taken up.
func TestAnInterruptedRunGoesOn(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		var all []id.ID
		for range 250 {
			all = append(all, w.accept(w.Org.ID, "ada@clinic.test", policy.Treatment, "x@y.example"))
		}
		w.settle(spool.Delivered)
		w.pass(90 * day)
		dying := &dyingContext{ctx, w}
		first, err := w.retain.Purge(dying, w.Org.ID)
		if !errors.Is(err, context.Canceled) || first.Count(retain.Bodies) == 0 || first.Count(retain.Bodies) >= 250 {
			t.Fatalf("%v, %v", first.Destroyed, err)
		}
		second := w.purge(w.Org.ID)
		if first.Run != second.Run || first.Count(retain.Bodies)+second.Count(retain.Bodies) != 250 {
			t.Errorf("%v and %v", first, second)
		}
		for _, m := range all {
			w.is(m, noBody)
		}
		c, err := w.retain.Certify(ctx, w.Org.ID, second.Run)
		if err != nil || !c.OK() {
			t.Fatalf("%+v, %v", c, err)
		}
		n := 0
		for _, b := range c.Batches {
			n += b.Count
		}
		if told := len(w.events(w.Org.ID, ledger.RetentionPurged)); n != 250 || told != len(c.Batches) || told < 3 {
			t.Errorf("%d messages in %d batches, %d entries", n, len(c.Batches), told)
		}
		if next := w.purge(w.Org.ID); next.Run == first.Run {
			t.Error("a run that is done is taken up again")
		}
	})
}

// dyingContext ends as soon as something is destroyed.
type dyingContext struct {
	context.Context
	w *world
}

func (c *dyingContext) Err() error {
	if rows(c.w, "retain_destroyed") > 0 {
		return context.Canceled
	}
	return nil
}

func TestOrganizationsArePurgedApart(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		other := w.NewOrg("lab", "lab.test")
		change(t, w, other.ID, func(p *retain.Document) { p.Purposes.Treatment.Bodies = 5 })
		ours, theirs := w.send(policy.Treatment, "x@y.example"), w.accept(other.ID, "lab@lab.test", policy.Treatment, "x@y.example")
		w.settle(spool.Delivered)
		w.hold(w.Org.ID, retain.Hold{Scope: retain.HoldOrganization})
		if _, err := w.retain.Place(ctx, w.Org.ID, retain.Hold{Scope: retain.HoldMessage, Message: theirs,
			Matter: text("m"), Reason: text("r"), By: text("b")}); !fault.Is(err, fault.NotFound) {
			t.Errorf("somebody else's message is held: %v", err)
		}
		w.pass(6 * day)
		r := w.purge(other.ID)
		if _, err := w.retain.Certify(ctx, w.Org.ID, r.Run); !fault.Is(err, fault.NotFound) {
			t.Errorf("somebody else's certificate: %v", err)
		}
		if got := w.stateOf(other.ID, theirs); got != noBody {
			t.Error(got)
		}
		w.is(ours, whole)
		w.pass(4000 * day)
		w.purge(w.Org.ID)
		w.purge(other.ID)
		w.is(ours, whole)
		if got := w.stateOf(other.ID, theirs); got != gone {
			t.Error(got)
		}
	})
}

func TestThePurgeIsNightly(t *testing.T) {
	w := open(t, dbtest.SQLite(t))
	m := w.send(policy.Treatment, "x@y.example")
	due := func() {
		t.Helper()
		if err := w.retain.PurgeDue(ctx); err != nil {
			t.Fatal(err)
		}
	}
	w.pass(200 * day)
	due() // the first look: not before the night that follows
	w.is(m, whole)
	w.pass(day)
	due()
	w.is(m, noBody)
	runs := func() (at int64) {
		w.read(w.Org.ID, func(tx *db.Tx) error {
			return tx.Row("SELECT purged_at FROM retain_orgs WHERE org_id = ?", w.Org.ID).Scan(&at)
		})
		return at
	}
	before := runs()
	w.pass(time.Minute)
	due()
	if runs() != before {
		t.Error("it ran twice in a night")
	}
	w.pass(day)
	due()
	if runs() == before {
		t.Error("it does not run every night")
	}
}
