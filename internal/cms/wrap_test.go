package cms_test

import (
	"encoding/asn1"
	"testing"
)

// What a SignedData with one signer looks like to encoding/asn1, which shares
// no code with what is tested.
type plainInfo struct {
	Type asn1.ObjectIdentifier
	Data plainSigned `asn1:"explicit,tag:0"`
}

type plainSigned struct {
	Version int
	Digests asn1.RawValue
	Content plainContent
	Certs   asn1.RawValue
	Signers []plainSigner `asn1:"set"`
}

type plainContent struct {
	Type asn1.ObjectIdentifier
	Data asn1.RawValue `asn1:"optional"`
}

type plainSigner struct {
	Version    int
	Name       asn1.RawValue
	Digest     asn1.RawValue
	Attributes asn1.RawValue `asn1:"optional,tag:0"`
	Algorithm  asn1.RawValue
	Signature  []byte
}

// withoutAttributes gives a detached message with the same signature and no
// attributes, and the attributes as they were signed.
func withoutAttributes(t *testing.T, der []byte) (forged, attributes []byte) {
	t.Helper()
	var info plainInfo
	if rest, err := asn1.Unmarshal(der, &info); err != nil || len(rest) > 0 {
		t.Fatalf("%v, %d octets more", err, len(rest))
	}
	attributes = append([]byte{}, info.Data.Signers[0].Attributes.FullBytes...)
	attributes[0] = 0x31
	info.Data.Content.Data = asn1.RawValue{}
	info.Data.Signers[0].Attributes = asn1.RawValue{}
	forged, err := asn1.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	return forged, attributes
}
