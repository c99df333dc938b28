package inbound_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/certs"
	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/inbound"
	"github.com/sealpost/sealpost/internal/inbound/inboundtest"
	"github.com/sealpost/sealpost/internal/keyring"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private/privatetest"
	"github.com/sealpost/sealpost/internal/submit"
)

// authors have keys in a folder, certified by one authority or by nobody.
type authors struct {
	t    testing.TB
	dir  string
	now  time.Time
	root *x509.Certificate
	ca   crypto.Signer
	of   map[string]*cms.Signer
}

func newAuthors(t testing.TB, now time.Time) *authors {
	t.Helper()
	a := &authors{t: t, dir: t.TempDir(), now: now, of: map[string]*cms.Signer{}}
	a.make("root", func(c *x509.Certificate) {
		c.IsCA, c.EmailAddresses, c.KeyUsage, c.ExtKeyUsage = true, nil, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil
	})
	a.root, a.ca = a.of["root"].Certificate, a.of["root"].Key
	return a
}

// make certifies a key for b@good.example; change may spoil it.
func (a *authors) make(name string, change func(*x509.Certificate)) {
	a.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	a.check(err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(int64(100 + len(a.of))), Subject: pkix.Name{CommonName: name}, NotBefore: a.now.AddDate(-1, 0, 0), NotAfter: a.now.AddDate(1, 0, 0),
		BasicConstraintsValid: true, EmailAddresses: []string{"b@good.example"}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}}
	change(tmpl)
	parent, by := a.root, a.ca
	if parent == nil || name == "self" {
		parent, by = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), by)
	a.check(err)
	cert, err := x509.ParseCertificate(der)
	a.check(err)
	a.of[name] = &cms.Signer{Key: key, Certificate: cert}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	a.check(err)
	a.write(name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	a.write(name+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func (a *authors) check(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

func (a *authors) write(name string, data []byte) {
	a.t.Helper()
	a.check(os.WriteFile(filepath.Join(a.dir, name), data, 0o600))
}

// signed gives a mail as openssl makes it, with LF line ends.
func (a *authors) signed(args ...string) string {
	a.t.Helper()
	a.write("text", []byte("Content-Type: text/plain\r\n\r\nThe potassium is 4.1.\r\n"))
	cmd := exec.CommandContext(a.t.Context(), "openssl", append([]string{"cms", "-sign", "-in", "text", "-binary", "-crlfeol"}, args...)...)
	cmd.Dir = a.dir
	out, err := cmd.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		a.t.Fatalf("%v: %s", args, failed.Stderr)
	}
	a.check(err)
	return "From: b@good.example\nTo: ada@northclinic.example\nSubject: x\n" + strings.ReplaceAll(string(out), "\r\n", "\n")
}

func (a *authors) by(names ...string) (args []string) {
	for _, n := range names {
		args = append(args, "-signer", n+".crt", "-inkey", n+".key")
	}
	return args
}

// opaque is a mail whose content is in the signature, made here.
func (a *authors) opaque(by string, others ...string) string {
	a.t.Helper()
	s := *a.of[by]
	for _, n := range others {
		s.Chain = append(s.Chain, a.of[n].Certificate)
	}
	der, err := cms.SignOpaque(&s, []byte("Content-Type: text/plain\r\n\r\nThe potassium is 4.1.\r\n"), a.now)
	a.check(err)
	return "From: b@good.example\nMIME-Version: 1.0\nContent-Type: application/pkcs7-mime; smime-type=signed-data\nContent-Transfer-Encoding: base64\n\n" +
		base64.StdEncoding.EncodeToString(der) + "\n"
}

func (s *suite) ring(root *x509.Certificate) *keyring.Keyring {
	roots := x509.NewCertPool()
	roots.AddCert(root)
	return keyring.New(keyring.Deps{DB: s.DB, Custody: s.Custody, Clock: s.clock, Certs: certs.New(certs.Deps{DB: s.DB, Clock: s.clock, Log: slog.New(slog.DiscardHandler), Roots: roots,
		Get: func(context.Context, string, []byte, string, int64) ([]byte, error) {
			return nil, context.DeadlineExceeded
		}})})
}

func TestCertificatesAreHarvestedOfProvedAuthors(t *testing.T) {
	a := newAuthors(t, time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC))
	a.make("b", func(*x509.Certificate) {})
	a.make("self", func(*x509.Certificate) {})
	a.make("over", func(c *x509.Certificate) { c.NotAfter = a.now.Add(-time.Hour) })
	a.make("c", func(c *x509.Certificate) { c.EmailAddresses = []string{"c@good.example"} })
	same := func(c *x509.Certificate) { c.Subject.CommonName = "B" }
	a.make("signs", func(c *x509.Certificate) { same(c); c.KeyUsage = x509.KeyUsageDigitalSignature })
	a.make("reads", func(c *x509.Certificate) { same(c); c.KeyUsage = x509.KeyUsageKeyEncipherment })
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSuite(t, d, nil)
		ring := s.ring(a.root)
		deps := s.deps
		deps.Harvest = func(ctx context.Context, org id.ID, from mail.Address, kind policy.Seal, key []byte, capabilities ...string) error {
			return ring.Harvest(context.WithoutCancel(ctx), org, from, kind, key, capabilities...)
		}
		members := inbound.NewMembers(deps)
		s.relay = members.Relay()
		detached := a.signed(a.by("b")...)
		for _, tc := range []struct {
			name, text string
			want       string // the certificate in use, or what is on record
		}{
			{"without a signature", mailFrom("b@good.example"), ""},
			{"altered", strings.Replace(detached, "4.1", "6.1", 1), ""},
			{"of another author of the domain", strings.Replace(detached, "From: b@", "From: c@", 1), ""},
			{"of an author who is not proved", strings.Replace(detached, "b@good.example", "b@else.example", 1), ""},
			{"for another address", a.signed(a.by("c")...), ""},
			{"by two", a.signed(a.by("b", "c")...), ""},
			{"twice", a.signed(a.by("b", "self")...), ""},
			{"with SHA-1", a.signed(append(a.by("b"), "-md", "sha1")...), ""},
			{"without certificates", a.signed(append(a.by("b"), "-nocerts")...), ""},
			{"detached, with content", swapped(detached, a.signed(append(a.by("b"), "-nodetach")...)), ""},
			{"with two types", strings.Replace(detached, "MIME-Version", "Content-Type: text/plain\nMIME-Version", 1), ""},
			{"too large", detached + strings.Repeat("x\n", 1<<19), ""},
			{"expired", a.signed(a.by("over")...), "refused expired"},
			{"of nobody's authority", a.signed(a.by("self")...), "refused no_chain"},
			{"detached", detached, "active b confirmed"},
			{"again", detached, "active b confirmed"},
			{"with a certificate for each use", a.opaque("signs", "reads", "root"), "active reads confirmed gcm"},
		} {
			before := a.entries(s, ring)
			if tc.text = strings.TrimSuffix(tc.text, "\n") + "\n"; s.bring("b@good.example", tc.text) != nil {
				t.Errorf("%s: not taken", tc.name)
				continue
			}
			members.Stop()
			after := a.entries(s, ring)
			if tc.want == "" && after != before {
				t.Errorf("%s: %s was learned", tc.name, after)
			}
			if !strings.Contains(after, tc.want) {
				t.Errorf("%s: there is %q, want %q", tc.name, after, tc.want)
			}
		}
	})
}

// swapped puts the signature of an opaque mail into a detached one.
func swapped(detached, opaque string) string {
	_, der, _ := strings.Cut(opaque, "\n\n")
	head, rest, _ := strings.Cut(detached, "filename=\"smime.p7s\"\n\n")
	_, end, _ := strings.Cut(rest, "\n\n")
	return head + "filename=\"smime.p7s\"\n\n" + strings.TrimSpace(der) + "\n\n" + end
}

// entries tells what the keyring has, each by the name of its owner.
func (a *authors) entries(s *suite, ring *keyring.Keyring) string {
	a.t.Helper()
	list, _, err := ring.List(ctx, s.Org.ID, keyring.Filter{Limit: 100})
	a.check(err)
	var all strings.Builder
	for _, e := range list {
		name := "?"
		for n, o := range a.of {
			if _, _, sum := certs.Identify(o.Certificate); sum == e.Fingerprint.Reveal() {
				name = n
			}
		}
		what := []string{string(e.State), name, e.Tier.String()}
		if e.State == keyring.Refused {
			what = []string{string(e.State), e.Reason}
		}
		if e.Opens.GCM {
			what = append(what, "gcm")
		}
		fmt.Fprintln(&all, strings.Join(what, " "))
	}
	return all.String()
}

// TestTheAnswerDoesNotWaitForAuthorities: whether a certificate was revoked is
// asked over the network, which may hang.
func TestTheAnswerDoesNotWaitForAuthorities(t *testing.T) {
	s := newSuite(t, dbtest.SQLite(t), nil)
	a := newAuthors(t, s.clock.Now())
	a.make("b", func(*x509.Certificate) {})
	asked := make(chan struct{}, 10)
	deps := s.deps
	deps.Harvest = func(ctx context.Context, _ id.ID, _ mail.Address, _ policy.Seal, _ []byte, _ ...string) error {
		asked <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	members := inbound.NewMembers(deps)
	s.relay = members.Relay()
	text := a.opaque("b")
	for range 6 {
		s.arrived("b@good.example", text)
	}
	for range 4 {
		<-asked
	}
	members.Stop()
	if len(asked) != 0 {
		t.Error("more than four were asked about at once")
	}
}

// TestSignaturesAreReadWhileAuthoritiesHang: to ask the network takes no room
// from reading.
func TestSignaturesAreReadWhileAuthoritiesHang(t *testing.T) {
	s := newSuite(t, dbtest.SQLite(t), nil)
	a := newAuthors(t, s.clock.Now())
	a.make("b", func(*x509.Certificate) {})
	asked, release := make(chan struct{}, 10), make(chan struct{})
	deps := s.deps
	deps.Harvest = func(context.Context, id.ID, mail.Address, policy.Seal, []byte, ...string) error {
		asked <- struct{}{}
		<-release
		return nil
	}
	var members *inbound.Members
	first := true
	deps.Receive = func(ctx context.Context, in submit.Incoming) error {
		err := s.door.Receive(ctx, in)
		if len(asked) == 4 && first { // the fifth was read, and an authority answers
			first = false
			release <- struct{}{}
			members.AwaitJudge()
		}
		return err
	}
	members = inbound.NewMembers(deps)
	s.relay = members.Relay()
	text := a.opaque("b")
	for n := range 4 {
		s.arrived("b@good.example", text)
		for len(asked) <= n {
			runtime.Gosched()
		}
	}
	s.arrived("b@good.example", text)
	close(release)
	members.Stop()
	if len(asked) != 5 {
		t.Errorf("of five certificates %d were judged", len(asked))
	}
}

// TestAPanicOverAKeyHarmsNoMail: nothing hangs on what a mail shows of its
// author, wherever it makes us fail.
func TestAPanicOverAKeyHarmsNoMail(t *testing.T) {
	s := newSuite(t, dbtest.SQLite(t), nil)
	a := newAuthors(t, s.clock.Now())
	a.make("b", func(*x509.Certificate) {})
	key := base64.StdEncoding.EncodeToString(append([]byte{0x98}, bytes.Repeat([]byte("key"), 50)...))
	for name, tc := range map[string]struct {
		text   string
		unread bool // reading the body a second time panics
	}{
		"over a field":                      {"Autocrypt: addr=b@good.example; keydata=" + key + "\n" + mailFrom("b@good.example"), false},
		"over a certificate, in background": {a.opaque("b"), false},
		"over a signature":                  {a.opaque("b"), true},
	} {
		var log privatetest.Log
		deps := s.deps
		deps.Log = slog.New(slog.NewTextHandler(&log, nil))
		deps.Harvest = func(context.Context, id.ID, mail.Address, policy.Seal, []byte, ...string) error { panic("content") }
		deps.Receive = func(ctx context.Context, in submit.Incoming) error {
			judge := in.Judge
			in.Judge = func(body func() io.Reader) (submit.Judged, error) {
				n := 0
				return judge(func() io.Reader {
					if n++; n == 2 && tc.unread {
						panic("content")
					}
					return body()
				})
			}
			return s.door.Receive(ctx, in)
		}
		members := inbound.NewMembers(deps)
		s.relay = members.Relay()
		s.arrived("b@good.example", tc.text)
		members.Stop()
		if text := log.String(); !strings.Contains(text, "a defect: a string") || !strings.Contains(text, "signed_test.go") || strings.Contains(text, "panic(\"content") {
			t.Errorf("%s: the log:\n%s", name, text)
		}
	}
}

func FuzzReadSigned(f *testing.F) {
	a := newAuthors(f, time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC))
	a.make("b", func(*x509.Certificate) {})
	f.Add([]byte(a.signed(a.by("b")...)))
	f.Add([]byte(a.opaque("b", "root")))
	author := inboundtest.Sender(f, "b@good.example")
	f.Fuzz(func(t *testing.T, text []byte) {
		before := bytes.Clone(text)
		bundle, _ := inbound.ReadSigned(text, author)
		if !bytes.Equal(before, text) {
			t.Fatal("the mail was written to")
		}
		if bundle == nil {
			return
		}
		list, err := certs.Read(bundle)
		if err != nil || !names(list[0], author) {
			t.Fatalf("%v: a certificate for another address", err)
		}
	})
}

func names(c *x509.Certificate, a mail.Address) bool {
	for _, n := range certs.Addresses(c) {
		if n.Normal() == a.Normal() {
			return true
		}
	}
	return false
}
