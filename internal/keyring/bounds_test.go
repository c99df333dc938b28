package keyring_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	pgp "github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/discover"
	"github.com/sealpost/sealpost/internal/keyring"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
)

// A source that shows another key each time costs a bounded number of entries
// and facts, and the key that was first is known again when it returns.
func TestASourceThatShowsAnotherKeyEachTime(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a := jane(t)
		const looks, days = 8, 12
		var first, last openpgp.Key
		for range days {
			for range looks {
				last = s.secretOf(a, s.clk.Now().Add(-24*time.Hour), time.Time{}).Public()
				if first.Fingerprint() == "" {
					first = last
				}
				answer := shows(discover.WKD, policy.Confirmed, last)
				answer.Until = s.clk.Now()
				s.say(answer)
				s.clk.Advance(6 * time.Minute)
				s.find(a)
			}
			s.nextDay()
		}
		if n := len(s.states(db.System, a)); n > 25 {
			t.Errorf("%d entries of one address", n)
		}
		if n := len(strings.Fields(s.facts(db.System))); n > days*10 {
			t.Errorf("%d facts in %d days", n, days)
		}
		s.say(shows(discover.WKD, policy.Confirmed, last))
		s.nextDay()
		s.wantPGP(s.find(a), last, policy.Confirmed)
		s.say(shows(discover.WKD, policy.Confirmed, first))
		s.nextDay()
		s.wantPGP(s.find(a), first, policy.Confirmed)
	})
}

// More entries than are read at once do not make a known one look new.
func TestWhatIsNotReadIsKnownAllTheSame(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a := jane(t)
		var entries []keyring.Entry
		for range 203 {
			e, err := s.ring.Import(ctx, s.org, s.secretOf(a, s.clk.Now().Add(-24*time.Hour), time.Time{}).Public().Bytes(), keyring.Options{})
			s.check(err)
			entries = append(entries, e...)
			_, err = s.ring.Remove(ctx, s.org, e[0].ID) // those are kept for ever
			s.check(err)
		}
		got, err := s.ring.Trust(ctx, s.org, entries[0].ID, policy.Pinned)
		s.check(err)
		if f := s.find(a); f.PGP == nil || f.PGP.ID != entries[0].ID || got.ID != entries[0].ID {
			t.Errorf("%+v %q", got, f.Why)
		}
	})
}

// large is a key with a user id and octets for each address.
func (s *site) large(each int, all ...mail.Address) openpgp.Key {
	s.t.Helper()
	at := s.clk.Now().AddDate(-1, 0, 0)
	cfg := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return at }, DefaultHash: crypto.SHA256,
		SignatureNotations: []*packet.Notation{{Name: "n@evil.example", Value: bytes.Repeat([]byte("x"), 7500), IsHumanReadable: true}}}
	e, err := pgp.NewEntity("", "", all[0].Reveal(), cfg)
	s.check(err)
	for i, a := range all[1:] {
		s.check(e.AddUserId(fmt.Sprint(i)+strings.Repeat("y", each), "", a.Reveal(), cfg))
	}
	return s.public(e)
}

// Whoever fills a key with user ids and notations fills neither the database
// nor the memory.
func TestLargeKeysFillNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		var all []mail.Address
		for i := range 6 {
			all = append(all, address(t, fmt.Sprintf("u%d@evil.example", i)))
		}
		key := s.large(1500, all...)
		if n := len(key.Bytes()); n < 48_000 {
			t.Fatalf("%d octets", n)
		}
		s.say(shows(discover.WKD, policy.Confirmed, key))
		heap := func() uint64 {
			runtime.GC()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		before := heap()
		for _, a := range all {
			s.wantPGP(s.find(a), key, policy.Confirmed)
		}
		if n := (int64(heap()) - int64(before)) / int64(len(all)); n > 120<<10 {
			t.Errorf("%d octets of memory for an address", n)
		}
		runtime.KeepAlive(s)
		var most int
		s.check(d.Read(ctx, db.System, func(tx *db.Tx) error {
			return tx.Row("SELECT max(length(data_sealed)) FROM keyring_entries").Scan(&most)
		}))
		if most > 20<<10 {
			t.Errorf("%d octets are stored for one address", most)
		}
		// One that is too large for itself.
		a := jane(t)
		cert := s.ca.issue(a, s.clk.Now().AddDate(-1, 0, 0), s.clk.Now().AddDate(1, 0, 0), func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 3, 6, 1, 4, 1, 99999, 1}, Value: make([]byte, 70<<10)}}
		})
		s.say(showsCert(discover.HKPS, policy.Discovered, 0, cert))
		for range 2 {
			s.wantNone(s.find(a), "The recipient's S/MIME certificate is too large.")
			s.nextDay()
		}
		entries := s.states(db.System, a)
		if len(entries) != 1 {
			t.Errorf("%d entries", len(entries))
		}
		for _, e := range entries {
			if e.State != keyring.Refused || e.Reason != "too_large" {
				t.Errorf("%+v", e)
			}
			if _, err := s.ring.Trust(ctx, s.org, e.ID, policy.Pinned); err == nil {
				t.Error("a key that was not kept is trusted")
			}
		}
		s.check(d.Read(ctx, db.System, func(tx *db.Tx) error {
			return tx.Row("SELECT max(length(data_sealed)) FROM keyring_entries").Scan(&most)
		}))
		if most > 20<<10 {
			t.Errorf("%d octets are stored of what is refused", most)
		}
	})
}

// Whatever spelling somebody writes, what was found stays until the source has
// nothing under the spelling that it was found under.
func TestAnotherSpellingWithdrawsNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		for i, local := range []string{"jane.canary", "Jane.Canary"} {
			domain := fmt.Sprintf("@practice%d.example", i)
			published := local + domain
			key := s.key(address(t, published))
			there := true
			s.by = func(a mail.Address) []discover.Answer { // as a signed zone answers
				if there && a.Reveal() == published {
					return []discover.Answer{shows(discover.WKD, policy.Confirmed, key)}
				}
				return []discover.Answer{{Source: discover.WKD, Absent: true, Certain: true}}
			}
			s.wantPGP(s.find(address(t, published)), key, policy.Confirmed)
			for _, written := range []string{"Jane.Canary", "jane.canary", "JANE.CANARY"} {
				s.nextDay()
				s.wantPGP(s.findFor(s.other, address(t, written+domain)), key, policy.Confirmed)
			}
			there = false
			s.nextDay()
			s.wantNone(s.find(address(t, "JANE.canary"+domain)), "")
		}
	})
}

// Two nodes ask for two spellings at the same time, and the one that finds
// nothing writes last.
func TestAnotherSpellingOnAnotherNodeWithdrawsNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		published := address(t, "Jane.Canary@practice.example")
		key, asked, found := s.key(published), make(chan bool), make(chan bool)
		s.by = func(a mail.Address) []discover.Answer {
			if a.Reveal() == published.Reveal() {
				return []discover.Answer{shows(discover.WKD, policy.Confirmed, key)}
			}
			close(asked)
			<-found
			return []discover.Answer{{Source: discover.WKD, Absent: true, Certain: true}}
		}
		other := make(chan error)
		go func() {
			_, err := s.node().Find(ctx, s.other, jane(t))
			other <- err
		}()
		<-asked
		s.wantPGP(s.find(published), key, policy.Confirmed)
		s.clk.Advance(2 * time.Second)
		close(found)
		s.check(<-other)
		s.wantFacts(db.System, "added")
	})
}

// That too much is asked at once is over soon, and nobody's failure.
func TestBusyIsAskedAgainSoon(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a, key := jane(t), s.key(jane(t))
		for i := range 4 {
			s.say(discover.Answer{Source: discover.WKD, Word: discover.Busy, Until: s.clk.Now().Add(30 * time.Second)})
			if f := s.find(a); !f.Failing || f.PGP != nil {
				t.Errorf("round %d: %+v", i, f)
			}
			s.clk.Advance(29 * time.Second)
			s.find(a)
			if s.asked != i+1 {
				t.Errorf("round %d: asked %d times", i, s.asked)
			}
			s.clk.Advance(time.Second)
		}
		s.check(d.Read(ctx, db.System, func(tx *db.Tx) error {
			var n int
			err := tx.Row("SELECT count(*) FROM keyring_lookups WHERE source = 'wkd'").Scan(&n)
			if n != 0 {
				t.Error("that we were busy is kept")
			}
			return err
		}))
		s.say(shows(discover.WKD, policy.Confirmed, key))
		f := s.find(a)
		s.wantPGP(f, key, policy.Confirmed)
		if f.Failing {
			t.Error("it is over")
		}
		// What is known outlives it, and the failures of before are not forgotten.
		s.say(failing(discover.WKD))
		s.nextDay()
		s.find(a)
		s.say(discover.Answer{Source: discover.WKD, Word: discover.Busy})
		s.clk.Advance(11 * time.Minute)
		if f := s.find(a); !f.Failing || f.PGP == nil {
			t.Errorf("%+v", f)
		}
		s.say(failing(discover.WKD))
		s.clk.Advance(31 * time.Second)
		s.find(a)
		asked := s.asked
		s.clk.Advance(19 * time.Minute)
		if s.find(a); s.asked != asked {
			t.Error("busy ended the series of failures")
		}
	})
}

func sorted(words, _ string) string {
	all := strings.Fields(words)
	slices.Sort(all)
	return strings.Join(all, " ")
}

// Anybody can write any address into a key of their own.
func TestAKeyOfSeveralAddressesReplacesNobodysKey(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a, b, mallory := jane(t), address(t, "bob@practice.example"), address(t, "mallory@evil.example")
		shared, own := s.key(a), s.key(b)
		s.say(shows(discover.WKD, policy.Confirmed, shared))
		s.wantPGP(s.find(a), shared, policy.Confirmed)
		s.say()
		_, err := s.ring.Import(ctx, s.org, own.Bytes(), keyring.Options{})
		s.check(err)
		evil := s.large(1, mallory, a, b, address(t, "nobody@practice.example"))
		if got := sorted(s.imports(evil.Bytes(), keyring.Options{})); got != "added added refused:another_key refused:another_key" {
			t.Error(got)
		}
		s.wantPGP(s.find(a), shared, policy.Confirmed)
		s.wantPGP(s.find(b), own, policy.Pinned)
		s.wantPGP(s.find(mallory), evil, policy.Pinned)
		if got := sorted(s.imports(evil.Bytes(), keyring.Options{})); got != "known known refused:another_key refused:another_key" {
			t.Error(got)
		}
		if got, _ := s.imports(evil.Bytes(), keyring.Options{Address: a}); got != "added" {
			t.Error(got)
		}
		s.wantPGP(s.find(a), evil, policy.Pinned)
		// A key of one address is meant to replace what is there.
		next := s.younger(b)
		if got, _ := s.imports(next.Bytes(), keyring.Options{}); got != "added" {
			t.Error(got)
		}
		s.wantPGP(s.find(b), next, policy.Pinned)
	})
}

func TestSigners(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a := jane(t)
		want := func(what string, keys ...openpgp.Key) {
			t.Helper()
			asked := s.asked
			list, err := s.ring.Signers(ctx, s.org, a)
			s.check(err)
			var got, wanted []string
			for _, c := range list {
				got = append(got, c.PGP.Fingerprint())
			}
			for _, k := range keys {
				wanted = append(wanted, k.Fingerprint())
			}
			if strings.Join(got, " ") != strings.Join(wanted, " ") {
				t.Errorf("%s: %d keys, want %d", what, len(got), len(keys))
			}
			if s.asked != asked {
				t.Errorf("%s: the network was asked", what)
			}
		}
		want("nobody")
		secret := s.secret(a, s.clk.Now().Add(26*time.Hour))
		shared, own := secret.Public(), s.younger(a)
		s.say(shows(discover.WKD, policy.Confirmed, shared))
		s.find(a)
		want("shared", shared)
		s.check(s.ring.Harvest(ctx, s.org, a, policy.PGP, own.Bytes()))
		want("own and shared", own, shared)
		s.nextDay()
		s.nextDay()
		want("expired", own, shared)
		entries, err := s.ring.Import(ctx, s.org, own.Bytes(), keyring.Options{})
		s.check(err)
		want("pinned", own)
		_, err = s.ring.Remove(ctx, s.org, entries[0].ID)
		s.check(err)
		want("the pin removed", shared)
		waits := s.younger(a)
		s.check(s.ring.Harvest(ctx, s.org, a, policy.PGP, waits.Bytes()))
		want("harvested beside", waits, shared)
		s.check(s.ring.Harvest(ctx, s.org, a, policy.PGP, s.younger(a).Bytes()))
		want("another one that waits for a person", waits, shared)
		_, err = s.ring.Remove(ctx, db.System, s.states(db.System, a)[shared.Fingerprint()].ID)
		s.check(err)
		want("both removed", waits)

		a = address(t, "bob@practice.example")
		secret = s.secret(a, time.Time{})
		_, err = s.ring.Import(ctx, s.org, secret.Public().Bytes(), keyring.Options{})
		s.check(err)
		want("pinned", secret.Public())
		revoked, err := secret.Revoke(s.clk.Now(), "")
		s.check(err)
		s.say(shows(discover.HKPS, policy.Discovered, revoked))
		s.nextDay()
		s.findFor(s.other, a)
		want("revoked elsewhere, and nobody looked at the pin since")
	})
}
