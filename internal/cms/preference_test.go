package cms

import (
	"crypto/x509"
	"math/big"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

func TestWhatASignerWantsToBeWrittenToWith(t *testing.T) {
	issuer, jane, other := []byte{0x30, 0}, []byte{0x30, 2, 1, 1}, []byte{0x30, 2, 1, 2}
	certificate := func(serial byte, subject []byte, use x509.KeyUsage) *x509.Certificate {
		return &x509.Certificate{RawIssuer: issuer, SerialNumber: big.NewInt(int64(serial)), RawSubject: subject, SubjectKeyId: []byte{serial, serial}, KeyUsage: use}
	}
	signing := certificate(1, jane, x509.KeyUsageDigitalSignature)
	agrees := certificate(2, jane, x509.KeyUsageKeyAgreement)
	foreign := certificate(3, other, x509.KeyUsageKeyEncipherment)
	both := certificate(4, other, 0)
	nameless := &x509.Certificate{RawIssuer: issuer, SerialNumber: big.NewInt(5), RawSubject: other}
	sd := &signedData{certificates: []*x509.Certificate{nameless, signing, foreign, agrees, both}}

	choice := func(tag cbasn1.Tag, content ...byte) []byte {
		var b cryptobyte.Builder
		b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(content) })
		return b.BytesOrPanic()
	}
	for name, tc := range map[string]struct {
		signer *x509.Certificate
		prefer []byte // nil: nothing
		want   *x509.Certificate
	}{
		"that of the signature":           {both, nil, both},
		"another of the same subject":     {signing, nil, agrees},
		"by issuer and serial number":     {both, choice(contextTag(0), 0x30, 0, 2, 1, 2), agrees},
		"of another subject":              {both, choice(contextTag(0), 0x30, 0, 2, 1, 3), foreign},
		"by the key, as a recipient":      {both, choice(contextTag(1), 4, 2, 3, 3), foreign},
		"by the key":                      {both, choice(cbasn1.Tag(2).ContextSpecific(), 2, 2), agrees},
		"one that is not there":           {both, choice(contextTag(0), 0x30, 0, 2, 1, 9), nil},
		"an empty key identifier":         {both, choice(cbasn1.Tag(2).ContextSpecific()), nil},
		"more than issuer and serial":     {both, choice(contextTag(0), 0x30, 0, 2, 1, 2, 5, 0), nil},
		"of no kind that is known":        {both, choice(contextTag(7), 2, 2), nil},
		"something behind":                {both, append(choice(contextTag(0), 0x30, 0, 2, 1, 2), 5, 0), nil},
		"nothing in it":                   {both, []byte{}, nil},
		"an issuer from another standard": {both, choice(contextTag(0), 0x31, 0, 2, 1, 2), nil},
	} {
		var p *preference
		if tc.prefer != nil {
			p = readPreference(tc.prefer)
		}
		if got := sd.encryption(tc.signer, p); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
