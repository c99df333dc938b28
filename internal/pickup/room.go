package pickup

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
)

// Bounds of what is taken apart at once on this node. A message costs about
// three times its size in memory while it is shown.
const (
	roomOctets = 128 << 20 // of all messages together
	roomSeats  = 3         // of one delivery
	roomWait   = 15 * time.Second
)

var errNoRoom = fault.New(fault.Unavailable, "portal_busy",
	"Many messages are being read at the moment. Try again in a minute.")

// room bounds the memory that reading takes: each page and each file of a
// message needs all of it, and whoever holds a session may ask for many at
// once.
type room struct {
	all   *semaphore.Weighted
	mu    sync.Mutex
	seats map[id.ID]*seats
}

// seats are those of one delivery.
type seats struct {
	free  *semaphore.Weighted
	users int // that hold or want one
}

func newRoom() *room {
	return &room{all: semaphore.NewWeighted(roomOctets), seats: map[id.ID]*seats{}}
}

// enter waits for a seat of the delivery and then for room for its message.
func (r *room) enter(ctx context.Context, delivery id.ID, size int64) (leave func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, roomWait)
	defer cancel()
	size = min(size, roomOctets)
	own := r.sit(delivery)
	if own.free.Acquire(ctx, 1) != nil {
		r.stand(delivery)
		return nil, errNoRoom
	}
	if r.all.Acquire(ctx, size) != nil {
		own.free.Release(1)
		r.stand(delivery)
		return nil, errNoRoom
	}
	return sync.OnceFunc(func() {
		r.all.Release(size)
		own.free.Release(1)
		r.stand(delivery)
	}), nil
}

func (r *room) sit(delivery id.ID) *seats {
	r.mu.Lock()
	defer r.mu.Unlock()
	own := r.seats[delivery]
	if own == nil {
		own = &seats{free: semaphore.NewWeighted(roomSeats)}
		r.seats[delivery] = own
	}
	own.users++
	return own
}

func (r *room) stand(delivery id.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seats[delivery].users--; r.seats[delivery].users == 0 {
		delete(r.seats, delivery)
	}
}
