package keyring_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/discover"
	"github.com/sealpost/sealpost/internal/keyring"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
)

var tiers = []policy.Tier{policy.Harvested, policy.Discovered, policy.Confirmed, policy.Pinned}

// meet lets a source show a key at a tier; a pinned one is handed in.
func (s *site) meet(a mail.Address, k openpgp.Key, tier policy.Tier) {
	s.t.Helper()
	if tier == policy.Pinned {
		_, err := s.ring.Import(ctx, db.System, k.Bytes(), keyring.Options{})
		s.check(err)
		return
	}
	s.say(shows(discover.WKD, tier, k))
	s.nextDay()
	s.find(a)
}

// What becomes of a changed key, over all pairs of tiers, while the old one is
// good and after it has expired.
func TestAChangedKeyByTier(t *testing.T) {
	takesOver := func(old, next policy.Tier, expired bool) bool {
		switch {
		case next == policy.Pinned: // a person
			return true
		case old == policy.Pinned:
			return false
		case expired:
			return true
		}
		return next >= policy.Confirmed && next >= old
	}
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		for _, old := range tiers {
			for _, next := range tiers {
				for _, expired := range []bool{false, true} {
					a := address(t, fmt.Sprintf("jane.%s.%s.%v@practice.example", old, next, expired))
					ends := time.Time{}
					if expired {
						ends = s.clk.Now().Add(26 * time.Hour)
					}
					first, second := s.secret(a, ends).Public(), s.younger(a)
					s.meet(a, first, old)
					if expired {
						s.clk.Advance(27 * time.Hour)
					}
					s.meet(a, second, next)
					by := s.states(db.System, a)
					was, is := by[first.Fingerprint()], by[second.Fingerprint()]
					f := s.find(a)
					name := fmt.Sprintf("%v then %v, expired %v", old, next, expired)
					if takesOver(old, next, expired) {
						if was.State != keyring.Superseded || is.State != keyring.Active || is.Tier != next {
							t.Errorf("%s: the old one is %s, the new one %s at %v", name, was.State, is.State, is.Tier)
						}
						s.wantPGP(f, second, next)
						continue
					}
					if was.State != keyring.Active || is.State != keyring.Proposed || is.Tier != next {
						t.Errorf("%s: the old one is %s, the new one %s at %v", name, was.State, is.State, is.Tier)
					}
					if expired {
						s.wantNone(f, f.Why[0]+" Another OpenPGP key of the recipient waits for an administrator to accept it.")
					} else {
						s.wantPGP(f, first, old)
					}
				}
			}
		}
	})
}

func TestAProposalWaitsUntilItIsAcceptedOrTheOldKeyIsGone(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a := jane(t)
		first, second := s.secret(a, s.clk.Now().Add(80*time.Hour)).Public(), s.younger(a)
		s.meet(a, first, policy.Discovered)
		s.meet(a, second, policy.Discovered)
		s.wantPGP(s.find(a), first, policy.Discovered)
		s.wantFacts(db.System, "added proposed")
		// Shown again it stays what it is, without another entry in the ledger.
		s.nextDay()
		s.wantPGP(s.find(a), first, policy.Discovered)
		s.wantFacts(db.System, "added proposed")
		// The old one expires while no source is asked again.
		s.say(failing(discover.WKD), failing(discover.HKPS), failing(discover.SMIMEA))
		s.nextDay()
		s.wantPGP(s.find(a), second, policy.Discovered)
		s.wantFacts(db.System, "added proposed replaced added")

		b := address(t, "bob.canary@practice.example")
		first, second = s.key(b), s.younger(b)
		s.meet(b, first, policy.Discovered)
		s.meet(b, second, policy.Discovered)
		e, err := s.ring.Trust(ctx, db.System, s.states(db.System, b)[second.Fingerprint()].ID, policy.Discovered)
		if s.check(err); e.State != keyring.Active || e.Tier != policy.Discovered || e.Outcome != "trusted" {
			t.Errorf("%+v", e)
		}
		s.wantPGP(s.find(b), second, policy.Discovered)
		detail, err := s.ring.Show(ctx, s.org, e.ID)
		s.check(err)
		if len(detail.History) != 2 || detail.History[1].Event != "keyring.trusted" || len(detail.Sightings) != 2 {
			t.Errorf("%+v", detail)
		}
	})
}

// Two keys that are shown at once are no change: the newer one stays, whichever
// answer comes first, and whichever source fails for a while.
func TestKeysShownSideBySideDoNotTakeTurns(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a := jane(t)
		older, newer := s.key(a), s.younger(a)
		both := []discover.Answer{shows(discover.WKD, policy.Confirmed, older), shows(discover.HKPS, policy.Confirmed, newer)}
		s.say(both...)
		s.wantPGP(s.find(a), newer, policy.Confirmed)
		facts := s.facts(db.System)
		for range 3 {
			both[0], both[1] = both[1], both[0]
			s.say(both...)
			s.nextDay()
			s.wantPGP(s.find(a), newer, policy.Confirmed)
		}
		s.say(shows(discover.WKD, policy.Confirmed, older), failing(discover.HKPS))
		s.nextDay()
		s.wantPGP(s.find(a), newer, policy.Confirmed)
		s.wantFacts(db.System, facts)
		s.say(shows(discover.WKD, policy.Confirmed, older))
		s.nextDay()
		s.wantPGP(s.find(a), older, policy.Confirmed)
	})
}

func TestHarvestedKeys(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a, b := jane(t), address(t, "bob@practice.example")
		key := s.key(a)
		s.check(s.ring.Harvest(ctx, s.org, b, policy.PGP, key.Bytes())) // not his
		s.check(s.ring.Harvest(ctx, s.org, a, policy.PGP, key.Bytes()))
		s.check(s.ring.Harvest(ctx, s.org, a, policy.PGP, key.Bytes()))
		s.wantPGP(s.find(a), key, policy.Harvested)
		s.wantNone(s.findFor(s.other, a), "")
		s.wantFacts(s.org, "added")
		if len(s.states(s.org, b)) != 0 {
			t.Error("a key for another address was harvested")
		}
		cert := s.cert(a)
		s.check(s.ring.Harvest(ctx, s.org, a, policy.SMIME, cert.Raw, "AES-256-GCM"))
		f := s.find(a)
		if f.SMIME == nil || f.SMIME.Tier != policy.Confirmed || !f.SMIME.Opens.GCM || !f.SMIME.Certificate.Equal(cert) {
			t.Errorf("%+v %q", f.SMIME, f.Why)
		}
		if err := s.ring.Harvest(ctx, s.org, a, policy.PGP, []byte("no key")); err == nil {
			t.Error("nonsense is harvested")
		}
	})
}

// The table's own constraints stand behind the states that are drawn.
func TestTheTableRefusesImpossibleStates(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a := jane(t)
		s.meet(a, s.key(a), policy.Confirmed)
		s.meet(a, s.younger(a), policy.Discovered)
		for _, set := range []string{
			"state = 'unknown'", "tier = 'none' WHERE state = 'active'", "reason = 'x' WHERE state = 'active'", "state = 'refused'", "tier = 'pinned' WHERE state = 'proposed'",
			"state = 'active' WHERE state = 'proposed'", "kind = 'tls'", "opens = 'rot13'", "tier = 'trusted'",
		} {
			err := d.Write(ctx, db.System, func(tx *db.Tx) error {
				_, err := tx.Exec("UPDATE keyring_entries SET " + set)
				return err
			})
			if err == nil {
				t.Errorf("the table takes %s", set)
			}
		}
	})
}

// What has been looked at and stays as it is costs no write, however often it
// is looked at.
func TestLookingAgainWritesNothing(t *testing.T) {
	s := newSite(t, dbtest.SQLite(t))
	a := jane(t)
	short := s.secret(a, s.clk.Now().Add(time.Hour)).Public()
	_, err := s.ring.Import(ctx, s.org, short.Bytes(), keyring.Options{})
	s.check(err)
	_, err = s.ring.Import(ctx, s.org, s.younger(a).Bytes(), keyring.Options{Tier: policy.Confirmed})
	s.check(err)
	cert := s.ca.issue(a, s.clk.Now().AddDate(-1, 0, 0), s.clk.Now().Add(time.Hour))
	_, err = s.ring.Import(ctx, s.org, cert.Raw, keyring.Options{})
	s.check(err)
	s.clk.Advance(2 * time.Hour)
	s.find(a)
	changes := func() (n int) {
		s.t.Helper()
		s.check(s.db.WriteAlone(ctx, s.org, func(tx *db.Tx) error { return tx.Row("SELECT total_changes()").Scan(&n) }))
		return n
	}
	before := changes()
	for range 5 {
		s.clk.Advance(2 * time.Minute)
		s.wantNone(s.find(a), "The recipient's OpenPGP key expired on March 1, 2026. Another OpenPGP key of the recipient waits for an administrator to accept it. "+
			"The recipient's S/MIME certificate expired on March 1, 2026.")
	}
	if n := changes(); n != before {
		t.Errorf("%d rows were written", n-before)
	}
}
