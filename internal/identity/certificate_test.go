package identity_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/identity"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

// authority is OpenSSL as a CA with an intermediate, in a folder.
type authority struct {
	*office
	dir string
}

func newAuthority(o *office) *authority {
	a := &authority{o, o.TempDir()}
	a.write("ca.ext", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n")
	a.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "root.key", "-out", "root.pem", "-subj", "/CN=Test root", "-days", "3650")
	a.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out", "ca.csr", "-subj", "/CN=Test issuer")
	a.openssl("x509", "-req", "-in", "ca.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial", "-days", "3650", "-extfile", "ca.ext", "-out", "ca.pem")
	return a
}

func (a *authority) openssl(args ...string) string {
	a.Helper()
	c := exec.Command("openssl", args...)
	c.Dir = a.dir
	out, err := c.CombinedOutput()
	if err != nil {
		a.Fatalf("openssl %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func (a *authority) write(name, text string) {
	a.Helper()
	if err := os.WriteFile(filepath.Join(a.dir, name), []byte(text), 0o600); err != nil {
		a.Fatal(err)
	}
}

func (a *authority) read(names ...string) []byte {
	a.Helper()
	var all []byte
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(a.dir, name))
		if err != nil {
			a.Fatal(err)
		}
		all = append(all, b...)
	}
	return all
}

// issue gives a certificate for a request as it asks, or with the extensions
// given in place of those asked for.
func (a *authority) issue(csr []byte, days string, extensions ...string) []byte {
	a.Helper()
	a.write("r.csr", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})))
	args := []string{"x509", "-req", "-in", "r.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", days, "-out", "r.pem"}
	if len(extensions) == 0 {
		args = append(args, "-copy_extensions", "copy")
	} else {
		a.write("r.ext", strings.Join(extensions, "\n"))
		args = append(args, "-extfile", "r.ext")
	}
	a.openssl(args...)
	a.catchUp()
	return a.read("r.pem")
}

func TestARequestIsWhatOpenSSLTakes(t *testing.T) {
	o := open(t, dbtest.SQLite(t))
	ca := newAuthority(o)
	for algorithm, want := range map[identity.Algorithm]struct{ key, usage, name string }{
		identity.ECP256:      {"ASN1 OID: prime256v1", "Digital Signature, Key Agreement", "ECDSA P-256"},
		identity.RSA2048:     {"Public-Key: (2048 bit)", "Digital Signature, Key Encipherment", "RSA-2048"},
		identity.RSA3072Cert: {"Public-Key: (3072 bit)", "Digital Signature, Key Encipherment", "RSA-3072"},
	} {
		d, err := o.Create(ctx, o.clinic, identity.Request{Address: o.address(ada), Kind: policy.SMIME, Algorithm: algorithm})
		o.must(err)
		if d.State != identity.Requested || d.Algorithm != want.name {
			t.Errorf("%s: %s, %s", algorithm, d.State, d.Algorithm)
		}
		ca.write("a.csr", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: d.CSR})))
		text := ca.openssl("req", "-in", "a.csr", "-verify", "-noout", "-text")
		for _, part := range []string{"verify OK", "Subject: CN = " + ada, "email:" + ada, "E-mail Protection", want.key, want.usage} {
			if !strings.Contains(text, part) {
				t.Errorf("%s: the request lacks %q:\n%s", algorithm, part, text)
			}
		}
		again, err := o.Show(ctx, o.clinic, d.ID)
		if o.must(err); !bytes.Equal(again.CSR, d.CSR) {
			t.Error("the request is another one the second time")
		}
	}
	long, err := o.Create(ctx, o.clinic, identity.Request{Address: o.address(strings.Repeat("a", 60) + "@clinic.example"), Kind: policy.SMIME})
	o.must(err)
	ca.write("a.csr", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: long.CSR})))
	if text := ca.openssl("req", "-in", "a.csr", "-verify", "-noout", "-text"); strings.Contains(text, "CN =") {
		t.Error("a common name of more than 64 characters is asked for")
	}
}

func TestALifeByCertificate(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		o := open(t, d)
		ca := newAuthority(o)
		d1 := o.create(policy.SMIME, ada)
		if s := o.signer(ada); s.SMIME != nil {
			t.Error("it signs without a certificate")
		}
		cert := ca.issue(d1.CSR, "90")
		// A chain in any order, with the root and with what does not belong.
		chain := append(ca.read("root.pem", "ca.pem"), cert...)
		d1, err := o.Install(ctx, o.clinic, d1.ID, chain)
		o.must(err)
		if d1.State != identity.Active || len(d1.Chain) != 1 || d1.Chain[0].Subject.CommonName != "Test issuer" || d1.ExpiresAt.IsZero() {
			t.Errorf("installed: %+v with a chain of %d", d1.Identity, len(d1.Chain))
		}
		o.clock.Advance(time.Second)
		signer := o.signer(ada).SMIME
		if signer == nil || !signer.Certificate.Equal(d1.Certificate) || len(signer.Chain) != 1 {
			t.Fatal("the certificate does not sign")
		}
		if public, ok := signer.Key.Public().(*ecdsa.PublicKey); !ok || !public.Equal(signer.Certificate.PublicKey) {
			t.Error("the key is not the certificate's")
		}
		_, err = o.Install(ctx, o.clinic, d1.ID, cert)
		o.refused("installing again", err, "identity_not_requested")

		d2, err := o.Rotate(ctx, o.clinic, d1.ID, identity.RSA2048, time.Time{})
		o.must(err)
		o.clock.Advance(time.Second)
		if s := o.signer(ada).SMIME; s == nil || !s.Certificate.Equal(d1.Certificate) {
			t.Error("the old certificate does not sign until the new one is there")
		}
		d2, err = o.Install(ctx, o.clinic, d2.ID, ca.issue(d2.CSR, "90"))
		o.must(err)
		o.clock.Advance(time.Second)
		if s := o.signer(ada).SMIME; s == nil || !s.Certificate.Equal(d2.Certificate) || d2.Replaces != d1.ID {
			t.Error("the new certificate does not sign")
		}
		all, err := o.Openers(ctx, o.clinic)
		o.must(err)
		var opens []*x509.Certificate
		for _, r := range all.SMIME {
			opens = append(opens, r.Certificate)
		}
		if !slices.ContainsFunc(opens, d1.Certificate.Equal) || !slices.ContainsFunc(opens, d2.Certificate.Equal) || len(opens) != 2 {
			t.Errorf("%d certificates open mail", len(opens))
		}
		_, err = o.Revoke(ctx, o.clinic, d2.ID, identity.Superseded)
		o.must(err)
		_, err = o.Revocation(ctx, o.clinic, d2.ID)
		o.refused("a certificate's revocation", err, "no_revocation")
		o.clock.Advance(time.Second)
		if o.signer(ada).SMIME != nil {
			t.Error("a revoked certificate signs")
		}
		o.wantTold("requested", "installed", "requested", "retired", "installed", "revoked")
	})
}

// TestOpenSSLVerifiesASignature of a key whose certificate OpenSSL issued.
func TestOpenSSLVerifiesASignature(t *testing.T) {
	o := open(t, dbtest.SQLite(t))
	ca := newAuthority(o)
	d := o.create(policy.SMIME, ada)
	_, err := o.Install(ctx, o.clinic, d.ID, append(ca.issue(d.CSR, "90"), ca.read("ca.pem")...))
	o.must(err)
	signature, _, err := cms.Sign(o.signer(ada).SMIME, strings.NewReader("text\r\n"), time.Now())
	o.must(err)
	ca.write("text", "text\r\n")
	ca.write("sig", string(signature))
	ca.openssl("cms", "-verify", "-binary", "-inform", "DER", "-in", "sig", "-content", "text", "-CAfile", "root.pem", "-purpose", "smimesign")
}

func TestCertificatesThatAreNotTaken(t *testing.T) {
	o := open(t, dbtest.SQLite(t))
	ca := newAuthority(o)
	d := o.create(policy.SMIME, ada)
	bo := o.create(policy.SMIME, "bo@clinic.example")
	good := ca.issue(d.CSR, "1")
	const usual = "keyUsage=critical,digitalSignature,keyAgreement\nextendedKeyUsage=emailProtection"
	for what, tt := range map[string]struct {
		cert   []byte
		reason string
	}{
		"another key":           {ca.issue(bo.CSR, "90"), "other_key"},
		"the authority's":       {ca.read("ca.pem"), "other_key"},
		"another address":       {ca.issue(d.CSR, "90", "subjectAltName=email:bo@clinic.example", usual), "wrong_address"},
		"no address":            {ca.issue(d.CSR, "90", "subjectAltName=DNS:clinic.example", usual), "wrong_address"},
		"for servers":           {ca.issue(d.CSR, "90", "subjectAltName=email:"+ada, "keyUsage=digitalSignature,keyAgreement", "extendedKeyUsage=serverAuth"), "key_usage"},
		"for signing alone":     {ca.issue(d.CSR, "90", "subjectAltName=email:"+ada, "keyUsage=digitalSignature"), "key_usage"},
		"for decryption alone":  {ca.issue(d.CSR, "90", "subjectAltName=email:"+ada, "keyUsage=keyAgreement"), "key_usage"},
		"no certificate at all": {[]byte("nothing"), "malformed"},
		"more than 1 MiB":       {make([]byte, 1<<20+1), "too_large"},
	} {
		_, err := o.Install(ctx, o.clinic, d.ID, tt.cert)
		o.refused(what, err, tt.reason)
	}
	o.clock.Advance(25 * time.Hour)
	_, err := o.Install(ctx, o.clinic, d.ID, good)
	o.refused("expired", err, "expired")
	o.clock.Advance(-48 * time.Hour)
	_, err = o.Install(ctx, o.clinic, d.ID, good)
	o.refused("not valid yet", err, "not_yet_valid")
	o.clock.Advance(24 * time.Hour)
	_, err = o.Install(ctx, o.clinic, d.ID, good)
	o.must(err)
	o.wantTold("requested", "requested", "installed")
}

// TestImportOfPKCS12 takes what OpenSSL writes, today and formerly.
func TestImportOfPKCS12(t *testing.T) {
	o := open(t, dbtest.SQLite(t))
	ca := newAuthority(o)
	bundle := func(address, name string, args ...string) []byte {
		t.Helper()
		ca.openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "m.key", "-out", "m.csr", "-subj", "/CN=Member")
		csr, _ := pem.Decode(ca.read("m.csr"))
		ca.write("m.pem", string(ca.issue(csr.Bytes, "90", "subjectAltName=email:"+address,
			"keyUsage=digitalSignature,keyEncipherment\nextendedKeyUsage=emailProtection,clientAuth")))
		ca.openssl(append([]string{"pkcs12", "-export", "-in", "m.pem", "-inkey", "m.key", "-certfile", "ca.pem", "-out", name, "-passout", "pass:pässword"}, args...)...)
		return ca.read(name)
	}
	options := identity.ImportOptions{Passphrase: private.NewBytes([]byte("pässword"))}
	var last []byte
	for name, args := range map[string][]string{
		"modern": nil, "legacy": {"-legacy"}, "3des": {"-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1"}, "plain": {"-keypbe", "NONE", "-certpbe", "NONE"},
	} {
		last = bundle(name+"@clinic.example", name, args...)
		d, err := o.Import(ctx, o.clinic, last, options)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d.State != identity.Active || d.Address.Reveal() != name+"@clinic.example" || len(d.Chain) != 1 || d.Algorithm != "RSA-2048" {
			t.Errorf("%s: %+v", name, d.Identity)
		}
		o.clock.Advance(time.Second)
		if s := o.signer(name + "@clinic.example").SMIME; s == nil || !s.Certificate.Equal(d.Certificate) {
			t.Errorf("%s does not sign", name)
		}
	}
	_, err := o.Import(ctx, o.clinic, last, options)
	o.refused("the same again", err, "identity_exists")
	_, err = o.Import(ctx, o.other, last, options)
	o.refused("another organization's address", err, "wrong_address")
	_, err = o.Import(ctx, o.clinic, bundle("modern@clinic.example", "second"), options)
	o.refused("beside an active key", err, "identity_active")
	replace := options
	replace.Replace = true
	d, err := o.Import(ctx, o.clinic, ca.read("second"), replace)
	if o.must(err); d.Replaces.IsZero() {
		t.Error("nothing is replaced")
	}
	for what, pass := range map[string]string{"a wrong": "password", "no": "", "an impossible": "\U0001F511"} {
		_, err = o.Import(ctx, o.clinic, bundle("x@clinic.example", "x"), identity.ImportOptions{Passphrase: private.NewBytes([]byte(pass))})
		o.refused(what+" passphrase", err, "passphrase")
	}
	two := options
	_, err = o.Import(ctx, o.clinic, bundle("y@clinic.example,email:z@clinic.example", "two"), two)
	o.refused("two addresses", err, "several_addresses")
	two.Address = o.address("Z@clinic.example")
	if d, err := o.Import(ctx, o.clinic, ca.read("two"), two); err != nil || d.Address.Normal() != "z@clinic.example" {
		t.Errorf("the address that was named: %v", err)
	}
	if strings.Contains(o.log.String(), "@") {
		t.Errorf("the log: %s", o.log)
	}
}

func TestBadPKCS12(t *testing.T) {
	o := open(t, dbtest.SQLite(t))
	ca := newAuthority(o)
	ca.openssl("req", "-x509", "-newkey", "rsa:1024", "-nodes", "-keyout", "weak.key", "-out", "weak.pem", "-subj", "/CN=x", "-addext", "subjectAltName=email:"+ada)
	ca.openssl("req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", "ed.key", "-out", "ed.pem", "-subj", "/CN=x", "-addext", "subjectAltName=email:"+ada)
	for _, name := range []string{"weak", "ed"} {
		ca.openssl("pkcs12", "-export", "-in", name+".pem", "-inkey", name+".key", "-out", name, "-passout", "pass:p")
	}
	ca.openssl("pkcs12", "-export", "-nocerts", "-inkey", "weak.key", "-out", "nocert", "-passout", "pass:p")
	ca.openssl("pkcs12", "-export", "-nokeys", "-in", "weak.pem", "-out", "nokey", "-passout", "pass:p")
	root, _ := pem.Decode(ca.read("root.pem"))
	cert, err := x509.ParseCertificate(root.Bytes)
	o.must(err)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	o.must(err)
	var foreign []byte
	fips140.WithoutEnforcement(func() { foreign, err = pkcs12.Modern.Encode(key, cert, nil, "p") })
	o.must(err)
	costly := bytes.ReplaceAll(ca.read("weak"), []byte{2, 2, 8, 0}, []byte{2, 2, 0x7f, 0xff}) // 2048 iterations become 32767
	pass := identity.ImportOptions{Passphrase: private.NewBytes([]byte("p"))}
	for what, tt := range map[string]struct {
		file   []byte
		reason string
	}{
		"RSA of 1024 bits":     {ca.read("weak"), "weak_algorithm"},
		"Ed25519":              {ca.read("ed"), "weak_algorithm"},
		"no certificate":       {ca.read("nocert"), "malformed"},
		"no key":               {ca.read("nokey"), "malformed"},
		"another certificate":  {foreign, "other_key"},
		"a changed file":       {costly, "passphrase"},
		"half a file":          {foreign[:len(foreign)/2], "malformed"},
		"more than 1 MiB":      {append([]byte{0x30, 0x84}, make([]byte, 1<<20)...), "too_large"},
		"no key of either":     {[]byte("-----BEGIN CERTIFICATE-----\n"), "malformed"},
		"a certificate in DER": {root.Bytes, "malformed"},
		"many iterations": {derOf(0x30, derOf(0x02, []byte{3}), derOf(0x30), derOf(0x30, derOf(0x30), derOf(0x04, []byte("salt")),
			derOf(0x02, []byte{0x7f, 0xff, 0xff, 0xff})), bytes.Repeat([]byte{5, 0}, 80)), "too_large"},
		"a count of 9 octets, inside an octet string": {derOf(0x30, derOf(0x04, derOf(0x30, derOf(0x04, []byte("salt")),
			derOf(0x02, []byte{1, 0, 0, 0, 0, 0, 0, 0, 0}))), bytes.Repeat([]byte{5, 0}, 80)), "too_large"},
	} {
		_, err := o.Import(ctx, o.clinic, tt.file, pass)
		o.refused(what, err, tt.reason)
	}
	if list, err := o.List(ctx, o.clinic); err != nil || len(list) != 0 {
		t.Errorf("%d are stored, %v", len(list), err)
	}
}

// derOf writes one element of less than 64 KiB.
func derOf(tag byte, parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	switch n := len(body); {
	case n < 128:
		return append([]byte{tag, byte(n)}, body...)
	case n < 256:
		return append([]byte{tag, 0x81, byte(n)}, body...)
	default:
		return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, body...)
	}
}

// FuzzIterations looks through anything without a panic, soon, and refuses by
// its own word alone.
func FuzzIterations(f *testing.F) {
	f.Add([]byte{})
	f.Add(derOf(0x30, derOf(0x04, []byte("salt")), derOf(0x02, []byte{8, 0})))
	f.Add(derOf(0x30, derOf(0x04, []byte("salt")), derOf(0x02, []byte{0, 0xff, 0xff, 0xff, 0xff})))
	f.Add(bytes.Repeat([]byte{0x30, 0x80}, 100))
	f.Add(bytes.Repeat([]byte{0x04, 0x02}, 100))
	f.Fuzz(func(t *testing.T, data []byte) {
		err := identity.BoundIterations(data)
		var refusal *fault.Fault
		if err != nil && (!errors.As(err, &refusal) || refusal.Reason != "too_large") {
			t.Errorf("%v", err)
		}
	})
}
