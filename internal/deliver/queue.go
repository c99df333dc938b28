package deliver

import (
	"context"
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
	idle    int
	more    chan struct{} // wakes one idle worker
}

func (q *queue) len() int { return len(q.urgent) + len(q.normal) }

// pop takes the next item, notices first.
func (q *queue) pop() (spool.Work, bool) {
	from := &q.urgent
	if len(*from) == 0 {
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

// enqueue adds an item and sees to it that somebody works. The caller holds
// the lock.
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
	if q.idle > 0 {
		q.idle--
		q.more <- struct{}{}
		return
	}
	if q.workers < e.PerDestination && !e.draining() {
		q.workers++
		e.work.Add(1)
		go (&worker{e: e, q: q}).work()
	}
}

// worker delivers one domain's mail, one item after the other, over one
// connection that it opens when it is needed and keeps while there is work.
type worker struct {
	e       *Engine
	q       *queue
	conn    *smtpclient.Conn
	used    bool // something was sent over conn before
	slot    bool
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
		item, ok := q.pop()
		if ok && !e.draining() {
			e.mu.Unlock()
			return item, true
		}
		if e.draining() || e.ctx.Err() != nil || w.conn == nil {
			w.leave()
			e.mu.Unlock()
			return spool.Work{}, false
		}
		q.idle++
		e.mu.Unlock()
		select {
		case <-q.more:
		case <-e.drain:
			e.mu.Lock()
			w.leave()
			e.mu.Unlock()
			return spool.Work{}, false
		case <-time.After(idleFor): // of the connection: wall time
			e.mu.Lock()
			if q.idle > 0 {
				q.idle--
				w.leave()
				e.mu.Unlock()
				return spool.Work{}, false
			}
			e.mu.Unlock()
			<-q.more // somebody has counted on this worker already
		}
	}
}

// leave ends the worker. The caller holds the lock.
func (w *worker) leave() {
	w.q.workers--
	if w.q.workers == 0 && w.q.len() == 0 {
		delete(w.e.queues, w.q.domain)
	}
}

func (e *Engine) done(w spool.Work) {
	e.mu.Lock()
	e.held--
	e.bytes -= w.Bytes()
	room := e.held == e.Window/2
	e.mu.Unlock()
	if room {
		e.Poke()
	}
}

// hold waits for one of the engine's connection slots. Notices do not wait:
// a person sits before the screen.
func (w *worker) hold(ctx context.Context, urgent bool) bool {
	if w.slot || urgent {
		return true
	}
	select {
	case w.e.slots <- struct{}{}:
		w.slot = true
		return true
	case <-ctx.Done():
		return false
	}
}

// release closes the connection and waits for the last outcome.
func (w *worker) release() {
	w.wait()
	if w.conn != nil {
		_ = w.conn.Close()
		w.conn = nil
	}
	if w.slot {
		<-w.e.slots
		w.slot = false
	}
}

// wait returns when the outcome of the item before is committed.
func (w *worker) wait() {
	if w.settled != nil {
		<-w.settled
		w.settled = nil
	}
}
