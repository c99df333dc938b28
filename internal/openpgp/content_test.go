package openpgp

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/ProtonMail/go-crypto/openpgp/s2k"
	"pgregory.net/rapid"

	"github.com/sealpost/sealpost/internal/private"
)

// TestOneContent: the same octets every time, for whomever, and each recipient
// opens them by a key packet that tells nothing of the others.
func TestOneContent(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		p := V4Curve25519
		if v6 {
			p = V6Curve25519
		}
		alice, bob, eve := generate(t, p), generate(t, p), generate(t, p)
		c := must(NewContent(v6))(t)
		plain := random(3*chunkSize + 17)
		if err := c.Sign(alice, bytes.NewReader(plain), now); err != nil {
			t.Fatal(err)
		}
		var first, second bytes.Buffer
		for _, w := range []*bytes.Buffer{&first, &second} {
			if err := c.Encrypt(w, iotest{bytes.NewReader(plain)}, int64(len(plain))); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Error("the second time, other octets came")
		}
		for _, s := range []*Secret{alice, bob} {
			packet := must(c.KeyPacket(s.Public(), now))(t)
			o := must(Open(append(packet, first.Bytes()...), []*Secret{eve, s}, []Key{alice.Public()}, now, 1<<20))(t)
			if !bytes.Equal(o.Plain, plain) || o.Algorithms != c.Algorithms(s.Public(), now) || o.Recipient != s.Public().Fingerprint() {
				t.Errorf("%s %s", o.Algorithms, o.Recipient)
			}
			if len(o.Signatures) != 1 || o.Signatures[0].Status != SignatureValid {
				t.Errorf("%+v", o.Signatures)
			}
			if want := map[bool]string{false: "mdc", true: "aead"}[v6]; o.Integrity != want {
				t.Errorf("integrity %q", o.Integrity)
			}
		}
		_, err := Open(append(must(c.KeyPacket(bob.Public(), now))(t), first.Bytes()...), []*Secret{eve}, nil, now, 1<<20)
		wants(t, err, NotForUs)
		if other := sealed(t, must(NewContent(v6))(t), bob.Public(), plain); bytes.Contains(other, first.Bytes()[100:200]) {
			t.Error("two contents are alike")
		}
	}
}

// iotest reads in odd pieces.
type iotest struct{ r io.Reader }

func (i iotest) Read(b []byte) (int, error) { return i.r.Read(b[:min(len(b), 7777)]) }

func TestContentVersions(t *testing.T) {
	four, six := generate(t, V4Curve25519), generate(t, V6Curve25519)
	_, err := must(NewContent(true))(t).KeyPacket(four.Public(), now)
	wants(t, err, Unsupported)
	if got := must(NewContent(true))(t).Algorithms(four.Public(), now); got != "" {
		t.Errorf("algorithms %q for a key that cannot have it", got)
	}
	if got := must(NewContent(true))(t).Algorithms(six.Public(), now); got != "X25519, AES-256-OCB, SEIPDv2" {
		t.Errorf("algorithms %q", got)
	}
	o := must(Open(sealed(t, must(NewContent(false))(t), six.Public(), []byte(body)), []*Secret{six}, nil, now, 1000))(t)
	if string(o.Plain) != body || o.Integrity != "mdc" {
		t.Errorf("%+v", o)
	}
}

func TestSizeMustBeExact(t *testing.T) {
	s := generate(t, V4Curve25519)
	for _, v6 := range []bool{false, true} {
		for _, size := range []int64{-1, 9, 11} {
			if err := must(NewContent(v6))(t).Encrypt(io.Discard, strings.NewReader("0123456789"), size); !errors.Is(err, errSize) {
				t.Errorf("size %d: %v", size, err)
			}
		}
		wants(t, must(NewContent(v6))(t).Encrypt(io.Discard, strings.NewReader(""), 1<<32), TooLarge)
	}
	c := must(NewContent(false))(t)
	if err := c.Sign(s, strings.NewReader("0123456789"), now); err != nil {
		t.Fatal(err)
	}
	if err := c.Encrypt(io.Discard, strings.NewReader("012345678"), 9); !errors.Is(err, errSize) {
		t.Errorf("not what was signed: %v", err)
	}
	if err := c.Sign(s, strings.NewReader("0123456789"), now); !errors.Is(err, errSignedOnce) {
		t.Errorf("signed twice: %v", err)
	}
}

// zeros is an endless reader.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// TestConstantMemory: 64 MiB are sealed without holding them.
func TestConstantMemory(t *testing.T) {
	const size = 64 << 20
	for _, v6 := range []bool{false, true} {
		c := must(NewContent(v6))(t)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		n := &counter{r: zeros{}}
		if err := c.Encrypt(io.Discard, io.LimitReader(n, size), size); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 2<<20 || n.n != size {
			t.Errorf("v6 %v: %d octets were allocated for %d", v6, used, n.n)
		}
	}
}

// TestWhatContentMakesOpenOpens is the property, also through armor and at
// the borders of chunks and lengths.
func TestWhatContentMakesOpenOpens(t *testing.T) {
	secrets := map[Profile]*Secret{}
	for _, p := range profiles {
		secrets[p] = generate(t, p)
	}
	stranger := generate(t, V4Curve25519)
	rapid.Check(t, func(rt *rapid.T) {
		s := secrets[Profile(rapid.IntRange(0, 3).Draw(rt, "profile"))]
		v6 := s.Public().Version() == 6 && rapid.Bool().Draw(rt, "v6")
		signer := secrets[Profile(rapid.IntRange(0, 3).Draw(rt, "signer"))]
		plain := random(rapid.OneOf(rapid.IntRange(0, 300), rapid.SampledFrom([]int{
			8370, 8371, 8377, 8378, 8383, 8384, chunkSize - 7, chunkSize, chunkSize + 1, 2*chunkSize - 12, 2 * chunkSize})).Draw(rt, "size"))
		c := must(NewContent(v6))(t)
		signed := rapid.Bool().Draw(rt, "signed")
		if signed {
			if err := c.Sign(signer, bytes.NewReader(plain), now); err != nil {
				rt.Fatal(err)
			}
		}
		message := sealed(t, c, s.Public(), plain)
		if !Encrypted(bytes.NewReader(message)) {
			rt.Error("not seen as encrypted")
		}
		if rapid.Bool().Draw(rt, "armor") {
			message = must(enarmor("MESSAGE", message, !v6))(t)
			if !Encrypted(bytes.NewReader(message)) {
				rt.Error("not seen as encrypted in armor")
			}
		}
		signers, want := []Key{stranger.Public(), signer.Public()}, SignatureValid
		if rapid.Bool().Draw(rt, "unknown") {
			signers, want = signers[:1], SignatureUnknownKey
		}
		o := must(Open(message, []*Secret{stranger, s}, signers, now, int64(len(plain))))(t)
		if !bytes.Equal(o.Plain, plain) || (len(o.Signatures) == 1) != signed || signed && o.Signatures[0].Status != want {
			rt.Errorf("%d octets of %d, %+v", len(o.Plain), len(plain), o.Signatures)
		}
		if len(plain) > 0 {
			_, err := Open(message, []*Secret{s}, nil, now, int64(len(plain)-1))
			wants(t, err, TooLarge)
		}
	})
}

func TestContentIsConcurrent(t *testing.T) {
	s := generate(t, V6Curve25519)
	c := must(NewContent(true))(t)
	want := sealed(t, c, s.Public(), []byte(body))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			var out bytes.Buffer
			if _, err := c.KeyPacket(s.Public(), now); err != nil {
				t.Error(err)
			}
			if err := c.Encrypt(&out, strings.NewReader(body), int64(len(body))); err != nil || !bytes.HasSuffix(want, out.Bytes()) {
				t.Error("other octets", err)
			}
		})
	}
	wg.Wait()
}

func TestRenewAndRevoke(t *testing.T) {
	for name, p := range profiles {
		t.Run(name, func(t *testing.T) {
			s := generate(t, p)
			a := address(t, "alice@example.org")
			late := now.Add(2 * year)
			wants(t, s.Public().Judge(a, late), Expired)
			if !s.Public().Expires().Equal(now.Add(year)) || !s.Public().Created().Equal(now.Add(-year)) {
				t.Errorf("from %v to %v", s.Public().Created(), s.Public().Expires())
			}
			renewed := must(s.Renew(now, now.Add(3*year)))(t)
			wants(t, oneKey(t, renewed.Public().Bytes()).Judge(a, late), "")
			if back := must(ReadSecret(renewed.Bytes().Reveal(), none))(t); !back.Public().Expires().Equal(now.Add(3 * year)) {
				t.Errorf("comes back to expire at %v", back.Public().Expires())
			}
			wants(t, s.Public().Judge(a, late), Expired)
			_, _, err := s.SignDetached(strings.NewReader(body), late)
			wants(t, err, Expired)
			if _, _, err = renewed.SignDetached(strings.NewReader(body), late); err != nil {
				t.Error(err)
			}
			for reason, before := range map[string]string{"superseded": "", "retired": "", "compromised": Revoked, "We moved.": Revoked} {
				k := oneKey(t, must(s.Revoke(now, reason))(t).Bytes())
				wants(t, k.Judge(a, now), Revoked)
				wants(t, k.Judge(a, now.Add(-time.Hour)), before)
				if !k.Revoked(now) || k.Revoked(now.Add(-time.Hour)) != (before == Revoked) {
					t.Errorf("%s: revoked %v", reason, k.Revoked(now))
				}
			}
			if s.Public().Revoked(now) {
				t.Error("the key itself was changed")
			}
		})
	}
	for _, end := range []time.Time{now, now.Add(-time.Hour), now.Add(200 * year)} {
		if _, err := Generate(V4Curve25519, "", address(t, "a@example.org"), now, end); err == nil {
			t.Errorf("made to expire at %v", end)
		}
	}
	s := must(Generate(V4Curve25519, "", address(t, "a@example.org"), now, time.Time{}))(t)
	wants(t, s.Public().Judge(address(t, "a@example.org"), now.Add(100*year)), "")
}

// TestPassphrases: what another program locked, as old and new ones do it, and
// a lock that would take all memory to open.
func TestPassphrases(t *testing.T) {
	for name, c := range map[string]struct {
		profile Profile
		mode    s2k.Mode
	}{"iterated": {V4Curve25519, s2k.IteratedSaltedS2K}, "argon2": {V6Curve25519, s2k.Argon2S2K}} {
		s := generate(t, c.profile)
		config := &packet.Config{S2KConfig: &s2k.Config{S2KMode: c.mode,
			Argon2Config: &s2k.Argon2Config{NumberOfPasses: 3, DegreeOfParallelism: 4, Memory: 1 << 16}}}
		if c.profile == V6Curve25519 {
			config.AEADConfig = &packet.AEADConfig{}
		}
		if err := library(func() error { return packet.EncryptPrivateKeys(s.parts, []byte("open sesame"), config) }); err != nil {
			t.Fatal(err)
		}
		locked := s.Bytes().Reveal()
		back, err := ReadSecret(locked, private.NewBytes([]byte("open sesame")))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, _, err := back.SignDetached(strings.NewReader(body), now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_, err = ReadSecret(locked, private.NewBytes([]byte("open, sesame")))
		wants(t, err, WrongPassphrase)
		if c.mode != s2k.Argon2S2K {
			continue
		}
		// Three passes, four lanes, 2^16 KiB, behind the salt.
		for octet, value := range map[int]byte{0: 17, 2: 19} {
			at := bytes.Index(locked, []byte{3, 4, 16})
			if at < 17 || locked[at-17] != 4 {
				t.Fatalf("%s: parameters not found", name)
			}
			costly := bytes.Clone(locked)
			costly[at+octet] = value
			_, err = ReadSecret(costly, private.NewBytes([]byte("open sesame")))
			wants(t, err, TooLarge)
		}
	}
}

// TestForOneAddress: what is published for one address names no other.
func TestForOneAddress(t *testing.T) {
	m := newMaker(t, now.Add(-year))
	m.alice().id("<private@example.com>").cert("<private@example.com>", hashSHA256, m.created).encryption(t)
	k := oneKey(t, m.out).For(address(t, "Alice@example.org"))
	text, err := k.Armor()
	if err != nil {
		t.Fatal(err)
	}
	cut := oneKey(t, []byte(text))
	wants(t, cut.Judge(address(t, "alice@example.org"), now), "")
	wants(t, cut.Judge(address(t, "private@example.com"), now), WrongAddress)
	if bytes.Contains(cut.Bytes(), []byte("private")) {
		t.Error("it names the other address")
	}
}
