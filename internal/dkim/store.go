package dkim

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
)

// secretLabel binds a sealed key to its use for ever.
const secretLabel = "dkim.secret.v1"

// record is a row.
type record struct {
	Key
	keyID  id.ID
	secret []byte // sealed; nil when the key is retired
}

const columns = `id, org_id, domain, selector, algorithm, state, value, key_id, secret_sealed,
	created_at, activated_at, retiring_at, retired_at`

func scan(row db.Row) (r record, err error) {
	var created int64
	var activated, retiring, retired sql.NullInt64
	err = row.Scan(&r.ID, &r.Org, &r.Domain, &r.Selector, &r.Algorithm, &r.State, &r.Value, &r.keyID, &r.secret,
		&created, &activated, &retiring, &retired)
	r.CreatedAt = clock.FromMicros(created)
	r.ActivatedAt, r.RetiringAt, r.RetiredAt = timeOf(activated), timeOf(retiring), timeOf(retired)
	return r, err
}

func timeOf(us sql.NullInt64) time.Time {
	if !us.Valid {
		return time.Time{}
	}
	return clock.FromMicros(us.Int64)
}

// List gives all keys of an organization's domain, or of all its domains when
// none is named, oldest first.
func (s *Service) List(ctx context.Context, org id.ID, domain string) (keys []Key, err error) {
	err = s.d.DB.Read(ctx, org, func(tx *db.Tx) error {
		rows, err := list(tx, domain)
		keys = nil
		for _, r := range rows {
			keys = append(keys, r.Key)
		}
		return err
	})
	return keys, err
}

func list(tx *db.Tx, domain string) ([]record, error) {
	return db.All(tx, scan, "SELECT "+columns+" FROM dkim_keys WHERE org_id = ? AND (domain = ? OR ? = '') ORDER BY domain, created_at, id",
		tx.Org(), domain, domain)
}

// change runs fn in a transaction that no other change of the organization's
// keys shares or overtakes.
func (s *Service) change(ctx context.Context, org id.ID, fn func(tx *db.Tx) error) error {
	defer s.snapshot(org).forget() // this process sees it at once
	return s.d.DB.WriteAlone(ctx, org, func(tx *db.Tx) error {
		if _, err := tx.Exec(`INSERT INTO dkim_heads (org_id, version) VALUES (?, 1)
			ON CONFLICT (org_id) DO UPDATE SET version = dkim_heads.version + 1`, org); err != nil {
			return err
		}
		return fn(tx)
	})
}

var notOurDomain = fault.New(fault.Denied, "domain_not_verified",
	"The organization has not verified this domain. \"sealpost domain list\" shows those it has.")

// owns reports whether keys of the domain are the organization's to have: it
// has verified it, or it is the installation and the domain is the mail
// system's own name.
func (s *Service) owns(tx *db.Tx, domain string) (bool, error) {
	if tx.Org() == db.System {
		return domain == s.d.Hostname, nil
	}
	return account.OwnsDomain(tx, domain)
}

// Create makes a key for a domain. It signs when its record is seen, and takes
// over from the active key of the algorithm, if there is one.
func (s *Service) Create(ctx context.Context, org id.ID, domain string, a Algorithm) (Key, error) {
	domain, err := mail.ParseDomain(domain)
	if err != nil {
		return Key{}, err
	}
	secret, value, err := generate(a)
	if err != nil {
		return Key{}, err
	}
	defer clear(secret)
	k := Key{ID: id.New(), Org: org, Domain: domain, Algorithm: a, State: New, Value: value, CreatedAt: s.d.Clock.Now()}
	err = s.change(ctx, org, func(tx *db.Tx) error {
		if ours, err := s.owns(tx, domain); err != nil || !ours {
			return errors.Join(err, when(!ours, notOurDomain))
		}
		all, err := list(tx, domain)
		if err != nil {
			return err
		}
		for _, other := range all {
			if other.State == New && other.Algorithm == a {
				return fault.Newf(fault.Conflict, "dkim_key_waits",
					"The key with selector %s waits for its record already. \"sealpost dkim list\" shows what to publish.", other.Selector)
			}
		}
		k.Selector = free(all, k)
		return s.insert(tx, k, secret)
	})
	if err != nil {
		return Key{}, err
	}
	return k, nil
}

// when gives err where a condition holds.
func when(holds bool, err error) error {
	if holds {
		return err
	}
	return nil
}

// free is a selector that no key of the domain ever had.
func free(all []record, k Key) string {
	taken := map[string]bool{}
	for _, r := range all {
		taken[r.Selector] = true
	}
	for n := 1; ; n++ {
		if s := selector(k.Algorithm, k.CreatedAt, n); !taken[s] {
			return s
		}
	}
}

func (s *Service) insert(tx *db.Tx, k Key, secret []byte) error {
	key, err := s.d.Custody.NewDataKey(k.Org)
	if err != nil {
		return err
	}
	if err := s.d.Custody.SaveDataKey(tx, key); err != nil {
		return err
	}
	if _, err := tx.Exec(`INSERT INTO dkim_keys (id, org_id, domain, selector, algorithm, state, value, key_id, secret_sealed, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, k.ID, k.Org, k.Domain, k.Selector, string(k.Algorithm), string(k.State), k.Value,
		key.ID, key.Seal(secretLabel, k.ID, secret), clock.Micros(k.CreatedAt)); err != nil {
		return err
	}
	return ledger.Append(tx, k.fact(ledger.DKIMCreated, k.CreatedAt))
}

// keyFact is the clear part of a key's ledger entries.
type keyFact struct {
	Domain    string `json:"domain"`
	Selector  string `json:"selector"`
	Algorithm string `json:"algorithm"`
}

func (k Key) fact(t ledger.Type, at time.Time) ledger.Fact {
	return ledger.Fact{Type: t, At: at, Data: keyFact{k.Domain, k.Selector, string(k.Algorithm)}}
}

// Find gives one key.
func (s *Service) Find(ctx context.Context, org id.ID, domain, selector string) (k Key, err error) {
	err = s.d.DB.Read(ctx, org, func(tx *db.Tx) error {
		r, err := find(tx, domain, selector)
		k = r.Key
		return err
	})
	return k, err
}
