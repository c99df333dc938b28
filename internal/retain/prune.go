package retain

import (
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
)

// What one transaction takes.
const (
	pruneSegments = 8
	answersAtOnce = 1000
)

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
		return false, nil
	}
	b.pruned = end - first
	return true, ledger.Prune(b.tx, end, b.now)
}

// forgetLists deletes lists of what was destroyed whose entry the ledger has
// lost: there is nothing left to compare them with.
func (b *batch) forgetLists() (more bool, err error) {
	if b.holds.any {
		return false, nil
	}
	type list struct {
		id      id.ID
		num, at int64
	}
	old, err := db.All(b.tx, func(row db.Row) (l list, err error) {
		err = row.Scan(&l.id, &l.num, &l.at)
		return l, err
	}, "SELECT id, num, at FROM retain_destroyed WHERE org_id = ? ORDER BY id LIMIT ?", b.tx.Org(), batchItems)
	if err != nil {
		return false, err
	}
	before := clock.Micros(b.now.Add(-days(b.policy.Ledger)))
	for _, l := range old {
		if l.at > before { // so are all behind it: ids are in the order of time
			return false, nil
		}
		if _, told, err := ledger.ByNumber(b.tx, l.num); told || err != nil {
			return false, err
		}
		if _, err := b.tx.Exec("DELETE FROM retain_destroyed WHERE org_id = ? AND id = ?", b.tx.Org(), l.id); err != nil {
			return false, err
		}
	}
	return len(old) == batchItems, nil
}

// forgetAnswers deletes answers to requests that nobody can ask for any more,
// or that the organization keeps no longer.
func (b *batch) forgetAnswers() (more bool, err error) {
	if b.holds.any {
		return false, nil
	}
	keep := b.r.s.Answers
	if own := days(b.policy.Answers); own > 0 {
		keep = min(keep, own)
	}
	n, err := submit.ForgetAnswers(b.tx, b.now.Add(-keep), answersAtOnce)
	return n == answersAtOnce, err
}

// prunable gives the position up to which some of the oldest segments can be
// pruned, and whether a hold stopped it there. From the day on which a hold in
// effect was placed all entries stay: they tell what became of it and of what
// it covers.
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
		if !ok || segment.Newest.Add(days(j.policy.Ledger)).After(j.now) {
			return end, false, nil
		}
		if j.holds.any && !segment.Newest.Before(j.holds.since) {
			return end, true, nil
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
