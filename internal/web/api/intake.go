package api

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
)

// A body costs about five times its size in memory until its message is
// stored, so not all that come at once are read at once.
const (
	smallBody  = 256 << 10 // and less are read at once
	intakeSize = 4         // bodies of the largest size
	intakeWait = 30 * time.Second
)

var busy = fault.New(fault.Unavailable, "busy", "Too many large requests are being read at the moment. Try again in a few seconds.")

// intake bounds the octets of bodies in memory, of all organizations together
// and of each, so that none takes all the room.
type intake struct {
	most int64
	all  *semaphore.Weighted
	mu   sync.Mutex
	orgs map[id.ID]*semaphore.Weighted
}

func newIntake(largest int64) *intake {
	most := intakeSize * largest
	return &intake{most: most, all: semaphore.NewWeighted(most), orgs: map[id.ID]*semaphore.Weighted{}}
}

func (i *intake) of(org id.ID) *semaphore.Weighted {
	i.mu.Lock()
	defer i.mu.Unlock()
	s := i.orgs[org]
	if s == nil {
		s = semaphore.NewWeighted(i.most / 2)
		i.orgs[org] = s
	}
	return s
}

// enter waits for room for a body of size octets.
func (i *intake) enter(ctx context.Context, org id.ID, size int64) (leave func(), err error) {
	if size <= smallBody {
		return func() {}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, intakeWait)
	defer cancel()
	own := i.of(org)
	if own.Acquire(ctx, size) != nil {
		return nil, busy
	}
	if i.all.Acquire(ctx, size) != nil {
		own.Release(size)
		return nil, busy
	}
	return func() {
		i.all.Release(size)
		own.Release(size)
	}, nil
}
