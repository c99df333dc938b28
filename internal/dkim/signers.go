package dkim

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
)

const (
	freshFor = time.Second // how long keys are used without a look at the database
	keptFor  = time.Hour   // how long an opened key is in memory
)

// snapshot is what one organization's active keys were at their last change,
// opened.
type snapshot struct {
	mu      sync.Mutex
	checked time.Time
	opened  time.Time
	version int64
	signers map[string][]Signer // by domain: RSA before Ed25519
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
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drop()
}

func (n *snapshot) drop() {
	n.checked, n.opened, n.version, n.signers = time.Time{}, time.Time{}, 0, nil
}

// Signers gives what signs for a domain: at most one of each algorithm, none
// when the domain has no active key. It is asked for every message: a change
// is seen within a second, and between changes nothing is decrypted.
func (s *Service) Signers(ctx context.Context, org id.ID, domain string) ([]Signer, error) {
	if domain == s.d.Hostname && org != db.System {
		if own, err := s.signersOf(ctx, org, domain); err != nil || len(own) > 0 {
			return own, err
		}
		org = db.System
	}
	return s.signersOf(ctx, org, domain)
}

func (s *Service) signersOf(ctx context.Context, org id.ID, domain string) ([]Signer, error) {
	n := s.snapshot(org)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := s.refresh(ctx, org, n); err != nil {
		n.drop()
		return nil, err
	}
	return n.signers[domain], nil
}

// refresh looks whether the organization's keys have changed, once a second.
func (s *Service) refresh(ctx context.Context, org id.ID, n *snapshot) error {
	now := s.d.Clock.Now()
	if within(now, n.checked, freshFor) && within(now, n.opened, keptFor) {
		return nil
	}
	err := s.d.DB.Read(ctx, org, func(tx *db.Tx) error {
		var version int64
		err := tx.Row("SELECT version FROM dkim_heads WHERE org_id = ?", org).Scan(&version)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if version == n.version && within(now, n.opened, keptFor) {
			if version == 0 {
				return nil
			}
			// The organization's keys may be destroyed.
			_, err := s.d.Custody.Index(org, secretLabel, "")
			return err
		}
		n.version, n.opened = version, now
		n.signers, err = s.open(tx)
		return err
	})
	if err != nil {
		return err
	}
	n.checked = now
	return nil
}

func within(now, since time.Time, d time.Duration) bool {
	age := now.Sub(since)
	return !since.IsZero() && age >= 0 && age < d
}

// open opens the active keys. One that is damaged is left out and logged:
// unsigned mail is better than none.
func (s *Service) open(tx *db.Tx) (map[string][]Signer, error) {
	rows, err := db.All(tx, scan, "SELECT "+columns+" FROM dkim_keys WHERE org_id = ? AND state = 'active' ORDER BY domain, algorithm DESC", tx.Org())
	if err != nil {
		return nil, err
	}
	all := map[string][]Signer{}
	for _, r := range rows {
		signer, err := s.signer(tx, r)
		if errors.Is(err, custody.ErrDamaged) {
			s.d.Log.Error("a DKIM key cannot be read; mail goes without its signature", "domain", r.Domain, "selector", r.Selector)
			continue
		}
		if err != nil {
			return nil, err
		}
		all[r.Domain] = append(all[r.Domain], signer)
	}
	return all, nil
}

func (s *Service) signer(tx *db.Tx, r record) (Signer, error) {
	key, err := s.d.Custody.DataKey(tx, r.keyID)
	if err != nil {
		return Signer{}, err
	}
	secret, err := key.Open(secretLabel, r.ID, r.secret)
	if err != nil {
		return Signer{}, err
	}
	defer clear(secret)
	signer, err := parseSecret(secret)
	return Signer{Domain: r.Domain, Selector: r.Selector, key: signer}, err
}
