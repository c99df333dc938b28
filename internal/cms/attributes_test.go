package cms

import (
	"encoding/asn1"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// TestEachAttributeStandsThereOnce: of two digests, one program would look at
// the first and another at the last (RFC 5652 sections 11.1 and 11.2).
func TestEachAttributeStandsThereOnce(t *testing.T) {
	attribute := func(oid asn1.ObjectIdentifier, values ...byte) []byte {
		var b cryptobyte.Builder
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oid)
			b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
				for _, v := range values {
					b.AddASN1OctetString([]byte{v})
				}
			})
		})
		return b.BytesOrPanic()
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidAttrContentType)
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidSigData) })
	})
	kind, one, two := b.BytesOrPanic(), attribute(oidAttrMessageDigest, 1), attribute(oidAttrMessageDigest, 2)
	other := attribute(asn1.ObjectIdentifier{1, 2, 3}, 1)
	for name, tc := range map[string]struct {
		list []([]byte)
		ok   bool
	}{
		"as it should be":           {[][]byte{kind, one}, true},
		"others twice":              {[][]byte{kind, one, other, other}, true},
		"two digests":               {[][]byte{kind, one, two}, false},
		"two kinds":                 {[][]byte{kind, kind, one}, false},
		"two values":                {[][]byte{kind, attribute(oidAttrMessageDigest, 1, 2)}, false},
		"no value":                  {[][]byte{kind, attribute(oidAttrMessageDigest)}, false},
		"no digest":                 {[][]byte{kind}, false},
		"no kind":                   {[][]byte{one}, false},
		"something behind the list": {[][]byte{kind, one, {0}}, false},
	} {
		var raw []byte
		for _, a := range tc.list {
			raw = append(raw, a...)
		}
		if _, _, ok := readAttributes(raw); ok != tc.ok {
			t.Errorf("%s: %v", name, ok)
		}
	}
}
