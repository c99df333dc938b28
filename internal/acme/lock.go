package acme

import (
	"context"
	"errors"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
)

const (
	leaseFor   = 2 * time.Minute
	leaseRenew = 30 * time.Second
	lockPoll   = 250 * time.Millisecond
)

// lease is a lock that this process holds.
type lease struct {
	holder id.ID
	ended  chan struct{}
}

// Lock waits until nobody else holds the lock, or whoever did has not renewed
// its lease.
func (s *storage) Lock(ctx context.Context, name string) error {
	for {
		taken, err := s.TryLock(ctx, name)
		if err != nil || taken {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

// TryLock takes the lock if nobody holds it.
func (s *storage) TryLock(ctx context.Context, name string) (taken bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	l := &lease{holder: id.New(), ended: make(chan struct{})}
	// Its outcome must be known: a lock that was taken for a caller who went
	// away would last until its lease ends.
	sure, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLimit)
	defer cancel()
	var rows int64
	if err := s.DB.Write(sure, db.System, func(tx *db.Tx) error {
		now, err := tx.Now()
		if err != nil {
			return err
		}
		rows, err = tx.Exec(`INSERT INTO acme_locks (org_id, name, holder, expires_at) VALUES (?, ?, ?, ?)
			ON CONFLICT (org_id, name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at WHERE acme_locks.expires_at <= ?`,
			db.System, name, l.holder, now+leaseFor.Microseconds(), now)
		return err
	}); err != nil || rows == 0 {
		return false, err
	}
	s.mu.Lock()
	s.leases[name] = l
	s.mu.Unlock()
	s.work.Go(func() { s.renew(name, l) })
	return true, nil
}

// renew keeps a lock until it is given back or lost.
func (s *storage) renew(name string, l *lease) {
	for {
		select {
		case <-l.ended:
			return
		case <-time.After(leaseRenew):
		}
		var rows int64
		ctx, cancel := context.WithTimeout(context.Background(), leaseRenew)
		err := s.DB.Write(ctx, db.System, func(tx *db.Tx) error {
			now, err := tx.Now()
			if err != nil {
				return err
			}
			rows, err = tx.Exec("UPDATE acme_locks SET expires_at = ? WHERE org_id = ? AND name = ? AND holder = ?",
				now+leaseFor.Microseconds(), db.System, name, l.holder)
			return err
		})
		cancel()
		if err == nil && rows == 0 {
			s.Log.Error("another node took over what this one was obtaining", "lock", name)
			<-l.ended
			return
		}
	}
}

var errNotHeld = errors.New("a lock was given back that is not held")

// Unlock gives the lock back, even for a caller whose time is up.
func (s *storage) Unlock(ctx context.Context, name string) error {
	s.mu.Lock()
	l := s.leases[name]
	delete(s.leases, name)
	s.mu.Unlock()
	if l == nil {
		return errNotHeld
	}
	close(l.ended)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLimit)
	defer cancel()
	return s.DB.Write(ctx, db.System, func(tx *db.Tx) error {
		_, err := tx.Exec("DELETE FROM acme_locks WHERE org_id = ? AND name = ? AND holder = ?", db.System, name, l.holder)
		return err
	})
}

// wait returns when this process holds no lock, so that nothing of what
// certmagic began is under way.
func (s *storage) wait() { s.work.Wait() }
