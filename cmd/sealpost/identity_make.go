package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/identity"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

// keyFlags say what kind of key is made.
type keyFlags struct {
	Profile string `enum:",curve25519,rsa3072,nistp256,v6" default:"" placeholder:"PROFILE" help:"OpenPGP: curve25519, rsa3072 for old programs, nistp256, or v6 for programs of RFC 9580. (default: curve25519)"`
	Key     string `enum:",ec-p256,rsa-2048,rsa-3072" default:"" placeholder:"KEY" help:"S/MIME: ec-p256, rsa-2048 or rsa-3072. (default: ec-p256)"`
	Expires string `placeholder:"WHEN" help:"OpenPGP: when it ends, as 2y, 90d, 2030-12-31 or never. (default: 2y)"`
}

// defaultLife is how long an OpenPGP key lives when nothing else is said.
const defaultLife = "2y"

func (f keyFlags) read(kind policy.Seal, now time.Time) (identity.Algorithm, time.Time, error) {
	if kind == policy.SMIME {
		if f.Profile != "" || f.Expires != "" {
			return "", time.Time{}, usagef("--profile and --expires are for OpenPGP keys: a certificate's authority decides when it ends.")
		}
		return identity.Algorithm(f.Key), time.Time{}, nil
	}
	if f.Key != "" {
		return "", time.Time{}, usagef("--key is for S/MIME; OpenPGP keys have a --profile.")
	}
	if f.Expires == "" {
		f.Expires = defaultLife
	}
	ends, err := ending(f.Expires, now)
	return identity.Algorithm(f.Profile), ends, err
}

type identityCreateCmd struct {
	orgFlag
	Address string `required:"" placeholder:"ADDRESS" help:"The member's address, at a verified domain of the organization."`
	Kind    string `required:"" enum:"pgp,smime" placeholder:"KIND" help:"pgp or smime."`
	Name    string `placeholder:"NAME" help:"OpenPGP: the member's name in the key."`
	keyFlags
}

// Help shows both kinds.
func (identityCreateCmd) Help() string {
	return "An OpenPGP key works at once and is published in the domain's Web Key Directory. For S/MIME a certificate request is printed: " +
		"have an authority issue the certificate and put it in with \"sealpost identity install\".\n\nExamples:\n\n" +
		"  $ sealpost identity create --address dr.ada@clinic.example --kind pgp --name 'Dr. Ada' --expires 2y\n" +
		"  $ sealpost identity create --address dr.ada@clinic.example --kind smime > ada.csr"
}

// Run makes a key.
func (c identityCreateCmd) Run(ctx context.Context, env *environment) error {
	a, err := addressOf(c.Address)
	if err != nil {
		return err
	}
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		kind := policy.Seal(c.Kind)
		algorithm, ends, err := c.read(kind, core.Clock.Now())
		if err != nil {
			return err
		}
		d, err := core.Identities.Create(ctx, o.ID, identity.Request{Address: a, Kind: kind, Algorithm: algorithm, Name: c.Name, Expires: ends})
		if err != nil {
			return err
		}
		return env.made(core, o, d, "Made")
	})
}

// made tells of a new key: a request is all that is printed, to be piped on.
func (e *environment) made(core *app.Core, o account.Org, d identity.Detail, verb string) error {
	r, err := identityShownOf(o.Slug, d, core.Clock.Now())
	if err != nil {
		return err
	}
	return e.result(r, func(p *page) {
		if r.State == identity.Requested {
			p.text.WriteString(r.CSR)
			e.sayf("%s the key %s (%s) and asked for its certificate above.\nNext: have it issued, then run \"sealpost identity install %s CHAIN.pem\".", verb, r.ID, r.Key, r.ID)
			return
		}
		p.linef("%s the %s key %s of %s.\n", verb, kindName(r.Kind), r.ID, r.Address)
		r.tell(p)
		if r.State == identity.Active && r.Replaces != "" {
			p.linef("\n%s retires: it opens old mail and signs no more.", r.Replaces)
		}
		if r.State == identity.Active && r.Kind == policy.PGP {
			p.linef("\nKeep its revocation where the key cannot be lost with it: sealpost identity revocation %s", r.ID)
		}
	})
}

func kindName(kind policy.Seal) string {
	if kind == policy.PGP {
		return "OpenPGP"
	}
	return "S/MIME"
}

type identityImportCmd struct {
	orgFlag
	File           string `arg:"" help:"PKCS #12 file (.p12, .pfx) or OpenPGP secret key, armored or binary."`
	PassphraseFile string `placeholder:"FILE" help:"File that holds the passphrase in its first line."`
	Address        string `placeholder:"ADDRESS" help:"Which address it is for, if the key names several."`
	Replace        bool   `help:"The active key of the address retires."`
	Retired        bool   `help:"Use it to open old mail only; it may have expired."`
}

// Help shows an example.
func (identityImportCmd) Help() string {
	return "The key is sealed under the organization's key; remove the file afterwards.\n\nExample:\n\n" +
		"  $ sealpost identity import ada.p12 --passphrase-file ada.pass"
}

// Run imports a key.
func (c identityImportCmd) Run(ctx context.Context, env *environment) error {
	o := identity.ImportOptions{Replace: c.Replace, Retired: c.Retired}
	if c.Replace && c.Retired {
		return usagef("A key either replaces the active one or is retired.")
	}
	var err error
	if c.Address != "" {
		if o.Address, err = addressOf(c.Address); err != nil {
			return err
		}
	}
	data, err := readKeyFile(c.File)
	if err != nil {
		return err
	}
	if c.PassphraseFile != "" {
		text, err := os.ReadFile(c.PassphraseFile)
		if err != nil {
			return fmt.Errorf("read the passphrase: %w", err)
		}
		line, _, _ := bytes.Cut(text, []byte("\n"))
		o.Passphrase = private.NewBytes(bytes.TrimSuffix(line, []byte("\r")))
	}
	return env.withOrg(ctx, c.alive, func(core *app.Core, org account.Org) error {
		d, err := core.Identities.Import(ctx, org.ID, data, o)
		if err != nil {
			return err
		}
		return env.made(core, org, d, "Imported")
	})
}

type identityCSRCmd struct{ identityArg }

// Run prints the request again.
func (c identityCSRCmd) Run(ctx context.Context, env *environment) error {
	return c.with(ctx, env, func(core *app.Core, o account.Org, idn id.ID) error {
		d, err := core.Identities.Show(ctx, o.ID, idn)
		if err != nil {
			return err
		}
		r, err := identityShownOf(o.Slug, d, core.Clock.Now())
		if err != nil {
			return err
		}
		if r.CSR == "" {
			return fault.New(fault.Conflict, "identity_not_requested", "No certificate is asked for with this key.")
		}
		return env.result(r, func(p *page) { p.text.WriteString(r.CSR) })
	})
}

type identityInstallCmd struct {
	identityArg
	File string `arg:"" help:"The certificate and those that lead to its authority: PEM, DER or PKCS #7."`
}

// Help says what is looked at.
func (identityInstallCmd) Help() string {
	return "The certificate must belong to the key, name its address, be valid now and be good for signing and encrypting mail. " +
		"Another key of the address that signs by S/MIME retires.\n\nExample:\n\n  $ sealpost identity install idn_06e9… chain.pem"
}

// Run installs a certificate.
func (c identityInstallCmd) Run(ctx context.Context, env *environment) error {
	data, err := readKeyFile(c.File)
	if err != nil {
		return err
	}
	return c.with(ctx, env, func(core *app.Core, o account.Org, idn id.ID) error {
		d, err := core.Identities.Install(ctx, o.ID, idn, data)
		if err != nil {
			return err
		}
		return env.made(core, o, d, "Put in the certificate of")
	})
}

type identityRotateCmd struct {
	identityArg
	keyFlags
}

// Help says how the two kinds differ.
func (identityRotateCmd) Help() string {
	return "An OpenPGP key is replaced at once. For S/MIME a request is printed, and the old key stays in use until the certificate of the new one is installed. " +
		"The old key goes on opening mail that was encrypted to it."
}

// Run rotates.
func (c identityRotateCmd) Run(ctx context.Context, env *environment) error {
	return c.with(ctx, env, func(core *app.Core, o account.Org, idn id.ID) error {
		service := core.Identities
		old, err := service.Show(ctx, o.ID, idn)
		if err != nil {
			return err
		}
		algorithm, ends, err := c.read(old.Kind, core.Clock.Now())
		if err != nil {
			return err
		}
		d, err := service.Rotate(ctx, o.ID, idn, algorithm, ends)
		if err != nil {
			return err
		}
		return env.made(core, o, d, "Made")
	})
}

type identityRenewCmd struct {
	identityArg
	Expires string `default:"2y" placeholder:"WHEN" help:"The new end, as 2y, 90d, 2030-12-31 or never. (default: 2y)"`
}

// Run renews.
func (c identityRenewCmd) Run(ctx context.Context, env *environment) error {
	return c.with(ctx, env, func(core *app.Core, o account.Org, idn id.ID) error {
		ends, err := ending(c.Expires, core.Clock.Now())
		if err != nil {
			return err
		}
		d, err := core.Identities.Renew(ctx, o.ID, idn, ends)
		if err != nil {
			return err
		}
		r, err := identityShownOf(o.Slug, d, core.Clock.Now())
		if err != nil {
			return err
		}
		return env.result(r, func(p *page) {
			p.linef("The key %s of %s is the same and %s.", r.ID, r.Address, r.ends())
		})
	})
}
