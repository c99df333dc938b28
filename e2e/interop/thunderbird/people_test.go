//go:build thunderbird

package thunderbird

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
)

const (
	sender    = "ada@clinic.example"
	recipient = "pat@home.example"
)

// identity is a key with its certificate.
type identity struct {
	key  crypto.PrivateKey // a crypto.Signer, but for X25519
	cert *x509.Certificate
}

func (i identity) signer(pss bool) *cms.Signer {
	return &cms.Signer{Key: i.key.(crypto.Signer), Certificate: i.cert, PSS: pss}
}

// people are the sender Ada and the recipient Pat, with keys of each kind.
type people struct {
	ada, pat mail.Address
	at       time.Time // now, in whole seconds

	adaPGP    *openpgp.Secret
	patPGP    map[string]*openpgp.Secret
	stranger  *openpgp.Secret // Thunderbird does not know this one
	authority identity
	unknown   identity // certified by nobody
	adaSMIME  map[string]identity
	patSMIME  map[string]identity
}

// kinds of S/MIME keys.
const (
	rsa2048 = "RSA-2048"
	rsa3072 = "RSA-3072"
	p256    = "P-256"
	p384    = "P-384"
	ed      = "Ed25519"
	x       = "X25519"
)

// kinds of OpenPGP keys.
var profiles = map[string]openpgp.Profile{
	"v4 Curve25519": openpgp.V4Curve25519, "v4 RSA-3072": openpgp.V4RSA3072,
	"v4 P-256": openpgp.V4NISTP256, "v6 Curve25519": openpgp.V6Curve25519,
}

func newPeople(now time.Time) (*people, error) {
	p := &people{at: now.Truncate(time.Second), patPGP: map[string]*openpgp.Secret{}, adaSMIME: map[string]identity{}, patSMIME: map[string]identity{}}
	var err, more error
	p.ada, err = mail.ParseAddress(sender)
	p.pat, more = mail.ParseAddress(recipient)
	if err = errors.Join(err, more); err != nil {
		return nil, err
	}
	from, to := p.at.Add(-time.Hour), p.at.AddDate(1, 0, 0)
	if p.adaPGP, err = openpgp.Generate(openpgp.V4Curve25519, "Ada", p.ada, from, to); err != nil {
		return nil, err
	}
	if p.stranger, err = openpgp.Generate(openpgp.V4Curve25519, "Pat", p.pat, from, to); err != nil {
		return nil, err
	}
	for name, profile := range profiles {
		if p.patPGP[name], err = openpgp.Generate(profile, "Pat", p.pat, from, to); err != nil {
			return nil, err
		}
	}
	return p, p.certify(from, to)
}

// certify makes an authority and what it certifies.
func (p *people) certify(from, to time.Time) (err error) {
	if p.authority, err = certified(p256, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Mail Test CA", Organization: []string{"Example"}},
		NotBefore: from, NotAfter: to, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, nil); err != nil {
		return err
	}
	serial := int64(1)
	issue := func(kind, address, name string) (identity, error) {
		serial++
		return certified(kind, certificate(serial, kind, address, name, from, to), &p.authority)
	}
	for _, kind := range []string{rsa2048, rsa3072, p256, p384, ed} {
		if p.adaSMIME[kind], err = issue(kind, sender, "Ada"); err != nil {
			return err
		}
	}
	for _, kind := range []string{rsa2048, rsa3072, p256, p384, x} {
		if p.patSMIME[kind], err = issue(kind, recipient, "Pat"); err != nil {
			return err
		}
	}
	if p.unknown, err = certified(rsa2048, certificate(serial+1, rsa2048, sender, "Ada", from, to), nil); err != nil {
		return err
	}
	return nil
}

// certificate is what an authority for mail writes: for a key's own use.
func certificate(serial int64, kind, address, name string, from, to time.Time) *x509.Certificate {
	usage := x509.KeyUsageDigitalSignature
	switch kind {
	case rsa2048, rsa3072:
		usage |= x509.KeyUsageKeyEncipherment
	case p256, p384:
		usage |= x509.KeyUsageKeyAgreement
	case x:
		usage = x509.KeyUsageKeyAgreement
	}
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name + " " + kind}, NotBefore: from, NotAfter: to, BasicConstraintsValid: true,
		KeyUsage: usage, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}, EmailAddresses: []string{address},
	}
}

// certified makes a key and its certificate; no issuer: it is its own.
func certified(kind string, template *x509.Certificate, issuer *identity) (i identity, err error) {
	var key crypto.Signer
	switch kind {
	case rsa2048:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case rsa3072:
		key, err = rsa.GenerateKey(rand.Reader, 3072)
	case p256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case p384:
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case ed:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case x:
		return agreeing(template, issuer)
	default:
		err = fmt.Errorf("no kind of key: %s", kind)
	}
	if err != nil {
		return i, err
	}
	by, parent := key, template
	if issuer != nil {
		by, parent = issuer.key.(crypto.Signer), issuer.cert
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		return i, err
	}
	cert, err := x509.ParseCertificate(der)
	return identity{key, cert}, err
}

// agreeing makes a certificate for X25519, which crypto/x509 does not: that
// for Ed25519 differs in an octet of the algorithm (RFC 8410 section 3) and
// is signed again.
func agreeing(template *x509.Certificate, issuer *identity) (i identity, err error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return i, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.cert, ed25519.PublicKey(key.PublicKey().Bytes()), issuer.key)
	if err != nil {
		return i, err
	}
	var parts struct {
		TBS       asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &parts); err != nil {
		return i, err
	}
	tbs := bytes.Replace(parts.TBS.FullBytes, []byte{6, 3, 43, 101, 112}, []byte{6, 3, 43, 101, 110}, 1)
	digest := sha256.Sum256(tbs)
	signature, err := issuer.key.(crypto.Signer).Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return i, err
	}
	parts.TBS = asn1.RawValue{FullBytes: tbs}
	parts.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	if der, err = asn1.Marshal(parts); err != nil {
		return i, err
	}
	cert, err := x509.ParseCertificate(der)
	return identity{key, cert}, err
}

// password of the files that Thunderbird takes the keys from.
const password = "correct horse"

func (i identity) pkcs12() ([]byte, error) {
	return pkcs12.Modern2023.Encode(i.key, i.cert, nil, password)
}
