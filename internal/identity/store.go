package identity

import (
	"context"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

// Labels bind what is stored to its use for ever.
const (
	secretLabel     = "identity.secret.v1"
	publicLabel     = "identity.public.v1"
	revocationLabel = "identity.revocation.v1"

	addressIndex     = "identity.address.v1"
	wkdIndex         = "identity.wkd.v1"
	fingerprintIndex = "identity.fingerprint.v1"
)

// public is the sealed public part of a key. It is no secret, but holds names
// and addresses.
type public struct {
	Address     string    `json:"address"`
	Fingerprint string    `json:"fingerprint"`
	Name        string    `json:"name,omitempty"`
	Algorithm   Algorithm `json:"algorithm,omitempty"` // as it was asked for; empty for imported keys
	Replaces    id.ID     `json:"replaces"`
	Key         []byte    `json:"key,omitempty"`
	Certificate []byte    `json:"certificate,omitempty"`
	Chain       [][]byte  `json:"chain,omitempty"`
	CSR         []byte    `json:"csr,omitempty"`
}

// record is a row with its public part open.
type record struct {
	Identity
	pub        public
	keyID      id.ID
	key        *custody.DataKey
	publicBox  []byte
	secretBox  []byte
	revokeBox  []byte
	secret     []byte // of a new record
	revocation []byte // of a new record
}

const columns = `id, org_id, kind, state, algorithm, key_id, public_sealed, secret_sealed, revocation_sealed,
	reason, created_at, expires_at, retired_at, revoked_at`

func scan(row db.Row) (*record, error) {
	var r record
	var created int64
	var expires, retired, revoked sql.NullInt64
	err := row.Scan(&r.ID, &r.Org, &r.Kind, &r.State, &r.Algorithm, &r.keyID, &r.publicBox, &r.secretBox, &r.revokeBox,
		&r.Reason, &created, &expires, &retired, &revoked)
	if err != nil {
		return nil, err
	}
	r.CreatedAt = clock.FromMicros(created)
	r.ExpiresAt, r.RetiredAt, r.RevokedAt = timeOf(expires), timeOf(retired), timeOf(revoked)
	return &r, nil
}

func timeOf(us sql.NullInt64) time.Time {
	if !us.Valid {
		return time.Time{}
	}
	return clock.FromMicros(us.Int64)
}

func microsOf(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: clock.Micros(t), Valid: !t.IsZero()}
}

// open opens the public part of a row.
func (s *Service) open(tx *db.Tx, r *record) (err error) {
	if r.key, err = s.d.Custody.DataKey(tx, r.keyID); err != nil {
		return err
	}
	text, err := r.key.Open(publicLabel, r.ID, r.publicBox)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &r.pub); err != nil {
		return fmt.Errorf("%w: %w", errStored, err)
	}
	if r.Address, err = mail.ParseAddress(r.pub.Address); err != nil {
		return fmt.Errorf("%w: %w", errStored, err)
	}
	r.Fingerprint = private.NewString(r.pub.Fingerprint)
	return nil
}

// errStored is what a stored key gives that opens and is not one.
var errStored = errors.New("a stored key cannot be read")

func (r *record) openSecret() ([]byte, error) { return r.key.Open(secretLabel, r.ID, r.secretBox) }

func (r *record) sealPublic() ([]byte, error) {
	text, err := json.Marshal(r.pub)
	if err != nil {
		return nil, err
	}
	return r.key.Seal(publicLabel, r.ID, text), nil
}

var noIdentity = fault.New(fault.NotFound, "no_identity", "The organization has no such key. \"sealpost identity list\" shows all.")

// load gives one key of the transaction's organization.
func (s *Service) load(tx *db.Tx, idn id.ID) (*record, error) {
	r, err := scan(tx.Row("SELECT "+columns+" FROM identity_keys WHERE id = ? AND org_id = ?", idn, tx.Org()))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, noIdentity
	}
	if err != nil {
		return nil, err
	}
	return r, s.open(tx, r)
}

func (s *Service) read(ctx context.Context, org, idn id.ID) (r *record, err error) {
	err = s.d.DB.Read(ctx, org, func(tx *db.Tx) error {
		r, err = s.load(tx, idn)
		return err
	})
	return r, err
}

// change runs fn in a transaction that no other change of the organization's
// keys shares or overtakes.
func (s *Service) change(ctx context.Context, org id.ID, fn func(tx *db.Tx) error) error {
	defer func() {
		n := s.snapshot(org) // this process sees it at once
		n.mu.Lock()
		defer n.mu.Unlock()
		n.forget()
	}()
	return s.d.DB.WriteAlone(ctx, org, func(tx *db.Tx) error {
		if _, err := tx.Exec(`INSERT INTO identity_heads (org_id, version) VALUES (?, 1)
			ON CONFLICT (org_id) DO UPDATE SET version = identity_heads.version + 1`, org); err != nil {
			return err
		}
		return fn(tx)
	})
}

var notOurDomain = fault.New(fault.Denied, "domain_not_verified",
	"The address is not at a verified domain of the organization. \"sealpost domain list\" shows them.")

func ownDomain(tx *db.Tx, a mail.Address) error {
	ours, err := account.OwnsDomain(tx, a.Domain())
	if err == nil && !ours {
		err = notOurDomain
	}
	return err
}

// draft is a new record of an address, in memory only.
func (s *Service) draft(org id.ID, kind policy.Seal, a mail.Address, at time.Time) (*record, error) {
	key, err := s.d.Custody.NewDataKey(org)
	if err != nil {
		return nil, err
	}
	r := &record{key: key, keyID: key.ID}
	r.ID, r.Org, r.Kind, r.Address, r.CreatedAt = id.New(), org, kind, a, at
	r.pub.Address = a.Reveal()
	return r, nil
}

// add stores a draft.
func (s *Service) add(tx *db.Tx, r *record) error {
	if err := ownDomain(tx, r.Address); err != nil {
		return err
	}
	address, wkd, print, err := s.indexes(r)
	if err != nil {
		return err
	}
	var known int
	if err := tx.Row("SELECT count(*) FROM identity_keys WHERE org_id = ? AND fingerprint_hmac = ?", r.Org, print).Scan(&known); err != nil {
		return err
	}
	if known > 0 {
		return fault.New(fault.Conflict, "identity_exists", "The organization has this key already. \"sealpost identity list\" shows it.")
	}
	if r.State == Active {
		if err := s.takeOver(tx, r, address); err != nil {
			return err
		}
	}
	r.Fingerprint = private.NewString(r.pub.Fingerprint)
	box, err := r.sealPublic()
	if err != nil {
		return err
	}
	var revocation []byte
	if r.revocation != nil {
		revocation = r.key.Seal(revocationLabel, r.ID, r.revocation)
	}
	if err := s.d.Custody.SaveDataKey(tx, r.key); err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO identity_keys (id, org_id, kind, state, domain, address_hmac, wkd_hmac, fingerprint_hmac, algorithm,
			key_id, public_sealed, secret_sealed, revocation_sealed, reason, warned, created_at, expires_at, retired_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', 0, ?, ?, ?)`,
		r.ID, r.Org, string(r.Kind), string(r.State), r.Address.Domain(), address, wkd, print, r.Algorithm,
		r.keyID, box, r.key.Seal(secretLabel, r.ID, r.secret), revocation,
		clock.Micros(r.CreatedAt), microsOf(r.ExpiresAt), microsOf(r.RetiredAt))
	return err
}

func (s *Service) indexes(r *record) (address, wkd, print []byte, err error) {
	if address, err = s.d.Custody.Index(r.Org, addressIndex, r.Address.Normal()); err != nil {
		return nil, nil, nil, err
	}
	if r.Kind == policy.PGP {
		if wkd, err = s.wkdIndex(r.Org, r.Address.Domain(), Hash(r.Address)); err != nil {
			return nil, nil, nil, err
		}
	}
	print, err = s.d.Custody.Index(r.Org, fingerprintIndex, r.pub.Fingerprint)
	return address, wkd, print, err
}

// activeOf gives the address's active key of a kind; zero when there is none.
func activeOf(tx *db.Tx, kind policy.Seal, address []byte) (active id.ID, err error) {
	err = tx.Row("SELECT id FROM identity_keys WHERE org_id = ? AND kind = ? AND address_hmac = ? AND state = 'active'",
		tx.Org(), string(kind), address).Scan(&active)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return active, err
}

// takeOver retires the key that r replaces. Another active key stands in its
// way.
func (s *Service) takeOver(tx *db.Tx, r *record, address []byte) error {
	active, err := activeOf(tx, r.Kind, address)
	switch {
	case err != nil || active == r.pub.Replaces && active.IsZero():
		return err
	case active == r.pub.Replaces:
		return s.retire(tx, active)
	case r.pub.Replaces.IsZero():
		return fault.New(fault.Conflict, "identity_active",
			"The address has an active key of this kind already. \"sealpost identity rotate\" makes its successor.")
	}
	return notActive
}

var notActive = fault.New(fault.Conflict, "identity_not_active", "This key is not active, so nothing can take over from it.")

func (s *Service) retire(tx *db.Tx, idn id.ID) error {
	old, err := s.load(tx, idn)
	if err != nil {
		return err
	}
	at := s.d.Clock.Now()
	if _, err := tx.Exec("UPDATE identity_keys SET state = 'retired', retired_at = ? WHERE id = ? AND org_id = ? AND state = 'active'",
		clock.Micros(at), idn, tx.Org()); err != nil {
		return err
	}
	return ledger.Append(tx, old.fact(ledger.IdentityRetired, at, keyFact{}))
}

// keyFact is the clear part of a key's ledger entries.
type keyFact struct {
	Identity  string `json:"identity"`
	Kind      string `json:"kind"`
	Algorithm string `json:"algorithm"`
	Origin    string `json:"origin,omitempty"` // imported
	Replaces  string `json:"replaces,omitempty"`
	Reason    Reason `json:"reason,omitempty"`
	Days      int    `json:"days,omitempty"`
}

type privateFact struct {
	Address     string `json:"address"`
	Fingerprint string `json:"fingerprint"`
}

func (r *record) fact(t ledger.Type, at time.Time, f keyFact) ledger.Fact {
	f.Identity, f.Kind, f.Algorithm = r.ID.Text(id.Identity), string(r.Kind), r.Algorithm
	if !r.pub.Replaces.IsZero() && (t == ledger.IdentityRotated || t == ledger.IdentityRequested || t == ledger.IdentityInstalled) {
		f.Replaces = r.pub.Replaces.Text(id.Identity)
	}
	return ledger.Fact{Type: t, At: at, Data: f, Private: privateFact{r.pub.Address, r.pub.Fingerprint}, Key: r.key}
}

// List gives all keys of the organization, oldest first. Of a destroyed
// organization it shows what is left.
func (s *Service) List(ctx context.Context, org id.ID) (all []Identity, err error) {
	err = s.d.DB.Read(ctx, org, func(tx *db.Tx) error {
		all = nil
		rows, err := db.All(tx, scan, "SELECT "+columns+" FROM identity_keys WHERE org_id = ? ORDER BY created_at, id", org)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if err := s.open(tx, r); errors.Is(err, custody.ErrDestroyed) {
				r.Unreadable = true
			} else if err != nil {
				return err
			}
			all = append(all, r.Identity)
		}
		return nil
	})
	return all, err
}

// Show gives one key with its public part.
func (s *Service) Show(ctx context.Context, org, idn id.ID) (Detail, error) {
	r, err := s.read(ctx, org, idn)
	if err != nil {
		return Detail{}, err
	}
	return r.detail()
}

func (r *record) detail() (Detail, error) {
	d := Detail{Identity: r.Identity, Replaces: r.pub.Replaces, CSR: r.pub.CSR}
	var err error
	switch {
	case r.pub.Key != nil:
		d.Key, err = readKey(r.pub.Key)
	case r.pub.Certificate != nil:
		d.Certificate, d.Chain, err = r.certificates()
	}
	return d, err
}

func readKey(binary []byte) (openpgp.Key, error) {
	keys, err := openpgp.ReadKeys(binary)
	if err != nil || len(keys) != 1 {
		return openpgp.Key{}, fmt.Errorf("%w: %w", errStored, err)
	}
	return keys[0], nil
}

func (r *record) certificates() (leaf *x509.Certificate, chain []*x509.Certificate, err error) {
	if leaf, err = x509.ParseCertificate(r.pub.Certificate); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errStored, err)
	}
	for _, der := range r.pub.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", errStored, err)
		}
		chain = append(chain, c)
	}
	return leaf, chain, nil
}
