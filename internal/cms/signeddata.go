package cms

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/sealpost/sealpost/internal/fault"
)

// What is looked at, lest a message keep us busy.
const (
	maxSigners      = 20
	maxCertificates = 200
	maxAttributes   = 50
	maxRSABits      = 8192
)

var errNotSigned = fault.New(fault.Refused, "unsupported", "This S/MIME object is not a signature of a kind that Sealpost knows.")

// signedData is a SignedData as it was sent: nothing of it is proved.
type signedData struct {
	contentType  asn1.ObjectIdentifier
	content      []byte // nil when detached
	certificates []*x509.Certificate
	signers      []signerInfo
}

// certificateName is how a certificate is named: by issuer and serial number, or
// by the identifier of its key.
type certificateName struct {
	issuer []byte // as DER; or
	serial *big.Int
	keyID  []byte // SubjectKeyIdentifier
}

// signerInfo is RFC 5652 section 5.3.
type signerInfo struct {
	certificateName
	digest    algorithm
	signing   algorithm
	signature []byte
	attrs     []byte // content of [0]; nil when there are none
}

// readSigned reads a ContentInfo with SignedData, BER or DER.
func readSigned(message []byte, max int) (*signedData, error) {
	der, err := ToDER(message, max)
	if err != nil {
		return nil, err
	}
	in := cryptobyte.String(der)
	var info, explicit, sd cryptobyte.String
	var kind asn1.ObjectIdentifier
	if !in.ReadASN1(&info, cbasn1.SEQUENCE) || !in.Empty() || !info.ReadASN1ObjectIdentifier(&kind) {
		return nil, errMalformed
	}
	if !kind.Equal(oidSigSigned) {
		return nil, errNotSigned
	}
	if !info.ReadASN1(&explicit, contextTag(0)) || !info.Empty() ||
		!explicit.ReadASN1(&sd, cbasn1.SEQUENCE) || !explicit.Empty() {
		return nil, errMalformed
	}
	return readSignedData(sd)
}

func readSignedData(sd cryptobyte.String) (*signedData, error) {
	out := &signedData{}
	var version int64
	var encap, certs, infos cryptobyte.String
	var hasCerts bool
	if !sd.ReadASN1Int64WithTag(&version, cbasn1.INTEGER) || !sd.SkipASN1(cbasn1.SET) || !sd.ReadASN1(&encap, cbasn1.SEQUENCE) ||
		!sd.ReadOptionalASN1(&certs, &hasCerts, contextTag(0)) || !sd.SkipOptionalASN1(contextTag(1)) ||
		!sd.ReadASN1(&infos, cbasn1.SET) || !sd.Empty() {
		return nil, errMalformed
	}
	if err := out.readContent(encap); err != nil {
		return nil, err
	}
	if err := out.readCertificates(certs); err != nil {
		return nil, err
	}
	for !infos.Empty() {
		if len(out.signers) == maxSigners {
			return nil, errTooLarge
		}
		si, ok := readSignerInfo(&infos)
		if !ok {
			return nil, errMalformed
		}
		out.signers = append(out.signers, si)
	}
	return out, nil
}

func (sd *signedData) readContent(encap cryptobyte.String) error {
	var explicit, octets cryptobyte.String
	var has bool
	if !encap.ReadASN1ObjectIdentifier(&sd.contentType) || !encap.ReadOptionalASN1(&explicit, &has, contextTag(0)) || !encap.Empty() {
		return errMalformed
	}
	if !has {
		return nil
	}
	// PKCS #7 allowed anything here; RFC 5652 section 5.2.1 tells how such
	// programs are understood, and none of them makes mail.
	if !explicit.ReadASN1(&octets, cbasn1.OCTET_STRING) || !explicit.Empty() {
		return errNotSigned
	}
	sd.content = append([]byte{}, octets...)
	return nil
}

// readCertificates leaves out what is no certificate of X.509, or none that Go
// can read: a signature by another one can still be proved.
func (sd *signedData) readCertificates(in cryptobyte.String) error {
	for n := 0; !in.Empty(); n++ {
		var one cryptobyte.String
		var tag cbasn1.Tag
		if !in.ReadAnyASN1Element(&one, &tag) {
			return errMalformed
		}
		if n == maxCertificates {
			return errTooLarge
		}
		if tag != cbasn1.SEQUENCE {
			continue
		}
		if c, err := x509.ParseCertificate(one); err == nil {
			sd.certificates = append(sd.certificates, c)
		}
	}
	return nil
}

func readSignerInfo(in *cryptobyte.String) (si signerInfo, ok bool) {
	var info, attrs, signature cryptobyte.String
	var version int64
	var has bool
	if !in.ReadASN1(&info, cbasn1.SEQUENCE) || !info.ReadASN1Int64WithTag(&version, cbasn1.INTEGER) || !si.readSigner(&info) {
		return si, false
	}
	if si.digest, ok = readAlgorithm(&info); !ok || !info.ReadOptionalASN1(&attrs, &has, contextTag(0)) {
		return si, false
	}
	if has {
		si.attrs = append([]byte{}, attrs...)
	}
	if si.signing, ok = readAlgorithm(&info); !ok || !info.ReadASN1(&signature, cbasn1.OCTET_STRING) ||
		!info.SkipOptionalASN1(contextTag(1)) || !info.Empty() {
		return si, false
	}
	si.signature = signature
	return si, true
}

func (si *signerInfo) readSigner(in *cryptobyte.String) bool {
	var id cryptobyte.String
	if in.PeekASN1Tag(cbasn1.SEQUENCE) {
		return in.ReadASN1(&id, cbasn1.SEQUENCE) && si.readIssuerAndSerial(id)
	}
	// Some programs write the identifier as a constructed string in BER, which
	// keeps its implicit tag: they are not understood.
	if !in.ReadASN1(&id, cbasn1.Tag(0).ContextSpecific()) {
		return false
	}
	si.keyID = id
	return len(id) > 0
}

// readIssuerAndSerial reads what is inside of an IssuerAndSerialNumber.
func (n *certificateName) readIssuerAndSerial(in cryptobyte.String) bool {
	var issuer cryptobyte.String
	serial := new(big.Int)
	if !in.ReadASN1Element(&issuer, cbasn1.SEQUENCE) || !in.ReadASN1Integer(serial) || !in.Empty() {
		return false
	}
	n.issuer, n.serial = issuer, serial
	return true
}

// names tells whether c is the certificate that is named.
func (n *certificateName) names(c *x509.Certificate) bool {
	if n.serial != nil {
		return c.SerialNumber.Cmp(n.serial) == 0 && bytes.Equal(c.RawIssuer, n.issuer)
	}
	return len(n.keyID) > 0 && bytes.Equal(c.SubjectKeyId, n.keyID)
}

// attributes are the signed attributes that are looked at. Each has one value
// and stands there once (RFC 5652 section 11).
type attributes struct {
	contentType   asn1.ObjectIdentifier
	messageDigest []byte
	at            time.Time
	capabilities  []string
	preference    *preference
	certificate   *certificateHash
	protect       *protected
}

// certificateHash is the first ESSCertIDv2 of RFC 5035.
type certificateHash struct {
	hash  algorithm
	value []byte
}

// protected are the algorithms that RFC 6211 signs too.
type protected struct{ digest, signing algorithm }

func readAttributes(der []byte) (out attributes, elements [][]byte, ok bool) {
	in := cryptobyte.String(der)
	seen := map[string]bool{}
	for !in.Empty() {
		var element, attr, values cryptobyte.String
		var oid asn1.ObjectIdentifier
		if !in.ReadASN1Element(&element, cbasn1.SEQUENCE) {
			return out, nil, false
		}
		elements = append(elements, element)
		rest := element
		if len(elements) > maxAttributes || !rest.ReadASN1(&attr, cbasn1.SEQUENCE) ||
			!attr.ReadASN1ObjectIdentifier(&oid) || !attr.ReadASN1(&values, cbasn1.SET) || !attr.Empty() {
			return out, nil, false
		}
		if seen[oid.String()] && out.knows(oid) || !out.read(oid, values) {
			return out, nil, false
		}
		seen[oid.String()] = true
	}
	return out, elements, out.contentType != nil && out.messageDigest != nil
}

// knows tells the attributes that are looked at.
func (a *attributes) knows(oid asn1.ObjectIdentifier) bool {
	for _, known := range []asn1.ObjectIdentifier{oidAttrContentType, oidAttrMessageDigest, oidAttrSigningTime,
		oidAttrCapabilities, oidAttrKeyPreference, oidAttrCertificateV2, oidAttrProtect} {
		if known.Equal(oid) {
			return true
		}
	}
	return false
}

// read takes one attribute. What does not decide anything may be malformed.
func (a *attributes) read(oid asn1.ObjectIdentifier, v cryptobyte.String) bool {
	switch {
	case oid.Equal(oidAttrContentType):
		return v.ReadASN1ObjectIdentifier(&a.contentType) && v.Empty()
	case oid.Equal(oidAttrMessageDigest):
		return v.ReadASN1Bytes(&a.messageDigest, cbasn1.OCTET_STRING) && v.Empty()
	case oid.Equal(oidAttrSigningTime):
		return a.readTime(&v) && v.Empty()
	case oid.Equal(oidAttrCertificateV2):
		return a.readCertificateHash(v)
	case oid.Equal(oidAttrProtect):
		return a.readProtected(v)
	case oid.Equal(oidAttrCapabilities):
		a.capabilities = readCapabilities(v)
	case oid.Equal(oidAttrKeyPreference):
		a.preference = readPreference(v)
	}
	return true
}

func (a *attributes) readTime(v *cryptobyte.String) bool {
	if v.PeekASN1Tag(cbasn1.UTCTime) {
		return v.ReadASN1UTCTime(&a.at)
	}
	return v.ReadASN1GeneralizedTime(&a.at)
}

func (a *attributes) readCertificateHash(v cryptobyte.String) bool {
	var outer, certs, first, hash cryptobyte.String
	if !v.ReadASN1(&outer, cbasn1.SEQUENCE) || !v.Empty() || !outer.ReadASN1(&certs, cbasn1.SEQUENCE) ||
		!certs.ReadASN1(&first, cbasn1.SEQUENCE) {
		return false
	}
	c := &certificateHash{hash: algorithm{oid: digests[0].oid}} // DEFAULT id-sha256
	if first.PeekASN1Tag(cbasn1.SEQUENCE) {
		var ok bool
		if c.hash, ok = readAlgorithm(&first); !ok {
			return false
		}
	}
	if !first.ReadASN1(&hash, cbasn1.OCTET_STRING) {
		return false
	}
	c.value = hash
	a.certificate = c
	return true
}

func (a *attributes) readProtected(v cryptobyte.String) bool {
	var seq, signing cryptobyte.String
	var p protected
	var ok bool
	if !v.ReadASN1(&seq, cbasn1.SEQUENCE) || !v.Empty() {
		return false
	}
	if p.digest, ok = readAlgorithm(&seq); !ok || !seq.ReadASN1(&signing, contextTag(1)) || !seq.Empty() {
		return false
	}
	p.signing, ok = algorithmContent(signing)
	a.protect = &p
	return ok
}

// readCapabilities names the content ciphers of SMIMECapabilities in the order
// of the sender's preference.
func readCapabilities(v cryptobyte.String) (names []string) {
	var list cryptobyte.String
	if !v.ReadASN1(&list, cbasn1.SEQUENCE) {
		return nil
	}
	for range maxAttributes {
		if list.Empty() {
			break
		}
		a, ok := readAlgorithm(&list)
		if !ok {
			return names
		}
		for _, c := range capabilities {
			if c.oid.Equal(a.oid) {
				names = append(names, c.name)
			}
		}
	}
	return names
}
