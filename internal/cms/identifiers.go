package cms

import (
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// Content types (RFC 5652, 5083, 3274).
var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidEnveloped     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}
	oidAuthEnveloped = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 23}
	oidCompressed    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 9}
)

// Encryption of the content (RFC 3565, 5084, 8103, 3370).
var (
	oidAES128CBC        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}
	oidAES192CBC        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 22}
	oidAES256CBC        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
	oidAES128GCM        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 6}
	oidAES192GCM        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 26}
	oidAES256GCM        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 46}
	oidChaCha20Poly1305 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 3, 18}
	oidTripleDESCBC     = asn1.ObjectIdentifier{1, 2, 840, 113549, 3, 7}
)

// Encryption of the content key (RFC 8017, 3394, 5753, 8418).
var (
	oidRSA        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidRSAESOAEP  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}
	oidMGF1       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
	oidPSpecified = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 9}

	oidECPublicKey = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidX25519      = asn1.ObjectIdentifier{1, 3, 101, 110}

	oidAES128Wrap = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 5}
	oidAES192Wrap = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 25}
	oidAES256Wrap = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 45}

	oidStdDHSHA256     = asn1.ObjectIdentifier{1, 3, 132, 1, 11, 1}
	oidStdDHSHA384     = asn1.ObjectIdentifier{1, 3, 132, 1, 11, 2}
	oidStdDHSHA512     = asn1.ObjectIdentifier{1, 3, 132, 1, 11, 3}
	oidStdDHHKDFSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 3, 19}
)

// ASN.1 tags of CMS that are not in the universal class.
const (
	tag0          = tags.Tag(0x80)
	tag0Construct = tags.Tag(0xa0)
	tag1Construct = tags.Tag(0xa1)
	tag2Construct = tags.Tag(0xa2)
)

// appendHeader appends identifier and length of an element in DER.
func appendHeader(b []byte, tag tags.Tag, length int64) []byte {
	return appendLength(append(b, byte(tag)), uint64(length))
}

// enclose puts an element's header before its first octets, of which more
// follow later.
func enclose(tag tags.Tag, first []byte, following int64) []byte {
	b := make([]byte, 0, len(first)+10)
	return append(appendHeader(b, tag, int64(len(first))+following), first...)
}

// identifierDER is an OBJECT IDENTIFIER in DER.
func identifierDER(oid asn1.ObjectIdentifier) []byte {
	var b cryptobyte.Builder
	b.AddASN1ObjectIdentifier(oid)
	return b.BytesOrPanic()
}

// algorithmDER is an AlgorithmIdentifier in DER with the parameters given in DER,
// or without any.
func algorithmDER(oid asn1.ObjectIdentifier, parameters ...byte) []byte {
	return enclose(tags.SEQUENCE, append(identifierDER(oid), parameters...), 0)
}

// readIdentifier reads an AlgorithmIdentifier. whole is the element itself.
func readIdentifier(s *cryptobyte.String) (oid asn1.ObjectIdentifier, parameters, whole cryptobyte.String, ok bool) {
	var inner cryptobyte.String
	if !s.ReadASN1Element(&whole, tags.SEQUENCE) {
		return nil, nil, nil, false
	}
	outer := whole
	if !outer.ReadASN1(&inner, tags.SEQUENCE) || !inner.ReadASN1ObjectIdentifier(&oid) {
		return nil, nil, nil, false
	}
	return oid, inner, whole, true
}
