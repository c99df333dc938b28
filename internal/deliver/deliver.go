// Package deliver takes what is due, seals it and hands it to the recipient's
// mail host.
//
//	take → refresh facts → decide again within the plan → artifact (a stream)
//	     → [ start: ready → sending, delivery.sealed ]
//	     → transport at no less than the floor
//	     → [ outcome, delivery.attempted, delivery.<state> ]
//
// Invariants:
//   - No row, no attempt: an attempt begins with moving the delivery from
//     ready to sending under this run's ownership, and a run whose own lease
//     is doubtful stops before it sends anything.
//   - A transport that proves weaker than the floor is never used; the plan's
//     next seal is taken instead. An error of any kind defers or fails; it
//     never weakens.
//   - Mail for one recipient domain is bound to that domain's policy: a
//     connection is opened for a domain and a floor and serves nothing else.
//   - Codes and DSNs go ahead of all other mail.
//   - Memory is bounded: what does not fit waits in the database.
package deliver

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/blob"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/deliver/smtpclient"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/pickup"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/posture"
	"github.com/sealpost/sealpost/internal/spool"
)

// Config bounds the engine.
type Config struct {
	Node           string // for people: the host name
	Concurrency    int    // connections in all
	PerDestination int    // connections to one domain
	RetryMin       time.Duration
	RetryMax       time.Duration
	Window         int           // deliveries in memory; 0 stands for 20,000
	Lease          time.Duration // how long a silent run counts as alive; 0 for 15 s
	// Alone says that no other run can be alive: SQLite's folder is locked.
	Alone    bool
	SMTPPort int
}

// Deps are what the engine needs.
type Deps struct {
	Config
	DB      *db.DB
	Custody *custody.Custody
	Blob    *blob.Store
	Posture *posture.Service
	SMTP    smtpclient.Deps
	Clock   clock.Clock
	Log     *slog.Logger
	// Policy gives an organization's policy of today.
	Policy func(ctx context.Context, org id.ID) (doc policy.Document, version int64, err error)
	// OrgName is the organization as recipients know it.
	OrgName func(ctx context.Context, org id.ID) (string, error)
	// Link gives the portal link of a delivery, the same each time.
	Link func(tx *db.Tx, key *custody.DataKey, d spool.Delivery, now time.Time) (pickup.Link, error)
}

const (
	defaultWindow = 20_000
	defaultLease  = 15 * time.Second
	takeEvery     = time.Second
	idleFor       = 2 * time.Second // an unused connection is kept this long
	bodyMemory    = 64 << 20        // bodies kept in memory between acceptance and attempt
)

// Engine is the delivery side of one node. Make one with New.
type Engine struct {
	Deps
	lease *lease

	mu     sync.Mutex
	queues map[string]*queue // by recipient domain
	held   int               // items reserved or in memory
	bytes  int64             // of bodies that came with them
	slots  chan struct{}     // connections

	ctx     context.Context
	stop    context.CancelFunc
	wake    chan struct{}
	drain   chan struct{}
	closing sync.Once
	work    sync.WaitGroup // workers
	loops   sync.WaitGroup
}

// New gives an engine that Start sets going.
func New(d Deps) *Engine {
	if d.Window == 0 {
		d.Window = defaultWindow
	}
	if d.Lease == 0 {
		d.Lease = defaultLease
	}
	return &Engine{
		Deps: d, queues: map[string]*queue{}, slots: make(chan struct{}, d.Concurrency),
		wake: make(chan struct{}, 1), drain: make(chan struct{}),
		lease: &lease{db: d.DB, clock: d.Clock, node: d.Node, length: d.Lease, log: d.Log},
	}
}

// Start registers this run, takes over what dead runs left and begins to
// deliver. It returns once the run is registered.
func (e *Engine) Start(ctx context.Context) error {
	e.ctx, e.stop = context.WithCancel(context.WithoutCancel(ctx))
	if err := e.lease.register(ctx); err != nil {
		return err
	}
	if err := e.takeOver(ctx); err != nil {
		return err
	}
	e.loops.Add(2)
	go e.keepLease()
	go e.takeDue()
	return nil
}

// Stop lets attempts under way finish until ctx ends, then breaks them off,
// and gives back what was not attempted.
func (e *Engine) Stop(ctx context.Context) {
	if e.stop == nil {
		return
	}
	e.closing.Do(func() { close(e.drain) })
	done := make(chan struct{})
	go func() { e.work.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		e.stop()
		<-done
	}
	e.stop()
	e.loops.Wait()
	e.lease.leave()
}

// Run is the identity under which this engine owns deliveries.
func (e *Engine) Run() id.ID { return e.lease.run() }

// Reserve makes room in memory for n deliveries about to be accepted and gives
// the run that will own them, or zero when they must wait in the database.
func (e *Engine) Reserve(n int) id.ID {
	if n == 0 || !e.lease.good() || e.draining() {
		return id.ID{}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.held+n > e.Window {
		return id.ID{}
	}
	e.held += n
	return e.lease.run()
}

// Push hands over what was accepted of a reservation.
func (e *Engine) Push(reserved int, work []spool.Work) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.held -= reserved - len(work)
	for _, w := range work {
		if e.bytes+w.Bytes() > bodyMemory {
			w = spool.Work{Item: w.Item} // read again when its turn comes
		}
		e.bytes += w.Bytes()
		e.enqueue(w)
	}
}

// Poke makes the engine look for due work now.
func (e *Engine) Poke() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Depth tells how many items are in memory.
func (e *Engine) Depth() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.held
}

func (e *Engine) draining() bool {
	select {
	case <-e.drain:
		return true
	default:
		return false
	}
}

// takeDue moves due work from the database into memory, each second or when
// poked, as far as there is room.
func (e *Engine) takeDue() {
	defer e.loops.Done()
	for {
		full, err := e.takeOnce()
		if err != nil && e.ctx.Err() == nil {
			e.Log.Warn("due deliveries could not be taken", "error", err)
		}
		if full {
			continue
		}
		select {
		case <-e.drain:
			return
		case <-e.wake:
		case <-e.Clock.After(takeEvery):
		}
	}
}

const takeBatch = 1000

// takeOnce takes one batch and reports whether there may be more.
func (e *Engine) takeOnce() (more bool, err error) {
	room := e.room()
	if room == 0 || !e.lease.good() || e.draining() {
		return false, nil
	}
	var notices, items []spool.Item
	err = e.DB.WriteAlone(e.ctx, db.System, func(tx *db.Tx) error {
		now := e.Clock.Now()
		if notices, err = spool.TakeNotices(tx, e.lease.run(), now, room); err != nil {
			return err
		}
		items, err = spool.Take(tx, e.lease.run(), now, room)
		return err
	})
	if err != nil {
		return false, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.held += len(notices) + len(items)
	for _, it := range append(notices, items...) {
		e.enqueue(spool.Work{Item: it})
	}
	return len(items) == room, nil
}

func (e *Engine) room() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return max(0, min(takeBatch, e.Window-e.held))
}

// takeOver frees what runs that no longer live have left.
func (e *Engine) takeOver(ctx context.Context) error {
	dead, err := e.lease.dead(ctx, e.Alone)
	if err != nil {
		return err
	}
	for _, run := range dead {
		if err := e.inherit(ctx, run); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) inherit(ctx context.Context, dead id.ID) error {
	for {
		var items []spool.Item
		err := e.DB.WriteAlone(ctx, db.System, func(tx *db.Tx) (err error) {
			if err := spool.Release(tx, dead); err != nil {
				return err
			}
			items, err = spool.Abandoned(tx, dead, takeBatch)
			return err
		})
		if err != nil {
			return err
		}
		if len(items) == 0 {
			return e.lease.bury(ctx, dead)
		}
		e.Log.Info("taking over attempts of a run that ended without an outcome", "run", dead.Text(id.Run), "attempts", len(items))
		errs := make([]error, len(items))
		var group sync.WaitGroup
		for i, it := range items {
			group.Go(func() { errs[i] = spool.TakeOver(ctx, e.DB, it, dead, e.Clock.Now()) })
		}
		group.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
}
