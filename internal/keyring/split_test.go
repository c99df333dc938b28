package keyring

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
)

// Whatever is handed in, taking it apart ends, and says of every piece what it
// is or why it is none.
func FuzzSplit(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		pieces, err := split(data)
		if err != nil {
			if !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.TooLarge) {
				t.Fatalf("%v is no fault of who handed it in", err)
			}
			return
		}
		for _, p := range pieces {
			switch {
			case (p.m == nil) == (p.refused == nil):
				t.Fatal("a piece is neither a key nor refused, or both")
			case p.m != nil && p.m.fingerprint == "":
				t.Fatal("a key has no fingerprint")
			case p.m != nil:
				if again, err := stored(p.m.kind, p.m.data()); err != nil || again.fingerprint != p.m.fingerprint {
					t.Fatalf("what would be stored cannot be read again: %v", err)
				}
			}
		}
	})
}

func TestUnfolding(t *testing.T) {
	for in, want := range map[string]string{
		"A:b\r\n c\r\nD:e\r\n": "A:bc\r\nD:e\r\n", "A:b\n\tc\n": "A:bc\n", "A:b\r c": "A:b\r c", "\n": "\n", " A": " A", "A\r\n \r\n B": "AB",
	} {
		if got := string(unfold([]byte(in))); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	// Twenty mebioctets in one value, folded: linear, or this takes hours.
	card := "BEGIN:VCARD\r\nKEY:data:application/pgp-keys;base64,\r\n " + strings.Repeat(strings.Repeat("A", 74)+"\r\n ", 280_000) + "\r\nEND:VCARD\r\n"
	begin := time.Now()
	pieces, err := split([]byte(card))
	if err != nil || len(pieces) != 1 || pieces[0].refused.Reason != "too_large" || time.Since(begin) > 10*time.Second {
		t.Errorf("%v %v after %v", pieces, err, time.Since(begin))
	}
}

// A ring is cut in linear time and every key of it is found, however many.
func TestALongRing(t *testing.T) {
	a, err := mail.ParseAddress("jane@practice.example")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s, err := openpgp.Generate(openpgp.V4Curve25519, "", a, now, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	ring := bytes.Repeat(s.Public().Bytes(), 500)
	pieces, err := split(ring)
	if err != nil || len(pieces) != 500 {
		t.Fatalf("%d pieces: %v", len(pieces), err)
	}
	// What does not end is cut off where it stops making sense.
	if pieces, err = split(append(ring[:len(ring)-3:len(ring)-3], 0xff, 0xff)); err != nil || len(pieces) < 499 || pieces[0].m == nil {
		t.Errorf("%d pieces: %v", len(pieces), err)
	}
	if _, err := split(bytes.Repeat([]byte{0xc6, 0}, maxPieces+10)); !fault.Is(err, fault.TooLarge) {
		t.Errorf("more keys than are taken: %v", err)
	}
}

// The memory holds no more than it may, and what was used last.
func TestTheMemoryIsBounded(t *testing.T) {
	l := newLRU[int, int](3, nil)
	for i := range 10 {
		l.put(i, i)
		l.get(0)
	}
	for i, want := range map[int]bool{0: true, 7: false, 8: true, 9: true} {
		if _, ok := l.get(i); ok != want {
			t.Errorf("%d: %v", i, ok)
		}
	}
	l.drop(8)
	if _, ok := l.get(8); ok || len(l.by) != 2 || l.order.Len() != 2 {
		t.Error("dropping leaves something")
	}
	weighed := newLRU[int](100, func(n int) int { return n })
	for i, n := range []int{40, 40, 30, 30, 30, 90, 5} {
		weighed.put(i%6, n)
	}
	if _, ok := weighed.get(5); !ok || weighed.used != 95 || len(weighed.by) != 2 {
		t.Errorf("%d octets in %d", weighed.used, len(weighed.by))
	}
	weighed.put(1, 200)
	if len(weighed.by) != 0 || weighed.used != 0 {
		t.Errorf("%d octets in %d", weighed.used, len(weighed.by))
	}
}

// Every word of a refusal has a sentence that shows nothing of the word.
func TestEveryWordIsSaid(t *testing.T) {
	for _, word := range []string{openpgp.WeakAlgorithm, openpgp.NoEncryptionKey, openpgp.Expired, openpgp.Revoked, openpgp.WrongAddress, openpgp.NotYetValid,
		openpgp.TooLarge, openpgp.Malformed, openpgp.Unsupported, openpgp.SecretGiven,
		"no_chain", "key_usage", "unknown_critical", "name_constraints", "revocation_unknown", "weak_signature", "no_address", wordUnjudged, wordIssuer, wordOtherKey} {
		for _, kind := range []policy.Seal{policy.PGP, policy.SMIME} {
			if s := Sentence(kind, word); strings.Contains(s, "refused") || strings.Contains(s, "_") || !strings.HasSuffix(s, ".") {
				t.Errorf("%s: %s", word, s)
			}
		}
	}
}
