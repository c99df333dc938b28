package spool

import (
	"database/sql"
	"encoding/json"
	"errors"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

// What is absent or another organization's is answered with, and at the edges
// also what is no id at all, so that they look alike.
var (
	ErrNoMessage  = fault.New(fault.NotFound, "no_message", "There is no such message.")
	ErrNoDelivery = fault.New(fault.NotFound, "no_delivery", "There is no such delivery.")
)

// LoadMessage opens one message of the organization.
func LoadMessage(tx *db.Tx, c *custody.Custody, message id.ID) (Message, error) {
	m := Message{ID: message, Org: tx.Org()}
	var keyID id.ID
	var purpose string
	var envelope, header, details []byte
	var created, sendAt, expires, outside int64
	err := tx.Row(`SELECT client_id, source, purpose, key_id, blob_id, size, envelope_sealed, header_sealed, details_sealed,
		policy_version, created_at, send_at, expires_at, lane, inbound FROM spool_messages WHERE org_id = ? AND id = ?`, tx.Org(), message).
		Scan(&m.Client, &m.Source, &purpose, &keyID, &m.Blob, &m.Size, &envelope, &header, &details,
			&m.PolicyVersion, &created, &sendAt, &expires, &m.Lane, &outside)
	if errors.Is(err, sql.ErrNoRows) {
		return m, ErrNoMessage
	}
	if err != nil {
		return m, err
	}
	if outside == 1 {
		m.Source = FromOutside
	}
	m.Purpose = policy.Purpose(purpose)
	m.CreatedAt, m.SendAt, m.ExpiresAt = clock.FromMicros(created), clock.FromMicros(sendAt), clock.FromMicros(expires)
	if m.Key, err = c.DataKey(tx, keyID); err != nil {
		return m, err
	}
	if m.Header, err = m.Key.Open(labelHeader, m.ID, header); err != nil {
		return m, err
	}
	if m.Envelope, err = openEnvelope(m.Key, m.ID, envelope); err != nil {
		return m, err
	}
	m.Details, err = openDetails(m.Key, m.ID, details)
	return m, err
}

func openEnvelope(key *custody.DataKey, message id.ID, box []byte) (Envelope, error) {
	text, err := key.Open(labelEnvelope, message, box)
	if err != nil {
		return Envelope{}, err
	}
	var w wireEnvelope
	if err := json.Unmarshal(text, &w); err != nil {
		return Envelope{}, errors.New("stored envelope does not parse")
	}
	e := Envelope{RequireTLS: w.RequireTLS, EightBit: w.EightBit, UTF8: w.UTF8, Proved: w.Proved}
	if w.Sender != "" {
		e.Sender, err = mail.ParseAddress(w.Sender)
	}
	return e, err
}

func openDetails(key *custody.DataKey, message id.ID, box []byte) (Details, error) {
	text, err := key.Open(labelDetails, message, box)
	if err != nil {
		return Details{}, err
	}
	var w wireDetails
	if err := json.Unmarshal(text, &w); err != nil {
		return Details{}, errors.New("stored details do not parse")
	}
	d := Details{From: private.NewString(w.From), Subject: private.NewString(w.Subject)}
	for _, t := range w.Tags {
		d.Tags = append(d.Tags, private.NewString(t))
	}
	for _, kv := range w.Metadata {
		d.Metadata = append(d.Metadata, Pair{private.NewString(kv[0]), private.NewString(kv[1])})
	}
	return d, nil
}

const deliveryColumns = `d.id, d.message_id, d.recipient_sealed, d.plan, d.seal, d.final, d.grade, d.reason, d.attempts,
	d.settled, d.settled_at, d.created_at, d.journal, u.state, u.next_at`

const deliveryTables = ` FROM spool_deliveries d LEFT JOIN spool_unsettled u ON u.delivery_id = d.id `

// scanDelivery reads deliveryColumns. key may be nil: then the recipient is
// left out.
func scanDelivery(row db.Row, org id.ID, key *custody.DataKey) (Delivery, error) {
	d := Delivery{Org: org}
	var recipient []byte
	var plan, seal, grade string
	var final, created, journal int64
	var settled, state sql.NullString
	var settledAt, nextAt sql.NullInt64
	err := row.Scan(&d.ID, &d.Message, &recipient, &plan, &seal, &final, &grade, &d.Reason, &d.Attempts,
		&settled, &settledAt, &created, &journal, &state, &nextAt)
	if errors.Is(err, sql.ErrNoRows) {
		return d, ErrNoDelivery
	}
	if err != nil {
		return d, err
	}
	d.Seal, d.Final, d.CreatedAt = policy.Seal(seal), final == 1, clock.FromMicros(created)
	d.State, d.Journal = State(settled.String), journal == 1
	if !settled.Valid {
		d.State = State(state.String)
	}
	if settledAt.Valid {
		d.SettledAt = clock.FromMicros(settledAt.Int64)
	}
	if nextAt.Valid {
		d.NextAt = clock.FromMicros(nextAt.Int64)
	}
	if grade != "" {
		if d.Grade, err = policy.ParseGrade(grade); err != nil {
			return d, err
		}
	}
	if err := json.Unmarshal([]byte(plan), &d.Plan); err != nil {
		return d, errors.New("stored plan does not parse")
	}
	if key == nil {
		return d, nil
	}
	text, err := key.Open(labelRecipient, d.ID, recipient)
	if err != nil {
		return d, err
	}
	d.Recipient, err = mail.ParseAddress(string(text))
	return d, err
}

// LoadDelivery opens one delivery of the organization with the key of its
// message.
func LoadDelivery(tx *db.Tx, key *custody.DataKey, delivery id.ID) (Delivery, error) {
	return scanDelivery(tx.Row("SELECT "+deliveryColumns+deliveryTables+"WHERE d.org_id = ? AND d.id = ?", tx.Org(), delivery), tx.Org(), key)
}

// MessageOf tells which message a delivery belongs to.
func MessageOf(tx *db.Tx, delivery id.ID) (message id.ID, err error) {
	err = tx.Row("SELECT message_id FROM spool_deliveries WHERE org_id = ? AND id = ?", tx.Org(), delivery).Scan(&message)
	if errors.Is(err, sql.ErrNoRows) {
		return message, ErrNoDelivery
	}
	return message, err
}

// Deliveries opens all deliveries of one message, in the order of acceptance.
func Deliveries(tx *db.Tx, m Message) ([]Delivery, error) {
	return db.All(tx, func(row db.Row) (Delivery, error) { return scanDelivery(row, tx.Org(), m.Key) },
		"SELECT "+deliveryColumns+deliveryTables+"WHERE d.org_id = ? AND d.message_id = ? ORDER BY d.id", tx.Org(), m.ID)
}
