package dkim

import (
	"context"
	"errors"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
)

// Rotate makes a successor for each active key of a domain that has none yet.
func (s *Service) Rotate(ctx context.Context, org id.ID, domain string) (made []Key, err error) {
	if domain, err = mail.ParseDomain(domain); err != nil {
		return nil, err
	}
	keys, err := s.List(ctx, org, domain)
	if err != nil {
		return nil, err
	}
	active := false
	for _, k := range keys {
		if k.State != Active {
			continue
		}
		active = true
		if succeeded(keys, k) {
			continue
		}
		next, err := s.Create(ctx, org, domain, k.Algorithm)
		if err != nil {
			return made, err
		}
		made = append(made, next)
	}
	if !active {
		return nil, fault.New(fault.Conflict, "dkim_no_active_key", "The domain has no active key. \"sealpost dkim create\" makes one, \"sealpost dkim list\" shows those that wait for their record.")
	}
	return made, nil
}

// succeeded reports whether the key's successor waits for its record.
func succeeded(keys []Key, k Key) bool {
	for _, other := range keys {
		if other.State == New && other.Domain == k.Domain && other.Algorithm == k.Algorithm {
			return true
		}
	}
	return false
}

// Activate looks for the records of a domain's new keys and puts those in use
// that the DNS shows. It gives these.
func (s *Service) Activate(ctx context.Context, org id.ID, domain string) (activated []Key, err error) {
	keys, err := s.List(ctx, org, domain)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if k.State != New {
			continue
		}
		found, err := s.d.TXT(ctx, k.Name())
		if err != nil {
			return activated, fault.Newf(fault.Unavailable, "lookup_failed",
				"The DNS could not be asked for the TXT record %s. Check the resolver and try again.", k.Name()).Because(err)
		}
		if !k.Shown(found) {
			continue
		}
		if k, err = s.activate(ctx, k); err != nil {
			return activated, err
		}
		if k.State == Active {
			activated = append(activated, k)
		}
	}
	return activated, nil
}

// activate puts a key in use; the one before it signs no more.
func (s *Service) activate(ctx context.Context, k Key) (Key, error) {
	now := s.d.Clock.Now()
	err := s.change(ctx, k.Org, func(tx *db.Tx) error {
		all, err := list(tx, k.Domain)
		if err != nil {
			return err
		}
		for _, r := range all {
			if r.State == Active && r.Algorithm == k.Algorithm && r.ID != k.ID {
				if err := s.retiring(tx, r.Key, now); err != nil {
					return err
				}
			}
		}
		n, err := tx.Exec("UPDATE dkim_keys SET state = 'active', activated_at = ? WHERE id = ? AND org_id = ? AND state = 'new'",
			clock.Micros(now), k.ID, k.Org)
		if err != nil || n == 0 { // another node was faster, or it was retired
			return err
		}
		k.State, k.ActivatedAt = Active, now
		return ledger.Append(tx, k.fact(ledger.DKIMActivated, now))
	})
	return k, err
}

// retiring ends that an active key signs.
func (s *Service) retiring(tx *db.Tx, k Key, at time.Time) error {
	n, err := tx.Exec("UPDATE dkim_keys SET state = 'retiring', retiring_at = ? WHERE id = ? AND org_id = ? AND state = 'active'",
		clock.Micros(at), k.ID, tx.Org())
	if err != nil || n == 0 {
		return err
	}
	return ledger.Append(tx, k.fact(ledger.DKIMRetiring, at))
}

// retire destroys a key.
func (s *Service) retire(tx *db.Tx, r record, at time.Time) error {
	n, err := tx.Exec("UPDATE dkim_keys SET state = 'retired', secret_sealed = NULL, retired_at = ? WHERE id = ? AND org_id = ? AND state <> 'retired'",
		clock.Micros(at), r.ID, tx.Org())
	if err != nil || n == 0 {
		return err
	}
	if err := s.d.Custody.DestroyDataKey(tx, r.keyID); err != nil {
		return err
	}
	return ledger.Append(tx, r.fact(ledger.DKIMRetired, at))
}

// Retire takes a key out of use: an active one signs no more and its record
// stays for the overlap, one that waits for its record is destroyed. With now,
// any key is destroyed at once, as after a compromise; then its record has to
// go at once too.
func (s *Service) Retire(ctx context.Context, org id.ID, domain, selector string, now bool) (k Key, err error) {
	if domain, err = mail.ParseDomain(domain); err != nil {
		return k, err
	}
	at := s.d.Clock.Now()
	err = s.change(ctx, org, func(tx *db.Tx) error {
		r, err := find(tx, domain, selector)
		if err != nil {
			return err
		}
		switch {
		case r.State == Retired:
			return fault.New(fault.Conflict, "dkim_key_retired", "The key is retired already.")
		case r.State == New || now:
			err = s.retire(tx, r, at)
		case r.State == Active:
			err = s.retiring(tx, r.Key, at)
		}
		if err != nil {
			return err
		}
		r, err = find(tx, domain, selector)
		k = r.Key
		return err
	})
	return k, err
}

func find(tx *db.Tx, domain, selector string) (record, error) {
	all, err := list(tx, domain)
	if err != nil {
		return record{}, err
	}
	for _, r := range all {
		if r.Selector == selector {
			return r, nil
		}
	}
	return record{}, fault.New(fault.NotFound, "no_dkim_key", "The domain has no key with this selector. \"sealpost dkim list\" shows all.")
}

// Tend is a periodic task. It makes successors of keys that are old, puts in
// use those whose record the DNS shows, and ends those whose overlap has
// passed. What fails for one domain does not keep the others waiting.
func (s *Service) Tend(ctx context.Context) error {
	var live []record
	if err := s.d.DB.Read(ctx, db.System, func(tx *db.Tx) (err error) {
		live, err = db.All(tx, scan, "SELECT "+columns+" FROM dkim_keys WHERE state <> 'retired' ORDER BY org_id, domain, created_at, id")
		return err
	}); err != nil {
		return err
	}
	keys := make([]Key, len(live))
	for i, r := range live {
		keys[i] = r.Key
	}
	var failed error
	looked := map[string]bool{}
	for _, k := range keys {
		var err error
		switch place := k.Org.Text(id.Org) + k.Domain; {
		case ctx.Err() != nil:
			return ctx.Err()
		case k.State == New && !looked[place]:
			looked[place] = true
			_, err = s.Activate(ctx, k.Org, k.Domain)
		case k.State == Active && s.old(k) && !succeeded(keys, k):
			err = s.succeed(ctx, k)
		case k.State == Retiring && !s.d.Clock.Now().Before(k.RetiringAt.Add(s.d.Overlap)):
			_, err = s.Retire(ctx, k.Org, k.Domain, k.Selector, true)
		}
		if err != nil && !errors.Is(err, custody.ErrDestroyed) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

func (s *Service) old(k Key) bool {
	return s.d.RotateAfter > 0 && !s.d.Clock.Now().Before(k.ActivatedAt.Add(s.d.RotateAfter))
}

// succeed makes the next key. A domain that is the organization's no more gets
// none.
func (s *Service) succeed(ctx context.Context, k Key) error {
	next, err := s.Create(ctx, k.Org, k.Domain, k.Algorithm)
	switch {
	case fault.Is(err, fault.Denied), fault.Is(err, fault.Conflict): // another node may have been faster
		return nil
	case err != nil:
		return err
	}
	s.d.Log.Warn("a new DKIM key waits for its record: \"sealpost dkim list\" shows what to publish", "domain", next.Domain, "selector", next.Selector)
	return nil
}
