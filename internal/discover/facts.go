package discover

import (
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/fetch"
)

const (
	remembered = 20_000 // places in memory

	quietLeast = 10 * time.Minute // that a host is left alone after it failed
	quietMost  = 4 * time.Hour    // our own line may have been down, too
)

// fact is what is known of a place: what one source has of one domain, or one
// server.
type fact struct {
	absent  bool      // it has nothing for anybody
	certain bool      // and that is proved
	word    string    // it fails
	until   time.Time // that these hold

	proven bool // it has answered, so that callers need not wait for one another
	fails  int  // one behind the other
	misses int  // of addresses, without any hit
	method string
	known  time.Time // that method holds
}

// answer gives what the fact says in place of a question.
func (f fact) answer(now time.Time) (Answer, bool) {
	if now.Before(f.until) && (f.absent || f.word != "") {
		return Answer{Absent: f.absent, Certain: f.absent && f.certain, Word: f.word, Until: f.until}, true
	}
	return Answer{}, false
}

// facts keeps the places used last.
type facts struct {
	mu    sync.Mutex
	limit int
	by    map[string]*list.Element
	order *list.List // of *place, newest first
}

type place struct {
	key  string
	fact fact
	gate chan struct{} // held by whoever asks a place of which nothing is known
}

func newFacts(limit int) *facts {
	return &facts{limit: limit, by: map[string]*list.Element{}, order: list.New()}
}

func (f *facts) place(key string) *place {
	el, ok := f.by[key]
	if ok {
		f.order.MoveToFront(el)
		return el.Value.(*place)
	}
	p := &place{key: key, gate: make(chan struct{}, 1)}
	f.by[key] = f.order.PushFront(p)
	if len(f.by) > f.limit {
		delete(f.by, f.order.Remove(f.order.Back()).(*place).key)
	}
	return p
}

func (f *facts) get(key string) (fact, chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.place(key)
	return p.fact, p.gate
}

func (f *facts) update(key string, change func(*fact)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.place(key).fact)
}

// about asks a place through ask, unless what is known of it answers already.
// Of those who come together while nothing is known, one asks and the others
// wait for what it learns.
func (s *Sources) about(ctx context.Context, key string, ask func(fact) Answer) Answer {
	f, gate := s.facts.get(key)
	if a, ok := f.answer(s.clock.Now()); ok {
		return a
	}
	if f.proven {
		return ask(f)
	}
	select {
	case gate <- struct{}{}:
		defer func() { <-gate }()
	case <-ctx.Done():
		return Answer{Word: Busy}
	}
	f, _ = s.facts.get(key)
	if a, ok := f.answer(s.clock.Now()); ok {
		return a
	}
	wait, cancel := s.waiting(ctx)
	defer cancel()
	if over(wait) {
		return Answer{Word: Busy} // the place would not get its time any more
	}
	return ask(f)
}

// answered records that a place gave an answer.
func (s *Sources) answered(key string) {
	s.facts.update(key, func(f *fact) { f.proven, f.fails, f.word, f.absent = true, 0, "", false })
}

// without records that a place has nothing for anybody.
func (s *Sources) without(key string, believe time.Duration, certain bool) Answer {
	a := s.absent(believe)
	a.Certain = certain
	s.facts.update(key, func(f *fact) { *f = fact{absent: true, certain: certain, until: a.Until} })
	return a
}

// fails records that a place does not answer, and leaves it alone for longer
// each time. Where it is the caller whose time is over, it says nothing of the
// place.
func (s *Sources) fails(ctx context.Context, key, word string) Answer {
	if over(ctx) {
		return Answer{Word: Busy}
	}
	now := s.clock.Now()
	var until time.Time
	s.facts.update(key, func(f *fact) {
		quiet := min(quietLeast<<min(f.fails, 8), quietMost)
		f.fails++
		f.word, f.absent, f.until = word, false, now.Add(quiet)
		f.proven, f.known = false, time.Time{}
		until = f.until
	})
	return Answer{Word: word, Until: until}
}

// over reports whether the time is. What has a deadline of its own, as
// connections have, may end a moment before ctx does.
func over(ctx context.Context) bool {
	until, bounded := ctx.Deadline()
	return ctx.Err() != nil || bounded && !time.Now().Before(until)
}

// hostFails reports whether a word is about the host and not about one page of
// it.
func hostFails(word string) bool {
	switch word {
	case fetch.DNS, fetch.Connect, fetch.Timeout, fetch.Certificate, fetch.Address:
		return true
	}
	return false
}
