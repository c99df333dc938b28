package spool

import (
	"database/sql"
	"errors"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/private"
)

// Heard is what a mail system reported of a delivery after it had taken it.
type Heard struct {
	Kind       string // bounce, delay, delivered or complaint
	Class      string // why, of a bounce or delay
	Permanent  bool
	Status     string // enhanced status (RFC 3463), or empty
	Code       int
	Feedback   string // of a complaint
	Reporter   string // host name, or empty
	Diagnostic private.String
	At         time.Time
}

// heardFact is the clear part of a report's ledger entry; of a bounce that
// settles it is the data of delivery.failed.
type heardFact struct {
	Domain    string `json:"domain,omitempty"`
	Reason    string `json:"reason,omitempty"`
	Kind      string `json:"kind,omitempty"`
	Class     string `json:"class,omitempty"`
	Permanent bool   `json:"permanent,omitempty"`
	Status    string `json:"status,omitempty"`
	Code      int    `json:"code,omitempty"`
	Feedback  string `json:"feedback,omitempty"`
	Reporter  string `json:"reporter,omitempty"`
}

// heardPrivate is its sealed part: mail systems quote addresses.
type heardPrivate struct {
	Diagnostic string `json:"diagnostic"`
}

// Bounced lets a delivery fail that a mail system took and then returned. It
// reports whether the delivery stood where it can: delivered, or waiting.
func Bounced(tx *db.Tx, key *custody.DataKey, message, delivery id.ID, h Heard) (bool, error) {
	n, err := tx.Exec(`UPDATE spool_deliveries SET settled = 'failed', settled_at = ?, reason = ?
		WHERE org_id = ? AND id = ? AND (settled = 'delivered' OR settled = 'waiting')`, clock.Micros(h.At), ReasonBounced, tx.Org(), delivery)
	if err != nil || n == 0 {
		return false, err
	}
	return true, heard(tx, ledger.DeliveryFailed, ReasonBounced, key, message, delivery, h)
}

// Reported records what a mail system reported where nothing changes by it.
func Reported(tx *db.Tx, key *custody.DataKey, message, delivery id.ID, h Heard) error {
	return heard(tx, ledger.DeliveryReported, "", key, message, delivery, h)
}

// Complained records that a recipient complained. The delivery stays as it is.
func Complained(tx *db.Tx, key *custody.DataKey, message, delivery id.ID, h Heard) error {
	return heard(tx, ledger.DeliveryComplained, "", key, message, delivery, h)
}

func heard(tx *db.Tx, t ledger.Type, reason string, key *custody.DataKey, message, delivery id.ID, h Heard) error {
	var domain string
	if err := tx.Row("SELECT recipient_domain FROM spool_deliveries WHERE org_id = ? AND id = ?", tx.Org(), delivery).Scan(&domain); err != nil {
		return err
	}
	data := heardFact{Domain: domain, Reason: reason, Class: h.Class, Permanent: h.Permanent, Status: h.Status, Code: h.Code,
		Feedback: h.Feedback, Reporter: h.Reporter}
	if t == ledger.DeliveryReported {
		data.Kind = h.Kind
	}
	f := ledger.Fact{Type: t, Message: message, Delivery: delivery, At: h.At, Data: data}
	if !h.Diagnostic.Empty() {
		f.Key, f.Private = key, heardPrivate{h.Diagnostic.Reveal()}
	}
	return ledger.Append(tx, f)
}

// Standing is where a delivery is, without its content.
type Standing struct {
	Message   id.ID
	State     State
	SettledAt time.Time // zero while unsettled
}

// StandingOf tells where a delivery of the organization is.
func StandingOf(tx *db.Tx, delivery id.ID) (s Standing, err error) {
	var settled, state sql.NullString
	var at sql.NullInt64
	err = tx.Row(`SELECT d.message_id, d.settled, d.settled_at, u.state`+deliveryTables+`WHERE d.org_id = ? AND d.id = ?`, tx.Org(), delivery).
		Scan(&s.Message, &settled, &at, &state)
	if errors.Is(err, sql.ErrNoRows) {
		return s, ErrNoDelivery
	}
	if s.State = State(settled.String); !settled.Valid {
		s.State = State(state.String)
	}
	if at.Valid {
		s.SettledAt = clock.FromMicros(at.Int64)
	}
	return s, err
}
