package certs_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/fips140"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/sealpost/sealpost/internal/certs"
)

// listed has a certificate name the list at path, and responder an OCSP
// responder there.
func (w *world) listed(path string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.CRLDistributionPoints = []string{w.url(path)} }
}

func (w *world) responder(path string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.OCSPServer = []string{w.url(path)} }
}

func both(a, b func(*x509.Certificate)) func(*x509.Certificate) {
	return func(c *x509.Certificate) { a(c); b(c) }
}

func TestCRL(t *testing.T) {
	w := sqlite(t)
	now := w.clock.Now()
	bad := w.sub.person(w.listed("/bad"))
	others := []*x509.Certificate{w.sub.person(nil), w.sub.person(nil)}
	w.publish("/bad", w.sub.crl(nil, others[0], bad, others[1]))
	w.want(bad, "revoked")

	stranger := w.authority(nil, "Sub", nil) // the same name, another key
	alias := w.alias(w.sub)
	point := func(der ...byte) func(*x509.RevocationList) {
		return func(l *x509.RevocationList) {
			l.ExtraExtensions = append(l.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: append([]byte{0x30, byte(len(der))}, der...)})
		}
	}
	named := func(url string) func(*x509.RevocationList) {
		name := append([]byte{0x86, byte(len(url))}, url...)
		full := append([]byte{0xa0, byte(len(name))}, name...)
		return point(append([]byte{0xa0, byte(len(full))}, full...)...)
	}
	for name, tc := range map[string]struct {
		list []byte
		word string
	}{
		"good":                       {w.sub.crl(nil, others...), ""},
		"empty":                      {w.sub.crl(nil), ""},
		"too old":                    {w.sub.crl(func(l *x509.RevocationList) { l.NextUpdate = now.Add(-time.Second) }), "revocation_unknown"},
		"of tomorrow":                {w.sub.crl(func(l *x509.RevocationList) { l.ThisUpdate = now.Add(time.Hour) }), "revocation_unknown"},
		"by another with the key":    {w.root.crl(nil), "revocation_unknown"},
		"by another of the name":     {stranger.crl(nil), "revocation_unknown"},
		"by the key of another name": {alias.crl(nil), "revocation_unknown"},
		"garbage":                    {[]byte("<html>Please log in</html>"), "revocation_unknown"},
		"altered":                    {flip(w.sub.crl(nil, others...), -90), "revocation_unknown"},
		"cut short":                  {w.sub.crl(nil, others...)[:100], "revocation_unknown"},
		"indirect":                   {w.sub.crl(point(0x84, 1, 0xff)), "revocation_unknown"},
		"for some reasons":           {w.sub.crl(point(0x83, 2, 5, 0x60)), "revocation_unknown"},
		"of authorities only":        {w.sub.crl(point(0x82, 1, 0xff)), "revocation_unknown"},
		"of users only":              {w.sub.crl(point(0x81, 1, 0xff)), ""},
		"of this point":              {w.sub.crl(named(w.url("/of this point"))), ""},
		"of another point":           {w.sub.crl(named(w.url("/other"))), "revocation_unknown"},
		"delta": {w.sub.crl(func(l *x509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}}
		}), "revocation_unknown"},
		"with a condition": {w.sub.crl(func(l *x509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 1}, Critical: true, Value: []byte{5, 0}}}
		}), "revocation_unknown"},
		"with an entry about others": {w.sub.crl(func(l *x509.RevocationList) {
			l.RevokedCertificateEntries[0].ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}}}
		}, others...), "revocation_unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			path := "/" + name
			w.publish(path, tc.list)
			v := w.want(w.sub.person(w.listed(path)), tc.word)
			if tc.word == "" && (v.Revocation != certs.ByCRL || !v.Until.Equal(now.Add(24*time.Hour))) {
				t.Errorf("%q until %v", v.Revocation, v.Until)
			}
			if w.count(path) != 1 {
				t.Errorf("asked %d times", w.count(path))
			}
		})
	}
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	if at < 0 {
		at += len(b)
	}
	b[at] ^= 1
	return b
}

// TestServersThatDoNotAnswer shows that whoever can keep a list from us keeps
// mail from being sealed to a certificate, and gains nothing else.
func TestServersThatDoNotAnswer(t *testing.T) {
	w := sqlite(t)
	w.timeout = time.Second
	w.judge = w.newJudge()
	w.page("/hangs", func(http.ResponseWriter, *http.Request) { <-w.closed })
	w.page("/huge", func(rw http.ResponseWriter, _ *http.Request) {
		chunk := make([]byte, 1<<20)
		for range 12 {
			if _, err := rw.Write(chunk); err != nil {
				return
			}
		}
	})
	w.page("/broken", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusInternalServerError) })
	for _, path := range []string{"/hangs", "/huge", "/broken", "/absent"} {
		start := time.Now()
		w.want(w.sub.person(w.listed(path)), "revocation_unknown")
		w.want(w.sub.person(w.responder(path)), "revocation_unknown")
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("%s: took %v", path, d)
		}
	}
	for _, u := range []string{"ldap://directory.example/cn=crl", "file:///etc/passwd", ""} {
		w.want(w.sub.person(func(c *x509.Certificate) { c.CRLDistributionPoints = []string{u} }), "revocation_unknown")
	}
	if !strings.Contains(w.log.String(), "127.0.0.1") || strings.Contains(w.log.String(), "clinic") {
		t.Errorf("the log: %s", w.log.String())
	}
}

func TestTheAuthorityItselfIsRevoked(t *testing.T) {
	w := sqlite(t)
	sub := w.authority(w.root, "Fallen", w.listed("/root"))
	fine := w.authority(w.root, "Standing", w.listed("/root"))
	w.publish("/root", w.root.crl(nil, sub.cert))
	w.want(sub.person(nil), "revoked", sub.cert)
	w.want(fine.person(nil), "", fine.cert)
	w.publish("/root-old", w.root.crl(func(l *x509.RevocationList) { l.NextUpdate = w.clock.Now().Add(-time.Hour) }))
	unsure := w.authority(w.root, "Unsure", w.listed("/root-old"))
	w.want(unsure.person(nil), "revocation_unknown", unsure.cert)
}

func TestOCSP(t *testing.T) {
	w := sqlite(t)
	now := w.clock.Now()
	day := 24 * time.Hour
	delegate := newKey()
	appointed := func(by *authority, change func(*x509.Certificate)) *x509.Certificate {
		return by.personWith(delegate.Public(), func(c *x509.Certificate) {
			c.KeyUsage, c.ExtKeyUsage, c.EmailAddresses = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}, nil
			if change != nil {
				change(c)
			}
		})
	}
	stranger := w.authority(nil, "Sub", nil)
	by := func(responder *x509.Certificate) func(*x509.Certificate) []byte {
		return func(c *x509.Certificate) []byte { return w.sub.answerBy(responder, delegate, c, ocsp.Good, nil) }
	}
	good := func(change func(*ocsp.Response)) func(*x509.Certificate) []byte {
		return func(c *x509.Certificate) []byte { return w.sub.answer(c, ocsp.Good, change) }
	}
	other := w.sub.person(nil)
	for name, tc := range map[string]struct {
		answer func(*x509.Certificate) []byte
		word   string
	}{
		"good":                          {good(nil), ""},
		"named by SHA-256":              {good(func(r *ocsp.Response) { r.IssuerHash = crypto.SHA256 }), ""},
		"revoked":                       {func(c *x509.Certificate) []byte { return w.sub.answer(c, ocsp.Revoked, nil) }, "revoked"},
		"unknown":                       {func(c *x509.Certificate) []byte { return w.sub.answer(c, ocsp.Unknown, nil) }, "revocation_unknown"},
		"too old":                       {good(func(r *ocsp.Response) { r.NextUpdate = now.Add(-time.Second) }), "revocation_unknown"},
		"of tomorrow":                   {good(func(r *ocsp.Response) { r.ThisUpdate = now.Add(time.Hour) }), "revocation_unknown"},
		"without end":                   {good(func(r *ocsp.Response) { r.NextUpdate = time.Time{} }), ""},
		"without end, old":              {good(func(r *ocsp.Response) { r.NextUpdate, r.ThisUpdate = time.Time{}, now.Add(-2*day) }), "revocation_unknown"},
		"of another":                    {func(*x509.Certificate) []byte { return w.sub.answer(other, ocsp.Good, nil) }, "revocation_unknown"},
		"altered":                       {func(c *x509.Certificate) []byte { return flip(w.sub.answer(c, ocsp.Good, nil), -80) }, "revocation_unknown"},
		"signed by another of the name": {func(c *x509.Certificate) []byte { return stranger.answer(c, ocsp.Good, nil) }, "revocation_unknown"},
		// Here the sub authority signs what the root says of a serial number.
		"about another authority's": {func(c *x509.Certificate) []byte {
			mixed := &authority{w: w, cert: w.root.cert, key: w.sub.key}
			return mixed.answer(c, ocsp.Good, nil)
		}, "revocation_unknown"},
		"garbage":            {func(*x509.Certificate) []byte { return []byte("try later") }, "revocation_unknown"},
		"try later":          {func(*x509.Certificate) []byte { return ocsp.TryLaterErrorResponse }, "revocation_unknown"},
		"appointed":          {by(appointed(w.sub, nil)), ""},
		"appointed, expired": {by(appointed(w.sub, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) })), "revocation_unknown"},
		"anybody with a certificate": {by(appointed(w.sub, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}
		})), "revocation_unknown"},
		"anything":                        {by(appointed(w.sub, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} })), "revocation_unknown"},
		"appointed by another":            {by(appointed(w.root, nil)), "revocation_unknown"},
		"appointed by one of the name":    {by(appointed(stranger, nil)), "revocation_unknown"},
		"appointed under another name":    {by(appointed(w.alias(w.sub), nil)), "revocation_unknown"},
		"appointed for something else":    {by(appointed(w.sub, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement })), "revocation_unknown"},
		"the issuer with its certificate": {func(c *x509.Certificate) []byte { return w.sub.answerBy(w.sub.cert, w.sub.key, c, ocsp.Good, nil) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			path := "/" + name
			c := w.sub.person(w.responder(path))
			w.publish(path, tc.answer(c))
			if v := w.want(c, tc.word); tc.word == "" && v.Revocation != certs.ByOCSP {
				t.Errorf("%q", v.Revocation)
			}
		})
	}
}

func TestTheQuestionToAResponder(t *testing.T) {
	w := sqlite(t)
	c := w.sub.person(w.responder("/ocsp"))
	w.page("/ocsp", func(rw http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		_, _ = body.ReadFrom(r.Body)
		q, err := ocsp.ParseRequest(body.Bytes())
		if err != nil || q.SerialNumber.Cmp(c.SerialNumber) != 0 || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/ocsp-request" {
			t.Errorf("%s %s: %v", r.Method, r.Header.Get("Content-Type"), err)
		}
		_, _ = rw.Write(w.sub.answer(c, ocsp.Good, nil))
	})
	w.want(c, "")
}

// TestOneWayFailsAndTheOtherAnswers also shows that what OCSP says is not
// doubted by a list.
func TestOneWayFailsAndTheOtherAnswers(t *testing.T) {
	w := sqlite(t)
	c := w.sub.person(both(w.listed("/list"), w.responder("/down")))
	d := w.sub.person(both(w.listed("/list"), w.responder("/says revoked")))
	e := w.sub.person(both(w.listed("/list"), w.responder("/down")))
	w.publish("/list", w.sub.crl(nil, e))
	w.publish("/says revoked", w.sub.answer(d, ocsp.Revoked, nil))
	if v := w.want(c, ""); v.Revocation != certs.ByCRL {
		t.Errorf("%q", v.Revocation)
	}
	w.want(d, "revoked")
	w.want(e, "revoked")
}

func TestRevocationOfAPinnedCertificate(t *testing.T) {
	w := sqlite(t)
	ctx := context.Background()
	private := w.authority(nil, "Private", nil) // trusted by nobody
	bad, good, quiet := private.person(w.listed("/p")), private.person(w.listed("/p")), private.person(nil)
	w.publish("/p", private.crl(nil, bad))
	for _, tc := range []struct {
		cert, issuer *x509.Certificate
		source, word string
	}{
		{good, private.cert, certs.ByCRL, ""},
		{bad, private.cert, "", "revoked"},
		{quiet, private.cert, certs.NonePublished, ""},
		{quiet, nil, certs.NonePublished, ""},
		{good, nil, "", "revocation_unknown"},
		{good, w.sub.cert, "", "revocation_unknown"},
		{private.cert, nil, certs.NonePublished, ""},
	} {
		source, err := w.judge.Revocation(ctx, tc.cert, tc.issuer)
		checkWord(t, err, tc.word)
		if source != tc.source {
			t.Errorf("%q, want %q", source, tc.source)
		}
	}
}

// TestNothingIsAskedForAStranger: the certificate of a stranger does not make
// us call a host of their choice.
func TestNothingIsAskedForAStranger(t *testing.T) {
	w := sqlite(t)
	stranger := w.authority(nil, "Stranger", nil)
	w.want(stranger.person(both(w.listed("/x"), w.responder("/x"))), "no_chain", stranger.cert)
	c := stranger.person(w.listed("/x"))
	if _, err := w.judge.Revocation(context.Background(), c, w.sub.cert); err == nil {
		t.Error("taken with another's issuer")
	}
	if w.count("/x") != 0 {
		t.Error("a stranger had us ask")
	}
}

// TestForgeableAnswers has openssl sign with SHA-1 what Go does not.
func TestForgeableAnswers(t *testing.T) {
	w := sqlite(t)
	o := openssl{t, t.TempDir()}
	o.authority("ca", w.sub)
	o.write("conf", "[ca]\ndefault_ca=d\n[d]\ndatabase=index\ncrlnumber=number\ndefault_md=sha1\ndefault_crl_days=5\n")
	o.write("index", "")
	o.write("number", "01\n")
	for md, word := range map[string]string{"sha1": "revocation_unknown", "sha256": ""} {
		o.run("ca", "-config", "conf", "-gencrl", "-cert", "ca.crt", "-keyfile", "ca.key", "-md", md, "-out", "crl")
		w.publish("/"+md, o.read("crl")) // PEM
		w.want(w.sub.person(w.listed("/"+md)), word)
	}
	c := w.sub.person(w.responder("/ocsp"))
	var weak []byte
	fips140.WithoutEnforcement(func() {
		weak = w.sub.answer(c, ocsp.Good, func(r *ocsp.Response) { r.SignatureAlgorithm = x509.ECDSAWithSHA1 })
	})
	w.publish("/ocsp", weak)
	w.want(c, "revocation_unknown")
}
