package spool

import (
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
)

// Backlog counts the deliveries of one domain that stand in the database and in
// no node's memory.
type Backlog struct {
	Domain string
	Due    int // could go now
	Later  int // scheduled or deferred
}

// Backlogs counts what waits, across organizations, the most first, and
// looks at no more than limit deliveries; more says that there are others. It
// reads the index of lines and nothing else.
func Backlogs(tx *db.Tx, now time.Time, limit int) (all []Backlog, more bool, err error) {
	seen := 0
	all, err = db.All(tx, func(row db.Row) (w Backlog, err error) {
		err = row.Scan(&w.Domain, &w.Due, &w.Later)
		seen += w.Due + w.Later
		return w, err
	}, `SELECT domain, CAST(SUM(CASE WHEN next_at <= ? THEN 1 ELSE 0 END) AS BIGINT), CAST(SUM(CASE WHEN next_at <= ? THEN 0 ELSE 1 END) AS BIGINT)
		FROM (SELECT domain, next_at FROM spool_unsettled WHERE owner IS NULL AND state <> 'held' LIMIT ?) AS waiting
		GROUP BY domain ORDER BY count(*) DESC, domain`, clock.Micros(now), clock.Micros(now), limit)
	return all, seen >= limit, err
}
