package cms

import (
	"crypto"
	"crypto/fips140"
	"crypto/x509"
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// maxBundle bounds a file of certificates.
const maxBundle = 4 << 20

// Certificates gives those of a SignedData, as in a degenerate one that has
// nothing else (RFC 8551 section 3.8). Nothing about them is proved.
func Certificates(pkcs7 []byte) ([]*x509.Certificate, error) {
	sd, err := readSigned(pkcs7, maxBundle)
	if err != nil {
		return nil, err
	}
	return sd.certificates, nil
}

// PublicKey gives the key of a certificate, also where crypto/x509 leaves it
// out: X25519 (RFC 8410) and RSA keys that are for OAEP or PSS alone (RFC
// 4055). It is nil for a key of another kind.
func PublicKey(c *x509.Certificate) crypto.PublicKey {
	if c.PublicKey != nil {
		return c.PublicKey
	}
	in := cryptobyte.String(c.RawSubjectPublicKeyInfo)
	var spki cryptobyte.String
	var key asn1.BitString
	if !in.ReadASN1(&spki, cbasn1.SEQUENCE) {
		return nil
	}
	a, ok := readAlgorithm(&spki)
	if !ok || !spki.ReadASN1BitString(&key) || !spki.Empty() {
		return nil
	}
	if a.oid.Equal(oidSigPSS) || a.oid.Equal(oidSigOAEP) {
		if pub, err := x509.ParsePKCS1PublicKey(key.RightAlign()); err == nil {
			return pub
		}
		return nil
	}
	var pub crypto.PublicKey
	// FIPS 140-3 has no X25519, and its strict mode does not even read such a
	// key; whether to use it is for others to say.
	fips140.WithoutEnforcement(func() {
		if k, err := x509.ParsePKIXPublicKey(c.RawSubjectPublicKeyInfo); err == nil {
			pub = k
		}
	})
	return pub
}
