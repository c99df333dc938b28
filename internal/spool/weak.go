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
	events, err := ledger.ForDelivery(tx, message, delivery)
	if err != nil {
		return 0, first, err
	}
	for _, e := range events {
		if e.Type != ledger.DeliveryAttempted {
			continue
		}
		var f attemptedFact
		if err := json.Unmarshal(e.Data, &f); err != nil {
			return 0, first, errors.New("stored attempt does not parse")
		}
		if f.Result != ResultWeak {
			continue
		}
		if times++; times == 1 {
			first = e.At
		}
	}
	return times, first, nil
}
