package cms

import (
	"bytes"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/fault"
)

func octets(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestToDER(t *testing.T) {
	for name, tc := range map[string]struct{ ber, der string }{
		"definite":                        {"3003 020105", "3003 020105"},
		"indefinite":                      {"3080 020105 0000", "3003 020105"},
		"long form":                       {"308105 02 820001 05", "3003 020105"},
		"leading zeros of a length":       {"3088 0000000000000003 020105", "3003 020105"},
		"octets in pieces":                {"2480 0402 6162 0401 63 0000", "0403 616263"},
		"octets in definite pieces":       {"2407 0402 6162 0401 63", "0403 616263"},
		"pieces in pieces":                {"2480 2480 0401 61 0000 2403 0401 62 0000", "0402 6162"},
		"no pieces":                       {"2480 0000", "0400"},
		"bits in pieces":                  {"2380 0302 00 ff 0302 04 f0 0000", "0303 04 fff0"},
		"no bits":                         {"2300", "0301 00"},
		"text in pieces":                  {"2c80 0401 61 0c01 62 0000", "0c02 6162"},
		"implicit tag stays constructed":  {"a080 0401 61 0401 62 0000", "a006 0401 61 0401 62"},
		"explicit tag with pieces inside": {"a080 2480 0401 61 0401 62 0000 0000", "a004 0402 6162"},
		"high tag":                        {"bf8101 80 0500 0000", "bf8101 02 0500"},
		"order of a set stays":            {"3180 020102 020101 0000", "3106 020102 020101"},
		"indefinite in definite":          {"3007 3080 020105 0000", "3005 3003 020105"},
		"zeros that end nothing":          {"3080 0402 0000 0000", "3004 0402 0000"},
	} {
		got, err := ToDER(octets(t, tc.ber), 1000)
		if want := octets(t, tc.der); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %x, %v; want %x", name, got, err, want)
		}
	}
}

func TestToDERRefuses(t *testing.T) {
	for name, s := range map[string]string{
		"nothing":                          "",
		"a tag alone":                      "30",
		"primitive of indefinite length":   "0480 0000",
		"end of contents outside":          "0000",
		"end of contents in definite":      "3002 0000",
		"no end of contents":               "3080 020105",
		"half an end of contents":          "3080 020105 00",
		"truncated":                        "3004 020105",
		"child longer than its parent":     "3003 020205 00",
		"length of 2^63":                   "0488 8000000000000000",
		"length of 2^64-1":                 "0488 ffffffffffffffff",
		"nine length octets":               "0489 000000000000000001 00",
		"reserved length":                  "04ff 00",
		"truncated length":                 "0482 01",
		"something behind":                 "0500 00",
		"endless tag":                      "1f ffffffffff 00",
		"integer among pieces":             "2480 0201 05 0000",
		"octets among bits":                "2380 0401 00 0000",
		"unused bits before the last":      "2380 0302 04f0 0302 00ff 0000",
		"nine unused bits":                 "2380 0302 09f0 0000",
		"a piece of bits without a number": "2380 0300 0000",
		"unused bits of nothing":           "2380 0301 04 0000",
		"reserved tag":                     "3004 2002 0500",
	} {
		got, err := ToDER(octets(t, s), 1000)
		if f := fault.From(err); got != nil || f.Kind != fault.Refused || f.Reason != "malformed" {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
}

func TestToDERLimits(t *testing.T) {
	if _, err := ToDER(octets(t, "3003 020105"), 4); !errors.Is(err, errTooLarge) {
		t.Errorf("more octets than allowed: %v", err)
	}
	// 130 octets in an indefinite string have a longer definite header.
	grown := append(octets(t, "3080 3080"), bytes.Repeat(octets(t, "0500"), 20000)...)
	grown = append(grown, octets(t, "00000000")...)
	der, err := ToDER(grown, len(grown))
	if err != nil || len(der) != 40000+8 {
		t.Errorf("%d octets, %v", len(der), err)
	}
	small := octets(t, "30 80 80 00 0000") // an empty [0] in an indefinite sequence
	if der, err := ToDER(small, len(small)); err != nil || len(der) != 4 {
		t.Errorf("%x, %v", der, err)
	}

	deep := func(n int) []byte {
		return append(bytes.Repeat([]byte{0x30, 0x80}, n), bytes.Repeat([]byte{0, 0}, n)...)
	}
	if _, err := ToDER(deep(maxDepth), 1<<20); err != nil {
		t.Errorf("%d deep: %v", maxDepth, err)
	}
	for _, n := range []int{maxDepth + 2, 400_000} {
		if _, err := ToDER(deep(n), 4<<20); !errors.Is(err, errMalformed) {
			t.Errorf("%d deep: %v", n, err)
		}
	}
	if _, err := ToDER(bytes.Repeat([]byte{0x24, 0x80}, 400_000), 1<<20); !errors.Is(err, errMalformed) {
		t.Errorf("deep pieces: %v", err)
	}
}

func TestToDERTakesTimeInProportion(t *testing.T) {
	const n = 8 << 20
	bomb := append(bytes.Repeat([]byte{0x30, 0x80}, maxDepth-1), bytes.Repeat([]byte{0x24, 0x80, 0, 0}, n/4)...)
	bomb = append(bomb, bytes.Repeat([]byte{0, 0}, maxDepth-1)...)
	start := time.Now()
	der, err := ToDER(bomb, n+n/2)
	if err != nil || len(der) < n/2 {
		t.Fatalf("%d octets, %v", len(der), err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("%v for %d octets", took, n)
	}
}

func TestDERIsGivenBackItself(t *testing.T) {
	der := octets(t, "3003 020105")
	if got, _ := ToDER(der, 100); &got[0] != &der[0] {
		t.Error("DER was copied")
	}
}

// strictDER tells with the reader of the standard library, which takes no BER.
func strictDER(b []byte) bool {
	for len(b) > 0 {
		var v asn1.RawValue
		rest, err := asn1.Unmarshal(b, &v)
		if err != nil {
			return false
		}
		if v.IsCompound && !strictDER(v.Bytes) {
			return false
		}
		b = rest
	}
	return true
}

func FuzzToDER(f *testing.F) {
	for _, s := range []string{
		"3080 020105 0000", "2480 0402 6162 0401 63 0000", "2380 0302 00ff 0302 04f0 0000",
		"a080 2480 0401 61 0000 0000", "bf8101 80 0500 0000", "3088 0000000000000003 020105",
		"0488 ffffffffffffffff", "3003 020205 00", "30803080 2c80 0401 61 0000 0000 0000",
	} {
		f.Add(octets(f, s))
	}
	f.Fuzz(func(t *testing.T, ber []byte) {
		before := bytes.Clone(ber)
		max := len(ber) + 8
		der, err := ToDER(ber, max)
		if !bytes.Equal(before, ber) {
			t.Fatal("the input was written to")
		}
		if err != nil {
			if der != nil || fault.From(err).Kind != fault.Refused {
				t.Fatalf("%x, %v", der, err)
			}
			return
		}
		if len(der) > max {
			t.Fatalf("%d octets of at most %d", len(der), max)
		}
		again, err := ToDER(der, len(der))
		if err != nil || !bytes.Equal(again, der) {
			t.Fatalf("not the same again: %x, %x, %v", der, again, err)
		}
		// The standard library refuses tags in the long form that need none,
		// and tags over 2^31; their octets are not ours to change.
		longTag := slices.ContainsFunc(der, func(b byte) bool { return b&0x1f == 0x1f })
		if !longTag && !strictDER(der) {
			t.Fatalf("not DER: %x", der)
		}
	})
}
