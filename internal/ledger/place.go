package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
)

// One transaction of Place: small enough that writers on SQLite, which wait
// for it, do not notice.
const (
	placeEntries = 2000
	placeOrgs    = 200
)

// Place gives positions to entries that have none, at most limit of them if
// limit is above 0, and adds them to their trees. It goes through the
// organizations in rounds, so that a busy one does not keep the others
// waiting. What fails for one organization's tree is reported after the others
// are done.
func Place(ctx context.Context, d *db.DB, limit int) (placed int, err error) {
	var bad []error
	for {
		r, err := placeRound(ctx, d, limit-placed, limit > 0)
		placed += r.placed
		bad = append(bad, r.bad...)
		if err != nil {
			return placed, errors.Join(append(bad, err)...)
		}
		if r.placed == 0 || !r.more || (limit > 0 && placed >= limit) {
			return placed, errors.Join(bad...)
		}
	}
}

type round struct {
	placed int
	more   bool // an organization was left with entries
	bad    []error
}

// placeRound visits every organization that has unplaced entries once.
func placeRound(ctx context.Context, d *db.DB, limit int, limited bool) (round, error) {
	var all round
	next, done := id.ID{}, false
	for !done && (!limited || all.placed < limit) {
		// Looking first spares an idle installation a commit per round.
		err := d.Read(ctx, db.System, func(tx *db.Tx) (err error) {
			next, done, err = nextOrg(tx, next)
			return err
		})
		if err != nil || done {
			return all, err
		}
		budget := placeEntries
		if limited {
			budget = min(budget, limit-all.placed)
		}
		var b batch
		if err := d.WriteAlone(ctx, db.System, func(tx *db.Tx) error {
			b = batch{from: next, budget: budget}
			return b.run(tx)
		}); err != nil {
			return all, fmt.Errorf("place ledger entries: %w", err)
		}
		all.placed += b.placed
		all.more = all.more || b.more
		all.bad = append(all.bad, b.bad...)
		next, done = b.from, b.done
	}
	return all, nil
}

// nextOrg finds the first organization at or behind from that has unplaced
// entries.
func nextOrg(tx *db.Tx, from id.ID) (org id.ID, done bool, err error) {
	err = tx.Row("SELECT org_id FROM ledger_unplaced WHERE org_id >= ? ORDER BY org_id LIMIT 1", from).Scan(&org)
	if errors.Is(err, sql.ErrNoRows) {
		return org, true, nil
	}
	return org, false, err
}

// batch is one transaction of Place. It locks heads in the order of their
// organizations' ids, so that two of them cannot wait for each other.
type batch struct {
	from   id.ID
	budget int
	round
	done bool
}

func (b *batch) run(tx *db.Tx) error {
	for orgs := 0; orgs < placeOrgs && b.placed < b.budget; orgs++ {
		org, done, err := nextOrg(tx, b.from)
		if err != nil {
			return err
		}
		if done {
			b.done = true
			return nil
		}
		n, bad, err := placeOrg(tx, org, b.budget-b.placed)
		if err != nil {
			return err
		}
		if bad != nil {
			b.bad = append(b.bad, bad)
		}
		b.placed += n
		b.more = b.more || b.placed >= b.budget
		if b.from, b.done = after(org); b.done {
			return nil
		}
	}
	return nil
}

// after is the id that follows i; last says that there is none.
func after(i id.ID) (next id.ID, last bool) {
	for k := len(i) - 1; k >= 0; k-- {
		i[k]++
		if i[k] != 0 {
			return i, false
		}
	}
	return i, true
}

// placeOrg places up to limit entries of one organization. bad is what is
// wrong with its tree; nothing was written then and the transaction is good.
func placeOrg(tx *db.Tx, org id.ID, limit int) (n int, bad, err error) {
	size, err := lockHead(tx, org)
	if err != nil {
		return 0, nil, err
	}
	// A statement of its own behind the lock: on PostgreSQL it sees what the
	// last holder of the lock committed.
	nums, hashes, err := unplaced(tx, org, limit)
	if err != nil || len(nums) == 0 {
		return 0, nil, err
	}
	e := &edge{tx: tx, org: org, size: size}
	for _, h := range hashes {
		if err := e.add(h); isDamage(err) {
			return 0, err, nil
		} else if err != nil {
			return 0, nil, err
		}
	}
	list := numbers(nums)
	for _, write := range []func() error{
		func() error { return insertPositions(tx, org, size, list) },
		e.store,
		func() error { return setSize(tx, org, size, size+int64(len(nums))) },
		func() error { return deleteUnplaced(tx, org, list, len(nums)) },
	} {
		if err := write(); err != nil {
			return 0, nil, err
		}
	}
	return len(nums), nil, nil
}

func lockHead(tx *db.Tx, org id.ID) (size int64, err error) {
	lock := tx.Pick(
		"SELECT size FROM ledger_heads WHERE org_id = ?", // BEGIN IMMEDIATE holds the whole file
		"SELECT size FROM ledger_heads WHERE org_id = ? FOR UPDATE",
	)
	err = tx.Row(lock, org).Scan(&size)
	if !errors.Is(err, sql.ErrNoRows) {
		return size, err
	}
	if _, err := tx.Exec(`INSERT INTO ledger_heads (org_id, size, checkpoint_size, checkpoint_at)
		VALUES (?, 0, 0, 0) ON CONFLICT (org_id) DO NOTHING`, org); err != nil {
		return 0, err
	}
	return size, tx.Row(lock, org).Scan(&size)
}

func unplaced(tx *db.Tx, org id.ID, limit int) (nums []int64, hashes []tlog.Hash, err error) {
	rows, err := tx.Query(`SELECT u.num, e.leaf FROM ledger_unplaced u
		JOIN ledger_entries e ON e.num = u.num AND e.org_id = u.org_id
		WHERE u.org_id = ? ORDER BY u.num LIMIT ?`, org, limit)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	var leaf sql.RawBytes
	for rows.Next() {
		var num int64
		if err := rows.Scan(&num, &leaf); err != nil {
			return nil, nil, err
		}
		nums, hashes = append(nums, num), append(hashes, tlog.RecordHash(leaf))
	}
	return nums, hashes, rows.Err()
}

// numbers writes a list in the form that both engines unpack in one statement.
func numbers(nums []int64) string {
	b := []byte{'['}
	for i, n := range nums {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, n, 10)
	}
	return string(append(b, ']'))
}

func insertPositions(tx *db.Tx, org id.ID, size int64, list string) error {
	_, err := tx.Exec(tx.Pick(
		`INSERT INTO ledger_positions (org_id, seq, num) SELECT ?, ? + key, value FROM json_each(?)`,
		`INSERT INTO ledger_positions (org_id, seq, num) SELECT ?::bytea, ?::bigint + i - 1, v::bigint
			FROM json_array_elements_text(?::json) WITH ORDINALITY AS u (v, i)`,
	), org, size, list)
	return err
}

func deleteUnplaced(tx *db.Tx, org id.ID, list string, want int) error {
	n, err := tx.Exec(tx.Pick(
		`DELETE FROM ledger_unplaced WHERE org_id = ? AND num IN (SELECT value FROM json_each(?))`,
		`DELETE FROM ledger_unplaced WHERE org_id = ? AND num IN (SELECT v::bigint FROM json_array_elements_text(?::json) AS u (v))`,
	), org, list)
	if err == nil && n != int64(want) {
		return errors.New("entries were placed by somebody else behind the lock")
	}
	return err
}

func setSize(tx *db.Tx, org id.ID, from, to int64) error {
	n, err := tx.Exec("UPDATE ledger_heads SET size = ? WHERE org_id = ? AND size = ?", to, org, from)
	if err == nil && n != 1 {
		return errors.New("a head moved behind the lock")
	}
	return err
}
