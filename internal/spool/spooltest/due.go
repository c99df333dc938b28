package spooltest

import (
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
)

// DueNow makes everything that is scheduled due at a time, in one statement and
// without a word in the ledger: benchmarks fill queues for later and then time
// how they empty.
func DueNow(tx *db.Tx, at time.Time) error {
	_, err := tx.Exec("UPDATE spool_unsettled SET state = 'ready', next_at = ? WHERE state = 'scheduled'", clock.Micros(at))
	return err
}
