package pickup

import (
	"context"
	"errors"
	"testing"

	"github.com/sealpost/sealpost/internal/id"
)

func TestRoomIsBounded(t *testing.T) {
	r, one := newRoom(), id.New()
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	full := func(what string, delivery id.ID, size int64) {
		t.Helper()
		if _, err := r.enter(gone, delivery, size); !errors.Is(err, errNoRoom) {
			t.Errorf("%s: %v", what, err)
		}
	}
	enter := func(delivery id.ID, size int64) func() {
		t.Helper()
		leave, err := r.enter(context.Background(), delivery, size)
		if err != nil {
			t.Fatal(err)
		}
		return leave
	}
	var leave []func()
	for range roomSeats {
		leave = append(leave, enter(one, 1))
	}
	full("one seat too many", one, 1)
	leave[0]()
	leave[0]() // twice is once
	again := enter(one, 1)
	full("again too many", one, 1)
	huge := id.New()
	full("larger than what is left", huge, 1<<40)
	again()
	for _, l := range leave {
		l()
	}
	leaveHuge := enter(huge, 1<<40)
	full("nothing is left", one, 1)
	leaveHuge()
	if len(r.seats) != 0 || !r.all.TryAcquire(roomOctets) {
		t.Errorf("%d deliveries are remembered, or room was lost", len(r.seats))
	}
}
