// Package spooltest gives tests what only a whole engine does.
package spooltest

import (
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/spool"
)

// TakeAll gives everything that is due to a run.
func TakeAll(tx *db.Tx, run id.ID, now time.Time) ([]spool.Item, error) {
	const many = 1_000_000
	lines, err := spool.Lines(tx, spool.Line{}, many)
	if err != nil {
		return nil, err
	}
	var wants []spool.Want
	for _, l := range lines {
		wants = append(wants, spool.Want{Line: l.Line, N: many})
	}
	return spool.Take(tx, run, now, wants)
}
