package db

import (
	"context"
	"fmt"
)

// SweepRows is about how many rows one transaction deletes that nobody waits
// for: few enough that those who wait for it on SQLite do not notice.
const SweepRows = 1000

// Sweep deletes the rows of a table, of all organizations, that a condition
// holds for: some in each transaction. key is the table's primary key. The
// condition must have an index.
func (d *DB) Sweep(ctx context.Context, table, key, condition string, args ...any) error {
	text := d.sweeping(table, key, condition)
	for n := int64(SweepRows); n == SweepRows; {
		if err := d.WriteAlone(ctx, System, func(tx *Tx) (err error) {
			n, err = tx.Exec(text, args...)
			return err
		}); err != nil {
			return fmt.Errorf("sweep %s: %w", table, err)
		}
	}
	return nil
}

// sweeping is the statement of one transaction. On PostgreSQL a row that is
// written meanwhile is left to the next sweep.
func (d *DB) sweeping(table, key, condition string) string {
	return fmt.Sprintf(d.Pick(
		"DELETE FROM %[1]s WHERE (%[2]s) IN (SELECT %[2]s FROM %[1]s WHERE %[3]s LIMIT %[4]d)",
		"DELETE FROM %[1]s WHERE ctid = ANY (ARRAY(SELECT ctid FROM %[1]s WHERE %[3]s LIMIT %[4]d FOR UPDATE SKIP LOCKED))",
	), table, key, condition, SweepRows)
}
