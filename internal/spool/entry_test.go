package spool_test

import (
	"slices"
	"testing"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/spool"
)

// TestNoEntryNoAct lets the ledger take nothing: then nothing is done either,
// in whatever state a delivery is.
func TestNoEntryNoAct(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		type try struct {
			d    spool.Delivery
			from model
			op   op
		}
		var all []try
		for _, m := range []model{{state: spool.Held}, {state: spool.Scheduled}, {state: spool.Ready, owner: 1}, {state: spool.Sending, owner: 1},
			{state: spool.Deferred, attempts: 1}, {state: spool.Waiting, attempts: 1}} {
			for _, o := range ops() {
				if _, entries := o.then(m); entries != nil {
					all = append(all, try{s.reach(t, m), m, o})
				}
			}
		}
		s.write(db.System, func(tx *db.Tx) error {
			_, err := tx.Exec(tx.Pick(
				`CREATE TRIGGER no_more BEFORE INSERT ON ledger_entries BEGIN SELECT RAISE(ABORT, 'full'); END`,
				`ALTER TABLE ledger_entries ADD CONSTRAINT no_more CHECK (false) NOT VALID`))
			return err
		})
		for _, a := range all {
			told := s.told(a.d)
			if done, err := a.op.do(s, a.d); done || err == nil {
				t.Errorf("%s from %+v: no error, done is %v", a.op.name, a.from, done)
			}
			now := s.delivery(a.d)
			owner, _ := s.owner(a.d)
			if got := (model{now.State, owner, now.Attempts}); got != a.from || !slices.Equal(s.told(a.d), told) {
				t.Errorf("%s from %+v: is %+v, and the ledger does not tell", a.op.name, a.from, got)
			}
		}
	})
}
