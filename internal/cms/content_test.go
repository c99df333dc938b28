package cms

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/sealpost/sealpost/internal/fault"
)

func TestWhatIsSealedOpens(t *testing.T) {
	p := everybody()
	var keys []Recipient
	for _, name := range strong {
		keys = append(keys, p[name])
	}
	names := map[string]string{
		"rsa": "RSA-2048 PKCS#1 v1.5", "rsa3072": "RSA-3072 PKCS#1 v1.5", "P-256": "ECDH P-256",
		"P-384": "ECDH P-384", "P-521": "ECDH P-521", "X25519": "X25519",
	}
	for _, c := range []Cipher{AES256CBC, AES256GCM} {
		for _, name := range strong {
			sizes := []int{100}
			if name == "P-256" {
				sizes = []int{0, 1, 15, 16, 17, chunkSize - 1, chunkSize, chunkSize + 1, 3 * chunkSize}
			}
			for _, n := range sizes {
				der := sealed(t, c, text(n), p[name], WrapOptions{})
				again, err := ToDER(der, len(der))
				if err != nil || &again[0] != &der[0] {
					t.Fatalf("%v for %s is not DER: %v", c, name, err)
				}
				got, err := Decrypt(der, keys, int64(n))
				if err != nil || !bytes.Equal(got.Plain, text(n)) {
					t.Fatalf("%v for %s, %d octets: %v", c, name, n, err)
				}
				integrity := map[Cipher]string{AES256CBC: IntegrityNone, AES256GCM: IntegrityGCM}[c]
				if got.Algorithms != names[name]+", "+c.String() || got.Recipient != p[name].Certificate || got.Integrity != integrity {
					t.Errorf("%v for %s: %s, %s", c, name, got.Algorithms, got.Integrity)
				}
				if n > 0 {
					if _, err := Decrypt(der, keys, int64(n-1)); !errors.Is(err, errTooLarge) {
						t.Errorf("%d octets of at most %d: %v", n, n-1, err)
					}
				}
			}
		}
	}
}

func TestOAEP(t *testing.T) {
	to := everybody()["rsa"]
	der := sealed(t, AES256CBC, text(100), to, WrapOptions{OAEP: true})
	got, err := Decrypt(der, []Recipient{to}, 100)
	if err != nil || !bytes.Equal(got.Plain, text(100)) || got.Algorithms != "RSA-2048 OAEP-SHA256, AES-256-CBC" {
		t.Fatalf("%+v, %v", got, err)
	}
	c, _ := NewContent(AES256CBC, 100)
	if s := c.Algorithms(to.Certificate, WrapOptions{OAEP: true}); s != got.Algorithms {
		t.Errorf("said %q, read %q", s, got.Algorithms)
	}
}

// oaepCertificate has a key that is for OAEP alone.
func oaepCertificate(from Recipient, parameters []byte) *x509.Certificate {
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(algorithmDER(oidRSAESOAEP, parameters...))
		b.AddASN1BitString(x509.MarshalPKCS1PublicKey(from.Certificate.PublicKey.(*rsa.PublicKey)))
	})
	return &x509.Certificate{
		RawIssuer: from.Certificate.RawIssuer, SerialNumber: from.Certificate.SerialNumber,
		RawSubjectPublicKeyInfo: b.BytesOrPanic(),
	}
}

func TestKeysForOAEPAlone(t *testing.T) {
	to := everybody()["rsa"]
	sha384 := (&oaep{hash: oaepHashes[3].hash, mgf: oaepHashes[3].hash}).der()
	for want, parameters := range map[string][]byte{"RSA-2048 OAEP-SHA256": nil, "RSA-2048 OAEP-SHA384": sha384} {
		der := sealed(t, AES256CBC, text(100), Recipient{Certificate: oaepCertificate(to, parameters)}, WrapOptions{})
		got, err := Decrypt(der, []Recipient{to}, 100)
		if err != nil || got.Algorithms != want+", AES-256-CBC" {
			t.Errorf("%+v, %v; want %s", got, err, want)
		}
	}
	c, _ := NewContent(AES256CBC, 1)
	for name, parameters := range map[string][]byte{"SHA-1": {0x30, 0}, "nonsense": {5, 0}} {
		if _, err := c.RecipientInfo(oaepCertificate(to, parameters), WrapOptions{}); fault.From(err).Reason != "unsupported" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.RecipientInfo(oaepCertificate(everybody()["rsa1024"], nil), WrapOptions{}); fault.From(err).Reason != "weak_algorithm" {
		t.Errorf("1024 bits: %v", err)
	}
}

func TestWeakKeysAreRefused(t *testing.T) {
	p := everybody()
	c, err := NewContent(AES256CBC, 10)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		cert *x509.Certificate
		word string
	}{
		"RSA-1024": {p["rsa1024"].Certificate, "weak_algorithm"},
		"P-224":    {p["P-224"].Certificate, "weak_algorithm"},
		"DSA":      {&x509.Certificate{PublicKeyAlgorithm: x509.DSA, PublicKey: struct{}{}}, "weak_algorithm"},
		"Ed25519":  {&x509.Certificate{PublicKeyAlgorithm: x509.Ed25519, PublicKey: struct{}{}}, "unsupported"},
		"unknown":  {&x509.Certificate{RawSubjectPublicKeyInfo: []byte{0x30, 0}}, "unsupported"},
		"nothing":  {&x509.Certificate{}, "unsupported"},
	} {
		for _, o := range []WrapOptions{{}, {OAEP: true}} {
			info, err := c.RecipientInfo(tc.cert, o)
			if f := fault.From(err); info != nil || f.Kind != fault.Refused || f.Reason != tc.word {
				t.Errorf("%s: %x, %v", name, info, err)
			}
		}
	}
}

// The outer structure is taken apart with encoding/asn1, which shares no code
// with what wrote it.
func TestVersions(t *testing.T) {
	p := everybody()
	for _, tc := range []struct {
		c       Cipher
		to      string
		version int
		kind    asn1.ObjectIdentifier
	}{
		{AES256CBC, "rsa", 0, oidEnveloped}, {AES256CBC, "P-256", 2, oidEnveloped}, {AES256CBC, "X25519", 2, oidEnveloped},
		{AES256GCM, "rsa", 0, oidAuthEnveloped}, {AES256GCM, "P-256", 0, oidAuthEnveloped},
	} {
		var info struct {
			Kind    asn1.ObjectIdentifier
			Content struct {
				Version    int
				Recipients []asn1.RawValue `asn1:"set"`
				Content    struct {
					Kind       asn1.ObjectIdentifier
					Cipher     asn1.RawValue
					Ciphertext []byte `asn1:"tag:0"`
				}
				MAC []byte `asn1:"optional"`
			} `asn1:"explicit,tag:0"`
		}
		rest, err := asn1.Unmarshal(sealed(t, tc.c, text(1000), p[tc.to], WrapOptions{}), &info)
		if err != nil || len(rest) > 0 || info.Content.Version != tc.version || !info.Kind.Equal(tc.kind) {
			t.Errorf("%v for %s: %+v, %v", tc.c, tc.to, info, err)
		}
		if n := len(info.Content.Recipients); n != 1 {
			t.Errorf("%d recipients show", n)
		}
	}
}

func TestTheSameOctetsForEverybody(t *testing.T) {
	for _, c := range []Cipher{AES256CBC, AES256GCM} {
		plain := text(2*chunkSize + 100)
		content, err := NewContent(c, int64(len(plain)))
		if err != nil {
			t.Fatal(err)
		}
		if c == AES256GCM && content.Tail() != nil {
			t.Error("a tail before there was a ciphertext")
		}
		var first bytes.Buffer
		if err := content.Encrypt(&first, bytes.NewReader(plain)); err != nil {
			t.Fatal(err)
		}
		tail := content.Tail()
		var wait sync.WaitGroup
		for range 4 {
			wait.Go(func() {
				var again bytes.Buffer
				if err := content.Encrypt(&again, iotest.HalfReader(bytes.NewReader(plain))); err != nil || !bytes.Equal(first.Bytes(), again.Bytes()) {
					t.Errorf("%v: not the same again: %v", c, err)
				}
			})
		}
		wait.Wait()
		if !bytes.Equal(tail, content.Tail()) {
			t.Error("another tail")
		}
	}
}

func TestNoSecondPlaintext(t *testing.T) {
	for _, c := range []Cipher{AES256CBC, AES256GCM} {
		plain := text(3 * chunkSize)
		content, err := NewContent(c, int64(len(plain)))
		if err != nil {
			t.Fatal(err)
		}
		// What was encrypted before an error counts, too.
		broken := io.MultiReader(bytes.NewReader(plain[:2*chunkSize+5]), iotest.ErrReader(io.ErrClosedPipe))
		var out bytes.Buffer
		if err := content.Encrypt(&out, broken); !errors.Is(err, io.ErrClosedPipe) || out.Len() != 2*chunkSize {
			t.Fatalf("%v: %d octets, %v", c, out.Len(), err)
		}
		first := bytes.Clone(out.Bytes())
		for _, at := range []int{0, chunkSize, 2*chunkSize - 1} {
			other := bytes.Clone(plain)
			other[at] ^= 1
			out.Reset()
			err := content.Encrypt(&out, bytes.NewReader(other))
			if !errors.Is(err, errOtherPlaintext) || !bytes.HasPrefix(first, out.Bytes()) || out.Len() > at {
				t.Errorf("%v, octet %d differs: %d octets came out, %v", c, at, out.Len(), err)
			}
		}
		for _, n := range []int{0, chunkSize, len(plain) - 1} {
			if err := content.Encrypt(io.Discard, bytes.NewReader(plain[:n])); err == nil || strings.Contains(err.Error(), "other") {
				t.Errorf("%v, %d octets only: %v", c, n, err)
			}
		}
		if err := content.Encrypt(io.Discard, bytes.NewReader(append(bytes.Clone(plain), 'x'))); err == nil {
			t.Errorf("%v: an octet more than announced", c)
		}
		if content.Tail() != nil {
			t.Errorf("%v: a tail of a ciphertext that was never whole", c)
		}
		if err := content.Encrypt(io.Discard, bytes.NewReader(plain)); err != nil {
			t.Errorf("%v: %v", c, err)
		}
	}
}

func TestEveryContentHasItsOwnKey(t *testing.T) {
	a, _ := NewContent(AES256GCM, 1)
	b, _ := NewContent(AES256GCM, 1)
	if bytes.Equal(a.key, b.key) || bytes.Equal(a.iv, b.iv) || len(a.iv) != gcmNonce {
		t.Error("a key or a nonce is used again")
	}
}

func TestContentsThatCannotBe(t *testing.T) {
	for _, size := range []int64{-1, gcmLimit + 1} {
		if _, err := NewContent(AES256GCM, size); err == nil {
			t.Errorf("%d octets", size)
		}
	}
	if _, err := NewContent(Cipher(9), 1); err == nil {
		t.Error("no such cipher")
	}
}

// zeros is a plaintext that is never in memory as a whole.
type zeros struct{ left int64 }

func (z *zeros) Read(b []byte) (int, error) {
	n := min(int64(len(b)), z.left)
	z.left -= n
	if n == 0 {
		return 0, io.EOF
	}
	clear(b[:n])
	return int(n), nil
}

func TestLargeContentsStream(t *testing.T) {
	const size = 16 << 20
	for _, c := range []Cipher{AES256CBC, AES256GCM} {
		content, err := NewContent(c, size)
		if err != nil {
			t.Fatal(err)
		}
		var counted counter
		memory := testing.AllocsPerRun(1, func() {
			counted = 0
			if err := content.Encrypt(&counted, &zeros{size}); err != nil {
				t.Fatal(err)
			}
		})
		if int64(counted) != content.ciphertext() || memory > 100 {
			t.Errorf("%v: %d octets with %v allocations", c, counted, memory)
		}
	}
}

type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}
