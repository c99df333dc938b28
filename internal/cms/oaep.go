package cms

import (
	"crypto"
	"crypto/rsa"
	"encoding/asn1"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// oaep holds the parameters of RSAES-OAEP (RFC 4055 section 4.1).
type oaep struct {
	hash, mgf crypto.Hash
	label     []byte
}

func (o *oaep) String() string { return "OAEP-" + strings.ReplaceAll(o.hash.String(), "SHA-", "SHA") }

func (o *oaep) options() *rsa.OAEPOptions {
	return &rsa.OAEPOptions{Hash: o.hash, MGFHash: o.mgf, Label: o.label}
}

var oaepHashes = []struct {
	oid  asn1.ObjectIdentifier
	hash crypto.Hash
}{
	{asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, crypto.SHA1},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 4}, crypto.SHA224},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, crypto.SHA256},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, crypto.SHA384},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, crypto.SHA512},
}

func (o *oaep) der() []byte {
	identifier := func(h crypto.Hash) []byte {
		for _, known := range oaepHashes {
			if known.hash == h {
				return algorithmDER(known.oid, byte(tags.NULL), 0)
			}
		}
		return nil
	}
	body := enclose(tag0Construct, identifier(o.hash), 0)
	body = append(body, enclose(tag1Construct, algorithmDER(oidMGF1, identifier(o.mgf)...), 0)...)
	return enclose(tags.SEQUENCE, body, 0)
}

// readOAEP reads the parameters; what is absent is SHA-1, MGF1 with SHA-1 and
// no label.
func readOAEP(der cryptobyte.String) (*oaep, bool) {
	o := &oaep{hash: crypto.SHA1, mgf: crypto.SHA1}
	var s, field cryptobyte.String
	var present bool
	if !der.ReadASN1(&s, tags.SEQUENCE) || !der.Empty() {
		return nil, false
	}
	if !s.ReadOptionalASN1(&field, &present, tag0Construct) || present && !readOAEPHash(&field, &o.hash) {
		return nil, false
	}
	if !s.ReadOptionalASN1(&field, &present, tag1Construct) {
		return nil, false
	}
	if present {
		oid, parameters, _, ok := readIdentifier(&field)
		if !ok || !oid.Equal(oidMGF1) || !readOAEPHash(&parameters, &o.mgf) {
			return nil, false
		}
	}
	if !s.ReadOptionalASN1(&field, &present, tag2Construct) {
		return nil, false
	}
	if present {
		oid, parameters, _, ok := readIdentifier(&field)
		if !ok || !oid.Equal(oidPSpecified) || !parameters.ReadASN1Bytes(&o.label, tags.OCTET_STRING) {
			return nil, false
		}
	}
	return o, s.Empty()
}

func readOAEPHash(s *cryptobyte.String, to *crypto.Hash) bool {
	oid, _, _, ok := readIdentifier(s)
	if !ok {
		return false
	}
	for _, known := range oaepHashes {
		if known.oid.Equal(oid) {
			*to = known.hash
			return true
		}
	}
	return false
}
