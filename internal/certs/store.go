package certs

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
)

// stored gives what was kept, with the time it was fetched. A database that
// cannot be read is as good as an empty one: it is asked outside again.
func (j *Judge) stored(ctx context.Context, k key, kind string, now time.Time) (data []byte, fetched time.Time, ok bool) {
	var at int64
	err := j.deps.DB.Read(ctx, db.System, func(tx *db.Tx) error {
		return tx.Row("SELECT data, fetched_at FROM certs_revocations WHERE id = ? AND kind = ? AND until > ?",
			k[:], kind, clock.Micros(now)).Scan(&data, &at)
	})
	if err != nil {
		if !errors.Is(err, sql.ErrNoRows) {
			j.deps.Log.Warn("What is known of revoked certificates cannot be read", "error", err)
		}
		return nil, time.Time{}, false
	}
	return data, clock.FromMicros(at), true
}

// store keeps what was fetched, and drops what nobody may believe any more.
func (j *Judge) store(ctx context.Context, k key, kind string, data []byte, now, until time.Time) {
	err := j.deps.DB.Write(ctx, db.System, func(tx *db.Tx) error {
		// A few at a time: CRLs are large, and other writes wait for it.
		if _, err := tx.Exec("DELETE FROM certs_revocations WHERE id IN (SELECT id FROM certs_revocations WHERE until <= ? LIMIT 10)", clock.Micros(now)); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO certs_revocations (id, kind, data, fetched_at, until) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET data = excluded.data, fetched_at = excluded.fetched_at, until = excluded.until`,
			k[:], kind, data, clock.Micros(now), clock.Micros(until))
		return err
	})
	if err != nil {
		j.deps.Log.Warn("What was learned of revoked certificates cannot be stored", "error", err)
	}
}
