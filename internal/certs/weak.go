package certs

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/sealpost/sealpost/internal/cms"
)

type extension = pkix.Extension

// Sizes of RSA keys: below the first they can be broken (SP 800-131A), above
// the second one operation takes longer than a message deserves.
const (
	minRSA = 2048
	maxRSA = 8192
)

// use is what a certificate is wanted for.
type use int

const (
	sealing use = iota
	signing
)

// Weak refuses a certificate for reasons that need neither a chain nor the
// network: time, key, the signature on it, what it may be used for.
func Weak(c *x509.Certificate, at time.Time) error { return unfit(c, sealing, at) }

func unfit(c *x509.Certificate, u use, at time.Time) error {
	word := ""
	switch {
	case at.Before(c.NotBefore):
		word = "not_yet_valid"
	case at.After(c.NotAfter):
		word = "expired"
	case weakSignature(c.SignatureAlgorithm):
		word = "weak_signature"
	case len(c.UnhandledCriticalExtensions) > 0:
		word = "unknown_critical"
	default:
		if word = badKey(c, u); word == "" && !usable(c, u) {
			word = "key_usage"
		}
	}
	if word != "" {
		return refuse(word)
	}
	return nil
}

// weakSignature tells those that can be forged (RFC 8551 section 2.2, RFC 8550
// section 4.3).
func weakSignature(a x509.SignatureAlgorithm) bool {
	switch a {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.DSAWithSHA256, x509.ECDSAWithSHA1:
		return true
	}
	return false
}

// badKey is the word for what is wrong with the key, or "".
func badKey(c *x509.Certificate, u use) string {
	if c.PublicKeyAlgorithm == x509.DSA {
		return "weak_algorithm"
	}
	switch k := cms.PublicKey(c).(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSA || bits > maxRSA {
			return "weak_algorithm"
		}
		// RFC 4055 section 1.2: a key for PSS alone or for OAEP alone.
		if kind := keyKind(c); u == sealing && kind.Equal(oidPSS) {
			return "no_encryption_key"
		} else if u == signing && kind.Equal(oidOAEP) {
			return "key_usage"
		}
	case *ecdsa.PublicKey:
		if k.Curve.Params().BitSize < 256 {
			return "weak_algorithm"
		}
	case ed25519.PublicKey:
		if u == sealing {
			return "no_encryption_key"
		}
	case *ecdh.PublicKey:
		if u == signing {
			return "key_usage"
		}
	default:
		return "unsupported"
	}
	return ""
}

var (
	oidPSS  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidOAEP = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}
)

// keyKind is the algorithm of the SubjectPublicKeyInfo.
func keyKind(c *x509.Certificate) (oid asn1.ObjectIdentifier) {
	in := cryptobyte.String(c.RawSubjectPublicKeyInfo)
	var spki, algorithm cryptobyte.String
	if !in.ReadASN1(&spki, cbasn1.SEQUENCE) || !spki.ReadASN1(&algorithm, cbasn1.SEQUENCE) {
		return nil
	}
	algorithm.ReadASN1ObjectIdentifier(&oid)
	return oid
}

// usable looks at the key usage (RFC 8550 section 4.4.2) and the extended one
// (section 4.4.4). An extension that is not there allows everything.
func usable(c *x509.Certificate, u use) bool {
	want := x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
	if u == sealing {
		want = x509.KeyUsageKeyAgreement
		if _, ok := cms.PublicKey(c).(*rsa.PublicKey); ok {
			want = x509.KeyUsageKeyEncipherment
		}
	}
	if c.KeyUsage != 0 && c.KeyUsage&want == 0 {
		return false
	}
	return len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 ||
		slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageEmailProtection) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
}
