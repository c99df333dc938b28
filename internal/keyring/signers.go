package keyring

import (
	"context"

	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
)

// Signers gives the OpenPGP keys by which mail from an address can be checked:
// those in use here, also when they have expired since, never what was removed,
// refused or revoked. Where the organization pinned a key, it is that one alone.
// It never asks the network: whoever sent the mail would learn from the question
// that it is being read.
func (k *Keyring) Signers(ctx context.Context, org id.ID, a mail.Address) ([]Choice, error) {
	own, shared, err := k.both(ctx, org, a)
	if err != nil {
		return nil, err
	}
	now := k.d.Clock.Now()
	var all []Choice
	for _, r := range candidates(policy.PGP, own.rows, shared.rows) {
		if r.State != Active || r.m == nil || r.m.pgp.Revoked(now) || barred(own.rows, r) || barred(shared.rows, r) {
			continue
		}
		all = append(all, Choice{Entry: r.Entry, PGP: r.m.pgp})
	}
	return all, nil
}

// barred reports whether the same key was taken out of use or was revoked.
func barred(rows []*row, r *row) bool {
	twin := twinOf(rows, r)
	return twin != nil && (twin.State == Removed || twin.Reason == wordRevoked)
}
