package openpgp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
)

const aliceID = "Alice <alice@example.org>"

func TestJudge(t *testing.T) {
	start := now.Add(-year)
	old := time.Date(2012, 5, 1, 0, 0, 0, 0, time.UTC)
	reason := func(n byte) []byte { return sub(subReason, n) }
	for name, c := range map[string]struct {
		make   func(m *maker)
		at     time.Time
		anyone string // of JudgeAnyone; Judge says the same or, where set, judge
		judge  string
	}{
		"ordinary":               {make: func(m *maker) { m.alice().encryption(t) }},
		"plain notation":         {make: func(m *maker) { m.alice(notation(false)).encryption(t, notation(false)) }},
		"no flags on the subkey": {make: func(m *maker) { m.alice(); m.signature(kindBinding, hashSHA256, start, m.subkey(t, start)) }},
		"no subkey":              {make: func(m *maker) { m.alice() }, anyone: NoEncryptionKey},
		"no self-signature":      {make: func(m *maker) { m.id(aliceID).encryption(t) }, anyone: Malformed},
		"subkey not bound":       {make: func(m *maker) { m.alice(); m.subkey(t, start) }, anyone: NoEncryptionKey},
		"subkey for signing only": {make: func(m *maker) {
			m.alice()
			m.signature(kindBinding, hashSHA256, start, m.subkey(t, start), sub(subFlags, 0x20))
		}, anyone: NoEncryptionKey},
		"not yet valid":            {make: func(m *maker) { m.alice().encryption(t) }, at: start.Add(-time.Second), anyone: NotYetValid},
		"signed in the future":     {make: func(m *maker) { m.id(aliceID).cert(aliceID, hashSHA256, now.Add(time.Hour)).encryption(t) }, anyone: NotYetValid},
		"expired":                  {make: func(m *maker) { m.alice(sub(subKeyExpires, seconds(3600)...)).encryption(t) }, anyone: Expired},
		"not expired":              {make: func(m *maker) { m.alice(sub(subKeyExpires, seconds(3600)...)).encryption(t) }, at: start.Add(3599 * time.Second)},
		"just expired":             {make: func(m *maker) { m.alice(sub(subKeyExpires, seconds(3600)...)).encryption(t) }, at: start.Add(time.Hour), anyone: Expired},
		"subkey expired":           {make: func(m *maker) { m.alice().encryption(t, sub(subKeyExpires, seconds(3600)...)) }, anyone: Expired},
		"subkey's binding expired": {make: func(m *maker) { m.alice().encryption(t, sub(subSigExpires, seconds(3600)...)) }, anyone: Expired},
		"one of two subkeys expired": {make: func(m *maker) {
			m.alice().encryption(t, sub(subKeyExpires, seconds(3600)...)).encryption(t)
		}},
		"extended": {make: func(m *maker) {
			m.alice(sub(subKeyExpires, seconds(3600)...)).cert(aliceID, hashSHA256, start.Add(time.Hour)).encryption(t)
		}},
		"shortened": {make: func(m *maker) {
			m.alice().cert(aliceID, hashSHA256, start.Add(time.Hour), sub(subKeyExpires, seconds(3600)...)).encryption(t)
		}, anyone: Expired},
		"user id expired": {make: func(m *maker) {
			m.alice(sub(subSigExpires, seconds(3600)...)).id("Al").cert("Al", hashSHA256, start.Add(time.Minute)).encryption(t)
		}, judge: Expired},
		"user id revoked": {make: func(m *maker) {
			m.alice()
			m.signature(kindRevokeID, hashSHA256, start.Add(time.Hour), m.idOctets(aliceID))
			m.id("Al").cert("Al", hashSHA256, start).encryption(t)
		}, judge: WrongAddress},
		"user id back again": {make: func(m *maker) {
			m.alice()
			m.signature(kindRevokeID, hashSHA256, start.Add(time.Hour), m.idOctets(aliceID))
			m.cert(aliceID, hashSHA256, start.Add(2*time.Hour)).encryption(t)
		}},
		"user id added by a stranger": {make: func(m *maker) {
			m.id("Bob <bob@example.org>").cert("Bob <bob@example.org>", hashSHA256, start).id(aliceID)
			m.cert("Bob <bob@example.org>", hashSHA256, start).encryption(t)
		}, judge: WrongAddress},
		"wrong address": {make: func(m *maker) { m.id("<bob@example.org>").cert("<bob@example.org>", hashSHA256, start).encryption(t) }, judge: WrongAddress},
		"two addresses in one": {make: func(m *maker) {
			id := "<alice@example.org> <bob@example.org>"
			m.id(id).cert(id, hashSHA256, start).encryption(t)
		}, judge: WrongAddress},
		"bare address": {make: func(m *maker) { m.id("ALICE@Example.ORG").cert("ALICE@Example.ORG", hashSHA256, start).encryption(t) }},
		"revoked": {make: func(m *maker) {
			m.signature(kindRevoke, hashSHA256, now.Add(time.Hour), forHash(m.body))
			m.alice().encryption(t)
		}, anyone: Revoked},
		"revoked by SHA-1": {make: func(m *maker) { m.signature(kindRevoke, hashSHA1, now, forHash(m.body)); m.alice().encryption(t) }, anyone: Revoked},
		"compromised": {make: func(m *maker) {
			m.signature(kindRevoke, hashSHA256, now.Add(time.Hour), forHash(m.body), reason(2))
			m.alice().encryption(t)
		}, anyone: Revoked},
		"superseded": {make: func(m *maker) {
			m.signature(kindRevoke, hashSHA256, now, forHash(m.body), reason(1))
			m.alice().encryption(t)
		}, anyone: Revoked},
		"to be superseded": {make: func(m *maker) {
			m.signature(kindRevoke, hashSHA256, now.Add(time.Hour), forHash(m.body), reason(1))
			m.alice().encryption(t)
		}},
		"retired, then compromised": {make: func(m *maker) {
			m.signature(kindRevoke, hashSHA256, now.Add(time.Hour), forHash(m.body), reason(3))
			m.signature(kindRevoke, hashSHA256, now.Add(time.Hour), forHash(m.body), reason(2))
			m.alice().encryption(t)
		}, anyone: Revoked},
		"revoked by somebody else": {make: func(m *maker) { newMaker(t, start).revokeFor(m); m.alice().encryption(t) }},
		"subkey revoked": {make: func(m *maker) {
			m.alice()
			over := m.subkey(t, start)
			m.signature(kindBinding, hashSHA256, start, over)
			m.signature(kindRevokeSub, hashSHA256, start, over)
		}, anyone: NoEncryptionKey},
		"subkey compromised, another expired": {make: func(m *maker) {
			m.alice()
			over := m.subkey(t, start)
			m.signature(kindBinding, hashSHA256, start, over)
			m.signature(kindRevokeSub, hashSHA256, now.Add(time.Hour), over, reason(2))
			m.encryption(t, sub(subKeyExpires, seconds(3600)...))
		}, anyone: Expired},
		"both revoked": {make: func(m *maker) {
			m.alice()
			m.signature(kindRevokeID, hashSHA256, start.Add(time.Hour), m.idOctets(aliceID))
			m.id("Al").cert("Al", hashSHA256, start)
			over := m.subkey(t, start)
			m.signature(kindBinding, hashSHA256, start, over)
			m.signature(kindRevokeSub, hashSHA256, start, over)
		}, anyone: NoEncryptionKey, judge: WrongAddress},
		"the only user id revoked": {make: func(m *maker) {
			m.alice()
			m.signature(kindRevokeID, hashSHA256, start.Add(time.Hour), m.idOctets(aliceID))
			m.encryption(t)
		}, judge: WrongAddress},
		"critical notation":           {make: func(m *maker) { m.alice(notation(true)).encryption(t) }, anyone: Unsupported},
		"critical notation on subkey": {make: func(m *maker) { m.alice().encryption(t, notation(true)) }, anyone: Unsupported},
		"critical subpacket":          {make: func(m *maker) { m.alice(sub(critBit|60, 1)).encryption(t) }, anyone: Unsupported},
		"unknown subpacket":           {make: func(m *maker) { m.alice(sub(60, 1)).encryption(t) }},
		"MD5":                         {make: func(m *maker) { m.id(aliceID).cert(aliceID, hashMD5, old).encryption(t) }, anyone: WeakAlgorithm},
		"SHA-1, new":                  {make: func(m *maker) { m.id(aliceID).cert(aliceID, hashSHA1, start).encryption(t) }, anyone: WeakAlgorithm},
		"SHA-1 on the subkey, new":    {make: func(m *maker) { m.alice(); m.signature(kindBinding, hashSHA1, start, m.subkey(t, start)) }, anyone: WeakAlgorithm},
		"SHA-1, the last day": {make: func(m *maker) {
			m.id(aliceID).cert(aliceID, hashSHA1, sha1End.Add(-time.Second))
			m.signature(kindBinding, hashSHA1, old, m.subkey(t, old))
		}},
		"SHA-1, the first day not": {make: func(m *maker) {
			m.id(aliceID).cert(aliceID, hashSHA1, sha1End)
			m.signature(kindBinding, hashSHA1, old, m.subkey(t, old))
		}, anyone: WeakAlgorithm},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMaker(t, start)
			c.make(m)
			if c.at.IsZero() {
				c.at = now
			}
			if c.judge == "" {
				c.judge = c.anyone
			}
			k := oneKey(t, m.out)
			cut := oneKey(t, k.Bytes())
			for _, k := range []Key{k, cut} {
				if k.k == cut.k && (c.anyone == Unsupported || c.anyone == WeakAlgorithm) {
					if k.JudgeAnyone(c.at) == nil { // what does not count is not kept
						t.Error("cutting made it usable")
					}
					continue
				}
				wants(t, k.JudgeAnyone(c.at), c.anyone)
				wants(t, k.Judge(address(t, "alice@example.org"), c.at), c.judge)
				if k.Revoked(c.at) != (c.anyone == Revoked) {
					t.Error("revoked is for the whole key alone")
				}
			}
			_, err := must(NewContent(false))(t).KeyPacket(k, c.at)
			wants(t, err, c.anyone)
		})
	}
}

// revokeFor puts a revocation by another key on m.
func (m *maker) revokeFor(victim *maker) {
	before := len(m.out)
	m.signature(kindRevoke, hashSHA256, now, forHash(victim.body))
	victim.out = append(victim.out, m.out[before:]...)
}

// mpi is a number of OpenPGP (RFC 9580 section 3.2).
func mpi(n *big.Int) []byte {
	return append([]byte{byte(n.BitLen() >> 8), byte(n.BitLen())}, n.Bytes()...)
}

// rsaBody is an RSA key packet. Nobody knows its factors.
func rsaBody(bits, exponent int) []byte {
	n := new(big.Int).SetBytes(random(bits / 8))
	n.SetBit(n.SetBit(n, bits-1, 1), 0, 1)
	return keyBody(now.Add(-year), 1, append(mpi(n), mpi(big.NewInt(int64(exponent)))...))
}

func TestWeakAlgorithms(t *testing.T) {
	number := func(bits int) []byte { return mpi(new(big.Int).SetBit(new(big.Int), bits-1, 1)) }
	dsa := keyBody(now.Add(-year), 17, bytes.Join([][]byte{number(3072), number(256), number(3072), number(3072)}, nil))
	elgamal := keyBody(now.Add(-year), 16, bytes.Join([][]byte{number(3072), number(3), number(3072)}, nil))
	for name, c := range map[string]struct {
		body []byte
		want string
	}{
		"RSA-2048":            {rsaBody(2048, 65537), ""},
		"RSA-2040":            {rsaBody(2040, 65537), WeakAlgorithm},
		"RSA-1024":            {rsaBody(1024, 65537), WeakAlgorithm},
		"RSA-8192":            {rsaBody(8192, 65537), ""},
		"RSA-16384":           {rsaBody(16384, 65537), Unsupported},
		"RSA with exponent 1": {rsaBody(2048, 1), WeakAlgorithm},
		"ElGamal":             {elgamal, WeakAlgorithm},
		"DSA":                 {dsa, NoEncryptionKey},
		"not known":           {keyBody(now.Add(-year), 99, []byte("x")), NoEncryptionKey},
	} {
		m := newMaker(t, now.Add(-year))
		m.alice()
		m.out = appendPacket(m.out, raw{tagPublicSubkey, c.body})
		m.signature(kindBinding, hashSHA256, m.created, append(forHash(m.body), forHash(c.body)...), sub(subFlags, encrypts))
		if got := word(t, oneKey(t, m.out).JudgeAnyone(now)); got != c.want {
			t.Errorf("subkey %s: %q, not %q", name, got, c.want)
		}
		primary, err := ReadKeys(append(appendPacket(nil, raw{tagPublicKey, c.body}), raw2(tagUserID, aliceID)...))
		if err != nil {
			wants(t, err, Unsupported)
			continue
		}
		want := map[string]string{"": Malformed, NoEncryptionKey: WeakAlgorithm}[c.want]
		if want == "" {
			want = c.want
		}
		if name == "ElGamal" {
			want = WeakAlgorithm
		}
		if got := word(t, primary[0].JudgeAnyone(now)); got != want {
			t.Errorf("primary %s: %q, not %q", name, got, want)
		}
	}
	for _, c := range []struct {
		curve packet.Curve
		want  string
	}{{packet.CurveBrainpoolP256, Unsupported}, {packet.CurveSecP256k1, Unsupported}, {packet.CurveNistP384, ""}} {
		var out writer
		err := library(func() error {
			e, err := openpgp.NewEntity("A", "", "alice@example.org", &packet.Config{
				Algorithm: packet.PubKeyAlgoECDSA, Curve: c.curve, Time: func() time.Time { return now.Add(-year) }})
			if err != nil {
				return err
			}
			return e.Serialize(&out)
		})
		if err != nil {
			t.Fatal(err)
		}
		wants(t, oneKey(t, out).JudgeAnyone(now), c.want)
	}
}

func raw2(tag byte, body string) []byte { return appendPacket(nil, raw{tag, []byte(body)}) }

func TestOtherAlgorithms(t *testing.T) {
	for name, c := range map[string]struct {
		config packet.Config
		want   string
	}{
		"v4 with the new encodings": {packet.Config{Algorithm: packet.PubKeyAlgoEd25519}, "X25519"},
		"v4 X448":                   {packet.Config{Algorithm: packet.PubKeyAlgoEd448}, "X448"},
		"v6 X448":                   {packet.Config{Algorithm: packet.PubKeyAlgoEd448, V6Keys: true}, "X448"},
		"v6 P-521":                  {packet.Config{Algorithm: packet.PubKeyAlgoECDSA, Curve: packet.CurveNistP521, V6Keys: true}, "ECDH P-521"},
	} {
		t.Run(name, func(t *testing.T) {
			c.config.Time = func() time.Time { return now.Add(-year) }
			var out writer
			err := library(func() error {
				e, err := openpgp.NewEntity("A", "", "alice@example.org", &c.config)
				if err != nil {
					return err
				}
				return e.SerializePrivateWithoutSigning(&out, nil)
			})
			if err != nil {
				t.Fatal(err)
			}
			s := must(ReadSecret(out, private.Bytes{}))(t)
			if got := s.Public().Algorithm(now); got != c.want {
				t.Errorf("algorithm %q, not %q", got, c.want)
			}
			for _, v6 := range []bool{false, s.Public().Version() == 6} {
				content := must(NewContent(v6))(t)
				if err := content.Sign(s, strings.NewReader(body), now); err != nil {
					t.Fatal(err)
				}
				o := must(Open(sealed(t, content, s.Public(), []byte(body)), []*Secret{s}, []Key{s.Public()}, now, 1000))(t)
				if string(o.Plain) != body || len(o.Signatures) != 1 || o.Signatures[0].Status != SignatureValid ||
					o.Algorithms != content.Algorithms(s.Public(), now) {
					t.Errorf("%+v", o)
				}
			}
		})
	}
}

func TestBytesHoldOnlyWhatIsNeeded(t *testing.T) {
	m := newMaker(t, now.Add(-year))
	m.alice()
	for i := range 50 {
		m.cert(aliceID, hashSHA256, now.Add(-year).Add(time.Duration(i)*time.Second), sub(subFlags, certifies))
	}
	for range 50 { // by somebody else
		other := newMaker(t, now.Add(-year))
		other.out = nil
		other.signature(0x10, hashSHA256, now.Add(-year), m.idOctets(aliceID))
		m.out = append(m.out, other.out...)
	}
	m.out = append(m.out, raw2(12, "trust")...)
	m.out = append(m.out, raw2(tagAttribute, strings.Repeat("jpeg", 1000))...)
	m.id("not signed")
	m.encryption(t)
	k := oneKey(t, m.out)
	if n := len(k.Bytes()); n > 600 {
		t.Errorf("%d octets", n)
	}
	again := oneKey(t, k.Bytes())
	wants(t, again.Judge(address(t, "alice@example.org"), now), "")
	if !bytes.Equal(again.Bytes(), k.Bytes()) || again.Fingerprint() != k.Fingerprint() {
		t.Error("cutting twice is not cutting once")
	}
	if a := k.Addresses(); len(a) != 1 || a[0].Reveal() != "alice@example.org" {
		t.Errorf("%d addresses", len(a))
	}
}

// TestBoundedTime: whatever is piled up, a key is judged in under a second.
func TestBoundedTime(t *testing.T) {
	start := now.Add(-year)
	fill := func(m *maker, add func(i int)) []byte {
		for i := 0; len(m.out) < maxKeyOctets-2000; i++ {
			add(i)
		}
		return m.out
	}
	ids := newMaker(t, start)
	ids.alice().encryption(t)
	own := newMaker(t, start)
	own.alice().encryption(t)
	own.id("Al")
	forged := newMaker(t, start)
	forged.alice().encryption(t).id("Al")
	foreign := newMaker(t, start)
	foreign.alice().encryption(t).id("Al")
	stranger := newMaker(t, start)
	stranger.out = nil
	stranger.signature(kindCert, hashSHA256, start, foreign.idOctets("Al"))
	revocations := newMaker(t, start)
	subkeys := newMaker(t, start)
	subkeys.alice().encryption(t)
	many := newMaker(t, start)
	for name, data := range map[string][]byte{
		"user ids": fill(ids, func(i int) {
			id := fmt.Sprintf("%d <a%d@example.org>", i, i)
			ids.id(id).cert(id, hashSHA256, start)
		}),
		"own signatures":     fill(own, func(i int) { own.cert("Al", hashSHA256, start.Add(time.Duration(i)*time.Second)) }),
		"forged signatures":  fill(forged, func(i int) { forged.cert("Bo", hashSHA256, start.Add(time.Duration(i)*time.Second)) }),
		"foreign signatures": fill(foreign, func(int) { foreign.out = append(foreign.out, stranger.out...) }),
		"revocations": fill(revocations, func(i int) {
			revocations.signature(kindRevoke, hashSHA256, start, revocations.idOctets("x"))
		}),
		"subkeys":       fill(subkeys, func(int) { subkeys.encryption(t) }),
		"empty packets": append(bytes.Clone(ids.out[:200]), bytes.Repeat([]byte{0xc0 | 13, 0}, 400_000)...),
		"keys":          fill(many, func(int) { k := newMaker(t, start); many.out = append(many.out, k.alice().encryption(t).out...) }),
		"armor lines":   []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n" + strings.Repeat("Comment: x\n", 80_000)),
		"armor blocks":  bytes.Repeat([]byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n-----END PGP PUBLIC KEY BLOCK-----\n"), 12_000),
		"one long line": append([]byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\nA: "), bytes.Repeat([]byte("A"), 900_000)...),
	} {
		t.Run(name, func(t *testing.T) {
			begin := processor(t)
			keys, err := ReadKeys(data)
			if took := processor(t) - begin; took > time.Second {
				t.Errorf("took %v", took)
			}
			if err != nil {
				_ = word(t, err)
				return
			}
			if len(keys[0].k.ids) > maxUserIDs || len(keys[0].k.subs) > maxSubkeys || len(keys[0].Bytes()) > 64<<10 {
				t.Error("more was kept than is looked at")
			}
		})
	}
	_, err := ReadKeys(make([]byte, maxKeyOctets+1))
	wants(t, err, TooLarge)
	_, err = ReadKeys(many.out)
	wants(t, err, TooLarge)
	wants(t, oneKey(t, ids.out).Judge(address(t, "alice@example.org"), now), "")
	wants(t, oneKey(t, own.out).Judge(address(t, "alice@example.org"), now), "")
	wants(t, oneKey(t, foreign.out).Judge(address(t, "alice@example.org"), now), "")
}

func TestSeveralKeysAndArmor(t *testing.T) {
	a, b := newMaker(t, now.Add(-year)), newMaker(t, now.Add(-year))
	a.alice().encryption(t)
	b.id("<bob@example.org>").cert("<bob@example.org>", hashSHA256, now.Add(-year)).encryption(t)
	armor := func(m *maker) []byte { return must(enarmor("PUBLIC KEY BLOCK", m.out, true))(t) }
	both := "Dear friend,\r\nhere are my keys.\r\n" + string(armor(a)) + "\r\n" + strings.ReplaceAll(string(armor(b)), "\n", "\r\n")
	for name, data := range map[string][]byte{"armored": []byte(both), "binary": append(bytes.Clone(a.out), b.out...)} {
		keys := must(ReadKeys(data))(t)
		if len(keys) != 2 || keys[1].Addresses()[0].Local() != "bob" {
			t.Errorf("%s: %d keys", name, len(keys))
		}
	}
	for name, data := range map[string]string{"nothing": "", "text": "hello", "html": "<html>", "cut": string(a.out[:39]), "message": "-----BEGIN PGP MESSAGE-----\n\nwA==\n-----END PGP MESSAGE-----\n"} {
		_, err := ReadKeys([]byte(data))
		if got := word(t, err); got != Malformed {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestZeroKeyIsRefused(t *testing.T) {
	var k Key
	wants(t, k.Judge(mail.Address{}, now), Malformed)
	wants(t, k.JudgeAnyone(now), Malformed)
	_, err := must(NewContent(false))(t).KeyPacket(k, now)
	wants(t, err, Malformed)
	if k.Bytes() != nil || k.Version() != 0 || k.Fingerprint() != "" || k.Algorithm(now) != "" || !k.Expires().IsZero() || k.Revoked(now) || k.Addresses() != nil || !k.Created().IsZero() {
		t.Error("a key that is none says something")
	}
	m := newMaker(t, now.Add(-year))
	m.id("Al").cert("Al", hashSHA256, m.created).encryption(t)
	wants(t, oneKey(t, m.out).Judge(mail.Address{}, now), WrongAddress)
}

func TestSecretsNeverPrint(t *testing.T) {
	s := generate(t, V4Curve25519)
	c := must(NewContent(false))(t)
	for _, v := range []any{s, *s, c, *c, struct{ S *Secret }{s}} {
		j := must(json.Marshal(v))(t)
		if all := fmt.Sprintf("%v %+v %#v %s %x %q %s", v, v, v, v, v, v, j); strings.Contains(all, "0x") || strings.Contains(strings.ToLower(all), "alice") || !strings.Contains(all, "[private]") {
			t.Errorf("%T shows %s", v, all)
		}
	}
}

// TestOperationsAreBounded: signatures forged with care, so that only the
// public-key operation tells, are tried a few times and no more.
func TestOperationsAreBounded(t *testing.T) {
	forge := func(m *maker, text string, n int) {
		for i := range n {
			m.cert(text, hashSHA256, now.Add(-year).Add(time.Duration(i)*time.Second))
			m.out[len(m.out)-1] ^= 1
		}
	}
	one := newMaker(t, now.Add(-year))
	one.alice().encryption(t).id("Al")
	forge(one, "Al", 2000)
	r := reader{operations: maxOperations}
	keys := must(r.keys(must(r.split(one.out))(t)))(t)
	wants(t, keys[0].Judge(address(t, "alice@example.org"), now), "")
	if used := maxOperations - r.operations; used > 2+maxTries {
		t.Errorf("%d signatures were verified", used)
	}
	all := newMaker(t, now.Add(-year))
	for i := range maxUserIDs {
		forge(all.id(fmt.Sprint(i)), fmt.Sprint(i), 20)
	}
	_, err := ReadKeys(all.out)
	wants(t, err, TooLarge)
}

// TestRevokedPartsHaveSentences: the words are those of parts that never were
// there, the sentences are not.
func TestRevokedPartsHaveSentences(t *testing.T) {
	m := newMaker(t, now.Add(-year))
	m.alice()
	m.signature(kindRevokeID, hashSHA256, now.Add(-time.Hour), m.idOctets(aliceID))
	over := m.subkey(t, m.created)
	m.signature(kindBinding, hashSHA256, m.created, over)
	m.signature(kindRevokeSub, hashSHA256, now.Add(-time.Hour), over)
	k := oneKey(t, m.out)
	for _, err := range []error{k.Judge(address(t, "alice@example.org"), now), k.JudgeAnyone(now)} {
		if !strings.Contains(fault.From(err).Text, "revoked") {
			t.Errorf("%v", fault.From(err).Text)
		}
	}
}

// TestKeptSizeIsBounded: what a key signed itself cannot be cut out of it, so
// that one which carries a library with it is refused.
func TestKeptSizeIsBounded(t *testing.T) {
	book := func(n int) []byte { // a notation of n octets
		text := append([]byte{0x80, 0, 0, 0, 0, 3, byte(n >> 8), byte(n)}, append([]byte("a@b"), make([]byte, n)...)...)
		length := len(text) + 1
		return append([]byte{255, 0, 0, byte(length >> 8), byte(length), subNotation}, text...)
	}
	start := now.Add(-year)
	build := func(ids int) []byte {
		m := newMaker(t, start)
		m.alice().encryption(t)
		for i := range ids {
			text := fmt.Sprintf("%d <a%d@example.org>", i, i)
			m.id(text).cert(text, hashSHA256, start, book(4000))
		}
		return m.out
	}
	k := oneKey(t, build(15))
	if n := len(k.Bytes()); n < 60_000 || n > maxKept {
		t.Errorf("%d octets", n)
	}
	if n := len(k.For(address(t, "alice@example.org")).Bytes()); n > 600 {
		t.Errorf("%d octets for one address", n)
	}
	_, err := ReadKeys(build(17))
	wants(t, err, TooLarge)
	one := newMaker(t, start)
	one.alice().encryption(t)
	two := *one
	two.out = bytes.Clone(one.out)
	for i := range 10 {
		for j, m := range []*maker{one, &two} {
			text := fmt.Sprint(j, i)
			m.id(text).cert(text, hashSHA256, start, book(4000))
		}
	}
	_, err = oneKey(t, one.out).Merge(oneKey(t, two.out))
	wants(t, err, TooLarge)
	// Of several keys the others are taken.
	if keys := must(ReadKeys(append(build(0), build(17)...)))(t); len(keys) != 1 {
		t.Errorf("%d keys", len(keys))
	}
}
