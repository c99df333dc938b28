package retain

import (
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/spool"
)

// pruneSegments are those of one transaction.
const pruneSegments = 8

// prune takes the oldest segments off the ledger, up to one that is not old
// enough or holds something of a held message.
func (b *batch) prune() (more bool, err error) {
	b.stage = Ledger
	first, err := ledger.Pruned(b.tx)
	if err != nil {
		return false, err
	}
	end, held, err := b.prunable(first)
	if err != nil {
		return false, err
	}
	if held {
		b.left[LeftHeld]++
	}
	if end == first {
		// The ledger keeps the hashes of older lists no more.
		_, err := b.tx.Exec("DELETE FROM retain_destroyed WHERE org_id = ? AND at <= ?", b.tx.Org(), clock.Micros(b.now.Add(-days(b.doc.Ledger))))
		return false, err
	}
	b.pruned = end - first
	return true, ledger.Prune(b.tx, end, b.now)
}

// prunable gives the position up to which some of the oldest segments can be
// pruned, and whether a hold stopped it there.
func (j *judge) prunable(first int64) (end int64, held bool, err error) {
	end = first
	if j.holds.all {
		return end, true, nil
	}
	for range pruneSegments {
		segment, ok, err := ledger.NextSegment(j.tx, end)
		if err != nil {
			return end, false, err
		}
		if !ok || segment.Newest.Add(days(j.doc.Ledger)).After(j.now) {
			return end, false, nil
		}
		if held, err := j.holdsAny(segment.Messages); held || err != nil {
			return end, held, err
		}
		end = segment.End
	}
	return end, false, nil
}

func (j *judge) holdsAny(messages []id.ID) (bool, error) {
	for _, i := range messages {
		if j.holds.messages[i] {
			return true, nil
		}
		m, err := spool.KeptMessage(j.tx, i)
		if fault.Is(err, fault.NotFound) {
			continue // only its id could be held
		}
		if err != nil {
			return false, err
		}
		deliveries, err := spool.KeptDeliveries(j.tx, i)
		if err != nil {
			return false, err
		}
		if j.holds.covers(m, deliveries) {
			return true, nil
		}
	}
	return false, nil
}
