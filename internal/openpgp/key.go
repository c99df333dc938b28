package openpgp

import (
	"fmt"
	"strings"
	"time"

	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/sealpost/sealpost/internal/mail"
)

type unsupportedError = pgperrors.UnsupportedError

// Key is somebody's public key. It is a value, safe for concurrent use; the
// zero Key is refused by everything.
type Key struct{ k *key }

// Fingerprint is the primary key's, in upper-case hex.
func (k Key) Fingerprint() string {
	if k.k == nil {
		return ""
	}
	return hex(k.k.primary.Fingerprint)
}

func hex(b []byte) string { return strings.ToUpper(fmt.Sprintf("%x", b)) }

// Version is 4 or 6.
func (k Key) Version() int {
	if k.k == nil {
		return 0
	}
	return k.k.primary.Version
}

// Created is when the key says it was made.
func (k Key) Created() time.Time {
	if k.k == nil {
		return time.Time{}
	}
	return k.k.primary.CreationTime.UTC()
}

// Addresses are those of user ids that the key signed and did not revoke.
func (k Key) Addresses() []mail.Address {
	if k.k == nil {
		return nil
	}
	var out []mail.Address
	for _, id := range k.k.ids {
		if !id.address.IsZero() && id.self != nil && !id.isRevoked() {
			out = append(out, id.address)
		}
	}
	return out
}

// Bytes is the key cut to what is needed: the primary key, its revocation and
// direct signature, user ids and subkeys with the newest self-signature and
// revocation of each; a revocation is kept also where what it revokes is not
// signed in this copy. No third party's signature is in it. It is at most
// 64 KiB: ReadKeys and Merge refuse more.
func (k Key) Bytes() []byte {
	if k.k == nil {
		return nil
	}
	return k.k.emit(func(p *packet.PublicKey) []byte {
		var b writer
		if library(func() error { return p.Serialize(&b) }) != nil {
			return nil
		}
		return b
	})
}

type writer []byte

func (w *writer) Write(b []byte) (int, error) { *w = append(*w, b...); return len(b), nil }

// emit writes the key, its key packets as pub gives them.
func (k *key) emit(pub func(*packet.PublicKey) []byte) []byte {
	out := pub(k.primary)
	sign := func(hs ...*held) {
		for _, h := range hs {
			if h != nil {
				out = appendPacket(out, raw{tagSignature, h.body})
			}
		}
	}
	sign(k.revoked, k.direct)
	for _, id := range k.ids {
		if id.self != nil || id.revoked != nil {
			out = appendPacket(out, raw{tagUserID, []byte(id.text)})
			sign(id.revoked, id.self)
		}
	}
	for _, s := range k.subs {
		if s.bind != nil || s.revoked != nil {
			out = append(out, pub(s.pub)...)
			sign(s.revoked, s.bind)
		}
	}
	return out
}

// Revoked reports whether the primary key is revoked at this time.
func (k Key) Revoked(at time.Time) bool { return k.k != nil && holds(k.k.revoked, at) }

// holds reports whether a revocation is in force.
func holds(h *held, at time.Time) bool {
	return h != nil && (hard(h.sig) || !h.sig.CreationTime.After(at))
}

// isRevoked: a user id comes back when it is signed again later.
func (id identity) isRevoked() bool {
	return id.revoked != nil && !id.self.sig.CreationTime.After(id.revoked.sig.CreationTime)
}

// self is the signature that speaks for the primary key (RFC 9580 section
// 5.2.3.10): of version 6 the direct one; of version 4 that of the primary
// user id, or the newest user id's, or the direct one.
func (k *key) self() *held {
	if k.primary.Version == 6 {
		return k.direct
	}
	var best *held
	rank := -1
	for _, id := range k.ids {
		if id.self == nil {
			continue
		}
		r := 0
		if p := id.self.sig.IsPrimaryId; p != nil && *p {
			r = 1
		}
		if !id.isRevoked() {
			r += 2
		}
		if r > rank || r == rank && id.self.compare(best) > 0 {
			best, rank = id.self, r
		}
	}
	if best == nil {
		return k.direct
	}
	return best
}

// latest is the newest signature on a user id that stands. It says until when
// the key lives, also where another user id is the primary one: programs sign
// all of them anew for a new end, so an older one is of a stale copy, which may
// have been merged.
func (k *key) latest() *held {
	var best *held
	for _, id := range k.ids {
		if k.primary.Version == 4 && id.self != nil && !id.isRevoked() {
			best = newer(best, id.self)
		}
	}
	if best == nil {
		return k.self()
	}
	return best
}

// expires is the end of the primary key's life, zero for never: what the newer
// of latest and direct signature says, or the other if that says nothing.
func (k *key) expires() time.Time {
	a, b := k.latest(), k.direct
	if a.compare(b) < 0 {
		a, b = b, a
	}
	for _, h := range []*held{a, b} {
		if h != nil {
			if end := lifetime(k.primary, h.sig); !end.IsZero() {
				return end
			}
		}
	}
	return time.Time{}
}

func lifetime(pub *packet.PublicKey, s *packet.Signature) time.Time {
	if s.KeyLifetimeSecs == nil || *s.KeyLifetimeSecs == 0 {
		return time.Time{}
	}
	return pub.CreationTime.Add(time.Duration(*s.KeyLifetimeSecs) * time.Second).UTC()
}

// lapsed reports whether a time that may be zero, for never, has come.
func lapsed(end, at time.Time) bool { return !end.IsZero() && !at.Before(end) }

// lapsedSignature: a self-signature can have an end of its own.
func lapsedSignature(s *packet.Signature, at time.Time) bool {
	return s.SigLifetimeSecs != nil && *s.SigLifetimeSecs != 0 &&
		lapsed(s.CreationTime.Add(time.Duration(*s.SigLifetimeSecs)*time.Second), at)
}

// earlier of two ends, zero for never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// state is the word against using the primary key at this time, or nothing.
func (k *key) state(at time.Time) string {
	self := k.self()
	switch {
	case k.problem != "":
		return k.problem
	case holds(k.revoked, at):
		return Revoked
	case k.primary.CreationTime.After(at):
		return NotYetValid
	case self == nil && k.unbound != "":
		return k.unbound
	case self == nil:
		return Malformed
	case self.sig.CreationTime.After(at):
		return NotYetValid
	case lapsed(k.expires(), at) || lapsedSignature(self.sig, at):
		return Expired
	}
	return ""
}

// state is the word against using the subkey at this time, or nothing.
func (s subkey) state(at time.Time) string {
	switch {
	case s.problem != "":
		return s.problem
	case holds(s.revoked, at):
		return subkeyRevoked
	case s.pub.CreationTime.After(at) || s.bind.sig.CreationTime.After(at):
		return NotYetValid
	case lapsed(lifetime(s.pub, s.bind.sig), at) || lapsedSignature(s.bind.sig, at):
		return Expired
	}
	return ""
}

// encrypts reports whether a subkey is there for encryption.
func (s subkey) encrypts() bool {
	return s.pub.PubKeyAlgo.CanEncrypt() && (s.bind == nil || !s.bind.sig.FlagsValid ||
		s.bind.sig.FlagEncryptCommunications || s.bind.sig.FlagEncryptStorage)
}

// encrypts reports whether the primary key itself is there for encryption.
func (k *key) encrypts() bool {
	h := k.self()
	return h != nil && k.primary.PubKeyAlgo.CanEncrypt() &&
		(h.sig.FlagEncryptCommunications || h.sig.FlagEncryptStorage)
}

// nearest orders the words that can stand against the subkeys of one key: the
// one that says most about what its owner would have to do comes first.
var nearest = []string{Expired, NotYetValid, subkeyRevoked, WeakAlgorithm, Unsupported}

// encryptionKey is the part of the key to encrypt to at this time: the newest
// subkey that is for it, or the primary key. Otherwise the word says why not.
func (k *key) encryptionKey(at time.Time) (*packet.PublicKey, string) {
	if word := k.state(at); word != "" {
		return nil, word
	}
	var best *packet.PublicKey
	against := map[string]bool{}
	for _, s := range k.subs {
		if !s.encrypts() {
			continue
		}
		if word := s.state(at); word != "" {
			against[word] = true
		} else if best == nil || compareKeys(s.pub, best) > 0 {
			best = s.pub
		}
	}
	if best == nil && k.encrypts() {
		best = k.primary
	}
	if best != nil {
		return best, ""
	}
	for _, word := range nearest {
		if against[word] {
			return nil, word
		}
	}
	return nil, NoEncryptionKey
}

// Judge says whether mail to a may be encrypted to the key at this time: nil,
// or a refusal. Addresses are the same when their normal forms are.
func (k Key) Judge(a mail.Address, at time.Time) error {
	if k.k == nil {
		return refuse(Malformed)
	}
	if word := k.k.state(at); word != "" {
		return refuse(word)
	}
	if word := k.k.names(a, at); word != "" {
		return refuse(word)
	}
	return k.JudgeAnyone(at)
}

// names is the word against believing the key to be a's.
func (k *key) names(a mail.Address, at time.Time) string {
	found := WrongAddress
	for _, id := range k.ids {
		if a.IsZero() || id.address.IsZero() || id.address.Normal() != a.Normal() {
			continue
		}
		switch {
		case id.self == nil && id.problem == "": // anybody could have added it
		case id.self == nil:
			found = id.problem
		case id.isRevoked():
			found = userIDRevoked
		case id.self.sig.CreationTime.After(at):
			found = NotYetValid
		case lapsedSignature(id.self.sig, at):
			found = Expired
		default:
			return ""
		}
	}
	return found
}

// JudgeAnyone is Judge without looking at user ids, for a key that a person
// vouches for.
func (k Key) JudgeAnyone(at time.Time) error {
	if k.k == nil {
		return refuse(Malformed)
	}
	if _, word := k.k.encryptionKey(at); word != "" {
		return refuse(word)
	}
	return nil
}

// Expires is until when the key can be encrypted to, as far as is known now:
// the end of the last subkey for encryption or of the primary key, whichever
// comes first. Zero is never.
func (k Key) Expires() time.Time {
	if k.k == nil {
		return time.Time{}
	}
	end := k.k.expires()
	var last time.Time
	any := false
	for _, s := range k.k.subs {
		if !s.encrypts() || s.problem != "" || s.revoked != nil {
			continue
		}
		e := lifetime(s.pub, s.bind.sig)
		if e.IsZero() {
			return end
		}
		if any = true; e.After(last) {
			last = e
		}
	}
	if !any || k.k.encrypts() {
		return end
	}
	return earlier(end, last)
}

// Algorithm names that of the part to encrypt to: "RSA-3072", "X25519",
// "ECDH P-256". It is empty when there is none.
func (k Key) Algorithm(at time.Time) string {
	if k.k == nil {
		return ""
	}
	pub, word := k.k.encryptionKey(at)
	if word != "" {
		return ""
	}
	name, _ := algorithmOf(pub)
	return name
}
