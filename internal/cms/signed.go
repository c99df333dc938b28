package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Signer is an own key with its certificate and the certificates that lead
// from it towards a root; all of them are put into the message.
type Signer struct {
	Key         crypto.Signer
	Certificate *x509.Certificate
	Chain       []*x509.Certificate
	PSS         bool // RSASSA-PSS (RFC 4056) in place of PKCS #1 v1.5
}

// Sign makes a detached SignedData for multipart/signed. Of the content only
// the digest is taken, as it is read; its line ends are the caller's business.
func Sign(s *Signer, content io.Reader, at time.Time) (der []byte, micalg string, err error) {
	m, err := s.method()
	if err != nil {
		return nil, "", err
	}
	h := m.digest.hash.New()
	if _, err := io.Copy(h, content); err != nil {
		return nil, "", fmt.Errorf("read what is to be signed: %w", err)
	}
	der, err = s.assemble(m, h.Sum(nil), nil, at)
	return der, m.digest.micalg, err
}

// SignOpaque makes a SignedData that holds the content.
func SignOpaque(s *Signer, content []byte, at time.Time) ([]byte, error) {
	m, err := s.method()
	if err != nil {
		return nil, err
	}
	h := m.digest.hash.New()
	h.Write(content)
	if content == nil {
		content = []byte{}
	}
	return s.assemble(m, h.Sum(nil), content, at)
}

// method is how one key signs.
type method struct {
	digest    digest
	algorithm func(*cryptobyte.Builder)
	opts      crypto.SignerOpts
	whole     bool // the signature takes octets, not their digest
}

func (s *Signer) method() (method, error) {
	if s.Key == nil || s.Certificate == nil {
		return method{}, errors.New("cms: a signer without key or certificate")
	}
	own, ok := PublicKey(s.Certificate).(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !own.Equal(s.Key.Public()) {
		return method{}, errors.New("cms: the signer's key does not belong to its certificate")
	}
	switch pub := s.Key.Public().(type) {
	case *rsa.PublicKey:
		return s.rsaMethod(), nil
	case *ecdsa.PublicKey:
		return ecdsaMethod(pub)
	case ed25519.PublicKey:
		// RFC 8419 section 3.1: with signed attributes the digest is SHA-512.
		return method{digestByHash(crypto.SHA512), func(b *cryptobyte.Builder) {
			addAlgorithm(b, oidSigEd25519, nil)
		}, crypto.Hash(0), true}, nil
	}
	return method{}, errors.New("cms: a signer's key of a kind that cannot sign")
}

func (s *Signer) rsaMethod() method {
	d := digestByHash(crypto.SHA256)
	if !s.PSS && s.Certificate.PublicKey != nil {
		return method{d, func(b *cryptobyte.Builder) { addAlgorithm(b, oidSigRSA, addNULL) }, d.hash, false}
	}
	// A key that its certificate marks as id-RSASSA-PSS, which crypto/x509
	// does not know, may sign in no other way (RFC 4055 section 1.2).
	hash := func(b *cryptobyte.Builder) { addAlgorithm(b, d.oid, addNULL) }
	params := func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(contextTag(0), hash)
			b.AddASN1(contextTag(1), func(b *cryptobyte.Builder) { addAlgorithm(b, oidSigMGF1, hash) })
			b.AddASN1(contextTag(2), func(b *cryptobyte.Builder) { b.AddASN1Int64(int64(d.hash.Size())) })
		})
	}
	return method{d, func(b *cryptobyte.Builder) { addAlgorithm(b, oidSigPSS, params) },
		&rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: d.hash}, false}
}

// ecdsaMethod takes the hash that is as strong as the curve (RFC 5753 section
// 7.1.3 by way of RFC 8551 section 2.2).
func ecdsaMethod(pub *ecdsa.PublicKey) (method, error) {
	var hash crypto.Hash
	switch bits := pub.Curve.Params().BitSize; bits {
	case 256:
		hash = crypto.SHA256
	case 384:
		hash = crypto.SHA384
	case 521:
		hash = crypto.SHA512
	default:
		return method{}, errors.New("cms: a signer's key on a curve that is too small")
	}
	for _, a := range signatureOIDs {
		if a.scheme == ecdsaDER && a.hash == hash {
			return method{digestByHash(hash), func(b *cryptobyte.Builder) { addAlgorithm(b, a.oid, nil) }, hash, false}, nil
		}
	}
	return method{}, errors.New("cms: no name for a signature")
}

// assemble makes the ContentInfo (RFC 5652 sections 3 and 5.1).
func (s *Signer) assemble(m method, messageDigest, content []byte, at time.Time) ([]byte, error) {
	info, err := s.info(m, messageDigest, at)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidSigSigned)
		b.AddASN1(contextTag(0), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(1)
				b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { addAlgorithm(b, m.digest.oid, nil) })
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(oidSigData)
					if content != nil {
						b.AddASN1(contextTag(0), func(b *cryptobyte.Builder) { b.AddASN1OctetString(content) })
					}
				})
				b.AddASN1(contextTag(0), func(b *cryptobyte.Builder) { b.AddBytes(s.certificates()) })
				b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { b.AddBytes(info) })
			})
		})
	})
	return b.Bytes()
}

// certificates are the signer's own and the chain, each once, in the order of
// a SET OF in DER.
func (s *Signer) certificates() []byte {
	all := [][]byte{s.Certificate.Raw}
	for _, c := range s.Chain {
		if !slices.ContainsFunc(all, func(have []byte) bool { return bytes.Equal(have, c.Raw) }) {
			all = append(all, c.Raw)
		}
	}
	return setOf(all)
}

// setOf sorts the elements of a SET OF (X.690 section 11.6) and joins them.
func setOf(elements [][]byte) []byte {
	sorted := slices.Clone(elements)
	slices.SortFunc(sorted, bytes.Compare)
	return bytes.Join(sorted, nil)
}

// info makes the SignerInfo. The signature is over the attributes with the tag
// of a SET OF, which in the message is [0] (RFC 5652 section 5.4).
func (s *Signer) info(m method, messageDigest []byte, at time.Time) ([]byte, error) {
	attributes, err := s.attributes(m, messageDigest, at)
	if err != nil {
		return nil, err
	}
	var set cryptobyte.Builder
	set.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { b.AddBytes(attributes) })
	signed, err := set.Bytes()
	if err != nil {
		return nil, err
	}
	if !m.whole {
		h := m.digest.hash.New()
		h.Write(signed)
		signed = h.Sum(nil)
	}
	signature, err := s.Key.Sign(rand.Reader, signed, m.opts)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		s.addIssuerAndSerial(b, cbasn1.SEQUENCE)
		addAlgorithm(b, m.digest.oid, nil)
		b.AddASN1(contextTag(0), func(b *cryptobyte.Builder) { b.AddBytes(attributes) })
		m.algorithm(b)
		b.AddASN1OctetString(signature)
	})
	return b.Bytes()
}

func (s *Signer) addIssuerAndSerial(b *cryptobyte.Builder, tag cbasn1.Tag) {
	b.AddASN1(tag, func(b *cryptobyte.Builder) {
		b.AddBytes(s.Certificate.RawIssuer)
		b.AddASN1BigInt(s.Certificate.SerialNumber)
	})
}

// attributes are the signed attributes, in the order of a SET OF in DER.
func (s *Signer) attributes(m method, messageDigest []byte, at time.Time) ([]byte, error) {
	hash := sha256.Sum256(s.Certificate.Raw)
	values := []struct {
		oid   asn1.ObjectIdentifier
		value func(*cryptobyte.Builder)
	}{
		{oidAttrContentType, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidSigData) }},
		{oidAttrMessageDigest, func(b *cryptobyte.Builder) { b.AddASN1OctetString(messageDigest) }},
		{oidAttrSigningTime, func(b *cryptobyte.Builder) { addTime(b, at) }},
		{oidAttrCapabilities, addCapabilities},
		// RFC 5035 section 3: which certificate, lest another one with the same
		// key take its place. SHA-256 is the default and not written.
		{oidAttrCertificateV2, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1OctetString(hash[:]) })
				})
			})
		}},
	}
	if s.Certificate.KeyUsage&(x509.KeyUsageKeyEncipherment|x509.KeyUsageKeyAgreement) != 0 {
		values = append(values, struct {
			oid   asn1.ObjectIdentifier
			value func(*cryptobyte.Builder)
		}{oidAttrKeyPreference, func(b *cryptobyte.Builder) { s.addIssuerAndSerial(b, contextTag(0)) }})
	}
	var all [][]byte
	for _, v := range values {
		var b cryptobyte.Builder
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(v.oid)
			b.AddASN1(cbasn1.SET, v.value)
		})
		der, err := b.Bytes()
		if err != nil {
			return nil, err
		}
		all = append(all, der)
	}
	return setOf(all), nil
}

// addTime writes a Time: UTCTime through 2049, then GeneralizedTime (RFC 5652
// section 11.3).
func addTime(b *cryptobyte.Builder, at time.Time) {
	at = at.UTC().Truncate(time.Second)
	if at.Year() < 1950 || at.Year() > 2049 {
		b.AddASN1GeneralizedTime(at)
		return
	}
	b.AddASN1UTCTime(at)
}

func addCapabilities(b *cryptobyte.Builder) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, c := range capabilities {
			if c.ours {
				addAlgorithm(b, c.oid, nil)
			}
		}
	})
}
