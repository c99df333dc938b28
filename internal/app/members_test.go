package app

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/deliver/smtpclient"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/inbound"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/resolve"
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
		host := "mx." + strings.NewReplacer(" ", "-", ",", "", "'", "").Replace(name) + ".example"
		if err := n.AddHost(host, tc.host); err != nil {
			t.Fatal(err)
		}
		to, err := mail.ParseAddress(tc.to + "@clinic.example")
		if err != nil {
			t.Fatal(err)
		}
		known, err := c.AskRoute(context.Background(), inbound.Route{Domain: "clinic.example", Host: host}, to)
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
	for host, b := range map[string]fake.Behavior{"mx.hangs.example": {Hang: fake.HangRcpt}, "mx.silent.example": {Hang: fake.HangBanner}} {
		if err := n.AddHost(host, b); err != nil {
			t.Fatal(err)
		}
		to, err := mail.ParseAddress("ada@clinic.example")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err = c.AskRoute(ctx, inbound.Route{Domain: "clinic.example", Host: host}, to)
		cancel()
		if err == nil || errors.Is(err, inbound.ErrUndecided) != (b.Hang == fake.HangRcpt) {
			t.Errorf("%s: %v", host, err)
		}
	}
}
