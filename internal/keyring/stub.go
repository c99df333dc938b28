package keyring

import (
	"context"

	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
)

// Keyring is the keys of everybody we write to. It is safe for concurrent use.
type Keyring struct{ d Deps }

// New makes a Keyring.
func New(d Deps) *Keyring { return &Keyring{d} }

// Known tells which keys are on record, without the network.
func (k *Keyring) Known(ctx context.Context, org id.ID, a mail.Address) (policy.Keys, error) {
	return policy.Keys{}, errNotBuilt
}

// Find gives the keys that a delivery can be sealed with now.
func (k *Keyring) Find(ctx context.Context, org id.ID, a mail.Address) (Found, error) {
	return Found{}, errNotBuilt
}

// Import takes keys in.
func (k *Keyring) Import(ctx context.Context, org id.ID, data []byte, o Options) ([]Entry, error) {
	return nil, errNotBuilt
}

// Harvest takes a key that a recipient sent with mail of theirs.
func (k *Keyring) Harvest(ctx context.Context, org id.ID, a mail.Address, kind policy.Seal, data []byte, capabilities ...string) error {
	return errNotBuilt
}
