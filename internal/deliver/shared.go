package deliver

import (
	"container/list"
	"context"
	"errors"
	"sync"
)

// shared keeps what was made once for all deliveries of a message, the latest
// used up to a number of octets. Whoever asks while it is being made waits.
type shared[K comparable, V any] struct {
	limit int64
	bytes func(V) int64

	mu     sync.Mutex
	held   int64
	known  map[K]*list.Element
	recent list.List // of *made[K, V], the latest used in front
}

type made[K comparable, V any] struct {
	key   K
	done  chan struct{}
	value V
	err   error
	size  int64
}

// least is what an entry counts beside its octets.
const least = 4 << 10

// get gives what build made for key, now or before. What failed is forgotten.
func (s *shared[K, V]) get(ctx context.Context, key K, build func() (V, error)) (V, error) {
	s.mu.Lock()
	if s.known == nil {
		s.known = map[K]*list.Element{}
	}
	if at, ok := s.known[key]; ok {
		s.recent.MoveToFront(at)
		m := at.Value.(*made[K, V])
		s.mu.Unlock()
		select {
		case <-m.done:
			return m.value, m.err
		case <-ctx.Done():
			var none V
			return none, ctx.Err()
		}
	}
	m := &made[K, V]{key: key, done: make(chan struct{})}
	at := s.recent.PushFront(m)
	s.known[key] = at
	s.mu.Unlock()

	m.err = errDefect // where build panics
	defer s.have(at, m)
	m.value, m.err = build()
	return m.value, m.err
}

var errDefect = errors.New("it could not be made, by a defect")

// have tells those who wait, and forgets what could not be made.
func (s *shared[K, V]) have(at *list.Element, m *made[K, V]) {
	close(m.done)
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.err != nil {
		s.drop(at)
		return
	}
	m.size = least + s.bytes(m.value)
	s.held += m.size
	s.trim()
}

// trim drops what was not used for longest; what is still being made stays.
func (s *shared[K, V]) trim() {
	for at := s.recent.Back(); at != nil && s.held > s.limit; {
		before := at.Prev()
		if at.Value.(*made[K, V]).size > 0 {
			s.drop(at)
		}
		at = before
	}
}

func (s *shared[K, V]) drop(at *list.Element) {
	m := at.Value.(*made[K, V])
	s.held -= m.size
	delete(s.known, m.key)
	s.recent.Remove(at)
}
