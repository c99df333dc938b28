package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/fips140"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// Bounds of what a message may ask for.
const (
	mostRecipients = 20_000 // entries that are looked at
	mostAttempts   = 4      // entries for us that are tried
)

// wrapped is a content key that is meant for a key of ours.
type wrapped struct {
	name   string // of the algorithms
	to     *Recipient
	unwrap func(keySize int) ([]byte, bool)
}

// match finds the entries for our keys. That there is none is told from the
// message's clear part alone.
func match(recipients cryptobyte.String, keys []Recipient) ([]wrapped, error) {
	m := &matcher{bySerial: map[string][]*Recipient{}, keys: keys}
	for i := range keys {
		if cert := keys[i].Certificate; cert != nil {
			serial := string(cert.SerialNumber.Bytes())
			m.bySerial[serial] = append(m.bySerial[serial], &keys[i])
		}
	}
	for !recipients.Empty() && len(m.found) < mostAttempts {
		var info cryptobyte.String
		var tag tags.Tag
		if m.seen++; m.seen > mostRecipients {
			return nil, errTooLarge
		}
		if !recipients.ReadAnyASN1(&info, &tag) {
			return nil, errMalformed
		}
		ok := true
		switch tag {
		case tags.SEQUENCE:
			ok = m.transport(info)
		case tag1Construct:
			ok = m.agreement(info)
		}
		// Others are for keys agreed before and for passwords.
		if !ok {
			return nil, errMalformed
		}
	}
	switch {
	case len(m.found) > 0:
		return m.found, nil
	case m.unsupported:
		return nil, errUnsupportedWrap
	}
	return nil, errNotForUs
}

type matcher struct {
	keys        []Recipient
	bySerial    map[string][]*Recipient
	seen        int
	found       []wrapped
	unsupported bool
}

// named gives our keys that an issuer and serial number name.
func (m *matcher) named(s *cryptobyte.String) (found []*Recipient, ok bool) {
	var name, issuer, serial cryptobyte.String
	if !s.ReadASN1(&name, tags.SEQUENCE) || !name.ReadASN1Element(&issuer, tags.SEQUENCE) ||
		!name.ReadASN1(&serial, tags.INTEGER) || !name.Empty() {
		return nil, false
	}
	for _, r := range m.bySerial[string(bytes.TrimLeft(serial, "\x00"))] {
		if sameName(r.Certificate.RawIssuer, issuer) {
			found = append(found, r)
		}
	}
	return found, true
}

// sameName compares names, which some senders encode anew with other types of
// string.
func sameName(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var one, other pkix.RDNSequence
	if _, err := asn1.Unmarshal(a, &one); err != nil {
		return false
	}
	if _, err := asn1.Unmarshal(b, &other); err != nil {
		return false
	}
	return strings.EqualFold(one.String(), other.String())
}

// identified gives our keys with this subjectKeyIdentifier.
func (m *matcher) identified(id []byte) (found []*Recipient) {
	for i := range m.keys {
		cert := m.keys[i].Certificate
		if cert != nil && len(id) > 0 && bytes.Equal(cert.SubjectKeyId, id) {
			found = append(found, &m.keys[i])
		}
	}
	return found
}

func (m *matcher) add(w wrapped) {
	if len(m.found) < mostAttempts {
		m.found = append(m.found, w)
	}
}

// transport reads a KeyTransRecipientInfo (RFC 5652 section 6.2.1).
func (m *matcher) transport(s cryptobyte.String) bool {
	var version int
	var to []*Recipient
	if !s.ReadASN1Integer(&version) {
		return false
	}
	if s.PeekASN1Tag(tags.SEQUENCE) {
		var ok bool
		if to, ok = m.named(&s); !ok {
			return false
		}
	} else {
		id, ok := joined(&s, 0)
		if !ok {
			return false
		}
		to = m.identified(id)
	}
	oid, parameters, _, ok := readIdentifier(&s)
	var encrypted []byte
	if !ok || !s.ReadASN1Bytes(&encrypted, tags.OCTET_STRING) || !s.Empty() {
		return false
	}
	for _, r := range to {
		key, isRSA := r.Key.(*rsa.PrivateKey)
		if !isRSA {
			m.unsupported = true
			continue
		}
		bits := fmt.Sprintf("RSA-%d ", key.N.BitLen())
		switch {
		case oid.Equal(oidRSA):
			m.add(wrapped{bits + "PKCS#1 v1.5", r, func(n int) ([]byte, bool) { return unwrapPKCS1(key, encrypted, n) }})
		case oid.Equal(oidRSAESOAEP):
			o, ok := &oaep{hash: crypto.SHA1, mgf: crypto.SHA1}, true
			if len(parameters) > 0 {
				o, ok = readOAEP(parameters)
			}
			if !ok {
				m.unsupported = true
				continue
			}
			m.add(wrapped{bits + o.String(), r, func(int) ([]byte, bool) { return unwrapOAEP(key, o, encrypted) }})
		default:
			m.unsupported = true
		}
	}
	return true
}

// unwrapPKCS1 gives a key whatever was in the padding. A wrong one gives a key
// made of the private key and the octets received (RFC 3218 section 2.3.2): one
// that nobody else can compute, and the same whenever the message comes again,
// so that trying twice tells nothing either.
func unwrapPKCS1(private *rsa.PrivateKey, encrypted []byte, keySize int) ([]byte, bool) {
	secret := sha256.Sum256(x509.MarshalPKCS1PrivateKey(private))
	mac := hmac.New(sha256.New, secret[:])
	mac.Write(encrypted)
	key := mac.Sum(nil)[:keySize]
	var err error
	// FIPS 140-3 does not approve of PKCS #1 v1.5 for keys; senders use it.
	fips140.WithoutEnforcement(func() {
		//lint:ignore SA1019 most S/MIME programs write nothing else; see above for how it is made safe
		err = rsa.DecryptPKCS1v15SessionKey(nil, private, encrypted, key)
	})
	return key, err == nil
}

func unwrapOAEP(private *rsa.PrivateKey, o *oaep, encrypted []byte) (key []byte, ok bool) {
	var err error
	decrypt := func() { key, err = private.Decrypt(nil, encrypted, o.options()) }
	if o.hash == crypto.SHA1 || o.mgf == crypto.SHA1 {
		// FIPS 140-3 does not approve of SHA-1, which is the default of OAEP and
		// does no harm in it; it is only read, never written.
		fips140.WithoutEnforcement(decrypt)
	} else {
		decrypt()
	}
	return key, err == nil
}

// agreed is the common part of a KeyAgreeRecipientInfo.
type agreed struct {
	point     []byte
	ukm       []byte
	scheme    *derivation
	wrap      []byte // AlgorithmIdentifier as received
	wrapOID   asn1.ObjectIdentifier
	keySize   int
	supported bool
}

// agreement reads a KeyAgreeRecipientInfo (RFC 5652 section 6.2.2), which may
// have entries for several recipients.
func (m *matcher) agreement(s cryptobyte.String) bool {
	var version int
	var entries cryptobyte.String
	if !s.ReadASN1Integer(&version) {
		return false
	}
	a, ok := readAgreed(&s)
	if !ok || !s.ReadASN1(&entries, tags.SEQUENCE) || !s.Empty() {
		return false
	}
	for !entries.Empty() {
		var entry cryptobyte.String
		var encrypted []byte
		if m.seen++; m.seen > mostRecipients || !entries.ReadASN1(&entry, tags.SEQUENCE) {
			return false
		}
		to, ok := m.entry(&entry)
		if !ok || !entry.ReadASN1Bytes(&encrypted, tags.OCTET_STRING) || !entry.Empty() {
			return false
		}
		for _, r := range to {
			key, name := privateECDH(r.Key)
			if key == nil || !a.supported {
				m.unsupported = true
				continue
			}
			m.add(wrapped{name, r, func(int) ([]byte, bool) { return a.unwrap(key, encrypted) }})
		}
	}
	return true
}

// entry reads KeyAgreeRecipientIdentifier.
func (m *matcher) entry(s *cryptobyte.String) ([]*Recipient, bool) {
	if s.PeekASN1Tag(tags.SEQUENCE) {
		return m.named(s)
	}
	var by cryptobyte.String
	var id []byte
	if !s.ReadASN1(&by, tag0Construct) || !by.ReadASN1Bytes(&id, tags.OCTET_STRING) {
		return nil, false
	}
	return m.identified(id), true
}

func readAgreed(s *cryptobyte.String) (*agreed, bool) {
	a := &agreed{supported: true}
	var originator, key, ukm cryptobyte.String
	var present bool
	if !s.ReadASN1(&originator, tag0Construct) || !s.ReadOptionalASN1(&ukm, &present, tag1Construct) {
		return nil, false
	}
	if present && (!ukm.ReadASN1Bytes(&a.ukm, tags.OCTET_STRING) || !ukm.Empty()) {
		return nil, false
	}
	oid, parameters, _, ok := readIdentifier(s)
	if !ok {
		return nil, false
	}
	a.scheme = derivationOf(oid)
	// The sender's static key, by its certificate's name, is not supported.
	if a.scheme == nil || !originator.PeekASN1Tag(tag1Construct) {
		a.supported = false
		return a, true
	}
	if !originator.ReadASN1(&key, tag1Construct) {
		return nil, false
	}
	if _, _, _, ok := readIdentifier(&key); !ok || !key.ReadASN1BitStringAsBytes(&a.point) || !key.Empty() {
		return nil, false
	}
	var whole cryptobyte.String
	if a.wrapOID, _, whole, ok = readIdentifier(&parameters); !ok {
		return nil, false
	}
	a.wrap = whole
	switch {
	case a.wrapOID.Equal(oidAES256Wrap):
		a.keySize = 32
	case a.wrapOID.Equal(oidAES192Wrap):
		a.keySize = 24
	case a.wrapOID.Equal(oidAES128Wrap):
		a.keySize = 16
	default:
		a.supported = false
	}
	return a, true
}

// privateECDH makes a key for key agreement of a private key.
func privateECDH(key crypto.PrivateKey) (*ecdh.PrivateKey, string) {
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		if own, err := key.ECDH(); err == nil {
			return own, "ECDH " + key.Curve.Params().Name
		}
	case *ecdh.PrivateKey:
		if key.Curve() == ecdh.X25519() {
			return key, "X25519"
		}
		return key, "ECDH " + strings.Replace(fmt.Sprint(key.Curve()), "P", "P-", 1)
	}
	return nil, ""
}

// unwrap agrees on a secret and unwraps with what is derived of it.
func (a *agreed) unwrap(own *ecdh.PrivateKey, encrypted []byte) (key []byte, ok bool) {
	var secret []byte
	var err error
	agree := func() {
		var other *ecdh.PublicKey
		if other, err = own.Curve().NewPublicKey(a.point); err == nil {
			secret, err = own.ECDH(other)
		}
	}
	if own.Curve() == ecdh.X25519() {
		fips140.WithoutEnforcement(agree) // see ephemeral
	} else {
		agree()
	}
	if err != nil {
		return nil, false
	}
	for _, info := range a.sharedInfos() {
		kek, err := a.scheme.derive(secret, info, a.keySize)
		if err != nil {
			return nil, false
		}
		if key, err := unwrapKey(kek, encrypted); err == nil {
			return key, true
		}
	}
	return nil, false
}

// sharedInfos is what a key may have been derived with. A proper sender gives
// the wrap algorithm no parameters and derives with it as it stands; some write
// NULL and derive without, or the reverse. The wrap tells which was right.
func (a *agreed) sharedInfos() [][]byte {
	forms := [][]byte{a.wrap, algorithmDER(a.wrapOID), algorithmDER(a.wrapOID, byte(tags.NULL), 0)}
	for i, form := range forms {
		forms[i] = sharedInfo(form, a.ukm, a.keySize)
	}
	return forms
}
