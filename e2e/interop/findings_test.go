package interop

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
)

// The findings of the document that can be seen again. When one of these tests
// fails, a program or library has become better: strike the finding.

func TestGpgsmCrashesOnECKeys(t *testing.T) {
	p, err := everybody()
	if err != nil {
		t.Fatal(err)
	}
	g, err := newGpgsm(newFolder(t), p)
	if err != nil {
		t.Fatal(err)
	}
	r := row{key: "p256"}
	if err := g.file(r); err == nil || !strings.Contains(err.Error(), "egmentation fault") {
		t.Errorf("gpgsm imports an EC key: %v", err)
	}
	r.key = "rsa"
	if err := g.file(r); err != nil {
		t.Errorf("gpgsm does not even import an RSA key: %v", err)
	}
}

func TestGpgsmNeedsToBeToldTheDigest(t *testing.T) {
	p, err := everybody()
	if err != nil {
		t.Fatal(err)
	}
	g, err := newGpgsm(newFolder(t), p)
	if err != nil {
		t.Fatal(err)
	}
	r := row{key: "p384"}
	if err := g.own(r); err != nil {
		t.Fatal(err)
	}
	if _, _, err := g.gpgsm([]byte(entity), "--detach-sign", "--local-user", "<"+r.theirs()+">"); err == nil || !strings.Contains(err.Error(), "Invalid length") {
		t.Errorf("gpgsm signs with P-384 by itself: %v", err)
	}
	if _, err := g.sign(r, []byte(entity)); err != nil {
		t.Errorf("gpgsm does not sign even when it is told how: %v", err)
	}
}

func TestOpenSSLDerivesKeysWithSHA1(t *testing.T) {
	p, err := everybody()
	if err != nil {
		t.Fatal(err)
	}
	o := &openssl{folder: newFolder(t), p: p}
	r := row{key: "p256"}
	if err := o.learn(r); err != nil {
		t.Fatal(err)
	}
	der, err := o.encrypt(r, []byte(entity))
	if err != nil {
		t.Fatal(err)
	}
	// dhSinglePass-stdDH-sha1kdf-scheme (RFC 5753 section 7.1.4).
	if !bytes.Contains(der, []byte{6, 9, 0x2b, 0x81, 5, 0x10, 0x86, 0x48, 0x3f, 0, 2}) {
		t.Error("OpenSSL has another default now")
	}
}

func TestGnuPGDoesNotFindTheEndOfArmor(t *testing.T) {
	g := &gnupg{newFolder(t), nil}
	for name, tc := range map[string]struct {
		text  string
		reads bool
	}{
		"padded, no checksum":   {"ywxiAAAAAABwb3Rhc3M=\n", true},
		"unpadded, no checksum": {"yw1iAAAAAABwb3Rhc3Np\n", false},
		"unpadded, checksum":    {"yw1iAAAAAABwb3Rhc3Np\n=CRC\n", true},
	} {
		text := strings.Replace(tc.text, "=CRC", crc24("yw1iAAAAAABwb3Rhc3Np"), 1)
		out, _, err := g.gpg([]byte("-----BEGIN PGP MESSAGE-----\n\n"+text+"-----END PGP MESSAGE-----\n"), "--decrypt")
		if reads := err == nil && strings.HasPrefix(string(out), "potass"); reads != tc.reads {
			t.Errorf("%s: %q, %v", name, out, err)
		}
	}
}

// crc24 is the checksum of armor (RFC 9580 section 6.1.1).
func crc24(text string) string {
	octets, err := unbase64([]byte(text))
	if err != nil {
		panic(err)
	}
	crc := uint32(0xb704ce)
	for _, b := range octets {
		crc ^= uint32(b) << 16
		for range 8 {
			crc <<= 1
			if crc&0x1000000 != 0 {
				crc ^= 0x1864cfb
			}
		}
	}
	return "=" + strings.TrimSpace(folded([]byte{byte(crc >> 16), byte(crc >> 8), byte(crc)}))
}

func TestGoLeavesOutKeys(t *testing.T) {
	p, err := everybody()
	if err != nil {
		t.Fatal(err)
	}
	if key := p.persons["x25519@home.example"].cert.PublicKey; key != nil {
		t.Errorf("crypto/x509 reads X25519 as %T", key)
	}
	if key := p.persons["rsa@home.example"].oaep.PublicKey; key != nil {
		t.Errorf("crypto/x509 reads a key for OAEP alone as %T", key)
	}
	x, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, p.root, x.PublicKey(), p.rootKey); err == nil {
		t.Error("crypto/x509 certifies X25519")
	}
}
