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
	since := l.clock.Now().Sub(l.renewed) // less than nothing where the clock was set back
	return !l.id.IsZero() && since >= 0 && since < l.length/2
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

// bury removes runs that have not renewed their lease, all others with alone,
// and gives their number. From then on nothing they own can be begun by them:
// their own doubt began long before, and renewing fails.
func (l *lease) bury(ctx context.Context, alone bool) (n int64, err error) {
	err = l.db.Write(ctx, db.System, func(tx *db.Tx) error {
		now, err := tx.Now()
		if err != nil {
			return err
		}
		before := now - l.length.Microseconds()
		if alone {
			before = now + 1
		}
		n, err = tx.Exec("DELETE FROM deliver_runs WHERE heartbeat_at < ? AND id <> ?", before, l.run())
		return err
	})
	return n, err
}

// orphans lists the runs that own something and do not live. A run is
// registered before it owns anything, so the owners are read first.
func (l *lease) orphans(ctx context.Context) (runs []id.ID, err error) {
	err = l.db.Read(ctx, db.System, func(tx *db.Tx) error {
		owners, err := spool.Owners(tx)
		if err != nil {
			return err
		}
		runs = nil
		for _, run := range owners {
			var n int
			if err := tx.Row("SELECT count(*) FROM deliver_runs WHERE id = ?", run).Scan(&n); err != nil {
				return err
			}
			if n == 0 {
				runs = append(runs, run)
			}
		}
		return nil
	})
	return runs, err
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

// keepLease renews the lease, looks for dead runs and, now and then, for what
// nobody works on.
func (e *Engine) keepLease() {
	defer e.loops.Done()
	sweep := e.Clock.Now().Add(sweepEvery)
	var strays map[id.ID]bool
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-e.Clock.After(e.lease.length / 5):
		}
		if err := e.lease.renew(e.ctx); err != nil {
			if e.ctx.Err() == nil {
				e.Log.Error("the lease of this run could not be renewed; nothing is sent while it is in doubt", "error", err)
			}
			continue
		}
		e.countNodes()
		buried, err := e.buryDead()
		left := sweep.Sub(e.Clock.Now())
		due := left <= 0 || left > sweepEvery // the clock was set back
		if err == nil && (buried || due) {
			err = e.takeOver(e.ctx)
		}
		if err == nil && due {
			strays, err = e.reconcile(e.ctx, strays)
			sweep = e.Clock.Now().Add(sweepEvery)
		}
		if err != nil && e.ctx.Err() == nil {
			e.Log.Warn("work that nobody does could not be taken over yet", "error", err)
			sweep = e.Clock.Now() // a buried run's work must not wait for a minute
		}
	}
}

// countNodes counts the runs that share what a site allows.
func (e *Engine) countNodes() {
	var n int32
	if err := e.DB.Read(e.ctx, db.System, func(tx *db.Tx) error {
		return tx.Row("SELECT count(*) FROM deliver_runs").Scan(&n)
	}); err == nil {
		e.live.Store(n)
	}
}

func (e *Engine) nodes() int { return max(1, int(e.live.Load())) }

func (e *Engine) buryDead() (bool, error) {
	if e.Alone {
		return false, nil
	}
	n, err := e.lease.bury(e.ctx, false)
	return n > 0, err
}

// reconcile gives back what this run owns and has not in memory: a commit of
// acceptance or of taking can succeed although its answer was lost. Something
// accepted this moment may not be in memory yet, so only what was a stray the
// last time too counts. It gives the strays of this time.
func (e *Engine) reconcile(ctx context.Context, before map[id.ID]bool) (map[id.ID]bool, error) {
	run := e.lease.run()
	var owned []spool.Item
	if err := e.DB.Read(ctx, db.System, func(tx *db.Tx) (err error) {
		owned, err = spool.Owned(tx, run)
		return err
	}); err != nil {
		return before, err
	}
	known := e.inMemory()
	strays := map[id.ID]bool{}
	for _, it := range owned {
		switch {
		case known[it.ID]:
		case !before[it.ID]:
			strays[it.ID] = true
		default:
			e.Log.Warn("an item was owned by this run and not in its memory", "item", it.ID)
			if err := e.DB.Write(ctx, it.Org, func(tx *db.Tx) error { return spool.GiveBack(tx, it, run) }); err != nil {
				return before, err
			}
		}
	}
	return strays, nil
}

func (e *Engine) inMemory() map[id.ID]bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make(map[id.ID]bool, e.held+e.notices)
	for i := range e.busy {
		all[i] = true
	}
	for _, q := range e.queues {
		q.ready.each(func(w spool.Work) { all[w.ID] = true })
	}
	return all
}
