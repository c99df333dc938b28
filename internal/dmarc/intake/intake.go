// Package intake bounds what reports put into the database: about what time
// they are, how much comes within a day, and how long it is kept.
package intake

import (
	"context"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
)

// What reports may put into the database for an organization in 24 hours, and
// one more. A large organization gets a tenth of it.
const (
	maxDayReports = 5_000
	MaxDayOctets  = 64 << 20
)

// forgetMost bounds the reports that one transaction deletes.
const forgetMost = 100

// Table is where reports of one kind are kept.
type Table struct {
	db            *db.DB
	clock         clock.Clock
	reports, rows string
}

// New gives a Table by the names of two: of reports, with org_id, received_at
// and octets, and of their rows, by report.
func New(d *db.DB, c clock.Clock, reports, rows string) Table { return Table{d, c, reports, rows} }

// Room is the error TooMany where an organization has been told so much of late
// that no more is taken from strangers.
func (t Table) Room(ctx context.Context, org id.ID) error {
	var reports, octets int64
	if err := t.db.Read(ctx, org, func(tx *db.Tx) error {
		return tx.Row("SELECT count(*), CAST(coalesce(sum(octets), 0) AS BIGINT) FROM "+t.reports+" WHERE org_id = ? AND received_at > ?",
			org, clock.Micros(t.clock.Now().Add(-day))).Scan(&reports, &octets)
	}); err != nil {
		return err
	}
	if reports >= maxDayReports || octets >= MaxDayOctets {
		return fault.New(fault.TooMany, "too_many_reports", "Too much has been reported to the organization within a day. Try again later.")
	}
	return nil
}

// Forget drops what came longer than age ago, of all organizations.
func (t Table) Forget(ctx context.Context, age time.Duration) error {
	before := clock.Micros(t.clock.Now().Add(-age))
	for more := true; more; {
		if err := t.db.WriteAlone(ctx, db.System, func(tx *db.Tx) (err error) {
			more, err = t.forget(tx, before)
			return err
		}); err != nil {
			return fmt.Errorf("forget reports: %w", err)
		}
	}
	return nil
}

// forget drops some reports with their rows, and tells whether there may be
// more.
func (t Table) forget(tx *db.Tx, before int64) (more bool, err error) {
	old, err := db.All(tx, db.Value[id.ID], "SELECT id FROM "+t.reports+" WHERE received_at < ? ORDER BY received_at LIMIT ?", before, forgetMost)
	if err != nil {
		return false, err
	}
	rows := int64(0)
	for i, report := range old {
		n, err := tx.Exec("DELETE FROM "+t.rows+" WHERE report = ?", report)
		if err == nil {
			_, err = tx.Exec("DELETE FROM "+t.reports+" WHERE id = ?", report)
		}
		if err != nil {
			return false, err
		}
		if rows += n; rows >= db.SweepRows && i+1 < len(old) {
			return true, nil
		}
	}
	return len(old) == forgetMost, nil
}
