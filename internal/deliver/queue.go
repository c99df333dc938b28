package deliver

import (
	"time"

	"github.com/sealpost/sealpost/internal/spool"
)

// How much of one domain's mail is in memory. What is unproven or slow holds
// little, whatever waits for it; what is fast holds as much as it takes in some
// seconds.
const (
	holdFailing = 4 // its hosts do not answer
	holdLeast   = 8 // nothing is known of it
	holdRecent  = 4 // times what was taken of late
	recently    = 2 * time.Second
	keepIdle    = 10 * time.Minute // what was learned of a domain that has no mail
)

// queue is one recipient domain. Its fields belong to the engine's lock.
type queue struct {
	domain string
	ready  ready
	held   map[spool.Line]int // in memory, reserved or with a worker
	total  int                // of held
	bulk   int                // of total

	due     []spool.Line // have due deliveries in the database; the first is next
	hungry  bool         // it is listed among those that can take more
	workers int
	express bool      // one more worker is there for notices alone
	idle    []*worker // wait with a connection
	site    *site     // that its mail last went to, or nil
	until   time.Time // no worker is sent out before, but for notices
	waits   bool      // it stands in its site's line for a connection

	proven  bool // it took mail, and no host has failed since
	failing bool // the last host that was tried did not answer
	taken   [2]int
	window  time.Time // when taken[0] began to be counted
	used    time.Time
}

// recent is what the domain took in the last seconds.
func (q *queue) recent(now time.Time) int {
	q.slide(now)
	return q.taken[0] + q.taken[1]
}

func (q *queue) slide(now time.Time) {
	switch age := now.Sub(q.window); {
	case age >= 2*recently || age < 0:
		q.taken, q.window = [2]int{}, now
	case age >= recently:
		q.taken, q.window = [2]int{0, q.taken[0]}, now
	}
}

// capacity is how many items the domain may hold in memory.
func (q *queue) capacity(now time.Time) int {
	if q.failing {
		return holdFailing
	}
	return holdLeast + holdRecent*q.recent(now)
}

// room is how many more items of a line may be in memory. Bulk mail has half
// of what there is. Whoever has nothing there gets one place all the same, up
// to twice the capacity.
func (q *queue) room(l spool.Line, now time.Time) int {
	most := q.capacity(now)
	free := most - (q.total - q.bulk)
	if l.Lane.Stream() == spool.Bulk {
		free = most/2 - q.bulk
	}
	if free <= 0 && q.held[l] == 0 && q.total < 2*most {
		free = 1
	}
	return max(0, free)
}

// add counts n items of a line, or takes them from the count.
func (q *queue) add(l spool.Line, n int) {
	if q.held == nil {
		q.held = map[spool.Line]int{}
	}
	if q.held[l] += n; q.held[l] == 0 {
		delete(q.held, l)
	}
	q.total += n
	if l.Lane.Stream() == spool.Bulk {
		q.bulk += n
	}
}

// queue finds or makes the domain's queue. The caller holds the lock.
func (e *Engine) queue(domain string) *queue {
	q := e.queues[domain]
	if q == nil {
		q = &queue{domain: domain}
		e.queues[domain] = q
	}
	q.used = e.Clock.Now()
	return q
}

// count adds n items of a line to what is in memory. The caller holds the lock.
func (e *Engine) count(q *queue, l spool.Line, n int) {
	q.add(l, n)
	e.held += n
	if !q.proven {
		e.unproven += n
	}
	if l.Lane.Stream() == spool.Bulk {
		e.bulk += n
	}
}

// windowRoom is how many more items of a stream fit into memory for a domain.
// Bulk mail has half, so that it never keeps other mail out, and so have all
// domains together that have not taken anything: whoever has thousands that
// hang keeps nobody from those that work. The caller holds the lock.
func (e *Engine) windowRoom(q *queue, s spool.Stream) int {
	free := e.Window - e.held
	if !q.proven {
		free = min(free, max(1, e.Window/2)-e.unproven)
	}
	if s == spool.Bulk {
		free = min(free, max(1, e.Window/2)-e.bulk)
	}
	return max(0, free)
}

// prove notes whether a domain takes mail. The caller holds the lock.
func (e *Engine) prove(q *queue, proven bool) {
	if q.proven == proven {
		return
	}
	q.proven = proven
	if proven {
		e.unproven -= q.total
	} else {
		e.unproven += q.total
	}
}

// enqueue adds an item that is counted already and sees to it that somebody
// works. The caller holds the lock.
func (e *Engine) enqueue(w spool.Work) {
	q := e.queue(w.Domain)
	w.Domain = q.domain // one string for all
	q.ready.push(w)
	e.staff(q, w.Notice)
}

// staff sends a worker to a queue that has work for one more. Whoever idles
// with a connection goes first. Who knows nothing of a domain sends one, and
// more when it has taken mail; how many, its site's Governor says. A notice
// does not wait behind workers that are all busy with slow peers or may not
// connect. The caller holds the lock.
func (e *Engine) staff(q *queue, notice bool) {
	if e.draining() || q.ready.len() == 0 {
		return // given back when all have stopped
	}
	if len(q.idle) > 0 {
		e.rouse(q.idle[0], q)
		return
	}
	now := e.Clock.Now()
	if q.workers == 0 || q.proven && !e.slots.full() {
		if slot, ok := e.mayStart(q, now); ok {
			q.workers++
			e.begin(&worker{e: e, q: q, site: slot})
			return
		}
	}
	if notice && !q.express {
		q.express = true
		e.begin(&worker{e: e, q: q, express: true})
	}
}

func (e *Engine) begin(w *worker) {
	w.wake = make(chan *queue, 1)
	e.work.Add(1)
	go w.work()
}

// mayStart asks the Governor of the queue's site for a connection. Where the
// site is not known yet, or left alone, one worker finds out or deals with what
// waits.
func (e *Engine) mayStart(q *queue, now time.Time) (slot *site, ok bool) {
	switch {
	case q.ready.count == 0: // notices alone
		return nil, q.workers == 0
	case now.Before(q.until):
		if q.workers == 0 {
			e.blocked[q] = struct{}{} // nobody else would think of it
		}
		return nil, false
	case q.site == nil:
		return nil, q.workers == 0
	}
	if until, _ := q.site.gov.Suspended(now); !until.IsZero() {
		return nil, q.workers == 0
	}
	allowed, retry := q.site.gov.Connect(now, e.nodes())
	if allowed {
		q.site.open++
		return q.site, true
	}
	if len(q.site.idle) > 0 {
		e.rouse(q.site.idle[0], q)
		return nil, false
	}
	if q.workers == 0 {
		e.standBy(q, retry)
	} else {
		q.until = retry
	}
	return nil, false
}

// standBy lets a queue wait for a connection of its site, or for a time. The
// caller holds the lock.
func (e *Engine) standBy(q *queue, until time.Time) {
	q.until = until
	e.blocked[q] = struct{}{}
	if q.site != nil && !q.waits {
		q.waits = true
		q.site.waiting = append(q.site.waiting, q)
	}
}

// rouse sends an idle worker to a queue of its own or of its site. The caller
// holds the lock.
func (e *Engine) rouse(w *worker, q *queue) {
	w.rest(false)
	w.move(q)
	w.wake <- q
}

// tick sends workers to what had to wait until now, and forgets domains that
// had no mail for long, but not that a site is left alone. The caller holds no lock.
func (e *Engine) tick() {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.Clock.Now()
	e.trickle = trickleMost
	for q := range e.blocked {
		if now.Before(q.until) {
			continue
		}
		delete(e.blocked, q)
		e.staff(q, false)
		e.feed(q)
	}
	for q := range e.starved {
		delete(e.starved, q)
		e.feed(q)
	}
	if now.Sub(e.tidied) < time.Minute && now.After(e.tidied) {
		return
	}
	e.tidied = now
	for domain, q := range e.queues {
		if q.empty() && now.Sub(q.used) > keepIdle {
			delete(e.queues, domain)
		}
	}
	for key, s := range e.sites {
		if s.open == 0 && len(s.waiting) == 0 && now.Sub(s.used) > 2*keepIdle && s.gov.Recovered(now) {
			delete(e.sites, key)
		}
	}
}

func (q *queue) empty() bool {
	return q.workers == 0 && !q.express && q.total == 0 && q.ready.len() == 0 && len(q.due) == 0
}

// done ends an item's time in memory.
func (e *Engine) done(w spool.Work) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.busy, w.ID)
	e.bytes -= w.Bytes()
	if w.Notice {
		e.notices--
		return
	}
	q := e.queue(w.Domain)
	e.count(q, w.Line(), -1)
	if len(q.due) > 0 && 2*q.total <= q.capacity(e.Clock.Now()) {
		e.feed(q)
	}
	if e.full && e.held <= e.Window*3/4 {
		e.full = false
		for q := range e.starved {
			delete(e.starved, q)
			e.feed(q)
		}
	}
}

// feed lists a queue among those that can take more of what is due. The caller
// holds the lock.
func (e *Engine) feed(q *queue) {
	if len(q.due) == 0 || q.hungry {
		return
	}
	q.hungry = true
	e.hungry = append(e.hungry, q)
	e.refill()
}

func (e *Engine) refill() {
	select {
	case e.more <- struct{}{}:
	default:
	}
}

// note remembers that a line has due deliveries in the database. The caller
// holds the lock.
func (e *Engine) note(l spool.Line) {
	if len(e.lines) >= linesMost {
		return // found again by a later scan
	}
	if _, known := e.lines[l]; known {
		return
	}
	q := e.queue(l.Domain)
	l.Domain = q.domain
	e.lines[l] = struct{}{}
	q.due = append(q.due, l)
	e.feed(q)
}
