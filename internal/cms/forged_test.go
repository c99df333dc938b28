package cms_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"testing"

	"github.com/sealpost/sealpost/internal/cms"
)

// TestTheContentTypeIsSigned sends something that was signed as a TSTInfo as
// mail (RFC 5652 section 11.1).
func TestTheContentTypeIsSigned(t *testing.T) {
	b := newSignBench(t)
	b.put("text", []byte(signedText))
	b.signer("RSA")
	if out, err := b.openssl("cms", "-sign", "-binary", "-in", "text", "-nodetach", "-out", "sig", "-outform", "DER",
		"-signer", "RSA.crt", "-inkey", "RSA.key", "-econtent_type", "1.2.840.113549.1.7.9"); err != nil {
		t.Fatal(out)
	}
	sig := b.get("sig")
	if _, err := cms.Verify(sig, nil, 1<<20); err == nil {
		t.Error("something else than mail is taken for mail")
	}
	data, other := []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1}, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 9}
	if got := verified(t, bytes.Replace(sig, other, data, 1), "").Signatures[0].Status; got != cms.SignatureInvalid {
		t.Errorf("the content type was changed, and the signature is %s", got)
	}
}

// TestTheCertificateIsSigned puts a certificate with the same key, issuer and
// number, but another name, in the place of the signer's (RFC 5035).
func TestTheCertificateIsSigned(t *testing.T) {
	_, rootKey, err := ed25519.GenerateKey(rand.Reader)
	must(err)
	root := certify(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Root"}, IsCA: true, BasicConstraintsValid: true}, nil, rootKey.Public(), rootKey)
	key := ourSigners().of["P-256"].Key
	named := func(name string) *x509.Certificate {
		return certify(&x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}}, root, key.Public(), rootKey)
	}
	mine, theirs := named("Dr Who"), named("Dr Foo")
	der, err := cms.SignOpaque(&cms.Signer{Key: key, Certificate: mine}, []byte(signedText), signedAt)
	if err != nil {
		t.Fatal(err)
	}
	if got := verified(t, der, "").Signatures[0].Status; got != cms.SignatureValid {
		t.Fatal(got)
	}
	swapped := bytes.Replace(der, mine.Raw, theirs.Raw, 1)
	if got := verified(t, swapped, "").Signatures[0].Status; got != cms.SignatureInvalid {
		t.Errorf("the certificate was exchanged, and the signature is %s", got)
	}
}

// TestTheOrderOfAttributesDoesNotMatter: a SET OF has none, and some programs
// send it in another order than the one they signed.
func TestTheOrderOfAttributesDoesNotMatter(t *testing.T) {
	der, err := cms.SignOpaque(ourSigners().of["RSA"], []byte(signedText), signedAt)
	if err != nil {
		t.Fatal(err)
	}
	reordered := changeAttributes(t, der, slices.Reverse)
	if bytes.Equal(reordered, der) {
		t.Fatal("nothing was changed")
	}
	if got := verified(t, reordered, "").Signatures[0].Status; got != cms.SignatureValid {
		t.Errorf("in another order it is %s", got)
	}
	for name, change := range map[string]func([]asn1.RawValue){
		"one in the place of another": func(all []asn1.RawValue) { all[0] = all[1] },
		"no content type":             func(all []asn1.RawValue) { all[0].Bytes = bytes.Clone(all[0].Bytes); all[0].Bytes[10]++ },
	} {
		if got := verified(t, changeAttributes(t, der, change), "").Signatures[0].Status; got != cms.SignatureInvalid {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func changeAttributes(t *testing.T, der []byte, change func([]asn1.RawValue)) []byte {
	t.Helper()
	var info plainInfo
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		t.Fatal(err)
	}
	raw := &info.Data.Signers[0].Attributes
	var all []asn1.RawValue
	for rest := raw.Bytes; len(rest) > 0; {
		var one asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &one); err != nil {
			t.Fatal(err)
		}
		one.FullBytes = nil
		all = append(all, one)
	}
	change(all)
	raw.Bytes, raw.FullBytes = nil, nil
	for _, one := range all {
		b, err := asn1.Marshal(one)
		if err != nil {
			t.Fatal(err)
		}
		raw.Bytes = append(raw.Bytes, b...)
	}
	out, err := asn1.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
