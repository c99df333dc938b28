package main

import (
	"context"
	"net"
	"strconv"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/inbound"
)

type domainRouteCmd struct {
	orgFlag
	Domain string `arg:"" optional:"" help:"A verified domain of the organization. Without it, the routes are listed."`
	Host   string `arg:"" optional:"" placeholder:"HOST[:PORT]" help:"Mail host that takes mail for the domain. Its certificate must be valid for this name."`
	Off    bool   `help:"Take no more mail for the domain."`
}

// Help says what a route is.
func (domainRouteCmd) Help() string {
	return "Mail that comes in for members of a routed domain is checked (SPF, DKIM, DMARC, look-alikes, scanners) and goes on to this host by TLS. " +
		"The MX record of the domain leads here, so mail for it never follows that record. " +
		"All nodes of an installation must run this version before the first route is set.\n\n" +
		"Examples:\n\n  $ sealpost domain route clinic.example clinic-example.mail.protection.outlook.com\n  $ sealpost domain route clinic.example --off"
}

type routeRow struct {
	Domain string    `json:"domain"`
	Host   string    `json:"host"`
	Port   int       `json:"port,omitempty"`
	Since  time.Time `json:"since"`
}

// Run sets a route, takes it away, or lists all.
func (c domainRouteCmd) Run(ctx context.Context, env *environment) error {
	if c.Domain == "" {
		return env.withOrg(ctx, c.pick, func(core *app.Core, o account.Org) error { return listRoutes(ctx, env, core, o) })
	}
	domain, err := domainName(c.Domain)
	if err != nil {
		return err
	}
	if c.Off == (c.Host != "") {
		return usagef("Either name the host that mail for %s goes to, or say --off.", domain)
	}
	host, port, err := c.next()
	if err != nil {
		return err
	}
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		r := routeRow{Domain: domain, Host: host, Port: port, Since: core.Clock.Now().UTC()}
		if c.Off {
			if err := core.Routes.Off(ctx, o.ID, domain); err != nil {
				return err
			}
			return env.result(routeRow{Domain: domain}, func(p *page) {
				p.linef("Mail for %s is not taken any more. Its MX record must lead elsewhere by now.", domain)
			})
		}
		if err := core.Routes.Set(ctx, o.ID, domain, host, port); err != nil {
			return err
		}
		return env.result(r, func(p *page) {
			p.linef("Mail that comes in for %s goes on to %s.", domain, host)
		})
	})
}

// next reads HOST or HOST:PORT.
func (c domainRouteCmd) next() (host string, port int, err error) {
	if c.Off {
		return "", 0, nil
	}
	host = c.Host
	if h, text, err := net.SplitHostPort(c.Host); err == nil {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return "", 0, usagef("%q is not a port.", text)
		}
		host, port = h, int(n)
	}
	host, err = domainName(host)
	return host, port, err
}

func listRoutes(ctx context.Context, env *environment, core *app.Core, o account.Org) error {
	all, err := core.Routes.List(ctx, o.ID)
	if err != nil {
		return err
	}
	r := struct {
		Org    string     `json:"org"`
		Routes []routeRow `json:"routes"`
	}{o.Slug, []routeRow{}}
	for _, t := range all {
		r.Routes = append(r.Routes, routeRow{t.Domain, t.Host, t.Port, t.CreatedAt})
	}
	return env.result(r, func(p *page) {
		if len(all) == 0 {
			p.linef("No domain of %s has a route: mail for its members does not come in here.", o.Slug)
			return
		}
		rows := [][]string{{"DOMAIN", "GOES TO", "SINCE"}}
		for _, t := range all {
			rows = append(rows, []string{t.Domain, routeText(t), when(t.CreatedAt, "")})
		}
		p.table(rows...)
	})
}

func routeText(t inbound.Route) string {
	if t.Port == 0 {
		return t.Host
	}
	return net.JoinHostPort(t.Host, strconv.Itoa(t.Port))
}
