package main

import (
	"context"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/identity"
	"github.com/sealpost/sealpost/internal/policy"
)

type identityRevokeCmd struct {
	identityArg
	Reason string `required:"" enum:"compromised,superseded,unused,unspecified" placeholder:"REASON" help:"compromised, superseded, unused or unspecified."`
	Apply  bool   `help:"Do it; without it, nothing is changed and you see what would happen."`
}

// Help says what the two kinds can do.
func (identityRevokeCmd) Help() string {
	return "An OpenPGP key is revoked by its own signature, which the Web Key Directory gives out for a year. A certificate only its authority can revoke: the command says what to ask for. " +
		"The key signs no more from then on, and still opens mail that was encrypted to it. It cannot be taken back.\n\nExample:\n\n" +
		"  $ sealpost identity revoke idn_06e9… --reason compromised --apply"
}

// Run revokes, or says what that would mean.
func (c identityRevokeCmd) Run(ctx context.Context, env *environment) error {
	return c.with(ctx, env, func(core *app.Core, o account.Org, idn id.ID) error {
		service := core.Identities
		d, err := service.Show(ctx, o.ID, idn)
		if err != nil {
			return err
		}
		if c.Apply {
			if d, err = service.Revoke(ctx, o.ID, idn, identity.Reason(c.Reason)); err != nil {
				return err
			}
		}
		shown, err := identityShownOf(o.Slug, d, core.Clock.Now())
		if err != nil {
			return err
		}
		r := struct {
			identityShown
			Applied bool `json:"applied"`
		}{shown, c.Apply}
		return env.result(r, func(p *page) { r.tellRevoked(p, c.Apply) })
	})
}

func (r identityShown) tellRevoked(p *page, applied bool) {
	if !applied {
		p.linef("The %s key %s of %s would sign no more, for good.", kindName(r.Kind), r.ID, r.Address)
		p.linef("Nothing was changed. Run it again with --apply to do it.")
		return
	}
	p.linef("Revoked the %s key %s of %s. It signs no more within a second.", kindName(r.Kind), r.ID, r.Address)
	switch {
	case r.Kind == policy.PGP:
		p.linef("The Web Key Directory gives out its revocation for a year. Take its OPENPGPKEY record out of the zone, and send the revoked key to whoever has it:\n  sealpost identity show %s --public", r.ID)
	case r.Certificate != "":
		p.linef("Others learn of it only from the authority: ask it to revoke the certificate with this serial number, and take its SMIMEA record out of the zone.")
		p.table([]string{"  issuer", r.Issuer}, []string{"  serial", r.Serial}, []string{"  sha-256", r.Fingerprint}, []string{"  reason", crlReason(r.Reason)})
	default:
		p.linef("If its certificate was issued meanwhile, ask the authority to revoke it.")
	}
}

// crlReason is the word that authorities use (RFC 5280 section 5.3.1).
func crlReason(r identity.Reason) string {
	switch r {
	case identity.Compromised:
		return "keyCompromise"
	case identity.Superseded:
		return "superseded"
	case identity.Unused:
		return "cessationOfOperation"
	}
	return "unspecified"
}

type identityRevocationCmd struct{ identityArg }

// Help says what it is good for.
func (identityRevocationCmd) Help() string {
	return "It is the key with a revocation that was signed when the key was made. Print it and keep it apart: imported and sent out, it ends the key even when the secret is lost. " +
		"Whoever has it can do so."
}

// Run prints the revocation.
func (c identityRevocationCmd) Run(ctx context.Context, env *environment) error {
	return c.with(ctx, env, func(core *app.Core, o account.Org, idn id.ID) error {
		key, err := core.Identities.Revocation(ctx, o.ID, idn)
		if err != nil {
			return err
		}
		text, err := key.Armor()
		if err != nil {
			return err
		}
		r := struct {
			ID         string `json:"id"`
			Revocation string `json:"revocation"`
		}{idn.Text(id.Identity), text}
		return env.result(r, func(p *page) {
			p.text.WriteString(r.Revocation)
			env.sayf("Whoever imports and publishes this ends the key %s. Nothing was changed here.", r.ID)
		})
	})
}

type identityRecordsCmd struct {
	identityArg
	Generic bool `help:"Write them as RFC 3597 does, for DNS servers that do not know these types."`
}

// Help says what the records need.
func (identityRecordsCmd) Help() string {
	return "They are for the zone of the address's domain, which must be signed with DNSSEC: others believe them only then. " +
		"Take them out when the key retires.\n\nExample:\n\n  $ sealpost identity records idn_06e9… >> clinic.example.zone"
}

// Run prints records.
func (c identityRecordsCmd) Run(ctx context.Context, env *environment) error {
	return c.with(ctx, env, func(core *app.Core, o account.Org, idn id.ID) error {
		records, err := core.Identities.Records(ctx, o.ID, idn, c.Generic)
		if err != nil {
			return err
		}
		r := struct {
			ID      string `json:"id"`
			Records string `json:"records"`
		}{idn.Text(id.Identity), records.Reveal()}
		return env.result(r, func(p *page) { p.text.WriteString(r.Records) })
	})
}
