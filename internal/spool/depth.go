package spool

import (
	"database/sql"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
)

// Pile is how many unsettled deliveries are in one state and stream.
type Pile struct {
	State  State
	Stream Stream
	Count  int
}

// Piles counts unsettled deliveries by state and stream, across organizations.
func Piles(tx *db.Tx) ([]Pile, error) {
	return db.All(tx, func(row db.Row) (p Pile, err error) {
		var state string
		var bulk int
		err = row.Scan(&state, &bulk, &p.Count)
		p.State, p.Stream = State(state), Transactional
		if bulk == 1 {
			p.Stream = Bulk
		}
		return p, err
	}, `SELECT state, bulk, count(*) FROM (SELECT state, CASE WHEN lane >= ? THEN 1 ELSE 0 END AS bulk FROM spool_unsettled) AS piles
		GROUP BY state, bulk`, int64(LaneOf(Bulk, 0)))
}

// OldestDue tells since when the delivery waits that waits longest for its
// turn; zero where none is due.
func OldestDue(tx *db.Tx, now time.Time) (at time.Time, err error) {
	var next sql.NullInt64
	if err := tx.Row("SELECT min(next_at) FROM spool_unsettled WHERE owner IS NULL AND state <> 'held'").Scan(&next); err != nil || !next.Valid {
		return at, err
	}
	if at = clock.FromMicros(next.Int64); at.After(now) {
		return time.Time{}, nil
	}
	return at, nil
}
