package certs_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/certs"
	"github.com/sealpost/sealpost/internal/fault"
)

func TestAGoodCertificateIsTaken(t *testing.T) {
	w := sqlite(t)
	c := w.sub.person(nil)
	v := w.want(c, "")
	if len(v.Chain) != 3 || !v.Chain[0].Equal(c) || !v.Chain[2].Equal(w.root.cert) || v.Revocation != "none published" {
		t.Errorf("%d certificates, %s", len(v.Chain), v.Revocation)
	}
	if want := w.clock.Now().Add(7 * 24 * time.Hour); !v.Until.Equal(want) {
		t.Errorf("until %v, want %v", v.Until, want)
	}
	if err := w.judge.Signature(context.Background(), c, v.Chain, parsed(address), w.clock.Now()); err != nil {
		t.Error(err)
	}
	// Without any usage, everything is allowed; who may anything may mail.
	for _, ekus := range [][]x509.ExtKeyUsage{nil, {x509.ExtKeyUsageAny}, {x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageEmailProtection}} {
		w.want(w.sub.person(func(c *x509.Certificate) { c.ExtKeyUsage, c.KeyUsage = ekus, 0 }), "")
	}
	soon := w.clock.Now().Add(time.Hour)
	if v := w.want(w.sub.person(func(c *x509.Certificate) { c.NotAfter = soon }), ""); !v.Until.Equal(soon) {
		t.Errorf("believed until %v although it ends %v", v.Until, soon)
	}
}

func extra(id int, critical bool) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, id}, Critical: critical, Value: []byte{5, 0}})
	}
}

func TestCertificatesThatAreRefused(t *testing.T) {
	w := sqlite(t)
	now := w.clock.Now()
	for name, tc := range map[string]struct {
		change func(*x509.Certificate)
		word   string
	}{
		"expired":                    {func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }, "expired"},
		"not yet valid":              {func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) }, "not_yet_valid"},
		"for servers only":           {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, "key_usage"},
		"for signatures only":        {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }, "key_usage"},
		"the other kind of key":      {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }, "key_usage"},
		"unknown critical":           {extra(1, true), "unknown_critical"},
		"unknown, not critical":      {extra(1, false), ""},
		"another address":            {func(c *x509.Certificate) { c.EmailAddresses = []string{"other@clinic.example"} }, "wrong_address"},
		"no address":                 {func(c *x509.Certificate) { c.EmailAddresses = nil }, "wrong_address"},
		"capitals":                   {func(c *x509.Certificate) { c.EmailAddresses = []string{"Dr.Who@CLINIC.example"} }, ""},
		"address in the subject":     {inSubject, ""},
		"subject and another in SAN": {func(c *x509.Certificate) { inSubject(c); c.EmailAddresses = []string{"x@clinic.example"} }, "wrong_address"},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			w.want(w.sub.person(tc.change), tc.word)
		})
	}
}

func inSubject(c *x509.Certificate) {
	c.EmailAddresses = nil
	c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, Value: address}}
}

func TestKeysThatAreRefused(t *testing.T) {
	w := sqlite(t)
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	must(err)
	w.want(w.sub.personWith(pub, func(c *x509.Certificate) { c.KeyUsage = 0 }), "no_encryption_key")
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	must(err)
	w.want(w.sub.personWith(p224.Public(), nil), "weak_algorithm")
	o := openssl{t, t.TempDir()}
	w.want(o.person(w.sub, []string{"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"}), "weak_algorithm")
	w.want(o.person(w.sub, []string{"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"}), "")
	w.want(o.person(w.sub, []string{"-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"}), "no_encryption_key")
	w.want(o.person(w.sub, []string{"-algorithm", "ED448"}), "unsupported")
	o.run("dsaparam", "-out", "param", "1024")
	w.want(o.person(w.sub, []string{"-paramfile", "param"}), "weak_algorithm")
}

func TestSignaturesThatCanBeForged(t *testing.T) {
	w := sqlite(t)
	o := openssl{t, t.TempDir()}
	ec := []string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"}
	w.want(o.person(w.sub, ec, "-sha1"), "weak_signature")
	// An authority certified with SHA-1.
	o.authority("root", w.root)
	ext := "basicConstraints=critical,CA:TRUE"
	o.run("req", "-new", "-key", "key", "-subj", "/CN=Old", "-addext", ext, "-out", "req")
	o.run("x509", "-req", "-in", "req", "-CA", "root.crt", "-CAkey", "root.key", "-set_serial", "77", "-days", "30", "-copy_extensions", "copy", "-sha1", "-out", "old.crt")
	old := o.certificate("old.crt")
	o.run("pkcs8", "-topk8", "-nocrypt", "-in", "key", "-out", "old.key")
	o.run("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "leaf.key")
	o.run("req", "-new", "-key", "leaf.key", "-subj", "/CN=Dr Who", "-addext", "subjectAltName=email:"+address, "-out", "leaf.req")
	o.run("x509", "-req", "-in", "leaf.req", "-CA", "old.crt", "-CAkey", "old.key", "-set_serial", "78", "-days", "30", "-copy_extensions", "copy", "-sha256", "-out", "leaf.crt")
	w.want(o.certificate("leaf.crt"), "weak_signature", old)
}

func TestChainsThatAreRefused(t *testing.T) {
	w := sqlite(t)
	now := w.clock.Now()
	stranger := w.authority(nil, "Stranger", nil)
	for name, tc := range map[string]struct {
		by     *authority
		change func(*x509.Certificate)
		word   string
	}{
		"a root that nobody trusts": {stranger, nil, "no_chain"},
		"an authority that expired": {w.authority(w.root, "Late", func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) }), nil, "expired"},
		"no authority": {w.authority(w.root, "No CA", func(c *x509.Certificate) {
			c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature
		}), nil, "no_chain"},
		"an authority that may not certify": {w.authority(w.root, "No KU", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }), nil, "no_chain"},
		"an authority for servers": {w.authority(w.root, "Web", func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), nil, "key_usage"},
		"an authority with a condition": {w.authority(w.root, "Condition", extra(2, true)), nil, "unknown_critical"},
		"for another domain":            {w.authority(w.root, "Other", permitted("other.example")), nil, "name_constraints"},
		"for this domain":               {w.authority(w.root, "Ours", permitted("clinic.example")), nil, ""},
		"not for this domain": {w.authority(w.root, "Not ours", func(c *x509.Certificate) {
			c.ExcludedEmailAddresses, c.PermittedDNSDomainsCritical = []string{"clinic.example"}, true
		}), nil, "name_constraints"},
		"address where constraints are not looked at": {w.authority(w.root, "Ours too", permitted("clinic.example")), inSubject, "name_constraints"},
		"too long": {w.authority(w.authority(w.root, "Short", func(c *x509.Certificate) { c.MaxPathLenZero = true }), "Long", nil), nil, "no_chain"},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			w.want(tc.by.person(tc.change), tc.word, tc.by.cert)
		})
	}
}

func permitted(domain string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.PermittedEmailAddresses, c.PermittedDNSDomainsCritical = []string{domain}, true
	}
}

func TestAnAuthorityWithAWeakKey(t *testing.T) {
	w := sqlite(t)
	o := openssl{t, t.TempDir()}
	o.authority("root", w.root)
	o.run("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024", "-out", "ca.key")
	o.run("req", "-new", "-key", "ca.key", "-subj", "/CN=Weak", "-addext", "basicConstraints=critical,CA:TRUE", "-out", "req")
	o.run("x509", "-req", "-in", "req", "-CA", "root.crt", "-CAkey", "root.key", "-set_serial", "79", "-days", "30", "-copy_extensions", "copy", "-out", "ca.crt")
	o.run("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "leaf.key")
	o.run("req", "-new", "-key", "leaf.key", "-subj", "/CN=Dr Who", "-addext", "subjectAltName=email:"+address, "-out", "leaf.req")
	o.run("x509", "-req", "-in", "leaf.req", "-CA", "ca.crt", "-CAkey", "ca.key", "-set_serial", "80", "-days", "30", "-copy_extensions", "copy", "-out", "leaf.crt")
	_, err := w.seal(o.certificate("leaf.crt"), o.certificate("ca.crt"))
	// In FIPS mode crypto/rsa does not even look at such a key.
	if word := fault.From(err).Reason; err == nil || word != "weak_algorithm" && word != "no_chain" {
		t.Errorf("a chain over RSA-1024: %v", err)
	}
}

func TestSignatureCertificates(t *testing.T) {
	w := sqlite(t)
	now := w.clock.Now()
	other, ours := w.authority(w.root, "Other", permitted("other.example")), w.authority(w.root, "Ours", permitted("clinic.example"))
	for name, tc := range map[string]struct {
		by     *authority
		change func(*x509.Certificate)
		word   string
	}{
		"for signatures":         {w.sub, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageContentCommitment }, ""},
		"for encryption only":    {w.sub, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }, "key_usage"},
		"expired since":          {w.sub, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) }, ""},
		"expired then":           {w.sub, func(c *x509.Certificate) { c.NotAfter = now.Add(-3 * time.Hour) }, "expired"},
		"for servers only":       {w.sub, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, "key_usage"},
		"another address":        {w.sub, func(c *x509.Certificate) { c.EmailAddresses = []string{"other@clinic.example"} }, "wrong_address"},
		"address in the subject": {w.sub, inSubject, ""},

		"authority for another domain":             {other, nil, "name_constraints"},
		"authority for another domain, in subject": {other, inSubject, "name_constraints"},
		"authority for the domain":                 {ours, nil, ""},
		"authority for the domain, in subject":     {ours, inSubject, "name_constraints"},
		"a root that nobody trusts":                {w.authority(nil, "Stranger", nil), nil, "no_chain"},
	} {
		t.Run(name, func(t *testing.T) {
			c, others, at := tc.by.person(tc.change), []*x509.Certificate{tc.by.cert}, now.Add(-2*time.Hour)
			checkWord(t, w.judge.Signature(context.Background(), c, others, parsed(address), at), tc.word)
			roots := x509.NewCertPool()
			roots.AddCert(w.root.cert)
			checkWord(t, certs.SignatureUnder(roots, c, others, parsed(address), at), tc.word)
		})
	}
}

func TestWeakNeedsNoChain(t *testing.T) {
	w := sqlite(t)
	stranger := w.authority(nil, "Stranger", nil)
	checkWord(t, certs.Weak(stranger.person(nil), w.clock.Now()), "")
	checkWord(t, certs.Weak(stranger.person(nil), w.clock.Now().Add(-48*time.Hour)), "not_yet_valid")
	checkWord(t, certs.Weak(stranger.person(extra(1, true)), w.clock.Now()), "unknown_critical")
}
