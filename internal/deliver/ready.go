package deliver

import (
	"cmp"
	"slices"

	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/spool"
)

// bulkTurn: of so many items one is bulk, so that it always moves.
const bulkTurn = 8

// ready is what waits in memory for one recipient domain: notices, then lanes
// in their order, and within a lane one item of each organization in turn.
type ready struct {
	notices []spool.Work
	lanes   []*lane // in order; none is empty
	count   int     // items in lanes
	since   int     // items since bulk had its turn
}

// lane is a ring of organizations.
type lane struct {
	lane spool.Lane
	orgs []*share // the first is next; none is empty
}

// share is what one organization has in a lane.
type share struct {
	org   id.ID
	items []spool.Work
}

func (r *ready) len() int { return len(r.notices) + r.count }

func compareLane(l *lane, to spool.Lane) int { return cmp.Compare(l.lane, to) }

// push adds an item behind its organization's others.
func (r *ready) push(w spool.Work) {
	if w.Notice {
		r.notices = append(r.notices, w)
		return
	}
	s := r.share(w)
	s.items = append(s.items, w)
	r.count++
}

// unpush puts an item that was popped back to where it was.
func (r *ready) unpush(w spool.Work) {
	if w.Notice {
		r.notices = slices.Insert(r.notices, 0, w)
		return
	}
	s := r.share(w)
	s.items = slices.Insert(s.items, 0, w)
	r.count++
}

func (r *ready) share(w spool.Work) *share {
	i, found := slices.BinarySearchFunc(r.lanes, w.Lane, compareLane)
	if !found {
		r.lanes = slices.Insert(r.lanes, i, &lane{lane: w.Lane})
	}
	l := r.lanes[i]
	for _, s := range l.orgs {
		if s.org == w.Org {
			return s
		}
	}
	s := &share{org: w.Org}
	l.orgs = append(l.orgs, s)
	return s
}

// pop takes the next item, notices first.
func (r *ready) pop(noticesOnly bool) (spool.Work, bool) {
	if len(r.notices) > 0 {
		return shift(&r.notices), true
	}
	if noticesOnly || len(r.lanes) == 0 {
		return spool.Work{}, false
	}
	i := r.turn()
	l := r.lanes[i]
	s := l.orgs[0]
	w := shift(&s.items)
	r.count--
	l.orgs = l.orgs[1:]
	if len(s.items) > 0 {
		l.orgs = append(l.orgs, s)
	}
	if len(l.orgs) == 0 {
		r.lanes = slices.Delete(r.lanes, i, i+1)
	}
	return w, true
}

// turn is the place of the lane whose turn it is.
func (r *ready) turn() int {
	bulk, _ := slices.BinarySearchFunc(r.lanes, spool.LaneOf(spool.Bulk, 0), compareLane)
	switch {
	case bulk == len(r.lanes): // there is none
		return 0
	case bulk > 0 && r.since < bulkTurn-1:
		r.since++
		return 0
	}
	r.since = 0
	return bulk
}

// drain takes all but notices.
func (r *ready) drain() (all []spool.Work) {
	for _, l := range r.lanes {
		for _, s := range l.orgs {
			all = append(all, s.items...)
		}
	}
	r.lanes, r.count = nil, 0
	return all
}

// each shows every item.
func (r *ready) each(fn func(spool.Work)) {
	for _, w := range r.notices {
		fn(w)
	}
	for _, l := range r.lanes {
		for _, s := range l.orgs {
			for _, w := range s.items {
				fn(w)
			}
		}
	}
}

func shift(from *[]spool.Work) spool.Work {
	w := (*from)[0]
	(*from)[0] = spool.Work{}
	if *from = (*from)[1:]; len(*from) == 0 {
		*from = nil
	}
	return w
}
