// Package suppress keeps the addresses that an organization does not send to,
// and the rules by which one becomes such an address.
//
//	mailbox unknown, for good ───────────────▶ hard_bounce,  scope all, for a time
//	mailbox full and the like, often enough ─▶ soft_bounces, scope all, for a time
//	complaint ───────────────────────────────▶ complaint,    scope bulk
//	a person, a file, the API ───────────────▶ manual, import, as they say
//	a person allows the address ─────────────▶ allowed, scope none: the rules
//	                                           add nothing while it lasts
//
// Invariants:
//   - A complaint never stops anything but bulk mail: no rule gives it another
//     scope, so that a click on "spam" cannot keep a result from a patient.
//   - An address has at most one entry of a scope. What a person entered is not
//     changed by a rule; what a rule entered ends by itself, but for complaints.
//   - One delivery counts once, however often its bounce is reported.
//   - Addresses and notes are sealed, and found by an HMAC of their normal form.
//   - Every change is a ledger entry in the same transaction, an import one for
//     each page.
//   - An organization that never suppressed anything costs its mail nothing.
package suppress

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
)

// Scope is which mail an entry stops.
type Scope string

// The scopes. None stops nothing: it keeps the rules away.
const (
	All  Scope = "all"
	Bulk Scope = "bulk"
	None Scope = "none"
)

// Reason is why an address is suppressed.
type Reason string

// The reasons.
const (
	HardBounce  Reason = "hard_bounce"
	SoftBounces Reason = "soft_bounces"
	Complaint   Reason = "complaint"
	Manual      Reason = "manual"
	Import      Reason = "import"
	Allowed     Reason = "allowed"
)

// Entry is one address and what is known of why it is here.
type Entry struct {
	ID, Org   id.ID
	Address   mail.Address
	Scope     Scope
	Reason    Reason
	Note      private.String // of a person, or empty
	Delivery  id.ID          // whose bounce or complaint it was, or zero
	CreatedAt time.Time
	ExpiresAt time.Time // zero for never
}

// Rules are when an address is suppressed without a person, and for how long.
type Rules struct {
	HardFor    time.Duration
	SoftCount  int // bounces that may pass, of as many deliveries
	SoftWithin time.Duration
	SoftFor    time.Duration
}

// Deps are what the service needs.
type Deps struct {
	DB      *db.DB
	Custody *custody.Custody
	Clock   clock.Clock
	Rules   Rules
}

// Service is the suppressions of one installation.
type Service struct {
	Deps
	mu    sync.Mutex
	known map[id.ID]memo
}

// memo says whether an organization has ever suppressed anything.
type memo struct {
	at  time.Time
	any bool
}

// New gives the service.
func New(d Deps) *Service { return &Service{Deps: d, known: map[id.ID]memo{}} }

const (
	labelIndex = "suppress.address.v1"
	labelEntry = "suppress.entry.v1"

	trustFor  = 3 * time.Second // how long a node believes that there is nothing
	knownOrgs = 10_000
	askAtOnce = 200 // addresses in one query
)

// Found is what stops mail to an address: all of it, and bulk mail. Empty
// stops nothing.
type Found struct{ All, Bulk Reason }

// Of gives the reason that stops mail of a kind, or "".
func (f Found) Of(bulk bool) Reason {
	if bulk && f.All == "" {
		return f.Bulk
	}
	return f.All
}

// Check tells of each address what stops mail to it, in their order. nil means
// that nothing stops any of it.
func (s *Service) Check(ctx context.Context, org id.ID, addresses []mail.Address) ([]Found, error) {
	if some, err := s.some(ctx, org); err != nil || !some {
		return nil, err
	}
	macs := make([][]byte, len(addresses))
	for i, a := range addresses {
		var err error
		if macs[i], err = s.index(org, a); err != nil {
			return nil, err
		}
	}
	found := make([]Found, len(addresses))
	err := s.DB.Read(ctx, org, func(tx *db.Tx) error {
		for from := 0; from < len(macs); from += askAtOnce {
			if err := s.check(tx, macs[from:min(from+askAtOnce, len(macs))], found[from:]); err != nil {
				return err
			}
		}
		return nil
	})
	return found, err
}

type stop struct {
	mac    []byte
	scope  Scope
	reason Reason
}

func (s *Service) check(tx *db.Tx, macs [][]byte, found []Found) error {
	args := []any{tx.Org()}
	for _, m := range macs {
		args = append(args, m)
	}
	args = append(args, clock.Micros(s.Clock.Now()))
	stops, err := db.All(tx, func(row db.Row) (e stop, err error) {
		err = row.Scan(&e.mac, &e.scope, &e.reason)
		return e, err
	}, `SELECT address_hmac, scope, reason FROM suppress_entries WHERE org_id = ?
		AND address_hmac IN (?`+strings.Repeat(", ?", len(macs)-1)+`) AND (expires_at IS NULL OR expires_at > ?)`, args...)
	if err != nil {
		return err
	}
	for _, e := range stops {
		for i, m := range macs {
			switch {
			case !bytes.Equal(m, e.mac):
			case e.scope == All:
				found[i].All = e.reason
			case e.scope == Bulk:
				found[i].Bulk = e.reason
			}
		}
	}
	return nil
}

// some reports whether the organization has ever suppressed anything.
func (s *Service) some(ctx context.Context, org id.ID) (bool, error) {
	now := s.Clock.Now()
	s.mu.Lock()
	m, ok := s.known[org]
	s.mu.Unlock()
	if ok && (m.any || now.Sub(m.at) < trustFor) {
		return m.any, nil
	}
	m = memo{at: now}
	err := s.DB.Read(ctx, org, func(tx *db.Tx) error {
		var n int
		err := tx.Row("SELECT count(*) FROM suppress_orgs WHERE org_id = ?", org).Scan(&n)
		m.any = n > 0
		return err
	})
	if err != nil {
		return false, err
	}
	s.remember(org, m)
	return m.any, nil
}

func (s *Service) remember(org id.ID, m memo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) >= knownOrgs {
		clear(s.known)
	}
	s.known[org] = m
}

func (s *Service) index(org id.ID, a mail.Address) ([]byte, error) {
	return s.Custody.Index(org, labelIndex, a.Normal())
}

// key gives the data key of the organization's entries, made with the first.
func (s *Service) key(tx *db.Tx) (*custody.DataKey, error) {
	const find = "SELECT key_id FROM suppress_orgs WHERE org_id = ?"
	var keyID id.ID
	err := tx.Row(find, tx.Org()).Scan(&keyID)
	if err == nil {
		return s.Custody.DataKey(tx, keyID)
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	fresh, err := s.Custody.NewDataKey(tx.Org())
	if err != nil {
		return nil, err
	}
	n, err := tx.Exec("INSERT INTO suppress_orgs (org_id, key_id) VALUES (?, ?) ON CONFLICT (org_id) DO NOTHING", tx.Org(), fresh.ID)
	if err != nil {
		return nil, err
	}
	if n == 1 {
		return fresh, s.Custody.SaveDataKey(tx, fresh)
	}
	if err := tx.Row(find, tx.Org()).Scan(&keyID); err != nil { // somebody was faster
		return nil, err
	}
	return s.Custody.DataKey(tx, keyID)
}

// wireEntry is how the sealed column is written.
type wireEntry struct {
	Address string `json:"a"`
	Note    string `json:"n,omitempty"`
}

const columns = "id, scope, reason, key_id, sealed, delivery_id, created_at, expires_at"

// scan reads columns. Most entries of an organization have the same key.
func (s *Service) scan(tx *db.Tx, keys map[id.ID]*custody.DataKey) func(db.Row) (Entry, error) {
	return func(row db.Row) (Entry, error) {
		e := Entry{Org: tx.Org()}
		var keyID id.ID
		var sealed []byte
		var created int64
		var expires sql.NullInt64
		if err := row.Scan(&e.ID, &e.Scope, &e.Reason, &keyID, &sealed, &e.Delivery, &created, &expires); err != nil {
			return e, err
		}
		e.CreatedAt = clock.FromMicros(created)
		if expires.Valid {
			e.ExpiresAt = clock.FromMicros(expires.Int64)
		}
		return e, e.open(keys[keyID], sealed)
	}
}

func (e *Entry) open(key *custody.DataKey, sealed []byte) error {
	if key == nil {
		return custody.ErrDestroyed
	}
	text, err := key.Open(labelEntry, e.ID, sealed)
	if err != nil {
		return err
	}
	var w wireEntry
	if err := json.Unmarshal(text, &w); err != nil {
		return errors.New("stored suppression does not parse")
	}
	e.Note = private.NewString(w.Note)
	e.Address, err = mail.ParseAddress(w.Address)
	return err
}

// keys gives the keys of the organization's entries, before rows are read: a
// connection answers one question at a time.
func (s *Service) keys(tx *db.Tx) (map[id.ID]*custody.DataKey, error) {
	ids, err := db.All(tx, db.Value[id.ID], "SELECT key_id FROM suppress_orgs WHERE org_id = ?", tx.Org())
	if err != nil {
		return nil, err
	}
	all := map[id.ID]*custody.DataKey{}
	for _, i := range ids {
		if all[i], err = s.Custody.DataKey(tx, i); err != nil {
			return nil, err
		}
	}
	return all, nil
}
