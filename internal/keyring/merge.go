package keyring

import (
	"cmp"
	"slices"

	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
)

// Packet tags and signature types (RFC 9580 sections 5 and 5.2.1).
const (
	tagSignature  = 2
	tagPublicKey  = 6
	tagUserID     = 13
	tagSubkey     = 14
	revokesKey    = 0x20
	revokesSubkey = 0x28
	revokesUserID = 0x30
)

// about is a key without what does not concern an address. A key that a person
// bound to an address it does not name, or that would be judged otherwise
// without its other user ids, is kept as it is.
func (m *material) about(a mail.Address) *material {
	if m.kind != policy.PGP {
		return m
	}
	only := m.pgp.For(a)
	named := slices.ContainsFunc(only.Addresses(), func(n mail.Address) bool { return n.Normal() == a.Normal() })
	if !named || !only.Expires().Equal(m.pgp.Expires()) {
		return m
	}
	return pgpMaterial(only)
}

// absorb gives what is known of an OpenPGP key together with what another copy
// of it says: revocations, and where all, what else the key has signed since.
// No copy can take anything back. It gives old itself when nothing is new.
func absorb(old, copied *material, all bool, a mail.Address) *material {
	if !all {
		revoked, err := openpgp.ReadKeys(withRevocations(old.data(), copied.data()))
		if err != nil || len(revoked) != 1 {
			return old
		}
		copied = pgpMaterial(revoked[0])
	}
	before, err := old.pgp.Merge(old.pgp) // in the order that merging gives
	if err != nil {
		return old
	}
	united, err := old.pgp.Merge(copied.pgp)
	if err != nil {
		return old
	}
	m := pgpMaterial(united).about(a)
	if m.size > storedLimit || slices.Equal(m.data(), before.Bytes()) {
		return old
	}
	return m
}

// component is a key packet or a user id with the signatures on it.
type component struct {
	head string // tag and packet
	sigs []string
}

// components takes apart what Key.Bytes gave.
func components(data []byte) (all []*component) {
	for at := 0; at < len(data); {
		tag, next, ok := packet(data, at)
		if !ok {
			break
		}
		whole := string(data[at:next])
		switch tag {
		case tagSignature:
			if len(all) > 0 {
				last := all[len(all)-1]
				last.sigs = append(last.sigs, whole)
			}
		case tagPublicKey, tagUserID, tagSubkey:
			all = append(all, &component{head: whole})
		}
		at = next
	}
	return all
}

// withRevocations writes a key with the revocations that another copy of it has
// of the same parts. Whether they count is for package openpgp to say.
func withRevocations(key, copied []byte) (out []byte) {
	parts := components(key)
	for _, more := range components(copied) {
		i := slices.IndexFunc(parts, func(c *component) bool { return c.head == more.head })
		if i < 0 {
			continue
		}
		for _, sig := range more.sigs {
			if revokes(sig) && !slices.Contains(parts[i].sigs, sig) {
				parts[i].sigs = append(parts[i].sigs, sig)
			}
		}
	}
	for _, c := range parts {
		out = append(out, c.head...)
		for _, sig := range c.sigs {
			out = append(out, sig...)
		}
	}
	return out
}

// revokes reports whether a signature packet, as Key.Bytes writes it, is a
// revocation (RFC 9580 section 5.2.3: version, then type).
func revokes(sig string) bool {
	head := 2
	switch {
	case len(sig) < 4:
		return false
	case sig[1] == 255:
		head = 6
	case sig[1] >= 192:
		head = 3
	}
	if len(sig) <= head+1 {
		return false
	}
	switch sig[head+1] {
	case revokesKey, revokesSubkey, revokesUserID:
		return true
	}
	return false
}

// merge takes over what a copy of a known key adds. From a source that proves
// less than the entry's, only revocations count; a certificate never changes,
// only the others that came with it.
func (s *settling) merge(r *row, x sight) (bool, error) {
	if x.stored && !x.renews || x.m.size > storedLimit {
		return false, nil
	}
	m := x.m
	switch {
	case r.m == nil:
	case r.Kind == policy.PGP:
		all := x.proof >= r.proof()
		if all && r.State == Active {
			over, err := s.over(x)
			if err != nil {
				return false, err
			}
			all = !over
		}
		m = absorb(r.m, x.m, all, s.a)
	case !x.verdict.good(), x.tier() < r.Tier && r.State == Active, slices.Equal(r.m.data(), m.data()):
		return false, nil
	}
	if m == r.m {
		return false, nil
	}
	r.m, r.Expires, r.Algorithm = m, m.expires(), cmp.Or(m.algorithm(s.now), r.Algorithm)
	return true, nil
}
