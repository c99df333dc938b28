package main

import (
	"context"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/zone"
)

type domainCheckCmd struct {
	orgFlag
	Domain string `arg:"" optional:"" help:"Domain name. All verified domains of the organization when not given."`
	Zone   bool   `help:"Print only the records to publish, for a zone file."`
}

// Help says what is looked at.
func (domainCheckCmd) Help() string {
	return "It asks the DNS for everything that others judge the domain's mail by (SPF, DKIM, DMARC, the return path, MTA-STS, TLS-RPT, TLSA, names of our addresses) and prints what to publish where something is not right. " +
		"The exit code is 1 when something is wrong that mail needs. A running server looks once a day and puts changes into the ledger."
}

// Run checks domains.
func (c domainCheckCmd) Run(ctx context.Context, env *environment) error {
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		names, err := c.names(ctx, core, o)
		if err != nil {
			return err
		}
		r := struct {
			Org     string        `json:"org"`
			Domains []zone.Report `json:"domains"`
		}{o.Slug, []zone.Report{}}
		bad := 0
		for _, name := range names {
			report, err := core.Zone.Check(ctx, o.ID, name)
			if err == nil {
				err = core.Zone.Keep(ctx, o.ID, report)
			}
			if err != nil {
				return err
			}
			if report.State == zone.Bad {
				bad++
			}
			r.Domains = append(r.Domains, report)
		}
		if err := env.result(r, func(p *page) {
			for _, d := range r.Domains {
				if c.Zone {
					zoneLines(p, d.Items)
				} else {
					reportPage(p, d)
				}
			}
			if len(names) == 0 {
				p.linef("%s has no verified domain yet. \"sealpost domain add\" names one.", o.Slug)
			}
		}); err != nil || bad == 0 {
			return err
		}
		return fault.Newf(fault.Refused, "dns_wrong", "Something that mail needs is wrong for %s.", count(bad, "domain", "domains"))
	})
}

func (c domainCheckCmd) names(ctx context.Context, core *app.Core, o account.Org) (names []string, err error) {
	if c.Domain == "" {
		all, err := core.Accounts.Domains(ctx, o.ID)
		for _, d := range all {
			if !d.VerifiedAt.IsZero() {
				names = append(names, d.Name)
			}
		}
		return names, err
	}
	name, err := domainName(c.Domain)
	if err != nil {
		return nil, err
	}
	d, err := core.Accounts.Domain(ctx, o.ID, name)
	if err == nil && d.VerifiedAt.IsZero() {
		err = fault.New(fault.Conflict, "domain_not_verified", "The domain is not verified yet. \"sealpost domain verify\" does that first.")
	}
	return []string{name}, err
}

func zoneLines(p *page, items []zone.Item) {
	for _, i := range items {
		for _, r := range i.Publish {
			p.linef("%s", r.Zone())
		}
	}
}

func reportPage(p *page, d zone.Report) {
	p.linef("%s: %s\n", d.Domain, d.State)
	rows := [][]string{}
	for _, i := range d.Items {
		what := "see below"
		if i.Status == zone.OK {
			what = i.Text
		}
		rows = append(rows, []string{" ", i.Check, string(i.Status), i.Name, what})
	}
	p.table(rows...)
	for _, i := range d.Items {
		if i.Status == zone.OK {
			continue
		}
		weight := "good to have"
		if i.Needed {
			weight = "needed"
		}
		p.linef("\n%s of %s is %s (%s). %s", i.Check, i.Name, i.Status, weight, i.Text)
		if len(i.Publish) > 0 {
			p.linef("Publish:\n")
			zoneLines(p, []zone.Item{i})
		}
	}
	p.linef("")
}

type domainMTASTSCmd struct {
	orgFlag
	Domain string        `arg:"" help:"Domain name."`
	Mode   zone.Mode     `enum:",testing,enforce,none" default:"" placeholder:"MODE" help:"What others do when they cannot reach the mail hosts as the policy says: send and report (testing), or not send (enforce). none ends the policy."`
	MaxAge time.Duration `default:"7d" placeholder:"DURATION" help:"How long others keep the policy: a day for testing, weeks once it is enforced. (default: 7d)"`
	MX     []string      `name:"mx" help:"Mail hosts of the domain. This installation's host name when not given."`
}

// Help says what it takes.
func (domainMTASTSCmd) Help() string {
	return "Without --mode it shows the policy. A policy is served at https://mta-sts.DOMAIN/.well-known/mta-sts.txt by the HTTP listener: the name has to lead there, and the certificate has to be valid for it. " +
		"Begin with testing, read the reports (TLS-RPT), then enforce. To end it, publish none and wait until everybody's copy has run out before the record is taken away."
}

// Run shows or sets a policy.
func (c domainMTASTSCmd) Run(ctx context.Context, env *environment) error {
	name, err := domainName(c.Domain)
	if err != nil {
		return err
	}
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		var p zone.Policy
		if c.Mode == "" {
			p, err = core.Zone.Policy(ctx, o.ID, name)
		} else {
			p, err = core.Zone.SetPolicy(ctx, o.ID, zone.Policy{Domain: name, Mode: c.Mode, MaxAge: c.MaxAge, MX: c.MX})
		}
		if err != nil {
			return err
		}
		r := struct {
			Domain string      `json:"domain"`
			Mode   zone.Mode   `json:"mode"`
			MX     []string    `json:"mx"`
			MaxAge int64       `json:"max_age"`
			Record zone.Record `json:"record"`
			Policy string      `json:"policy"`
		}{name, p.Mode, p.MX, int64(p.MaxAge / time.Second), p.Record(), p.Text()}
		return env.result(r, func(page *page) {
			page.linef("Served at https://mta-sts.%s/.well-known/mta-sts.txt:\n\n%s", name, r.Policy)
			page.linef("Publish:\n\n%s", r.Record.Zone())
			page.linef("mta-sts.%s. 3600 IN CNAME %s.", name, core.Config.Hostname)
		})
	})
}
