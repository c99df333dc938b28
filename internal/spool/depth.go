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

// Piles counts unsettled deliveries by state and stream, across organizations,
// those of which there are none too. It looks at every one.
func Piles(tx *db.Tx) (piles []Pile, err error) {
	count := map[Pile]int{}
	if _, err := db.All(tx, func(row db.Row) (struct{}, error) {
		var p Pile
		var n, bulk int
		err := row.Scan(&p.State, &bulk, &n)
		if p.Stream = Transactional; bulk == 1 {
			p.Stream = Bulk
		}
		count[p] = n
		return struct{}{}, err
	}, `SELECT state, bulk, count(*) FROM (SELECT state, CASE WHEN lane >= ? THEN 1 ELSE 0 END AS bulk FROM spool_unsettled) AS piles
		GROUP BY state, bulk`, int64(LaneOf(Bulk, 0))); err != nil {
		return nil, err
	}
	for _, state := range []State{Held, Scheduled, Ready, Sending, Deferred} {
		for _, stream := range []Stream{Transactional, Bulk} {
			piles = append(piles, Pile{state, stream, count[Pile{State: state, Stream: stream}]})
		}
	}
	return piles, nil
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
