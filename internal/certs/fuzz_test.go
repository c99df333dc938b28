package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
)

// FuzzRevocation reads what servers send about certificates. Nothing that this
// issuer did not sign says anything.
func FuzzRevocation(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Sub"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now, NotAfter: now.Add(time.Hour), CRLDistributionPoints: []string{"http://127.0.0.1/x"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		f.Fatal(err)
	}
	issuer, err := x509.ParseCertificate(der)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, ok := readOCSP(data, issuer, issuer, now, now); ok {
			t.Error("an OCSP answer of nobody is believed")
		}
		if _, err := readCRL(data, issuer, now, now); err == nil {
			t.Error("a list of nobody is believed")
		}
		// What is behind the signature is read too, as an issuer could write it.
		if parts, err := splitCRL(data); err == nil {
			(&crl{revoked: parts.revoked}).says(issuer)
			if l, err := x509.ParseRevocationList(parts.bare); err == nil {
				if s, err := readScope(l); err == nil {
					s.covers(issuer)
				}
			}
		}
		_, _ = readIssuingPoint(data)
		_ = fullName(cryptobyte.String(data))
	})
}
