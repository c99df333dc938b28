package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/inbound"
)

type domainReturnPathCmd struct {
	orgFlag
	Domain string `arg:"" help:"Sender domain."`
	Host   string `placeholder:"HOST" help:"Host below the domain that bounces come to. (default: bounce.DOMAIN)"`
	Off    bool   `help:"Let new mail leave with its own sender again. What comes back of earlier mail is still taken."`
}

// Help says what a return path is.
func (domainReturnPathCmd) Help() string {
	return "With a return path, mail of the domain leaves with an envelope sender that only one delivery has, so that what is returned hours later settles that delivery. " +
		"This command prints the DNS records that it needs, and switches it on once the DNS shows them; port 25 (listen.relay) must be reachable from the internet.\n\n" +
		"Example:\n\n  $ sealpost domain return-path clinic.example"
}

type returnPathShown struct {
	Domain   string           `json:"domain"`
	Host     string           `json:"host"`
	On       bool             `json:"on"`
	Records  []inbound.Record `json:"records"`
	Problems []string         `json:"problems"`
}

// Run sets a return path, or takes it away.
func (c domainReturnPathCmd) Run(ctx context.Context, env *environment) error {
	domain, err := domainName(c.Domain)
	if err != nil {
		return err
	}
	host := inbound.DefaultHost(domain)
	if c.Host != "" {
		if host, err = domainName(c.Host); err != nil {
			return err
		}
	}
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		if c.Off {
			if err := core.ReturnPaths.Off(ctx, o.ID, domain); err != nil {
				return err
			}
			return env.result(returnPathShown{Domain: domain, Records: []inbound.Record{}, Problems: []string{}}, func(p *page) {
				p.linef("New mail of %s leaves with its own sender. Leave the DNS records in place for a month, for what still comes back.", domain)
			})
		}
		if _, err := core.Accounts.Domain(ctx, o.ID, domain); err != nil {
			return err
		}
		r := returnPathShown{Domain: domain, Host: host, Records: core.ReturnPaths.Records(host), Problems: []string{}}
		problems, err := core.ReturnPaths.Problems(ctx, host)
		if err != nil {
			return err
		}
		if len(problems) > 0 {
			r.Problems = problems
		} else if err := core.ReturnPaths.Set(ctx, o.ID, domain, host); err != nil {
			return err
		}
		r.On = len(problems) == 0
		if err := env.result(r, r.tell); err != nil || r.On {
			return err
		}
		return errSaid
	})
}

func (r returnPathShown) tell(p *page) {
	if r.On {
		p.linef("Mail of %s leaves with return paths at %s.", r.Domain, r.Host)
		return
	}
	p.linef("Publish these records in the DNS, then run this command again:\n")
	for _, rec := range r.Records {
		value := rec.Value
		if rec.Type == "TXT" {
			value = strconv.Quote(value)
		}
		p.linef("  %s.  %s  %s", rec.Name, rec.Type, value)
	}
	p.linef("\nNothing was changed. %s", strings.Join(r.Problems, " "))
}
