package main

import (
	"context"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/dkim"
)

// dkimCmd looks after the keys that sign for sender domains.
type dkimCmd struct {
	Create   dkimCreateCmd   `cmd:"" help:"Make a key for a domain and print the DNS record it needs."`
	List     dkimListCmd     `cmd:"" help:"List keys, with the records that have to stand in the DNS."`
	Activate dkimActivateCmd `cmd:"" help:"Look for the records of new keys now, and sign with those that are there."`
	Rotate   dkimRotateCmd   `cmd:"" help:"Make successors of the active keys of a domain."`
	Retire   dkimRetireCmd   `cmd:"" help:"Take a key out of use."`
}

// Help says how a key lives.
func (dkimCmd) Help() string {
	return "A key is new until the DNS shows its record, then active: it signs. Its successor takes over in the same way. Then it is retiring: it signs no more, but its record must stay, " +
		"since mail is verified late. At last it is retired: it is destroyed, and its record may go. A running server does all of this by itself but publish records. " +
		"Reports and notices come from the host name; its keys belong to the installation: --org system."
}

type dkimRow struct {
	Domain      string         `json:"domain"`
	Selector    string         `json:"selector"`
	Algorithm   dkim.Algorithm `json:"algorithm"`
	State       dkim.State     `json:"state"`
	RecordName  string         `json:"record_name"`
	RecordValue string         `json:"record_value"`
	CreatedAt   time.Time      `json:"created_at"`
	ActivatedAt time.Time      `json:"activated_at,omitzero"`
	RetiringAt  time.Time      `json:"retiring_at,omitzero"`
	RetiredAt   time.Time      `json:"retired_at,omitzero"`
}

func dkimRowOf(k dkim.Key) dkimRow {
	return dkimRow{k.Domain, k.Selector, k.Algorithm, k.State, k.Name(), k.Value,
		stamp(k.CreatedAt), stamp(k.ActivatedAt), stamp(k.RetiringAt), stamp(k.RetiredAt)}
}

func dkimRows(keys []dkim.Key) []dkimRow {
	rows := []dkimRow{}
	for _, k := range keys {
		rows = append(rows, dkimRowOf(k))
	}
	return rows
}

// since is when the key came into its state.
func (r dkimRow) since() time.Time {
	for _, t := range []time.Time{r.RetiredAt, r.RetiringAt, r.ActivatedAt} {
		if !t.IsZero() {
			return t
		}
	}
	return r.CreatedAt
}

func (r dkimRow) zone(p *page) { p.linef("%s", dkim.ZoneRecord(r.RecordName, r.RecordValue)) }

// dkimArg names a domain.
type dkimArg struct {
	orgFlag
	Domain string `arg:"" help:"Domain name."`
}

func (a dkimArg) with(ctx context.Context, env *environment, fn func(core *app.Core, o account.Org, domain string) error) error {
	name, err := domainName(a.Domain)
	if err != nil {
		return err
	}
	return env.withOrg(ctx, a.orSystem, func(core *app.Core, o account.Org) error { return fn(core, o, name) })
}

type dkimCreateCmd struct {
	dkimArg
	Ed25519 bool `name:"ed25519" help:"Make an Ed25519 key in place of RSA. Use it beside an RSA key: many hosts cannot verify it yet."`
}

// Run makes a key.
func (c dkimCreateCmd) Run(ctx context.Context, env *environment) error {
	return c.with(ctx, env, func(core *app.Core, o account.Org, domain string) error {
		algorithm := dkim.RSA
		if c.Ed25519 {
			algorithm = dkim.Ed25519
		}
		k, err := core.DKIM.Create(ctx, o.ID, domain, algorithm)
		if err != nil {
			return err
		}
		r := dkimRowOf(k)
		return env.result(r, func(p *page) {
			p.linef("Publish this record in the DNS:\n")
			r.zone(p)
			p.linef("\nA running server signs with the key once the record is seen. \"sealpost dkim activate %s\" looks now.", domain)
		})
	})
}

type dkimListCmd struct {
	orgFlag
	Domain  string `arg:"" optional:"" help:"Domain name."`
	Records bool   `help:"Print only the records that have to stand in the DNS, for a zone file."`
}

// Run lists keys.
func (c dkimListCmd) Run(ctx context.Context, env *environment) error {
	name := ""
	if c.Domain != "" {
		var err error
		if name, err = domainName(c.Domain); err != nil {
			return err
		}
	}
	return env.withOrg(ctx, c.orSystem, func(core *app.Core, o account.Org) error {
		keys, err := core.DKIM.List(ctx, o.ID, name)
		if err != nil {
			return err
		}
		r := struct {
			Org  string    `json:"org"`
			Keys []dkimRow `json:"keys"`
		}{o.Slug, dkimRows(keys)}
		return env.result(r, func(p *page) {
			switch {
			case c.Records:
				for _, row := range r.Keys {
					if row.State != dkim.Retired {
						row.zone(p)
					}
				}
			case len(keys) == 0:
				p.linef("There is no key yet. \"sealpost dkim create\" makes one.")
			default:
				dkimTable(p, r.Keys)
			}
		})
	})
}

// dkimTable shows keys, and what is still to be published.
func dkimTable(p *page, rows []dkimRow) {
	table, waits := [][]string{{"DOMAIN", "SELECTOR", "KEY", "STATE", "SINCE"}}, false
	for _, r := range rows {
		table = append(table, []string{r.Domain, r.Selector, string(r.Algorithm), string(r.State), when(r.since(), "-")})
		waits = waits || r.State == dkim.New
	}
	p.table(table...)
	if !waits {
		return
	}
	p.linef("\nTo be published:\n")
	for _, r := range rows {
		if r.State == dkim.New {
			r.zone(p)
		}
	}
}

type dkimActivateCmd struct{ dkimArg }

// Run looks for records.
func (c dkimActivateCmd) Run(ctx context.Context, env *environment) error {
	return c.with(ctx, env, func(core *app.Core, o account.Org, domain string) error {
		activated, err := core.DKIM.Activate(ctx, o.ID, domain)
		if err != nil {
			return err
		}
		keys, err := core.DKIM.List(ctx, o.ID, domain)
		if err != nil {
			return err
		}
		r := struct {
			Activated []dkimRow `json:"activated"`
			Waiting   []dkimRow `json:"waiting"`
		}{dkimRows(activated), []dkimRow{}}
		for _, k := range keys {
			if k.State == dkim.New {
				r.Waiting = append(r.Waiting, dkimRowOf(k))
			}
		}
		return env.result(r, func(p *page) {
			for _, row := range r.Activated {
				p.linef("%s signs for %s from now on.", row.Selector, row.Domain)
			}
			for _, row := range r.Waiting {
				p.linef("The DNS does not show this record yet, or not alone:\n")
				row.zone(p)
			}
			if len(r.Activated)+len(r.Waiting) == 0 {
				p.linef("No key of %s waits for its record.", domain)
			}
		})
	})
}

type dkimRotateCmd struct{ dkimArg }

// Run makes successors.
func (c dkimRotateCmd) Run(ctx context.Context, env *environment) error {
	return c.with(ctx, env, func(core *app.Core, o account.Org, domain string) error {
		made, err := core.DKIM.Rotate(ctx, o.ID, domain)
		if err != nil {
			return err
		}
		r := struct {
			Made []dkimRow `json:"made"`
		}{dkimRows(made)}
		return env.result(r, func(p *page) {
			if len(made) == 0 {
				p.linef("The successors are made already and wait for their records: \"sealpost dkim list %s\" shows them.", domain)
				return
			}
			p.linef("Publish, and leave the records of the present keys where they are:\n")
			for _, row := range r.Made {
				row.zone(p)
			}
			p.linef("\nThe present keys sign until these are seen.")
		})
	})
}

type dkimRetireCmd struct {
	dkimArg
	Selector string `arg:"" help:"Selector, as \"sealpost dkim list\" shows it."`
	Now      bool   `help:"Destroy it at once, as after a theft. Take its record out of the DNS then; mail under way that it signed cannot be verified any more."`
	Apply    bool   `help:"Do it; without it, nothing is changed and you see what would happen."`
}

// Run takes a key out of use, or says what that would mean.
func (c dkimRetireCmd) Run(ctx context.Context, env *environment) error {
	return c.with(ctx, env, func(core *app.Core, o account.Org, domain string) error {
		k, err := core.DKIM.Find(ctx, o.ID, domain, c.Selector)
		if err != nil {
			return err
		}
		if c.Apply {
			if k, err = core.DKIM.Retire(ctx, o.ID, domain, c.Selector, c.Now); err != nil {
				return err
			}
		}
		r := struct {
			dkimRow
			Applied bool `json:"applied"`
		}{dkimRowOf(k), c.Apply}
		return env.result(r, func(p *page) {
			switch {
			case !c.Apply:
				p.linef("%s would sign no more, and without another active key mail of %s would go out unsigned.", k.Selector, domain)
				p.linef("Nothing was changed. Run it again with --apply to do it.")
			case k.State == dkim.Retired:
				p.linef("The key is destroyed. Take the record of %s out of the DNS.", k.Name())
			default:
				p.linef("%s signs no more. Leave its record in the DNS until \"sealpost dkim list\" says retired.", k.Selector)
			}
		})
	})
}
