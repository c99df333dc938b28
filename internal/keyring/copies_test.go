package keyring_test

import (
	"bytes"
	"crypto"
	"testing"
	"time"

	pgp "github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/discover"
	"github.com/sealpost/sealpost/internal/keyring"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
)

// copies are what servers may hold of one key: with its first subkey only; with
// that one revoked; and as it is now, with another subkey.
type copies struct {
	stale, stripped, current openpgp.Key
	first, second            uint64 // ids of the subkeys
}

func (s *site) copies() (c copies) {
	s.t.Helper()
	at := s.clk.Now().AddDate(-1, 0, 0)
	cfg := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return at }, DefaultHash: crypto.SHA256}
	e, err := pgp.NewEntity("Jane", "", jane(s.t).Reveal(), cfg)
	s.check(err)
	c.stale, c.first = s.public(e), e.Subkeys[0].PublicKey.KeyId
	at = s.clk.Now().AddDate(0, 0, -20)
	s.check(e.RevokeSubkey(&e.Subkeys[0], packet.KeyCompromised, "", cfg))
	c.stripped = s.public(e)
	at = s.clk.Now().AddDate(0, 0, -19)
	cfg.KeyLifetimeSecs = 2 * 365 * 86400
	s.check(e.AddEncryptionSubkey(cfg))
	c.current, c.second = s.public(e), e.Subkeys[1].PublicKey.KeyId
	return c
}

func (s *site) public(e *pgp.Entity) openpgp.Key {
	s.t.Helper()
	var b bytes.Buffer
	s.check(e.Serialize(&b))
	keys, err := openpgp.ReadKeys(b.Bytes())
	s.check(err)
	return keys[0]
}

// wantPart checks to which part of the key mail would be sealed.
func (s *site) wantPart(f keyring.Found, c copies, tier policy.Tier) {
	s.t.Helper()
	s.wantPGP(f, c.current, tier)
	if f.PGP == nil {
		return
	}
	content, err := openpgp.NewContent(false)
	s.check(err)
	raw, err := content.KeyPacket(f.PGP.PGP, s.clk.Now())
	s.check(err)
	p, err := packet.Read(bytes.NewReader(raw))
	s.check(err)
	if p.(*packet.EncryptedKey).KeyId != c.second {
		s.t.Error("mail is sealed to the subkey that was revoked")
	}
}

const partRevoked = "The recipient's OpenPGP key has no part that mail can be encrypted to."

// A copy that some server kept takes nothing back and kills nothing, wherever
// it comes from and whatever stands in the keyring.
func TestNoCopyTakesAnythingBack(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a, c := jane(t), s.copies()
		_, err := s.ring.Import(ctx, s.org, c.current.Bytes(), keyring.Options{})
		s.check(err)
		for _, old := range []openpgp.Key{c.stale, c.stripped} {
			for _, source := range []string{discover.HKPS, discover.WKD} {
				s.say(shows(discover.WKD, policy.Confirmed, c.current))
				s.nextDay()
				s.find(a)
				if source == discover.WKD { // the domain itself goes back
					s.say(shows(discover.WKD, policy.Confirmed, old))
				} else {
					s.say(shows(discover.WKD, policy.Confirmed, c.current), shows(source, policy.Discovered, old))
				}
				for range 2 {
					s.nextDay()
					s.wantPart(s.findFor(s.other, a), c, policy.Confirmed)
					s.wantPart(s.find(a), c, policy.Pinned)
				}
			}
			s.check(s.ring.Harvest(ctx, s.org, a, policy.PGP, old.Bytes()))
			s.wantPart(s.find(a), c, policy.Pinned)
			if got, _ := s.imports(old.Bytes(), keyring.Options{}); got != "known" && got != "refused:no_encryption_key" {
				t.Error(got)
			}
			s.wantPart(s.find(a), c, policy.Pinned)
		}
		s.wantFacts(s.org, "added")
		s.wantFacts(db.System, "added")
	})
}

// What a key has signed of itself counts whoever shows it: a revoked part and
// the one in its place, for pins too. How far the key is trusted does not change.
func TestWhatTheKeySignedCountsWhoeverShowsIt(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a, c := jane(t), s.copies()
		_, err := s.ring.Import(ctx, s.org, c.stale.Bytes(), keyring.Options{})
		s.check(err)
		s.say(shows(discover.WKD, policy.Confirmed, c.stale))
		if f := s.findFor(s.other, a); f.PGP == nil {
			t.Fatalf("%q", f.Why)
		}
		s.say(shows(discover.WKD, policy.Confirmed, c.stale), shows(discover.HKPS, policy.Discovered, c.stripped))
		s.nextDay()
		s.wantNone(s.findFor(s.other, a), partRevoked)
		s.wantNone(s.find(a), partRevoked)
		if e := s.states(s.org, a)[c.current.Fingerprint()]; e.State != keyring.Active {
			t.Errorf("what can be mended is for good: %+v", e)
		}
		s.say(shows(discover.WKD, policy.Confirmed, c.stale), shows(discover.HKPS, policy.Discovered, c.current))
		s.nextDay()
		s.wantPart(s.findFor(s.other, a), c, policy.Confirmed)
		s.wantPart(s.find(a), c, policy.Pinned)
	})
}

func TestAnOwnerMayRevokeASubkeyFirstAndAddOneLater(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a, c := jane(t), s.copies()
		for _, k := range []openpgp.Key{c.stale, c.stripped} {
			s.say(shows(discover.WKD, policy.Confirmed, k))
			s.nextDay()
			s.find(a)
		}
		s.wantNone(s.find(a), partRevoked)
		s.say(shows(discover.WKD, policy.Confirmed, c.current))
		s.nextDay()
		s.wantPart(s.find(a), c, policy.Confirmed)
	})
}

// A revoked key does not come back, not from an old copy and not by hand.
func TestOnlyTheKeysOwnRevocationIsFinal(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a := jane(t)
		secret := s.secret(a, time.Time{})
		revoked, err := secret.Revoke(s.clk.Now(), "")
		s.check(err)
		s.say(shows(discover.WKD, policy.Confirmed, secret.Public()), shows(discover.HKPS, policy.Discovered, revoked))
		s.wantNone(s.find(a), "The recipient's OpenPGP key was revoked.")
		if got, _ := s.imports(revoked.Bytes(), keyring.Options{}); got != "refused:revoked" {
			t.Error(got)
		}
		if got, _ := s.imports(secret.Public().Bytes(), keyring.Options{}); got != "refused:revoked" {
			t.Errorf("an old copy of a revoked key, by hand: %s", got)
		}
		s.nextDay()
		s.wantNone(s.find(a), "The recipient's OpenPGP key was revoked.")
	})
}

// The owner ended the key; a key server has a copy from before.
func TestAnEndThatHasPassedStaysPassed(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a := jane(t)
		secret := s.secret(a, time.Time{})
		ended, err := secret.Renew(s.clk.Now(), s.clk.Now().Add(26*time.Hour))
		s.check(err)
		s.clk.Advance(time.Second)
		extended, err := ended.Renew(s.clk.Now(), s.clk.Now().Add(9000*time.Hour))
		s.check(err)
		s.say(shows(discover.WKD, policy.Confirmed, ended.Public()))
		s.wantPGP(s.find(a), ended.Public(), policy.Confirmed)
		s.say(shows(discover.WKD, policy.Confirmed, ended.Public()), shows(discover.HKPS, policy.Discovered, secret.Public()))
		s.nextDay()
		s.nextDay()
		s.wantNone(s.find(a), "The recipient's OpenPGP key expired on March 2, 2026.")
		s.say(shows(discover.WKD, policy.Confirmed, extended.Public()))
		s.nextDay()
		s.wantPGP(s.find(a), extended.Public(), policy.Confirmed)
	})
}
