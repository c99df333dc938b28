// Package job runs periodic tasks, each on one node at a time, under a lease
// row in the database.
//
//	          lease free or expired
//	┌───────┐ ─────────────────────► ┌─────────┐  due or poked   ┌─────────┐
//	│ apart │                        │ leading │ ──────────────► │ running │
//	└───────┘ ◄───────────────────── └─────────┘ ◄────────────── └─────────┘
//	          lease lost, no database                  done
//
// Invariants:
//   - The lease saves work and nothing more. Two runners can believe for a
//     while that they lead (one was suspended, a clock jumped), so what a task
//     does must be right when done twice at once.
//   - Leases are kept in the database's time; nodes need not agree on clocks.
//   - A run that dies leaves its lease to expire; one that stops gives it back.
//   - A task that fails is tried again, later each time, and a task that panics
//     has failed. Neither ends the runner.
//   - Of what went wrong only the fault's text, or the error's type, is logged.
package job

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
)

// Task is work that is done again and again.
type Task struct {
	Name string
	// Every is the time between two runs.
	Every time.Duration
	// Rest is the least time between two runs when the task is poked. 0 means a
	// tenth of Every, and no more than a second.
	Rest time.Duration
	Do   func(ctx context.Context) error
}

// Deps are what a Runner works with.
type Deps struct {
	DB    *db.DB
	Clock clock.Clock
	Log   *slog.Logger
	Run   id.ID // this run of this node: the owner of its leases
	// Alone says that no other run lives, so that leases which a killed one
	// left need not expire first.
	Alone bool
}

// Runner runs the tasks that this node leads.
type Runner struct {
	d Deps

	mu      sync.Mutex
	workers map[string]*worker
	bad     error // of Add
	started bool
	stopped bool
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

// New makes a runner without tasks.
func New(d Deps) *Runner { return &Runner{d: d, workers: map[string]*worker{}} }

// Add takes a task, before Start.
func (r *Runner) Add(t Task) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.started:
		r.bad = errors.Join(r.bad, fmt.Errorf("job %q is added after the start", t.Name))
	case t.Name == "" || t.Every <= 0 || t.Do == nil:
		r.bad = errors.Join(r.bad, fmt.Errorf("job %q has no name, no interval or nothing to do", t.Name))
	case r.workers[t.Name] != nil:
		r.bad = errors.Join(r.bad, fmt.Errorf("job %q is there twice", t.Name))
	default:
		if t.Rest <= 0 {
			t.Rest = min(t.Every/10, time.Second)
		}
		r.workers[t.Name] = &worker{Task: t, d: r.d, lease: min(max(3*t.Every, leaseLeast), leaseMost), poke: make(chan struct{}, 1)}
	}
}

// Start begins to run the tasks and returns. They end with ctx or Stop.
func (r *Runner) Start(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bad != nil {
		return r.bad
	}
	if r.started || r.stopped {
		return errors.New("jobs were started or stopped before")
	}
	if r.d.Run.IsZero() {
		return errors.New("jobs need the id of this run")
	}
	if r.d.Alone {
		if err := r.d.DB.Write(ctx, db.System, func(tx *db.Tx) error {
			_, err := tx.Exec("DELETE FROM job_leases WHERE owner <> ?", r.d.Run)
			return err
		}); err != nil {
			return fmt.Errorf("free the leases of dead runs: %w", err)
		}
	}
	r.started = true
	ctx, r.cancel = context.WithCancel(ctx)
	for _, w := range r.workers {
		r.wg.Go(func() { w.work(ctx) })
	}
	return nil
}

// Stop ends the tasks, waits for the ones that run and gives the leases back.
// It may be called more than once.
func (r *Runner) Stop() {
	r.mu.Lock()
	r.stopped = true
	if r.cancel != nil {
		r.cancel()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

// Poke has a task run soon, if this node leads it, and returns at once. Pokes
// that come while it runs make it run once more.
func (r *Runner) Poke(name string) {
	r.mu.Lock()
	w := r.workers[name]
	r.mu.Unlock()
	if w == nil {
		return
	}
	select {
	case w.poke <- struct{}{}:
	default: // one is waiting already
	}
}
