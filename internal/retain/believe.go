package retain

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/ledger"
)

// maxGap is how long nobody may have looked whether a purge is due: a clock
// that is further ahead than that may have jumped. It is longer than an office
// is closed over Easter.
const maxGap = 5 * 24 * time.Hour

// clockRow is the row of retain_clock.
type clockRow struct {
	seen    time.Time // the last time that was believed; zero for none yet
	stopped time.Time // zero while purges run
}

// clockFact is the clear part of retention.stopped and retention.resumed.
type clockFact struct {
	LastSeen time.Time `json:"last_seen"`
	Clock    time.Time `json:"clock"`
}

// believe records that the time was seen, or refuses it: a clock that has
// jumped would have years of content destroyed in one night.
func (s *Service) believe(ctx context.Context, now time.Time) error {
	var row clockRow
	doubtful := false
	err := s.DB.WriteAlone(ctx, db.System, func(tx *db.Tx) (err error) {
		if row, err = readClock(tx); err != nil {
			return err
		}
		if doubtful = !row.seen.IsZero() && now.Sub(row.seen) > maxGap; !doubtful {
			return row.resume(tx, now)
		}
		if !row.stopped.IsZero() {
			return nil
		}
		stopped := clock.Micros(now)
		if err := writeClock(tx, row.seen, &stopped); err != nil {
			return err
		}
		return ledger.Append(tx, ledger.Fact{Type: ledger.RetentionStopped, At: now, Data: clockFact{row.seen.UTC(), now.UTC()}})
	})
	if err == nil && doubtful {
		err = fault.Newf(fault.Conflict, "clock_jumped", "Nothing is purged: the clock says %s, and the last purge task ran at %s. "+
			"If the clock is wrong, set it right. If it is right and the installation was off or restored from a backup, "+
			"look at the legal holds and run \"sealpost retention resume\".", now.UTC().Format(time.DateTime), row.seen.UTC().Format(time.DateTime))
	}
	return err
}

// resume records a time that is believed, and that purges run again if they
// did not.
func (row clockRow) resume(tx *db.Tx, now time.Time) error {
	if err := writeClock(tx, now, nil); err != nil || row.stopped.IsZero() {
		return err
	}
	return ledger.Append(tx, ledger.Fact{Type: ledger.RetentionResumed, At: now, Data: clockFact{row.seen.UTC(), now.UTC()}})
}

func readClock(tx *db.Tx) (row clockRow, err error) {
	var seen int64
	var stopped sql.NullInt64
	err = tx.Row("SELECT seen_at, stopped_at FROM retain_clock WHERE org_id = ?", db.System).Scan(&seen, &stopped)
	switch {
	case errors.Is(err, sql.ErrNoRows): // a new installation, or one from before the clock was watched
		_, row.seen, err = lastPurges(tx)
	case err == nil:
		row.seen = clock.FromMicros(seen)
		if stopped.Valid {
			row.stopped = clock.FromMicros(stopped.Int64)
		}
	}
	return row, err
}

func writeClock(tx *db.Tx, seen time.Time, stopped *int64) error {
	_, err := tx.Exec(`INSERT INTO retain_clock (org_id, seen_at, stopped_at) VALUES (?, ?, ?)
		ON CONFLICT (org_id) DO UPDATE SET seen_at = excluded.seen_at, stopped_at = excluded.stopped_at`, db.System, clock.Micros(seen), stopped)
	return err
}

// Stopped tells since when nothing is purged because the clock may have
// jumped, and the last time before that; zero while purges run.
func (s *Service) Stopped(ctx context.Context) (since, seen time.Time, err error) {
	err = s.DB.Read(ctx, db.System, func(tx *db.Tx) error {
		row, err := readClock(tx)
		since, seen = row.stopped, row.seen
		return err
	})
	return since, seen, err
}

// Resume lets purges run again. Today is the day that a person says it is; a
// clock that says another one, by UTC, is not believed.
func (s *Service) Resume(ctx context.Context, today time.Time) error {
	now := s.Clock.Now()
	if now.UTC().Format(time.DateOnly) != today.Format(time.DateOnly) {
		return fault.Newf(fault.Conflict, "clock_wrong", "The clock of this machine says that it is %s (UTC). Set it right first.", now.UTC().Format(time.DateTime))
	}
	return s.DB.WriteAlone(ctx, db.System, func(tx *db.Tx) error {
		row, err := readClock(tx)
		if err != nil {
			return err
		}
		if row.stopped.IsZero() {
			return fault.New(fault.Conflict, "not_stopped", "Purges are not stopped.")
		}
		return row.resume(tx, now)
	})
}
