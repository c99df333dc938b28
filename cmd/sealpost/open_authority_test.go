package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/seal"
)

// TestOpenHoldsAuthoritiesToTheirDomains: an authority that may certify one
// domain proves no sender of another, wherever the certificate names it.
func TestOpenHoldsAuthoritiesToTheirDomains(t *testing.T) {
	now := time.Now()
	issue := func(c, by *x509.Certificate, byKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if by == nil {
			by, byKey = c, key
		}
		c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(now.UnixNano()), now.Add(-time.Hour), now.Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, c, by, key.Public(), byKey)
		if err != nil {
			t.Fatal(err)
		}
		if c, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		return c, key
	}
	authority := func(domains ...string) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: "Authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, PermittedEmailAddresses: domains}
	}
	inSubject := pkix.Name{CommonName: "Chief", ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, Value: "chief@hospital.example"}}}
	for name, tc := range map[string]struct {
		authority *x509.Certificate
		leaf      x509.Certificate
		code      int
		says      string
	}{
		"any domain":                {authority(), x509.Certificate{Subject: inSubject}, 0, "(signed)"},
		"the domain":                {authority("hospital.example"), x509.Certificate{EmailAddresses: []string{"chief@hospital.example"}}, 0, "(signed)"},
		"another domain":            {authority("evil.example"), x509.Certificate{EmailAddresses: []string{"chief@hospital.example"}}, 3, "(certificate_refused)"},
		"another domain, unchecked": {authority("evil.example"), x509.Certificate{Subject: inSubject}, 3, "(certificate_refused)"},
		"another sender":            {authority(), x509.Certificate{EmailAddresses: []string{"other@hospital.example"}}, 3, "(signer_differs)"},
	} {
		root, rootKey := issue(tc.authority, nil, nil)
		leaf, key := issue(&tc.leaf, root, rootKey)
		text := "From: chief@hospital.example\r\nTo: bob@clinic.example\r\nSubject: x\r\nDate: " + mail.FormatDate(now) + "\r\n\r\nx\r\n"
		given := seal.Body{Size: int64(len(text)), Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }}
		signed, err := seal.SignedBody(t.Context(), given, nil, &cms.Signer{Key: key, Certificate: leaf}, now)
		if err != nil {
			t.Fatal(err)
		}
		r, err := signed.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, out, said := opens(t, string(raw), "--ca-file", file, "-"); code != tc.code || !strings.Contains(out, tc.says) {
			t.Errorf("%s: %d %s\n%s", name, code, said, out)
		}
	}
}
