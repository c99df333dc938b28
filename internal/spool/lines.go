package spool

import (
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
)

// Line is what waits in one lane for one domain of one organization. What is
// taken is taken by lines, so that none is hidden behind another's length.
type Line struct {
	Lane   Lane
	Domain string
	Org    id.ID
}

// Line is the line that the item waits in.
func (i Item) Line() Line { return Line{i.Lane, i.Domain, i.Org} }

// Head is the beginning of a line: when its first delivery is due.
type Head struct {
	Line
	DueAt time.Time
}

// The conditions are those of the partial indexes. Lines are read by jumping
// from the end of one to the beginning of the next, so that the cost is per
// line and not per delivery. SQLite seeks to where a row comparison is equal
// and walks on from there, hence the time behind all times, and uses an index
// for one only where the columns compared with have no affinity, hence the +.
// It finds the row by its key again, since a subquery there gives one column.
const (
	free      = `owner IS NULL AND state <> 'held'`
	never     = `9223372036854775807`
	inOrder   = ` ORDER BY lane, domain, org_id, next_at LIMIT 1`
	linesLite = `WITH RECURSIVE line (id) AS (
		SELECT (SELECT delivery_id FROM spool_unsettled INDEXED BY spool_unsettled_lines WHERE ` + free + ` AND (lane, domain, org_id, next_at) > (?, ?, ?, ` + never + `)` + inOrder + `)
		UNION ALL
		SELECT (SELECT n.delivery_id FROM spool_unsettled n INDEXED BY spool_unsettled_lines WHERE n.owner IS NULL AND n.state <> 'held'
			AND (n.lane, n.domain, n.org_id, n.next_at) > (+u.lane, +u.domain, +u.org_id, ` + never + `) ORDER BY n.lane, n.domain, n.org_id, n.next_at LIMIT 1)
		FROM line JOIN spool_unsettled u ON u.delivery_id = line.id)
		SELECT u.lane, u.domain, u.org_id, u.next_at FROM line JOIN spool_unsettled u ON u.delivery_id = line.id LIMIT ?`
	linesPostgres = `WITH RECURSIVE line AS (
		(SELECT lane, domain, org_id, next_at FROM spool_unsettled WHERE ` + free + ` AND (lane, domain, org_id, next_at) > (?, ?, ?, ` + never + `)` + inOrder + `)
		UNION ALL
		SELECT n.* FROM line CROSS JOIN LATERAL (SELECT u.lane, u.domain, u.org_id, u.next_at FROM spool_unsettled u WHERE u.owner IS NULL AND u.state <> 'held'
			AND (u.lane, u.domain, u.org_id, u.next_at) > (line.lane, line.domain, line.org_id, ` + never + `) ORDER BY u.lane, u.domain, u.org_id, u.next_at LIMIT 1) n)
		SELECT lane, domain, org_id, next_at FROM line LIMIT ?`
)

// Lines gives up to limit lines behind the one named (the zero line stands
// before all), in their order, whether due or not. It looks across all organizations, as taking does: queues belong
// to destinations.
func Lines(tx *db.Tx, after Line, limit int) ([]Head, error) {
	if err := plainly(tx); err != nil {
		return nil, err
	}
	return db.All(tx, func(row db.Row) (h Head, err error) {
		var due int64
		err = row.Scan(&h.Lane, &h.Domain, &h.Org, &due)
		h.DueAt = clock.FromMicros(due)
		return h, err
	}, tx.Pick(linesLite, linesPostgres), int64(after.Lane), after.Domain, after.Org, limit)
}

// plainly keeps PostgreSQL from compiling a query that it takes for large
// because the queue is: that costs more than running it.
func plainly(tx *db.Tx) error {
	query := tx.Pick("", "SET LOCAL jit = off")
	if query == "" {
		return nil
	}
	_, err := tx.Exec(query)
	return err
}

const lately = `SELECT DISTINCT lane, domain, org_id FROM (SELECT lane, domain, org_id FROM spool_unsettled
	WHERE owner IS NULL AND state <> 'held' AND next_at > ? AND next_at <= ? ORDER BY next_at DESC LIMIT ?) AS lately`

// Lately gives the lines of what became due after one time and until another,
// of the latest limit deliveries.
func Lately(tx *db.Tx, after, until time.Time, limit int) ([]Line, error) {
	return db.All(tx, func(row db.Row) (l Line, err error) {
		err = row.Scan(&l.Lane, &l.Domain, &l.Org)
		return l, err
	}, lately, clock.Micros(after), clock.Micros(until), limit)
}

// Want says how many deliveries of a line to take.
type Want struct {
	Line
	N int
}

// PostgreSQL ends a scan only by columns that equal something, or the one behind
// them: a bound that compares whole rows would read on to the end of the lane.
// Asking for any of one lane keeps the lane in the order, which no other index
// has, whatever the planner believes of how many lines there are.
const (
	dueInLine = `SELECT delivery_id FROM spool_unsettled INDEXED BY spool_unsettled_lines
		WHERE owner IS NULL AND state <> 'held' AND lane = ? AND domain = ? AND org_id = ? AND next_at <= ? ORDER BY next_at LIMIT ?`
	takeLite = `UPDATE spool_unsettled SET owner = ?, state = 'ready' WHERE delivery_id IN (` + dueInLine + `)
		RETURNING delivery_id, org_id, message_id, lane, domain, next_at`
	dueInLines = `SELECT due.delivery_id FROM unnest(?::bigint[], ?::text[], ?::bytea[], ?::bigint[]) AS want (lane, domain, org_id, n)
		CROSS JOIN LATERAL (SELECT u.delivery_id FROM spool_unsettled u WHERE u.owner IS NULL AND u.state <> 'held'
			AND u.lane = ANY (ARRAY[want.lane]) AND u.domain = want.domain AND u.org_id = want.org_id AND u.next_at <= ?
			ORDER BY u.lane, u.next_at LIMIT want.n FOR UPDATE SKIP LOCKED) AS due`
	takePostgres = `UPDATE spool_unsettled SET owner = ?, state = 'ready' WHERE delivery_id = ANY (ARRAY(` + dueInLines + `))
		RETURNING delivery_id, org_id, message_id, lane, domain, next_at`
)

// Take gives what is due in lines to a run, of each line the longest due
// first. On PostgreSQL an array keeps the planner from running the inner query
// more than once, and takers pass each other.
func Take(tx *db.Tx, run id.ID, now time.Time, wants []Want) ([]Item, error) {
	if len(wants) == 0 {
		return nil, nil
	}
	if query := tx.Pick(takeLite, ""); query != "" {
		return takeEach(tx, query, run, now, wants)
	}
	if err := plainly(tx); err != nil {
		return nil, err
	}
	lanes, domains := make([]int64, len(wants)), make([]string, len(wants))
	orgs, ns := make([][]byte, len(wants)), make([]int64, len(wants))
	for i, w := range wants {
		lanes[i], domains[i], orgs[i], ns[i] = int64(w.Lane), w.Domain, w.Org.Bytes(), int64(w.N)
	}
	return takeDue(tx, takePostgres, run, lanes, domains, orgs, ns, clock.Micros(now))
}

func takeEach(tx *db.Tx, query string, run id.ID, now time.Time, wants []Want) (all []Item, err error) {
	for _, w := range wants {
		items, err := takeDue(tx, query, run, int64(w.Lane), w.Domain, w.Org, clock.Micros(now), w.N)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
	}
	return all, nil
}
