package openpgp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// cards are the parts that copies of one key are dealt from: behind each head
// packet its signatures.
type cards struct {
	m     *maker
	parts [][][]byte
}

// packets gives what add appends.
func (c *cards) packets(add func()) []byte {
	before := len(c.m.out)
	add()
	got := bytes.Clone(c.m.out[before:])
	c.m.out = c.m.out[:before]
	return got
}

// newCards signs each part several times, for different ends, also twice in
// one second, and revokes it in several ways.
func newCards(t *testing.T, start time.Time) *cards {
	m := newMaker(t, start)
	c := &cards{m: m}
	reason := func(n byte) []byte { return sub(subReason, n) }
	primary := [][]byte{bytes.Clone(m.out)}
	for i, r := range [][]byte{reason(1), reason(3), reason(2), nil} {
		primary = append(primary, c.packets(func() {
			m.signature(kindRevoke, hashSHA256, now.Add(time.Duration(i-1)*time.Hour), forHash(m.body), r)
		}))
	}
	primary = append(primary, c.packets(func() {
		m.signature(kindDirect, hashSHA256, start.Add(2*time.Hour), forHash(m.body), sub(subKeyExpires, seconds(3*365*86400)...))
	}))
	c.parts = append(c.parts, primary)
	for _, text := range []string{aliceID, "Dr. Alice <alice@example.org>"} {
		part := [][]byte{c.packets(func() { m.id(text) })}
		for i, extra := range [][]byte{
			append(sub(subKeyExpires, seconds(30*86400)...), sub(25, 1)...), sub(subKeyExpires, seconds(2*365*86400)...), nil, sub(subKeyExpires, seconds(366*86400)...),
		} {
			part = append(part, c.packets(func() {
				m.cert(text, hashSHA256, start.Add(time.Duration(i/2*10)*time.Hour), extra, sub(subFlags, certifies))
			}))
		}
		for i, r := range [][]byte{nil, reason(32)} {
			part = append(part, c.packets(func() {
				m.signature(kindRevokeID, hashSHA256, start.Add(time.Duration(i*20+5)*time.Hour), m.idOctets(text), r)
			}))
		}
		c.parts = append(c.parts, part)
	}
	for i := range 3 {
		created := start.Add(time.Duration(i/2) * time.Hour)
		var over []byte
		part := [][]byte{c.packets(func() { over = m.subkey(t, created) })}
		for j, extra := range [][]byte{sub(subKeyExpires, seconds(86400)...), nil, sub(subKeyExpires, seconds(500*86400)...)} {
			part = append(part, c.packets(func() {
				m.signature(kindBinding, hashSHA256, created.Add(time.Duration(j)*time.Hour), over, extra, sub(subFlags, encrypts))
			}))
		}
		part = append(part, c.packets(func() { m.signature(kindRevokeSub, hashSHA256, now.Add(-time.Hour), over, reason(1)) }))
		c.parts = append(c.parts, part)
	}
	return c
}

// hand is what a copy holds: of each part, which packets.
type hand [][]bool

func (c *cards) deal(r *rand.Rand) hand {
	h := make(hand, len(c.parts))
	for i, p := range c.parts {
		h[i] = make([]bool, len(p))
		h[i][0] = i == 0 || r.IntN(3) > 0
		for j := 1; j < len(p); j++ {
			h[i][j] = h[i][0] && r.IntN(3) == 0 && (i > 0 || r.IntN(3) == 0)
		}
	}
	return h
}

func (c *cards) copyOf(t *testing.T, h hand) Key {
	var out []byte
	for i, p := range c.parts {
		for j, packet := range p {
			if h[i][j] {
				out = append(out, packet...)
			}
		}
	}
	return oneKey(t, out)
}

func (h hand) with(o hand) hand {
	out := make(hand, len(h))
	for i := range h {
		out[i] = make([]bool, len(h[i]))
		for j := range h[i] {
			out[i][j] = h[i][j] || o[i][j]
		}
	}
	return out
}

// counts is what of a key counts, at several times.
func counts(t *testing.T, k Key) string {
	out := fmt.Sprint(k.Fingerprint(), k.Expires(), len(k.Addresses()))
	for _, at := range []time.Time{now.Add(-300 * 24 * time.Hour), now, now.Add(90 * time.Minute), now.Add(2 * year)} {
		chosen := ""
		if pub, _ := k.k.encryptionKey(at); pub != nil {
			chosen = hex(pub.Fingerprint)
		}
		out += fmt.Sprintln(k.Revoked(at), chosen, word(t, k.Judge(address(t, "alice@example.org"), at)))
	}
	return out
}

// TestMerge: whichever parts two copies hold, merging them in either order
// gives what one copy with all of that says.
func TestMerge(t *testing.T) {
	c := newCards(t, now.Add(-year))
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		dealt := []hand{c.deal(r), c.deal(r), c.deal(r)}
		a, b, d := c.copyOf(t, dealt[0]), c.copyOf(t, dealt[1]), c.copyOf(t, dealt[2])
		ab, ba := must(a.Merge(b))(t), must(b.Merge(a))(t)
		want := counts(t, c.copyOf(t, dealt[0].with(dealt[1])))
		for name, k := range map[string]Key{
			"merged": ab, "the other way": ba, "again": must(ab.Merge(a))(t), "with itself": must(ab.Merge(ab))(t),
			"kept": oneKey(t, ab.Bytes()), "kept parts": must(oneKey(t, a.Bytes()).Merge(oneKey(t, b.Bytes())))(t),
		} {
			if got := counts(t, k); got != want {
				t.Fatalf("%d, %s:\n%s, not\n%s", seed, name, got, want)
			}
			if name != "kept parts" && !bytes.Equal(k.Bytes(), ab.Bytes()) {
				t.Fatalf("%d, %s: other octets", seed, name)
			}
		}
		if alone := counts(t, must(a.Merge(a))(t)); alone != counts(t, a) {
			t.Fatalf("%d: merged with itself it says\n%s", seed, alone)
		}
		left, right := must(ab.Merge(d))(t), must(a.Merge(must(b.Merge(d))(t)))(t)
		if !bytes.Equal(left.Bytes(), right.Bytes()) {
			t.Fatalf("%d: the order of three copies matters", seed)
		}
	}
}

// TestStaleCopyTakesNothingBack, also when what is kept of each copy is all
// that is left of it.
func TestStaleCopyTakesNothingBack(t *testing.T) {
	start, later := now.Add(-year), now.Add(-time.Hour)
	alice := address(t, "alice@example.org")
	for name, c := range map[string]struct {
		stale, fresh func(m *maker, over []byte)
		want         string
	}{
		"revocation":                {nil, func(m *maker, _ []byte) { m.revocation(later) }, Revoked},
		"revocation alone":          {nil, func(m *maker, _ []byte) { m.cut().revocation(later) }, Revoked},
		"end removed":               {func(m *maker, _ []byte) { m.ends(3600) }, func(m *maker, _ []byte) { m.id(aliceID).cert(aliceID, hashSHA256, later, sub(subFlags, certifies)) }, ""},
		"end removed, another name": {func(m *maker, _ []byte) { m.ends(3600) }, func(m *maker, _ []byte) { m.otherName(later) }, ""},
		"end brought forward": {nil, func(m *maker, _ []byte) {
			m.id(aliceID).cert(aliceID, hashSHA256, later, sub(subKeyExpires, seconds(3600)...))
		}, Expired},
		"new subkey": {func(m *maker, over []byte) { m.signature(kindRevokeSub, hashSHA256, later, over) }, func(m *maker, _ []byte) { m.encryption(t) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMaker(t, start)
			m.alice()
			over := m.subkey(t, start)
			m.signature(kindBinding, hashSHA256, start, over, sub(subFlags, encrypts))
			base := bytes.Clone(m.out)
			read := func(add func(*maker, []byte)) Key {
				m.out = bytes.Clone(base)
				if add != nil {
					add(m, over)
				}
				return oneKey(t, m.out)
			}
			stale, fresh := read(c.stale), read(c.fresh)
			for _, k := range []Key{must(stale.Merge(fresh))(t), must(fresh.Merge(stale))(t), must(oneKey(t, fresh.Bytes()).Merge(oneKey(t, stale.Bytes())))(t)} {
				wants(t, k.Judge(alice, now), c.want)
			}
		})
	}
}

// cut leaves nothing but the primary key.
func (m *maker) cut() *maker {
	m.out = appendPacket(nil, raw{tagPublicKey, m.body})
	return m
}

// revocation puts a revocation where it belongs.
func (m *maker) revocation(at time.Time) {
	rest := bytes.Clone(m.out[len(appendPacket(nil, raw{tagPublicKey, m.body})):])
	m.cut().signature(kindRevoke, hashSHA256, at, forHash(m.body))
	m.out = append(m.out, rest...)
}

// ends signs the user id as the primary one of a key that ends.
func (m *maker) ends(n uint32) {
	m.id(aliceID).cert(aliceID, hashSHA256, m.created.Add(time.Minute), sub(subKeyExpires, seconds(n)...), sub(25, 1), sub(subFlags, certifies))
}

// otherName signs another user id.
func (m *maker) otherName(at time.Time) {
	m.id("<alice@example.org>").cert("<alice@example.org>", hashSHA256, at, sub(subFlags, certifies))
}

// TestRevokedPartIsRemembered: a copy can hold the revocation of a part
// without its self-signature, and another the other way round.
func TestRevokedPartIsRemembered(t *testing.T) {
	start := now.Add(-year)
	m := newMaker(t, start)
	m.alice()
	over := m.subkey(t, start)
	m.signature(kindBinding, hashSHA256, start, over, sub(subFlags, encrypts))
	whole := oneKey(t, m.out)
	wants(t, whole.JudgeAnyone(now), "")
	m.cut().id(aliceID).signature(kindRevokeID, hashSHA256, now.Add(-time.Hour), m.idOctets(aliceID))
	body := over[len(forHash(m.body))+3:]
	m.out = appendPacket(m.out, raw{tagPublicSubkey, body})
	m.signature(kindRevokeSub, hashSHA256, now.Add(-time.Hour), over)
	bare := oneKey(t, oneKey(t, m.out).Bytes())
	wants(t, bare.JudgeAnyone(now), Malformed) // nothing says that it is a key
	k := must(whole.Merge(bare))(t)
	if len(k.Addresses()) != 0 || k.JudgeAnyone(now) == nil {
		t.Error("a revocation was lost")
	}
	// The same subkey twice in one copy, revoked in one place.
	m.cut().alice()
	for range 2 {
		m.out = appendPacket(m.out, raw{tagPublicSubkey, body})
		m.signature(kindBinding, hashSHA256, start, over, sub(subFlags, encrypts))
	}
	m.signature(kindRevokeSub, hashSHA256, now.Add(-time.Hour), over)
	if oneKey(t, m.out).JudgeAnyone(now) == nil {
		t.Error("encrypted to a revoked subkey")
	}
}

// TestUserIDRevokedAgain: a withdrawal counts also when one for all time is
// older than the user id's last signature.
func TestUserIDRevokedAgain(t *testing.T) {
	start := now.Add(-year)
	m := newMaker(t, start)
	m.alice()
	m.signature(kindRevokeID, hashSHA256, start.Add(time.Hour), m.idOctets(aliceID))
	m.cert(aliceID, hashSHA256, start.Add(2*time.Hour), sub(subFlags, certifies))
	m.signature(kindRevokeID, hashSHA256, start.Add(3*time.Hour), m.idOctets(aliceID), sub(subReason, 32))
	m.encryption(t)
	if len(oneKey(t, m.out).Addresses()) != 0 {
		t.Error("a revoked user id counts")
	}
}

func TestMergeRefuses(t *testing.T) {
	a, b := generate(t, V4Curve25519).Public(), generate(t, V6Curve25519).Public()
	if _, err := a.Merge(b); err == nil {
		t.Error("two keys became one")
	}
	for _, pair := range [][2]Key{{a, Key{}}, {Key{}, a}} {
		_, err := pair[0].Merge(pair[1])
		wants(t, err, Malformed)
	}
	for name, k := range map[string]Key{"v4": a, "v6": b} {
		if again := must(k.Merge(k))(t); !bytes.Equal(again.Bytes(), k.Bytes()) {
			t.Errorf("%s: merged with itself it is another", name)
		}
	}
	one, two := newMaker(t, now.Add(-year)), newMaker(t, now.Add(-year))
	*two = *one
	two.out = bytes.Clone(one.out)
	for i := range maxUserIDs {
		for j, m := range []*maker{one, two} {
			text := fmt.Sprint(j, i)
			m.id(text).cert(text, hashSHA256, m.created)
		}
	}
	_, err := oneKey(t, one.out).Merge(oneKey(t, two.out))
	wants(t, err, TooLarge)
}
