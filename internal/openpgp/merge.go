package openpgp

import (
	"bytes"
	"cmp"
	"errors"
	"slices"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

var errOtherKey = errors.New("two copies of different OpenPGP keys cannot be one")

// Merge gives the key as two copies of it together tell: all user ids,
// subkeys and revocations of both, and of each part's self-signatures the
// newest. So a copy that is stale, or that somebody cut down, takes nothing
// back: no revocation, no end that was moved, no subkey. It does not matter
// which copy is merged into which.
//
// Copies of different keys are an error; what grows past the bounds of ReadKeys
// is refused as too_large.
func (k Key) Merge(other Key) (Key, error) {
	if k.k == nil || other.k == nil {
		return Key{}, refuse(Malformed)
	}
	if !samePublic(k.k.primary, other.k.primary) {
		return Key{}, errOtherKey
	}
	a, b := k.k, other.k
	m := *a
	m.direct = newer(a.direct, b.direct)
	m.revoked = graver(a.revoked, b.revoked, packet.SigTypeKeyRevocation)
	m.unbound = cmp.Or(min(a.unbound, b.unbound), max(a.unbound, b.unbound))
	m.ids, m.subs = nil, nil
	for _, id := range slices.Concat(a.ids, b.ids) {
		m.addID(id)
	}
	for _, s := range slices.Concat(a.subs, b.subs) {
		m.addSubkey(s)
	}
	slices.SortFunc(m.ids, func(x, y identity) int { return cmp.Compare(x.text, y.text) })
	slices.SortFunc(m.subs, func(x, y subkey) int { return compareKeys(x.pub, y.pub) })
	if m.tooLarge() {
		return Key{}, refuse(TooLarge)
	}
	return Key{&m}, nil
}

func samePublic(a, b *packet.PublicKey) bool { return bytes.Equal(a.Fingerprint, b.Fingerprint) }

// compareKeys orders by age; those of one second in an order that does not
// depend on who lists them.
func compareKeys(a, b *packet.PublicKey) int {
	return cmp.Or(a.CreationTime.Compare(b.CreationTime), bytes.Compare(a.Fingerprint, b.Fingerprint))
}

// compare orders signatures in the same way. None is before all.
func (h *held) compare(o *held) int {
	switch {
	case h == nil && o == nil:
		return 0
	case h == nil:
		return -1
	case o == nil:
		return 1
	}
	return cmp.Or(h.sig.CreationTime.Compare(o.sig.CreationTime), bytes.Compare(h.body, o.body))
}

func newer(a, b *held) *held {
	if a.compare(b) < 0 {
		return b
	}
	return a
}

// graver gives the revocation that takes away more: one for all time before
// one that is not, and of two such the older, which holds longer. Of a user
// id, where the time is compared with that of its self-signature, it is the
// newer.
func graver(a, b *held, kind packet.SignatureType) *held {
	switch {
	case a == nil || b == nil || kind == packet.SigTypeCertificationRevocation:
		return newer(a, b)
	case hard(a.sig) != hard(b.sig):
		if hard(b.sig) {
			return b
		}
		return a
	case a.compare(b) > 0:
		return b
	}
	return a
}

// addID adds a user id, or what a further copy of it tells.
func (k *key) addID(id identity) {
	i := slices.IndexFunc(k.ids, func(o identity) bool { return o.text == id.text })
	if i < 0 {
		k.ids = append(k.ids, id)
		return
	}
	o := &k.ids[i]
	o.self, o.revoked = newer(o.self, id.self), graver(o.revoked, id.revoked, packet.SigTypeCertificationRevocation)
	if o.problem = cmp.Or(min(o.problem, id.problem), max(o.problem, id.problem)); o.self != nil {
		o.problem = ""
	}
}

// addSubkey does the same for a subkey. One of a key's own subkeys can come
// twice, too, and is revoked if it is so in one place.
func (k *key) addSubkey(s subkey) {
	i := slices.IndexFunc(k.subs, func(o subkey) bool { return samePublic(o.pub, s.pub) })
	if i < 0 {
		k.subs = append(k.subs, s)
		return
	}
	o := &k.subs[i]
	o.bind, o.revoked = newer(o.bind, s.bind), graver(o.revoked, s.revoked, packet.SigTypeSubkeyRevocation)
	if o.problem = cmp.Or(min(o.problem, s.problem), max(o.problem, s.problem)); o.bind != nil {
		_, o.problem = algorithmOf(o.pub)
	}
}

// tooLarge reports whether a key, as it is kept, is more than is read or kept.
func (k *key) tooLarge() bool {
	n := 2
	for _, id := range k.ids {
		n += count(id.self, id.revoked)
	}
	for _, s := range k.subs {
		n += count(s.bind, s.revoked)
	}
	return len(k.ids) > maxUserIDs || len(k.subs) > maxSubkeys || n > maxOperations || len(Key{k}.Bytes()) > maxKept
}

func count(hs ...*held) (n int) {
	for _, h := range hs {
		if h != nil {
			n++
		}
	}
	return n
}
