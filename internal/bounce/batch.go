package bounce

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/spool"
)

// batch is a stretch of one organization's ledger and what it asks for.
type batch struct {
	w        *Writer
	tx       *db.Tx
	now      time.Time
	from, to int64
	more     bool
	notices  []spool.Notice

	// The message of the last event: events about one message come in a row.
	lastID id.ID
	last   *spool.Message // nil: it asks for no answer
}

// fill reads until the ledger ends or the batch is full.
func (b *batch) fill() (err error) {
	if b.from, err = ledger.Cursor(b.tx, cursor); err != nil {
		return err
	}
	b.to = b.from
	for range batchPages {
		began := b.to
		events, next, err := ledger.ReadTypes(b.tx, began, pageEvents, asks()...)
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := b.take(e); err != nil {
				return fmt.Errorf("answer the event at position %d: %w", e.Seq, err)
			}
			b.to = e.Seq
			if len(b.notices) == batchPosts {
				b.more = true
				return nil
			}
		}
		b.to = next
		if next-began < pageEvents {
			return nil
		}
	}
	b.more = true
	return nil
}

// asks are the events that the sender may have to be told of.
func asks() []ledger.Type {
	return []ledger.Type{ledger.DeliveryFailed, ledger.DeliveryExpired, ledger.DeliverySuppressed, ledger.DeliveryDeferred}
}

// take adds the notice that an event asks for. What can never be read again
// does not stop the ones behind it.
func (b *batch) take(e ledger.Event) error {
	kind := ""
	switch e.Type {
	case ledger.DeliveryFailed, ledger.DeliveryExpired, ledger.DeliverySuppressed:
		kind = spool.KindDSN
	case ledger.DeliveryDeferred:
		kind = spool.KindDelay
	default:
		return nil
	}
	n, err := b.answer(kind, e)
	switch {
	case err == nil && n != nil:
		b.notices = append(b.notices, *n)
	case err == nil || fault.Is(err, fault.NotFound): // destroyed with the message
	case errors.Is(err, custody.ErrDamaged) || fault.Is(err, fault.Invalid):
		b.w.Log.Error("a sender cannot be told what became of a delivery, because its record cannot be read",
			"delivery", e.Delivery.Text(id.Delivery), "error", err)
	default:
		return err
	}
	return nil
}

// answer gives the notice for an event, or nil.
func (b *batch) answer(kind string, e ledger.Event) (*spool.Notice, error) {
	m, err := b.message(e.Message)
	if err != nil || m == nil {
		return nil, err
	}
	began := m.CreatedAt
	if m.SendAt.After(began) {
		began = m.SendAt
	}
	if kind == spool.KindDelay && m.Source == spool.FromOutside {
		return nil, nil
	}
	if kind == spool.KindDelay && (e.At.Sub(began) < b.w.DelayAfter || !b.now.Before(m.ExpiresAt)) {
		return nil, nil
	}
	d, err := spool.LoadDelivery(b.tx, m.Key, e.Delivery)
	if err != nil {
		return nil, err
	}
	if d.Journal {
		return nil, nil // the archive is the organization's business, not the sender's
	}
	if kind == spool.KindDelay && d.State.Settled() {
		return nil, nil // it has arrived by now, or the other notice follows
	}
	r := report{
		kind: kind, hostname: b.w.Hostname, now: b.now, arrived: m.CreatedAt, happened: e.At, until: m.ExpiresAt,
		message: m.ID, delivery: d.ID, sender: m.Envelope.Sender, recipient: d.Recipient, refusal: d.Plan.Refuse,
	}
	if err := b.history(&r, e); err != nil {
		return nil, err
	}
	text, err := r.text()
	if err != nil {
		return nil, err
	}
	n := spool.Notice{
		ID: id.New(), Org: b.tx.Org(), Message: m.ID, Delivery: d.ID, Kind: kind, Once: kind + ":" + d.ID.Text(id.Delivery),
		Key: m.Key, To: m.Envelope.Sender, Text: private.NewBytes(text), CreatedAt: b.now, ExpiresAt: b.now.Add(keepTrying),
	}
	if kind == spool.KindDelay {
		n.ExpiresAt = m.ExpiresAt // from then on it would be wrong
	}
	return &n, nil
}

// message opens the message of an event, or gives nil if its sender is not to
// be told anything.
func (b *batch) message(message id.ID) (*spool.Message, error) {
	if b.lastID == message {
		return b.last, nil
	}
	m, err := spool.LoadMessage(b.tx, b.w.Custody, message)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	b.lastID, b.last = message, nil
	bySMTP := m.Source == spool.FromSMTP || m.Source == spool.FromRelay || m.Source == spool.FromOutside && m.Envelope.Proved
	if err == nil && bySMTP && !m.Envelope.Sender.IsZero() {
		m.Header, m.Details = nil, spool.Details{} // nothing of them is wanted here
		b.last = &m
	}
	return b.last, nil
}

// stateData is what is used of a delivery.<state> entry, attemptData of a
// delivery.attempted one.
type stateData struct {
	Reason   string `json:"reason"`
	Status   string `json:"status"`   // of a report that came later
	Code     int    `json:"code"`     // likewise
	Reporter string `json:"reporter"` // likewise
}

type attemptData struct {
	Result   string `json:"result"`
	Host     string `json:"host"`
	Code     int    `json:"code"`
	Enhanced string `json:"enhanced"`
}

// history tells what the ledger knows of the way to the event e.
func (b *batch) history(r *report, e ledger.Event) error {
	var now stateData
	if err := json.Unmarshal(e.Data, &now); err != nil {
		return errors.New("the data of a ledger entry has an unknown form")
	}
	r.reason = now.Reason
	if r.reason == spool.ReasonBounced {
		r.returned = &attemptData{Host: now.Reporter, Code: now.Code, Enhanced: now.Status}
	}
	events, err := ledger.ForDelivery(b.tx, e.Message, e.Delivery)
	if err != nil {
		return err
	}
	for _, past := range events {
		var err error
		switch past.Type {
		case ledger.DeliveryDeferred:
			var s stateData
			err = json.Unmarshal(past.Data, &s)
			r.before = s.Reason
		case ledger.DeliveryAttempted:
			var a attemptData
			err = json.Unmarshal(past.Data, &a)
			r.tried, r.last = past.At, a
		}
		if err != nil {
			return errors.New("the data of a ledger entry has an unknown form")
		}
		if past.ID == e.ID {
			break // what came later is not part of it
		}
	}
	return nil
}
