package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/fips140"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/sealpost/sealpost/internal/fault"
)

// What a Signature's Status can be.
const (
	SignatureValid       = "valid"          // made by the key of Certificate; whose that is, certs tells
	SignatureInvalid     = "invalid"        // the content was altered, or the signature is none
	SignatureUnknown     = "unknown_signer" // the certificate is not in the message
	SignatureWeakHash    = "weak_hash"      // MD5 or SHA-1: could be made for another content; not even computed
	SignatureUnsupported = "unsupported"
)

// Signature is the verdict on one SignerInfo. Of Certificate only its key was
// used: nothing about the certificate itself is proved here.
type Signature struct {
	Status       string
	Digest       string    // "SHA-256"
	Algorithm    string    // "RSA-2048", "RSA-3072 PSS", "ECDSA P-256", "Ed25519"
	At           time.Time // what the signer says; zero when it does not
	Certificate  *x509.Certificate
	Capabilities []string // content ciphers the signer can read, best liked first; of a valid signature alone
	// Encryption is the certificate that the signer wants to be written to
	// with (RFC 8551 section 2.5.3); of a valid signature alone. It is nil
	// where the message does not bring it. Nothing about it is proved.
	Encryption *x509.Certificate
}

// Signed is what a SignedData holds.
type Signed struct {
	Content      []byte // nil when detached
	Signatures   []Signature
	Certificates []*x509.Certificate // not proved
}

// Verify checks the signatures of a SignedData, BER or DER, over the content
// in it or, when it has none, over the detached one. An error means that there
// is nothing to say about signatures; what is wrong with one of them is in its
// Status.
func Verify(message []byte, detached io.Reader, max int64) (*Signed, error) {
	sd, err := readSigned(message, int(min(max, math.MaxInt)))
	if err != nil {
		return nil, err
	}
	// RFC 8551 section 2.4.2: mail is signed as id-data. Anything else is no
	// content that anybody meant to be shown.
	if !sd.contentType.Equal(oidSigData) || len(sd.signers) == 0 {
		return nil, errNotSigned
	}
	v, err := sd.digestAll(detached, max)
	if err != nil {
		return nil, err
	}
	out := &Signed{Content: sd.content, Certificates: sd.certificates}
	for _, si := range sd.signers {
		out.Signatures = append(out.Signatures, v.judge(si))
	}
	return out, nil
}

// verifier holds what the signatures are over.
type verifier struct {
	sd      *signedData
	sums    map[crypto.Hash][]byte
	content []byte // where a signature needs all of it
	start   []byte // first octets of the content
}

// digestAll reads the content once for all signers.
func (sd *signedData) digestAll(detached io.Reader, max int64) (*verifier, error) {
	v := &verifier{sd: sd, sums: map[crypto.Hash][]byte{}, content: sd.content}
	hashes := map[crypto.Hash]hash.Hash{}
	start := &head{}
	writers := []io.Writer{start}
	var whole *bytes.Buffer
	for _, si := range sd.signers {
		if d, ok := digestByOID(si.digest.oid); ok && !d.weak && hashes[d.hash] == nil {
			hashes[d.hash] = d.hash.New()
			writers = append(writers, hashes[d.hash])
		}
		if si.attrs == nil && si.signing.oid.Equal(oidSigEd25519) && sd.content == nil && whole == nil {
			whole = new(bytes.Buffer)
			writers = append(writers, whole)
		}
	}
	if sd.content != nil {
		detached = bytes.NewReader(sd.content)
	}
	if detached == nil {
		return nil, fault.New(fault.Refused, "malformed", "The signature came without the text that it is for.")
	}
	n, err := io.Copy(io.MultiWriter(writers...), io.LimitReader(detached, max))
	if err != nil {
		return nil, fmt.Errorf("read the signed content: %w", err)
	}
	if n == max {
		if more, _ := io.ReadFull(detached, make([]byte, 1)); more > 0 {
			return nil, errTooLarge
		}
	}
	for h, sum := range hashes {
		v.sums[h] = sum.Sum(nil)
	}
	if whole != nil {
		v.content = whole.Bytes()
	}
	v.start = start.b
	return v, nil
}

// head keeps the first octets that are written to it.
type head struct{ b []byte }

func (h *head) Write(p []byte) (int, error) {
	h.b = append(h.b, p[:min(len(p), 32-len(h.b))]...)
	return len(p), nil
}

// judge gives the verdict on one signer.
func (v *verifier) judge(si signerInfo) Signature {
	d, known := digestByOID(si.digest.oid)
	s := Signature{Status: SignatureUnsupported, Digest: d.name, Certificate: v.sd.first(si)}
	how, ok := si.scheme(d)
	if !known || !ok || !si.digest.plain() {
		return s
	}
	var attrs attributes
	over := v.content
	var orders [][]byte
	if si.attrs != nil {
		var elements [][]byte
		var readable bool
		if attrs, elements, readable = readAttributes(si.attrs); !readable {
			s.Status = SignatureInvalid
			return s
		}
		s.At = attrs.at
		orders = attributeOrders(si.attrs, elements)
	} else {
		orders = [][]byte{over}
	}
	if d.weak || digestByHash(how.hash).weak && how.scheme != edwards {
		s.Status = SignatureWeakHash
		return s
	}
	if !v.contentAgrees(si, attrs, d) {
		s.Status = SignatureInvalid
		return s
	}
	return v.try(s, si, how, attrs, orders)
}

// contentAgrees compares the signed attributes with what they are about (RFC
// 5652 sections 5.4 and 5.6).
func (v *verifier) contentAgrees(si signerInfo, attrs attributes, d digest) bool {
	if si.attrs == nil {
		// Signed attributes, sent as the content of a signature without any,
		// would pass for something that was signed.
		return !looksLikeAttributes(v.start)
	}
	if attrs.protect != nil && (!attrs.protect.digest.oid.Equal(si.digest.oid) || !attrs.protect.signing.oid.Equal(si.signing.oid)) {
		return false
	}
	return attrs.contentType.Equal(v.sd.contentType) && bytes.Equal(attrs.messageDigest, v.sums[d.hash])
}

// looksLikeAttributes tells content that begins as SET OF Attribute in DER. No
// mail does.
func looksLikeAttributes(start []byte) bool {
	rest := start
	for _, tag := range []byte{0x31, 0x30} {
		if len(rest) < 2 || rest[0] != tag {
			return false
		}
		skip := 2
		if rest[1] > 0x80 {
			skip += int(rest[1] & 0x7f)
		}
		if len(rest) <= skip {
			return false
		}
		rest = rest[skip:]
	}
	return rest[0] == 0x06
}

// attributeOrders are the octets a signer may have signed: the attributes as a
// SET OF with the tag that the standard wants in place of [0], in the order in
// which they came, which ought to be that of DER, and in that of DER.
func attributeOrders(raw []byte, elements [][]byte) [][]byte {
	orders := [][]byte{raw}
	if sorted := setOf(elements); !bytes.Equal(sorted, raw) {
		orders = append(orders, sorted)
	}
	for i, o := range orders {
		var b cryptobyte.Builder
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { b.AddBytes(o) })
		orders[i] = b.BytesOrPanic()
	}
	return orders
}

// try looks for a certificate whose key made the signature.
func (v *verifier) try(s Signature, si signerInfo, how howSigned, attrs attributes, orders [][]byte) Signature {
	s.Status = SignatureUnknown
	tried := 0
	for _, c := range v.sd.certificates {
		if !si.names(c) || attrs.certificate != nil && !attrs.certificate.matches(c) {
			continue
		}
		if tried++; tried > 4 {
			break
		}
		s.Certificate = c
		key := PublicKey(c)
		if s.Algorithm = how.name(key); s.Algorithm == "" {
			s.Status = SignatureUnsupported
			continue
		}
		for _, octets := range orders {
			if how.verify(key, octets, v.sums, si) {
				s.Status, s.Capabilities, s.Encryption = SignatureValid, attrs.capabilities, v.sd.encryption(c, attrs.preference)
				return s
			}
		}
		s.Status = SignatureInvalid
	}
	if tried == 0 && s.Certificate != nil {
		// One with the right name is there, but another one was signed.
		s.Status = SignatureInvalid
	}
	return s
}

// first is the certificate that the signer names, if it is there.
func (sd *signedData) first(si signerInfo) *x509.Certificate {
	if i := slices.IndexFunc(sd.certificates, si.names); i >= 0 {
		return sd.certificates[i]
	}
	return nil
}

// matches tells whether c is the certificate that was signed. Of a hash that is
// not known nothing can be said, and the names decide.
func (h *certificateHash) matches(c *x509.Certificate) bool {
	d, ok := digestByOID(h.hash.oid)
	if !ok || d.weak {
		return true
	}
	sum := d.hash.New()
	sum.Write(c.Raw)
	return bytes.Equal(sum.Sum(nil), h.value)
}

// howSigned is a signature algorithm with its parameters.
type howSigned struct {
	scheme scheme
	hash   crypto.Hash
	salt   int // of RSASSA-PSS
}

// scheme reads the signature algorithm. Its hash is that of the SignerInfo
// (RFC 5652 section 5.4); where it says another one, it is not supported.
func (si signerInfo) scheme(d digest) (howSigned, bool) {
	for _, known := range signatureOIDs {
		if !known.oid.Equal(si.signing.oid) {
			continue
		}
		how := howSigned{scheme: known.scheme, hash: d.hash}
		if known.hash != 0 {
			how.hash = known.hash
		}
		if how.scheme == rsaPKCS1 && !si.signing.plain() {
			return how, false
		}
		if how.scheme == rsaPSS {
			var err error
			if how.hash, how.salt, err = pssParameters(si.signing.params); err != nil {
				return how, false
			}
		}
		same := how.hash == d.hash || digestByHash(how.hash).weak
		return how, same && how.scheme != dsa
	}
	return howSigned{}, false
}

var errPSS = errors.New("cms: parameters of RSASSA-PSS that are not supported")

// pssParameters reads RSASSA-PSS-params (RFC 4055 section 3.1), whose defaults
// are SHA-1, MGF1 with SHA-1, and 20.
func pssParameters(params cryptobyte.String) (h crypto.Hash, salt int, err error) {
	h, mgfHash, salt := crypto.SHA1, crypto.SHA1, 20
	var seq, field cryptobyte.String
	var has bool
	if !params.ReadASN1(&seq, cbasn1.SEQUENCE) || !params.Empty() || !seq.ReadOptionalASN1(&field, &has, contextTag(0)) {
		return 0, 0, errPSS
	}
	hashOf := func(in *cryptobyte.String, into *crypto.Hash) bool {
		a, ok := readAlgorithm(in)
		d, known := digestByOID(a.oid)
		*into = d.hash
		return ok && known && a.plain() && in.Empty()
	}
	if has && !hashOf(&field, &h) || !seq.ReadOptionalASN1(&field, &has, contextTag(1)) {
		return 0, 0, errPSS
	}
	if has {
		mgf, ok := readAlgorithm(&field)
		if !ok || !field.Empty() || !mgf.oid.Equal(oidSigMGF1) || !hashOf(&mgf.params, &mgfHash) {
			return 0, 0, errPSS
		}
	}
	if !seq.ReadOptionalASN1(&field, &has, contextTag(2)) || has && (!field.ReadASN1Integer(&salt) || !field.Empty()) {
		return 0, 0, errPSS
	}
	trailer := 1
	if !seq.ReadOptionalASN1(&field, &has, contextTag(3)) || has && (!field.ReadASN1Integer(&trailer) || !field.Empty()) {
		return 0, 0, errPSS
	}
	if !seq.Empty() || trailer != 1 || mgfHash != h || salt < 0 || salt > maxRSABits/8 {
		return 0, 0, errPSS
	}
	return h, salt, nil
}

// name tells the algorithm with this key, or nothing where the two do not go
// together or the key is of a size that is not supported.
func (how howSigned) name(key crypto.PublicKey) string {
	switch k := key.(type) {
	case *rsa.PublicKey:
		switch bits := k.N.BitLen(); {
		case bits < 2048 || bits > maxRSABits:
		case how.scheme == rsaPKCS1:
			return fmt.Sprintf("RSA-%d", bits)
		case how.scheme == rsaPSS:
			return fmt.Sprintf("RSA-%d PSS", bits)
		}
	case *ecdsa.PublicKey:
		if how.scheme == ecdsaDER && k.Curve.Params().BitSize >= 256 {
			return "ECDSA " + k.Curve.Params().Name
		}
	case ed25519.PublicKey:
		if how.scheme == edwards {
			return "Ed25519"
		}
	}
	return ""
}

// verify proves the signature over octets.
func (how howSigned) verify(key crypto.PublicKey, octets []byte, sums map[crypto.Hash][]byte, si signerInfo) bool {
	if k, ok := key.(ed25519.PublicKey); ok {
		return ed25519.Verify(k, octets, si.signature)
	}
	sum := sums[how.hash]
	if si.attrs != nil {
		h := how.hash.New()
		h.Write(octets)
		sum = h.Sum(nil)
	}
	switch k := key.(type) {
	case *rsa.PublicKey:
		if how.scheme == rsaPKCS1 {
			return rsa.VerifyPKCS1v15(k, how.hash, sum, si.signature) == nil
		}
		valid := false
		// FIPS 186-5 wants a salt no longer than the hash; RFC 4055 does not,
		// and OpenSSL makes it as long as it can.
		fips140.WithoutEnforcement(func() {
			valid = how.salt <= k.Size() && verifyPSS(k, how, sum, si.signature)
		})
		return valid
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, sum, si.signature)
	}
	return false
}

func verifyPSS(k *rsa.PublicKey, how howSigned, sum, signature []byte) bool {
	salt := how.salt
	if salt == 0 {
		// In crypto/rsa 0 says that any length will do; an empty salt is
		// then one of them, and no more can be asked for.
		salt = rsa.PSSSaltLengthAuto
	}
	return rsa.VerifyPSS(k, how.hash, sum, signature, &rsa.PSSOptions{SaltLength: salt, Hash: how.hash}) == nil
}
