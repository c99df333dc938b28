package job

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/fault"
)

// A lease lasts three intervals within these bounds and is renewed after a
// third of its time, so one lost renewal does not lose it.
const (
	leaseLeast = 10 * time.Second
	leaseMost  = time.Minute
)

// What fails is tried again after a second, then after twice as long each
// time, up to a minute or the task's own interval.
const (
	backoffLeast = time.Second
	backoffMost  = time.Minute
)

// worker runs one task in a goroutine of its own.
type worker struct {
	Task
	d     Deps
	lease time.Duration
	poke  chan struct{}

	held     bool
	renewAt  time.Time
	next     time.Time // when it is due
	soonest  time.Time // when it may run if it is poked
	poked    bool
	failures int

	doneAt atomic.Int64 // microseconds since 1970; 0 for not yet
	bad    atomic.Int64 // runs that failed
}

func (w *worker) work(ctx context.Context) {
	defer w.release(ctx)
	for ctx.Err() == nil {
		now := w.d.Clock.Now()
		w.bound(now)
		switch {
		case !w.held:
			w.join(ctx)
		case !now.Before(w.renewAt):
			w.renew(ctx)
		case !now.Before(w.next), w.poked && !now.Before(w.soonest):
			w.run(ctx)
		default:
			w.rest(ctx, now)
		}
	}
}

// bound keeps what is to come no further away than it can be: where the clock
// was set back, nothing waits until it has caught up.
func (w *worker) bound(now time.Time) {
	bound := func(at *time.Time, most time.Duration) {
		if last := now.Add(most); at.After(last) {
			*at = last
		}
	}
	bound(&w.renewAt, w.lease/3)
	bound(&w.next, max(w.Every, backoffMost))
	bound(&w.soonest, max(w.Every, backoffMost))
}

// join asks for the lease, and waits a while if another run has it.
func (w *worker) join(ctx context.Context) {
	ok, err := w.acquire(ctx)
	pause := min(w.Every, w.lease/2)
	switch {
	case err != nil:
		w.failed(ctx, err)
		pause = w.backoff()
	case ok:
		w.next = w.d.Clock.Now() // what the last leader left undone is not known
		return
	}
	select {
	case <-ctx.Done():
	case <-w.d.Clock.After(pause):
	}
}

func (w *worker) renew(ctx context.Context) {
	ok, err := w.acquire(ctx)
	if err != nil {
		w.failed(ctx, err)
	}
	w.held = ok && err == nil
}

func (w *worker) rest(ctx context.Context, now time.Time) {
	until, poke := w.next, w.poke
	if w.poked {
		poke = nil
		if w.soonest.Before(until) {
			until = w.soonest
		}
	}
	if w.renewAt.Before(until) {
		until = w.renewAt
	}
	select {
	case <-ctx.Done():
	case <-poke:
		w.poked = true
	case <-w.d.Clock.After(until.Sub(now)):
	}
}

// run does the task once and keeps the lease meanwhile.
func (w *worker) run(ctx context.Context) {
	w.poked = false
	doing, cancel := context.WithCancel(ctx)
	var keeping sync.WaitGroup
	keeping.Go(func() { w.keep(doing, cancel) })
	err := w.do(doing)
	cancel()
	keeping.Wait()

	now := w.d.Clock.Now()
	if err != nil {
		w.failed(ctx, err)
		w.next = now.Add(w.backoff())
		w.soonest = w.next
		return
	}
	w.failures = 0
	w.doneAt.Store(clock.Micros(now))
	w.next, w.soonest = now.Add(w.Every), now.Add(w.Rest)
}

// keep renews the lease until ctx ends. A task that outlives its lease is
// asked to stop.
func (w *worker) keep(ctx context.Context, stop context.CancelFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.d.Clock.After(w.lease / 3):
		}
		if ok, err := w.acquire(ctx); err == nil && !ok {
			w.held = false
			stop()
			return
		}
	}
}

func (w *worker) do(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			// The value could hold content; the stack shows none.
			w.d.Log.Error("a periodic task panicked", "task", w.Name, "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = fault.New(fault.Internal, "task_panicked", "The task ended by a defect of ours.")
		}
	}()
	return w.Do(ctx)
}

func (w *worker) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return // it was told to end
	}
	w.failures++
	w.bad.Add(1)
	args := []any{"task", w.Name, "failures", w.failures, "again_in", w.backoff()}
	var f *fault.Fault
	if errors.As(err, &f) {
		args = append(args, "reason", f.Reason, "text", f.Text)
	} else {
		args = append(args, "error", fmt.Sprintf("%T", innermost(err)))
	}
	w.d.Log.Error("a periodic task failed", args...)
}

func innermost(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

func (w *worker) backoff() time.Duration {
	wait := backoffLeast
	for range min(w.failures, 20) - 1 {
		wait *= 2
	}
	return min(wait, max(w.Every, backoffMost))
}
