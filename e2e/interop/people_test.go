package interop

import (
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
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/openpgp"
)

// person has a certificate.
type person struct {
	key  crypto.PrivateKey
	cert *x509.Certificate
	// oaep is the same certificate for a key that is for OAEP alone (RFC 4055
	// section 4.1), by which Sealpost knows to use it.
	oaep *x509.Certificate
}

func (p person) signer(pss bool) *cms.Signer {
	return &cms.Signer{Key: p.key.(crypto.Signer), Certificate: p.cert, PSS: pss}
}

func (p person) recipient() cms.Recipient { return cms.Recipient{Key: p.key, Certificate: p.cert} }

func (p person) certPEM() []byte { return certPEM(p.cert) }

func (p person) keyPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// people are all those who write to each other, by address, and the authority
// that certifies them.
type people struct {
	rootKey *rsa.PrivateKey
	root    *x509.Certificate
	persons map[string]person
	secrets map[string]*openpgp.Secret // of this organization, and those that a program cannot make itself
	serial  int64
}

// everybody is made once: RSA keys take their time.
var everybody = sync.OnceValues(func() (*people, error) {
	p := &people{persons: map[string]person{}, secrets: map[string]*openpgp.Secret{}, serial: 100}
	if err := p.found(); err != nil {
		return nil, err
	}
	for _, domain := range []string{"@clinic.example", "@home.example"} {
		for _, kind := range []string{"rsa", "p256", "p384", "x25519", "ed25519"} {
			if err := p.certify(kind, kind+domain); err != nil {
				return nil, fmt.Errorf("%s: %w", kind, err)
			}
		}
		for kind, profile := range map[string]openpgp.Profile{
			"rsa3072": openpgp.V4RSA3072, "cv25519": openpgp.V4Curve25519, "p256": openpgp.V4NISTP256, "v6": openpgp.V6Curve25519,
		} {
			if kind == "rsa3072" && domain == "@home.example" {
				continue // all programs make these themselves
			}
			at := time.Now().Add(-time.Hour)
			s, err := openpgp.Generate(profile, "Somebody", address(kind+domain), at, at.Add(1000*time.Hour))
			if err != nil {
				return nil, err
			}
			p.secrets[kind+domain] = s
		}
	}
	return p, p.addP384()
})

func (p *people) found() (err error) {
	if p.rootKey, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Interoperability CA", Organization: []string{"Sealpost tests"}},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &p.rootKey.PublicKey, p.rootKey)
	if err != nil {
		return err
	}
	p.root, err = x509.ParseCertificate(der)
	return err
}

// copied is for a program that makes its own keys.
func (p *people) copied() *people {
	own := *p
	own.persons = maps.Clone(p.persons)
	own.serial += 1000
	return &own
}

// certify makes a key with a certificate.
func (p *people) certify(kind, address string) (err error) {
	var own person
	switch kind {
	case "rsa":
		own.key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "p256":
		own.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "p384":
		own.key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ed25519":
		_, own.key, err = ed25519.GenerateKey(rand.Reader)
	case "x25519":
		var x *ecdh.PrivateKey
		if x, err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
			return err
		}
		own.key = x
		// x509.CreateCertificate does not know X25519; issue puts it right.
		return p.issue(kind, address, own, ed25519.PublicKey(x.PublicKey().Bytes()))
	}
	if err != nil {
		return err
	}
	return p.issue(kind, address, own, own.key.(crypto.Signer).Public())
}

var usages = map[string]x509.KeyUsage{
	"rsa":     x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	"p256":    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement,
	"p384":    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement,
	"ed25519": x509.KeyUsageDigitalSignature,
	"x25519":  x509.KeyUsageKeyAgreement,
}

// issue gives a person a certificate.
func (p *people) issue(kind, address string, own person, public crypto.PublicKey) error {
	p.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(p.serial), Subject: pkix.Name{CommonName: address},
		NotBefore: p.root.NotBefore, NotAfter: p.root.NotAfter, KeyUsage: usages[kind], BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}, EmailAddresses: []string{address},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, p.root, public, p.rootKey)
	if err != nil {
		return err
	}
	if own.cert, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	switch kind {
	case "x25519":
		own.cert, err = p.rekeyed(own.cert, asn1.ObjectIdentifier{1, 3, 101, 110})
	case "rsa":
		own.oaep, err = p.rekeyed(own.cert, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7})
	}
	p.persons[address] = own
	return err
}

// tbs is what is signed of a certificate (RFC 5280 section 4.1).
type tbs struct {
	Version, Serial, Algorithm, Issuer, Validity, Subject asn1.RawValue
	Key                                                   struct {
		Algorithm pkix.AlgorithmIdentifier
		Bits      asn1.BitString
	}
	Extensions asn1.RawValue
}

// rekeyed gives the same certificate, with another identifier of the key.
func (p *people) rekeyed(c *x509.Certificate, oid asn1.ObjectIdentifier) (*x509.Certificate, error) {
	var t tbs
	if _, err := asn1.Unmarshal(c.RawTBSCertificate, &t); err != nil {
		return nil, err
	}
	t.Key.Algorithm = pkix.AlgorithmIdentifier{Algorithm: oid}
	body, err := asn1.Marshal(t)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(body)
	signature, err := rsa.SignPKCS1v15(nil, p.rootKey, crypto.SHA256, digest[:])
	if err != nil {
		return nil, err
	}
	der, err := asn1.Marshal(struct {
		TBS, Algorithm asn1.RawValue
		Signature      asn1.BitString
	}{asn1.RawValue{FullBytes: body}, t.Algorithm, asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}})
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
