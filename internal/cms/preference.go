package cms

import (
	"bytes"
	"crypto/x509"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// preference is SMIMEEncryptionKeyPreference (RFC 8551 section 2.5.3). One that
// cannot be read names nothing.
type preference struct{ certificateName }

func readPreference(v cryptobyte.String) *preference {
	p := &preference{}
	var choice cryptobyte.String
	var tag cbasn1.Tag
	if !v.ReadAnyASN1(&choice, &tag) || !v.Empty() {
		return p
	}
	switch tag {
	case contextTag(0):
		p.readIssuerAndSerial(choice)
	case contextTag(1):
		var id cryptobyte.String
		if choice.ReadASN1(&id, cbasn1.OCTET_STRING) {
			p.keyID = id
		}
	case cbasn1.Tag(2).ContextSpecific():
		p.keyID = choice
	}
	return p
}

// encryption is the certificate that a signer is to be written to with (RFC
// 8551 section 2.5.3.1): the preferred one; without a preference that of the
// signature, or where it is for signatures alone another one of its subject.
func (sd *signedData) encryption(signer *x509.Certificate, p *preference) *x509.Certificate {
	var fits func(*x509.Certificate) bool
	switch {
	case p != nil:
		fits = p.names
	case forKeys(signer):
		return signer
	default:
		fits = func(c *x509.Certificate) bool {
			return bytes.Equal(c.RawSubject, signer.RawSubject) && forKeys(c) && !c.IsCA
		}
	}
	if i := slices.IndexFunc(sd.certificates, fits); i >= 0 {
		return sd.certificates[i]
	}
	return nil
}

// forKeys tells whether content keys may be encrypted or agreed on with it (RFC
// 8550 section 4.4.2).
func forKeys(c *x509.Certificate) bool {
	return c.KeyUsage == 0 || c.KeyUsage&(x509.KeyUsageKeyEncipherment|x509.KeyUsageKeyAgreement) != 0
}
