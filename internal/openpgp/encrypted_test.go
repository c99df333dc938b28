package openpgp

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

func TestEncryptedByStructure(t *testing.T) {
	s := generate(t, V4Curve25519)
	c := must(NewContent(false))(t)
	key := must(c.KeyPacket(s.Public(), now))(t)
	message := sealed(t, c, s.Public(), []byte(body))
	data := message[len(key):]
	armored := string(must(enarmor("MESSAGE", message, true))(t))
	oldFormat := func() []byte { // as GnuPG 1 writes it: the legacy header
		p, _, err := nextPacket(data)
		if err != nil {
			t.Fatal(err)
		}
		return p.body
	}()
	join := func(b ...[]byte) []byte { return bytes.Join(b, nil) }
	for name, c := range map[string]struct {
		data []byte
		want bool
	}{
		"message":                 {message, true},
		"armored":                 {[]byte(armored), true},
		"armored, CRLF":           {[]byte(strings.ReplaceAll(armored, "\n", "\r\n") + "\r\n\r\n"), true},
		"two recipients":          {join(key, key, data), true},
		"password":                {join(raw2(tagSKESK, "\x04\x09\x03\x0812345678\x60"), data), true},
		"marker":                  {join(raw2(tagMarker, "PGP"), message), true},
		"partial lengths":         {wrapped(t, s, false, literal([]byte(strings.Repeat("x", 70_000)))), true},
		"GnuPG's OCB":             {join(key, raw2(tagOCB, "\x01\x09\x02\x10xxxx")), true},
		"nothing":                 {nil, false},
		"text":                    {[]byte("Dear doctor,"), false},
		"an armor's first line":   {[]byte("-----BEGIN PGP MESSAGE-----\n"), false},
		"an empty armor":          {[]byte("-----BEGIN PGP MESSAGE-----\n\n-----END PGP MESSAGE-----\n"), false},
		"text in armor":           {must(enarmor("MESSAGE", []byte("Dear doctor,"), true))(t), false},
		"literal in armor":        {must(enarmor("MESSAGE", literal([]byte("Dear doctor,")), true))(t), false},
		"text before the armor":   {[]byte("Dear doctor,\n" + armored), false},
		"text after the armor":    {[]byte(armored + "Regards\n"), false},
		"armor cut off":           {[]byte(armored[:len(armored)-40]), false},
		"another armor":           {must(enarmor("SIGNATURE", message, true))(t), false},
		"no key packet":           {data, false},
		"only a marker":           {join(raw2(tagMarker, "PGP"), data), false},
		"only key packets":        {join(key, key), false},
		"signed":                  {join(raw2(tagOnePass, "xxxxxxxxxxxxx"), literal([]byte("x"))), false},
		"literal":                 {literal([]byte("x")), false},
		"text after the end":      {join(message, []byte("text")), false},
		"literal after the end":   {join(message, literal([]byte("x"))), false},
		"message twice":           {join(message, message), false},
		"literal after a key":     {join(key, literal([]byte("x"))), false},
		"compressed after a key":  {join(key, deflated(literal([]byte("x")))), false},
		"no integrity":            {join(key, raw2(tagSED, "xxxxxxxxxxxxxxxxxxxxxxxx")), false},
		"cut off":                 {message[:len(message)-1], false},
		"unknown version":         {join(key, raw2(tagSEIPD, "\x03xxxxxxxxxxxxxxxxxxxxxxxxxxx")), false},
		"unknown key version":     {join(raw2(tagPKESK, "\x02xxxxxxxxxx"), data), false},
		"empty data":              {join(key, raw2(tagSEIPD, "")), false},
		"too many key packets":    {join(bytes.Repeat(key, maxKeyPackets), data), false},
		"a key packet of 1 GiB":   {append([]byte{0xc1, 255, 0x40, 0, 0, 0, 3}, key...), false},
		"a length of length gone": {[]byte{0xc1, 255, 0}, false},
		"legacy header":           {join(key, []byte{0x80 | tagSEIPD<<2&0x3c | 1, byte(len(oldFormat) >> 8), byte(len(oldFormat))}, oldFormat), false},
	} {
		if got := Encrypted(bytes.NewReader(c.data)); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
		if got := Encrypted(iotest{bytes.NewReader(c.data)}); got != c.want {
			t.Errorf("%s, in pieces: %v", name, got)
		}
	}
	endless := io.MultiReader(bytes.NewReader(key), bytes.NewReader([]byte{0xd2, 255, 4, 0, 0, 0, 1}), io.LimitReader(zeros{}, 1<<26))
	if Encrypted(endless) {
		t.Error("64 MiB and an octet missing are called whole")
	}
}
