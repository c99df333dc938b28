package smtpin

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/inbound"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/submit"
)

// authority signs certificates of clients.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority() authority {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	return authority{must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)))), key}
}

func (a authority) issue(name string, ends time.Duration, use x509.ExtKeyUsage) *tls.Certificate {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{name}, NotBefore: time.Now().Add(-2 * time.Hour),
		NotAfter: time.Now().Add(ends), ExtKeyUsage: []x509.ExtKeyUsage{use}}
	der := must(x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key))
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// suiteWorld is one with a mail suite that many organizations use, known by its
// certificate, and members who have their mailboxes there.
func suiteWorld(t *testing.T, ca authority, tenants ...*submit.Tenant) *world {
	w, deps := prepareSuite(t, ca, tenants...)
	w.start(deps)
	return w
}

func prepareSuite(t *testing.T, ca authority, tenants ...*submit.Tenant) (*world, Deps) {
	w, d := prepare(t, dbtest.SQLite(t))
	one := Source{Names: []string{"suite.example"}, Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, Org: w.Org.ID}
	d.Sources = nil
	for _, one.Tenant = range tenants {
		d.Sources = append(d.Sources, one)
	}
	d.SourceRoots = x509.NewCertPool()
	d.SourceRoots.AddCert(ca.cert)
	d.Inbound.Relay = &inbound.Relay{
		Knows: func(_ context.Context, _ netip.Prefix, to mail.Address) (id.ID, error) {
			if to.Domain() == "clinic.example" && to.Local() == "ada" {
				return w.Org.ID, nil
			}
			return id.ID{}, fault.New(fault.NotFound, "no_mailbox", "no")
		},
		Serves: func(_ context.Context, domain string) (bool, error) { return domain == "clinic.example", nil },
		Accept: func(_ context.Context, _ inbound.Arrival, r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		},
	}
	return w, d
}

// hand says what a suite says, and gives the first reply that is no success, or
// the last.
func (w *world) hand(t *testing.T, from string, cert *tls.Certificate, sender, recipient, header string) string {
	t.Helper()
	return w.suite(t, from, cert).hand(sender, recipient, header)
}

// suite opens a session as one does.
func (w *world) suite(t *testing.T, from string, cert *tls.Certificate) *peer {
	t.Helper()
	p := w.dial(t, from)
	p.expect("220 ")
	p.talk("EHLO out.suite.example", "250 ")
	p.talk("STARTTLS", "220 ")
	cfg := &tls.Config{ServerName: host, RootCAs: w.pool}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	c := tls.Client(p.conn, cfg)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	p.conn = c
	p.r.Reset(c)
	p.talk("EHLO out.suite.example", "250 ")
	return p
}

func (p *peer) hand(sender, recipient, header string) string {
	p.t.Helper()
	for _, line := range []string{"MAIL FROM:<" + sender + ">", "RCPT TO:<" + recipient + ">", "DATA"} {
		p.send(line + "\r\n")
		if got := p.reply()[0]; got[0] != '2' && got[0] != '3' {
			return got
		}
	}
	if !strings.Contains(header, "From: ") {
		header += "From: ada@clinic.example\r\n"
	}
	p.send(header + "Subject: hello\r\n\r\nbody\r\n.\r\n")
	return p.reply()[0]
}

func TestASourceIsKnownByItsCertificate(t *testing.T) {
	ca := newAuthority()
	w := suiteWorld(t, ca, nil)
	server := x509.ExtKeyUsageServerAuth
	for name, c := range map[string]struct {
		from string
		cert *tls.Certificate
		want string
	}{
		"right":                {"relay", ca.issue("suite.example", time.Hour, server), "250 2.0.0 Accepted"},
		"right, for clients":   {"relay", ca.issue("suite.example", time.Hour, x509.ExtKeyUsageClientAuth), "250 2.0.0 Accepted"},
		"for something else":   {"relay", ca.issue("suite.example", time.Hour, x509.ExtKeyUsageCodeSigning), "550 5.1.1"},
		"of another name":      {"relay", ca.issue("other.suite.example", time.Hour, server), "550 5.1.1"},
		"of another authority": {"relay", newAuthority().issue("suite.example", time.Hour, server), "550 5.1.1"},
		"expired":              {"relay", ca.issue("suite.example", -time.Minute, server), "550 5.1.1"},
		"none":                 {"relay", nil, "550 5.1.1"},
		"from elsewhere":       {"stranger", ca.issue("suite.example", time.Hour, server), "550 5.1.1"},
	} {
		if got := w.hand(t, c.from, c.cert, "ada@clinic.example", "patient@example.org", ""); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %s", name, got)
		}
	}
	// An unknown peer still brings mail for members.
	if got := w.hand(t, "relay", nil, "bob@example.org", "ada@clinic.example", ""); !strings.HasPrefix(got, "250 2.0.0 Taken") {
		t.Errorf("for a member: %s", got)
	}
	if n := len(w.Stored()); n != 2 {
		t.Errorf("%d messages are stored", n)
	}
}

// Who shares the suite shares its addresses and its certificate, and can write
// any sender. What its customers send to members is mail from outside.
func TestASharedSourceMustProveTheTenant(t *testing.T) {
	ca := newAuthority()
	cert := ca.issue("suite.example", time.Hour, x509.ExtKeyUsageServerAuth)
	const secret = "a-secret-of-the-tenant"
	for name, c := range map[string]struct {
		value  string // of the configuration
		sender string
		to     string
		header string
		want   string
	}{
		"the secret":            {secret, "ada@clinic.example", "p@example.org", "X-Tenant: " + secret + "\r\n", "250 2.0.0 Accepted"},
		"another":               {secret, "ada@clinic.example", "p@example.org", "X-Tenant: " + secret + "x\r\n", "550 5.7.1"},
		"none":                  {secret, "ada@clinic.example", "p@example.org", "", "550 5.7.1"},
		"twice":                 {secret, "ada@clinic.example", "p@example.org", "X-Tenant: " + secret + "\r\nX-Tenant: " + secret + "\r\n", "550 5.7.1"},
		"a domain for a secret": {secret, "ada@clinic.example", "p@example.org", "X-Tenant: clinic.example\r\n", "550 5.7.1"},
		"our domain":            {"", "ada@clinic.example", "p@example.org", "X-Tenant: Clinic.Example\r\n", "250 2.0.0 Accepted"},
		"another's domain":      {"", "ada@clinic.example", "p@example.org", "X-Tenant: other.example\r\n", "550 5.7.1"},
		"no domain":             {"", "ada@clinic.example", "p@example.org", "X-Tenant: \r\n", "550 5.7.1"},
		"no sender":             {secret, "", "p@example.org", "X-Tenant: " + secret + "\r\n", "250 2.0.0 Accepted"},
		"no sender, no proof":   {secret, "", "p@example.org", "", "550 5.7.1"},

		"another customer, to a member":             {secret, "x@hospital.example", "ada@clinic.example", "", "250 2.0.0 Taken"},
		"another customer, to others":               {secret, "x@hospital.example", "p@example.org", "", "550 5.1.1"},
		"a bounce of another customer, to a member": {secret, "", "ada@clinic.example", "", "250 2.0.0 Taken"},
		"a forgery to a member":                     {secret, "ada@clinic.example", "ada@clinic.example", "", "550 5.7.1"},
	} {
		t.Run(name, func(t *testing.T) {
			w := suiteWorld(t, ca, &submit.Tenant{Field: "X-Tenant", Value: private.NewString(c.value)})
			if got := w.hand(t, "relay", cert, c.sender, c.to, c.header); !strings.HasPrefix(got, c.want) {
				t.Errorf("%s", got)
			}
			for _, stored := range w.Stored() {
				if strings.Contains(stored, "X-Tenant") || strings.Contains(stored, secret) {
					t.Errorf("the proof goes on:\n%s", stored)
				}
			}
		})
	}
}

// Organizations of one installation that use the same suite come from the same
// source. What has no sender, such as an absence note, is of the one it proves.
func TestWhatHasNoSenderIsOfTheTenantItProves(t *testing.T) {
	ca := newAuthority()
	cert := ca.issue("suite.example", time.Hour, x509.ExtKeyUsageServerAuth)
	tenant := func(value string) *submit.Tenant {
		return &submit.Tenant{Field: "X-Tenant", Value: private.NewString(value)}
	}
	w, deps := prepareSuite(t, ca, tenant("the-secret-of-old"), tenant("the-secret-of-now"), tenant("another-organization"))
	other := must(w.Accounts.OrgBySlug(context.Background(), "other"))
	deps.Sources[2].Org = other.ID
	w.start(deps)
	for name, c := range map[string]struct{ sender, value, from, want string }{
		"the first":               {"", "the-secret-of-old", "ada@clinic.example", "250 2.0.0 Accepted"},
		"the last":                {"", "another-organization", "bob@other.example", "250 2.0.0 Accepted"},
		"one for the other":       {"", "another-organization", "ada@clinic.example", "550 5.7.1"},
		"nobody's":                {"", "nobody", "bob@other.example", "550 5.7.1"},
		"a secret being replaced": {"ada@clinic.example", "the-secret-of-now", "ada@clinic.example", "250 2.0.0 Accepted"},
		"with the other's sender": {"bob@other.example", "the-secret-of-now", "bob@other.example", "550 5.7.1"},
	} {
		header := "X-Tenant: " + c.value + "\r\nFrom: " + c.from + "\r\n"
		if got := w.hand(t, "relay", cert, c.sender, "p@example.org", header); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %s", name, got)
		}
	}
	if n := len(w.Stored()); n != 2 {
		t.Errorf("%d messages are of the first organization", n)
	}
}

// Every customer of a suite comes under its certificate, so who does is held to
// the time of strangers until a message proves its tenant.
func TestAPeerOfASharedSourceIsAStrangerUntilItProvesItsTenant(t *testing.T) {
	ca := newAuthority()
	cert := ca.issue("suite.example", time.Hour, x509.ExtKeyUsageServerAuth)
	w := suiteWorld(t, ca, &submit.Tenant{Field: "X-Tenant", Value: private.NewString("a-secret-of-the-tenant")})
	strange := func() int {
		w.server.mu.Lock()
		defer w.server.mu.Unlock()
		return w.server.strange
	}
	p := w.suite(t, "relay", cert)
	for _, step := range []struct {
		sender, to, header, want string
		strange                  int
	}{
		{"x@hospital.example", "ada@clinic.example", "", "250 2.0.0 Taken", 1},
		{"ada@clinic.example", "p@example.org", "", "550 5.7.1", 1},
		{"ada@clinic.example", "p@example.org", "X-Tenant: a-secret-of-the-tenant\r\n", "250 2.0.0 Accepted", 0},
	} {
		if got := p.hand(step.sender, step.to, step.header); !strings.HasPrefix(got, step.want) || strange() != step.strange {
			t.Errorf("%s, and %d strangers", got, strange())
		}
	}
}

// Mail without a sender that a shared source brings to members is anybody's, and
// whoever guesses so has few guesses.
func TestGuessesFromASharedSourceAreCounted(t *testing.T) {
	ca := newAuthority()
	w := suiteWorld(t, ca, &submit.Tenant{Field: "X-Tenant", Value: private.NewString("a-secret-of-the-tenant")})
	p := w.suite(t, "relay", ca.issue("suite.example", time.Hour, x509.ExtKeyUsageServerAuth))
	p.talk("MAIL FROM:<>", "250 ")
	for n := range maxErrors {
		p.talk(fmt.Sprintf("RCPT TO:<guess%d@clinic.example>", n), "550 5.1.1")
	}
	p.talk("RCPT TO:<p@example.org>", "250 ") // nobody is asked
	p.talk("RCPT TO:<guess@clinic.example>", "550 5.1.1")
	p.expect("421 4.7.0")
	p.end()
}

// While it cannot be found out whose mail it is, it is nobody's, and comes again.
func TestASourceThatCannotBeAskedDefersMail(t *testing.T) {
	ca := newAuthority()
	cert := ca.issue("suite.example", time.Hour, x509.ExtKeyUsageServerAuth)
	tenant := func(value string) *submit.Tenant {
		return &submit.Tenant{Field: "X-Tenant", Value: private.NewString(value)}
	}
	for name, c := range map[string]struct {
		fails  int // reading the other organization's facts
		sender string
	}{
		"at MAIL, then refused by the next": {1, "bob@other.example"},
		"at DATA":                           {2, ""},
	} {
		w, deps := prepareSuite(t, ca, tenant("another-organization"), tenant("our-own-organization"))
		other := must(w.Accounts.OrgBySlug(context.Background(), "other"))
		deps.Sources[0].Org = other.ID
		now, reads := clock.NewFake(time.Now()), 0
		deps.Door = w.Door(func(d *submit.Deps) {
			d.Clock, d.TenantFields = now, []string{"X-Tenant"}
			d.Journal = func(_ context.Context, org id.ID) (mail.Address, error) {
				now.Advance(time.Minute) // what was read is read again
				if org == other.ID {
					if reads++; reads == c.fails {
						return mail.Address{}, errors.New("the database is away")
					}
				}
				return mail.Address{}, nil
			}
		})
		w.start(deps)
		if got := w.hand(t, "relay", cert, c.sender, "p@example.org", "X-Tenant: another-organization\r\nFrom: bob@other.example\r\n"); !strings.HasPrefix(got, "451 4.3.0") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// A peer that is of one organization by its certificate, and of another by its
// network alone, is the first one's, where no sender tells.
func TestACertificateSaysMoreThanANetwork(t *testing.T) {
	ca := newAuthority()
	cert := ca.issue("suite.example", time.Hour, x509.ExtKeyUsageServerAuth)
	w, deps := prepareSuite(t, ca, nil, nil)
	other := must(w.Accounts.OrgBySlug(context.Background(), "other"))
	deps.Sources[0].Org, deps.Sources[0].Names = other.ID, nil
	deps.Sources[1].Networks = nil
	w.start(deps)
	for name, c := range map[string]struct{ sender, from, want string }{
		"no sender":               {"", "ada@clinic.example", "250 2.0.0 Accepted"},
		"no sender, of the other": {"", "bob@other.example", "550 5.7.1"},
		"a sender":                {"bob@other.example", "bob@other.example", "250 2.0.0 Accepted"},
	} {
		if got := w.hand(t, "relay", cert, c.sender, "p@example.org", "From: "+c.from+"\r\n"); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestALoopIsRefusedWithItsOwnCode(t *testing.T) {
	ca := newAuthority()
	w := suiteWorld(t, ca, nil)
	received := "Received: from x.example by " + host + " with ESMTPS id 1; x\r\n"
	got := w.hand(t, "relay", ca.issue("suite.example", time.Hour, x509.ExtKeyUsageServerAuth), "ada@clinic.example", "p@example.org", received+received+received)
	if !strings.HasPrefix(got, "554 5.4.6 ") {
		t.Errorf("%s", got)
	}
}
