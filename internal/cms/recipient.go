package cms

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/sealpost/sealpost/internal/fault"
)

// WrapOptions say how a recipient's key is used.
type WrapOptions struct {
	OAEP bool // RSA: OAEP with SHA-256 instead of PKCS #1 v1.5
}

// Bounds of RSA keys in bits: NIST SP 800-57 below, the time it takes above.
const (
	leastRSA = 2048
	mostRSA  = 16384
)

var (
	errWeakRSA    = fault.New(fault.Refused, "weak_algorithm", "The certificate's RSA key is shorter than 2048 bits.")
	errWeakCurve  = fault.New(fault.Refused, "weak_algorithm", "The certificate's key is on a curve that is too weak.")
	errWeakDSA    = fault.New(fault.Refused, "weak_algorithm", "The certificate has a DSA key, which is weak and cannot encrypt.")
	errLongRSA    = fault.New(fault.Refused, "unsupported", "The certificate's RSA key is too long.")
	errNotForThis = fault.New(fault.Refused, "unsupported", "The certificate's key is of a kind that cannot encrypt, or that is not supported.")
)

// recipientKey is how a content key is wrapped for a certificate: RSA key
// transport, or key agreement on a curve.
type recipientKey struct {
	rsa  *rsa.PublicKey
	oaep *oaep // or nil: PKCS #1 v1.5
	agree
}

// agree is a way of key agreement that is used for sealing.
type agree struct {
	name       string
	key        *ecdh.PublicKey
	originator []byte // AlgorithmIdentifier of the ephemeral key
	scheme     *derivation
}

// RecipientInfo is the content key wrapped for one recipient. A certificate
// whose key is too weak or of a wrong kind is refused.
func (c *Content) RecipientInfo(cert *x509.Certificate, o WrapOptions) ([]byte, error) {
	to, err := keyOf(cert, o)
	if err != nil {
		return nil, err
	}
	if to.rsa != nil {
		return c.transport(cert, to)
	}
	return c.agreement(cert, to.agree)
}

// Algorithms names what protects the content and its key.
func (c *Content) Algorithms(cert *x509.Certificate, o WrapOptions) string {
	to, err := keyOf(cert, o)
	if err != nil {
		return c.cipher.String()
	}
	return to.String() + ", " + c.cipher.String()
}

func (k recipientKey) String() string {
	switch {
	case k.rsa == nil:
		return k.name
	case k.oaep != nil:
		return fmt.Sprintf("RSA-%d %s", k.rsa.N.BitLen(), k.oaep)
	}
	return fmt.Sprintf("RSA-%d PKCS#1 v1.5", k.rsa.N.BitLen())
}

// keyOf judges a certificate's key.
func keyOf(cert *x509.Certificate, o WrapOptions) (recipientKey, error) {
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		to := recipientKey{rsa: key}
		if o.OAEP {
			to.oaep = &oaep{hash: crypto.SHA256, mgf: crypto.SHA256}
		}
		return to, rsaStrength(key)
	case *ecdsa.PublicKey:
		return curveOf(key)
	case *ecdh.PublicKey:
		return x25519(key)
	case nil:
		// crypto/x509 reads no key that cannot sign.
		return keyAlone(cert.RawSubjectPublicKeyInfo)
	}
	if cert.PublicKeyAlgorithm == x509.DSA {
		return recipientKey{}, errWeakDSA
	}
	return recipientKey{}, errNotForThis
}

func rsaStrength(key *rsa.PublicKey) error {
	switch bits := key.N.BitLen(); {
	case bits < leastRSA:
		return errWeakRSA
	case bits > mostRSA:
		return errLongRSA
	}
	return nil
}

// curveOf picks hash functions as strong as the curve (RFC 5753 section 7.1).
func curveOf(key *ecdsa.PublicKey) (recipientKey, error) {
	var a agree
	switch key.Curve {
	case elliptic.P256():
		a = agree{name: "ECDH P-256", scheme: kdfSHA256}
	case elliptic.P384():
		a = agree{name: "ECDH P-384", scheme: kdfSHA384}
	case elliptic.P521():
		a = agree{name: "ECDH P-521", scheme: kdfSHA512}
	default:
		return recipientKey{}, errWeakCurve
	}
	var err error
	if a.key, err = key.ECDH(); err != nil {
		return recipientKey{}, errNotForThis
	}
	a.originator = algorithmDER(oidECPublicKey)
	return recipientKey{agree: a}, nil
}

func x25519(key *ecdh.PublicKey) (recipientKey, error) {
	if key.Curve() != ecdh.X25519() {
		return recipientKey{}, errNotForThis
	}
	return recipientKey{agree: agree{"X25519", key, algorithmDER(oidX25519), kdfHKDFSHA256}}, nil
}

// keyAlone reads a key without its certificate.
func keyAlone(spki []byte) (recipientKey, error) {
	var key any
	fips140.WithoutEnforcement(func() { key, _ = x509.ParsePKIXPublicKey(spki) }) // see ephemeral
	if x, ok := key.(*ecdh.PublicKey); ok {
		return x25519(x)
	}
	return oaepOnly(spki)
}

// oaepOnly reads the key of a certificate whose key is for OAEP alone
// (RFC 4055 section 4), which crypto/x509 does not know. Its parameters, if
// there are any, bind the sender.
func oaepOnly(spki []byte) (recipientKey, error) {
	var info, bits cryptobyte.String
	s := cryptobyte.String(spki)
	if !s.ReadASN1(&info, tags.SEQUENCE) {
		return recipientKey{}, errNotForThis
	}
	oid, parameters, _, ok := readIdentifier(&info)
	if !ok || !oid.Equal(oidRSAESOAEP) || !info.ReadASN1BitStringAsBytes((*[]byte)(&bits)) {
		return recipientKey{}, errNotForThis
	}
	key, err := x509.ParsePKCS1PublicKey(bits)
	if err != nil {
		return recipientKey{}, errNotForThis
	}
	to := recipientKey{rsa: key, oaep: &oaep{hash: crypto.SHA256, mgf: crypto.SHA256}}
	if len(parameters) > 0 {
		to.oaep, ok = readOAEP(parameters)
		if !ok || to.oaep.hash == crypto.SHA1 || to.oaep.mgf == crypto.SHA1 || len(to.oaep.label) > 0 {
			return recipientKey{}, errNotForThis
		}
	}
	return to, rsaStrength(key)
}

// issuerAndSerial names a certificate (RFC 5652 section 10.2.4).
func issuerAndSerial(cert *x509.Certificate) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(cert.RawIssuer)
		b.AddASN1BigInt(cert.SerialNumber)
	})
	return b.BytesOrPanic()
}

// transport makes a KeyTransRecipientInfo (RFC 5652 section 6.2.1).
func (c *Content) transport(cert *x509.Certificate, to recipientKey) ([]byte, error) {
	var wrapped, identifier []byte
	var err error
	if to.oaep != nil {
		identifier = algorithmDER(oidRSAESOAEP, to.oaep.der()...)
		wrapped, err = rsa.EncryptOAEPWithOptions(rand.Reader, to.rsa, c.key, to.oaep.options())
	} else {
		identifier = algorithmDER(oidRSA, byte(tags.NULL), 0)
		// FIPS 140-3 approves PKCS #1 v1.5 for signatures alone. Most S/MIME
		// programs read nothing else.
		fips140.WithoutEnforcement(func() {
			//lint:ignore SA1019 what is dangerous is to decrypt it where the result can be seen
			wrapped, err = rsa.EncryptPKCS1v15(rand.Reader, to.rsa, c.key)
		})
	}
	if err != nil {
		return nil, errNotForThis.Because(err)
	}
	body := append([]byte{byte(tags.INTEGER), 1, 0}, issuerAndSerial(cert)...)
	body = append(body, identifier...)
	body = append(appendHeader(body, tags.OCTET_STRING, int64(len(wrapped))), wrapped...)
	return enclose(tags.SEQUENCE, body, 0), nil
}

// agreement makes a KeyAgreeRecipientInfo with an ephemeral key (RFC 5652
// section 6.2.2, RFC 5753 section 3.1, RFC 8418 section 3.1).
func (c *Content) agreement(cert *x509.Certificate, to agree) ([]byte, error) {
	wrapAlgorithm := algorithmDER(oidAES256Wrap)
	public, secret, err := ephemeral(to.key)
	if err != nil {
		return nil, errNotForThis.Because(err)
	}
	kek, err := to.scheme.derive(secret, sharedInfo(wrapAlgorithm, nil, 32), 32)
	if err != nil {
		return nil, fmt.Errorf("cms: derive a key: %w", err)
	}
	wrapped, err := wrapKey(kek, c.key)
	if err != nil {
		return nil, fmt.Errorf("cms: wrap the content key: %w", err)
	}
	var b cryptobyte.Builder
	b.AddASN1(tag1Construct, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(3)
		b.AddASN1(tag0Construct, func(b *cryptobyte.Builder) {
			b.AddASN1(tag1Construct, func(b *cryptobyte.Builder) {
				b.AddBytes(to.originator)
				b.AddASN1BitString(public)
			})
		})
		b.AddBytes(algorithmDER(to.scheme.oid, wrapAlgorithm...))
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddBytes(issuerAndSerial(cert))
				b.AddASN1OctetString(wrapped)
			})
		})
	})
	return b.Bytes()
}

// ephemeral draws a key and agrees on a secret with another's.
func ephemeral(with *ecdh.PublicKey) (public, secret []byte, err error) {
	draw := func() {
		var own *ecdh.PrivateKey
		if own, err = with.Curve().GenerateKey(rand.Reader); err != nil {
			return
		}
		public = own.PublicKey().Bytes()
		secret, err = own.ECDH(with)
	}
	if with.Curve() == ecdh.X25519() {
		// FIPS 140-3 does not approve of X25519, which is what the recipient has.
		fips140.WithoutEnforcement(draw)
		return public, secret, err
	}
	draw()
	return public, secret, err
}
