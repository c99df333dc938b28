package retain_test

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/retain"
	"github.com/sealpost/sealpost/internal/spool"
)

func text(s string) private.String { return private.NewString(s) }

// Nothing overrides a hold: not the purge in any stage, not the end of the
// organization. What it does not cover goes.
func TestNothingOverridesAHold(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		named := w.send(policy.Treatment, "x@y.example")
		to := w.send(policy.Marketing, "other@y.example", "Doe@y.example")
		from := w.accept(w.Org.ID, "bob@clinic.test", policy.Payment, "x@y.example")
		free := w.send(policy.Treatment, "x@y.example")
		w.settle(spool.Delivered)
		var placed []retain.Hold
		for _, h := range []retain.Hold{
			{Scope: retain.HoldMessage, Message: named},
			{Scope: retain.HoldRecipient, Address: w.address("doe@Y.example")},
			{Scope: retain.HoldSender, Address: w.address("bob@clinic.test")},
		} {
			placed = append(placed, w.hold(w.Org.ID, h))
		}
		later := w.accept(w.Org.ID, "bob@clinic.test", policy.Payment, "x@y.example") // a hold covers what comes, too
		w.settle(spool.Delivered)
		w.pass(retain.MinRecords * day)
		w.purge(w.Org.ID)
		w.pass(day)
		w.purge(w.Org.ID)
		for _, m := range []id.ID{named, to, from, later} {
			w.is(m, whole)
		}
		w.is(free, gone)
		if _, err := w.Accounts.DestroyOrg(ctx, w.Org.ID); !fault.Is(err, fault.Conflict) {
			t.Errorf("the organization's keys: %v", err)
		}
		w.is(named, whole)
		for _, h := range placed {
			w.lift(w.Org.ID, h.ID)
		}
		w.purge(w.Org.ID)
		for _, m := range []id.ID{named, to, from, later} {
			w.is(m, gone)
		}
		if _, err := w.Accounts.DestroyOrg(ctx, w.Org.ID); err != nil {
			t.Error(err)
		}
	})
}

func TestAHoldOnTheOrganization(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		m := w.send(policy.Treatment, "x@y.example")
		h := w.hold(w.Org.ID, retain.Hold{Scope: retain.HoldOrganization})
		w.pass(4000 * day)
		preview, err := w.retain.Preview(ctx, w.Org.ID)
		if err != nil || len(preview.Destroyed) != 0 || preview.Left[retain.Bodies][retain.LeftHeld] != 1 {
			t.Errorf("%+v, %v", preview, err)
		}
		if r := w.purge(w.Org.ID); len(r.Destroyed) != 0 {
			t.Errorf("%v", r.Destroyed)
		}
		w.is(m, whole)
		if n := rows(w, "retain_left"); n != 0 {
			t.Errorf("%d rows for what need not be looked at", n)
		}
		w.lift(w.Org.ID, h.ID)
		w.purge(w.Org.ID)
		w.is(m, gone)
	})
}

func TestWhatIsKnownOfAHold(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		h := w.hold(w.Org.ID, retain.Hold{Scope: retain.HoldRecipient, Address: w.address("doe@y.example")})
		list, err := w.retain.Holds(ctx, w.Org.ID, false)
		if err != nil || len(list) != 1 || list[0].Matter.Reveal() != "Doe v. Clinic" || list[0].By.Reveal() != "m.jones" ||
			list[0].Address.Reveal() != "doe@y.example" || !list[0].PlacedAt.Equal(w.clock.Now()) {
			t.Fatalf("%+v, %v", list, err)
		}
		if err := w.retain.Lift(ctx, w.NewOrg("lab", "lab.test").ID, h.ID, text("r"), text("b")); !fault.Is(err, fault.NotFound) {
			t.Errorf("somebody else lifts it: %v", err)
		}
		w.lift(w.Org.ID, h.ID)
		if err := w.retain.Lift(ctx, w.Org.ID, h.ID, text("r"), text("b")); !fault.Is(err, fault.NotFound) {
			t.Errorf("lifted twice: %v", err)
		}
		if list, err = w.retain.Holds(ctx, w.Org.ID, false); err != nil || len(list) != 0 {
			t.Errorf("%v, %v", list, err)
		}
		if list, err = w.retain.Holds(ctx, w.Org.ID, true); err != nil || len(list) != 1 || list[0].LiftedAt.IsZero() {
			t.Errorf("%v, %v", list, err)
		}
		for _, kind := range []ledger.Type{ledger.HoldPlaced, ledger.HoldLifted} {
			events := w.events(w.Org.ID, kind)
			if len(events) != 1 || !events[0].HasPrivate() || bytes.Contains(events[0].Data, []byte("doe")) || bytes.Contains(events[0].Data, []byte("Doe")) {
				t.Errorf("%s: %v", kind, events)
			}
		}
		var sealed []byte
		w.read(w.Org.ID, func(tx *db.Tx) error { return tx.Row("SELECT sealed FROM retain_holds").Scan(&sealed) })
		if bytes.Contains(sealed, []byte("Clinic")) {
			t.Error("the matter is in clear")
		}
	})
}

func TestHoldsThatSayTooLittle(t *testing.T) {
	w := open(t, dbtest.SQLite(t))
	for _, h := range []retain.Hold{
		{Scope: retain.HoldOrganization, Reason: text("r"), By: text("b")},
		{Scope: retain.HoldOrganization, Matter: text("m"), Reason: text("two\r\nlines"), By: text("b")},
		{Scope: retain.HoldMessage, Message: id.New(), Matter: text("m"), Reason: text("r"), By: text("b")},
		{Scope: retain.HoldSender, Matter: text("m"), Reason: text("r"), By: text("b")},
		{Matter: text("m"), Reason: text("r"), By: text("b")},
	} {
		if _, err := w.retain.Place(ctx, w.Org.ID, h); err == nil {
			t.Errorf("%+v was placed", h)
		}
	}
	if err := w.retain.Lift(ctx, w.Org.ID, id.New(), text(""), text("b")); !fault.Is(err, fault.Invalid) {
		t.Errorf("lifted for no reason: %v", err)
	}
}

// Whoever is told that a hold is placed finds later everything that was there
// then, however busy the purge is.
func TestAHoldIsPlacedWhileThePurgeRuns(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		for range 300 {
			w.accept(w.Org.ID, "ada@clinic.test", policy.Treatment, "doe@y.example")
		}
		w.settle(spool.Delivered)
		w.pass(90 * day)
		purged := make(chan error)
		go func() {
			_, err := w.retain.Purge(ctx, w.Org.ID)
			purged <- err
		}()
		for rows(w, "retain_destroyed") == 0 { // it has begun
			runtime.Gosched()
		}
		w.hold(w.Org.ID, retain.Hold{Scope: retain.HoldRecipient, Address: w.address("doe@y.example")})
		there := rows(w, "blob_chunks")
		if err := <-purged; err != nil {
			t.Fatal(err)
		}
		if left := rows(w, "blob_chunks"); left != there {
			t.Errorf("%d bodies were there when the hold was placed, and %d are now", there, left)
		}
	})
}

// What nobody can read any more still goes in its time.
func TestAnOrganizationWithoutKeysIsPurged(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		change(t, w, w.Org.ID, func(p *retain.Document) { p.Purposes.Treatment.Bodies = 200 })
		w.setJournal("keep@archive.example")
		w.send(policy.Treatment, "x@y.example")
		if _, err := w.Accounts.DestroyOrg(ctx, w.Org.ID); err != nil {
			t.Fatal(err)
		}
		w.pass(100 * day)
		w.purge(w.Org.ID)
		if rows(w, "blob_chunks") != 1 {
			t.Error("its own periods are forgotten")
		}
		w.pass(100 * day)
		w.purge(w.Org.ID)
		w.pass(retain.MinRecords * day)
		w.purge(w.Org.ID)
		if n := rows(w, "blob_chunks") + rows(w, "spool_messages"); n != 0 {
			t.Errorf("%d rows are left", n)
		}
	})
}
