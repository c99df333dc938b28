package keyring_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/discover"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/keyring"
	"github.com/sealpost/sealpost/internal/policy"
)

func TestWhatASourceShowsIsUsedAtTheTierThatItsWayProves(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a, key := jane(t), s.key(jane(t))
		if f := s.find(a); f.PGP != nil || f.SMIME != nil || len(f.Why) > 0 || f.Failing || s.asked != 1 {
			t.Errorf("of nobody: %+v after %d questions", f, s.asked)
		}
		s.say(shows(discover.WKD, policy.Confirmed, key))
		s.nextDay()
		f := s.find(a)
		s.wantPGP(f, key, policy.Confirmed)
		if f.PGP.Source != "wkd" || f.PGP.State != keyring.Active || f.PGP.Algorithm != "X25519" || f.PGP.Address.Normal() != a.Normal() {
			t.Errorf("entry: %+v", f.PGP.Entry)
		}
		if got := f.Facts(); got != (policy.Keys{Looked: true, PGP: policy.Confirmed}) {
			t.Errorf("facts: %+v", got)
		}
		known, err := s.node().Known(ctx, s.org, a)
		if s.check(err); known != (policy.Keys{PGP: policy.Confirmed}) {
			t.Errorf("known at acceptance: %+v", known)
		}
		s.wantFacts(db.System, "added")
		s.wantFacts(s.org, "")
		// A second source proves less and changes nothing.
		s.say(shows(discover.WKD, policy.Confirmed, key), shows(discover.HKPS, policy.Discovered, key))
		s.nextDay()
		s.wantPGP(s.find(a), key, policy.Confirmed)
		s.wantFacts(db.System, "added")
	})
}

func TestAbsentWithdrawsOnlyWhatCameFromThatSourceAlone(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a, key := jane(t), s.key(jane(t))
		s.say(shows(discover.WKD, policy.Confirmed, key), shows(discover.HKPS, policy.Discovered, key))
		s.wantPGP(s.find(a), key, policy.Confirmed)
		s.say(failing(discover.HKPS))
		s.nextDay()
		s.wantPGP(s.find(a), key, policy.Discovered)
		s.say(shows(discover.HKPS, policy.Discovered, key))
		s.nextDay()
		s.wantPGP(s.find(a), key, policy.Discovered)
		s.wantFacts(db.System, "added")
		s.say()
		s.nextDay()
		s.wantNone(s.find(a), "")
		if e := s.states(db.System, a)[key.Fingerprint()]; e.State != keyring.Withdrawn || e.Reason != "absent" {
			t.Errorf("%+v", e)
		}
		s.wantFacts(db.System, "added withdrawn")
		s.say(shows(discover.HKPS, policy.Discovered, key))
		s.nextDay()
		s.wantPGP(s.find(a), key, policy.Discovered)
		s.wantFacts(db.System, "added withdrawn added")
	})
}

// TestPlainDNSWithdrawsNothing: whoever can answer in its place could otherwise
// have mail go unsealed.
func TestPlainDNSWithdrawsNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a, key := jane(t), s.key(jane(t))
		s.say(shows(discover.WKD, policy.Confirmed, key))
		s.wantPGP(s.find(a), key, policy.Confirmed)
		s.say(discover.Answer{Source: discover.WKD, Absent: true})
		s.nextDay()
		s.wantPGP(s.find(a), key, policy.Confirmed)
		s.wantFacts(db.System, "added")
	})
}

func TestAFailingSourceChangesNothingAndIsAskedLaterEachTime(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a, key := jane(t), s.key(jane(t))
		s.say(shows(discover.WKD, policy.Confirmed, key))
		s.wantPGP(s.find(a), key, policy.Confirmed)
		s.say(failing(discover.WKD), failing(discover.HKPS), failing(discover.SMIMEA))
		s.nextDay()
		f := s.find(a)
		s.wantPGP(f, key, policy.Confirmed)
		if !f.Failing {
			t.Error("Find hides that sources fail")
		}
		s.wantFacts(db.System, "added")
		for _, wait := range []time.Duration{10, 20, 40, 80, 120, 120} {
			was := s.asked
			s.clk.Advance(wait*time.Minute - time.Second)
			s.wantPGP(s.find(a), key, policy.Confirmed)
			if s.asked != was {
				t.Errorf("asked again before %d minutes", wait)
			}
			s.clk.Advance(time.Second)
			s.find(a)
			if s.asked != was+1 {
				t.Errorf("not asked after %d minutes", wait)
			}
		}
		stranger := address(t, "stranger@practice.example")
		s.wantNone(s.find(stranger), "Whether there are keys of the recipient could not be asked: hkps (timeout). "+
			"Whether there are keys of the recipient could not be asked: smimea (timeout). Whether there are keys of the recipient could not be asked: wkd (timeout).")
	})
}

func TestAnswersOutliveARestartAndGrowOld(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a, key := jane(t), s.key(jane(t))
		s.find(a)
		for range 3 {
			_, err := s.node().Find(ctx, s.other, a)
			s.check(err)
		}
		s.clk.Advance(12*time.Hour - time.Second)
		s.find(a)
		if s.asked != 1 {
			t.Fatalf("asked %d times within half a day", s.asked)
		}
		s.say(shows(discover.WKD, policy.Confirmed, key), discover.Answer{Source: discover.SMIMEA, Absent: true, Until: s.clk.Now().Add(time.Hour)},
			discover.Answer{Source: discover.HKPS, Absent: true, Until: s.clk.Now().Add(time.Second)})
		s.clk.Advance(time.Second)
		s.wantPGP(s.find(a), key, policy.Confirmed)
		s.clk.Advance(4 * time.Minute)
		s.find(a)
		if s.asked != 2 {
			t.Errorf("an answer that ends at once is asked for %d times in five minutes", s.asked)
		}
		s.clk.Advance(time.Minute)
		s.find(a)
		if s.asked != 3 {
			t.Errorf("asked %d times after an answer's end", s.asked)
		}
		s.clk.Advance(60 * 24 * time.Hour)
		s.check(s.ring.Tidy(ctx))
		s.check(d.Read(ctx, db.System, func(tx *db.Tx) error {
			var n int
			err := tx.Row("SELECT count(*) FROM keyring_lookups").Scan(&n)
			if n != 0 {
				t.Errorf("%d answers outlive their use", n)
			}
			return err
		}))
	})
}

// Without any key, neither Find nor Known touch the database again: it can be
// closed. (The clock stands still, so the second has not passed.)
func TestAddressesWithoutKeysCostNoSQL(t *testing.T) {
	s := newSite(t, dbtest.SQLite(t))
	a := jane(t)
	s.find(a)
	s.check(s.db.Close())
	for range 3 {
		s.wantNone(s.find(a), "")
		if _, err := s.ring.Known(ctx, s.org, a); err != nil {
			t.Fatal(err)
		}
	}
	s.clk.Advance(2 * time.Second)
	if _, err := s.ring.Find(ctx, s.org, a); err == nil {
		t.Error("nobody looks whether an organization has keys by now")
	}
}

func TestManyCallersAskOnceAndTwoNodesStoreOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		for round := range 3 {
			a := address(t, fmt.Sprintf("jane.canary@practice%d.example", round))
			key, next := s.key(a), s.younger(a)
			s.say(shows(discover.WKD, policy.Confirmed, key), shows(discover.HKPS, policy.Confirmed, next))
			// Both nodes have their answers before either writes.
			s.asked, s.together = 0, new(sync.WaitGroup)
			s.together.Add(2)
			nodes := []*keyring.Keyring{s.node(), s.node()}
			var all sync.WaitGroup
			for i := range 40 {
				all.Go(func() {
					f, err := nodes[i%2].Find(ctx, s.org, a)
					if err != nil {
						t.Error(err)
					} else {
						s.wantPGP(f, next, policy.Confirmed)
					}
				})
			}
			all.Wait()
			if s.asked != 2 {
				t.Errorf("two nodes asked %d times", s.asked)
			}
			by := s.states(db.System, a)
			if len(by) != 2 || by[next.Fingerprint()].State != keyring.Active || by[key.Fingerprint()].State != keyring.Superseded {
				t.Errorf("%+v", by)
			}
		}
	})
}

func TestTheClockIsLookedAtEachTime(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a := jane(t)
		ends := s.clk.Now().Add(3 * time.Hour).Truncate(time.Second)
		secret := s.secret(a, ends)
		key := secret.Public()
		s.say(shows(discover.WKD, policy.Confirmed, key))
		s.wantPGP(s.find(a), key, policy.Confirmed)
		s.clk.Advance(3*time.Hour - time.Second)
		s.wantPGP(s.find(a), key, policy.Confirmed)
		s.clk.Advance(time.Second)
		s.wantNone(s.find(a), "The recipient's OpenPGP key expired on March 1, 2026.")
		known, err := s.node().Known(ctx, s.org, a)
		if s.check(err); known != (policy.Keys{}) {
			t.Errorf("an expired key is forecast: %+v", known)
		}
		renewed, err := secret.Renew(s.clk.Now(), s.clk.Now().Add(1000*time.Hour))
		s.check(err)
		s.say(shows(discover.WKD, policy.Confirmed, renewed.Public()))
		s.nextDay()
		f := s.find(a)
		s.wantPGP(f, key, policy.Confirmed)
		s.wantFacts(db.System, "added replaced")
		// An older copy elsewhere does not bring the old end back.
		s.say(shows(discover.WKD, policy.Confirmed, renewed.Public()), shows(discover.HKPS, policy.Discovered, key))
		s.nextDay()
		s.wantPGP(s.find(a), key, policy.Confirmed)
	})
}

func TestARevokedKeyIsRecordedAndNeverComesBackByItself(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a := jane(t)
		secret := s.secret(a, time.Time{})
		key := secret.Public()
		// The organization pinned it; the installation has never seen it.
		s.say()
		_, err := s.ring.Import(ctx, s.org, key.Bytes(), keyring.Options{})
		s.check(err)
		s.wantPGP(s.find(a), key, policy.Pinned)
		revoked, err := secret.Revoke(s.clk.Now(), "")
		s.check(err)
		s.say(shows(discover.HKPS, policy.Discovered, revoked))
		s.nextDay()
		s.wantNone(s.find(a), "The recipient's OpenPGP key was revoked.")
		s.wantFacts(s.org, "added revoked")
		s.wantFacts(db.System, "refused")
		// A server with an old copy does not undo it.
		s.say(shows(discover.HKPS, policy.Discovered, key), shows(discover.WKD, policy.Confirmed, key))
		s.nextDay()
		s.wantNone(s.find(a), "The recipient's OpenPGP key was revoked.")
		s.wantNone(s.findFor(s.other, a), "The recipient's OpenPGP key was revoked.")
		// Nor does a new key take the place of a pinned one by itself.
		next := s.younger(a)
		s.say(shows(discover.WKD, policy.Confirmed, next))
		s.nextDay()
		s.wantNone(s.find(a), "The recipient's OpenPGP key was revoked.")
		s.wantPGP(s.findFor(s.other, a), next, policy.Confirmed)
		e := s.states(db.System, a)[next.Fingerprint()]
		_, err = s.ring.Trust(ctx, s.org, e.ID, policy.Pinned)
		s.check(err)
		s.wantPGP(s.find(a), next, policy.Pinned)
		s.wantFacts(s.org, "added revoked replaced trusted")
	})
}

func TestOrganizationsSeeTheirOwnAndWhatIsShared(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a := jane(t)
		own, shared := s.key(a), s.younger(a)
		entries, err := s.ring.Import(ctx, s.org, own.Bytes(), keyring.Options{})
		if s.check(err); len(entries) != 1 || entries[0].Outcome != "added" {
			t.Fatalf("%+v", entries)
		}
		s.wantPGP(s.find(a), own, policy.Pinned)
		s.wantNone(s.findFor(s.other, a), "")
		if len(s.states(s.other, a)) != 0 || len(s.states(db.System, a)) != 0 {
			t.Error("another organization lists the entry")
		}
		mine := entries[0].ID
		for _, org := range []id.ID{s.other, db.System} {
			if _, err := s.ring.Show(ctx, org, mine); err == nil {
				t.Error("another organization sees the entry")
			}
			if _, err := s.ring.Trust(ctx, org, mine, policy.Pinned); err == nil {
				t.Error("another organization trusts the entry")
			}
			if _, err := s.ring.Remove(ctx, org, mine); err == nil {
				t.Error("another organization removes the entry")
			}
		}
		s.say(shows(discover.WKD, policy.Confirmed, shared))
		s.nextDay()
		s.wantPGP(s.find(a), own, policy.Pinned) // the own pin wins
		s.wantPGP(s.findFor(s.other, a), shared, policy.Confirmed)
		// Of lower tier than the shared one, it does not.
		_, err = s.ring.Import(ctx, s.other, own.Bytes(), keyring.Options{Tier: policy.Discovered})
		s.check(err)
		s.wantPGP(s.findFor(s.other, a), shared, policy.Confirmed)
		// Pinned and out of its time, it still keeps others out.
		short := s.secret(a, s.clk.Now().Add(time.Hour)).Public()
		_, err = s.ring.Import(ctx, s.org, short.Bytes(), keyring.Options{})
		s.check(err)
		s.wantPGP(s.find(a), short, policy.Pinned)
		s.nextDay()
		s.wantNone(s.find(a), "The recipient's OpenPGP key expired on March 2, 2026.")
		// Removed by a person, it makes way, and a source does not bring it back.
		e := s.states(s.org, a)[short.Fingerprint()]
		_, err = s.ring.Remove(ctx, s.org, e.ID)
		s.check(err)
		s.wantPGP(s.find(a), shared, policy.Confirmed)
		if _, err := s.ring.Remove(ctx, s.org, s.states(db.System, a)[shared.Fingerprint()].ID); err == nil {
			t.Error("an organization removes what is shared")
		}
		_, err = s.ring.Remove(ctx, db.System, s.states(db.System, a)[shared.Fingerprint()].ID)
		s.check(err)
		s.nextDay()
		s.wantNone(s.findFor(id.New(), a), "")
	})
}

// What a person vouched for ends when it says, until a person says otherwise.
// TestAPinIsRenewedByItsOwner: the same key has signed its later end.
func TestAPinIsRenewedByItsOwner(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a := jane(t)
		secret := s.secret(a, s.clk.Now().Add(time.Hour))
		_, err := s.ring.Import(ctx, s.org, secret.Public().Bytes(), keyring.Options{})
		s.check(err)
		renewed, err := secret.Renew(s.clk.Now(), s.clk.Now().Add(1000*time.Hour))
		s.check(err)
		s.say(shows(discover.WKD, policy.Confirmed, renewed.Public()))
		s.nextDay()
		s.wantPGP(s.find(a), renewed.Public(), policy.Pinned)
		s.wantPGP(s.findFor(s.other, a), renewed.Public(), policy.Confirmed)
	})
}

// Other nodes notice within a second what a person changed.
func TestAPersonsChangeReachesOtherNodesInASecond(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a, key := jane(t), s.key(jane(t))
		node := s.node()
		entries, err := s.ring.Import(ctx, s.org, key.Bytes(), keyring.Options{})
		s.check(err)
		f, err := node.Find(ctx, s.org, a)
		s.check(err)
		s.wantPGP(f, key, policy.Pinned)
		_, err = s.ring.Remove(ctx, s.org, entries[0].ID)
		s.check(err)
		s.clk.Advance(time.Second)
		f, err = node.Find(ctx, s.org, a)
		s.check(err)
		s.wantNone(f, "")
	})
}

func TestNothingThatNamesAPersonStandsInTheDatabaseInClear(t *testing.T) {
	s := newSite(t, dbtest.SQLite(t))
	a, key, cert := jane(t), s.key(jane(t)), s.cert(jane(t))
	s.say(shows(discover.WKD, policy.Confirmed, key), showsCert(discover.SMIMEA, policy.Confirmed, 3, cert), shows(discover.HKPS, policy.Discovered, s.younger(a)))
	f := s.find(a)
	s.wantPGP(f, key, policy.Confirmed)
	if f.SMIME == nil {
		t.Fatalf("no certificate: %q", f.Why)
	}
	_, err := s.ring.Import(ctx, s.org, key.Bytes(), keyring.Options{})
	s.check(err)
	var file string
	s.check(s.db.Read(ctx, db.System, func(tx *db.Tx) error {
		return tx.Row("SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&file)
	}))
	found := 0
	names, _ := filepath.Glob(file + "*")
	for _, name := range names {
		raw, err := os.ReadFile(name)
		s.check(err)
		found += len(raw)
		low := strings.ToLower(string(raw))
		for what, text := range map[string]string{"the address": "canary", "the OpenPGP fingerprint": strings.ToLower(key.Fingerprint()),
			"the certificate's fingerprint": strings.ToLower(f.SMIME.Fingerprint.Reveal()), "the OpenPGP key": strings.ToLower(string(key.Bytes()[:40])), "the certificate": strings.ToLower(string(cert.Raw[40:80]))} {
			if strings.Contains(low, text) {
				t.Errorf("%s stands in %s", what, filepath.Base(name))
			}
		}
	}
	if found < 50_000 {
		t.Fatalf("only %d octets were looked at", found)
	}
	for _, show := range []string{fmt.Sprintf("%v %+v", f.PGP.Entry, f.Why), fmt.Sprintf("%#v", f.SMIME.Entry)} {
		if strings.Contains(strings.ToLower(show), "canary") || strings.Contains(show, key.Fingerprint()) {
			t.Errorf("printing an entry shows whose it is: %s", show)
		}
	}
}
