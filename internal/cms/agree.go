package cms

import (
	"crypto"
	"crypto/fips140"
	"crypto/hkdf"
	_ "crypto/sha1" // old senders derive keys with it
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/asn1"
	"encoding/binary"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// derivation is a way to make a key-encryption key of an agreed secret: the key
// derivation of ANSI X9.63 (RFC 5753) or HKDF (RFC 8418).
type derivation struct {
	oid  asn1.ObjectIdentifier
	hash crypto.Hash
	hkdf bool
}

var (
	kdfSHA256     = &derivation{oid: oidStdDHSHA256, hash: crypto.SHA256}
	kdfSHA384     = &derivation{oid: oidStdDHSHA384, hash: crypto.SHA384}
	kdfSHA512     = &derivation{oid: oidStdDHSHA512, hash: crypto.SHA512}
	kdfHKDFSHA256 = &derivation{oid: oidStdDHHKDFSHA256, hash: crypto.SHA256, hkdf: true}
)

// derivations are those that are read. The curves supported have cofactor 1, or
// multiply by it always, so the derivations with and without it give the same.
var derivations = []*derivation{
	kdfSHA256, kdfSHA384, kdfSHA512, kdfHKDFSHA256,
	{oid: asn1.ObjectIdentifier{1, 3, 133, 16, 840, 63, 0, 2}, hash: crypto.SHA1},
	{oid: asn1.ObjectIdentifier{1, 3, 132, 1, 11, 0}, hash: crypto.SHA224},
	{oid: asn1.ObjectIdentifier{1, 3, 133, 16, 840, 63, 0, 3}, hash: crypto.SHA1},
	{oid: asn1.ObjectIdentifier{1, 3, 132, 1, 14, 0}, hash: crypto.SHA224},
	{oid: asn1.ObjectIdentifier{1, 3, 132, 1, 14, 1}, hash: crypto.SHA256},
	{oid: asn1.ObjectIdentifier{1, 3, 132, 1, 14, 2}, hash: crypto.SHA384},
	{oid: asn1.ObjectIdentifier{1, 3, 132, 1, 14, 3}, hash: crypto.SHA512},
	{oid: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 3, 20}, hash: crypto.SHA384, hkdf: true},
	{oid: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 3, 21}, hash: crypto.SHA512, hkdf: true},
}

func derivationOf(oid asn1.ObjectIdentifier) *derivation {
	for _, s := range derivations {
		if s.oid.Equal(oid) {
			return s
		}
	}
	return nil
}

// sharedInfo is ECC-CMS-SharedInfo (RFC 5753 section 7.2).
func sharedInfo(wrapAlgorithm, ukm []byte, keySize int) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(wrapAlgorithm)
		if ukm != nil {
			b.AddASN1(tag0Construct, func(b *cryptobyte.Builder) { b.AddASN1OctetString(ukm) })
		}
		b.AddASN1(tag2Construct, func(b *cryptobyte.Builder) {
			b.AddASN1(tags.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddUint32(uint32(keySize) * 8) })
		})
	})
	return b.BytesOrPanic()
}

// derive makes a key of n octets. What a sender adds (ukm) is in info; HKDF has
// no salt beside it.
func (s *derivation) derive(secret, info []byte, n int) (key []byte, err error) {
	if s.hash != crypto.SHA1 {
		return s.deriveWith(secret, info, n)
	}
	// FIPS 140-3 does not approve of SHA-1 here; it is only read, never written.
	fips140.WithoutEnforcement(func() { key, err = s.deriveWith(secret, info, n) })
	return key, err
}

func (s *derivation) deriveWith(secret, info []byte, n int) ([]byte, error) {
	if s.hkdf {
		return hkdf.Key(s.hash.New, secret, nil, string(info), n)
	}
	var key []byte
	for counter := uint32(1); len(key) < n; counter++ { // SEC 1 section 3.6.1
		h := s.hash.New()
		h.Write(secret)
		h.Write(binary.BigEndian.AppendUint32(nil, counter))
		h.Write(info)
		key = h.Sum(key)
	}
	return key[:n], nil
}
