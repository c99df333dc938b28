package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

var profiles = map[Algorithm]openpgp.Profile{
	Curve25519: openpgp.V4Curve25519, RSA3072: openpgp.V4RSA3072, V6: openpgp.V6Curve25519, NISTP256: openpgp.V4NISTP256,
}

// words are the reasons as package openpgp has them.
var words = map[Reason]string{Unspecified: "", Superseded: "superseded", Compromised: "compromised", Unused: "retired"}

// Create makes a key of an address: an active one for OpenPGP, and for S/MIME
// one that waits for its certificate.
func (s *Service) Create(ctx context.Context, org id.ID, q Request) (Detail, error) {
	if err := s.check(ctx, org, &q); err != nil {
		return Detail{}, err
	}
	return s.make(ctx, org, q, id.ID{}, ledger.IdentityCreated)
}

// check completes a request and looks at it before a key is made for nothing.
func (s *Service) check(ctx context.Context, org id.ID, q *Request) error {
	switch {
	case q.Address.IsZero():
		return fault.New(fault.Invalid, "bad_address", "A key needs the address it is for.")
	case q.Kind != policy.PGP && q.Kind != policy.SMIME:
		return fault.New(fault.Invalid, "bad_kind", "A key is of the kind pgp or smime.")
	case !q.Expires.IsZero() && (q.Kind == policy.SMIME || !q.Expires.After(s.d.Clock.Now())):
		return fault.New(fault.Invalid, "bad_expiry", "An OpenPGP key expires in the future, and a certificate when its authority says so.")
	case len(q.Name) > 100 || strings.ContainsAny(q.Name, "<>()\x00\r\n\t"):
		return fault.New(fault.Invalid, "bad_name", "A name is one line of up to 100 characters without <, > and parentheses.")
	}
	if q.Algorithm == "" {
		q.Algorithm = map[policy.Seal]Algorithm{policy.PGP: Curve25519, policy.SMIME: ECP256}[q.Kind]
	}
	_, pgp := profiles[q.Algorithm]
	smime := q.Algorithm == ECP256 || q.Algorithm == RSA2048 || q.Algorithm == RSA3072Cert
	if q.Kind == policy.PGP && !pgp || q.Kind == policy.SMIME && !smime {
		return fault.New(fault.Invalid, "bad_algorithm",
			"OpenPGP keys are curve25519, rsa3072, nistp256 or v6, and S/MIME keys ec-p256, rsa-2048 or rsa-3072.")
	}
	if q.Kind == policy.SMIME && q.Address.NeedsSMTPUTF8() {
		return fault.New(fault.Invalid, "bad_address", "A certificate can be requested only for an address in ASCII.")
	}
	return s.d.DB.Read(ctx, org, func(tx *db.Tx) error { return ownDomain(tx, q.Address) })
}

// make makes a key in memory and stores it. told is the fact of an OpenPGP key.
func (s *Service) make(ctx context.Context, org id.ID, q Request, replaces id.ID, told ledger.Type) (Detail, error) {
	r, err := s.draft(org, q.Kind, q.Address, s.d.Clock.Now())
	if err != nil {
		return Detail{}, err
	}
	r.pub.Name, r.pub.Algorithm, r.pub.Replaces = q.Name, q.Algorithm, replaces
	if q.Kind == policy.PGP {
		err = r.generate(q)
	} else {
		told, err = ledger.IdentityRequested, r.request(q)
	}
	if err != nil {
		return Detail{}, err
	}
	if err := s.change(ctx, org, func(tx *db.Tx) error {
		if err := s.add(tx, r); err != nil {
			return err
		}
		return ledger.Append(tx, r.fact(told, r.CreatedAt, keyFact{}))
	}); err != nil {
		return Detail{}, err
	}
	return r.detail()
}

func (r *record) generate(q Request) error {
	secret, err := openpgp.Generate(profiles[q.Algorithm], q.Name, q.Address, r.CreatedAt, q.Expires)
	if err != nil {
		return err
	}
	return r.holdPGP(secret, r.CreatedAt)
}

// holdPGP makes r the record of an OpenPGP key. Its revocation is signed now,
// for the day on which the secret cannot be used any more.
func (r *record) holdPGP(secret *openpgp.Secret, at time.Time) error {
	revoked, err := secret.Revoke(at, words[Unspecified])
	switch f := (*fault.Fault)(nil); {
	case err == nil:
		r.revocation = revoked.For(r.Address).Bytes()
	case errors.As(err, &f) && f.Reason == openpgp.OfflinePrimary:
		// imported without its primary key: revoked where that is kept
	default:
		return err
	}
	key := secret.Public().For(r.Address)
	r.State, r.Algorithm, r.ExpiresAt = Active, key.Algorithm(at), endOf(secret, key, at)
	r.pub.Key, r.pub.Fingerprint = key.Bytes(), key.Fingerprint()
	r.secret = secret.Bytes().Reveal()
	return nil
}

// endOf is when the first of what the key is for ends, so that it is warned of
// in time: that it can be encrypted to, or that it signs.
func endOf(secret *openpgp.Secret, key openpgp.Key, at time.Time) time.Time {
	end := key.Expires()
	if signs, ok := secret.SignsUntil(at); ok && !signs.IsZero() && (end.IsZero() || signs.Before(end)) {
		return signs
	}
	return end
}

// Rotate makes the successor of an active key. An OpenPGP key takes over at
// once; a certificate must be requested, and takes over when it is installed.
func (s *Service) Rotate(ctx context.Context, org, idn id.ID, algorithm Algorithm, expires time.Time) (Detail, error) {
	old, err := s.read(ctx, org, idn)
	if err != nil {
		return Detail{}, err
	}
	if old.State != Active {
		return Detail{}, notActive
	}
	q := Request{Address: old.Address, Kind: old.Kind, Algorithm: algorithm, Name: old.pub.Name, Expires: expires}
	if q.Algorithm == "" {
		q.Algorithm = old.pub.Algorithm
	}
	if err := s.check(ctx, org, &q); err != nil {
		return Detail{}, err
	}
	return s.make(ctx, org, q, idn, ledger.IdentityRotated)
}

// Renew gives an active OpenPGP key a later end; the key stays the same.
func (s *Service) Renew(ctx context.Context, org, idn id.ID, expires time.Time) (Detail, error) {
	at := s.d.Clock.Now()
	if !expires.IsZero() && !expires.After(at) {
		return Detail{}, fault.New(fault.Invalid, "bad_expiry", "The new end must be in the future.")
	}
	var r *record
	err := s.change(ctx, org, func(tx *db.Tx) (err error) {
		if r, err = s.load(tx, idn); err != nil {
			return err
		}
		if r.Kind != policy.PGP || r.State != Active {
			return fault.New(fault.Conflict, "identity_not_active",
				"Only an active OpenPGP key can be renewed. A certificate is renewed by rotation: a new key and a new request.")
		}
		secret, err := r.openPGP()
		if err != nil {
			return err
		}
		if secret, err = secret.Renew(at, expires); err != nil {
			return err
		}
		key := secret.Public().For(r.Address)
		r.pub.Key, r.ExpiresAt = key.Bytes(), endOf(secret, key, at)
		box, err := r.sealPublic()
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE identity_keys SET public_sealed = ?, secret_sealed = ?, expires_at = ?, warned = 0
			WHERE id = ? AND org_id = ?`, box, r.key.Seal(secretLabel, r.ID, secret.Bytes().Reveal()), microsOf(r.ExpiresAt), idn, org); err != nil {
			return err
		}
		return ledger.Append(tx, r.fact(ledger.IdentityRenewed, at, keyFact{}))
	})
	if err != nil {
		return Detail{}, err
	}
	return r.detail()
}

// openPGP gives the secret of an OpenPGP key.
func (r *record) openPGP() (*openpgp.Secret, error) {
	text, err := r.openSecret()
	if err != nil {
		return nil, err
	}
	secret, err := openpgp.ReadSecret(text, private.Bytes{})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errStored, err)
	}
	return secret, nil
}

// Revoke ends a key for everybody. An OpenPGP key is published with its
// revocation; a certificate only its authority can revoke.
func (s *Service) Revoke(ctx context.Context, org, idn id.ID, reason Reason) (Detail, error) {
	word, known := words[reason]
	if !known {
		return Detail{}, fault.New(fault.Invalid, "bad_reason", "A key is revoked because it is superseded, compromised or unused, or unspecified.")
	}
	at := s.d.Clock.Now()
	var r *record
	err := s.change(ctx, org, func(tx *db.Tx) (err error) {
		if r, err = s.load(tx, idn); err != nil {
			return err
		}
		if r.State == Revoked {
			return fault.New(fault.Conflict, "identity_revoked", "This key is revoked already.")
		}
		if r.Kind == policy.PGP {
			secret, err := r.openPGP()
			if err != nil {
				return err
			}
			revoked, err := secret.Revoke(at, word)
			if err != nil {
				return err
			}
			r.pub.Key = revoked.For(r.Address).Bytes()
		}
		r.State, r.Reason, r.RevokedAt = Revoked, reason, at
		box, err := r.sealPublic()
		if err != nil {
			return err
		}
		if _, err := tx.Exec("UPDATE identity_keys SET state = 'revoked', reason = ?, revoked_at = ?, public_sealed = ? WHERE id = ? AND org_id = ?",
			string(reason), clock.Micros(at), box, idn, org); err != nil {
			return err
		}
		return ledger.Append(tx, r.fact(ledger.IdentityRevoked, at, keyFact{Reason: reason}))
	})
	if err != nil {
		return Detail{}, err
	}
	return r.detail()
}

// Revocation gives the OpenPGP key with the revocation that was signed when it
// was made or imported. Whoever has it can end the key.
func (s *Service) Revocation(ctx context.Context, org, idn id.ID) (openpgp.Key, error) {
	r, err := s.read(ctx, org, idn)
	if err != nil {
		return openpgp.Key{}, err
	}
	if r.Kind != policy.PGP {
		return openpgp.Key{}, fault.New(fault.Invalid, "no_revocation", "Only OpenPGP keys have a revocation of their own. A certificate is revoked by its authority.")
	}
	if r.revokeBox == nil {
		return openpgp.Key{}, fault.New(fault.Conflict, "no_revocation", "The primary key was not imported: it is revoked where it is kept.")
	}
	text, err := r.key.Open(revocationLabel, r.ID, r.revokeBox)
	if err != nil {
		return openpgp.Key{}, err
	}
	return readKey(text)
}
