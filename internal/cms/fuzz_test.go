package cms

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"testing"

	"github.com/sealpost/sealpost/internal/fault"
)

// corpusKeys are the same in every run, so that messages in the corpus get as
// far as they did.
func corpusKeys(f *testing.F) (keys []Recipient) {
	f.Helper()
	certificate := func(serial int64, public any) *x509.Certificate {
		return &x509.Certificate{
			RawIssuer: []byte{0x30, 0}, SerialNumber: big.NewInt(serial), SubjectKeyId: []byte{byte(serial)},
			PublicKey: public,
		}
	}
	data, err := os.ReadFile("testdata/rsa-of-the-fuzz-corpus.pem")
	if err != nil {
		f.Fatal(err)
	}
	block, _ := pem.Decode(data)
	private := must(x509.ParsePKCS8PrivateKey(block.Bytes)).(*rsa.PrivateKey)
	curve := must(ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{5}, 32)))
	var x *ecdh.PrivateKey
	fips140.WithoutEnforcement(func() { x = must(ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{6}, 32))) })
	return []Recipient{
		{private, certificate(1, &private.PublicKey)},
		{curve, certificate(2, &curve.PublicKey)},
		{x, certificate(3, x.PublicKey())},
	}
}

func FuzzDecrypt(f *testing.F) {
	keys := corpusKeys(f)
	for _, c := range []Cipher{AES256CBC, AES256GCM} {
		for _, to := range keys {
			f.Add(sealed(f, c, text(20), to, WrapOptions{}))
			f.Add(sealed(f, c, text(20), to, WrapOptions{OAEP: true}))
		}
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		const max = 1000
		before := bytes.Clone(message)
		got, err := Decrypt(message, keys, max)
		if !bytes.Equal(before, message) {
			t.Fatal("the message was written to")
		}
		switch {
		case err != nil:
			if got != nil || fault.From(err).Kind != fault.Refused {
				t.Fatalf("%v, %v", got, err)
			}
		case len(got.Plain) > max || got.Recipient == nil || got.Algorithms == "":
			t.Fatalf("%d octets by %s", len(got.Plain), got.Algorithms)
		}
	})
}

func FuzzKindOf(f *testing.F) {
	for _, c := range []Cipher{AES256CBC, AES256GCM} {
		f.Add(sealed(f, c, text(20), corpusKeys(f)[1], WrapOptions{}))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		kind := KindOf(bytes.NewReader(message))
		der, err := ToDER(message, 2*len(message)+16)
		if kind != "" && err != nil {
			// What streams by is not held against the rules for strings in pieces.
			if fault.From(err).Reason == "too_large" {
				t.Fatalf("%q: %v", kind, err)
			}
			return
		}
		if kind != "" && KindOf(bytes.NewReader(der)) != kind {
			t.Fatalf("%q in BER, %q in DER", kind, KindOf(bytes.NewReader(der)))
		}
		if kind == "" && err == nil {
			if _, err := readEnvelope(der); err == nil {
				t.Fatal("an envelope of no kind")
			}
		}
	})
}
