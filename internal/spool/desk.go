package spool

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

// Desk is where an organization's callers ask about their messages. What it
// shows is current: it reads the records and the ledger's entries themselves,
// also those that have no position yet.
type Desk struct {
	DB      *db.DB
	Custody *custody.Custody
}

// Shown is a message with its deliveries. Of one whose content is destroyed
// the record is left: no sender, no recipients, nothing of the header.
type Shown struct {
	Message    Message
	Deliveries []Delivery
	Destroyed  bool
}

// Tried is one attempt as it is read back.
type Tried struct {
	Number   int
	At       time.Time // when its outcome was known
	Took     time.Duration
	Seal     policy.Seal
	Result   string
	Reason   string
	Host     string
	Code     int
	Enhanced string
	Class    string         // why the peer said no, or empty
	Reply    private.String // the peer's words
	Evidence *Evidence      // of the transport, or nil

	Protection *Protection // by a key of the recipient, or nil
	PassedOver []string    // why keys of the recipient could not be used
}

// Message gives a message of the organization.
func (d *Desk) Message(ctx context.Context, org, message id.ID) (s Shown, err error) {
	err = d.DB.Read(ctx, org, func(tx *db.Tx) error {
		s, err = d.show(tx, message)
		return err
	})
	return s, err
}

func (d *Desk) show(tx *db.Tx, message id.ID) (s Shown, err error) {
	if s.Message, s.Destroyed, err = d.load(tx, message); err != nil {
		return s, err
	}
	s.Deliveries, err = Deliveries(tx, s.Message)
	return s, err
}

// load also gives a message whose content is destroyed, without its key.
func (d *Desk) load(tx *db.Tx, message id.ID) (m Message, destroyed bool, err error) {
	m, err = LoadMessage(tx, d.Custody, message)
	if errors.Is(err, custody.ErrDestroyed) {
		return m, true, nil
	}
	return m, false, err
}

// Delivery gives a delivery of the organization and its attempts.
func (d *Desk) Delivery(ctx context.Context, org, delivery id.ID) (dl Delivery, tried []Tried, err error) {
	err = d.DB.Read(ctx, org, func(tx *db.Tx) error {
		message, err := MessageOf(tx, delivery)
		if err != nil {
			return err
		}
		m, _, err := d.load(tx, message)
		if err != nil {
			return err
		}
		if dl, err = LoadDelivery(tx, m.Key, delivery); err != nil {
			return err
		}
		events, err := ledger.ForDelivery(tx, message, delivery)
		if err != nil {
			return err
		}
		tried, err = attempts(m.Key, events)
		return err
	})
	return dl, tried, err
}

// attempts joins how each attempt sealed with what came of it. Without a key
// what is sealed of it is left out.
func attempts(key *custody.DataKey, events []ledger.Event) ([]Tried, error) {
	var all []Tried
	var sealing Tried // of the attempt under way
	for _, e := range events {
		var err error
		switch e.Type {
		case ledger.DeliverySealed:
			sealing, err = readSealed(key, e)
		case ledger.DeliveryAttempted:
			var t Tried
			if t, err = readAttempted(key, e); err == nil {
				t.Protection, t.PassedOver = sealing.Protection, sealing.PassedOver
				all, sealing = append(all, t), Tried{}
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

func readSealed(key *custody.DataKey, e ledger.Event) (Tried, error) {
	var f sealedFact
	if err := json.Unmarshal(e.Data, &f); err != nil {
		return Tried{}, errors.New("stored sealing does not parse")
	}
	if f.Protection != nil && e.HasPrivate() && key != nil {
		var p sealedPrivate
		if err := ledger.OpenPrivate(key, e, &p); err != nil {
			return Tried{}, err
		}
		f.Protection.Key = private.NewString(p.Key)
	}
	return Tried{Protection: f.Protection, PassedOver: f.PassedOver}, nil
}

func readAttempted(key *custody.DataKey, e ledger.Event) (Tried, error) {
	var f attemptedFact
	if err := json.Unmarshal(e.Data, &f); err != nil {
		return Tried{}, errors.New("stored attempt does not parse")
	}
	t := Tried{Number: f.Number, At: e.At, Took: time.Duration(f.Micros) * time.Microsecond, Seal: f.Seal, Result: f.Result,
		Reason: f.Reason, Host: f.Host, Code: f.Code, Enhanced: f.Enhanced, Class: f.Class}
	if len(f.Evidence) > 0 {
		if err := json.Unmarshal(f.Evidence, &t.Evidence); err != nil {
			return t, errors.New("stored evidence does not parse")
		}
	}
	if e.HasPrivate() && key != nil {
		var p attemptedPrivate
		if err := ledger.OpenPrivate(key, e, &p); err != nil {
			return t, err
		}
		t.Reply = private.NewString(p.Reply)
	}
	return t, nil
}

// Wanted says which messages to search. Zero values match everything.
type Wanted struct {
	Sender, Recipient mail.Address
	State             State
	Since, Until      time.Time // of acceptance
	Before            id.ID     // messages older than this one: the next page
	Limit             int
}

// Search gives messages of the organization, newest first, and whether there
// are more.
func (d *Desk) Search(ctx context.Context, org id.ID, w Wanted) (found []Shown, more bool, err error) {
	s := Search{State: w.State, Since: w.Since, Until: w.Until, Before: w.Before, Limit: w.Limit + 1}
	if s.SenderHMAC, err = d.index(org, w.Sender); err != nil {
		return nil, false, err
	}
	if s.RecipientHMAC, err = d.index(org, w.Recipient); err != nil {
		return nil, false, err
	}
	err = d.DB.Read(ctx, org, func(tx *db.Tx) error {
		ids, err := Find(tx, s)
		if err != nil {
			return err
		}
		found, more = nil, len(ids) > w.Limit
		for _, m := range ids[:min(len(ids), w.Limit)] {
			shown, err := d.show(tx, m)
			if err != nil {
				return err
			}
			found = append(found, shown)
		}
		return nil
	})
	return found, more, err
}

func (d *Desk) index(org id.ID, a mail.Address) ([]byte, error) {
	if a.IsZero() {
		return nil, nil
	}
	return d.Custody.Index(org, IndexAddress, a.Normal())
}

// Cancel cancels every delivery of a message that can still be, and gives
// their number. by is the id of who asked.
func (d *Desk) Cancel(ctx context.Context, org, message id.ID, by string, at time.Time) (canceled int, err error) {
	var n int
	if err = d.DB.Write(ctx, org, func(tx *db.Tx) (err error) {
		n, err = CancelMessage(tx, message, ReasonSender, by, at)
		return err
	}); err != nil {
		return 0, err
	}
	return n, nil
}
