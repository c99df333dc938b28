package job

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
)

// Standing is how a task has done.
type Standing struct {
	Name   string
	Every  time.Duration
	DoneAt time.Time // last success; zero for none yet
	Failed int64     // runs of this runner
}

// Standings tells of the tasks that this runner has done or failed at, by name.
func (r *Runner) Standings() (all []Standing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.workers {
		s := Standing{Name: w.Name, Every: w.Every, Failed: w.bad.Load()}
		if at := w.doneAt.Load(); at > 0 {
			s.DoneAt = clock.FromMicros(at)
		}
		if s.Failed > 0 || !s.DoneAt.IsZero() {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b Standing) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Leased tells when the tasks that some run has the lease of were last done, as
// far as it has said. There are none where no node runs tasks.
func Leased(ctx context.Context, d *db.DB) (all []Standing, err error) {
	err = d.Read(ctx, db.System, func(tx *db.Tx) error {
		now, err := tx.Now()
		if err != nil {
			return err
		}
		all, err = db.All(tx, func(row db.Row) (s Standing, err error) {
			var done, every int64
			if err = row.Scan(&s.Name, &done, &every); done > 0 {
				s.DoneAt = clock.FromMicros(done)
			}
			s.Every = time.Duration(every) * time.Microsecond
			return s, err
		}, "SELECT name, done_at, every FROM job_leases WHERE expires_at > ? ORDER BY name", now)
		return err
	})
	return all, err
}
