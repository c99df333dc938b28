package spool

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
)

// Weak tells how often an attempt at a delivery found no transport that was
// good enough, and when one did first.
func Weak(tx *db.Tx, message, delivery id.ID) (times int, first time.Time, err error) {
	err = eachAttempt(tx, message, delivery, func(f attemptedFact, at time.Time) {
		if f.Result != ResultWeak {
			return
		}
		if times++; times == 1 {
			first = at
		}
	})
	return times, first, err
}

// LeftFrom tells which source pool a delivery last left from, and for which
// site; both are empty where nobody counts, and for one that never left.
func LeftFrom(tx *db.Tx, message, delivery id.ID) (pool, site string, err error) {
	err = eachAttempt(tx, message, delivery, func(f attemptedFact, _ time.Time) {
		if f.Site != "" {
			pool, site = f.Pool, f.Site
		}
	})
	return pool, site, err
}

// PutOff tells since when a delivery is put off without an attempt, or zero
// where it is not; what was before a time does not count.
func PutOff(tx *db.Tx, message, delivery id.ID, after time.Time) (since time.Time, err error) {
	events, err := ledger.ForDelivery(tx, message, delivery)
	tried := false
	for _, e := range events {
		switch e.Type {
		case ledger.DeliveryAttempted:
			since, tried = time.Time{}, true
		case ledger.DeliveryDeferred:
			if !tried && since.IsZero() && !e.At.Before(after) {
				since = e.At
			}
			tried = false
		}
	}
	return since, err
}

// eachAttempt shows what the ledger says of a delivery's attempts, the oldest
// first.
func eachAttempt(tx *db.Tx, message, delivery id.ID, fn func(f attemptedFact, at time.Time)) error {
	events, err := ledger.ForDelivery(tx, message, delivery)
	if err != nil {
		return err
	}
	for _, e := range events {
		if e.Type != ledger.DeliveryAttempted {
			continue
		}
		var f attemptedFact
		if err := json.Unmarshal(e.Data, &f); err != nil {
			return errors.New("stored attempt does not parse")
		}
		fn(f, e.At)
	}
	return nil
}
