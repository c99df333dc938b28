package deliver

import (
	"context"
	"errors"
	"time"

	"github.com/sealpost/sealpost/internal/deliver/smtpclient"
	"github.com/sealpost/sealpost/internal/spool"
)

// queue is what is ready for one recipient domain. Its fields belong to the
// engine's lock.
type queue struct {
	domain  string
	urgent  []spool.Work // notices
	normal  []spool.Work
	workers int
	express bool // one more worker is there for notices alone
	idle    int
	more    chan struct{} // wakes one idle worker
}

func (q *queue) len() int { return len(q.urgent) + len(q.normal) }

// pop takes the next item, notices first.
func (q *queue) pop(noticesOnly bool) (spool.Work, bool) {
	from := &q.urgent
	if len(*from) == 0 && !noticesOnly {
		from = &q.normal
	}
	if len(*from) == 0 {
		return spool.Work{}, false
	}
	w := (*from)[0]
	(*from)[0] = spool.Work{}
	*from = (*from)[1:]
	if len(*from) == 0 {
		*from = nil
	}
	return w, true
}

// enqueue adds an item and sees to it that somebody works. A notice does not
// wait behind workers that are all busy with slow peers or wait for a
// connection. The caller holds the lock.
func (e *Engine) enqueue(w spool.Work) {
	q := e.queues[w.Domain]
	if q == nil {
		q = &queue{domain: w.Domain, more: make(chan struct{}, e.PerDestination)}
		e.queues[w.Domain] = q
	}
	if w.Notice {
		q.urgent = append(q.urgent, w)
	} else {
		q.normal = append(q.normal, w)
	}
	switch {
	case e.draining(): // given back when all have stopped
	case q.idle > 0:
		q.idle--
		q.more <- struct{}{}
	case q.workers < e.PerDestination:
		q.workers++
		e.work.Add(1)
		go (&worker{e: e, q: q}).work()
	case w.Notice && !q.express:
		q.express = true
		e.work.Add(1)
		go (&worker{e: e, q: q, express: true}).work()
	}
}

// worker delivers one domain's mail, one item after the other, over one
// connection that it opens when it is needed and keeps while there is work.
type worker struct {
	e       *Engine
	q       *queue
	express bool // takes notices alone
	conn    *smtpclient.Conn
	used    bool          // something was sent over conn before
	slot    chan struct{} // the pool that the connection counts in, or nil
	settled chan struct{} // closed when the last outcome is committed
}

func (w *worker) work() {
	defer w.e.work.Done()
	defer w.release()
	for {
		item, ok := w.next()
		if !ok {
			return
		}
		w.deliver(item)
		w.e.done(item)
	}
}

// next gives the next item, waiting a little so that the connection can be
// used again. It gives none when the worker shall end.
func (w *worker) next() (spool.Work, bool) {
	e, q := w.e, w.q
	for {
		e.mu.Lock()
		if e.draining() || e.ctx.Err() != nil {
			return w.leave()
		}
		if item, ok := q.pop(w.express); ok {
			e.busy[item.ID] = struct{}{}
			e.mu.Unlock()
			return item, true
		}
		if w.conn == nil || w.express {
			return w.leave()
		}
		q.idle++
		e.mu.Unlock()
		select {
		case <-q.more:
		case <-e.drain:
			e.mu.Lock()
			return w.leave()
		case <-time.After(idleFor): // of the connection: wall time
			e.mu.Lock()
			if q.idle > 0 {
				q.idle--
				return w.leave()
			}
			e.mu.Unlock()
			<-q.more // somebody has counted on this worker already
		}
	}
}

// leave ends the worker. The caller holds the lock, and leave lets go of it.
func (w *worker) leave() (spool.Work, bool) {
	defer w.e.mu.Unlock()
	if w.express {
		w.q.express = false
	} else {
		w.q.workers--
	}
	if w.q.workers == 0 && !w.q.express && w.q.len() == 0 {
		delete(w.e.queues, w.q.domain)
	}
	return spool.Work{}, false
}

func (e *Engine) done(w spool.Work) {
	e.mu.Lock()
	delete(e.busy, w.ID)
	e.bytes -= w.Bytes()
	room := false
	if w.Notice {
		e.notices--
	} else {
		e.held--
		room = e.held == e.Window/2
	}
	e.mu.Unlock()
	if room {
		e.Poke()
	}
}

// errStopping says that a worker gave up waiting because the node stops.
var errStopping = errors.New("this node is stopping")

// hold counts the worker's connection in one of the engine's pools, waiting
// for room there. Notices have their own: a person sits before the screen. A
// connection that was opened for a notice must find room among the others
// before it serves messages.
func (w *worker) hold(ctx context.Context, urgent bool) error {
	if w.slot == w.e.slots || urgent && w.slot != nil {
		return nil
	}
	pool := w.e.slots
	if urgent {
		pool = w.e.express
	}
	select {
	case pool <- struct{}{}:
		w.letGo()
		w.slot = pool
		return nil
	case <-w.e.drain:
	case <-ctx.Done():
	}
	return errStopping
}

func (w *worker) letGo() {
	if w.slot != nil {
		<-w.slot
		w.slot = nil
	}
}

// release closes the connection and waits for the last outcome.
func (w *worker) release() {
	w.wait()
	w.hangUp()
	w.letGo()
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
