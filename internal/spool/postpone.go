package spool

import (
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
)

// postponed is until a time, and no longer than until the sender must be told
// of the delay or the message expires. What was due for the one, or has
// expired, is not postponed: it needs an outcome.
const (
	postponedLite     = postponing + `MIN` + postponed
	postponedPostgres = postponing + `LEAST` + postponed

	postponing = `UPDATE spool_unsettled SET owner = NULL, state = 'deferred', next_at = `
	postponed  = `(?, m.expires_at, CASE WHEN m.send_at + ? > ? THEN m.send_at + ? ELSE m.expires_at END)
	FROM spool_messages m WHERE m.id = message_id AND owner = ? AND spool_unsettled.state = 'ready'
	AND m.expires_at > ? AND next_at <> m.send_at + ? AND `
)

// Postponing says why what a run holds is not attempted now.
type Postponing struct {
	Until      time.Time
	DelayAfter time.Duration // an age at which the sender is told; 0 for none
	Reason     string        // for what has none yet
	At         time.Time
}

// Postpone gives what a run holds and has not begun back to the database,
// to be due again later, without an attempt. It gives the ids of what it moved.
func Postpone(tx *db.Tx, run id.ID, items []Item, p Postponing) (moved map[id.ID]bool, err error) {
	tell := p.DelayAfter.Microseconds()
	if tell <= 0 {
		tell = (200 * 365 * 24 * time.Hour).Microseconds() // never
	}
	now := clock.Micros(p.At)
	args := []any{clock.Micros(p.Until), tell, now, tell, run, now, tell}
	query := tx.Pick(postponedLite, postponedPostgres)
	if query == postponedLite {
		return postponeEach(tx, items, p.Reason, args)
	}
	ids := make([][]byte, len(items))
	for i, it := range items {
		ids[i] = it.ID.Bytes()
	}
	got, err := db.All(tx, db.Value[id.ID], query+"delivery_id = ANY (?) RETURNING delivery_id", append(args, ids)...)
	if err != nil {
		return nil, err
	}
	moved = map[id.ID]bool{}
	ids = ids[:0]
	for _, i := range got {
		moved[i] = true
		ids = append(ids, i.Bytes())
	}
	_, err = tx.Exec("UPDATE spool_deliveries SET reason = ? WHERE id = ANY (?) AND reason = ''", p.Reason, ids)
	return moved, err
}

func postponeEach(tx *db.Tx, items []Item, reason string, args []any) (map[id.ID]bool, error) {
	moved := map[id.ID]bool{}
	for _, it := range items {
		n, err := tx.Exec(postponedLite+"delivery_id = ?", append(args[:len(args):len(args)], it.ID)...)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			continue
		}
		moved[it.ID] = true
		if _, err := tx.Exec("UPDATE spool_deliveries SET reason = ? WHERE org_id = ? AND id = ? AND reason = ''", reason, it.Org, it.ID); err != nil {
			return nil, err
		}
	}
	return moved, nil
}
