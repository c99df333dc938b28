package cms

import (
	"crypto"
	"encoding/asn1"

	_ "crypto/sha256" // digests for crypto.Hash
	_ "crypto/sha512"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Object identifiers of SignedData.
var (
	oidSigData   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSigSigned = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}

	oidAttrContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidAttrMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidAttrSigningTime   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}
	oidAttrCapabilities  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 15}        // RFC 8551 section 2.5.2
	oidAttrProtect       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 52}        // RFC 6211
	oidAttrKeyPreference = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 11} // RFC 8551 section 2.5.3
	oidAttrCertificateV2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47} // RFC 5035
	oidSigRSA            = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}         // RFC 3370 section 3.2
	oidSigPSS            = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}        // RFC 4056
	oidSigOAEP           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}         // RFC 4055 section 4, as the kind of a key
	oidSigMGF1           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
	oidSigECKey          = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1} // RFC 5753 section 2.1.1, as old programs name ECDSA
	oidSigEd25519        = asn1.ObjectIdentifier{1, 3, 101, 112}         // RFC 8419
)

// digest is a hash function by its names.
type digest struct {
	oid    asn1.ObjectIdentifier
	name   string
	micalg string // RFC 8551 section 3.5.3.2
	hash   crypto.Hash
	weak   bool // a signature over it proves nothing: it is not even computed
}

var digests = []digest{
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, "SHA-256", "sha-256", crypto.SHA256, false},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, "SHA-384", "sha-384", crypto.SHA384, false},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, "SHA-512", "sha-512", crypto.SHA512, false},
	{asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, "SHA-1", "sha1", crypto.SHA1, true},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 5}, "MD5", "md5", crypto.MD5, true},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 2}, "MD2", "md2", 0, true},
}

// scheme is how a signature is made.
type scheme int

const (
	rsaPKCS1 scheme = iota
	rsaPSS
	ecdsaDER
	edwards
	dsa
)

// signatureOIDs are signature algorithms; those without a hash take that of
// the SignerInfo.
var signatureOIDs = []struct {
	oid    asn1.ObjectIdentifier
	scheme scheme
	hash   crypto.Hash
}{
	{oidSigRSA, rsaPKCS1, 0},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 4}, rsaPKCS1, crypto.MD5},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}, rsaPKCS1, crypto.SHA1},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, rsaPKCS1, crypto.SHA256},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, rsaPKCS1, crypto.SHA384},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, rsaPKCS1, crypto.SHA512},
	{oidSigPSS, rsaPSS, 0},
	{oidSigECKey, ecdsaDER, 0},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1}, ecdsaDER, crypto.SHA1},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, ecdsaDER, crypto.SHA256},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}, ecdsaDER, crypto.SHA384},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}, ecdsaDER, crypto.SHA512},
	{oidSigEd25519, edwards, 0},
	{asn1.ObjectIdentifier{1, 2, 840, 10040, 4, 1}, dsa, 0},
	{asn1.ObjectIdentifier{1, 2, 840, 10040, 4, 3}, dsa, 0},
}

// capabilities are the content ciphers that are announced and looked for, the
// best first (RFC 8551 section 2.5.2).
var capabilities = []struct {
	oid  asn1.ObjectIdentifier
	name string
	ours bool
}{
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 46}, "AES-256-GCM", true},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}, "AES-256-CBC", true},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 6}, "AES-128-GCM", true},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}, "AES-128-CBC", true},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 26}, "AES-192-GCM", false},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 22}, "AES-192-CBC", false},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 3, 18}, "ChaCha20-Poly1305", false},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 3, 7}, "3DES-CBC", false},
}

func digestByOID(oid asn1.ObjectIdentifier) (digest, bool) {
	for _, d := range digests {
		if d.oid.Equal(oid) {
			return d, true
		}
	}
	return digest{}, false
}

func digestByHash(h crypto.Hash) digest {
	for _, d := range digests {
		if d.hash == h {
			return d
		}
	}
	return digest{weak: true}
}

// algorithm is an AlgorithmIdentifier.
type algorithm struct {
	oid    asn1.ObjectIdentifier
	params cryptobyte.String // whole element; nil when absent
}

// plain tells that the parameters are absent or NULL, which for hashes and
// for RSA are two ways to say the same (RFC 5754 section 2).
func (a algorithm) plain() bool {
	return a.params == nil || len(a.params) == 2 && a.params[0] == byte(cbasn1.NULL) && a.params[1] == 0
}

func readAlgorithm(s *cryptobyte.String) (algorithm, bool) {
	var seq cryptobyte.String
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) {
		return algorithm{}, false
	}
	return algorithmContent(seq)
}

// algorithmContent reads what is inside of an AlgorithmIdentifier.
func algorithmContent(seq cryptobyte.String) (a algorithm, ok bool) {
	if !seq.ReadASN1ObjectIdentifier(&a.oid) {
		return a, false
	}
	if !seq.Empty() {
		a.params = seq
		var tag cbasn1.Tag
		var whole cryptobyte.String
		if !seq.ReadAnyASN1Element(&whole, &tag) || !seq.Empty() {
			return a, false
		}
	}
	return a, true
}

// addAlgorithm writes an AlgorithmIdentifier; params may be nil.
func addAlgorithm(b *cryptobyte.Builder, oid asn1.ObjectIdentifier, params func(*cryptobyte.Builder)) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		if params != nil {
			params(b)
		}
	})
}

func addNULL(b *cryptobyte.Builder) { b.AddASN1(cbasn1.NULL, func(*cryptobyte.Builder) {}) }

func contextTag(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }
