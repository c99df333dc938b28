package job

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
)

// releaseWait bounds how long a stopping runner waits for its database.
const releaseWait = 5 * time.Second

// acquire takes the lease or makes it longer; ok says whether this run has it.
func (w *worker) acquire(ctx context.Context) (ok bool, err error) {
	asked := w.d.Clock.Now()
	if !w.held {
		// Looking costs no commit, and others look again and again.
		if taken, err := w.taken(ctx); err != nil || taken {
			return false, err
		}
	}
	var rows int64 // its own variable: when ctx ends, the write may outlive this call
	err = w.d.DB.Write(ctx, db.System, func(tx *db.Tx) error {
		now, err := tx.Now()
		if err != nil {
			return err
		}
		rows, err = tx.Exec(`INSERT INTO job_leases (name, owner, expires_at, done_at, every) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at, every = excluded.every,
				done_at = CASE WHEN excluded.done_at > 0 THEN excluded.done_at ELSE job_leases.done_at END
			WHERE job_leases.owner = excluded.owner OR job_leases.expires_at <= ?`,
			w.Name, w.d.Run, now+w.lease.Microseconds(), w.doneAt.Load(), w.Every.Microseconds(), now)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("lease of %s: %w", w.Name, err)
	}
	if rows == 1 {
		w.held, w.renewAt = true, asked.Add(w.lease/3)
	}
	return rows == 1, nil
}

// taken reports whether another run holds the lease.
func (w *worker) taken(ctx context.Context) (taken bool, err error) {
	err = w.d.DB.Read(ctx, db.System, func(tx *db.Tx) error {
		now, err := tx.Now()
		if err != nil {
			return err
		}
		var owner id.ID
		var expires int64
		err = tx.Row("SELECT owner, expires_at FROM job_leases WHERE name = ?", w.Name).Scan(&owner, &expires)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		taken = owner != w.d.Run && expires > now
		return err
	})
	return taken, err
}

// release gives the lease back, so that another node goes on at once.
func (w *worker) release(ctx context.Context) {
	if !w.held {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseWait)
	defer cancel()
	// Where this fails, the lease expires.
	_ = w.d.DB.Write(ctx, db.System, func(tx *db.Tx) error {
		_, err := tx.Exec("DELETE FROM job_leases WHERE name = ? AND owner = ?", w.Name, w.d.Run)
		return err
	})
}
