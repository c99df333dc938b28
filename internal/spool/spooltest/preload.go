package spooltest

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
)

// Load is a queue to begin with. Its deliveries have no message: they are
// there to be found, counted and taken.
type Load struct {
	Deliveries    int
	Domains, Orgs int
	DueAt         time.Time // of the first; each later one is a microsecond behind
	Lane          int
}

// Preload fills the table of unsettled deliveries in seconds: line after line,
// so that every index grows at its end.
func Preload(ctx context.Context, d *db.DB, l Load) error {
	const batch = 100_000
	orgs := make([]id.ID, l.Orgs)
	for i := range orgs {
		orgs[i] = id.New()
	}
	for from := 0; from < l.Deliveries; from += batch {
		if err := d.WriteAlone(ctx, db.System, func(tx *db.Tx) error {
			for i := from; i < min(from+batch, l.Deliveries); i += rows {
				if err := insert(tx, l, orgs, i, min(i+rows, from+batch, l.Deliveries)); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return d.WriteAlone(ctx, db.System, func(tx *db.Tx) error {
		_, err := tx.Exec("ANALYZE spool_unsettled")
		return err
	})
}

// rows is how many one statement inserts.
const rows = 500

func insert(tx *db.Tx, l Load, orgs []id.ID, from, to int) error {
	query, args := "INSERT INTO spool_unsettled (delivery_id, org_id, message_id, domain, state, next_at, lane) VALUES ", []any{}
	for i := from; i < to; i++ {
		if i > from {
			query += ", "
		}
		query += "(?, ?, ?, ?, 'ready', ?, ?)"
		delivery := id.New()
		binary.BigEndian.PutUint32(delivery[12:], uint32(i)) // apart, also when made in one moment
		line := i * l.Domains * l.Orgs / l.Deliveries
		args = append(args, delivery, orgs[line%l.Orgs], delivery, fmt.Sprintf("d%06d.example", line/l.Orgs),
			clock.Micros(l.DueAt)+int64(i), l.Lane)
	}
	_, err := tx.Exec(query, args...)
	return err
}
