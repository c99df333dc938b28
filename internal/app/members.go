package app

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sealpost/sealpost/internal/deliver"
	"github.com/sealpost/sealpost/internal/deliver/smtpclient"
	"github.com/sealpost/sealpost/internal/doctor"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/inbound"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/scan"
	"github.com/sealpost/sealpost/internal/verdict"
)

// openRoutes wires where mail for members goes, which commands look after too.
func (c *Core) openRoutes() {
	c.Routes = inbound.NewRoutes(inbound.RoutesDeps{DB: c.DB, Clock: c.Clock, Resolver: c.Resolver, Hostname: c.Config.Hostname})
	c.names = &inbound.Names{DB: c.DB, Custody: c.Custody, Clock: c.Clock, Routes: c.Routes}
}

// wireMembers wires the relay of mail for members.
func (s *Server) wireMembers() error {
	in := s.Config.Inbound
	d := inbound.MembersDeps{Accounts: s.Accounts, Log: s.Log, Routes: s.Routes, Names: s.names,
		Callout:          inbound.NewCallout(inbound.CalloutDeps{Clock: s.Clock, Log: s.Log, Ask: s.AskRoute}),
		Judge:            verdict.New(verdict.Deps{Resolver: s.Resolver, Clock: s.Clock, Hostname: s.Config.Hostname}),
		RejectLookalikes: in.Lookalike == "reject", Receive: s.door.Receive, Harvest: s.Keyring.Harvest}
	var err error
	if in.Rspamd != "" {
		if d.Rspamd, err = scan.NewRspamd(scan.RspamdDeps{URL: in.Rspamd}); err != nil {
			return err
		}
	}
	if in.ClamAV != "" {
		if d.ClamAV, err = scan.NewClamAV(scan.ClamAVDeps{URL: in.ClamAV}); err != nil {
			return err
		}
	}
	s.members = inbound.NewMembers(d)
	return nil
}

// routeOf is for the engine.
func (c *Core) routeOf(ctx context.Context, domain string) (deliver.Route, bool, error) {
	r, found, err := c.Routes.Of(ctx, domain)
	if err != nil || !found {
		return deliver.Route{}, false, err
	}
	addrs, err := c.Routes.Addresses(ctx, r.Host)
	return deliver.Route{Host: r.Host, Port: r.Port, Addrs: addrs}, true, err
}

// routed is for the front door.
func (c *Core) routed(ctx context.Context, org id.ID, domain string) (bool, error) {
	r, found, err := c.Routes.Of(ctx, domain)
	return found && r.Org == org, err
}

// sent is for the front door: it remembers whose names are those of members.
func (c *Core) sent(ctx context.Context, org id.ID, from []mail.Mailbox) {
	if err := c.names.Saw(ctx, org, from); err != nil {
		c.Log.Warn("a member's name could not be remembered", "org", org.Text(id.Org), "reason", fault.From(err).Reason)
	}
}

// unknownMailbox are the enhanced codes by which hosts say that there is no
// such mailbox (RFC 3463 section 3.2); 5.4.1 is that of Exchange Online, 5.2.1
// a mailbox that is switched off. Any other refusal is about us.
var unknownMailbox = regexp.MustCompile(`^5\.(1\.\d+|2\.1|4\.1)$`)

// routeTimeouts are short: a stranger waits.
var routeTimeouts = smtpclient.Timeouts{Connect: 5 * time.Second, Banner: 10 * time.Second, EHLO: 10 * time.Second, StartTLS: 10 * time.Second,
	TLS: 10 * time.Second, Mail: 10 * time.Second, Rcpt: 15 * time.Second}

// dialRoute connects to the next host of a domain as a delivery does.
func (c *Core) dialRoute(ctx context.Context, r inbound.Route) (*smtpclient.Conn, smtpclient.Evidence, error) {
	addrs, err := c.Routes.Addresses(ctx, r.Host)
	if err != nil {
		return nil, smtpclient.Evidence{}, err
	}
	t := smtpclient.Target{Host: r.Host, Addrs: addrs, Port: c.Config.Network.SMTPPort, Domain: r.Domain, Routed: true}
	if r.Port != 0 {
		t.Port = r.Port
	}
	return smtpclient.Dial(ctx, smtpclient.Deps{RootCAs: c.Roots, Name: c.Config.Hostname, Clock: c.Clock, Timeouts: routeTimeouts}, t, policy.Encrypted)
}

// routesAtOnce are tried at the same time for the doctor.
const routesAtOnce = 16

// triedRoutes connects to the next hosts of all domains.
func (c *Core) triedRoutes(ctx context.Context) (all []doctor.Route, err error) {
	orgs, err := c.Accounts.Orgs(ctx)
	if err != nil {
		return nil, err
	}
	var routes []inbound.Route
	for _, o := range orgs {
		if o.DestroyedAt.IsZero() {
			of, err := c.Routes.List(ctx, o.ID)
			if err != nil {
				return nil, err
			}
			routes = append(routes, of...)
		}
	}
	all = make([]doctor.Route, len(routes))
	var work errgroup.Group
	work.SetLimit(routesAtOnce)
	for i, r := range routes {
		work.Go(func() (err error) {
			defer private.Recover(&all[i].Failed)
			all[i] = doctor.Route{Domain: r.Domain, Host: r.Host}
			conn, found, err := c.dialRoute(ctx, r)
			if all[i].Grade, all[i].Failed = found.Grade, err; err == nil {
				_ = conn.Close()
			}
			return nil
		})
	}
	return all, work.Wait()
}

// AskRoute asks the next host of a domain whether it has a mailbox.
func (c *Core) AskRoute(ctx context.Context, r inbound.Route, to mail.Address) (known bool, err error) {
	conn, _, err := c.dialRoute(ctx, r)
	if err != nil {
		return false, err
	}
	defer conn.Close() // it has said what it knows
	reply, err := conn.Verify(ctx, to)
	var refused *smtpclient.RefusedError
	var lost *smtpclient.ConnError
	switch {
	case err == nil:
		return true, nil
	case errors.As(err, &refused) && (refused.Local || refused.Stage == smtpclient.StageRcpt && saysUnknown(reply)):
		return false, nil
	// Strangers choose the address, so what it brings about says nothing of the host.
	case refused != nil && refused.Stage == smtpclient.StageRcpt, errors.As(err, &lost) && lost.Stage == smtpclient.StageRcpt:
		return false, fmt.Errorf("%w: %w", inbound.ErrUndecided, err)
	}
	return false, err
}

func saysUnknown(r smtpclient.Reply) bool {
	return r.Permanent() && (r.Enhanced[0] == 0 || unknownMailbox.MatchString(fmt.Sprintf("%d.%d.%d", r.Enhanced[0], r.Enhanced[1], r.Enhanced[2])))
}
