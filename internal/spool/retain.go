package spool

import (
	"database/sql"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/policy"
)

// Kept is what retention needs to know of a message: nothing that is sealed.
type Kept struct {
	ID, Key, Blob id.ID
	Purpose       policy.Purpose
	Size          int64
	CreatedAt     time.Time
	SenderHMAC    []byte // empty when the null sender's, or once it is destroyed
	BodyGone      bool
	Gone          bool // body, header, details and addresses
}

// KeptDelivery is what retention needs to know of a delivery.
type KeptDelivery struct {
	ID            id.ID
	RecipientHMAC []byte
	State         State     // empty while it is not settled
	SettledAt     time.Time // zero while it is not settled
}

const keptColumns = `SELECT id, key_id, blob_id, purpose, size, created_at, sender_hmac, body_destroyed_at, destroyed_at FROM spool_messages `

func scanKept(row db.Row) (k Kept, err error) {
	var purpose string
	var created int64
	var body, all sql.NullInt64
	err = row.Scan(&k.ID, &k.Key, &k.Blob, &purpose, &k.Size, &created, &k.SenderHMAC, &body, &all)
	k.Purpose, k.CreatedAt, k.BodyGone, k.Gone = policy.Purpose(purpose), clock.FromMicros(created), body.Valid, all.Valid
	return k, err
}

// KeptAfter gives messages of the organization behind an id, in the order of
// ids.
func KeptAfter(tx *db.Tx, after id.ID, limit int) ([]Kept, error) {
	return db.All(tx, scanKept, keptColumns+"WHERE org_id = ? AND id > ? ORDER BY id LIMIT ?", tx.Org(), after, limit)
}

// KeptMessage gives one message of the organization, or ErrNoMessage.
func KeptMessage(tx *db.Tx, message id.ID) (Kept, error) {
	all, err := db.All(tx, scanKept, keptColumns+"WHERE org_id = ? AND id = ?", tx.Org(), message)
	if err == nil && len(all) == 0 {
		err = ErrNoMessage
	}
	if err != nil {
		return Kept{}, err
	}
	return all[0], nil
}

// KeptDeliveries gives the deliveries of a message of the organization.
func KeptDeliveries(tx *db.Tx, message id.ID) ([]KeptDelivery, error) {
	return db.All(tx, func(row db.Row) (d KeptDelivery, err error) {
		var state sql.NullString
		var at sql.NullInt64
		err = row.Scan(&d.ID, &d.RecipientHMAC, &state, &at)
		d.State = State(state.String)
		if at.Valid {
			d.SettledAt = clock.FromMicros(at.Int64)
		}
		return d, err
	}, "SELECT id, recipient_hmac, settled, settled_at FROM spool_deliveries WHERE message_id = ? AND org_id = ?", message, tx.Org())
}

// NoticesUnderWay reports whether mail about a message is still to be sent.
func NoticesUnderWay(tx *db.Tx, message id.ID) (bool, error) {
	var n int
	err := tx.Row(`SELECT count(*) FROM spool_notices WHERE message_id = ? AND org_id = ?
		AND (state = 'ready' OR state = 'sending' OR state = 'deferred')`, message, tx.Org()).Scan(&n)
	return n > 0, err
}

// ForgetBody records that a message's body is destroyed. Only retain calls it,
// in the transaction that destroys it.
func ForgetBody(tx *db.Tx, message id.ID, at time.Time) error {
	return forget(tx, "UPDATE spool_messages SET body_destroyed_at = ? WHERE org_id = ? AND id = ? AND body_destroyed_at IS NULL",
		clock.Micros(at), tx.Org(), message)
}

// ForgetContent empties what is sealed under a message's key, and the values
// by which its addresses are found. Only retain calls it, in the transaction
// that destroys the key.
func ForgetContent(tx *db.Tx, message id.ID, at time.Time) error {
	none := []byte{}
	if err := forget(tx, `UPDATE spool_messages SET envelope_sealed = ?, header_sealed = ?, details_sealed = ?, sender_hmac = ?,
		body_destroyed_at = coalesce(body_destroyed_at, ?), destroyed_at = ? WHERE org_id = ? AND id = ?`,
		none, none, none, none, clock.Micros(at), clock.Micros(at), tx.Org(), message); err != nil {
		return err
	}
	if err := forget(tx, "UPDATE spool_deliveries SET recipient_sealed = ?, recipient_hmac = ? WHERE message_id = ? AND org_id = ?",
		none, none, message, tx.Org()); err != nil {
		return err
	}
	return forget(tx, "UPDATE spool_notices SET sealed = ? WHERE message_id = ? AND org_id = ?", none, message, tx.Org())
}

// ForgetRecord deletes the record of a message and its deliveries. Only retain
// calls it.
func ForgetRecord(tx *db.Tx, message id.ID) error {
	for _, table := range []string{"spool_notices WHERE message_id", "spool_deliveries WHERE message_id", "spool_messages WHERE id"} {
		if err := forget(tx, "DELETE FROM "+table+" = ? AND org_id = ?", message, tx.Org()); err != nil {
			return err
		}
	}
	return nil
}

const oldReports = `SELECT id FROM spool_notices WHERE kind = 'tlsrpt' AND org_id = ? AND created_at < ?
	AND owner IS NULL AND (state = 'delivered' OR state = 'failed' OR state = 'expired') ORDER BY created_at LIMIT ?`

// ForgetReports deletes some settled mails with TLS reports of the
// transaction's organization that were made before a time, and their keys. They
// are about no message, so that nothing else lets go of them. Only tlsrpt calls
// it.
func ForgetReports(tx *db.Tx, c *custody.Custody, before time.Time, most int) (n int, err error) {
	keys, err := db.All(tx, db.Value[id.ID], "DELETE FROM spool_notices WHERE id IN ("+oldReports+") RETURNING key_id", tx.Org(), clock.Micros(before), most)
	if err != nil {
		return 0, fmt.Errorf("forget reports: %w", err)
	}
	for _, key := range keys {
		if err := c.DestroyDataKey(tx, key); err != nil {
			return 0, err
		}
	}
	return len(keys), nil
}

func forget(tx *db.Tx, text string, args ...any) error {
	if _, err := tx.Exec(text, args...); err != nil {
		return fmt.Errorf("destroy a message: %w", err)
	}
	return nil
}

// JournalFailed counts copies for the organization's archive that failed since
// a time; those of all organizations when the transaction is the system's.
func JournalFailed(tx *db.Tx, since time.Time) (n int, err error) {
	query, args := "", []any{clock.Micros(since)}
	if tx.Org() != db.System {
		query, args = " AND org_id = ?", append(args, tx.Org())
	}
	err = tx.Row(`SELECT count(*) FROM spool_deliveries
		WHERE journal = 1 AND (settled = 'failed' OR settled = 'expired') AND settled_at > ?`+query, args...).Scan(&n)
	return n, err
}
