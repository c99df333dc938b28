package retain

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/spool"
)

// holdLabel binds what is sealed of a hold to this use for ever.
const holdLabel = "retain.hold.v1"

// maxHolds are the holds of one organization at a time: every batch of the
// purge reads them all.
const maxHolds = 1000

// Scope is what a hold covers.
type Scope string

// The scopes.
const (
	HoldMessage      Scope = "message"
	HoldSender       Scope = "sender"    // of the envelope
	HoldRecipient    Scope = "recipient" // mail to the address, its other recipients included
	HoldOrganization Scope = "organization"
)

// Hold keeps what it covers from being destroyed, also what is accepted after
// it was placed.
type Hold struct {
	ID       id.ID
	Scope    Scope
	Message  id.ID        // of HoldMessage
	Address  mail.Address // of HoldSender and HoldRecipient
	Matter   private.String
	Reason   private.String
	By       private.String // who placed it
	PlacedAt time.Time
	LiftedAt time.Time // zero while it holds
}

// wireHold is what is sealed of a hold.
type wireHold struct {
	Address string `json:"a,omitempty"`
	Matter  string `json:"m"`
	Reason  string `json:"r"`
	By      string `json:"b"`
}

// holdFact is the clear part of hold.placed and hold.lifted; holdPrivate is
// their sealed one.
type holdFact struct {
	Hold  string `json:"hold"`
	Scope Scope  `json:"scope"`
}

type holdPrivate struct {
	Matter string `json:"matter,omitempty"`
	Reason string `json:"reason"`
	By     string `json:"by"`
}

// Place puts a hold in effect. What the purge has begun to destroy in a
// transaction that is not committed yet is waited for.
func (s *Service) Place(ctx context.Context, org id.ID, h Hold) (Hold, error) {
	if err := h.check(); err != nil {
		return h, err
	}
	mac := []byte{}
	var err error
	if !h.Address.IsZero() {
		if mac, err = s.Custody.Index(org, spool.IndexAddress, h.Address.Normal()); err != nil {
			return h, err
		}
	}
	key, err := s.Custody.NewDataKey(org)
	if err != nil {
		return h, err
	}
	h.ID, h.PlacedAt = id.New(), s.Clock.Now()
	text, err := json.Marshal(wireHold{h.Address.Reveal(), h.Matter.Reveal(), h.Reason.Reveal(), h.By.Reveal()})
	if err != nil {
		return h, err
	}
	return h, s.DB.WriteAlone(ctx, org, func(tx *db.Tx) error {
		if err := h.admit(tx); err != nil {
			return err
		}
		if err := s.Custody.SaveDataKey(tx, key); err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO retain_holds (id, org_id, scope, message_id, address_hmac, key_id, sealed, placed_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, h.ID, org, string(h.Scope), h.Message, mac, key.ID, key.Seal(holdLabel, h.ID, text),
			clock.Micros(h.PlacedAt)); err != nil {
			return fmt.Errorf("place hold: %w", err)
		}
		return ledger.Append(tx, ledger.Fact{Type: ledger.HoldPlaced, Message: h.Message, At: h.PlacedAt, Data: holdFact{h.ID.Text(id.Hold), h.Scope},
			Private: holdPrivate{h.Matter.Reveal(), h.Reason.Reveal(), h.By.Reveal()}, Key: key})
	})
}

func (h *Hold) check() error {
	switch h.Scope {
	case HoldMessage, HoldSender, HoldRecipient, HoldOrganization:
	default:
		return errors.New("a hold has no such scope")
	}
	if (h.Scope == HoldMessage) == h.Message.IsZero() || (h.Scope == HoldSender || h.Scope == HoldRecipient) == h.Address.IsZero() {
		return errors.New("what a hold covers does not fit its scope")
	}
	for _, field := range []struct {
		text private.String
		most int
		name string
	}{{h.Matter, 200, "matter"}, {h.Reason, 2000, "reason"}, {h.By, 200, "author"}} {
		t := strings.TrimSpace(field.text.Reveal())
		if t == "" || len(t) > field.most || strings.ContainsAny(t, "\r\n\x00") {
			return fault.Newf(fault.Invalid, "bad_hold", "The %s of a hold is one line of up to %d octets.", field.name, field.most)
		}
	}
	return nil
}

// admit locks the organization and looks whether the hold has something to
// hold.
func (h *Hold) admit(tx *db.Tx) error {
	if _, err := lock(tx); err != nil {
		return err
	}
	if destroyed, err := account.Destroyed(tx); err != nil {
		return err
	} else if destroyed {
		return nothingToHold
	}
	var active int
	if err := tx.Row("SELECT count(*) FROM retain_holds WHERE org_id = ? AND lifted_at IS NULL", tx.Org()).Scan(&active); err != nil {
		return err
	}
	if active >= maxHolds {
		return fault.Newf(fault.TooMany, "too_many_holds", "An organization has at most %d holds at a time. Hold a whole sender, recipient or the organization.", maxHolds)
	}
	if h.Scope != HoldMessage {
		return nil
	}
	_, err := spool.KeptMessage(tx, h.Message)
	return err
}

var nothingToHold = fault.New(fault.Conflict, "org_destroyed", "The keys of the organization are destroyed, or are just about to be: a hold cannot keep anything any more.")

var noHold = fault.New(fault.NotFound, "no_hold", "The organization has no such hold in effect. \"sealpost hold list\" shows all.")

// Lift ends a hold. What it kept is destroyed by the next purge, if its time
// is over.
func (s *Service) Lift(ctx context.Context, org, hold id.ID, reason, by private.String) error {
	for _, t := range []private.String{reason, by} {
		if t := strings.TrimSpace(t.Reveal()); t == "" || len(t) > 2000 || strings.ContainsAny(t, "\r\n\x00") {
			return fault.New(fault.Invalid, "bad_hold", "Who lifts a hold, and why, is one line of up to 2000 octets each.")
		}
	}
	now := s.Clock.Now()
	return s.DB.WriteAlone(ctx, org, func(tx *db.Tx) error {
		if _, err := lock(tx); err != nil {
			return err
		}
		h, keyID, err := s.hold(tx, hold)
		if err != nil {
			return err
		}
		key, err := s.Custody.DataKey(tx, keyID)
		if err != nil {
			return err
		}
		n, err := tx.Exec("UPDATE retain_holds SET lifted_at = ? WHERE org_id = ? AND id = ? AND lifted_at IS NULL", clock.Micros(now), org, hold)
		if err != nil {
			return err
		}
		if n == 0 {
			return noHold
		}
		return ledger.Append(tx, ledger.Fact{Type: ledger.HoldLifted, Message: h.Message, At: now, Data: holdFact{hold.Text(id.Hold), h.Scope},
			Private: holdPrivate{Reason: reason.Reveal(), By: by.Reveal()}, Key: key})
	})
}

const holdColumns = "SELECT id, scope, message_id, key_id, sealed, placed_at, lifted_at FROM retain_holds WHERE org_id = ? "

type holdRow struct {
	Hold
	key    id.ID
	sealed []byte
}

func scanHold(row db.Row) (h holdRow, err error) {
	var placed int64
	var lifted sql.NullInt64
	err = row.Scan(&h.ID, &h.Scope, &h.Message, &h.key, &h.sealed, &placed, &lifted)
	h.PlacedAt = clock.FromMicros(placed)
	if lifted.Valid {
		h.LiftedAt = clock.FromMicros(lifted.Int64)
	}
	return h, err
}

func (s *Service) hold(tx *db.Tx, hold id.ID) (Hold, id.ID, error) {
	all, err := db.All(tx, scanHold, holdColumns+"AND id = ?", tx.Org(), hold)
	if err == nil && len(all) == 0 {
		err = noHold
	}
	if err != nil {
		return Hold{}, id.ID{}, err
	}
	return all[0].Hold, all[0].key, nil
}

// Holds lists the organization's holds, oldest first, the lifted ones too if
// that is asked for.
func (s *Service) Holds(ctx context.Context, org id.ID, lifted bool) (all []Hold, err error) {
	only := "AND lifted_at IS NULL "
	if lifted {
		only = ""
	}
	err = s.DB.Read(ctx, org, func(tx *db.Tx) error {
		rows, err := db.All(tx, scanHold, holdColumns+only+"ORDER BY id", tx.Org())
		if err != nil {
			return err
		}
		all = nil
		for i := range rows {
			if err := rows[i].open(tx, s.Custody); err != nil {
				return err
			}
			all = append(all, rows[i].Hold)
		}
		return nil
	})
	return all, err
}

func (h *holdRow) open(tx *db.Tx, c *custody.Custody) error {
	key, err := c.DataKey(tx, h.key)
	if err != nil {
		return err
	}
	text, err := key.Open(holdLabel, h.ID, h.sealed)
	if err != nil {
		return err
	}
	var w wireHold
	if json.Unmarshal(text, &w) != nil {
		return errors.New("stored hold does not parse")
	}
	h.Matter, h.Reason, h.By = private.NewString(w.Matter), private.NewString(w.Reason), private.NewString(w.By)
	if w.Address != "" {
		h.Address, err = mail.ParseAddress(w.Address)
	}
	return err
}

// RefuseHeld gives a fault while a hold of the transaction's organization is
// in effect, and keeps new ones out until the transaction ends.
func RefuseHeld(tx *db.Tx) error {
	if _, err := lock(tx); err != nil {
		return err
	}
	var n int
	if err := tx.Row("SELECT count(*) FROM retain_holds WHERE org_id = ? AND lifted_at IS NULL", tx.Org()).Scan(&n); err != nil || n == 0 {
		return err
	}
	return fault.Newf(fault.Conflict, "legal_hold",
		"The organization has legal holds in effect (%d). Nothing overrides them: its keys can be destroyed when all are lifted.", n)
}

// holds are those in effect.
type holds struct {
	any, all            bool
	since               time.Time // when the oldest was placed
	messages            map[id.ID]bool
	senders, recipients map[string]bool // by HMAC
}

func activeHolds(tx *db.Tx) (h holds, err error) {
	h = holds{messages: map[id.ID]bool{}, senders: map[string]bool{}, recipients: map[string]bool{}}
	rows, err := tx.Query("SELECT scope, message_id, address_hmac, placed_at FROM retain_holds WHERE org_id = ? AND lifted_at IS NULL", tx.Org())
	if err != nil {
		return h, err
	}
	defer rows.Close()
	for rows.Next() {
		var scope Scope
		var message id.ID
		var mac []byte
		var placed int64
		if err := rows.Scan(&scope, &message, &mac, &placed); err != nil {
			return h, err
		}
		if at := clock.FromMicros(placed); !h.any || at.Before(h.since) {
			h.any, h.since = true, at
		}
		switch scope {
		case HoldMessage:
			h.messages[message] = true
		case HoldSender:
			h.senders[string(mac)] = true
		case HoldRecipient:
			h.recipients[string(mac)] = true
		default: // of a newer version, too: what is not understood holds everything
			h.all = true
		}
	}
	return h, rows.Err()
}

// covers reports whether a message is held.
func (h holds) covers(m spool.Kept, deliveries []spool.KeptDelivery) bool {
	if h.all || h.messages[m.ID] || h.senders[string(m.SenderHMAC)] {
		return true
	}
	for _, d := range deliveries {
		if h.recipients[string(d.RecipientHMAC)] {
			return true
		}
	}
	return false
}
