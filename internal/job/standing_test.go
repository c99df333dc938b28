package job_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/job"
	"github.com/sealpost/sealpost/internal/private/privatetest"
)

// What a runner has done can be read by others, once it renews its leases.
func TestOthersSeeWhenTasksWereDone(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		began := time.Now().Truncate(time.Second)
		c := clock.NewFake(began)
		r, _ := newRunner(t, d, c, &privatetest.Log{})
		r.Add(job.Task{Name: "good", Every: 2 * time.Second, Do: func(context.Context) error { return nil }})
		r.Add(job.Task{Name: "bad", Every: 2 * time.Second, Do: func(context.Context) error { return errors.New("no") }})
		start(t, r)
		seen := make(chan bool)
		watch, done := context.WithCancel(ctx)
		defer done()
		go func() {
			for watch.Err() == nil {
				all, err := job.Leased(ctx, d)
				if err == nil && len(all) == 2 && all[0].Name == "bad" && all[0].DoneAt.IsZero() && all[1].DoneAt.After(began) && all[1].Every == 2*time.Second {
					close(seen)
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
		pass(t, c, seen, "the lease says when the task was done")
		all := r.Standings()
		if len(all) != 2 || all[0].Failed == 0 || !all[0].DoneAt.IsZero() || all[1].Failed != 0 || all[1].DoneAt.IsZero() {
			t.Errorf("%+v", all)
		}
	})
}
