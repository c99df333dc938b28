package cms

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	tags "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/sealpost/sealpost/internal/fault"
)

func TestAlteredGCMGivesNothing(t *testing.T) {
	for _, name := range []string{"rsa", "P-256", "X25519"} {
		to := everybody()[name]
		der := sealed(t, AES256GCM, text(50), to, WrapOptions{})
		// Ciphertext and tag, octet by octet.
		for i := len(der) - 50 - 2 - gcmTag; i < len(der); i++ {
			for _, bit := range []byte{1, 0x80} {
				altered := bytes.Clone(der)
				altered[i] ^= bit
				got, err := Decrypt(altered, []Recipient{to}, 1000)
				if got != nil || err == nil {
					t.Fatalf("%s: octet %d from the end altered: opened", name, len(der)-i)
				}
				if reason := fault.From(err).Reason; reason != "decryption" && reason != "malformed" {
					t.Fatalf("%s: %v", name, err)
				}
			}
		}
	}
}

// Whatever octet is altered of a whole message, nothing else than the plaintext
// is ever given as authenticated.
func TestAlteredAnywhere(t *testing.T) {
	to := everybody()["P-256"]
	der := sealed(t, AES256GCM, text(50), to, WrapOptions{})
	opened := 0
	for i := range der {
		altered := bytes.Clone(der)
		altered[i] ^= 4
		got, err := Decrypt(altered, []Recipient{to}, 1000)
		if err == nil && !bytes.Equal(got.Plain, text(50)) {
			t.Fatalf("octet %d altered: another plaintext", i)
		}
		if err == nil {
			opened++
		} else if fault.From(err).Kind != fault.Refused {
			t.Fatalf("octet %d altered: %v", i, err)
		}
	}
	// The version numbers, the originator's algorithm and the announced length
	// of the tag say nothing that matters.
	if opened > 20 {
		t.Errorf("%d octets could be altered without notice", opened)
	}
}

func TestAlteredCBCIsNotCalledProved(t *testing.T) {
	to := everybody()["rsa"]
	der := sealed(t, AES256CBC, text(160), to, WrapOptions{})
	der[len(der)-100] ^= 1 // a gadget: CBC lets anybody flip bits
	got, err := Decrypt(der, []Recipient{to}, 1000)
	if err != nil || got.Integrity != IntegrityNone || bytes.Equal(got.Plain, text(160)) {
		t.Errorf("%+v, %v", got, err)
	}
}

// padded makes a message whose last block is as given.
func padded(t *testing.T, to Recipient, plain []byte) []byte {
	t.Helper()
	c, err := NewContent(AES256CBC, int64(len(plain)-1))
	if err != nil {
		t.Fatal(err)
	}
	info, err := c.RecipientInfo(to.Certificate, WrapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	out := bytes.Clone(plain)
	cipher.NewCBCEncrypter(c.block, c.iv).CryptBlocks(out, out)
	return append(c.Head(info), out...)
}

func TestPadding(t *testing.T) {
	to := everybody()["P-256"]
	good := map[byte]bool{}
	for last := range 256 {
		plain := bytes.Repeat([]byte{byte(last)}, 32)
		got, err := Decrypt(padded(t, to, plain), []Recipient{to}, 100)
		if err == nil {
			good[byte(last)] = true
			if len(got.Plain) != 32-last {
				t.Errorf("padding %d: %d octets left", last, len(got.Plain))
			}
		} else if err != error(errDecryption) {
			t.Errorf("padding %d: %v", last, err)
		}
	}
	if len(good) != aes.BlockSize || good[0] || good[17] {
		t.Errorf("good paddings: %v", good)
	}
	for i := range 15 {
		plain := bytes.Repeat([]byte{16}, 32)
		plain[16+i] = 15
		if _, err := Decrypt(padded(t, to, plain), []Recipient{to}, 100); err != error(errDecryption) {
			t.Errorf("octet %d of the padding is wrong: %v", i, err)
		}
	}
}

// damaged gives messages that are wrong in one secret way each.
func damaged(t *testing.T) map[string][]byte {
	t.Helper()
	p := everybody()
	out := map[string][]byte{}
	for _, c := range []Cipher{AES256CBC, AES256GCM} {
		content, err := NewContent(c, 100)
		if err != nil {
			t.Fatal(err)
		}
		for name, o := range map[string]WrapOptions{"rsa": {}, "rsa OAEP": {OAEP: true}, "P-256": {}, "X25519": {}} {
			var who string
			fmt.Sscan(name, &who)
			info, err := content.RecipientInfo(p[who].Certificate, o)
			if err != nil {
				t.Fatal(err)
			}
			whole := assembled(t, content, info, text(100))
			key := bytes.Clone(whole)
			at := bytes.Index(whole, info[len(info)-20:])
			key[at+10] ^= 1
			out[fmt.Sprintf("%v %s: key", c, name)] = key
			tail := bytes.Clone(whole)
			if c == AES256CBC {
				tail[len(tail)-17] ^= 0x55 // the length of the padding
			} else {
				tail[len(tail)-1] ^= 1
			}
			out[fmt.Sprintf("%v %s: end", c, name)] = tail
		}
		// Well-formed PKCS #1 v1.5, but of another length or with wrong octets.
		to := p["rsa"]
		public := to.Certificate.PublicKey.(*rsa.PublicKey)
		for _, n := range []int{0, 16, 31, 33} {
			encrypted := attackersKey(t, public, make([]byte, n))
			out[fmt.Sprintf("%v: key of %d octets", c, n)] = assembled(t, content, transportInfo(to, encrypted), text(100))
		}
		out[fmt.Sprintf("%v: no padding", c)] = assembled(t, content, transportInfo(to, bytes.Repeat([]byte{7}, public.Size())), text(100))
		out[fmt.Sprintf("%v: over the modulus", c)] = assembled(t, content, transportInfo(to, bytes.Repeat([]byte{0xff}, public.Size())), text(100))
		out[fmt.Sprintf("%v: short", c)] = assembled(t, content, transportInfo(to, []byte{1}), text(100))
	}
	return out
}

func attackersKey(t *testing.T, public *rsa.PublicKey, key []byte) (encrypted []byte) {
	t.Helper()
	var err error
	fips140.WithoutEnforcement(func() {
		//lint:ignore SA1019 this plays the attacker
		encrypted, err = rsa.EncryptPKCS1v15(rand.Reader, public, key)
	})
	if err != nil {
		t.Fatal(err)
	}
	return encrypted
}

func transportInfo(to Recipient, encrypted []byte) []byte {
	body := append([]byte{byte(tags.INTEGER), 1, 0}, issuerAndSerial(to.Certificate)...)
	body = append(body, algorithmDER(oidRSA, byte(tags.NULL), 0)...)
	body = append(body, enclose(tags.OCTET_STRING, encrypted, 0)...)
	return enclose(tags.SEQUENCE, body, 0)
}

func TestAllFailuresLookAlike(t *testing.T) {
	keys := keysOf("rsa", "P-256", "X25519")
	for name, message := range damaged(t) {
		got, err := Decrypt(message, keys, 1000)
		if err == nil && got.Integrity == IntegrityNone && len(got.Plain) != 100 {
			continue // one wrong key in 256 leaves what looks like padding
		}
		if err != error(errDecryption) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A wrong padding of the key must not be told from a right one of a wrong key,
// nor by sending the message again: the key used in its place is always the
// same for the same octets, and another for others.
func TestTheKeyInPlaceOfAWrongOne(t *testing.T) {
	private := everybody()["rsa"].Key.(*rsa.PrivateKey)
	seen := map[string]bool{}
	for i := range 4 {
		wrong := bytes.Repeat([]byte{byte(i + 1)}, private.Size())
		first, ok := unwrapPKCS1(private, wrong, 32)
		again, okAgain := unwrapPKCS1(private, wrong, 32)
		if !ok || !okAgain || len(first) != 32 || !bytes.Equal(first, again) || seen[string(first)] {
			t.Errorf("%d: %x, %x", i, first, again)
		}
		seen[string(first)] = true
	}
	key := sha256.Sum256([]byte("key"))
	right, ok := unwrapPKCS1(private, attackersKey(t, &private.PublicKey, key[:]), 32)
	if !ok || !bytes.Equal(right, key[:]) {
		t.Error("the right key is not given")
	}
}

func TestAuthenticatedAttributesCount(t *testing.T) {
	to := everybody()["P-256"]
	content, err := NewContent(AES256GCM, 10)
	if err != nil {
		t.Fatal(err)
	}
	info, err := content.RecipientInfo(to.Certificate, WrapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	attribute := octets(t, "3018 06092a864886f70d010903 310b 06092a864886f70d010701")
	var boxed []byte
	fips140.WithoutEnforcement(func() {
		aead := must(cipher.NewGCM(content.block))
		boxed = aead.Seal(nil, content.iv, text(10), enclose(tags.SET, attribute, 0))
	})
	build := func(attribute []byte) []byte {
		inner := append(identifierDER(oidData), content.contentAlgorithm()...)
		inner = append(inner, enclose(tag0, boxed[:10], 0)...)
		b := append([]byte{byte(tags.INTEGER), 1, 0}, enclose(tags.SET, info, 0)...)
		b = append(b, enclose(tags.SEQUENCE, inner, 0)...)
		if attribute != nil {
			b = append(b, enclose(tag1Construct, attribute, 0)...)
		}
		b = append(b, enclose(tags.OCTET_STRING, boxed[10:], 0)...)
		b = enclose(tag0Construct, enclose(tags.SEQUENCE, b, 0), 0)
		return enclose(tags.SEQUENCE, append(identifierDER(oidAuthEnveloped), b...), 0)
	}
	if got, err := Decrypt(build(attribute), []Recipient{to}, 10); err != nil || !bytes.Equal(got.Plain, text(10)) {
		t.Errorf("%+v, %v", got, err)
	}
	other := bytes.Clone(attribute)
	other[len(other)-1] = 2
	for _, a := range [][]byte{nil, other} {
		if _, err := Decrypt(build(a), []Recipient{to}, 10); err != error(errDecryption) {
			t.Errorf("other attributes: %v", err)
		}
	}
}

func TestBombs(t *testing.T) {
	to := everybody()["rsa"]
	whole := sealed(t, AES256CBC, text(1000), to, WrapOptions{})
	content, err := NewContent(AES256CBC, 1000)
	if err != nil {
		t.Fatal(err)
	}
	info, err := content.RecipientInfo(to.Certificate, WrapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wrong := transportInfo(to, bytes.Repeat([]byte{7}, 256))
	deep := append(bytes.Repeat([]byte{0x30, 0x80}, 500_000), bytes.Repeat([]byte{0, 0}, 500_000)...)
	for name, tc := range map[string]struct {
		message []byte
		word    string
	}{
		"nothing":             {nil, "malformed"},
		"text":                {[]byte("Dear Ada,\r\n"), "malformed"},
		"deep":                {deep, "malformed"},
		"truncated":           {whole[:len(whole)-1], "malformed"},
		"something behind":    {append(bytes.Clone(whole), 5, 0), "malformed"},
		"length of 2^62":      {octets(t, "3088400000000000000006092a864886f70d010703"), "malformed"},
		"too many recipients": {assembled(t, content, bytes.Repeat([]byte{0xa3, 0}, mostRecipients+1), text(1000)), "too_large"},
		"all recipients us":   {assembled(t, content, bytes.Repeat(wrong, 10_000), text(1000)), "decryption"},
		"no recipients":       {assembled(t, content, nil, text(1000)), "no_decryption_key"},
		"over it, not for us": {sealed(t, AES256CBC, text(2000), everybody()["P-256"], WrapOptions{}), "too_large"},
		"over the limit":      {sealed(t, AES256CBC, text(1001), to, WrapOptions{}), "too_large"},
		"signed":              {enclose(tags.SEQUENCE, append(identifierDER(oidSignedData), 0xa0, 2, 0x30, 0), 0), "unsupported"},
		"recipients cut off":  {assembled(t, content, info[:len(info)-1], text(1000)), "malformed"},
	} {
		start := time.Now()
		got, err := Decrypt(tc.message, []Recipient{to}, 1000)
		if f := fault.From(err); got != nil || f.Kind != fault.Refused || f.Reason != tc.word {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: %v", name, took)
		}
	}
	for i := range whole {
		if _, err := Decrypt(whole[:i], []Recipient{to}, 1000); !errors.Is(err, errMalformed) {
			t.Fatalf("cut after %d octets: %v", i, err)
		}
	}
	if _, err := Decrypt(whole, []Recipient{to}, -1); !errors.Is(err, errTooLarge) {
		t.Error("a limit below nothing")
	}
}

// Some entries may be damaged, and one of ours still be good; but nobody has us
// try thousands.
func TestSeveralEntriesForUs(t *testing.T) {
	to := everybody()["P-256"]
	content, err := NewContent(AES256GCM, 10)
	if err != nil {
		t.Fatal(err)
	}
	info, err := content.RecipientInfo(to.Certificate, WrapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wrong := bytes.Clone(info)
	wrong[len(wrong)-1] ^= 1
	for before := range mostAttempts + 1 {
		message := assembled(t, content, append(bytes.Repeat(wrong, before), info...), text(10))
		got, err := Decrypt(message, []Recipient{to}, 10)
		if before < mostAttempts && (err != nil || !bytes.Equal(got.Plain, text(10))) {
			t.Errorf("after %d wrong entries: %v", before, err)
		}
		if before == mostAttempts && err != error(errDecryption) {
			t.Errorf("after %d wrong entries: %+v, %v", before, got, err)
		}
	}
}

// A wrong name beside a right serial number is another certificate's; the same
// name in another type of string is ours.
func TestNames(t *testing.T) {
	ours := octets(t, "300f310d300b06035504030c0443412031")
	for s, want := range map[string]bool{
		"300f310d300b06035504030c0443412031": true,
		"300f310d300b0603550403130443412031": true,  // PrintableString
		"300f310d300b06035504030c0463612031": true,  // another case
		"300f310d300b06035504030c0443412032": false, // CA 2
		"300f310d300b060355040a0c0443412031": false, // an organization
		"3000":                               false,
		"0500":                               false,
	} {
		if sameName(ours, octets(t, s)) != want {
			t.Errorf("%s: %v", s, !want)
		}
	}
}

func TestKeysOfAnotherKind(t *testing.T) {
	p := everybody()
	mixed := []Recipient{
		{Key: p["P-256"].Key, Certificate: p["rsa"].Certificate},
		{Key: p["rsa"].Key, Certificate: p["P-256"].Certificate},
		{Key: nil, Certificate: p["X25519"].Certificate},
		{Key: crypto.PrivateKey(p["P-224"].Key), Certificate: p["P-384"].Certificate},
		// A key on the wrong curve, or another of the right kind.
		{Key: p["P-256"].Key, Certificate: p["P-521"].Certificate},
		{Key: p["rsa"].Key, Certificate: p["rsa3072"].Certificate},
	}
	for _, name := range strong {
		_, err := Decrypt(sealed(t, AES256GCM, text(10), p[name], WrapOptions{}), mixed, 100)
		if f := fault.From(err); f.Kind != fault.Refused || f.Reason != "unsupported" && f.Reason != "decryption" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
