package main

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/posture"
)

// domainCmd looks after sender domains, and looks at recipients'.
type domainCmd struct {
	Add        domainAddCmd        `cmd:"" help:"Name a domain that the organization sends from."`
	List       domainListCmd       `cmd:"" help:"List the organization's domains."`
	Verify     domainVerifyCmd     `cmd:"" help:"Look for the DNS record that proves a domain."`
	Remove     domainRemoveCmd     `cmd:"" help:"Take a domain from the organization."`
	ReturnPath domainReturnPathCmd `cmd:"" name:"return-path" help:"Let bounces of a domain's mail come back to this system."`
	Route      domainRouteCmd      `cmd:"" help:"Let mail for members of a domain come in here, and say where it goes on to."`
	Posture    domainPostureCmd    `cmd:"" help:"Show what a recipient's domain can do."`
	Check      domainCheckCmd      `cmd:"" help:"Compare what the DNS says of sender domains with what it has to say."`
	MTASTS     domainMTASTSCmd     `cmd:"" name:"mta-sts" help:"Serve an MTA-STS policy for a domain whose mail comes in here."`
}

type domainRow struct {
	Domain      string    `json:"domain"`
	Verified    bool      `json:"verified"`
	VerifiedBy  string    `json:"verified_by,omitempty"`
	VerifiedAt  time.Time `json:"verified_at,omitzero"`
	RecordName  string    `json:"record_name"` // of the TXT record that proves it
	RecordValue string    `json:"record_value"`
}

func domainRowOf(d account.Domain) domainRow {
	name, value := d.Record()
	return domainRow{d.Name, !d.VerifiedAt.IsZero(), d.VerifiedBy, stamp(d.VerifiedAt), name, value}
}

// domainName reads a name as it was typed, in any letters.
func domainName(s string) (string, error) {
	name, err := mail.ParseDomain(s)
	if err != nil {
		return "", usagef("%q is not a domain name such as clinic.example.", s)
	}
	return name, nil
}

func domainTable(all []domainRow) [][]string {
	rows := [][]string{{"DOMAIN", "VERIFIED", "BY"}}
	for _, d := range all {
		rows = append(rows, []string{d.Domain, when(d.VerifiedAt, "no"), orDash(d.VerifiedBy)})
	}
	return rows
}

type domainAddCmd struct {
	orgFlag
	Domain string `arg:"" help:"Domain name."`
}

// Help says what comes next.
func (domainAddCmd) Help() string {
	return "It prints a TXT record to publish in the DNS. \"sealpost domain verify\" then looks for it; until then no mail is accepted from the domain. " +
		"Adding a domain again prints the same record."
}

// Run adds a domain.
func (c domainAddCmd) Run(ctx context.Context, env *environment) error {
	name, err := domainName(c.Domain)
	if err != nil {
		return err
	}
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		d, err := core.Accounts.AddDomain(ctx, o.ID, name)
		if err != nil {
			return err
		}
		r := domainRowOf(d)
		return env.result(r, func(p *page) {
			if r.Verified {
				p.linef("%s is a verified domain of %s already.", r.Domain, o.Slug)
				return
			}
			p.linef("Publish this record in the DNS, then run \"sealpost domain verify %s\":\n", r.Domain)
			p.linef("  %s.  TXT  %q", r.RecordName, r.RecordValue)
		})
	})
}

type domainListCmd struct{ orgFlag }

// Run lists domains.
func (c domainListCmd) Run(ctx context.Context, env *environment) error {
	return env.withOrg(ctx, c.pick, func(core *app.Core, o account.Org) error {
		all, err := core.Accounts.Domains(ctx, o.ID)
		if err != nil {
			return err
		}
		r := struct {
			Org     string      `json:"org"`
			Domains []domainRow `json:"domains"`
		}{o.Slug, []domainRow{}}
		for _, d := range all {
			r.Domains = append(r.Domains, domainRowOf(d))
		}
		return env.result(r, func(p *page) {
			if len(r.Domains) == 0 {
				p.linef("%s has no domain yet. \"sealpost domain add\" names one.", o.Slug)
				return
			}
			p.table(domainTable(r.Domains)...)
		})
	})
}

type domainVerifyCmd struct {
	orgFlag
	Domain string `arg:"" help:"Domain name."`
	Force  bool   `help:"Take it as proved without asking the DNS. The ledger keeps that it was forced."`
}

// Run verifies a domain.
func (c domainVerifyCmd) Run(ctx context.Context, env *environment) error {
	name, err := domainName(c.Domain)
	if err != nil {
		return err
	}
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		var d account.Domain
		if c.Force {
			d, err = core.Accounts.ForceDomain(ctx, o.ID, name)
		} else {
			d, err = core.Accounts.VerifyDomain(ctx, o.ID, name, lookupTXT(core.Config.Network.Resolver))
		}
		if err != nil {
			return err
		}
		r := domainRowOf(d)
		return env.result(r, func(p *page) {
			if c.Force {
				p.linef("%s is taken as a domain of %s without proof; the ledger keeps that.", r.Domain, o.Slug)
				return
			}
			p.linef("%s is a verified domain of %s.", r.Domain, o.Slug)
		})
	})
}

// lookupTXT asks the resolver at this address, or the system's. A name that
// does not exist has no records, which is an answer.
func lookupTXT(resolver string) account.LookupTXT {
	r := &net.Resolver{}
	if resolver != "" {
		r = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, resolver)
		}}
	}
	return func(ctx context.Context, name string) ([]string, error) {
		// The final dot keeps search domains of the machine out.
		found, err := r.LookupTXT(ctx, name+".")
		if bad := (*net.DNSError)(nil); errors.As(err, &bad) && bad.IsNotFound {
			return nil, nil
		}
		return found, err
	}
}

type domainRemoveCmd struct {
	orgFlag
	Domain string `arg:"" help:"Domain name."`
	Apply  bool   `help:"Do it; without it, nothing is changed and you see what would happen."`
}

// Run removes a domain, or says what that would mean.
func (c domainRemoveCmd) Run(ctx context.Context, env *environment) error {
	name, err := domainName(c.Domain)
	if err != nil {
		return err
	}
	return env.withOrg(ctx, c.pick, func(core *app.Core, o account.Org) error {
		d, err := core.Accounts.Domain(ctx, o.ID, name)
		if err != nil {
			return err
		}
		if c.Apply {
			if err := core.Accounts.RemoveDomain(ctx, o.ID, name); err != nil {
				return err
			}
		}
		r := struct {
			Org     string `json:"org"`
			Domain  string `json:"domain"`
			Applied bool   `json:"applied"`
		}{o.Slug, d.Name, c.Apply}
		return env.result(r, func(p *page) {
			if c.Apply {
				p.linef("Removed %s from %s.", d.Name, o.Slug)
				return
			}
			p.linef("Mail from %s would be refused at once, and adding the domain again would ask for a new DNS record.", d.Name)
			p.linef("Nothing was changed. Run it again with --apply to do it.")
		})
	})
}

type domainPostureCmd struct {
	Domain  string `arg:"" help:"Domain of recipients."`
	Refresh bool   `help:"Look up in the network what is not known or has expired."`
}

// Help says what is asked.
func (domainPostureCmd) Help() string {
	return "It shows the domain's mail hosts, their TLSA records (DANE), its MTA-STS policy and the best TLS seen lately, as deliveries use them. " +
		"Without --refresh nothing is asked of the network.\n\nExample:\n\n  $ sealpost domain posture example.org --refresh"
}

// Run shows what is known of a domain.
func (c domainPostureCmd) Run(ctx context.Context, env *environment) error {
	name, err := domainName(c.Domain)
	if err != nil {
		return err
	}
	return env.withCore(ctx, func(core *app.Core) error {
		known, ok := core.Posture.Cached(ctx, name)
		if c.Refresh {
			if known, err = core.Posture.Refresh(ctx, name); err != nil {
				return err
			}
			ok = true
		}
		r := struct {
			Known bool `json:"known"`
			posture.Posture
		}{ok, known}
		if !ok {
			r.Domain = name
		}
		return env.result(r, func(p *page) {
			if !ok {
				p.linef("Nothing is known of %s yet. Use --refresh to look it up.", name)
				return
			}
			p.text.WriteString(known.String())
		})
	})
}
