package identity

import (
	"context"
	"crypto/fips140"
	"crypto/sha1"
	"encoding/base32"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
)

// zBase32 is the alphabet of RFC 6189 section 5.1.6.
var zBase32 = base32.NewEncoding("ybndrfg8ejkmcpqxot1uwisza345h769").WithPadding(base32.NoPadding)

// Hash is the name of an address in its domain's Web Key Directory
// (draft-koch-openpgp-webkey-service section 3.1): only ASCII letters are
// folded.
func Hash(a mail.Address) string {
	local := []byte(a.Local())
	for i, c := range local {
		if c >= 'A' && c <= 'Z' {
			local[i] = c + 'a' - 'A'
		}
	}
	var sum [sha1.Size]byte
	// The directory names entries by SHA-1; nothing relies on its strength.
	fips140.WithoutEnforcement(func() { sum = sha1.Sum(local) })
	return zBase32.EncodeToString(sum[:])
}

// wkdIndex is under what an entry of the directory is found. Its name is a
// plain hash of something that can be guessed, so it is not stored.
func (s *Service) wkdIndex(org id.ID, domain, hash string) ([]byte, error) {
	return s.d.Custody.Index(org, wkdIndex, domain+" "+hash)
}

// keptRevoked is how long a revoked key is published, so that who has it
// learns that it is revoked.
const keptRevoked = 365 * 24 * time.Hour

var notPublished = fault.New(fault.NotFound, "no_key", "There is no key of this name.")

// Published gives the OpenPGP keys of one entry of a domain's Web Key
// Directory, the active one first and those revoked lately behind it. What is
// not there, and a domain that is not ours, look alike.
func (s *Service) Published(ctx context.Context, domain, hash string) ([]byte, error) {
	org, err := s.publisher(ctx, domain)
	if err != nil {
		return nil, err
	}
	name, err := s.wkdIndex(org, domain, hash)
	if fault.Is(err, fault.NotFound) {
		return nil, notPublished // destroyed
	}
	if err != nil {
		return nil, err
	}
	var keys []byte
	err = s.d.DB.Read(ctx, org, func(tx *db.Tx) error {
		keys = nil
		rows, err := db.All(tx, scan, "SELECT "+columns+` FROM identity_keys WHERE org_id = ? AND wkd_hmac = ?
			AND (state = 'active' OR state = 'revoked' AND revoked_at > ?) ORDER BY state, revoked_at DESC`,
			org, name, clock.Micros(s.d.Clock.Now().Add(-keptRevoked)))
		if err != nil {
			return err
		}
		for _, r := range rows {
			if err := s.open(tx, r); err != nil {
				return err
			}
			keys = append(keys, r.pub.Key...)
		}
		return nil
	})
	if fault.Is(err, fault.NotFound) || err == nil && keys == nil {
		return nil, notPublished
	}
	return keys, err
}

// Publishes reports whether a domain has a Web Key Directory here.
func (s *Service) Publishes(ctx context.Context, domain string) (bool, error) {
	_, err := s.publisher(ctx, domain)
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// publisher is the organization that has verified the domain.
func (s *Service) publisher(ctx context.Context, domain string) (id.ID, error) {
	org, err := s.d.Accounts.DomainOwner(ctx, domain)
	if fault.Is(err, fault.NotFound) {
		err = notPublished
	}
	return org, err
}
