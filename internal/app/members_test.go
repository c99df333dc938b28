package app

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/deliver/smtpclient"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/inbound"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/resolve"
	"github.com/sealpost/sealpost/internal/submit/submittest"
)

// routing is a core that can ask routes of a fake internet.
func routing(t *testing.T) (*Core, *fake.Internet) {
	t.Helper()
	n, err := fake.Start(t.Context(), fake.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	r, err := resolve.New(resolve.Deps{Servers: []string{n.ResolverAddr}, Trusted: true, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.Hostname, cfg.Network.SMTPPort = "mail.clinic.example", n.SMTPPort
	return &Core{Config: cfg, Roots: n.CAPool(), Clock: clock.System{}, Resolver: r,
		Routes: inbound.NewRoutes(inbound.RoutesDeps{Clock: clock.System{}, Resolver: r, Hostname: cfg.Hostname})}, n
}

// What a stranger chooses brings trouble to its own mailbox alone: only a host
// that is not there at all is away.
func TestARouteIsAskedForAMailbox(t *testing.T) {
	c, n := routing(t)
	says := func(reply string) fake.Behavior {
		return fake.Behavior{Rcpt: func(string, int) string { return reply }}
	}
	for name, tc := range map[string]struct {
		host      fake.Behavior
		to        string
		known     bool
		undecided bool
		weak      string
	}{
		"known":                       {host: fake.Behavior{}, to: "ada", known: true},
		"unknown":                     {host: says("550 5.1.1 no such user"), to: "bob"},
		"unknown, without a code":     {host: says("550 no such user"), to: "bob"},
		"refused for us":              {host: says("550 5.7.1 you may not"), to: "bob", undecided: true},
		"not now":                     {host: says("450 4.2.1 later"), to: "bob", undecided: true},
		"gone at RCPT":                {host: says("421 4.3.2 goodbye"), to: "bob", undecided: true},
		"beyond ASCII":                {host: fake.Behavior{}, to: "müller", known: true},
		"beyond ASCII, not offered":   {host: fake.Behavior{NoSMTPUTF8: true}, to: "müller"},
		"a certificate of nobody's":   {host: fake.Behavior{Cert: fake.CertSelfSigned}, to: "ada", weak: smtpclient.WeakRouteFailed},
		"a certificate for elsewhere": {host: fake.Behavior{Cert: fake.CertWrongName}, to: "ada", weak: smtpclient.WeakRouteFailed},
		"no TLS":                      {host: fake.Behavior{StartTLS: fake.StartTLSAbsent}, to: "ada", weak: smtpclient.WeakNoStartTLS},
	} {
		domain := strings.NewReplacer(" ", "-", ",", "", "'", "").Replace(strings.ToLower(name)) + ".example"
		if err := n.AddDomain(fake.Domain{Name: domain, Host: &tc.host}); err != nil {
			t.Fatal(err)
		}
		to, err := mail.ParseAddress(tc.to + "@" + domain)
		if err != nil {
			t.Fatal(err)
		}
		known, err := c.AskRoute(context.Background(), inbound.Route{Domain: domain, Host: "mx." + domain}, to)
		var weak *smtpclient.WeakError
		switch {
		case errors.As(err, &weak):
			if weak.Reason != tc.weak {
				t.Errorf("%s: %v", name, err)
			}
		case known != tc.known, errors.Is(err, inbound.ErrUndecided) != tc.undecided, err != nil && !tc.undecided, tc.weak != "":
			t.Errorf("%s: %v, %v", name, known, err)
		}
	}
}

// A host that hangs at RCPT answers all the same: it may be that mailbox alone.
func TestARouteThatHangsAtOneMailboxIsNotAway(t *testing.T) {
	c, n := routing(t)
	for domain, b := range map[string]fake.Behavior{"hangs.example": {Hang: fake.HangRcpt}, "silent.example": {Hang: fake.HangBanner}} {
		if err := n.AddDomain(fake.Domain{Name: domain, Host: &b}); err != nil {
			t.Fatal(err)
		}
		to, err := mail.ParseAddress("ada@" + domain)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err = c.AskRoute(ctx, inbound.Route{Domain: domain, Host: "mx." + domain}, to)
		cancel()
		if err == nil || errors.Is(err, inbound.ErrUndecided) != (b.Hang == fake.HangRcpt) {
			t.Errorf("%s: %v", domain, err)
		}
	}
}

// The doctor hears of every route what a delivery would find.
func TestRoutesAreTriedForTheDoctor(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		c, n := routing(t)
		h := submittest.New(t, d, clock.System{}, "good.example")
		bad := h.NewOrg("other", "bad.example")
		c.DB, c.Accounts = d, h.Accounts
		c.Routes = inbound.NewRoutes(inbound.RoutesDeps{DB: d, Clock: clock.System{}, Resolver: c.Resolver, Hostname: c.Config.Hostname})
		for domain, b := range map[string]fake.Behavior{"good.example": {}, "bad.example": {Cert: fake.CertExpired}} {
			org := h.Org.ID
			if domain == "bad.example" {
				org = bad.ID
			}
			if err := errors.Join(n.AddDomain(fake.Domain{Name: domain, Host: &b}), c.Routes.Set(t.Context(), org, domain, "mx."+domain, 0)); err != nil {
				t.Fatal(err)
			}
		}
		all, err := c.triedRoutes(t.Context())
		if err != nil || len(all) != 2 {
			t.Fatal(all, err)
		}
		for _, r := range all {
			var weak *smtpclient.WeakError
			if good := r.Domain == "good.example"; good && (r.Failed != nil || r.Grade != policy.Authenticated) || !good && !errors.As(r.Failed, &weak) || r.Host != "mx."+r.Domain {
				t.Errorf("%+v", r)
			}
		}
	})
}
