package cms

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"

	tags "golang.org/x/crypto/cryptobyte/asn1"
)

func TestKindOf(t *testing.T) {
	p := everybody()
	enveloped := sealed(t, AES256CBC, text(100), p["rsa"], WrapOptions{})
	signed := enclose(tags.SEQUENCE, append(identifierDER(oidSignedData), octets(t, "a007 3005 020101 3100")...), 0)
	compressed := enclose(tags.SEQUENCE, append(identifierDER(oidCompressed), octets(t, "a007 3005 020100 3000")...), 0)
	for name, tc := range map[string]struct {
		message []byte
		want    Kind
	}{
		"CBC":              {enveloped, KindEnveloped},
		"elliptic curve":   {sealed(t, AES256CBC, text(100), p["P-256"], WrapOptions{}), KindEnveloped},
		"GCM":              {sealed(t, AES256GCM, text(100), p["rsa"], WrapOptions{}), KindAuthEnveloped},
		"signed":           {signed, KindSigned},
		"compressed":       {compressed, KindCompressed},
		"indefinite":       {octets(t, "3080 06092a864886f70d010703 a080 3080 020100 3180 0000 3080 a080 0401 00 0000 0000 0000 0000 0000"), KindEnveloped},
		"nothing":          {nil, ""},
		"text":             {[]byte("Dear Ada,\r\n"), ""},
		"armor":            {[]byte("-----BEGIN CMS-----\r\n"), ""},
		"another content":  {enclose(tags.SEQUENCE, append(identifierDER(oidData), octets(t, "a003 040100")...), 0), ""},
		"only a beginning": {enveloped[:200], ""},
		"text behind":      {append(bytes.Clone(enveloped), "Dear Ada,\r\n"...), ""},
		"text inside":      {enclose(tags.SEQUENCE, append(identifierDER(oidEnveloped), enclose(tag0Construct, text(100), 0)...), 0), ""},
		"too far inside":   {octets(t, "3012 06092a864886f70d010703 a007 3006 020100 3100"), ""},
		"version 99":       {octets(t, "3014 06092a864886f70d010703 a007 3005 020163 3100"), ""},
		"deep":             {append(octets(t, "3080 06092a864886f70d010703 a080 3080 020100"), bytes.Repeat(octets(t, "3180"), 100_000)...), ""},
		"long":             {octets(t, "3088 7fffffffffffffff 06092a864886f70d010703 a080 3080 020100 3100"), ""},
	} {
		if got := KindOf(bytes.NewReader(tc.message)); got != tc.want {
			t.Errorf("%s: %q", name, got)
		}
		if got := KindOf(iotest.OneByteReader(bytes.NewReader(tc.message))); got != tc.want {
			t.Errorf("%s, octet by octet: %q", name, got)
		}
	}
	for i := range enveloped {
		if got := KindOf(bytes.NewReader(enveloped[:i])); got != "" {
			t.Fatalf("%q after %d octets", got, i)
		}
	}
	if got := KindOf(io.MultiReader(bytes.NewReader(enveloped), iotest.ErrReader(io.ErrClosedPipe))); got != "" {
		t.Errorf("%q though the end could not be read", got)
	}
}

func TestKindOfALargeMessage(t *testing.T) {
	content, err := NewContent(AES256CBC, 32<<20)
	if err != nil {
		t.Fatal(err)
	}
	info, err := content.RecipientInfo(everybody()["rsa"].Certificate, WrapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	memory := testing.AllocsPerRun(1, func() {
		message := io.MultiReader(bytes.NewReader(content.Head(info)), &zeros{content.ciphertext()})
		if got := KindOf(message); got != KindEnveloped {
			t.Errorf("%q", got)
		}
	})
	if memory > 100 {
		t.Errorf("%v allocations", memory)
	}
}
