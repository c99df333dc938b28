package db

import "context"

// Writable reports that a write can be committed. It changes nothing, but asks
// for all that a write needs: a lane, a connection, and a database that is not
// read-only.
func (d *DB) Writable(ctx context.Context) error {
	return d.Write(ctx, System, func(tx *Tx) error {
		_, err := tx.Exec("UPDATE goose_db_version SET is_applied = is_applied WHERE id < 0")
		return err
	})
}
