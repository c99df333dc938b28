package deliver

import (
	"context"
	"errors"
	"sync"
	"testing"
)

func TestSharedIsMadeOnce(t *testing.T) {
	s := shared[int, string]{limit: 1 << 20, bytes: func(v string) int64 { return int64(len(v)) }}
	made := 0
	begun, proceed := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	ask := func(build func() (string, error)) {
		all.Go(func() {
			if got, err := s.get(context.Background(), 1, build); err != nil || got != "sealed" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	ask(func() (string, error) { made++; close(begun); <-proceed; return "sealed", nil })
	<-begun
	for range 8 {
		ask(func() (string, error) { t.Error("made again"); return "", nil })
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.get(gone, 1, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("who does not wait gets %v", err)
	}
	close(proceed)
	all.Wait()
	if made != 1 {
		t.Errorf("made %d times", made)
	}
}

// TestSharedOutlivesAPanic: who waits is told, and the next one may try.
func TestSharedOutlivesAPanic(t *testing.T) {
	s := shared[int, string]{limit: 1 << 20, bytes: func(v string) int64 { return int64(len(v)) }}
	begun, waits := make(chan struct{}), make(chan error)
	go func() {
		<-begun
		_, err := s.get(context.Background(), 1, func() (string, error) { return "again", nil })
		waits <- err
	}()
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is hidden")
			}
		}()
		_, _ = s.get(context.Background(), 1, func() (string, error) {
			close(begun)
			panic("poison")
		})
	}()
	if err := <-waits; err != nil && !errors.Is(err, errDefect) {
		t.Errorf("who waits gets %v", err)
	}
	if got, err := s.get(context.Background(), 1, func() (string, error) { return "again", nil }); got != "again" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestSharedForgetsFailuresAndTheLeastUsed(t *testing.T) {
	s := shared[int, string]{limit: 3 * (least + 10), bytes: func(v string) int64 { return int64(len(v)) }}
	made := map[int]int{}
	get := func(key int) {
		if _, err := s.get(context.Background(), key, func() (string, error) { made[key]++; return "0123456789", nil }); err != nil {
			t.Fatal(err)
		}
	}
	broken := errors.New("broken")
	if _, err := s.get(context.Background(), 1, func() (string, error) { return "", broken }); !errors.Is(err, broken) {
		t.Errorf("a failure gives %v", err)
	}
	for _, key := range []int{1, 2, 3, 1, 4, 1, 2} { // 4 drives out 2, and then 2 drives out 3
		get(key)
	}
	get(3)
	if made[1] != 1 || made[2] != 2 || made[3] != 2 || made[4] != 1 {
		t.Errorf("made %v", made)
	}
	if s.held > s.limit || s.recent.Len() != len(s.known) || s.recent.Len() != 3 {
		t.Errorf("%d octets in %d entries, %d known", s.held, s.recent.Len(), len(s.known))
	}
}
