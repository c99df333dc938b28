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
//   - Mail from outside is relayed as it came, for domains that have a route and
//     to no other host. Nothing of ours is put on it: neither keys nor signatures
//     nor return paths, and no list keeps it back.
//   - Memory is bounded: what does not fit waits in the database, where it is
//     found by lines (lane, domain, organization) at a cost per line. One domain
//     holds no more in memory than it takes in some seconds, and little while it
//     is unproven; bulk mail holds half of anything at most. Notices have a
//     window and connections of their own.
//   - Connections that make progress are bounded apart from those that wait
//     for a peer, so that silent hosts hold up nobody else.
//   - Within a domain lanes go in order and organizations take turns; one item
//     of eight is bulk, if there is any.
//   - A site is left alone when its Governor says so (package shaping). What
//     waits for it is put off without an attempt, but never beyond its expiry
//     or the age at which its sender is told. Notices are tried all the same.
//   - Whatever this run owns is in its memory or given back: an item that is
//     popped ends with an outcome or with GiveBack, and both are tried until
//     the database takes them; an outcome that it never takes is recorded
//     without what the peer said. What slips through all the same (a commit whose
//     answer was lost) is found by reconcile.
//   - A run is buried before its work is taken over, in database time. A run
//     that comes late finds its row gone, begins anew under another identity
//     and lets go of what it held.
package deliver

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/sealpost/sealpost/internal/blob"
	"github.com/sealpost/sealpost/internal/bounce/classify"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/deliver/smtpclient"
	"github.com/sealpost/sealpost/internal/dkim"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/identity"
	"github.com/sealpost/sealpost/internal/keyring"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/partner"
	"github.com/sealpost/sealpost/internal/pickup"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/pool"
	"github.com/sealpost/sealpost/internal/posture"
	"github.com/sealpost/sealpost/internal/seal"
	"github.com/sealpost/sealpost/internal/shaping"
	"github.com/sealpost/sealpost/internal/spool"
)

// Config bounds the engine.
type Config struct {
	Node           string // for people: the host name
	Concurrency    int    // connections for messages, and as many again for notices
	PerDestination int    // connections to one domain
	RetryMin       time.Duration
	RetryMax       time.Duration
	ExpireAfter    time.Duration // the life of messages whose senders set none; 0 for 48 h
	NoTLSAfter     time.Duration // how long a delivery looks for a private transport before it fails for want of one; 0 for 4 h
	DelayAfter     time.Duration // an attempt falls on this age, since the sender is told then; 0 for none
	Window         int           // deliveries in memory; 0 stands for 50,000
	Bodies         int64         // octets of bodies kept between acceptance and attempt; 0 for 64 MiB
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
	// Keys looks for the keys of a recipient. An error means that not even what
	// is known could be read. nil: nobody has any.
	Keys func(ctx context.Context, org id.ID, recipient mail.Address) (keyring.Found, error)
	// Signer gives the keys that mail of an address is signed with. nil: nobody
	// has any.
	Signer func(ctx context.Context, org id.ID, sender mail.Address) (identity.Signing, error)
	// DKIM gives what signs for a domain of an organization. nil: mail goes
	// without signatures of domains.
	DKIM func(ctx context.Context, org id.ID, domain string) ([]dkim.Signer, error)
	// ReturnPath gives the envelope sender of a delivery in place of the
	// message's, or that one. nil: always that one.
	ReturnPath func(ctx context.Context, org id.ID, sender mail.Address, delivery id.ID) (mail.Address, error)
	// Suppressed gives the reason for which nothing is sent to an address now,
	// or "". nil: there never is one.
	Suppressed func(ctx context.Context, org id.ID, to mail.Address, bulk bool) (reason string, err error)
	// Refused is told of a delivery that ended because a peer said no, in the
	// transaction that records it. nil: nobody asks.
	Refused func(tx *db.Tx, to mail.Address, delivery id.ID, class classify.Class, hard bool) error
	// Route gives where the mail of a domain goes by the word of its own
	// organization, in place of its public mail hosts. nil: no domain has one.
	Route func(ctx context.Context, domain string) (r Route, found bool, err error)
	// OrgName is the organization as recipients know it.
	OrgName func(ctx context.Context, org id.ID) (string, error)
	// Partner gives what the organization has arranged with a domain. nil:
	// nothing.
	Partner func(ctx context.Context, org id.ID, domain string) (partner.Terms, error)
	// Shape gives the site of a domain, by its mail hosts too, and its limits.
	// nil: each domain is one, with PerDestination connections.
	Shape func(domain string, mx []string) shaping.Site
	// Source says where a message leaves from. An error of kind TooMany puts it
	// off. nil: from wherever the system likes.
	Source func(ctx context.Context, org id.ID, stream, site string) (pool.Source, error)
	// Told hears what came of a message for which Source was asked. It must not
	// wait for anything. nil: nobody counts.
	Told func(pool, site string, r pool.Result)
	// TLSResult is told of each TLS session with a mail host, and of each that
	// could not be had. It must not wait for anything. nil: nobody asks.
	TLSResult func(ctx context.Context, r TLSResult)
	// Tracer follows attempts; nil: none are followed.
	Tracer trace.Tracer
	// Figures counts. nil: nobody does.
	Figures *Figures
	// Link gives the portal link of a delivery, the same each time.
	Link func(tx *db.Tx, key *custody.DataKey, d spool.Delivery, now time.Time) (pickup.Link, error)
}

const (
	defaultWindow = 50_000
	defaultLease  = 15 * time.Second
	takeEvery     = time.Second
	idleFor       = 2 * time.Second // an unused connection is kept this long
	defaultBodies = 64 << 20
	defaultNoTLS  = 4 * time.Hour
	defaultLife   = 48 * time.Hour
	noTLSTimes    = 3               // attempts that must have found no private transport
	noticeWindow  = 1000            // notices in memory
	sweepEvery    = time.Minute     // between looks for what nobody works on
	lastWords     = 5 * time.Second // for outcomes of attempts that Stop broke off
)

// Engine is the delivery side of one node. Make one with New.
type Engine struct {
	Deps
	lease   *lease
	batches shared[method, batch]
	signed  shared[stamp, signedCopy]            // messages with their sender's signature
	stamps  shared[stamp, *seal.DomainSignature] // of the other messages

	mu      sync.Mutex
	queues  map[string]*queue  // by recipient domain
	busy    map[id.ID]struct{} // items that a worker has
	held    int                // deliveries reserved or in memory
	notices int                // notices in memory
	bytes   int64              // of bodies that came with them
	bulk    int                // of held

	sites   map[siteKey]*site
	blocked map[*queue]struct{}     // wait for a time
	lines   map[spool.Line]struct{} // with due deliveries in the database
	hungry  []*queue                // can take more of what is due
	starved map[*queue]struct{}     // could have, but for something that passes
	trickle int                     // deliveries that may be taken for sites that are left alone
	full    bool                    // memory was, when something was due
	tidied  time.Time

	slots     *slots        // connections for messages
	express   *slots        // connections for notices
	strangers chan struct{} // domains that nothing is known of, while that changes
	live      atomic.Int32
	resting   int // idle workers, each with a connection
	unproven  int // of held, for domains that have not taken anything

	lookedAt, scanAt time.Time // of takeDue alone

	ctx     context.Context
	stop    context.CancelFunc
	settle  context.Context // ends a little later, so that outcomes are recorded
	giveUp  context.CancelFunc
	wake    chan struct{} // look for what is due
	more    chan struct{} // there is room for what is known to be due
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
	if d.Bodies == 0 {
		d.Bodies = defaultBodies
	}
	if d.ExpireAfter == 0 {
		d.ExpireAfter = defaultLife
	}
	if d.NoTLSAfter == 0 {
		d.NoTLSAfter = defaultNoTLS
	}
	if d.Lease == 0 {
		d.Lease = defaultLease
	}
	if d.Keys == nil {
		d.Keys = func(context.Context, id.ID, mail.Address) (keyring.Found, error) { return keyring.Found{}, nil }
	}
	if d.Signer == nil {
		d.Signer = func(context.Context, id.ID, mail.Address) (identity.Signing, error) { return identity.Signing{}, nil }
	}
	if d.Shape == nil {
		d.Shape = func(domain string, _ []string) shaping.Site {
			return shaping.Site{Name: domain, Connections: d.PerDestination}
		}
	}
	if d.Tracer == nil {
		d.Tracer = noop.NewTracerProvider().Tracer("")
	}
	if d.DKIM == nil {
		d.DKIM = func(context.Context, id.ID, string) ([]dkim.Signer, error) { return nil, nil }
	}
	return &Engine{
		batches: shared[method, batch]{limit: batchMemory, bytes: func(b batch) int64 { return b.Bytes() }},
		signed:  shared[stamp, signedCopy]{limit: signedMemory, bytes: func(s signedCopy) int64 { return s.octets }},
		stamps:  shared[stamp, *seal.DomainSignature]{limit: stampMemory, bytes: (*seal.DomainSignature).Bytes},
		Deps:    d, queues: map[string]*queue{}, busy: map[id.ID]struct{}{},
		slots: newSlots(d.Concurrency), express: newSlots(d.Concurrency), strangers: make(chan struct{}, strangersMost),
		sites: map[siteKey]*site{}, blocked: map[*queue]struct{}{}, lines: map[spool.Line]struct{}{}, starved: map[*queue]struct{}{},
		wake: make(chan struct{}, 1), more: make(chan struct{}, 1), drain: make(chan struct{}),
		lease: &lease{db: d.DB, clock: d.Clock, node: d.Node, length: d.Lease, log: d.Log},
	}
}

// Start registers this run, takes over what dead runs left and begins to
// deliver. It returns once the run is registered.
func (e *Engine) Start(ctx context.Context) error {
	e.ctx, e.stop = context.WithCancel(context.WithoutCancel(ctx))
	e.settle, e.giveUp = context.WithCancel(context.WithoutCancel(ctx))
	if err := e.lease.register(ctx); err != nil {
		return err
	}
	if _, err := e.lease.bury(ctx, e.Alone); err != nil {
		return err
	}
	if err := e.takeOver(ctx); err != nil {
		return err
	}
	e.loops.Add(3)
	go e.keepLease()
	go e.tellStats()
	go e.takeDue()
	return nil
}

// Stop lets attempts under way finish until ctx ends, then breaks them off,
// and gives back what was not attempted.
func (e *Engine) Stop(ctx context.Context) {
	if e.stop == nil {
		return
	}
	e.mu.Lock() // no worker begins behind Wait's back
	e.closing.Do(func() { close(e.drain) })
	e.mu.Unlock()
	done := make(chan struct{})
	go func() { e.work.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		e.stop()
		timer := time.AfterFunc(lastWords, e.giveUp)
		<-done
		timer.Stop()
	}
	e.stop()
	e.giveUp()
	e.loops.Wait()
	e.lease.leave()
}

// Run is the identity under which this engine owns deliveries.
func (e *Engine) Run() id.ID { return e.lease.run() }

// Reserve makes room in memory for deliveries about to be accepted and gives
// the run that will own them, or zero when they must wait in the database:
// memory is full, or holds enough for one of their domains.
func (e *Engine) Reserve(items []spool.Item) id.ID {
	if len(items) == 0 || !e.lease.good() || e.draining() {
		return id.ID{}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.Clock.Now()
	for i, it := range items {
		q, l := e.queue(it.Domain), it.Line()
		if e.windowRoom(q, it.Lane.Stream()) == 0 || q.room(l, now) == 0 || len(q.due) > 0 && !q.proven {
			e.uncount(items[:i])
			return id.ID{}
		}
		e.count(q, l, 1)
	}
	return e.lease.run()
}

func (e *Engine) uncount(items []spool.Item) {
	for _, it := range items {
		e.count(e.queue(it.Domain), it.Line(), -1)
	}
}

// Push hands over what was accepted of a reservation, all of it or nothing.
// Each item names the run that Reserve gave; with none it waits in the
// database, and the engine hears that it is there.
func (e *Engine) Push(run id.ID, reserved []spool.Item, work []spool.Work) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if run.IsZero() {
		for _, w := range work {
			e.note(w.Line())
		}
		return
	}
	if len(work) == 0 {
		e.uncount(reserved)
		return
	}
	for _, w := range work {
		if e.bytes+w.Bytes() > e.Bodies {
			w = spool.Work{Item: w.Item, Run: w.Run} // read again when its turn comes
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

// Fit reports whether this run may send: its lease is not in doubt.
func (e *Engine) Fit() bool { return e.lease.good() }

// Depth tells how many items are in memory.
func (e *Engine) Depth() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.held + e.notices
}

func (e *Engine) draining() bool {
	select {
	case <-e.drain:
		return true
	default:
		return false
	}
}

// takeOver frees what belongs to runs that no longer live.
func (e *Engine) takeOver(ctx context.Context) error {
	dead, err := e.lease.orphans(ctx)
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
			return nil
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
