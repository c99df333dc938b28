package openpgp

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/sealpost/sealpost/internal/mail"
)

// Bounds of what ReadKeys looks at.
const (
	maxKeyOctets  = 1 << 20
	maxKeys       = 100      // in one piece of data
	maxPackets    = 20000    // in one piece of data
	maxUserIDs    = 100      // of one key; further ones are not looked at
	maxSubkeys    = 100      // of one key
	maxUserID     = 2048     // octets
	maxKeyBody    = 8192     // octets of a key packet
	maxSigBody    = 8192     // octets of a self-signature
	maxTries      = 8        // signatures verified on one user id or subkey
	maxLooked     = 64       // signatures of which the hash tag is compared, on one of these
	maxOperations = 400      // signatures verified in one piece of data
	maxKept       = 64 << 10 // octets of what is kept of one key; its own signatures may hold anything
)

// held is a signature that was verified, and how it came.
type held struct {
	sig  *packet.Signature
	body []byte
}

// identity is a user id that its key signed.
type identity struct {
	text    string
	address mail.Address // zero: not an address
	self    *held        // nil: none that counts; then problem says why
	revoked *held
	problem string
}

// subkey is a subkey that its primary key bound.
type subkey struct {
	pub     *packet.PublicKey
	name    string
	bind    *held
	revoked *held
	problem string
}

// key is what a Key points to; nothing in it changes after it is read.
type key struct {
	primary *packet.PublicKey
	name    string
	problem string // of the algorithm
	direct  *held
	revoked *held
	unbound string // why there is no self-signature, where there is none
	ids     []identity
	subs    []subkey
}

// group is a transferable key as framed (RFC 9580 section 10.1).
type group struct {
	primary raw
	sigs    []raw
	ids     []*part
	subs    []*part
}

type part struct {
	head raw
	sigs []raw
}

// ReadKeys reads public keys, armored or binary, one or several. What is not
// signed by the key itself is left out. A key that is read need not be one
// that can be used: that is Judge's to say.
func ReadKeys(data []byte) ([]Key, error) {
	if len(data) > maxKeyOctets {
		return nil, refuse(TooLarge)
	}
	pieces, kinds, err := blocks(data, maxKeys)
	if err != nil {
		return nil, err
	}
	r := reader{operations: maxOperations}
	var groups []*group
	for i, piece := range pieces {
		if kinds[i] == "PRIVATE KEY BLOCK" {
			return nil, refuse(SecretGiven)
		}
		if kinds[i] != "" && kinds[i] != "PUBLIC KEY BLOCK" {
			continue
		}
		g, err := r.split(piece)
		if err != nil {
			return nil, err
		}
		groups = append(groups, g...)
	}
	return r.keys(groups)
}

func (r *reader) keys(groups []*group) ([]Key, error) {
	if len(groups) > maxKeys {
		return nil, refuse(TooLarge)
	}
	var keys []Key
	var first error = refuse(Malformed)
	for i, g := range groups {
		if g.primary.tag != tagPublicKey {
			return nil, refuse(SecretGiven)
		}
		k, err := r.key(g)
		switch {
		case err == nil:
			keys = append(keys, Key{k})
		case i == 0 || r.operations < 0:
			first = err
		}
		if r.operations < 0 {
			return nil, first
		}
	}
	if len(keys) == 0 {
		return nil, first
	}
	return keys, nil
}

// reader bounds the work on one piece of data.
type reader struct{ packets, operations int }

// split sorts packets into keys. What follows a user attribute, or a user id
// too many, is dropped with it.
func (r *reader) split(data []byte) ([]*group, error) {
	var groups []*group
	var g *group
	var target *[]raw
	for len(data) > 0 {
		p, rest, err := keyPacket(data)
		if err != nil {
			return nil, refuse(Malformed).Because(err)
		}
		data = rest
		if r.packets++; r.packets > maxPackets {
			return nil, refuse(TooLarge)
		}
		if p.tag == tagPublicKey || p.tag == tagSecretKey {
			g = &group{primary: p}
			groups, target = append(groups, g), &g.sigs
			continue
		}
		if g == nil {
			if p.tag == tagMarker || p.tag == tagPadding {
				continue
			}
			return nil, refuse(Malformed)
		}
		target = g.take(p, target)
	}
	return groups, nil
}

// take puts a packet where it belongs and says where signatures go from now on.
func (g *group) take(p raw, target *[]raw) *[]raw {
	switch p.tag {
	case tagSignature:
		if target != nil && len(p.body) <= maxSigBody {
			*target = append(*target, p)
		}
		return target
	case tagUserID:
		for _, old := range g.ids {
			if bytes.Equal(old.head.body, p.body) {
				return &old.sigs
			}
		}
		if len(g.ids) >= maxUserIDs || len(p.body) > maxUserID {
			return nil
		}
		g.ids = append(g.ids, &part{head: p})
		return &g.ids[len(g.ids)-1].sigs
	case tagPublicSubkey, tagSecretSubkey:
		if len(g.subs) >= maxSubkeys || len(p.body) > maxKeyBody {
			return nil
		}
		g.subs = append(g.subs, &part{head: p})
		return &g.subs[len(g.subs)-1].sigs
	case tagAttribute:
		return nil
	}
	return target
}

// publicKey parses a key packet, public or secret.
func publicKey(p raw) (*packet.PublicKey, *packet.PrivateKey, error) {
	if len(p.body) > maxKeyBody {
		return nil, nil, refuse(TooLarge)
	}
	if len(p.body) > 0 && p.body[0] != 4 && p.body[0] != 6 {
		return nil, nil, refuse(Unsupported)
	}
	got, err := p.parse()
	switch pub := got.(type) {
	case *packet.PublicKey:
		if err == nil {
			return pub, nil, nil
		}
	case *packet.PrivateKey:
		if err == nil {
			return &pub.PublicKey, pub, nil
		}
	}
	if _, ok := errors.AsType[unsupportedError](err); ok {
		return nil, nil, refuse(Unsupported)
	}
	return nil, nil, refuse(Malformed).Because(err)
}

func (r *reader) key(g *group) (*key, error) {
	pub, _, err := publicKey(g.primary)
	if err != nil {
		return nil, err
	}
	k := &key{primary: pub}
	k.name, k.problem = algorithmOf(pub)
	if k.problem == "" && !pub.CanSign() {
		k.problem = Unsupported
	}
	if k.problem != "" { // nothing it signs is worth the work
		return k, nil
	}
	direct := func(s *packet.Signature) error { return pub.VerifyDirectKeySignature(s) }
	k.revoked = r.revocation(k, g.sigs, packet.SigTypeKeyRevocation, func(s *packet.Signature) error {
		return pub.VerifyRevocationSignature(s)
	})
	k.direct, k.unbound = r.newest(k, g.sigs, direct, pub.VerifyRevocationHashTag, packet.SigTypeDirectSignature)
	for _, p := range g.ids {
		id := r.identity(k, p)
		if id.self == nil && k.unbound == "" {
			k.unbound = id.problem
		}
		k.ids = append(k.ids, id)
	}
	for _, p := range g.subs {
		if s, ok := r.subkey(k, p); ok {
			k.addSubkey(s)
		}
	}
	if r.operations < 0 || k.tooLarge() {
		return nil, refuse(TooLarge)
	}
	return k, nil
}

func (r *reader) identity(k *key, p *part) identity {
	text := string(p.head.body)
	id := identity{text: text, address: addressOf(text)}
	verify := func(s *packet.Signature) error { return k.primary.VerifyUserIdSignature(text, k.primary, s) }
	tag := func(s *packet.Signature) error { return k.primary.VerifyUserIdHashTag(text, s) }
	id.self, id.problem = r.newest(k, p.sigs, verify, tag, packet.SigTypeGenericCert, packet.SigTypePersonaCert,
		packet.SigTypeCasualCert, packet.SigTypePositiveCert)
	id.revoked = r.revocation(k, p.sigs, packet.SigTypeCertificationRevocation, verify)
	return id
}

func (r *reader) subkey(k *key, p *part) (subkey, bool) {
	pub, _, err := publicKey(p.head)
	if err != nil || pub.Version != k.primary.Version {
		return subkey{}, false
	}
	s := subkey{pub: pub}
	s.name, s.problem = algorithmOf(pub)
	verify := func(g *packet.Signature) error {
		if e := g.EmbeddedSignature; e != nil && weakHash(e) {
			return errors.New("the signing subkey's own signature is too weak")
		}
		return k.primary.VerifyKeySignature(pub, g)
	}
	tag := func(g *packet.Signature) error { return k.primary.VerifyKeyHashTag(pub, g) }
	bind, problem := r.newest(k, p.sigs, verify, tag, packet.SigTypeSubkeyBinding)
	s.revoked = r.revocation(k, p.sigs, packet.SigTypeSubkeyRevocation, func(g *packet.Signature) error {
		return k.primary.VerifySubkeyRevocationSignature(g, pub)
	})
	if s.bind = bind; bind == nil {
		if problem == "" && s.revoked == nil {
			return subkey{}, false
		}
		s.problem = cmp.Or(problem, Malformed)
	}
	return s, true
}

// newest gives the newest signature that the key made itself and that counts.
// Where there is none, the word says what stood in the way, if anything did.
func (r *reader) newest(k *key, sigs []raw, verify, tag func(*packet.Signature) error, types ...packet.SignatureType) (*held, string) {
	candidates, problem := k.own(sigs, types)
	slices.SortStableFunc(candidates, func(a, b held) int { return b.compare(&a) })
	for _, h := range likely(candidates, tag) {
		switch {
		case weakHash(h.sig):
			problem = WeakAlgorithm
		case critical(h.sig):
			problem = Unsupported
		case r.verified(h.sig, verify):
			return &h, ""
		}
	}
	return nil, problem
}

// likely cuts a crowd of signatures down to those that may be verified.
func likely(candidates []held, tag func(*packet.Signature) error) []held {
	if len(candidates) <= maxTries {
		return candidates
	}
	var out []held
	for _, h := range candidates[:min(len(candidates), maxLooked)] {
		if library(func() error { return tag(h.sig) }) == nil && len(out) < maxTries {
			out = append(out, h)
		}
	}
	return out
}

// revocation gives the revocation that takes away most.
func (r *reader) revocation(k *key, sigs []raw, kind packet.SignatureType, verify func(*packet.Signature) error) *held {
	candidates, _ := k.own(sigs, []packet.SignatureType{kind})
	var found *held
	for _, h := range candidates[:min(len(candidates), maxLooked)] {
		if !r.verified(h.sig, verify) {
			continue
		}
		found = graver(found, &h, kind)
	}
	return found
}

func (r *reader) verified(s *packet.Signature, verify func(*packet.Signature) error) bool {
	if r.operations--; r.operations < 0 {
		return false
	}
	return library(func() error { return verify(s) }) == nil
}

// own gives the signatures of these types that name the key itself as their
// maker. The word tells of one that go-crypto could not read.
func (k *key) own(sigs []raw, types []packet.SignatureType) (out []held, problem string) {
	for _, p := range sigs {
		if len(p.body) < 4 || p.body[0] >= 4 && !slices.Contains(types, packet.SignatureType(p.body[1])) {
			continue
		}
		got, err := p.parse()
		sig, ok := got.(*packet.Signature)
		switch {
		case err == nil && ok && sig.Version == k.primary.Version && sig.CheckKeyIdOrFingerprint(k.primary):
			out = append(out, held{sig, p.body})
		case err != nil && weakHashID(p.body):
			problem = WeakAlgorithm
		case err != nil && problem == "":
			if _, ok := errors.AsType[unsupportedError](err); ok {
				problem = Unsupported
			}
		}
	}
	return out, problem
}

// critical reports whether a signature demands that something be understood
// that is not (RFC 9580 section 5.2.3.7). go-crypto refuses unknown critical
// subpackets itself, but leaves notations to its callers.
func critical(s *packet.Signature) bool {
	return slices.ContainsFunc(s.Notations, func(n *packet.Notation) bool { return n.IsCritical })
}

// hard reports whether a revocation holds for all time.
func hard(s *packet.Signature) bool {
	r := s.RevocationReason
	return r == nil || *r != packet.KeySuperseded && *r != packet.KeyRetired && *r != packet.UserIDNotValid
}

// addressOf takes the address out of a user id: "Name (Comment) <address>" or
// the address alone.
func addressOf(text string) mail.Address {
	if !utf8.ValidString(text) {
		return mail.Address{}
	}
	text = strings.TrimSpace(text)
	if _, inside, ok := strings.Cut(text, "<"); ok {
		if text, ok = strings.CutSuffix(inside, ">"); !ok || strings.ContainsAny(text, "<>") {
			return mail.Address{}
		}
	}
	a, err := mail.ParseAddress(text)
	if err != nil {
		return mail.Address{}
	}
	return a
}
