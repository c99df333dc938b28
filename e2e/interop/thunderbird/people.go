package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
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
	key  crypto.Signer
	cert *x509.Certificate
}

func (i identity) signer(pss bool) *cms.Signer {
	return &cms.Signer{Key: i.key, Certificate: i.cert, PSS: pss}
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
)

var smimeKinds = []string{rsa2048, rsa3072, p256, p384}

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
	for _, kind := range smimeKinds {
		if p.adaSMIME[kind], err = issue(kind, sender, "Ada"); err != nil {
			return err
		}
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
	usage := x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	if kind == p256 || kind == p384 {
		usage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement
	}
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name + " " + kind}, NotBefore: from, NotAfter: to, BasicConstraintsValid: true,
		KeyUsage: usage, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}, EmailAddresses: []string{address},
	}
}

// certified makes a key and its certificate; no issuer: it is its own.
func certified(kind string, template *x509.Certificate, issuer *identity) (i identity, err error) {
	switch kind {
	case rsa2048:
		i.key, err = rsa.GenerateKey(rand.Reader, 2048)
	case rsa3072:
		i.key, err = rsa.GenerateKey(rand.Reader, 3072)
	case p256:
		i.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case p384:
		i.key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	default:
		err = fmt.Errorf("no kind of key: %s", kind)
	}
	if err != nil {
		return i, err
	}
	by, parent := i.key, template
	if issuer != nil {
		by, parent = issuer.key, issuer.cert
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, i.key.Public(), by)
	if err != nil {
		return i, err
	}
	i.cert, err = x509.ParseCertificate(der)
	return i, err
}

// password of the files that Thunderbird takes the keys from.
const password = "correct horse"

func (i identity) pkcs12() ([]byte, error) {
	return pkcs12.Modern2023.Encode(i.key, i.cert, nil, password)
}
