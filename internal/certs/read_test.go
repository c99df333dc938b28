package certs_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/internal/certs"
)

func serial(n int64) *big.Int { return big.NewInt(n) }

func TestRead(t *testing.T) {
	w := sqlite(t)
	a, b := w.sub.person(nil), w.sub.cert
	o := openssl{t, t.TempDir()}
	o.put("a", "CERTIFICATE", a.Raw)
	o.put("b", "CERTIFICATE", b.Raw)
	o.authority("ca", w.sub)
	for _, form := range []string{"DER", "PEM"} {
		o.run("crl2pkcs7", "-nocrl", "-certfile", "a", "-certfile", "b", "-outform", form, "-out", "p7"+form)
	}
	for name, data := range map[string][]byte{
		"PEM":            slices.Concat(o.read("a"), o.read("b")),
		"PEM with a key": slices.Concat([]byte("Bag Attributes\n"), o.read("ca.key"), o.read("b"), []byte("\nsubject=x\n"), o.read("a")),
		"PEM with CRLF":  bytes.ReplaceAll(slices.Concat(o.read("a"), o.read("b")), []byte("\n"), []byte("\r\n")),
		"DER":            slices.Concat(a.Raw, b.Raw),
		"PKCS #7":        o.read("p7DER"),
		"PKCS #7 in PEM": o.read("p7PEM"),
	} {
		got, err := certs.Read(data)
		if err != nil || len(got) != 2 {
			t.Errorf("%s: %d certificates, %v", name, len(got), err)
		}
	}
	checkRead := func(data []byte, word string) {
		t.Helper()
		_, err := certs.Read(data)
		checkWord(t, err, word)
	}
	checkRead(nil, "malformed")
	checkRead([]byte("no certificate"), "malformed")
	checkRead(o.read("ca.key"), "malformed")
	checkRead(a.Raw[:50], "malformed")
	checkRead(make([]byte, 2<<20), "too_large")
	checkRead(bytes.Repeat(o.read("a"), 201), "too_large")
	checkRead(bytes.Repeat(a.Raw, 201), "too_large")
}

func TestAddresses(t *testing.T) {
	w := sqlite(t)
	utf8Name := func(s string) []byte {
		text, err := asn1.MarshalWithParams(s, "utf8")
		must(err)
		value, err := asn1.Marshal(asn1.RawValue{Class: 2, Tag: 0, IsCompound: true, Bytes: text})
		must(err)
		oid, err := asn1.Marshal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 9})
		must(err)
		name, err := asn1.Marshal(asn1.RawValue{Class: 2, Tag: 0, IsCompound: true, Bytes: append(oid, value...)})
		must(err)
		names, err := asn1.Marshal(asn1.RawValue{Tag: 16, IsCompound: true, Bytes: name})
		must(err)
		return names
	}
	for name, tc := range map[string]struct {
		change func(*x509.Certificate)
		want   []string
	}{
		"one":     {nil, []string{address}},
		"several": {func(c *x509.Certificate) { c.EmailAddresses = []string{"a@b.example", "c@d.example", "A@B.example"} }, []string{"a@b.example", "c@d.example"}},
		"none":    {func(c *x509.Certificate) { c.EmailAddresses = nil }, nil},
		"not one": {func(c *x509.Certificate) { c.EmailAddresses = []string{"not an address", "x@y.example"} }, []string{"x@y.example"}},
		"subject": {inSubject, []string{address}},
		"in any script": {func(c *x509.Certificate) {
			c.EmailAddresses = nil
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: utf8Name("ärztin@praxis.example")}}
		}, []string{"ärztin@praxis.example"}},
	} {
		var got []string
		for _, a := range certs.Addresses(w.sub.person(tc.change)) {
			got = append(got, a.Reveal())
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func TestDescribeAndIdentify(t *testing.T) {
	w := sqlite(t)
	o := openssl{t, t.TempDir()}
	c := o.person(w.sub, []string{"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"})
	if got := certs.Describe(c); got != "RSA-2048" {
		t.Error(got)
	}
	sn, issuer, print := certs.Identify(c)
	o.put("c", "CERTIFICATE", c.Raw)
	said := strings.ToLower(strings.ReplaceAll(o.run("x509", "-in", "c", "-noout", "-serial", "-issuer", "-fingerprint", "-sha256"), ":", ""))
	for _, want := range []string{sn, print} {
		if !strings.Contains(said, want) {
			t.Errorf("openssl says %q without %s", said, want)
		}
	}
	if issuer != "CN=Sub" {
		t.Error(issuer)
	}
}

// shared finds the collections that are not part of this repository.
func shared(t *testing.T, parts ...string) []byte {
	t.Helper()
	dir := os.Getenv("SEALPOST_TEST_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	data, err := os.ReadFile(filepath.Join(append([]string{dir}, parts...)...))
	if err != nil {
		t.Logf("not looked at, because the test data is absent: %v", err)
		return nil
	}
	return data
}

func TestRFC9216Certificates(t *testing.T) {
	w := sqlite(t)
	for file, want := range map[string]string{
		"lamps-alice.crt":        "RSA-2048 alice@smime.example key_usage",
		"lamps-bob.encrypt.crt":  "RSA-2048 bob@smime.example ",
		"lamps-carlos.crt":       "Ed25519 carlos@smime.example no_encryption_key",
		"lamps-dana.encrypt.crt": "X25519 dana@smime.example ",
	} {
		data := shared(t, "smime-rfc9216", file)
		if data == nil {
			return
		}
		found, err := certs.Read(data)
		if err != nil || len(found) != 1 {
			t.Fatal(err)
		}
		c := found[0]
		word := ""
		if err := certs.Weak(c, w.clock.Now()); err != nil {
			word = refusalOf(err)
		}
		if got := fmt.Sprintf("%s %s %s", certs.Describe(c), certs.Addresses(c)[0].Reveal(), word); got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		found, err := certs.Read(data)
		if (err == nil) == (len(found) == 0) {
			t.Errorf("%d certificates, %v", len(found), err)
		}
		for _, c := range found {
			for _, a := range certs.Addresses(c) {
				if a.IsZero() {
					t.Error("an empty address")
				}
			}
			certs.Describe(c)
			certs.Identify(c)
			_ = certs.Weak(c, c.NotBefore)
		}
	})
}
