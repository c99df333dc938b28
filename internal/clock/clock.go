// Package clock hands time to everything that has rules about time, so that
// tests can let 48 hours pass in a moment.
package clock

import (
	"sync"
	"time"
)

// Clock tells the time and wakes its caller. System is the real one, Fake the
// one that tests move.
type Clock interface {
	Now() time.Time
	// After sends once when d has passed, like time.After.
	After(d time.Duration) <-chan time.Time
}

// Micros is how times are stored: microseconds since 1970, UTC.
func Micros(t time.Time) int64 { return t.UnixMicro() }

// FromMicros reads a stored time.
func FromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }

// System is the machine's clock.
type System struct{}

// Now is the current time in UTC.
func (System) Now() time.Time { return time.Now().UTC() }

// After is time.After.
func (System) After(d time.Duration) <-chan time.Time { return time.After(d) }

// Fake is a clock that stands still until Advance moves it.
type Fake struct {
	mu     sync.Mutex
	now    time.Time
	alarms []alarm
}

type alarm struct {
	at time.Time
	ch chan time.Time
}

// NewFake starts a fake clock at t.
func NewFake(t time.Time) *Fake { return &Fake{now: t.UTC()} }

// Now is the time the clock was last moved to.
func (f *Fake) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// After sends when Advance has moved the clock by d.
func (f *Fake) After(d time.Duration) <-chan time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	ch := make(chan time.Time, 1)
	if d <= 0 {
		ch <- f.now
		return ch
	}
	f.alarms = append(f.alarms, alarm{f.now.Add(d), ch})
	return ch
}

// Jump sets the clock as an administrator does, or a time server: who waits
// goes on waiting as long as before.
func (f *Fake) Jump(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
	for i := range f.alarms {
		f.alarms[i].at = f.alarms[i].at.Add(d)
	}
}

// Advance moves the clock and wakes who waits for a time that has come.
func (f *Fake) Advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
	kept := f.alarms[:0]
	for _, a := range f.alarms {
		if a.at.After(f.now) {
			kept = append(kept, a)
			continue
		}
		a.ch <- f.now
	}
	f.alarms = kept
}
