package openpgp

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/fips140"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"testing"
	"time"
)

// maker makes keys of version 4 octet by octet, without go-crypto, with
// whatever is wrong with them.
type maker struct {
	priv    ed25519.PrivateKey
	created time.Time
	body    []byte
	out     []byte
}

// Signature types, hashes and subpackets (RFC 9580 sections 5.2.1, 9.5, 5.2.3.7).
const (
	kindCert, kindBinding, kindDirect, kindRevoke, kindRevokeSub, kindRevokeID = 0x13, 0x18, 0x1f, 0x20, 0x28, 0x30
	hashMD5, hashSHA1, hashSHA256                                              = 1, 2, 8
	subSigExpires, subKeyExpires, subNotation, subFlags, subReason             = 3, 9, 20, 27, 29
	critBit                                                                    = 0x80
	encrypts, certifies                                                        = 0x0c, 0x03
)

func newMaker(t testing.TB, created time.Time) *maker {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m := &maker{priv: priv, created: created, body: keyBody(created, 27, pub)}
	m.out = appendPacket(nil, raw{tagPublicKey, m.body})
	return m
}

func keyBody(created time.Time, algorithm byte, material []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{4}, uint32(created.Unix()))
	return append(append(b, algorithm), material...)
}

func forHash(body []byte) []byte {
	return append([]byte{0x99, byte(len(body) >> 8), byte(len(body))}, body...)
}

// sub is a subpacket.
func sub(kind byte, data ...byte) []byte {
	return append([]byte{byte(len(data) + 1), kind}, data...)
}

func seconds(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// notation is a subpacket that a criminally minded standard would demand.
func notation(critical bool) []byte {
	kind := byte(subNotation)
	if critical {
		kind |= critBit
	}
	return sub(kind, append([]byte{0x80, 0, 0, 0, 0, 3, 0, 1}, "a@bc"...)...)
}

// signature signs over, as one of this kind, and appends it.
func (m *maker) signature(kind, hashID byte, at time.Time, over []byte, extra ...[]byte) {
	var h hash.Hash
	fips140.WithoutEnforcement(func() {
		h = map[byte]func() hash.Hash{hashMD5: md5.New, hashSHA1: sha1.New, hashSHA256: sha256.New}[hashID]()
		fpr := sha1.Sum(forHash(m.body))
		hashed := append(sub(2, seconds(uint32(at.Unix()))...), sub(33, append([]byte{4}, fpr[:]...)...)...)
		hashed = append(hashed, bytes.Join(extra, nil)...)
		head := []byte{4, kind, 27, hashID, byte(len(hashed) >> 8), byte(len(hashed))}
		head = append(head, hashed...)
		h.Write(over)
		h.Write(head)
		h.Write([]byte{4, 0xff})
		h.Write(seconds(uint32(len(head))))
		digest := h.Sum(nil)
		body := append(head, 0, 0, digest[0], digest[1])
		m.out = appendPacket(m.out, raw{tagSignature, append(body, ed25519.Sign(m.priv, digest)...)})
	})
}

func (m *maker) idOctets(text string) []byte {
	b := append(forHash(m.body), 0xb4)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(text))), text...)
}

func (m *maker) id(text string) *maker {
	m.out = appendPacket(m.out, raw{tagUserID, []byte(text)})
	return m
}

func (m *maker) cert(text string, hashID byte, at time.Time, extra ...[]byte) *maker {
	m.signature(kindCert, hashID, at, m.idOctets(text), extra...)
	return m
}

// alice adds an ordinary user id.
func (m *maker) alice(extra ...[]byte) *maker {
	return m.id("Alice <alice@example.org>").cert("Alice <alice@example.org>", hashSHA256, m.created, append(extra, sub(subFlags, certifies))...)
}

// subkey adds a subkey without a signature and gives what is signed to bind it.
func (m *maker) subkey(t testing.TB, created time.Time) []byte {
	t.Helper()
	var point []byte
	fips140.WithoutEnforcement(func() {
		k, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		point = k.PublicKey().Bytes()
	})
	body := keyBody(created, 25, point)
	m.out = appendPacket(m.out, raw{tagPublicSubkey, body})
	return append(forHash(m.body), forHash(body)...)
}

// encryption adds an ordinary subkey.
func (m *maker) encryption(t testing.TB, extra ...[]byte) *maker {
	t.Helper()
	m.signature(kindBinding, hashSHA256, m.created, m.subkey(t, m.created), append(extra, sub(subFlags, encrypts))...)
	return m
}
