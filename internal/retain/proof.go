package retain

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/blob"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/spool"
)

// Certificate proves what one run destroyed, as far as this database can.
type Certificate struct {
	Run     id.ID
	Batches []Destroyed
}

// Destroyed is what one transaction destroyed of one purpose.
type Destroyed struct {
	Stage   Stage
	Purpose policy.Purpose
	At      time.Time
	Count   int
	First   id.ID // messages
	Last    id.ID
	SHA256  string // of Items
	Items   string // a line for each message: its id, its data key's, its body's
	Event   id.ID  // the entry in the ledger
	// Problems are what speaks against it; none is the proof.
	Problems []string
}

// OK reports whether nothing speaks against the certificate.
func (c Certificate) OK() bool {
	for _, b := range c.Batches {
		if len(b.Problems) > 0 {
			return false
		}
	}
	return true
}

// Run is one purge that destroyed something.
type Run struct {
	ID       id.ID
	At       time.Time
	Messages map[Stage]int
}

var noRun = fault.New(fault.NotFound, "no_purge", "No such purge has destroyed anything. \"sealpost retention proof --list\" shows those that have.")

// Runs lists the newest purges that destroyed something, newest first.
func (s *Service) Runs(ctx context.Context, org id.ID, limit int) (all []Run, err error) {
	err = s.DB.Read(ctx, org, func(tx *db.Tx) error {
		all = nil
		rows, err := tx.Query(`SELECT run_id, stage, sum(length(items)), min(at) FROM retain_destroyed WHERE org_id = ?
			GROUP BY run_id, stage ORDER BY run_id DESC, stage`, org)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var run id.ID
			var stage Stage
			var octets, at int64
			if err := rows.Scan(&run, &stage, &octets, &at); err != nil {
				return err
			}
			if n := len(all); n == 0 || all[n-1].ID != run {
				if n == limit {
					return nil
				}
				all = append(all, Run{run, clock.FromMicros(at), map[Stage]int{}})
			}
			all[len(all)-1].Messages[stage] = int(octets / itemSize)
		}
		return rows.Err()
	})
	return all, err
}

// Certify checks what a run says it destroyed against the ledger and against
// what is there: each transaction's list has the hash that the ledger holds,
// and of what it lists nothing is left here. A zero run stands for the newest.
func (s *Service) Certify(ctx context.Context, org, run id.ID) (c Certificate, err error) {
	if run.IsZero() {
		runs, err := s.Runs(ctx, org, 1)
		if err != nil || len(runs) == 0 {
			return c, errors.Join(err, noRun)
		}
		run = runs[0].ID
	}
	c.Run = run
	var ids []id.ID
	err = s.DB.Read(ctx, org, func(tx *db.Tx) (err error) {
		ids, err = db.All(tx, db.Value[id.ID], "SELECT id FROM retain_destroyed WHERE org_id = ? AND run_id = ? ORDER BY id", org, run)
		return err
	})
	if err == nil && len(ids) == 0 {
		err = noRun
	}
	if err != nil {
		return c, err
	}
	for _, i := range ids {
		var b Destroyed
		if err := s.DB.Read(ctx, org, func(tx *db.Tx) (err error) {
			b, err = certify(tx, i)
			return err
		}); err != nil {
			return c, err
		}
		c.Batches = append(c.Batches, b)
	}
	return c, nil
}

func certify(tx *db.Tx, row id.ID) (d Destroyed, err error) {
	var packed []byte
	var num, at int64
	if err := tx.Row("SELECT stage, purpose, items, num, at FROM retain_destroyed WHERE org_id = ? AND id = ?", tx.Org(), row).
		Scan(&d.Stage, &d.Purpose, &packed, &num, &at); err != nil {
		return d, err
	}
	items := unpack(packed)
	d.At, d.Count, d.SHA256 = clock.FromMicros(at), len(items), sumOf(items)
	var lines strings.Builder
	for _, i := range items {
		lines.WriteString(i.line())
	}
	d.Items = lines.String()
	if len(items) == 0 || len(packed)%itemSize != 0 {
		d.Problems = append(d.Problems, "The list of what was destroyed is damaged.")
		return d, nil
	}
	d.First, d.Last = items[0].message, items[len(items)-1].message
	if err := d.checkEntry(tx, num); err != nil {
		return d, err
	}
	return d, d.checkGone(tx, items)
}

// checkEntry compares the list with what the ledger says of it.
func (d *Destroyed) checkEntry(tx *db.Tx, num int64) error {
	e, found, err := ledger.ByNumber(tx, num)
	if err != nil {
		return err
	}
	var f purgedFact
	if !found || e.Type != ledger.RetentionPurged || json.Unmarshal(e.Data, &f) != nil {
		d.Problems = append(d.Problems, "The ledger has no entry of it.")
		return nil
	}
	d.Event = e.ID
	if f.ItemsSHA256 != d.SHA256 || f.Count != d.Count || f.Destroyed != d.Stage {
		d.Problems = append(d.Problems, "The list is not the one that the ledger's entry was written for.")
	}
	return nil
}

// checkGone looks for what should not be there any more.
func (d *Destroyed) checkGone(tx *db.Tx, items []item) error {
	for _, i := range items {
		body, err := blob.Stored(tx, i.blob)
		if err != nil {
			return err
		}
		if body {
			d.Problems = append(d.Problems, "The body of "+i.message.Text(id.Message)+" is still there.")
		}
		if d.Stage == Bodies {
			continue
		}
		key, err := custody.DataKeyStored(tx, i.key)
		if err != nil {
			return err
		}
		if key {
			d.Problems = append(d.Problems, "The data key of "+i.message.Text(id.Message)+" is still there.")
		}
		if d.Stage != Records {
			continue
		}
		if _, err := spool.KeptMessage(tx, i.message); err == nil {
			d.Problems = append(d.Problems, "The record of "+i.message.Text(id.Message)+" is still there.")
		} else if !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	return nil
}
