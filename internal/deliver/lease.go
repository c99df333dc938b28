package deliver

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/spool"
)

// lease is this run's claim to be alive: one row, renewed in database time.
// Its own doubt is measured on the local clock and begins well before others
// may take over.
type lease struct {
	db     *db.DB
	clock  clock.Clock
	node   string
	length time.Duration
	log    *slog.Logger

	mu      sync.Mutex
	id      id.ID
	renewed time.Time
}

func (l *lease) run() id.ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.id
}

// good reports whether nobody else can have taken over yet.
func (l *lease) good() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.id.IsZero() && l.clock.Now().Sub(l.renewed) < l.length/2
}

// register begins a new run.
func (l *lease) register(ctx context.Context) error {
	run, began := id.New(), l.clock.Now()
	err := l.db.WriteAlone(ctx, db.System, func(tx *db.Tx) error {
		now, err := tx.Now()
		if err != nil {
			return err
		}
		_, err = tx.Exec("INSERT INTO deliver_runs (id, node, heartbeat_at) VALUES (?, ?, ?)", run, l.node, now)
		return err
	})
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.id, l.renewed = run, began
	return nil
}

// renew extends the lease. A run whose row is gone was taken for dead: it
// begins anew under another identity, and what it held in memory is fenced off.
func (l *lease) renew(ctx context.Context) error {
	run, began := l.run(), l.clock.Now()
	var n int64
	err := l.db.Write(ctx, db.System, func(tx *db.Tx) error {
		now, err := tx.Now()
		if err != nil {
			return err
		}
		n, err = tx.Exec("UPDATE deliver_runs SET heartbeat_at = ? WHERE id = ?", now, run)
		return err
	})
	if err != nil {
		return err
	}
	if n == 0 {
		l.log.Warn("this run was taken for dead; beginning a new one", "run", run.Text(id.Run))
		return l.register(ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewed = began
	return nil
}

// dead lists runs that have not renewed their lease; with alone, all others.
func (l *lease) dead(ctx context.Context, alone bool) (runs []id.ID, err error) {
	err = l.db.Read(ctx, db.System, func(tx *db.Tx) error {
		runs = nil
		now, err := tx.Now()
		if err != nil {
			return err
		}
		before := now - l.length.Microseconds()
		if alone {
			before = now + 1
		}
		rows, err := tx.Query("SELECT id FROM deliver_runs WHERE heartbeat_at < ? AND id <> ?", before, l.run())
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var r id.ID
			if err := rows.Scan(&r); err != nil {
				return err
			}
			runs = append(runs, r)
		}
		return rows.Err()
	})
	return runs, err
}

// bury removes a dead run that holds nothing any more.
func (l *lease) bury(ctx context.Context, run id.ID) error {
	return l.db.Write(ctx, db.System, func(tx *db.Tx) error {
		_, err := tx.Exec("DELETE FROM deliver_runs WHERE id = ?", run)
		return err
	})
}

// leave ends this run in order: whatever it still owns and has not begun is
// free for others at once.
func (l *lease) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := l.giveBack(ctx); err != nil {
		l.log.Warn("this run's deliveries wait for its lease to end", "error", err)
	}
}

func (l *lease) giveBack(ctx context.Context) error {
	run := l.run()
	return l.db.WriteAlone(ctx, db.System, func(tx *db.Tx) error {
		if err := spool.Release(tx, run); err != nil {
			return err
		}
		left, err := spool.Abandoned(tx, run, 1)
		if err != nil || len(left) > 0 {
			return err
		}
		_, err = tx.Exec("DELETE FROM deliver_runs WHERE id = ?", run)
		return err
	})
}

// keepLease renews the lease and looks for dead runs.
func (e *Engine) keepLease() {
	defer e.loops.Done()
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-e.Clock.After(e.lease.length / 5):
		}
		if err := e.lease.renew(e.ctx); err != nil && e.ctx.Err() == nil {
			e.Log.Error("the lease of this run could not be renewed; nothing is sent while it is in doubt", "error", err)
			continue
		}
		if e.Alone {
			continue
		}
		if err := e.takeOver(e.ctx); err != nil && e.ctx.Err() == nil {
			e.Log.Warn("work of a dead run could not be taken over yet", "error", err)
		}
	}
}
