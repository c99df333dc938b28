package main

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/seal"
)

// fromOrg adds the keys of an organization and what it knows of senders.
func fromOrg(ctx context.Context, core *app.Core, org account.Org, o *seal.OpenOptions) error {
	own, err := core.Identities.Openers(ctx, org.ID)
	if err != nil {
		return err
	}
	o.Secrets.PGP = append(o.Secrets.PGP, own.PGP...)
	o.Secrets.SMIME = append(o.Secrets.SMIME, own.SMIME...)
	given := o.Signers
	o.Signers = func(from mail.Address) (list []seal.SignerKey, err error) {
		if given != nil {
			if list, err = given(from); err != nil {
				return nil, err
			}
		}
		more, err := signersOf(ctx, core, org, from)
		return append(list, more...), err
	}
	if o.CheckCertificate == nil {
		o.CheckCertificate = func(cert *x509.Certificate, others []*x509.Certificate, from mail.Address, at time.Time) error {
			return core.Certs.Signature(ctx, cert, others, from, at)
		}
	}
	return nil
}

// signersOf gives the OpenPGP keys of a sender: our own, when the mail is from
// one of us, and those in the keyring. The network is not asked for them:
// whoever sent the mail would learn from the question that it is being read.
func signersOf(ctx context.Context, core *app.Core, org account.Org, from mail.Address) (list []seal.SignerKey, err error) {
	own, err := core.Identities.Signer(ctx, org.ID, from)
	if err != nil {
		return nil, err
	}
	if own.PGP != nil {
		list = append(list, seal.SignerKey{Key: own.PGP.Public(), Tier: policy.Pinned, Address: from})
	}
	known, err := core.Keyring.Signers(ctx, org.ID, from)
	for _, c := range known {
		list = append(list, seal.SignerKey{Key: c.PGP, Tier: c.Tier, Address: from})
	}
	return list, err
}
