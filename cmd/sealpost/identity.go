package main

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/identity"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
)

// identityCmd looks after an organization's own keys.
type identityCmd struct {
	List       identityListCmd       `cmd:"" help:"List the keys of the organization's members."`
	Show       identityShowCmd       `cmd:"" help:"Show one key, or print its public part."`
	Create     identityCreateCmd     `cmd:"" help:"Make a key for an address: OpenPGP, or S/MIME with a certificate request."`
	Import     identityImportCmd     `cmd:"" help:"Take a key that exists: PKCS #12 or an OpenPGP secret key."`
	CSR        identityCSRCmd        `cmd:"" name:"csr" help:"Print a certificate request again."`
	Install    identityInstallCmd    `cmd:"" help:"Put in the certificate that an authority issued."`
	Rotate     identityRotateCmd     `cmd:"" help:"Make a successor; the old key opens old mail and signs no more."`
	Renew      identityRenewCmd      `cmd:"" help:"Give an OpenPGP key a later end."`
	Revoke     identityRevokeCmd     `cmd:"" help:"Tell everybody that a key must not be used any more."`
	Revocation identityRevocationCmd `cmd:"" help:"Print the revocation that was made with an OpenPGP key, to keep apart."`
	Records    identityRecordsCmd    `cmd:"" help:"Print the DNS records that publish a key."`
}

// Help says what the keys are for.
func (identityCmd) Help() string {
	return "A member's key signs what is sent from the address and opens what comes back encrypted. Keys are stored under the organization's key and end with it. " +
		"docs/identity.md tells the whole way."
}

type identityRow struct {
	ID          string          `json:"id"`
	Org         string          `json:"org"`
	Address     string          `json:"address,omitempty"`
	Kind        policy.Seal     `json:"kind"`
	Key         string          `json:"key"` // algorithm
	State       identity.State  `json:"state"`
	Reason      identity.Reason `json:"reason,omitempty"`
	Fingerprint string          `json:"fingerprint,omitempty"`
	DaysLeft    *int            `json:"days_left,omitempty"`
	CreatedAt   time.Time       `json:"created_at"`
	ExpiresAt   time.Time       `json:"expires_at,omitzero"`
	RetiredAt   time.Time       `json:"retired_at,omitzero"`
	RevokedAt   time.Time       `json:"revoked_at,omitzero"`
}

func identityRowOf(slug string, i identity.Identity, now time.Time) identityRow {
	r := identityRow{
		ID: i.ID.Text(id.Identity), Org: slug, Address: i.Address.Reveal(), Kind: i.Kind, Key: i.Algorithm, State: i.State, Reason: i.Reason,
		Fingerprint: i.Fingerprint.Reveal(), CreatedAt: stamp(i.CreatedAt), ExpiresAt: stamp(i.ExpiresAt), RetiredAt: stamp(i.RetiredAt), RevokedAt: stamp(i.RevokedAt),
	}
	if i.State == identity.Active && !i.ExpiresAt.IsZero() {
		left := identity.DaysLeft(i.ExpiresAt, now)
		r.DaysLeft = &left
	}
	return r
}

// ends says how long the key is good for.
func (r identityRow) ends() string {
	switch {
	case r.State == identity.Revoked:
		return "revoked " + r.RevokedAt.Format(time.DateOnly) + ", " + string(r.Reason)
	case r.State == identity.Retired:
		return "retired " + r.RetiredAt.Format(time.DateOnly)
	case r.State == identity.Requested:
		return "waits for its certificate"
	case r.DaysLeft == nil:
		return "never"
	case *r.DaysLeft <= 0:
		return "expired " + r.ExpiresAt.Format(time.DateOnly)
	case *r.DaysLeft <= identity.Thresholds[0]:
		return "expires in " + count(*r.DaysLeft, "day", "days")
	}
	return "expires " + r.ExpiresAt.Format(time.DateOnly)
}

// identityArg names one key.
type identityArg struct {
	orgFlag
	ID string `arg:"" help:"Id of the key, as \"sealpost identity list\" shows it: idn_…"`
}

// with runs fn on the key's organization.
func (a identityArg) with(ctx context.Context, env *environment, fn func(*app.Core, account.Org, id.ID) error) error {
	idn, err := id.Parse(id.Identity, a.ID)
	if err != nil {
		return usagef("An id of a key looks like idn_06e9…; \"sealpost identity list\" shows them.")
	}
	return env.withOrg(ctx, a.alive, func(core *app.Core, o account.Org) error { return fn(core, o, idn) })
}

type identityListCmd struct{ orgFlag }

// Run lists keys.
func (c identityListCmd) Run(ctx context.Context, env *environment) error {
	return env.withOrg(ctx, c.pick, func(core *app.Core, o account.Org) error {
		all, err := core.Identities.List(ctx, o.ID)
		if err != nil {
			return err
		}
		r := struct {
			Org        string        `json:"org"`
			Identities []identityRow `json:"identities"`
		}{o.Slug, []identityRow{}}
		for _, i := range all {
			r.Identities = append(r.Identities, identityRowOf(o.Slug, i, core.Clock.Now()))
		}
		return env.result(r, func(p *page) {
			if len(all) == 0 {
				p.linef("%s has no key of its own yet. \"sealpost identity create\" makes one.", o.Slug)
				return
			}
			rows := [][]string{{"ID", "ADDRESS", "KIND", "KEY", "STATE", "ENDS"}}
			for i, row := range r.Identities {
				address := row.Address
				if all[i].Unreadable {
					address = "(destroyed)"
				}
				rows = append(rows, []string{row.ID, address, string(row.Kind), row.Key, string(row.State), row.ends()})
			}
			p.table(rows...)
		})
	})
}

type identityShowCmd struct {
	identityArg
	Public bool `help:"Print only the OpenPGP key in armor, or the certificate with its chain in PEM, to hand on."`
}

type identityShown struct {
	identityRow
	Replaces    string `json:"replaces,omitempty"`
	PublicKey   string `json:"public_key,omitempty"`
	Certificate string `json:"certificate,omitempty"` // with its chain
	Issuer      string `json:"issuer,omitempty"`
	Serial      string `json:"serial,omitempty"`
	CSR         string `json:"csr,omitempty"`
}

func identityShownOf(slug string, d identity.Detail, now time.Time) (identityShown, error) {
	r := identityShown{identityRow: identityRowOf(slug, d.Identity, now)}
	if !d.Replaces.IsZero() {
		r.Replaces = d.Replaces.Text(id.Identity)
	}
	if d.Kind == policy.PGP {
		var err error
		if r.PublicKey, err = d.Key.Armor(); err != nil {
			return r, err
		}
	}
	if c := d.Certificate; c != nil {
		r.Certificate = pemText("CERTIFICATE", c.Raw)
		for _, more := range d.Chain {
			r.Certificate += pemText("CERTIFICATE", more.Raw)
		}
		r.Issuer, r.Serial = c.Issuer.String(), strings.ToUpper(c.SerialNumber.Text(16))
	}
	if d.State == identity.Requested {
		r.CSR = pemText("CERTIFICATE REQUEST", d.CSR)
	}
	return r, nil
}

func pemText(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// tell shows a key for people.
func (r identityShown) tell(p *page) {
	rows := [][]string{{"id", r.ID}, {"organization", r.Org}, {"address", r.Address}, {"kind", string(r.Kind)}, {"key", r.Key},
		{"state", string(r.State)}, {"made", when(r.CreatedAt, "-")}, {"ends", r.ends()}, {"fingerprint", r.Fingerprint}}
	for _, more := range [][]string{{"issuer", r.Issuer}, {"serial", r.Serial}, {"replaces", r.Replaces}} {
		if more[1] != "" {
			rows = append(rows, more)
		}
	}
	p.table(rows...)
}

// Run shows one key.
func (c identityShowCmd) Run(ctx context.Context, env *environment) error {
	return c.with(ctx, env, func(core *app.Core, o account.Org, idn id.ID) error {
		d, err := core.Identities.Show(ctx, o.ID, idn)
		if err != nil {
			return err
		}
		r, err := identityShownOf(o.Slug, d, core.Clock.Now())
		if err != nil {
			return err
		}
		public := r.PublicKey + r.Certificate
		if c.Public && public == "" {
			return fault.New(fault.Conflict, "identity_not_installed", "There is no certificate yet: \"sealpost identity install\" puts it in.")
		}
		return env.result(r, func(p *page) {
			if c.Public {
				p.text.WriteString(public)
				return
			}
			r.tell(p)
		})
	})
}

// addressOf reads an address that was typed.
func addressOf(text string) (mail.Address, error) {
	a, err := mail.ParseAddress(text)
	if err != nil {
		return a, usagef("An address looks like dr.ada@clinic.example. %v", err)
	}
	return a, nil
}

// ending reads when a key ends: years too, and never.
func ending(text string, now time.Time) (time.Time, error) {
	if text == "never" {
		return time.Time{}, nil
	}
	if years, ok := strings.CutSuffix(text, "y"); ok {
		n, err := strconv.Atoi(years)
		if err != nil || n < 1 || n > 50 {
			return time.Time{}, usagef("A number of years is from 1y to 50y.")
		}
		return now.AddDate(n, 0, 0), nil
	}
	return moment(text, now)
}

// keyFileLimit bounds what is read; the service says what is too large.
const keyFileLimit = 1<<20 + 1

func readKeyFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read the file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, keyFileLimit))
	if err != nil {
		return nil, fmt.Errorf("read the file: %w", err)
	}
	return data, nil
}
