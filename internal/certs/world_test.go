package certs_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/sealpost/sealpost/internal/certs"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/mail"
)

const address = "dr.who@clinic.example"

// world is a root, an authority under it, a server that publishes what they
// revoked, and a judge that trusts the root.
type world struct {
	t     *testing.T
	db    *db.DB
	clock *clock.Fake
	judge *certs.Judge
	root  *authority
	sub   *authority
	web   *httptest.Server
	log   bytes.Buffer

	timeout time.Duration // of one fetch

	mu     sync.Mutex
	pages  map[string]http.HandlerFunc
	asked  map[string]int
	closed chan struct{}
}

func newWorld(t *testing.T, d *db.DB) *world {
	w := &world{t: t, db: d, clock: clock.NewFake(time.Now().Truncate(time.Second).Add(time.Minute)),
		pages: map[string]http.HandlerFunc{}, asked: map[string]int{}, closed: make(chan struct{})}
	w.web = httptest.NewServer(http.HandlerFunc(w.serve))
	t.Cleanup(func() { close(w.closed); w.web.Close() })
	w.root = w.authority(nil, "Root", nil)
	w.sub = w.authority(w.root, "Sub", nil)
	w.judge = w.newJudge()
	return w
}

func (w *world) newJudge() *certs.Judge {
	roots := x509.NewCertPool()
	roots.AddCert(w.root.cert)
	return certs.New(certs.Deps{DB: w.db, Clock: w.clock, Log: slog.New(slog.NewTextHandler(&w.log, nil)), Roots: roots, Get: get, Timeout: w.timeout})
}

// get is a plain HTTP client, without the care that package fetch takes.
func get(ctx context.Context, url string, body []byte, bodyType string, max int64) ([]byte, error) {
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", bodyType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, max+1))
	if err == nil && int64(len(data)) > max {
		err = errors.New("too large")
	}
	return data, err
}

func (w *world) serve(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.asked[r.URL.Path]++
	page := w.pages[r.URL.Path]
	w.mu.Unlock()
	if page == nil {
		http.NotFound(rw, r)
		return
	}
	page(rw, r)
}

func (w *world) page(path string, h http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pages[path] = h
}

func (w *world) publish(path string, data []byte) {
	w.page(path, func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(data) })
}

func (w *world) count(path string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked[path]
}

// awaits waits until the page was asked for.
func (w *world) awaits(path string) {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); w.count(path) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("nobody asks for %s", path)
		}
	}
}

func (w *world) url(path string) string { return w.web.URL + path }

// authority issues certificates.
type authority struct {
	w    *world
	cert *x509.Certificate
	key  crypto.Signer
	n    int64
}

// alias is another authority with the same key.
func (w *world) alias(a *authority) *authority {
	w.root.n++
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "Alias"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: a.cert.KeyUsage}
	return &authority{w: w, key: a.key, cert: certify(w, template, w.root.cert, a.key.Public(), w.root.key, w.root.n)}
}

func newKey() crypto.Signer {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	return k
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func (w *world) authority(by *authority, name string, change func(*x509.Certificate)) *authority {
	a := &authority{w: w, key: newKey()}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	if change != nil {
		change(template)
	}
	if by == nil {
		a.cert = certify(w, template, template, a.key.Public(), a.key, 1)
		return a
	}
	by.n++
	a.cert = certify(w, template, by.cert, a.key.Public(), by.key, by.n)
	return a
}

func certify(w *world, template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer, serial int64) *x509.Certificate {
	if template.SerialNumber == nil {
		template.SerialNumber = big.NewInt(serial)
	}
	if template.NotBefore.IsZero() {
		template.NotBefore = w.clock.Now().Add(-24 * time.Hour)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = w.clock.Now().Add(365 * 24 * time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	must(err)
	c, err := x509.ParseCertificate(der)
	must(err)
	return c
}

// person issues the certificate of a person.
func (a *authority) person(change func(*x509.Certificate)) *x509.Certificate {
	return a.personWith(newKey().Public(), change)
}

func (a *authority) personWith(pub crypto.PublicKey, change func(*x509.Certificate)) *x509.Certificate {
	a.n++
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "Dr Who"}, EmailAddresses: []string{address},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}}
	if change != nil {
		change(template)
	}
	return certify(a.w, template, a.cert, pub, a.key, 1000+a.n)
}

// crl signs a list of what the authority revoked.
func (a *authority) crl(change func(*x509.RevocationList), revoked ...*x509.Certificate) []byte {
	now := a.w.clock.Now()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(24 * time.Hour)}
	for _, c := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: now.Add(-2 * time.Hour)})
	}
	if change != nil {
		change(list)
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	must(err)
	return der
}

// answer signs an OCSP response as the authority.
func (a *authority) answer(cert *x509.Certificate, status int, change func(*ocsp.Response)) []byte {
	return a.answerBy(nil, a.key, cert, status, change)
}

// answerBy signs it with the key of a responder, whose certificate is sent.
func (a *authority) answerBy(responder *x509.Certificate, key crypto.Signer, cert *x509.Certificate, status int, change func(*ocsp.Response)) []byte {
	now := a.w.clock.Now()
	r := ocsp.Response{Status: status, SerialNumber: cert.SerialNumber, ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(24 * time.Hour),
		RevokedAt: now.Add(-2 * time.Hour), Certificate: responder}
	if change != nil {
		change(&r)
	}
	if responder == nil {
		responder = a.cert
	}
	var der []byte
	var err error
	// Responders name issuers by SHA-1.
	fips140.WithoutEnforcement(func() { der, err = ocsp.CreateResponse(a.cert, responder, r, key) })
	must(err)
	return der
}

// seal asks for a certificate with the authorities of the world at hand.
func (w *world) seal(c *x509.Certificate, others ...*x509.Certificate) (certs.Verdict, error) {
	return w.judge.ForSealing(context.Background(), c, append(others, w.sub.cert), parsed(address))
}

func parsed(s string) mail.Address {
	a, err := mail.ParseAddress(s)
	must(err)
	return a
}

// want checks the word by which a certificate is refused, "" for none.
func (w *world) want(c *x509.Certificate, word string, others ...*x509.Certificate) certs.Verdict {
	w.t.Helper()
	v, err := w.seal(c, others...)
	checkWord(w.t, err, word)
	return v
}

func checkWord(t *testing.T, err error, word string) {
	t.Helper()
	if word == "" {
		if err != nil {
			t.Errorf("refused: %v (%v)", err, errors.Unwrap(err))
		}
		return
	}
	f := fault.From(err)
	if err == nil || f.Kind != fault.Refused || f.Reason != word {
		t.Errorf("%v (%s), want %s", err, f.Reason, word)
	} else if f.Text == "" || strings.Contains(f.Text, "@") {
		t.Errorf("%s is explained by %q", word, f.Text)
	}
}

// openssl works in a folder of its own.
type openssl struct {
	t   *testing.T
	dir string
}

func (o openssl) run(args ...string) string {
	o.t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Dir = o.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		o.t.Fatalf("openssl %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func (o openssl) put(name string, blockType string, der []byte) {
	o.t.Helper()
	data := pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der})
	if err := os.WriteFile(filepath.Join(o.dir, name), data, 0o600); err != nil {
		o.t.Fatal(err)
	}
}

func (o openssl) authority(name string, a *authority) {
	o.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		o.t.Fatal(err)
	}
	o.put(name+".key", "PRIVATE KEY", der)
	o.put(name+".crt", "CERTIFICATE", a.cert.Raw)
}

func (o openssl) certificate(name string) *x509.Certificate {
	o.t.Helper()
	data, err := os.ReadFile(filepath.Join(o.dir, name))
	if err != nil {
		o.t.Fatal(err)
	}
	found, err := certs.Read(data)
	if err != nil || len(found) != 1 {
		o.t.Fatalf("%d certificates: %v", len(found), err)
	}
	return found[0]
}

// person has openssl issue what Go no longer does. key are arguments of
// genpkey, how those of x509.
func (o openssl) person(by *authority, key []string, how ...string) *x509.Certificate {
	o.t.Helper()
	o.authority("ca", by)
	o.run(append([]string{"genpkey", "-out", "key"}, key...)...)
	o.run("req", "-new", "-key", "key", "-subj", "/CN=Dr Who", "-addext", "subjectAltName=email:"+address, "-out", "req")
	by.n++
	o.run(append([]string{"x509", "-req", "-in", "req", "-CA", "ca.crt", "-CAkey", "ca.key", "-set_serial", big.NewInt(5000 + by.n).String(),
		"-days", "30", "-copy_extensions", "copy", "-out", "crt"}, how...)...)
	return o.certificate("crt")
}

func sqlite(t *testing.T) *world { return newWorld(t, dbtest.SQLite(t)) }

func (o openssl) write(name, text string) {
	o.t.Helper()
	if err := os.WriteFile(filepath.Join(o.dir, name), []byte(text), 0o600); err != nil {
		o.t.Fatal(err)
	}
}

func (o openssl) read(name string) []byte {
	o.t.Helper()
	data, err := os.ReadFile(filepath.Join(o.dir, name))
	if err != nil {
		o.t.Fatal(err)
	}
	return data
}
