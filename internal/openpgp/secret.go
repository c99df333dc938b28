package openpgp

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
)

// Profile is what a key of ours is made of.
type Profile int

// The profiles. GnuPG 2.2 reads those of version 4 alone.
const (
	V4Curve25519 Profile = iota
	V4RSA3072
	V6Curve25519
	V4NISTP256
)

// redacted is embedded by what must not be shown.
type redacted struct{}

func (redacted) String() string               { return "[private]" }
func (redacted) GoString() string             { return "[private]" }
func (redacted) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte("[private]")) }
func (redacted) LogValue() slog.Value         { return slog.StringValue("[private]") }
func (redacted) MarshalJSON() ([]byte, error) { return []byte(`"[private]"`), nil }
func (redacted) MarshalText() ([]byte, error) { return []byte("[private]"), nil }

// Secret is a secret key of ours, unlocked. It never prints and never changes.
type Secret struct {
	redacted
	k     *key
	parts []*packet.PrivateKey // the primary key's first
}

func (p Profile) config() *packet.Config {
	c := &packet.Config{DefaultHash: crypto.SHA256, DefaultCipher: packet.CipherAES256}
	switch p {
	case V4RSA3072:
		c.Algorithm, c.RSABits = packet.PubKeyAlgoRSA, 3072
	case V4NISTP256:
		c.Algorithm, c.Curve = packet.PubKeyAlgoECDSA, packet.CurveNistP256
	case V6Curve25519:
		c.Algorithm, c.V6Keys = packet.PubKeyAlgoEd25519, true
		c.AEADConfig = &packet.AEADConfig{DefaultMode: packet.AEADModeOCB}
	default:
		c.Algorithm, c.Curve = packet.PubKeyAlgoEdDSA, packet.Curve25519
	}
	return c
}

// plain leaves out the notation with random octets that go-crypto adds to
// signatures, since GnuPG shows it to everybody who verifies one.
func plain(c *packet.Config) *packet.Config {
	no := false
	c.NonDeterministicSignaturesViaNotation = &no
	return c
}

// Generate makes a key for signing with a subkey for encryption. expires may
// be zero, for never.
func Generate(p Profile, name string, a mail.Address, at, expires time.Time) (*Secret, error) {
	c := plain(p.config())
	seconds, err := secondsUntil(at, expires)
	if err != nil {
		return nil, err
	}
	c.KeyLifetimeSecs = seconds
	c.Time = func() time.Time { return at }
	var out writer
	err = library(func() error {
		e, err := openpgp.NewEntity(nameOf(name), "", a.Reveal(), c)
		if err != nil {
			return err
		}
		return e.SerializePrivateWithoutSigning(&out, c)
	})
	if err != nil {
		return nil, fmt.Errorf("make an OpenPGP key: %w", err)
	}
	return ReadSecret(out, private.Bytes{})
}

// nameOf leaves out what a user id gives meaning to.
func nameOf(name string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || strings.ContainsRune("()<>", r) {
			return -1
		}
		return r
	}, name))
}

func secondsUntil(from, to time.Time) (uint32, error) {
	if to.IsZero() {
		return 0, nil
	}
	s := to.Unix() - from.Unix()
	if s <= 0 || s > math.MaxUint32 {
		return 0, errors.New("a key must expire after it is made, and within 136 years")
	}
	return uint32(s), nil
}

// What a passphrase may cost by Argon2: 2^maxArgon2 KiB, that is 256 MiB, and
// so many passes over them.
const (
	maxArgon2 = 18
	maxPasses = 16
)

// ReadSecret reads one secret key, armored or binary, and unlocks it.
func ReadSecret(data []byte, passphrase private.Bytes) (*Secret, error) {
	if len(data) > maxKeyOctets {
		return nil, refuse(TooLarge)
	}
	pieces, _, err := blocks(data, 1)
	if err != nil {
		return nil, err
	}
	r := reader{operations: maxOperations}
	groups, err := r.split(pieces[0])
	if err != nil {
		return nil, err
	}
	if len(groups) != 1 || groups[0].primary.tag != tagSecretKey {
		return nil, refuse(Malformed)
	}
	k, err := r.key(groups[0])
	if err != nil {
		return nil, err
	}
	s := &Secret{k: k}
	heads := []raw{groups[0].primary}
	for _, p := range groups[0].subs {
		heads = append(heads, p.head)
	}
	if err := s.unlock(heads, passphrase); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Secret) unlock(heads []raw, passphrase private.Bytes) error {
	for _, p := range heads {
		pub, part, err := publicKey(p)
		if err != nil || part == nil {
			continue // a subkey of an algorithm that is not supported
		}
		if !s.k.part(pub) {
			continue
		}
		if costly(p.body, pub) {
			return refuse(TooLarge)
		}
		s.parts = append(s.parts, part)
	}
	err := library(func() error { return packet.DecryptPrivateKeys(s.parts, passphrase.Reveal()) })
	if err != nil {
		return refuse(WrongPassphrase).Because(err)
	}
	if !slices.ContainsFunc(s.parts, func(p *packet.PrivateKey) bool { return !p.Dummy() }) {
		return refuse(Malformed)
	}
	return nil
}

// part reports whether pub is the primary key or one of its subkeys.
func (k *key) part(pub *packet.PublicKey) bool {
	is := func(o *packet.PublicKey) bool { return string(o.Fingerprint) == string(pub.Fingerprint) }
	return is(k.primary) || slices.ContainsFunc(k.subs, func(s subkey) bool { return is(s.pub) })
}

// costly reports whether unlocking would take more than that
// (Argon2, RFC 9580 section 3.7.1.4). go-crypto keeps the number to itself.
func costly(body []byte, pub *packet.PublicKey) bool {
	var w writer
	if library(func() error { return pub.Serialize(&w) }) != nil {
		return true
	}
	p, _, err := nextPacket(w)
	if err != nil || len(body) < len(p.body)+2 {
		return true
	}
	body = body[len(p.body):] // usage, [count], cipher, [mode], [count], specifier
	if body[0] < 253 {
		return false
	}
	at := 2
	if body[0] == 253 {
		at++
	}
	if pub.Version == 6 {
		at += 2
	}
	if len(body) <= at || body[at] != 4 {
		return false
	}
	const passesAt, memoryAt = 17, 19 // after kind and salt; parallelism is between
	return len(body) <= at+memoryAt || body[at+passesAt] > maxPasses || body[at+memoryAt] > maxArgon2
}

// Public is the public key.
func (s *Secret) Public() Key { return Key{s.k} }

// Bytes is the secret key in binary without a passphrase: the caller seals it.
func (s *Secret) Bytes() private.Bytes {
	return private.NewBytes(s.k.emit(func(pub *packet.PublicKey) []byte {
		var w writer
		i := slices.IndexFunc(s.parts, func(p *packet.PrivateKey) bool { return string(p.Fingerprint) == string(pub.Fingerprint) })
		err := library(func() error {
			if i < 0 {
				return pub.Serialize(&w)
			}
			return s.parts[i].Serialize(&w)
		})
		if err != nil {
			return nil
		}
		return w
	}))
}

// primary is the primary key's secret part, where it is not kept elsewhere.
func (s *Secret) primary() (*packet.PrivateKey, error) {
	if len(s.parts) > 0 && !s.parts[0].IsSubkey && !s.parts[0].Dummy() {
		return s.parts[0], nil
	}
	return nil, refuse(OfflinePrimary)
}

// Renew gives the same key with a later expiry: what says something about the
// key is signed again.
func (s *Secret) Renew(at, expires time.Time) (*Secret, error) {
	primary, err := s.primary()
	if err != nil {
		return nil, err
	}
	seconds, err := secondsUntil(s.k.primary.CreationTime, expires)
	if err != nil {
		return nil, err
	}
	k := *s.k
	k.ids, k.subs = slices.Clone(k.ids), slices.Clone(k.subs)
	again := func(h *held, forKey bool, sign func(*packet.Signature, *packet.Config) error) (*held, error) {
		return resign(h, primary, at, seconds, forKey, sign)
	}
	if k.direct != nil {
		k.direct, err = again(k.direct, true, func(g *packet.Signature, c *packet.Config) error {
			return g.SignDirectKeyBinding(k.primary, primary, c)
		})
	}
	for i := range k.ids {
		id := &k.ids[i]
		if err == nil && id.self != nil && !id.isRevoked() {
			id.self, err = again(id.self, k.primary.Version == 4, func(g *packet.Signature, c *packet.Config) error {
				return g.SignUserId(id.text, k.primary, primary, c)
			})
		}
	}
	for i := range k.subs {
		sub := &k.subs[i]
		if err != nil || sub.bind == nil || sub.revoked != nil || lifetime(sub.pub, sub.bind.sig).IsZero() {
			continue
		}
		if seconds, err = secondsUntil(sub.pub.CreationTime, expires); err == nil {
			sub.bind, err = again(sub.bind, true, func(g *packet.Signature, c *packet.Config) error {
				return g.SignKey(sub.pub, primary, c)
			})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("renew an OpenPGP key: %w", err)
	}
	return &Secret{k: &k, parts: s.parts}, nil
}

// resign makes a signature like h anew. SHA-1 is left behind.
func resign(h *held, by *packet.PrivateKey, at time.Time, seconds uint32, forKey bool, sign func(*packet.Signature, *packet.Config) error) (*held, error) {
	g := *h.sig
	g.CreationTime, g.Hash = at.Truncate(time.Second), hashFor(&by.PublicKey)
	if forKey {
		g.KeyLifetimeSecs = &seconds
	}
	return finish(&g, func(c *packet.Config) error { return sign(&g, c) })
}

// finish signs, with a new salt where the version has one.
func finish(g *packet.Signature, sign func(*packet.Config) error) (*held, error) {
	var out writer
	err := library(func() error {
		c := plain(&packet.Config{})
		if g.Version == 6 {
			salt, err := packet.SignatureSaltForHash(g.Hash, c.Random())
			if err != nil {
				return err
			}
			if err := g.SetSalt(salt); err != nil {
				return err
			}
		}
		if err := sign(c); err != nil {
			return err
		}
		return g.Serialize(&out)
	})
	if err != nil {
		return nil, err
	}
	p, _, err := nextPacket(out)
	return &held{g, p.body}, err
}

// The reasons for revoking that OpenPGP has a number for. Any other text is
// written into the revocation as it is, with no reason, which holds for all time.
var reasons = map[string]packet.ReasonForRevocation{
	"superseded": packet.KeySuperseded, "compromised": packet.KeyCompromised, "retired": packet.KeyRetired,
}

// Revoke gives the public key with a revocation: "superseded", "compromised",
// "retired" or a text of the owner's.
func (s *Secret) Revoke(at time.Time, reason string) (Key, error) {
	primary, err := s.primary()
	if err != nil {
		return Key{}, err
	}
	number, known := reasons[reason]
	g := signature(primary, packet.SigTypeKeyRevocation, at)
	g.RevocationReason = &number
	if !known {
		g.RevocationReasonText = reason
	}
	k := *s.k
	k.revoked, err = finish(g, func(c *packet.Config) error { return g.RevokeKey(k.primary, primary, c) })
	if err != nil {
		return Key{}, fmt.Errorf("revoke an OpenPGP key: %w", err)
	}
	return Key{&k}, nil
}

func signature(by *packet.PrivateKey, kind packet.SignatureType, at time.Time) *packet.Signature {
	return &packet.Signature{
		Version: by.PublicKey.Version, SigType: kind, PubKeyAlgo: by.PublicKey.PubKeyAlgo,
		Hash: hashFor(&by.PublicKey), CreationTime: at.Truncate(time.Second), IssuerKeyId: &by.PublicKey.KeyId,
	}
}

// signing gives the parts that can sign at this time, or the word against it.
func (s *Secret) signing(at time.Time) (with []subkey, word string) {
	if word := s.k.state(at); word != "" {
		return nil, word
	}
	for _, g := range s.k.signers() {
		if p := s.part(g); p != nil && !p.Dummy() && g.state(at) == "" {
			with = append(with, g)
		}
	}
	if len(with) == 0 {
		word = NoSigningKey
	}
	return with, word
}

func (s *Secret) part(g subkey) *packet.PrivateKey {
	i := slices.IndexFunc(s.parts, func(p *packet.PrivateKey) bool { return samePublic(&p.PublicKey, g.pub) })
	if i < 0 {
		return nil
	}
	return s.parts[i]
}

// signer is the part that signs at this time: the newest subkey for it, or the
// primary key.
func (s *Secret) signer(at time.Time) (*packet.PrivateKey, error) {
	with, word := s.signing(at)
	if word != "" {
		return nil, refuse(word)
	}
	best := with[0]
	for _, g := range with[1:] {
		if !best.pub.IsSubkey || g.pub.IsSubkey && compareKeys(g.pub, best.pub) > 0 {
			best = g
		}
	}
	return s.part(best), nil
}

// SignsUntil says whether the key can sign at this time, and when that ends as
// far as is known now: the end of the last part that can sign, or of the
// primary key, whichever comes first. Zero is never.
func (s *Secret) SignsUntil(at time.Time) (time.Time, bool) {
	with, word := s.signing(at)
	if word != "" {
		return time.Time{}, false
	}
	var last time.Time
	for i, g := range with {
		end := earlier(lifetime(g.pub, g.bind.sig), g.bind.ends(g.revoked))
		if i == 0 || !last.IsZero() && (end.IsZero() || end.After(last)) {
			last = end
		}
	}
	return earlier(last, earlier(s.k.expires(), s.k.self().ends(s.k.revoked))), true
}

// ends is when a self-signature ceases to speak: its own end, or a revocation
// that is still to come.
func (h *held) ends(revoked *held) (end time.Time) {
	if n := h.sig.SigLifetimeSecs; n != nil && *n != 0 {
		end = h.sig.CreationTime.Add(time.Duration(*n) * time.Second).UTC()
	}
	if revoked != nil {
		end = earlier(end, revoked.sig.CreationTime.UTC())
	}
	return end
}

// sign makes a binary signature over what r gives.
func (s *Secret) sign(r io.Reader, at time.Time) (*packet.Signature, *packet.PrivateKey, error) {
	by, err := s.signer(at)
	if err != nil {
		return nil, nil, err
	}
	g := signature(by, packet.SigTypeBinary, at)
	c := plain(&packet.Config{})
	digest, err := g.PrepareSign(c)
	if err != nil {
		return nil, nil, err
	}
	if _, err := io.Copy(digest, r); err != nil {
		return nil, nil, err
	}
	if err := library(func() error { return g.Sign(digest, by, c) }); err != nil {
		return nil, nil, fmt.Errorf("sign by OpenPGP: %w", err)
	}
	return g, by, nil
}

// SignDetached signs the octets given (RFC 3156 section 5; what is canonical
// is the caller's business) and says what its micalg parameter is.
func (s *Secret) SignDetached(r io.Reader, at time.Time) (armored []byte, micalg string, err error) {
	g, _, err := s.sign(r, at)
	if err != nil {
		return nil, "", err
	}
	var out writer
	if err := g.Serialize(&out); err != nil {
		return nil, "", err
	}
	armored, err = enarmor("SIGNATURE", out, g.Version == 4)
	return armored, micalgNames[g.Hash], err
}
