package cms_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/cms"
)

var signedAt = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

const signedText = "Content-Type: text/plain\r\n\r\nThe potassium is 4.1.\r\n"

// signers are one signer of each kind, under one root.
type signers struct {
	root *x509.Certificate
	of   map[string]*cms.Signer
}

var ourSigners = sync.OnceValue(func() signers {
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	root := certify(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Root"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, nil, rootKey.Public(), rootKey)
	out := signers{root, map[string]*cms.Signer{}}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(err)
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	must(err)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	must(err)
	for i, k := range []struct {
		name string
		key  crypto.Signer
		use  x509.KeyUsage
	}{
		{"RSA", rsaKey, x509.KeyUsageKeyEncipherment}, {"PSS", rsaKey, 0}, {"P-256", p256, x509.KeyUsageKeyAgreement},
		{"P-384", p384, 0}, {"P-521", p521, 0}, {"Ed25519", ed, 0},
	} {
		cert := certify(&x509.Certificate{
			SerialNumber: big.NewInt(int64(100 + i)), Subject: pkix.Name{CommonName: k.name},
			KeyUsage: x509.KeyUsageDigitalSignature | k.use, SubjectKeyId: []byte{1, 2, 3, byte(i)},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}, EmailAddresses: []string{"dr.who@clinic.example"},
		}, root, k.key.Public(), rootKey)
		out.of[k.name] = &cms.Signer{Key: k.key, Certificate: cert, Chain: []*x509.Certificate{root}, PSS: k.name == "PSS"}
	}
	return out
})

func certify(template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(1000*time.Hour)
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	must(err)
	c, err := x509.ParseCertificate(der)
	must(err)
	return c
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// bench is a folder in which openssl works.
type signBench struct {
	t   *testing.T
	dir string
}

func newSignBench(t *testing.T) signBench {
	b := signBench{t, t.TempDir()}
	b.put("root.pem", pemOf(ourSigners().root))
	return b
}

func (b signBench) put(name string, data []byte) string {
	b.t.Helper()
	p := filepath.Join(b.dir, name)
	if err := os.WriteFile(p, data, 0o600); err != nil {
		b.t.Fatal(err)
	}
	return p
}

func (b signBench) get(name string) []byte {
	b.t.Helper()
	data, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		b.t.Fatal(err)
	}
	return data
}

func (b signBench) openssl(args ...string) (string, error) {
	cmd := exec.Command("openssl", args...)
	cmd.Dir = b.dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// signer writes key and certificate of one signer.
func (b signBench) signer(name string) {
	b.t.Helper()
	s := ourSigners().of[name]
	der, err := x509.MarshalPKCS8PrivateKey(s.Key)
	if err != nil {
		b.t.Fatal(err)
	}
	b.put(name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	b.put(name+".crt", pemOf(s.Certificate))
}

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func TestOpenSSLVerifiesWhatWeSigned(t *testing.T) {
	micalgs := map[string]string{"RSA": "sha-256", "PSS": "sha-256", "P-256": "sha-256", "P-384": "sha-384", "P-521": "sha-512"}
	for name, want := range micalgs {
		t.Run(name, func(t *testing.T) {
			b := newSignBench(t)
			s := ourSigners().of[name]
			detached, micalg, err := cms.Sign(s, strings.NewReader(signedText), signedAt)
			if err != nil {
				t.Fatal(err)
			}
			if micalg != want {
				t.Errorf("micalg is %q, want %q", micalg, want)
			}
			opaque, err := cms.SignOpaque(s, []byte(signedText), signedAt)
			if err != nil {
				t.Fatal(err)
			}
			b.put("text", []byte(signedText))
			b.put("detached", detached)
			b.put("opaque", opaque)
			verify := []string{"cms", "-verify", "-inform", "DER", "-binary", "-CAfile", "root.pem", "-purpose", "smimesign", "-out", "out"}
			for _, args := range [][]string{{"-in", "detached", "-content", "text"}, {"-in", "opaque"}} {
				if out, err := b.openssl(append(slices.Clone(verify), args...)...); err != nil {
					t.Errorf("openssl %v: %s", args, out)
				} else if got := string(b.get("out")); got != signedText {
					t.Errorf("openssl %v gives %q", args, got)
				}
			}
			b.put("text", []byte(strings.Replace(signedText, "4.1", "6.1", 1)))
			if _, err := b.openssl(append(slices.Clone(verify), "-in", "detached", "-content", "text")...); err == nil {
				t.Error("openssl takes another text")
			}
		})
	}
}

func TestOpenSSLReadsOurAttributes(t *testing.T) {
	b := newSignBench(t)
	der, _, err := cms.Sign(ourSigners().of["RSA"], strings.NewReader(signedText), signedAt)
	if err != nil {
		t.Fatal(err)
	}
	b.put("sig", der)
	out, err := b.openssl("cms", "-cmsout", "-print", "-inform", "DER", "-in", "sig")
	if err != nil {
		t.Fatal(out)
	}
	for _, want := range []string{"contentType", "messageDigest", "signingTime", "Mar  4 05:06:07 2026", "S/MIME Capabilities",
		"aes-256-gcm", "aes-256-cbc", "signingCertificateV2", "id-smime-aa-encrypKeyPref"} {
		if !strings.Contains(out, want) {
			t.Errorf("openssl sees no %s in the signature", want)
		}
	}
	// DER: nothing changes when OpenSSL writes it anew, which sorts sets.
	if out, err := b.openssl("cms", "-cmsout", "-inform", "DER", "-in", "sig", "-outform", "DER", "-out", "again"); err != nil {
		t.Fatal(out)
	}
	if !bytes.Equal(b.get("again"), der) {
		t.Error("openssl writes it in another way: it is not DER")
	}
}

func TestWeVerifyWhatWeSigned(t *testing.T) {
	algorithms := map[string]string{"RSA": "RSA-2048", "PSS": "RSA-2048 PSS", "P-256": "ECDSA P-256", "P-384": "ECDSA P-384",
		"P-521": "ECDSA P-521", "Ed25519": "Ed25519"}
	for name, algorithm := range algorithms {
		t.Run(name, func(t *testing.T) {
			s := ourSigners().of[name]
			der, _, err := cms.Sign(s, strings.NewReader(signedText), signedAt)
			if err != nil {
				t.Fatal(err)
			}
			got := verified(t, der, signedText)
			if got.Content != nil || len(got.Signatures) != 1 || len(got.Certificates) != 2 {
				t.Fatalf("content %d octets, %d signatures, %d certificates", len(got.Content), len(got.Signatures), len(got.Certificates))
			}
			sig := got.Signatures[0]
			if sig.Status != cms.SignatureValid || sig.Algorithm != algorithm || !sig.At.Equal(signedAt) ||
				!sig.Certificate.Equal(s.Certificate) || !slices.Contains(sig.Capabilities, "AES-256-GCM") {
				t.Errorf("%+v", sig)
			}
			changed := verified(t, der, signedText+"\r\n").Signatures[0]
			if changed.Status != cms.SignatureInvalid || changed.Capabilities != nil {
				t.Errorf("another text: %+v", changed)
			}
			opaque, err := cms.SignOpaque(s, []byte(signedText), signedAt)
			if err != nil {
				t.Fatal(err)
			}
			if got := verified(t, opaque, ""); string(got.Content) != signedText || got.Signatures[0].Status != cms.SignatureValid {
				t.Errorf("opaque: %+v", got.Signatures[0])
			}
		})
	}
}

func verified(t *testing.T, der []byte, text string) *cms.Signed {
	t.Helper()
	got, err := cms.Verify(der, strings.NewReader(text), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestASignerNeedsTheKeyOfItsCertificate(t *testing.T) {
	of := ourSigners().of
	wrong := &cms.Signer{Key: of["P-256"].Key, Certificate: of["P-384"].Certificate}
	if _, _, err := cms.Sign(wrong, strings.NewReader(signedText), signedAt); err == nil {
		t.Error("signed with the key of another certificate")
	}
	if _, err := cms.SignOpaque(&cms.Signer{}, nil, signedAt); err == nil {
		t.Error("signed with nothing")
	}
}

// TestEveryOctetCounts flips each octet of what is signed and of the
// signature in turn: never may the verdict be that the signature is valid.
func TestEveryOctetCounts(t *testing.T) {
	for _, name := range []string{"P-256", "PSS"} {
		s := *ourSigners().of[name]
		s.Chain = nil
		der, err := cms.SignOpaque(&s, []byte(signedText), signedAt)
		if err != nil {
			t.Fatal(err)
		}
		certificate := bytes.Index(der, s.Certificate.Raw)
		for i := range der {
			bad := slices.Clone(der)
			bad[i] ^= 0x21
			got, err := cms.Verify(bad, nil, 1<<20)
			if err != nil {
				continue
			}
			inCertificate := i >= certificate && i < certificate+len(s.Certificate.Raw)
			for _, sig := range got.Signatures {
				if sig.Status == cms.SignatureValid && !inCertificate && !harmless(der, i) {
					t.Errorf("%s: octet %d of %d can be changed", name, i, len(der))
				}
			}
		}
	}
}

// harmless are octets that no signature covers and that decide nothing: the
// versions, and the list of digests at the front.
func harmless(der []byte, i int) bool {
	front := bytes.Index(der, []byte(signedText))
	return i < front-17 || der[i] == 1 && der[i-1] == 1 && der[i-2] == 2
}
