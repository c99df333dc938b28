package openpgp

import (
	"bytes"
	"compress/flate"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/sealpost/sealpost/internal/private"
)

var none private.Bytes

// wrapped is any packets, encrypted to s by go-crypto.
func wrapped(t testing.TB, s *Secret, v6 bool, inner []byte) []byte {
	t.Helper()
	var out writer
	c := must(NewContent(v6))(t)
	out = must(c.KeyPacket(s.Public(), now))(t)
	err := library(func() error {
		suite := packet.CipherSuite{Cipher: packet.CipherAES256, Mode: packet.AEADModeGCM}
		w, err := packet.SerializeSymmetricallyEncrypted(&out, packet.CipherAES256, v6, suite, c.key[:], &packet.Config{AEADConfig: &packet.AEADConfig{}})
		if err != nil {
			return err
		}
		if _, err := w.Write(inner); err != nil {
			return err
		}
		return w.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func literal(data []byte) []byte {
	return appendPacket(nil, raw{tagLiteral, append([]byte{'b', 0, 0, 0, 0, 0}, data...)})
}

func deflated(inner []byte) []byte {
	var out bytes.Buffer
	out.WriteByte(1)
	w, _ := flate.NewWriter(&out, flate.BestCompression)
	_, _ = w.Write(inner)
	_ = w.Close()
	return appendPacket(nil, raw{tagCompressed, out.Bytes()})
}

// TestNothingOfAChangedMessage: every octet of the ciphertext, changed, and
// every length it is cut to, gives nothing.
func TestNothingOfAChangedMessage(t *testing.T) {
	for name, s := range map[string]*Secret{"mdc": generate(t, V4Curve25519), "aead": generate(t, V6Curve25519)} {
		c := must(NewContent(name == "aead"))(t)
		head := len(must(c.KeyPacket(s.Public(), now))(t))
		message := sealed(t, c, s.Public(), []byte(body))
		if _, err := Open(message, []*Secret{s}, nil, now, 1000); err != nil {
			t.Fatal(err)
		}
		for i := range message {
			changed := bytes.Clone(message)
			changed[i] ^= 0x40
			o, err := Open(changed, []*Secret{s}, nil, now, 1000)
			if i < head && err == nil && string(o.Plain) == body {
				continue // how a length in the key packet is written: it opened all the same
			}
			if o != nil || word(t, err) == "" {
				t.Errorf("%s: octet %d is not protected", name, i)
			}
			if i > head+60 && word(t, err) != NotIntact {
				t.Errorf("%s: octet %d: %v", name, i, err)
			}
			if o, err = Open(message[:i], []*Secret{s}, nil, now, 1000); o != nil || word(t, err) == "" {
				t.Errorf("%s: cut to %d it was opened", name, i)
			}
		}
		for _, tail := range [][]byte{{0}, literal([]byte("more")), message} {
			_, err := Open(append(bytes.Clone(message), tail...), []*Secret{s}, nil, now, 1000)
			wants(t, err, Malformed)
		}
	}
}

// TestCutAtAChunk: whole chunks with their tags are not a whole message.
func TestCutAtAChunk(t *testing.T) {
	s := generate(t, V6Curve25519)
	c := must(NewContent(true))(t)
	head := must(c.KeyPacket(s.Public(), now))(t)
	var out bytes.Buffer
	if err := c.Encrypt(&out, bytes.NewReader(make([]byte, 3*chunkSize)), 3*chunkSize); err != nil {
		t.Fatal(err)
	}
	p, _, err := nextPacket(out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 3; n++ {
		cut := p.body[:4+saltSize+n*(chunkSize+tagSize)]
		_, err := Open(appendPacket(bytes.Clone(head), raw{tagSEIPD, cut}), []*Secret{s}, nil, now, 1<<20)
		wants(t, err, NotIntact)
	}
}

func TestShapesOfMessages(t *testing.T) {
	s := generate(t, V4Curve25519)
	lit := literal([]byte(body))
	sig := func(kind packet.SignatureType) []byte {
		g, _, err := s.sign(strings.NewReader(body), now)
		if err != nil {
			t.Fatal(err)
		}
		g.SigType = kind
		var out writer
		if err := g.Serialize(&out); err != nil {
			t.Fatal(err)
		}
		return out
	}(packet.SigTypeBinary)
	onePass := func() []byte {
		c := must(NewContent(false))(t)
		if err := c.Sign(s, strings.NewReader(body), now); err != nil {
			t.Fatal(err)
		}
		return c.before
	}()
	join := func(b ...[]byte) []byte { return bytes.Join(b, nil) }
	for name, c := range map[string]struct {
		inner []byte
		want  string
		sigs  int
	}{
		"literal":             {lit, "", 0},
		"marker and padding":  {join(raw2(tagMarker, "PGP"), lit, raw2(tagPadding, "xxxx")), "", 0},
		"signature before":    {join(sig, lit), "", 1},
		"signature around":    {join(onePass, lit, sig), "", 1},
		"two signatures":      {join(onePass, onePass, lit, sig, sig), "", 2},
		"signature missing":   {join(onePass, lit), Malformed, 0},
		"signature unasked":   {join(lit, sig), Malformed, 0},
		"two literals":        {join(lit, lit), Malformed, 0},
		"nothing":             {nil, Malformed, 0},
		"compressed":          {deflated(join(onePass, lit, sig)), "", 1},
		"compressed twice":    {deflated(deflated(lit)), "", 0},
		"compressed thrice":   {deflated(deflated(deflated(lit))), TooLarge, 0},
		"after compressed":    {join(deflated(lit), lit), Malformed, 0},
		"encrypted twice":     {wrapped(t, s, false, lit), Malformed, 0},
		"a key inside":        {s.Public().Bytes(), Malformed, 0},
		"many signatures":     {join(bytes.Repeat(onePass, 17), lit, bytes.Repeat(sig, 17)), TooLarge, 0},
		"unknown critical":    {join(raw2(39, "x"), lit), Malformed, 0},
		"unknown, uncritical": {join(raw2(60, "x"), lit), "", 0},
		"not packets":         {[]byte("Hello."), Malformed, 0},
		"bomb":                {deflated(literal(make([]byte, 64<<20))), TooLarge, 0},
		"bomb in a bomb":      {deflated(deflated(literal(make([]byte, 64<<20)))), TooLarge, 0},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := Open(wrapped(t, s, false, c.inner), []*Secret{s}, []Key{s.Public()}, now, 1<<20)
			wants(t, err, c.want)
			if err == nil && (string(o.Plain) != body || len(o.Signatures) != c.sigs) {
				t.Errorf("%+v", o)
			}
			if err != nil && o != nil {
				t.Error("something was given")
			}
			for i := 0; err == nil && i < c.sigs; i++ {
				if o.Signatures[i].Status != SignatureValid {
					t.Errorf("%+v", o.Signatures[i])
				}
			}
			if name == "encrypted twice" {
				return
			}
			clear, err := Open(c.inner, nil, []Key{s.Public()}, now, 1<<20)
			wants(t, err, c.want)
			if err == nil && clear.Encrypted {
				t.Error("said to be encrypted")
			}
		})
	}
}

// TestBombIsNotInflated: the bound is on memory, not only on what is given.
func TestBombIsNotInflated(t *testing.T) {
	bomb := deflated(deflated(literal(make([]byte, 256<<20))))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := Open(bomb, nil, nil, now, 1<<20)
	runtime.ReadMemStats(&after)
	wants(t, err, TooLarge)
	if used := after.TotalAlloc - before.TotalAlloc; used > 32<<20 {
		t.Errorf("%d octets were allocated", used)
	}
	_, err = Open([]byte("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nHello.\n-----BEGIN PGP SIGNATURE-----\n"), nil, nil, now, 1000)
	wants(t, err, Unsupported)
}

// TestOpensGCM: SEIPDv2 as go-crypto writes it, in another mode and with
// partial lengths.
func TestOpensGCM(t *testing.T) {
	s := generate(t, V6Curve25519)
	o := must(Open(wrapped(t, s, true, literal(random(1<<17))), []*Secret{s}, nil, now, 1<<20))(t)
	if len(o.Plain) != 1<<17 || o.Integrity != "aead" || o.Algorithms != "X25519, AES-256-GCM, SEIPDv2" {
		t.Errorf("%s %s", o.Integrity, o.Algorithms)
	}
}

// TestNoDowngrade: SEIPDv2 stripped of its tags, or without protection at all,
// under the key packet of its recipient.
func TestNoDowngrade(t *testing.T) {
	four, six := generate(t, V4Curve25519), generate(t, V6Curve25519)
	key4 := must(must(NewContent(false))(t).KeyPacket(four.Public(), now))(t)
	c := must(NewContent(true))(t)
	key6 := must(c.KeyPacket(six.Public(), now))(t)
	_, err := Open(append(bytes.Clone(key4), raw2(tagSED, string(random(200)))...), []*Secret{four}, nil, now, 1000)
	wants(t, err, NotProtected)
	_, err = Open(append(bytes.Clone(key4), raw2(tagOCB, "\x01\x09\x02\x10"+string(random(200)))...), []*Secret{four}, nil, now, 1000)
	wants(t, err, Unsupported)
	_, err = Open(append(key6, raw2(tagSEIPD, "\x01"+string(random(200)))...), []*Secret{six}, nil, now, 1000)
	wants(t, err, NotForUs)
	var v3 writer
	if err := library(func() error {
		return packet.SerializeEncryptedKeyAEAD(&v3, six.k.subs[0].pub, packet.CipherAES256, false, c.key[:], nil)
	}); err != nil {
		t.Fatal(err)
	}
	out := bytes.NewBuffer(v3)
	if err := c.Encrypt(out, strings.NewReader(body), int64(len(body))); err != nil {
		t.Fatal(err)
	}
	_, err = Open(out.Bytes(), []*Secret{six}, nil, now, 1000)
	wants(t, err, NotForUs)
}

func TestTrialsAreBounded(t *testing.T) {
	s, c := generate(t, V4Curve25519), must(NewContent(false))(t)
	message := sealed(t, c, s.Public(), []byte(body))
	hidden := must(c.KeyPacket(s.Public(), now))(t)
	p, _, err := nextPacket(hidden)
	if err != nil {
		t.Fatal(err)
	}
	wrong := bytes.Clone(p.body)
	clear(wrong[1:9]) // the key id: anybody
	wrong[len(wrong)-1] ^= 1
	begin := processor(t)
	_, err = Open(append(bytes.Repeat(appendPacket(nil, raw{tagPKESK, wrong}), maxKeyPackets-1), message...), []*Secret{s}, nil, now, 1000)
	wants(t, err, NotIntact)
	if took := processor(t) - begin; took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	_, err = Open(append(bytes.Repeat(raw2(tagPKESK, "x"), maxKeyPackets+1), message...), []*Secret{s}, nil, now, 1000)
	wants(t, err, TooLarge)
}

func TestVerdicts(t *testing.T) {
	s := generate(t, V4Curve25519) // lives from a year ago to in a year
	compromised := must(s.Revoke(now.Add(2*time.Hour), "compromised"))(t)
	superseded := must(s.Revoke(now.Add(2*time.Hour), "superseded"))(t)
	renewed := must(s.Renew(now, now.Add(9*year)))(t)
	forever := must(s.Renew(now.Add(-year), now.Add(9*year)))(t)
	other := generate(t, V4Curve25519)
	for name, c := range map[string]struct {
		by     *Secret
		made   time.Time
		key    Key
		seen   time.Time
		text   string
		status string
	}{
		"valid":                       {s, now, s.Public(), now, body, SignatureValid},
		"changed":                     {s, now, s.Public(), now, body + " ", SignatureInvalid},
		"unknown":                     {s, now, other.Public(), now, body, SignatureUnknownKey},
		"from the future":             {s, now.Add(time.Hour), s.Public(), now, body, SignatureInvalid},
		"expired since":               {s, now, s.Public(), now.Add(2 * year), body, SignatureValid},
		"expired then":                {forever, now.Add(2 * year), s.Public(), now.Add(3 * year), body, SignatureExpiredKey},
		"renewed since":               {s, now.Add(-time.Hour), renewed.Public(), now, body, SignatureValid},
		"superseded later":            {s, now, superseded, now.Add(3 * time.Hour), body, SignatureValid},
		"superseded before":           {s, now.Add(3 * time.Hour), superseded, now.Add(4 * time.Hour), body, SignatureRevokedKey},
		"compromised later":           {s, now, compromised, now.Add(3 * time.Hour), body, SignatureRevokedKey},
		"compromised, not known then": {s, now, compromised, now.Add(time.Hour), body, SignatureRevokedKey},
	} {
		t.Run(name, func(t *testing.T) {
			sig, _, err := c.by.SignDetached(strings.NewReader(body), c.made)
			if err != nil {
				t.Fatal(err)
			}
			got := must(VerifyDetached(strings.NewReader(c.text), sig, []Key{c.key}, c.seen))(t)
			if len(got) != 1 || got[0].Status != c.status || !got[0].At.Equal(c.made) || len(got[0].KeyID) != 16 {
				t.Errorf("%+v, not %s", got, c.status)
			}
			if (got[0].Fingerprint == "") != (c.status == SignatureUnknownKey) {
				t.Errorf("fingerprint %q", got[0].Fingerprint)
			}
		})
	}
}

// TestOddSignatures: made octet by octet.
func TestOddSignatures(t *testing.T) {
	for name, c := range map[string]struct {
		kind, hash byte
		extra      []byte
		flags      byte
		want       string
	}{
		"binary":              {0x00, hashSHA256, nil, certifies, SignatureValid},
		"SHA-1":               {0x00, hashSHA1, nil, certifies, SignatureWeakHash},
		"MD5":                 {0x00, hashMD5, nil, certifies, SignatureWeakHash},
		"certification":       {kindCert, hashSHA256, nil, certifies, SignatureInvalid},
		"standalone":          {0x02, hashSHA256, nil, certifies, SignatureInvalid},
		"expired":             {0x00, hashSHA256, sub(subSigExpires, seconds(60)...), certifies, SignatureInvalid},
		"critical notation":   {0x00, hashSHA256, notation(true), certifies, SignatureUnsupported},
		"notation":            {0x00, hashSHA256, notation(false), certifies, SignatureValid},
		"critical subpacket":  {0x00, hashSHA256, sub(critBit|60, 1), certifies, SignatureUnsupported},
		"key not for signing": {0x00, hashSHA256, nil, 0x01, SignatureUnknownKey},
	} {
		m := newMaker(t, now.Add(-year))
		m.id(aliceID).cert(aliceID, hashSHA256, m.created, sub(subFlags, c.flags))
		k := oneKey(t, m.out)
		m.out = nil
		m.signature(c.kind, c.hash, now.Add(-time.Hour), []byte(body), c.extra)
		got := must(VerifyDetached(strings.NewReader(body), m.out, []Key{k, {}}, now))(t)
		if got[0].Status != c.want {
			t.Errorf("%s: %s, not %s", name, got[0].Status, c.want)
		}
	}
	m := newMaker(t, now.Add(-year))
	m.body = rsaBody(1024, 65537)
	weak := oneKey(t, appendPacket(nil, raw{tagPublicKey, m.body}))
	m.out = nil
	m.signature(0x00, hashSHA256, now, []byte(body))
	if got := must(VerifyDetached(strings.NewReader(body), m.out, []Key{weak}, now))(t)[0]; got.Status != SignatureUnsupported || got.Fingerprint != weak.Fingerprint() {
		t.Errorf("by a weak key: %+v", got)
	}
	for name, data := range map[string][]byte{"nothing": nil, "literal": literal([]byte("x")), "text": []byte("hello"), "padding": raw2(tagPadding, "x")} {
		_, err := VerifyDetached(strings.NewReader(body), data, nil, now)
		if word(t, err) != Malformed {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := VerifyDetached(strings.NewReader(body), bytes.Repeat(raw2(tagSignature, "\x04xxxx"), 17), nil, now)
	wants(t, err, TooLarge)
}

// TestBodiesAreBounded: whoever writes a message knows its session key, and
// can give it many times over with a body that turns out broken at its end.
func TestBodiesAreBounded(t *testing.T) {
	const size = 4 << 20
	for name, s := range map[string]*Secret{"mdc": generate(t, V4Curve25519), "aead": generate(t, V6Curve25519)} {
		c := must(NewContent(name == "aead"))(t)
		good := sealed(t, c, s.Public(), make([]byte, size))
		broken := bytes.Clone(good)
		broken[len(broken)-1] ^= 1
		again := must(c.KeyPacket(s.Public(), now))(t)
		cost := func(message []byte, want string) (took time.Duration, octets uint64) {
			begin := processor(t)
			var err error
			octets = allocated(func() { _, err = Open(message, []*Secret{s}, nil, now, 2*size) })
			wants(t, err, want)
			return processor(t) - begin, octets
		}
		one, octets := cost(broken, NotIntact)
		took, used := cost(append(bytes.Repeat(again, maxTrials-1), broken...), NotIntact)
		if used > (maxBodies+1)*octets || took > (maxBodies+2)*one+time.Second {
			t.Errorf("%s: %v and %d MiB, where one try is %v and %d MiB", name, took, used>>20, one, octets>>20)
		}
		// A few wrong ones do not stand in the way of the right one.
		wrong := must(must(NewContent(name == "aead"))(t).KeyPacket(s.Public(), now))(t)
		cost(append(bytes.Repeat(wrong, maxBodies-1), good...), "")
		cost(append(bytes.Repeat(wrong, maxBodies), good...), NotIntact)
	}
}
