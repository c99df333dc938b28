package suppress

import (
	"context"
	"encoding/json"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
)

// ErrNone is the answer for an entry that is not there.
var ErrNone = fault.New(fault.NotFound, "no_suppression", "There is no such suppression.")

// fact is the clear part of a suppression's ledger entries.
type fact struct {
	Suppression string    `json:"suppression,omitempty"`
	Domain      string    `json:"domain"`
	Scope       Scope     `json:"scope,omitempty"`
	Reason      Reason    `json:"reason,omitempty"`
	Delivery    string    `json:"delivery,omitempty"`
	ExpiresAt   time.Time `json:"expires_at,omitzero"`
	Ended       int64     `json:"ended,omitempty"` // entries that this took away
	By          string    `json:"by,omitempty"`
}

// factPrivate is the sealed part.
type factPrivate struct {
	Address string `json:"address"`
}

// row is an entry ready to be written.
type row struct {
	Entry
	mac    []byte
	key    *custody.DataKey
	sealed []byte
}

func (s *Service) seal(key *custody.DataKey, e Entry) (row, error) {
	text, err := json.Marshal(wireEntry{e.Address.Reveal(), e.Note.Reveal()})
	if err != nil {
		return row{}, err
	}
	mac, err := s.index(e.Org, e.Address)
	return row{e, mac, key, key.Seal(labelEntry, e.ID, text)}, err
}

// insert writes an entry where there is none of its scope, none that still
// lasts, or one that over names. It reports whether it did.
func (r row) insert(tx *db.Tx, over Reason, now time.Time) (bool, error) {
	var expires any
	if !r.ExpiresAt.IsZero() {
		expires = clock.Micros(r.ExpiresAt)
	}
	n, err := tx.Exec(`INSERT INTO suppress_entries
		(id, org_id, address_hmac, domain, scope, reason, key_id, sealed, delivery_id, created_at, expires_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (org_id, address_hmac, scope) DO UPDATE SET
		id = excluded.id, domain = excluded.domain, reason = excluded.reason, key_id = excluded.key_id, sealed = excluded.sealed,
		delivery_id = excluded.delivery_id, created_at = excluded.created_at, expires_at = excluded.expires_at
		WHERE suppress_entries.expires_at <= ? OR suppress_entries.reason = ?`,
		r.ID, tx.Org(), r.mac, r.Address.Domain(), string(r.Scope), string(r.Reason), r.key.ID, r.sealed, r.Delivery,
		clock.Micros(r.CreatedAt), expires, clock.Micros(now), string(over))
	return n == 1, err
}

// put writes an entry with its fact.
func (s *Service) put(tx *db.Tx, e Entry, over Reason, by string) (bool, error) {
	key, err := s.key(tx)
	if err != nil {
		return false, err
	}
	r, err := s.seal(key, e)
	if err != nil {
		return false, err
	}
	now := s.Clock.Now()
	s.remember(tx.Org(), memo{at: now, any: true}) // also if it comes to nothing: then it costs a look
	if ok, err := r.insert(tx, over, now); err != nil || !ok {
		return false, err
	}
	f := fact{Suppression: e.ID.Text(id.Suppression), Domain: e.Address.Domain(), Scope: e.Scope, Reason: e.Reason, ExpiresAt: e.ExpiresAt.UTC(), By: by}
	if !e.Delivery.IsZero() {
		f.Delivery = e.Delivery.Text(id.Delivery)
	}
	return true, ledger.Append(tx, ledger.Fact{Type: ledger.SuppressAdded, At: now, Data: f, Key: key, Private: factPrivate{e.Address.Reveal()}})
}

// noteLimit is how much a person may note beside an address.
const noteLimit = 500

func checkEntry(e Entry, now time.Time) error {
	switch {
	case e.Scope != All && e.Scope != Bulk:
		return fault.New(fault.Invalid, "bad_scope", "The scope is all or bulk.").At("/scope")
	case !e.ExpiresAt.IsZero() && !e.ExpiresAt.After(now):
		return fault.New(fault.Invalid, "expires_too_soon", "expires_at must be later than now.").At("/expires_at")
	case !noteFits(e.Note.Reveal()):
		return fault.Newf(fault.Invalid, "bad_note", "A note has at most %d octets and no control characters.", noteLimit).At("/note")
	}
	return nil
}

// Add suppresses an address because a person says so, in place of what was
// there of the same scope. by names who.
func (s *Service) Add(ctx context.Context, e Entry, by string) (Entry, error) {
	now := s.Clock.Now()
	if err := checkEntry(e, now); err != nil {
		return e, err
	}
	e.ID, e.Reason, e.Delivery, e.CreatedAt = id.New(), Manual, id.ID{}, now
	err := s.DB.Write(ctx, e.Org, func(tx *db.Tx) error {
		if _, err := s.end(tx, e.Address, None, e.Scope); err != nil {
			return err
		}
		_, err := s.put(tx, e, "", by)
		return err
	})
	return e, err
}

// end deletes what an address has of two scopes.
func (s *Service) end(tx *db.Tx, a mail.Address, one, two Scope) (int64, error) {
	mac, err := s.index(tx.Org(), a)
	if err != nil {
		return 0, err
	}
	return tx.Exec("DELETE FROM suppress_entries WHERE org_id = ? AND address_hmac = ? AND (scope = ? OR scope = ?)",
		tx.Org(), mac, string(one), string(two))
}

// Allow lets mail to an address go again until a time, whatever rules would
// say: what is suppressed of it ends, and rules add nothing.
func (s *Service) Allow(ctx context.Context, org id.ID, a mail.Address, until time.Time, by string) error {
	now := s.Clock.Now()
	if !until.After(now) {
		return fault.New(fault.Invalid, "expires_too_soon", "An address can be allowed until a time that is still ahead.")
	}
	return s.DB.Write(ctx, org, func(tx *db.Tx) error {
		key, err := s.key(tx)
		if err != nil {
			return err
		}
		ended, err := s.end(tx, a, All, Bulk)
		if err != nil {
			return err
		}
		if _, err := s.end(tx, a, None, None); err != nil {
			return err
		}
		e := Entry{ID: id.New(), Org: org, Address: a, Scope: None, Reason: Allowed, CreatedAt: now, ExpiresAt: until}
		r, err := s.seal(key, e)
		if err != nil {
			return err
		}
		if _, err := r.insert(tx, "", now); err != nil {
			return err
		}
		if _, err := tx.Exec("DELETE FROM suppress_soft WHERE org_id = ? AND address_hmac = ?", org, r.mac); err != nil {
			return err
		}
		return ledger.Append(tx, ledger.Fact{Type: ledger.SuppressAllowed, At: now, Key: key, Private: factPrivate{a.Reveal()},
			Data: fact{Suppression: e.ID.Text(id.Suppression), Domain: a.Domain(), ExpiresAt: until.UTC(), Ended: ended, By: by}})
	})
}

// Remove deletes one entry.
func (s *Service) Remove(ctx context.Context, org, entry id.ID, by string) error {
	return s.DB.Write(ctx, org, func(tx *db.Tx) error {
		keys, err := s.keys(tx)
		if err != nil {
			return err
		}
		all, err := db.All(tx, s.scan(tx, keys), "DELETE FROM suppress_entries WHERE org_id = ? AND id = ? RETURNING "+columns, org, entry)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return ErrNone
		}
		return s.removed(tx, all, by)
	})
}

// RemoveAddress deletes what an address has, and gives the number of entries.
func (s *Service) RemoveAddress(ctx context.Context, org id.ID, a mail.Address, by string) (n int, err error) {
	mac, err := s.index(org, a)
	if err != nil {
		return 0, err
	}
	err = s.DB.Write(ctx, org, func(tx *db.Tx) error {
		keys, err := s.keys(tx)
		if err != nil {
			return err
		}
		all, err := db.All(tx, s.scan(tx, keys), "DELETE FROM suppress_entries WHERE org_id = ? AND address_hmac = ? RETURNING "+columns, org, mac)
		if err != nil {
			return err
		}
		n = len(all)
		return s.removed(tx, all, by)
	})
	return n, err
}

func (s *Service) removed(tx *db.Tx, all []Entry, by string) error {
	if len(all) == 0 {
		return nil
	}
	key, err := s.key(tx)
	if err != nil {
		return err
	}
	var facts []ledger.Fact
	for _, e := range all {
		facts = append(facts, ledger.Fact{Type: ledger.SuppressRemoved, At: s.Clock.Now(), Key: key, Private: factPrivate{e.Address.Reveal()},
			Data: fact{Suppression: e.ID.Text(id.Suppression), Domain: e.Address.Domain(), Scope: e.Scope, Reason: e.Reason, By: by}})
	}
	return ledger.Append(tx, facts...)
}

// List gives entries that last, in the order in which they were made, behind
// one; those of one address only where it is given.
func (s *Service) List(ctx context.Context, org id.ID, of mail.Address, after id.ID, limit int) (all []Entry, err error) {
	query, args := "SELECT "+columns+" FROM suppress_entries WHERE org_id = ? AND id > ? AND (expires_at IS NULL OR expires_at > ?)",
		[]any{org, after, clock.Micros(s.Clock.Now())}
	if !of.IsZero() {
		mac, err := s.index(org, of)
		if err != nil {
			return nil, err
		}
		query, args = query+" AND address_hmac = ?", append(args, mac)
	}
	err = s.DB.Read(ctx, org, func(tx *db.Tx) error {
		keys, err := s.keys(tx)
		if err != nil {
			return err
		}
		all, err = db.All(tx, s.scan(tx, keys), query+" ORDER BY id LIMIT ?", append(args, limit)...)
		return err
	})
	return all, err
}

// Tidy deletes what has ended or is too old to count.
func (s *Service) Tidy(ctx context.Context) error {
	now := s.Clock.Now()
	if err := s.DB.Sweep(ctx, "suppress_entries", "id", "expires_at <= ?", clock.Micros(now)); err != nil {
		return err
	}
	return s.DB.Sweep(ctx, "suppress_soft", "org_id, address_hmac, delivery_id", "at <= ?", clock.Micros(now.Add(-s.Rules.SoftWithin)))
}
