package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// people have a key of each kind, all certified by the same authority.
type people map[string]Recipient

var everybody = sync.OnceValue(func() people {
	authority := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA", Organization: []string{"Sealpost"}},
		NotBefore: time.Unix(1_700_000_000, 0), NotAfter: time.Unix(4_000_000_000, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	p := people{}
	add := func(name string, serial int64, key crypto.PrivateKey, public crypto.PublicKey) {
		der := must(x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: root.NotBefore, NotAfter: root.NotAfter,
			KeyUsage: x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement, EmailAddresses: []string{name + "@example.org"},
			SubjectKeyId: []byte{byte(serial), 0, 0, byte(serial)},
		}, root, public, authority))
		p[name] = Recipient{key, must(x509.ParseCertificate(der))}
	}
	for serial, bits := range map[int64]int{2: 2048, 0xf0f1f2f3: 3072} {
		key := must(rsa.GenerateKey(rand.Reader, bits))
		add(map[int]string{2048: "rsa", 3072: "rsa3072"}[bits], serial, key, &key.PublicKey)
	}
	for serial, curve := range map[int64]elliptic.Curve{200: elliptic.P256(), 201: elliptic.P384(), 202: elliptic.P521()} {
		key := must(ecdsa.GenerateKey(curve, rand.Reader))
		add(curve.Params().Name, serial, key, &key.PublicKey)
	}
	// What FIPS 140-3 does not approve of, and weak keys, to be refused.
	fips140.WithoutEnforcement(func() {
		// crypto/x509 makes no certificate for X25519. One for Ed25519 differs
		// in an octet, and nobody looks at its signature here.
		x := must(ecdh.X25519().GenerateKey(rand.Reader))
		add("X25519", 203, x, ed25519.PublicKey(x.PublicKey().Bytes()))
		der := bytes.Replace(p["X25519"].Certificate.Raw, []byte{6, 3, 43, 101, 112}, []byte{6, 3, 43, 101, 110}, 1)
		p["X25519"] = Recipient{x, must(x509.ParseCertificate(der))}
		weak := must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))
		add("P-224", 204, weak, &weak.PublicKey)
		short := must(rsa.GenerateKey(rand.Reader, 1024))
		add("rsa1024", 205, short, &short.PublicKey)
	})
	return p
})

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// strong are the names of those to whom can be sealed.
var strong = []string{"rsa", "rsa3072", "P-256", "P-384", "P-521", "X25519"}

// sealed encrypts a plaintext for one person.
func sealed(t testing.TB, c Cipher, plain []byte, to Recipient, o WrapOptions) []byte {
	t.Helper()
	content, err := NewContent(c, int64(len(plain)))
	if err != nil {
		t.Fatal(err)
	}
	info, err := content.RecipientInfo(to.Certificate, o)
	if err != nil {
		t.Fatal(err)
	}
	return assembled(t, content, info, plain)
}

func assembled(t testing.TB, content *Content, info, plain []byte) []byte {
	t.Helper()
	out := bytes.NewBuffer(content.Head(info))
	if err := content.Encrypt(out, bytes.NewReader(plain)); err != nil {
		t.Fatal(err)
	}
	out.Write(content.Tail())
	if int64(out.Len()) != content.Size(info) {
		t.Fatalf("%d octets, announced %d", out.Len(), content.Size(info))
	}
	return out.Bytes()
}

func text(n int) []byte {
	return bytes.Repeat([]byte("Potassium 4.1 mmol/l.\r\n"), n/23+1)[:n]
}

// shared gives a file of the collections that are not part of the project.
func shared(t *testing.T, name string) []byte {
	t.Helper()
	dir := os.Getenv("SEALPOST_TEST_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	data, err := os.ReadFile(filepath.Join(dir, "smime-rfc9216", name))
	if errors.Is(err, os.ErrNotExist) {
		t.Logf("%s is not here: not looked at", name)
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		t.Fatalf("%s is not PEM", name)
	}
	return block.Bytes
}
