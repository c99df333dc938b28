package keyring_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/certs"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/custody/custodytest"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/discover"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/keyring"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
)

var ctx = context.Background()

// site is a keyring of two organizations on a loopback of sources that say
// what a test puts there.
type site struct {
	t          testing.TB
	db         *db.DB
	keys       *custody.Custody
	clk        *clock.Fake
	org, other id.ID
	ring       *keyring.Keyring
	ca         *authority

	mu      sync.Mutex
	answers []discover.Answer
	asked   int
	// by answers in place of answers, where it is set.
	by func(mail.Address) []discover.Answer
	// stands is what holds for every address, where it is set.
	stands []discover.Answer
	// together makes those who ask wait for each other.
	together *sync.WaitGroup
}

var sources = []string{discover.WKD, discover.SMIMEA, discover.HKPS}

func newSite(t testing.TB, d *db.DB) *site {
	s := &site{t: t, db: d, clk: clock.NewFake(time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)), org: id.New(), other: id.New()}
	s.keys = custodytest.New(t, d, s.org, s.other)
	s.ca = newAuthority(t, s.clk.Now())
	s.ring = s.node()
	s.say()
	return s
}

// node gives another keyring on the same database, as a second node or a
// restart would have.
func (s *site) node() *keyring.Keyring {
	roots := x509.NewCertPool()
	roots.AddCert(s.ca.cert)
	return keyring.New(keyring.Deps{DB: s.db, Custody: s.keys, Clock: s.clk, Sources: sources,
		Certs: certs.New(certs.Deps{DB: s.db, Clock: s.clk, Log: slog.New(slog.DiscardHandler), Roots: roots, Get: func(context.Context, string, []byte, string, int64) ([]byte, error) {
			return nil, context.DeadlineExceeded
		}}),
		Standing: func(mail.Address) ([]discover.Answer, bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.stands, s.stands != nil
		},
		Discover: func(_ context.Context, a mail.Address) []discover.Answer {
			s.mu.Lock()
			s.asked++
			answers, together, by := s.answers, s.together, s.by
			s.mu.Unlock()
			if by != nil {
				return by(a)
			}
			if together != nil {
				together.Done()
				together.Wait()
			}
			return answers
		}})
}

func (s *site) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// say makes the sources answer; those not named say absent.
func (s *site) say(answers ...discover.Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = answers
next:
	for _, name := range sources {
		for _, a := range answers {
			if a.Source == name {
				continue next
			}
		}
		s.answers = append(s.answers, discover.Answer{Source: name, Absent: true, Certain: true})
	}
}

func failing(source string) discover.Answer { return discover.Answer{Source: source, Word: "timeout"} }

func shows(source string, proof policy.Tier, keys ...openpgp.Key) discover.Answer {
	a := discover.Answer{Source: source}
	for _, k := range keys {
		a.Findings = append(a.Findings, discover.Finding{Source: source, Kind: policy.PGP, Data: k.Bytes(), Proof: proof})
	}
	return a
}

func showsCert(source string, proof policy.Tier, usage int, c ...*x509.Certificate) discover.Answer {
	var der []byte
	for _, one := range c {
		der = append(der, one.Raw...)
	}
	return discover.Answer{Source: source, Findings: []discover.Finding{{Source: source, Kind: policy.SMIME, Data: der, Proof: proof, Usage: usage}}}
}

func (s *site) nextDay() { s.clk.Advance(25 * time.Hour) }

func (s *site) find(a mail.Address) keyring.Found { s.t.Helper(); return s.findFor(s.org, a) }

func (s *site) findFor(org id.ID, a mail.Address) keyring.Found {
	s.t.Helper()
	f, err := s.ring.Find(ctx, org, a)
	s.check(err)
	return f
}

// states gives the entries of an address in an organization, by fingerprint.
func (s *site) states(org id.ID, a mail.Address) map[string]keyring.Entry {
	s.t.Helper()
	all, more, err := s.ring.List(ctx, org, keyring.Filter{Address: a, Limit: 1000})
	s.check(err)
	if more {
		s.t.Fatal("too many")
	}
	by := map[string]keyring.Entry{}
	for _, e := range all {
		by[e.Fingerprint.Reveal()] = e
	}
	return by
}

// facts gives the types of all entries of an organization's ledger in order.
func (s *site) facts(org id.ID) string {
	s.t.Helper()
	var words []string
	s.check(s.db.Read(ctx, org, func(tx *db.Tx) error {
		leaves, err := db.All(tx, db.Value[[]byte], "SELECT leaf FROM ledger_entries WHERE org_id = ? ORDER BY num", org)
		for _, l := range leaves {
			_, rest, _ := strings.Cut(string(l), `"type":"`)
			word, _, _ := strings.Cut(rest, `"`)
			if w, ok := strings.CutPrefix(word, "keyring."); ok {
				words = append(words, w)
			}
		}
		return err
	}))
	return strings.Join(words, " ")
}

func (s *site) wantFacts(org id.ID, want string) {
	s.t.Helper()
	if got := s.facts(org); got != want {
		s.t.Errorf("the ledger tells %q, want %q", got, want)
	}
}

func (s *site) wantPGP(f keyring.Found, k openpgp.Key, tier policy.Tier) {
	s.t.Helper()
	switch {
	case f.PGP == nil:
		s.t.Errorf("no key was chosen (%q), want one", f.Why)
	case f.PGP.PGP.Fingerprint() != k.Fingerprint() || f.PGP.Fingerprint.Reveal() != k.Fingerprint():
		s.t.Error("another key was chosen")
	case f.PGP.Tier != tier:
		s.t.Errorf("the key is %v, want %v", f.PGP.Tier, tier)
	}
}

func (s *site) wantNone(f keyring.Found, why string) {
	s.t.Helper()
	if f.PGP != nil || f.SMIME != nil {
		s.t.Error("a key was chosen, want none")
	}
	if got := strings.Join(f.Why, " "); got != why {
		s.t.Errorf("why is %q, want %q", got, why)
	}
}

func address(t testing.TB, text string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func jane(t testing.TB) mail.Address { return address(t, "jane.canary@practice.example") }

// secret makes a key that is a year old and ends when it is told, or never.
func (s *site) secret(a mail.Address, ends time.Time) *openpgp.Secret {
	s.t.Helper()
	return s.secretOf(a, s.clk.Now().Add(-365*24*time.Hour), ends)
}

func (s *site) secretOf(a mail.Address, made, ends time.Time) *openpgp.Secret {
	s.t.Helper()
	k, err := openpgp.Generate(openpgp.V4Curve25519, "Jane Canary", a, made, ends)
	s.check(err)
	return k
}

func (s *site) key(a mail.Address) openpgp.Key { return s.secret(a, time.Time{}).Public() }

// younger is a key made a month ago.
func (s *site) younger(a mail.Address) openpgp.Key {
	return s.secretOf(a, s.clk.Now().Add(-30*24*time.Hour), time.Time{}).Public()
}

// authority is an X.509 authority.
type authority struct {
	t    testing.TB
	key  crypto.Signer
	cert *x509.Certificate
}

func newAuthority(t testing.TB, now time.Time) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Root"}, NotBefore: now.AddDate(-2, 0, 0), NotAfter: now.AddDate(20, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, key, cert}
}

// issue makes a certificate for mail; change may spoil it.
func (ca *authority) issue(a mail.Address, from, to time.Time, change ...func(*x509.Certificate)) *x509.Certificate {
	ca.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		ca.t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	tmpl := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "Jane"}, NotBefore: from, NotAfter: to, EmailAddresses: []string{a.Reveal()},
		KeyUsage: x509.KeyUsageKeyAgreement | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}}
	for _, f := range change {
		f(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, key.Public(), ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		ca.t.Fatal(err)
	}
	return cert
}

func (s *site) cert(a mail.Address) *x509.Certificate {
	return s.ca.issue(a, s.clk.Now().AddDate(-1, 0, 0), s.clk.Now().AddDate(1, 0, 0))
}
