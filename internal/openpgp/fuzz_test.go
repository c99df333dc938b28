package openpgp

import (
	"bytes"
	"strings"
	"testing"
)

// FuzzReadKeys: what is read can be cut, read again and judged, and stays the
// same; nothing panics, nothing but refusals comes back.
func FuzzReadKeys(f *testing.F) {
	f.Add([]byte(rfcKey))
	f.Add([]byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nxjMEAAAAABYJKwYBBAHaRw8BAQdA\n-----END PGP PUBLIC KEY BLOCK-----\n"))
	a := address(f, "alice@example.org")
	c := must(NewContent(false))(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := ReadSecret(data, none); err == nil {
			_ = s.Bytes()
			_, _, _ = s.SignDetached(strings.NewReader("x"), now)
			_, _ = s.Renew(now, now.Add(year))
			data = s.Public().Bytes()
		}
		keys, err := ReadKeys(data)
		if err != nil {
			_ = word(t, err)
		}
		for _, k := range keys {
			again, err := ReadKeys(k.Bytes())
			if err != nil || len(again) != 1 || again[0].Fingerprint() != k.Fingerprint() || !bytes.Equal(again[0].Bytes(), k.Bytes()) {
				t.Fatalf("cut and read again, it is another key: %v", err)
			}
			if (again[0].JudgeAnyone(now) == nil) != (k.JudgeAnyone(now) == nil) || (again[0].Judge(a, now) == nil) != (k.Judge(a, now) == nil) {
				t.Error("cutting changed the judgment")
			}
			_, err = c.KeyPacket(k, now)
			if (err == nil) != (k.JudgeAnyone(now) == nil) && word(t, err) != Malformed {
				t.Errorf("judged one way and used the other: %v", err)
			}
			_, _, _, _ = k.Addresses(), k.Expires(), k.Algorithm(now), k.Revoked(now)
		}
	})
}

// FuzzOpen: only refusals come back, and never more than was allowed.
func FuzzOpen(f *testing.F) {
	f.Add([]byte(rfcMessage))
	f.Add([]byte(rfcSigned))
	f.Add(deflated(literal([]byte("hello"))))
	s := must(ReadSecret([]byte(rfcKey), none))(f)
	f.Add(sealed(f, must(NewContent(false))(f), s.Public(), []byte("hello")))
	signers := []Key{s.Public(), {}}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := Open(data, []*Secret{s, nil}, signers, now, 1<<16)
		if err != nil {
			if word(t, err) == "" || o != nil {
				t.Errorf("%+v with %v", o, err)
			}
		} else if len(o.Plain) > 1<<16 || o.Encrypted != (o.Integrity != "") {
			t.Errorf("%d octets, encrypted %v, integrity %q", len(o.Plain), o.Encrypted, o.Integrity)
		} else if o.Encrypted && !isArmored(data) && !Encrypted(bytes.NewReader(data)) {
			t.Error("it was opened, and is not seen as encrypted")
		}
		sigs, err := VerifyDetached(strings.NewReader("What we need"), data, signers, now)
		if err != nil {
			_ = word(t, err)
		}
		for _, g := range sigs {
			if g.Status == SignatureValid || g.Status == "" {
				t.Errorf("a signature nobody made is %q", g.Status)
			}
		}
	})
}

// isArmored: text around armor is nothing to Open, and something to Encrypted.
func isArmored(data []byte) bool { return !isBinary(data) }

// FuzzEncrypted: it ends, and what is encrypted is neither text nor literal.
func FuzzEncrypted(f *testing.F) {
	f.Add([]byte(rfcMessage))
	f.Add([]byte(rfcSigned))
	f.Add([]byte("\xc1\x01\x03\xd2\x01\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got := Encrypted(bytes.NewReader(data))
		if got != Encrypted(iotest{bytes.NewReader(data)}) {
			t.Error("it depends on the pieces it comes in")
		}
		if got && isBinary(data) {
			tags := ""
			for rest := data; len(rest) > 0; {
				p, r, err := nextPacket(rest)
				if err != nil {
					t.Fatalf("encrypted, and not packets: %v", err)
				}
				tags, rest = tags+string('A'+rune(p.tag)), r
			}
			last := tags[len(tags)-1] - 'A'
			if last != tagSEIPD && last != tagOCB || !strings.ContainsAny(tags[:len(tags)-1], "BD") {
				t.Errorf("packets %s", tags)
			}
		}
	})
}
