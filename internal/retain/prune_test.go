package retain_test

import (
	"bytes"
	"testing"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/retain"
	"github.com/sealpost/sealpost/internal/spool"
)

func (w *world) export() []byte {
	w.T.Helper()
	if _, err := ledger.Place(ctx, w.DB, 0); err != nil {
		w.T.Fatal(err)
	}
	var b bytes.Buffer
	if err := w.notary.Export(ctx, w.Org.ID, &b); err != nil {
		w.T.Fatal(err)
	}
	return b.Bytes()
}

func (w *world) checkpoint() []byte {
	w.T.Helper()
	if _, err := ledger.Place(ctx, w.DB, 0); err != nil {
		w.T.Fatal(err)
	}
	text, err := w.notary.Checkpoint(ctx, w.Org.ID)
	if err != nil {
		w.T.Fatal(err)
	}
	return text
}

// The ledger loses what is older than six years, in whole segments, up to the
// first that a hold stops; and what is left of it proves as much as before.
func TestTheLedgerIsPrunedWithTime(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		var checkpoints [][]byte
		fillLedger := func(n int) {
			for range n {
				w.accept(w.Org.ID, "ada@clinic.test", policy.Treatment, "x@y.example")
			}
			w.settle(spool.Delivered)
			checkpoints = append(checkpoints, w.checkpoint())
		}
		fillLedger(100) // two entries each
		held := w.send(policy.Treatment, "doe@y.example")
		fillLedger(250)
		w.pass(2000 * day)
		fillLedger(20)
		h := w.hold(w.Org.ID, retain.Hold{Scope: retain.HoldRecipient, Address: w.address("doe@y.example")})

		pruned := func() (n int64) {
			w.read(w.Org.ID, func(tx *db.Tx) (err error) { n, err = ledger.Pruned(tx); return err })
			return n
		}
		w.pass(191 * day)
		w.purge(w.Org.ID)
		if pruned() != 0 {
			t.Fatal("pruned before its time")
		}
		w.pass(2 * day)
		w.purge(w.Org.ID)
		if n := pruned(); n != 0 {
			t.Fatalf("%d entries pruned: the held message is in the first segment", n)
		}
		w.is(held, whole)
		w.lift(w.Org.ID, h.ID)
		if preview, err := w.retain.Preview(ctx, w.Org.ID); err != nil || preview.Pruned != 512 {
			t.Errorf("the preview says %d, %v", preview.Pruned, err)
		}
		if r := w.purge(w.Org.ID); r.Pruned != 512 || pruned() != 512 {
			t.Fatalf("%d pruned", r.Pruned)
		}
		w.is(held, gone)
		checkpoints = append(checkpoints, w.checkpoint())
		r, err := ledger.Verify(bytes.NewReader(w.export()), w.check, checkpoints)
		if err != nil || !r.OK || r.Pruned != 512 || r.Checkpoints != len(checkpoints) || r.Covered != r.Entries {
			t.Errorf("%+v, %v", r, err)
		}
		if again := w.purge(w.Org.ID); again.Pruned != 0 {
			t.Errorf("pruned %d more", again.Pruned)
		}
	})
}
