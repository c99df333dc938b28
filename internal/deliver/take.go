package deliver

import (
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/spool"
)

const (
	takeBatch   = 1000 // deliveries in one transaction
	takeLines   = 200  // lines in one transaction
	linesMost   = 100_000
	linesPage   = 2000            // lines in one reading
	latelyMost  = 2000            // deliveries that one look at what became due sees
	latelyAgain = 5 * time.Second // what is committed late is looked for so far back
	scanCost    = 50              // a scan of all lines may take this part of the time
	scanMost    = 5 * time.Minute // between scans
	trickleMost = 1000            // deliveries to sites that are left alone, each second
	trickleOne  = 200             // to one of them
)

// takeDue moves due work from the database into memory as far as there is
// room: each second, when poked, and when room was made.
func (e *Engine) takeDue() {
	defer e.loops.Done()
	look := true
	for {
		if look {
			e.tick()
			if err := e.look(); err != nil && e.ctx.Err() == nil {
				e.Log.Warn("what is due could not be found", "error", err)
			}
		}
		full, err := e.takeOnce(look)
		if err != nil && e.ctx.Err() == nil {
			e.Log.Warn("due deliveries could not be taken", "error", err)
		}
		if look = false; full && !e.draining() {
			continue
		}
		select {
		case <-e.drain:
			return
		case <-e.more:
		case <-e.wake:
			look = true
		case <-e.Clock.After(takeEvery):
			look = true
		}
	}
}

// look finds lines with due deliveries: those of what became due since the
// last look, and now and then, as often as its cost allows, all of them.
func (e *Engine) look() error {
	now := e.Clock.Now()
	if left := e.scanAt.Sub(now); left > 0 && left <= scanMost { // more where the clock was set back
		var lines []spool.Line
		if err := e.DB.Read(e.ctx, db.System, func(tx *db.Tx) (err error) {
			lines, err = spool.Lately(tx, e.lookedAt.Add(-latelyAgain), now, latelyMost)
			return err
		}); err != nil {
			return err
		}
		e.noteAll(lines)
		e.lookedAt = now
		return nil
	}
	began := time.Now() // a cost is wall time
	for after := (spool.Line{}); ; {
		var heads []spool.Head
		if err := e.DB.Read(e.ctx, db.System, func(tx *db.Tx) (err error) {
			heads, err = spool.Lines(tx, after, linesPage)
			return err
		}); err != nil {
			return err
		}
		var lines []spool.Line
		for _, h := range heads {
			if !h.DueAt.After(now) {
				lines = append(lines, h.Line)
			}
		}
		e.noteAll(lines)
		if len(heads) < linesPage || e.draining() {
			break
		}
		after = heads[len(heads)-1].Line
	}
	e.lookedAt = now
	e.scanAt = now.Add(min(max(takeEvery, scanCost*time.Since(began)), scanMost))
	return nil
}

func (e *Engine) noteAll(lines []spool.Line) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range lines {
		e.note(l)
	}
}

// takeOnce takes one batch and reports whether there may be more. Lines of
// sites that are left alone give a trickle, which is postponed at once.
func (e *Engine) takeOnce(withNotices bool) (more bool, err error) {
	run := e.lease.run()
	if !e.lease.good() || e.draining() {
		return false, nil
	}
	wants, idle, urgent := e.plan()
	if !withNotices {
		urgent = 0
	}
	if len(wants)+len(idle)+urgent == 0 {
		return false, nil
	}
	var notices, items []spool.Item
	var asked map[spool.Line]int
	now := e.Clock.Now()
	err = e.DB.WriteAlone(e.ctx, db.System, func(tx *db.Tx) (err error) { // it may end after its caller has gone
		asked = map[spool.Line]int{}
		if urgent > 0 {
			if notices, err = spool.TakeNotices(tx, run, now, urgent); err != nil {
				return err
			}
		}
		if items, err = spool.Take(tx, run, now, wants); err != nil {
			return err
		}
		count(asked, items)
		for _, l := range idle {
			left, err := e.takeAndPostpone(tx, run, now, l, asked)
			if err != nil {
				return err
			}
			items = append(items, left...)
		}
		return nil
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, w := range wants {
		e.count(e.queue(w.Domain), w.Line, -w.N) // what plan counted
	}
	if err != nil {
		for _, w := range wants {
			e.starved[e.queue(w.Domain)] = struct{}{}
		}
		return false, err
	}
	e.notices += len(notices)
	for _, it := range items {
		e.count(e.queue(it.Domain), it.Line(), 1)
	}
	for _, it := range append(notices, items...) {
		e.enqueue(spool.Work{Item: it, Run: run})
	}
	for _, w := range wants {
		e.taken(w, asked[w.Line])
	}
	for _, l := range idle {
		e.taken(l.Want, asked[l.Line])
	}
	return len(e.hungry) > 0 && e.held < e.Window || urgent > 0 && len(notices) == urgent, nil
}

func count(by map[spool.Line]int, items []spool.Item) {
	for _, it := range items {
		by[it.Line()]++
	}
}

// taken forgets a line that gave less than was wanted. What becomes due in it
// later is found then. The caller holds the lock.
func (e *Engine) taken(w spool.Want, got int) {
	q := e.queue(w.Domain)
	if got < w.N {
		delete(e.lines, w.Line)
		for i, l := range q.due {
			if l == w.Line {
				q.due = append(q.due[:i:i], q.due[i+1:]...)
				break
			}
		}
	}
	if len(q.due) > 0 && q.room(q.due[0], e.Clock.Now()) > 0 && !e.asleep(q) {
		e.feed(q)
	}
}

// asleep reports whether a queue's site is left alone. The caller holds the
// lock.
func (e *Engine) asleep(q *queue) bool {
	if q.site == nil {
		return false
	}
	until, _ := q.site.gov.Suspended(e.Clock.Now())
	return !until.IsZero()
}

// quiet is a line whose site is left alone until a time.
type quiet struct {
	spool.Want
	until time.Time
}

// plan says what to take: of each queue that can take more, its lines in turn,
// and no more than they and the memory have room for. It counts it, so that
// nothing else takes the room. It gives the room for notices, too.
func (e *Engine) plan() (wants []spool.Want, idle []quiet, notices int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now, rows := e.Clock.Now(), takeBatch
	for range len(e.hungry) {
		if rows <= 0 || len(wants)+len(idle) >= takeLines {
			break
		}
		q := e.hungry[0]
		e.hungry[0] = nil
		e.hungry = e.hungry[1:]
		q.hungry = false
		if q.site != nil {
			if until, _ := q.site.gov.Suspended(now); !until.IsZero() {
				idle = append(idle, e.planQuiet(q, until)...)
				e.starved[q] = struct{}{}
				continue
			}
		}
		n := e.planQueue(q, now, rows, &wants)
		if rows -= n; n == 0 { // it, its stream or all memory is full
			e.starved[q] = struct{}{}
			e.full = e.full || e.held >= e.Window
		}
	}
	return wants, idle, max(0, noticeWindow-e.notices)
}

// planQueue plans what to take for one domain. Its lines share the room, and
// the first takes its turn behind the others afterwards.
func (e *Engine) planQueue(q *queue, now time.Time, most int, wants *[]spool.Want) (planned int) {
	fair := max(1, q.capacity(now)/max(1, len(q.due)))
	for range len(q.due) {
		if planned >= most || len(*wants) >= takeLines {
			e.starved[q] = struct{}{}
			break
		}
		l := q.due[0]
		q.due = append(q.due[1:], l)
		n := min(q.room(l, now), e.windowRoom(q, l.Lane.Stream()), fair, most-planned)
		if n <= 0 {
			continue
		}
		e.count(q, l, n)
		*wants = append(*wants, spool.Want{Line: l, N: n})
		planned += n
	}
	return planned
}

func (e *Engine) planQuiet(q *queue, until time.Time) (all []quiet) {
	for _, l := range q.due {
		n := min(trickleOne, e.trickle)
		if n <= 0 {
			break
		}
		e.trickle -= n
		all = append(all, quiet{spool.Want{Line: l, N: n}, until})
	}
	return all
}

// takeAndPostpone gives what needs an outcome of what it took.
func (e *Engine) takeAndPostpone(tx *db.Tx, run id.ID, now time.Time, l quiet, asked map[spool.Line]int) ([]spool.Item, error) {
	items, err := spool.Take(tx, run, now, []spool.Want{l.Want})
	if err != nil || len(items) == 0 {
		return nil, err
	}
	count(asked, items)
	return e.postpone(tx, run, items, l.until)
}

// postpone gives items back to the database until their site may be asked
// again, and gives those that need an outcome of their own.
func (e *Engine) postpone(tx *db.Tx, run id.ID, items []spool.Item, until time.Time) (left []spool.Item, err error) {
	moved, err := spool.Postpone(tx, run, items, spool.Postponing{Until: until, DelayAfter: e.DelayAfter, Reason: spool.ReasonSuspended, At: e.Clock.Now()})
	if err != nil {
		return nil, err
	}
	for _, it := range items {
		if !moved[it.ID] {
			left = append(left, it)
		}
	}
	return left, nil
}

// postpone puts off all of a domain's mail whose site is left alone, the item
// under way first. What needs an outcome all the same gets it.
func (w *worker) postpone(item spool.Work) {
	e := w.e
	until := e.Clock.Now().Add(takeEvery)
	e.mu.Lock()
	all := append([]spool.Work{item}, w.q.ready.drain()...)
	for _, it := range all {
		e.busy[it.ID] = struct{}{}
	}
	if s := w.q.site; s != nil {
		if at, _ := s.gov.Suspended(e.Clock.Now()); !at.IsZero() {
			until = at
		}
	}
	e.mu.Unlock()
	byRun := map[id.ID][]spool.Item{}
	for _, it := range all {
		byRun[it.Run] = append(byRun[it.Run], it.Item)
	}
	needs := map[id.ID]bool{}
	for run, items := range byRun {
		var left []spool.Item
		if err := e.DB.WriteAlone(e.settle, db.System, func(tx *db.Tx) (err error) {
			left, err = e.postpone(tx, run, items, until)
			return err
		}); err != nil {
			left = items
		}
		for _, it := range left {
			needs[it.ID] = true
		}
	}
	w.attend = true
	for _, it := range all {
		if needs[it.ID] {
			w.try(it)
		}
		if w.put == waits {
			e.unpop(w.q, it)
			w.put = settles
			continue
		}
		e.done(it)
	}
	w.attend, w.put = false, settles
}
