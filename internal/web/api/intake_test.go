package api

import (
	"context"
	"errors"
	"testing"

	"github.com/sealpost/sealpost/internal/id"
)

// TestIntakeIsBounded: a body is counted by its size, none more than the room
// there is, and one organization leaves room for another.
func TestIntakeIsBounded(t *testing.T) {
	const largest = 1 << 20
	i, one, two, three := newIntake(largest), id.New(), id.New(), id.New()
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	full := func(what string, org id.ID) {
		t.Helper()
		if _, err := i.enter(gone, org, largest); !errors.Is(err, busy) {
			t.Errorf("%s: %v", what, err)
		}
	}
	var leave []func()
	enter := func(org id.ID, size int64) {
		t.Helper()
		l, err := i.enter(context.Background(), org, size)
		if err != nil {
			t.Fatal(err)
		}
		leave = append(leave, l)
	}
	enter(one, largest)
	enter(one, largest)
	full("a third of one organization", one)
	enter(one, smallBody)
	enter(two, largest)
	enter(two, largest)
	full("a fifth of all", three)
	for _, l := range leave {
		l()
	}
	enter(three, largest)
	enter(three, largest)
	if !i.all.TryAcquire(intakeSize*largest - 2*largest) {
		t.Error("room was lost")
	}
}
