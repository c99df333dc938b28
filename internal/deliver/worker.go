package deliver

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/sealpost/sealpost/internal/deliver/smtpclient"
	"github.com/sealpost/sealpost/internal/pool"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/spool"
)

// worker delivers one domain's mail, one item after the other, over one
// connection that it opens when it is needed and keeps while there is work.
// When its domain has none left it may go on with another of the same site.
type worker struct {
	e       *Engine
	q       *queue
	express bool // takes notices alone
	conn    *smtpclient.Conn
	used    bool // something was sent over conn before
	sent    int  // messages over conn
	served  int  // items of q, while others of the site wait
	settled chan struct{}
	wake    chan *queue

	site    *site       // whose Governor allowed the connection, or nil
	aim     *site       // where the item under way goes, or nil
	from    string      // the pool that conn leaves from
	source  pool.Source // of the item under way
	sourced bool        // a pool counts the item under way
	paced   bool        // the site's rate counts it
	begun   bool        // the item under way: something of it may be sent
	current spool.Item
	attend  bool // what the site's suspension must not hold up
	put     putBack
	span    trace.Span // of the attempt under way, or nil

	mu   sync.Mutex // what follows, against the timers that lend it
	slot *slots     // that the connection counts in, or nil
	turn bool       // it counts among the strangers of the engine
}

// putBack says that the item under way was not attempted, and why.
type putBack int

const (
	settles   putBack = iota
	waits             // until the queue's time
	suspended         // its site is left alone
)

func (w *worker) work() {
	defer w.e.work.Done()
	defer w.release()
	for {
		item, ok := w.next()
		if !ok {
			return
		}
		w.try(item)
		switch w.put {
		case settles:
			w.e.done(item)
		case waits:
			w.e.unpop(w.q, item)
		case suspended:
			w.postpone(item)
		}
	}
}

// try makes one attempt; what it asked of the pool and did not use goes back.
func (w *worker) try(item spool.Work) {
	w.current, w.put, w.aim, w.sourced, w.paced, w.begun = item.Item, settles, nil, false, false, false
	if err := w.guarded(&item); err != nil {
		w.panicked(item, err)
	}
	w.unsource()
}

// guarded makes a panic, which something in a message or of a peer may bring
// about, the end of this one attempt. All locks that an attempt takes are let
// go of by defer.
func (w *worker) guarded(item *spool.Work) (err error) {
	defer private.Recover(&err)
	w.deliver(item)
	return nil
}

// panicked defers an item whose attempt met a defect of ours. It counts as an
// attempt where the item could be read, so that the waits grow; what could not
// be is bounded by unloadable. What was sent of it cannot be known once it was
// begun: while this node stops it stays as it is, and whoever takes it over
// records that.
func (w *worker) panicked(item spool.Work, err error) {
	w.e.Log.Error("an attempt ended by a defect; it is tried again later", "item", item.ID, "error", err)
	w.e.Figures.panicked()
	if w.conn != nil {
		w.conn.Abort() // nobody knows what was said last
		w.conn = nil
	}
	w.put = settles
	switch {
	case w.begun && w.e.ctx.Err() != nil:
	case item.Notice:
		w.noticeBroke(item)
	case item.Message == nil:
		w.unloadable(item, spool.Message{}, err)
	default:
		j := &job{w: w, work: item, began: w.e.Clock.Now()}
		a, reason := &spool.Attempt{Number: item.Delivery.Attempts + 1, Began: j.began, Result: spool.ResultTemporary}, spool.ReasonTemporary
		if w.begun {
			a.Result, reason = spool.ResultUnknown, spool.ReasonUnknown
		}
		j.deferFor(reason, a)
	}
}

// next gives the next item, waiting a little so that the connection can be
// used again. It gives none when the worker shall end.
func (w *worker) next() (spool.Work, bool) {
	e := w.e
	for {
		e.mu.Lock()
		if e.draining() || e.ctx.Err() != nil || w.put == waits {
			return w.leave()
		}
		w.rotate()
		if item, ok := w.q.ready.pop(w.express); ok {
			e.busy[item.ID] = struct{}{}
			e.mu.Unlock()
			return item, true
		}
		if w.conn == nil || w.express || e.resting >= cap(e.slots.moving) {
			return w.leave()
		}
		w.rest(true)
		e.mu.Unlock()
		w.letGo() // who only waits holds up nobody
		select {
		case <-w.wake:
		case <-e.drain:
			return w.leaveRest()
		case <-time.After(idleFor): // of the connection: wall time
			return w.leaveRest()
		}
	}
}

// leaveRest ends an idle worker, unless somebody has counted on it already.
func (w *worker) leaveRest() (spool.Work, bool) {
	e := w.e
	e.mu.Lock()
	select {
	case <-w.wake:
		if !e.draining() {
			if item, ok := w.q.ready.pop(w.express); ok {
				e.busy[item.ID] = struct{}{}
				e.mu.Unlock()
				return item, true
			}
		}
	default:
		w.rest(false)
	}
	return w.leave()
}

// turnAfter is how many items of one domain a worker sends while others of the
// same site wait.
const turnAfter = 20

// rotate goes on with another domain of the site when this one has had its
// turn or has nothing left. The caller holds the lock.
func (w *worker) rotate() {
	if w.site == nil || w.express || len(w.site.waiting) == 0 {
		w.served = 0
		return
	}
	if w.served++; w.served < turnAfter && w.q.ready.len() > 0 {
		return
	}
	was := w.q
	q := w.site.next()
	if q == nil || q == was {
		return
	}
	w.served = 0
	delete(w.e.blocked, q)
	q.until = time.Time{}
	w.move(q)
	if was.workers == 0 && was.ready.count > 0 {
		w.e.standBy(was, w.e.Clock.Now().Add(time.Second))
	}
}

// move makes the worker one of another queue. The caller holds the lock.
func (w *worker) move(q *queue) {
	w.q.workers--
	w.q = q
	q.workers++
}

// rest lists the worker among the idle ones, or takes it from there. The
// caller holds the lock.
func (w *worker) rest(idle bool) {
	if idle {
		w.e.resting++
		w.q.idle = append(w.q.idle, w)
	} else {
		w.e.resting--
		w.q.idle = without(w.q.idle, w)
	}
	if w.site == nil {
		return
	}
	if !idle {
		w.site.idle = without(w.site.idle, w)
		return
	}
	w.site.idle = append(w.site.idle, w)
}

func without(all []*worker, w *worker) []*worker {
	return slices.DeleteFunc(all, func(o *worker) bool { return o == w })
}

// leave ends the worker. The caller holds the lock, and leave lets go of it.
func (w *worker) leave() (spool.Work, bool) {
	defer w.e.mu.Unlock()
	if w.express {
		w.q.express = false
		w.e.staff(w.q, len(w.q.ready.notices) > 0)
	} else {
		w.q.workers--
		switch {
		case w.q.workers > 0:
		case w.put != waits:
			w.e.staff(w.q, len(w.q.ready.notices) > 0)
		case w.q.ready.len() > 0:
			w.e.blocked[w.q] = struct{}{} // whoever took it from there saw this worker
		}
	}
	return spool.Work{}, false
}

// unpop puts back what was not attempted: its turn comes when its queue's
// does.
func (e *Engine) unpop(q *queue, item spool.Work) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.busy, item.ID)
	q.ready.unpush(item)
	e.blocked[q] = struct{}{}
}

// errStopping says that a worker gave up waiting because the node stops.
var errStopping = errors.New("this node is stopping")

// slots bounds connections. One whose peer lets it wait counts among the
// stalled, so that it is not in the way of those that make progress.
type slots struct {
	moving  chan struct{}
	stalled chan struct{}
}

func newSlots(n int) *slots {
	return &slots{make(chan struct{}, n), make(chan struct{}, min(stalledTimes*n, stalledMost))}
}

// full reports whether one more connection would only wait for its place.
func (s *slots) full() bool { return len(s.moving) == cap(s.moving) }

const (
	stalledTimes = 10
	stalledMost  = 2000
	stallAfter   = time.Second

	strangersMost = 400 // domains looked up for the first time at a time
)

// hold counts the worker's connection among those that make progress, waiting
// for room there. Notices have their own: a person sits before the screen. A
// connection that was opened for a notice must find room among the others
// before it serves messages.
func (w *worker) hold(ctx context.Context, urgent bool) error {
	if w.slot == w.e.slots || urgent && w.slot != nil {
		return nil
	}
	room := w.e.slotsFor(urgent)
	if !w.enter(ctx, room.moving) {
		return errStopping
	}
	w.letGo()
	w.slot = room
	return nil
}

func (e *Engine) slotsFor(urgent bool) *slots {
	if urgent {
		return e.express
	}
	return e.slots
}

func (w *worker) enter(ctx context.Context, room chan struct{}) bool {
	select {
	case room <- struct{}{}:
		return true
	case <-w.e.drain:
	case <-ctx.Done():
	}
	return false
}

func (w *worker) letGo() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.slot != nil {
		<-w.slot.moving
		w.slot = nil
	}
}

// patiently does what may wait for the peer. After a while the connection
// counts among the stalled; stalled says that it does from the beginning, as a
// peer does that nobody has heard of yet.
func (w *worker) patiently(ctx context.Context, urgent, stalled bool, do func()) error {
	if stalled && w.slot == nil {
		room := w.e.slotsFor(urgent)
		if !w.enter(ctx, room.stalled) {
			return errStopping
		}
		defer func() { <-room.stalled }()
		timer := time.AfterFunc(stallAfter, w.known) // of the peer: wall time
		defer timer.Stop()
		do()
		timer.Stop()
		if w.conn != nil {
			return w.hold(ctx, urgent) // until then an open connection counts among the stalled
		}
		return nil
	}
	if err := w.hold(ctx, urgent); err != nil {
		return err
	}
	var lent *slots
	over := false
	timer := time.AfterFunc(stallAfter, func() { // of the peer: wall time
		w.mu.Lock()
		defer w.mu.Unlock()
		if over || w.slot == nil {
			return
		}
		select {
		case w.slot.stalled <- struct{}{}:
			<-w.slot.moving
			lent, w.slot = w.slot, nil
		default: // too many are stalled: this one is in the way
		}
	})
	defer func() {
		timer.Stop()
		w.mu.Lock()
		defer w.mu.Unlock()
		if over = true; lent != nil {
			<-lent.stalled
		}
	}()
	do()
	return nil
}

// introduce waits until the domain may be looked up and its mail read, where
// nothing is known of it: ten thousand that are tried for the first time at
// once would each take memory for it. Whoever waits has nothing yet.
func (w *worker) introduce(ctx context.Context) bool {
	if w.proven() {
		return true
	}
	if !w.enter(ctx, w.e.strangers) {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.turn = true
	return true
}

// known ends what introduce began, when the first attempt has ended or the
// host lets it wait: others need not.
func (w *worker) known() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.turn {
		<-w.e.strangers
		w.turn = false
	}
}

// release closes the connection and waits for the last outcome.
func (w *worker) release() {
	w.wait()
	w.hangUp()
	w.letGo()
	w.giveSlot()
}

// giveSlot gives the connection that the site's Governor allowed to whoever
// waits for it.
func (w *worker) giveSlot() {
	s, e := w.site, w.e
	if s == nil {
		return
	}
	w.site = nil
	s.gov.Closed()
	e.mu.Lock()
	defer e.mu.Unlock()
	s.open--
	if q := s.next(); q != nil {
		delete(e.blocked, q)
		q.until = time.Time{}
		e.staff(q, false)
	}
}

func (w *worker) hangUp() {
	if w.conn != nil {
		_ = w.conn.Close()
		w.conn = nil
	}
}

// wait returns when the outcome of the item before is committed.
func (w *worker) wait() {
	if w.settled != nil {
		<-w.settled
		w.settled = nil
	}
}
