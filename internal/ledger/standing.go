package ledger

import (
	"database/sql"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
)

// Standing is how far the ledgers of all organizations are behind.
type Standing struct {
	Unplaced int       // entries without a position
	Since    time.Time // the oldest last checkpoint of a ledger that has grown since; zero when all are signed
}

// Stand tells it, for a gauge.
func Stand(tx *db.Tx) (s Standing, err error) {
	if err := tx.Row("SELECT count(*) FROM ledger_unplaced").Scan(&s.Unplaced); err != nil {
		return s, err
	}
	var at sql.NullInt64
	if err := tx.Row("SELECT min(checkpoint_at) FROM ledger_heads WHERE size > checkpoint_size").Scan(&at); err != nil {
		return s, err
	}
	if at.Valid && at.Int64 > 0 {
		s.Since = clock.FromMicros(at.Int64)
	}
	return s, nil
}
