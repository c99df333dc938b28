package keyring

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

const (
	addressesPerKey = 20 // of one key, that get an entry
	harvestLimit    = 4  // keys of one mail that are looked at
	capabilityGCM   = "AES-256-GCM"
	wordOtherKey    = "another_key"
)

// Import takes keys and certificates from a person: OpenPGP, armored or
// binary; PEM, DER, PKCS #7; vCard. Each key gets an entry for the address
// that Options say, or for each that it names; where it names several, none of
// those for which another key is in use. Its Outcome is added, trusted,
// known, proposed, superseded or refused; a refused one that is not recorded
// has no id. The error is a fault when nothing in data is a key.
func (k *Keyring) Import(ctx context.Context, org id.ID, data []byte, o Options) ([]Entry, error) {
	pieces, err := split(data)
	if err != nil {
		return nil, err
	}
	var all []Entry
	defer k.noticed(ctx, org)
	for _, p := range pieces {
		if p.refused != nil {
			all = append(all, Entry{Org: org, Kind: p.kind, State: Refused, Reason: p.refused.Reason, Outcome: "refused"})
			continue
		}
		entries, err := k.importOne(ctx, org, p.m, o)
		all = append(all, entries...)
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

func (k *Keyring) importOne(ctx context.Context, org id.ID, m *material, o Options) ([]Entry, error) {
	addresses := m.addresses()
	if !o.Address.IsZero() {
		addresses = []mail.Address{o.Address}
	}
	if len(addresses) == 0 {
		now := k.d.Clock.Now()
		return []Entry{{Org: org, Kind: m.kind, State: Refused, Reason: "no_address", Outcome: "refused", Algorithm: m.algorithm(now),
			Fingerprint: private.NewString(m.fingerprint), Expires: m.expires()}}, nil
	}
	proof := cmp.Or(o.Tier, policy.Pinned)
	if m.kind == policy.SMIME && proof < policy.Pinned {
		proof = min(proof, policy.Discovered) // the rest is for its chain to prove
	}
	addresses = distinct(addresses)
	var all []Entry
	for _, a := range addresses[:min(len(addresses), addressesPerKey)] {
		now := k.d.Clock.Now()
		if len(addresses) > 1 {
			other, err := k.otherInUse(ctx, org, a, m)
			if err != nil {
				return all, err
			}
			if other {
				all = append(all, Entry{Org: org, Address: a, Kind: m.kind, State: Refused, Reason: wordOtherKey, Outcome: "refused", Algorithm: m.algorithm(now),
					Fingerprint: private.NewString(m.fingerprint), Expires: m.expires()})
				continue
			}
		}
		m := m.about(a)
		x := sight{m: m, source: SourceImport, proof: proof, person: true, opens: o.Opens.of(m.kind),
			verdict: k.judge(ctx, m, a, proof, now)}
		e, err := k.hand(ctx, org, a, x, now)
		if err != nil {
			return all, err
		}
		all = append(all, e)
	}
	return all, nil
}

// distinct leaves out addresses that are the same mailbox.
func distinct(all []mail.Address) (out []mail.Address) {
	for _, a := range all {
		if !slices.ContainsFunc(out, func(b mail.Address) bool { return b.Normal() == a.Normal() }) {
			out = append(out, a)
		}
	}
	return out
}

// otherInUse reports whether mail to an address is sealed with another key.
// Anybody can write any address into a key of their own: who imports it for
// one of its addresses has not said that it is to replace the keys of others.
func (k *Keyring) otherInUse(ctx context.Context, org id.ID, a mail.Address, m *material) (bool, error) {
	for _, whose := range []id.ID{org, db.System} {
		rows, err := k.rows(ctx, whose, a)
		if err != nil {
			return false, err
		}
		for _, r := range rows {
			if r.Kind == m.kind && (r.State == Active || r.State == Refused && r.Tier == policy.Pinned) {
				return r.Fingerprint.Reveal() != m.fingerprint, nil
			}
		}
	}
	return false, nil
}

// hand settles what a person did.
func (k *Keyring) hand(ctx context.Context, org id.ID, a mail.Address, x sight, now time.Time) (e Entry, err error) {
	hmac, err := k.d.Custody.Index(org, addressLabel, a.Normal())
	if err != nil {
		return e, err
	}
	var touched []Entry
	err = k.d.DB.Write(ctx, org, func(tx *db.Tx) (err error) {
		touched, err = k.settle(tx, a, hmac, round{sights: []sight{x}}, now)
		return err
	})
	k.forget(org, a)
	if err != nil || len(touched) == 0 {
		return Entry{}, err
	}
	return touched[0], nil
}

// noticed tells all nodes that a person changed something. When it fails they
// notice a minute later.
func (k *Keyring) noticed(ctx context.Context, org id.ID) {
	err := k.d.DB.Write(context.WithoutCancel(ctx), org, func(tx *db.Tx) error {
		_, err := tx.Exec("UPDATE keyring_orgs SET changes = changes + 1 WHERE org_id = ?", org)
		return err
	})
	if err != nil {
		k.d.Log.Warn("other nodes were not told of a change in the keyring", "reason", fault.From(err).Reason)
	}
	k.epoch.Add(1)
	k.flights.Forget("org " + org.Text(id.Org))
	k.orgs.drop(org)
}

// Harvest takes a key that came with authenticated mail from a recipient. Only
// keys that name the address are taken. capabilities are what a signature says
// that its owner can open (RFC 8551 section 2.5.2).
func (k *Keyring) Harvest(ctx context.Context, org id.ID, a mail.Address, kind policy.Seal, data []byte, capabilities ...string) error {
	list, err := read(kind, data)
	if err != nil {
		return err
	}
	now := k.d.Clock.Now()
	var r round
	h, err := k.hold(ctx, org, a)
	if err != nil {
		return err
	}
	for _, m := range list[:min(len(list), harvestLimit)] {
		if !slices.ContainsFunc(m.addresses(), func(named mail.Address) bool { return named.Normal() == a.Normal() }) || seenToday(h, m, now) {
			continue
		}
		m = m.about(a)
		x := sight{m: m, source: SourceHarvest, proof: policy.Harvested, opens: Opens{GCM: slices.Contains(capabilities, capabilityGCM)}.of(m.kind)}
		x.verdict = k.judge(ctx, m, a, x.proof, now)
		r.sights = append(r.sights, x)
	}
	if len(r.sights) == 0 {
		return nil
	}
	hmac, err := k.d.Custody.Index(org, addressLabel, a.Normal())
	if err != nil {
		return err
	}
	if err := k.d.DB.Write(ctx, org, func(tx *db.Tx) error {
		_, err := k.settle(tx, a, hmac, r, now)
		return err
	}); err != nil {
		return err
	}
	k.forget(org, a)
	return nil
}

// seenToday reports whether mail showed this very key lately, so that each
// mail of a person costs no write.
func seenToday(h *holding, m *material, now time.Time) bool {
	return slices.ContainsFunc(h.rows, func(r *row) bool {
		_, harvested := r.sightings[SourceHarvest]
		return harvested && r.Kind == m.kind && r.Fingerprint.Reveal() == m.fingerprint && within(r.LastSeen, now, foundFor)
	})
}
