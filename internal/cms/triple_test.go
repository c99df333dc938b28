package cms_test

import (
	"bytes"
	"testing"

	"github.com/sealpost/sealpost/internal/cms"
)

// TestTripleWrapping signs, encrypts and signs again (RFC 2634 section 1.1),
// and has openssl and Decrypt take it apart, and the other way round.
func TestTripleWrapping(t *testing.T) {
	for name, cipher := range map[string]cms.Cipher{"CBC": cms.AES256CBC, "GCM": cms.AES256GCM} {
		t.Run(name, func(t *testing.T) {
			inner, outer := ourSigners().of["P-384"], ourSigners().of["RSA"]
			first, err := cms.SignOpaque(inner, []byte(signedText), signedAt)
			if err != nil {
				t.Fatal(err)
			}
			last, err := cms.SignOpaque(outer, envelope(t, cipher, first), signedAt)
			if err != nil {
				t.Fatal(err)
			}
			if got := unwrap(t, last); got != signedText {
				t.Errorf("%q", got)
			}

			b := newSignBench(t)
			b.signer("RSA")
			b.put("last", last)
			for _, step := range [][]string{
				{"-verify", "-in", "last", "-CAfile", "root.pem", "-out", "enveloped"},
				{"-decrypt", "-in", "enveloped", "-inkey", "RSA.key", "-recip", "RSA.crt", "-out", "first"},
				{"-verify", "-in", "first", "-CAfile", "root.pem", "-out", "text"},
			} {
				if out, err := b.openssl(append([]string{"cms", "-binary", "-inform", "DER"}, step...)...); err != nil {
					t.Fatalf("%v: %s", step, out)
				}
			}
			if got := string(b.get("text")); got != signedText {
				t.Errorf("openssl reads %q", got)
			}
			if got := unwrap(t, opensslTriple(t, b, name)); got != signedText {
				t.Errorf("of openssl's we read %q", got)
			}
		})
	}
}

func envelope(t *testing.T, cipher cms.Cipher, plain []byte) []byte {
	t.Helper()
	c, err := cms.NewContent(cipher, int64(len(plain)))
	if err != nil {
		t.Fatal(err)
	}
	info, err := c.RecipientInfo(ourSigners().of["RSA"].Certificate, cms.WrapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var sealed bytes.Buffer
	sealed.Write(c.Head(info))
	if err := c.Encrypt(&sealed, bytes.NewReader(plain)); err != nil {
		t.Fatal(err)
	}
	sealed.Write(c.Tail())
	return sealed.Bytes()
}

// unwrap takes three layers off.
func unwrap(t *testing.T, message []byte) string {
	t.Helper()
	layer := func(message []byte, algorithm string) []byte {
		t.Helper()
		got, err := cms.Verify(message, nil, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if s := got.Signatures[0]; s.Status != cms.SignatureValid || s.Algorithm != algorithm {
			t.Fatalf("%s by %s, want %s", s.Status, s.Algorithm, algorithm)
		}
		return got.Content
	}
	rsa := ourSigners().of["RSA"]
	opened, err := cms.Decrypt(layer(message, "RSA-2048"), []cms.Recipient{{Key: rsa.Key, Certificate: rsa.Certificate}}, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return string(layer(opened.Plain, "ECDSA P-384"))
}

func opensslTriple(t *testing.T, b signBench, cipher string) []byte {
	t.Helper()
	b.signer("P-384")
	b.put("text", []byte(signedText))
	algorithm := map[string]string{"CBC": "-aes-256-cbc", "GCM": "-aes-256-gcm"}[cipher]
	for _, step := range [][]string{
		{"-sign", "-nodetach", "-in", "text", "-signer", "P-384.crt", "-inkey", "P-384.key", "-md", "sha384", "-out", "1", "-indef", "-stream"},
		{"-encrypt", "-in", "1", algorithm, "-out", "2", "RSA.crt"},
		{"-sign", "-nodetach", "-in", "2", "-signer", "RSA.crt", "-inkey", "RSA.key", "-out", "3", "-indef", "-stream"},
	} {
		if out, err := b.openssl(append([]string{"cms", "-binary", "-outform", "DER"}, step...)...); err != nil {
			t.Fatalf("%v: %s", step, out)
		}
	}
	return b.get("3")
}
