package keyring

import (
	"cmp"
	"slices"

	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
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
// of it says. It does not matter who shows the copy: what counts of it the key
// itself has signed, of each part the newest, and every revocation, so that no
// copy can take anything back. It gives old itself when nothing is new.
func absorb(old, copied *material, a mail.Address) *material {
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

// merge takes over what a copy of a known key adds. A certificate never changes,
// only the others that came with it.
func (s *settling) merge(r *row, x sight) (bool, error) {
	if x.stored && !x.renews || x.m.size > storedLimit {
		return false, nil
	}
	m := x.m
	switch {
	case r.m == nil:
	case r.Kind == policy.PGP:
		if r.State == Active && !x.m.pgp.Revoked(s.now) {
			if over, err := s.over(x); err != nil || over {
				return false, err
			}
		}
		m = absorb(r.m, x.m, s.a)
	case !x.verdict.good(), x.tier() < r.Tier && r.State == Active, slices.Equal(r.m.data(), m.data()):
		return false, nil
	}
	if m == r.m {
		return false, nil
	}
	r.m, r.Expires, r.Algorithm = m, m.expires(), cmp.Or(m.algorithm(s.now), r.Algorithm)
	return true, nil
}
