package suppress

import (
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
)

// byRule is who adds what no person added.
const byRule = "rule"

// Bounce is one delivery that a mailbox did not take.
type Bounce struct {
	Recipient mail.Address
	Delivery  id.ID
	Hard      bool // there is no such mailbox and is not expected to be; else it may pass
}

// Bounced applies the rules, in the transaction that records the bounce.
func (s *Service) Bounced(tx *db.Tx, b Bounce) error {
	now := s.Clock.Now()
	e := Entry{ID: id.New(), Org: tx.Org(), Address: b.Recipient, Scope: All, Reason: HardBounce, Delivery: b.Delivery,
		CreatedAt: now, ExpiresAt: now.Add(s.Rules.HardFor)}
	mac, err := s.index(tx.Org(), b.Recipient)
	if err != nil {
		return err
	}
	allowed, err := s.allowed(tx, mac, now)
	if err != nil || allowed {
		return err
	}
	over := SoftBounces // a hard bounce says more
	if !b.Hard {
		enough, err := s.count(tx, mac, b.Delivery, now)
		if err != nil || !enough {
			return err
		}
		e.Reason, e.ExpiresAt, over = SoftBounces, now.Add(s.Rules.SoftFor), ""
	}
	_, err = s.put(tx, e, over, byRule)
	return err
}

// Complained applies the rules for a complaint, in the transaction that
// records it.
func (s *Service) Complained(tx *db.Tx, recipient mail.Address, delivery id.ID) error {
	now := s.Clock.Now()
	mac, err := s.index(tx.Org(), recipient)
	if err != nil {
		return err
	}
	allowed, err := s.allowed(tx, mac, now)
	if err != nil || allowed {
		return err
	}
	_, err = s.put(tx, Entry{ID: id.New(), Org: tx.Org(), Address: recipient, Scope: Bulk, Reason: Complaint, Delivery: delivery, CreatedAt: now}, "", byRule)
	return err
}

// allowed reports whether a person keeps the rules from an address.
func (s *Service) allowed(tx *db.Tx, mac []byte, now time.Time) (bool, error) {
	var n int
	err := tx.Row("SELECT count(*) FROM suppress_entries WHERE org_id = ? AND address_hmac = ? AND scope = 'none' AND expires_at > ?",
		tx.Org(), mac, clock.Micros(now)).Scan(&n)
	return n > 0, err
}

// count notes a bounce that may pass and reports whether there are enough.
func (s *Service) count(tx *db.Tx, mac []byte, delivery id.ID, now time.Time) (bool, error) {
	if _, err := tx.Exec(`INSERT INTO suppress_soft (org_id, address_hmac, delivery_id, at) VALUES (?, ?, ?, ?)
		ON CONFLICT (org_id, address_hmac, delivery_id) DO NOTHING`, tx.Org(), mac, delivery, clock.Micros(now)); err != nil {
		return false, err
	}
	var n int
	err := tx.Row("SELECT count(*) FROM suppress_soft WHERE org_id = ? AND address_hmac = ? AND at > ?",
		tx.Org(), mac, clock.Micros(now.Add(-s.Rules.SoftWithin))).Scan(&n)
	return n >= s.Rules.SoftCount, err
}
