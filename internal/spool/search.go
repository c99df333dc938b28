package spool

import (
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
)

// Search says which messages to find. Zero values match everything; addresses
// are given as their index values.
type Search struct {
	SenderHMAC, RecipientHMAC []byte
	State                     State
	Since, Until              time.Time // of acceptance
	Before                    id.ID     // messages older than this one: the next page
	Limit                     int
}

// Find gives ids of messages, newest first.
func Find(tx *db.Tx, s Search) ([]id.ID, error) {
	where, args := []string{"m.org_id = ?"}, []any{tx.Org()}
	add := func(cond string, arg any) { where, args = append(where, cond), append(args, arg) }
	if !s.Before.IsZero() {
		add("m.id < ?", s.Before)
	}
	if s.SenderHMAC != nil {
		add("m.sender_hmac = ?", s.SenderHMAC)
	}
	if !s.Since.IsZero() {
		add("m.created_at >= ?", clock.Micros(s.Since))
	}
	if !s.Until.IsZero() {
		add("m.created_at < ?", clock.Micros(s.Until))
	}
	if s.RecipientHMAC != nil {
		where, args = append(where, "m.id IN (SELECT message_id FROM spool_deliveries WHERE org_id = ? AND recipient_hmac = ?)"), append(args, tx.Org(), s.RecipientHMAC)
	}
	switch {
	case s.State == "":
	case s.State.Settled():
		add("EXISTS (SELECT 1 FROM spool_deliveries d WHERE d.message_id = m.id AND d.settled = ?)", string(s.State))
	default:
		where, args = append(where, "m.id IN (SELECT message_id FROM spool_unsettled WHERE org_id = ? AND state = ?)"), append(args, tx.Org(), string(s.State))
	}
	return db.All(tx, db.Value[id.ID],
		"SELECT m.id FROM spool_messages m WHERE "+strings.Join(where, " AND ")+" ORDER BY m.id DESC LIMIT ?", append(args, s.Limit)...)
}
