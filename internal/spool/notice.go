package spool

import (
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

// Kinds of notices that are not the seal of a delivery themselves.
const (
	KindCode  = "code"  // a portal code
	KindDelay = "delay" // the sender learns that a delivery is late
	KindDSN   = "dsn"   // the sender learns that a delivery failed

	KindTLSReport = "tlsrpt" // a domain learns how TLS with its hosts went; about no message
)

// Notice is mail of a fixed text that is waiting to be sent.
type Notice struct {
	ID, Org           id.ID
	Message, Delivery id.ID
	Kind              string
	Once              string // at most one notice of this name is ever made
	Key               *custody.DataKey
	To                mail.Address
	Domain            string        // of To; known even when To cannot be read
	Text              private.Bytes // the complete mail
	Attempts          int
	CreatedAt         time.Time
	ExpiresAt         time.Time
}

type wireNotice struct {
	To   string `json:"t"`
	Text []byte `json:"x"`
}

// noticeFact is the clear part of notice.sent and notice.failed.
type noticeFact struct {
	Notice   string          `json:"notice"`
	Kind     string          `json:"kind"`
	Domain   string          `json:"domain"`
	Reason   string          `json:"reason,omitempty"`
	Evidence json.RawMessage `json:"evidence,omitempty"`
}

// PostNotice queues a notice, at once and ahead of all other mail, unless one
// with the same Once exists. Only pickup, bounce and tlsrpt call it.
func PostNotice(tx *db.Tx, n Notice, owner id.ID) (posted bool, err error) {
	text, err := json.Marshal(wireNotice{n.To.Reveal(), n.Text.Reveal()})
	if err != nil {
		return false, err
	}
	var own any
	if !owner.IsZero() {
		own = owner
	}
	rows, err := tx.Exec(`INSERT INTO spool_notices
		(id, org_id, kind, message_id, delivery_id, once, key_id, sealed, domain, state, owner, attempts, next_at, expires_at, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'ready', ?, 0, ?, ?, ?) ON CONFLICT (once) DO NOTHING`,
		n.ID, n.Org, n.Kind, n.Message, n.Delivery, n.Once, n.Key.ID, n.Key.Seal(labelNotice, n.ID, text), n.To.Domain(),
		own, clock.Micros(n.CreatedAt), clock.Micros(n.ExpiresAt), clock.Micros(n.CreatedAt))
	return rows == 1, err
}

// The condition is that of the partial index.
const dueNotices = `SELECT id FROM spool_notices WHERE owner IS NULL AND state IN ('ready', 'deferred') AND next_at <= ? ORDER BY next_at LIMIT ?`

// TakeNotices gives up to limit due notices to a run, the longest due first.
func TakeNotices(tx *db.Tx, run id.ID, now time.Time, limit int) ([]Item, error) {
	items, err := takeDue(tx, tx.Pick(
		`UPDATE spool_notices SET owner = ?, state = 'ready' WHERE id IN (`+dueNotices+`)
		 RETURNING id, org_id, message_id, 0, domain, next_at`,
		`UPDATE spool_notices SET owner = ?, state = 'ready' WHERE id = ANY (ARRAY(`+dueNotices+` FOR UPDATE SKIP LOCKED))
		 RETURNING id, org_id, message_id, 0, domain, next_at`), run, clock.Micros(now), limit)
	for i := range items {
		items[i].Notice = true
	}
	return items, err
}

// LoadNotice opens a notice. Where its text cannot be read, what stands in
// clear comes with the error.
func LoadNotice(tx *db.Tx, c *custody.Custody, notice id.ID) (Notice, error) {
	n, keyID, sealed, err := readNotice(tx, notice)
	if err != nil {
		return n, err
	}
	if n.Key, err = c.DataKey(tx, keyID); err != nil {
		return n, err
	}
	text, err := n.Key.Open(labelNotice, n.ID, sealed)
	if err != nil {
		return n, err
	}
	var w wireNotice
	if err := json.Unmarshal(text, &w); err != nil {
		return n, errors.New("stored notice does not parse")
	}
	n.Text = private.NewBytes(w.Text)
	n.To, err = mail.ParseAddress(w.To)
	return n, err
}

// PlainNotice gives what is in clear of a notice.
func PlainNotice(tx *db.Tx, notice id.ID) (Notice, error) {
	n, _, _, err := readNotice(tx, notice)
	return n, err
}

func readNotice(tx *db.Tx, notice id.ID) (n Notice, keyID id.ID, sealed []byte, err error) {
	n = Notice{ID: notice, Org: tx.Org()}
	var expires, created int64
	err = tx.Row(`SELECT kind, message_id, delivery_id, key_id, sealed, domain, attempts, expires_at, created_at
		FROM spool_notices WHERE org_id = ? AND id = ?`, tx.Org(), notice).
		Scan(&n.Kind, &n.Message, &n.Delivery, &keyID, &sealed, &n.Domain, &n.Attempts, &expires, &created)
	if errors.Is(err, sql.ErrNoRows) {
		return n, keyID, nil, ErrNoDelivery
	}
	if err == nil {
		n.ExpiresAt, n.CreatedAt = clock.FromMicros(expires), clock.FromMicros(created)
	}
	return n, keyID, sealed, err
}

// StartNotice begins an attempt at a notice.
func StartNotice(tx *db.Tx, it Item, run id.ID) (bool, error) {
	n, err := tx.Exec("UPDATE spool_notices SET state = 'sending' WHERE org_id = ? AND id = ? AND state = 'ready' AND "+held, tx.Org(), it.ID, run)
	return n == 1, err
}

// FinishNotice records the outcome of an attempt at a notice. What is settled
// keeps its row, so that it is never made twice, and loses its text.
func FinishNotice(tx *db.Tx, n Notice, run id.ID, o Outcome) (bool, error) {
	next := o.NextAt
	if next.IsZero() {
		next = o.At
	}
	rows, err := tx.Exec(`UPDATE spool_notices SET state = ?, owner = NULL, next_at = ?, attempts = attempts + 1
		WHERE org_id = ? AND id = ? AND `+held+` AND state IN ('ready', 'sending')`,
		string(o.State), clock.Micros(next), tx.Org(), n.ID, run)
	if err != nil || rows == 0 || o.State == Deferred {
		return rows == 1, err
	}
	if _, err := tx.Exec("UPDATE spool_notices SET sealed = ? WHERE org_id = ? AND id = ?", []byte{}, tx.Org(), n.ID); err != nil {
		return false, err
	}
	fact := noticeFact{Notice: n.ID.Text(id.Notice), Kind: n.Kind, Domain: n.Domain, Reason: o.Reason}
	t := ledger.NoticeFailed
	if o.State == Delivered {
		t = ledger.NoticeSent
	}
	if o.Attempt != nil {
		if fact.Evidence, err = evidenceOf(o.Attempt); err != nil {
			return false, err
		}
	}
	return true, ledger.Append(tx, ledger.Fact{Type: t, Message: n.Message, Delivery: n.Delivery, At: o.At, Data: fact})
}

// NoticeFloor is the least grade for notices about a delivery: its plan's, and
// whether that asks for REQUIRETLS. What is about no delivery has the least
// that any notice has.
func NoticeFloor(tx *db.Tx, delivery id.ID) (floor policy.Grade, requireTLS bool, err error) {
	if delivery.IsZero() {
		return policy.Encrypted, false, nil
	}
	d, err := LoadDelivery(tx, nil, delivery)
	return d.Plan.NoticeFloor, d.Plan.RequireTLS, err
}
