package identity

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
)

// freshFor is how long an organization's keys are used without a look at the
// database.
const freshFor = time.Second

// snapshot is what one organization's keys were at its last change. Secrets
// are opened when they are first used.
type snapshot struct {
	mu      sync.Mutex
	checked time.Time
	version int64
	active  map[slot]entry
	signing map[id.ID]Signing // by id; one of the two in each
	openers *Secrets
}

// slot is a kind and the HMAC of an address.
type slot struct {
	kind    policy.Seal
	address string
}

type entry struct {
	id      id.ID
	expires time.Time
}

func (s *Service) snapshot(org id.ID) *snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	sn := s.orgs[org]
	if sn == nil {
		sn = &snapshot{}
		s.orgs[org] = sn
	}
	return sn
}

func (n *snapshot) forget() {
	n.checked, n.version, n.active, n.signing, n.openers = time.Time{}, 0, nil, nil, nil
}

// refresh looks whether the organization's keys have changed, once a second.
func (s *Service) refresh(ctx context.Context, org id.ID, n *snapshot) error {
	now := s.d.Clock.Now()
	if age := now.Sub(n.checked); !n.checked.IsZero() && age >= 0 && age < freshFor {
		return nil
	}
	err := s.d.DB.Read(ctx, org, func(tx *db.Tx) error {
		var version int64
		err := tx.Row("SELECT version FROM identity_heads WHERE org_id = ?", org).Scan(&version)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if version == n.version {
			return nil
		}
		n.forget()
		n.active, n.signing = map[slot]entry{}, map[id.ID]Signing{}
		_, err = db.All(tx, func(row db.Row) (e entry, err error) {
			var kind policy.Seal
			var address []byte
			var expires sql.NullInt64
			if err = row.Scan(&e.id, &kind, &address, &expires); err != nil {
				return e, err
			}
			e.expires = timeOf(expires)
			n.active[slot{kind, string(address)}] = e
			return e, nil
		}, "SELECT id, kind, address_hmac, expires_at FROM identity_keys WHERE org_id = ? AND state = 'active'", org)
		n.version = version
		return err
	})
	if err != nil {
		n.forget()
		return err
	}
	n.checked = now
	return nil
}

// Signer gives the keys that sign what the address sends. It is asked for
// every message: a change is seen within a second, and an organization without
// keys costs one look a second.
func (s *Service) Signer(ctx context.Context, org id.ID, a mail.Address) (Signing, error) {
	n := s.snapshot(org)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := s.refresh(ctx, org, n); err != nil || len(n.active) == 0 {
		return Signing{}, err
	}
	address, err := s.d.Custody.Index(org, addressIndex, a.Normal())
	if err != nil {
		n.forget() // the organization may be destroyed
		return Signing{}, err
	}
	pgp, err := s.signing(ctx, org, n, slot{policy.PGP, string(address)})
	if err != nil {
		return Signing{}, err
	}
	smime, err := s.signing(ctx, org, n, slot{policy.SMIME, string(address)})
	return Signing{PGP: pgp.PGP, SMIME: smime.SMIME}, err
}

func (s *Service) signing(ctx context.Context, org id.ID, n *snapshot, at slot) (Signing, error) {
	e, ok := n.active[at]
	if !ok || !e.expires.IsZero() && !s.d.Clock.Now().Before(e.expires) {
		return Signing{}, nil
	}
	if known, ok := n.signing[e.id]; ok {
		return known, nil
	}
	r, err := s.read(ctx, org, e.id)
	if err != nil {
		return Signing{}, err
	}
	var out Signing
	if r.Kind == policy.PGP {
		out.PGP, err = r.openPGP()
	} else {
		out.SMIME, err = r.signer()
	}
	if err != nil {
		return Signing{}, err
	}
	n.signing[e.id] = out
	return out, nil
}

func (r *record) signer() (*cms.Signer, error) {
	key, err := r.privateKey()
	if err != nil {
		return nil, err
	}
	leaf, chain, err := r.certificates()
	return &cms.Signer{Key: key, Certificate: leaf, Chain: chain}, err
}

// Openers gives all keys that the organization can open mail with, retired and
// revoked ones too. A key that is damaged is left out and logged: the others
// still open what is theirs. The slices are shared and not to be changed.
func (s *Service) Openers(ctx context.Context, org id.ID) (Secrets, error) {
	n := s.snapshot(org)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := s.refresh(ctx, org, n); err != nil || n.version == 0 {
		return Secrets{}, err
	}
	if _, err := s.d.Custody.Index(org, addressIndex, ""); err != nil {
		n.forget()
		return Secrets{}, err
	}
	if n.openers != nil {
		return *n.openers, nil
	}
	var all Secrets
	err := s.d.DB.Read(ctx, org, func(tx *db.Tx) error {
		all = Secrets{}
		rows, err := db.All(tx, scan, "SELECT "+columns+" FROM identity_keys WHERE org_id = ? ORDER BY created_at DESC, id", org)
		if err != nil {
			return err
		}
		for _, r := range rows {
			err := s.open(tx, r)
			if err == nil {
				err = all.take(r)
			}
			if errors.Is(err, custody.ErrDamaged) || errors.Is(err, custody.ErrDestroyed) || errors.Is(err, errStored) {
				s.d.Log.Error("an own key cannot be read", "identity", r.ID.Text(id.Identity))
				continue
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Secrets{}, err
	}
	n.openers = &all
	return all, nil
}

// take adds a key that can open mail.
func (all *Secrets) take(r *record) error {
	if r.Kind == policy.PGP {
		secret, err := r.openPGP()
		if err == nil {
			all.PGP = append(all.PGP, secret)
		}
		return err
	}
	if r.pub.Certificate == nil {
		return nil // nobody can have encrypted to it yet
	}
	key, err := r.privateKey()
	if err != nil {
		return err
	}
	leaf, _, err := r.certificates()
	if err == nil {
		all.SMIME = append(all.SMIME, cms.Recipient{Key: key, Certificate: leaf})
	}
	return err
}
