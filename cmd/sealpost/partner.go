package main

import (
	"context"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/identity"
	"github.com/sealpost/sealpost/internal/partner"
)

// partnerCmd looks after what is arranged with domains of recipients.
type partnerCmd struct {
	Add    partnerAddCmd    `cmd:"" help:"Arrange how the mail hosts of a domain are proved, and how we show ourselves."`
	List   partnerListCmd   `cmd:"" help:"List the domains with which something is arranged."`
	Show   partnerShowCmd   `cmd:"" help:"Show what is arranged with a domain."`
	Remove partnerRemoveCmd `cmd:"" help:"End what is arranged with a domain, or one pin."`
	Test   partnerTestCmd   `cmd:"" help:"Connect to the mail hosts of a domain and say what proves them; nothing is sent."`
}

// Help says what pins are for.
func (partnerCmd) Help() string {
	return "A pin is a certificate, a public key or an authority that the partner has told you of. Mail and notices to the domain then go only to hosts that prove " +
		"themselves by one, whatever the DNS says. docs/transport.md tells what proves a host, and in which order."
}

type pinRow struct {
	Kind        partner.Kind `json:"kind"`
	Fingerprint string       `json:"fingerprint"`
	Subject     string       `json:"subject,omitempty"`
	ExpiresAt   time.Time    `json:"expires_at,omitzero"`
	AddedAt     time.Time    `json:"added_at"`
}

type partnerRow struct {
	Domain     string    `json:"domain"`
	Subdomains bool      `json:"subdomains"`
	Require    bool      `json:"require"`
	Hosts      []string  `json:"hosts"`
	Pins       []pinRow  `json:"pins"`
	Client     *pinRow   `json:"client,omitempty"`
	DaysLeft   *int      `json:"days_left,omitempty"` // of what ends first
	ChangedAt  time.Time `json:"changed_at"`
	Unreadable bool      `json:"unreadable,omitempty"`
}

func partnerRowOf(e partner.Entry, now time.Time) partnerRow {
	r := partnerRow{Domain: e.Domain, Subdomains: e.Subdomains, Require: e.Require, Hosts: append([]string{}, e.Hosts...), Pins: []pinRow{},
		ChangedAt: stamp(e.Changed), Unreadable: e.Unreadable}
	for _, p := range e.Pins {
		r.Pins = append(r.Pins, pinRow{p.Kind, p.Fingerprint, p.Subject, p.Expires, stamp(p.Added)})
	}
	if len(e.Client) > 0 {
		c := e.Client[0]
		r.Client = &pinRow{partner.Certificate, partner.Fingerprint(c), c.Subject.String(), c.NotAfter.UTC(), stamp(e.Changed)}
	}
	if end := e.Ends(); !end.IsZero() {
		left := identity.DaysLeft(end, now)
		r.DaysLeft = &left
	}
	return r
}

// asks says in a few words what is arranged.
func (r partnerRow) asks() string {
	var words []string
	for _, p := range r.Pins {
		words = append(words, string(p.Kind)+" "+p.Fingerprint[:16])
	}
	if r.Require && len(r.Pins) == 0 {
		words = append(words, "authenticated TLS")
	}
	if len(r.Hosts) > 0 {
		words = append(words, "hosts "+strings.Join(r.Hosts, " "))
	}
	if r.Client != nil {
		words = append(words, "client "+r.Client.Fingerprint[:16])
	}
	if r.Unreadable {
		return "(destroyed)"
	}
	return strings.Join(words, ", ")
}

func (r partnerRow) ends() string {
	switch {
	case r.DaysLeft == nil:
		return "never"
	case *r.DaysLeft <= 0:
		return "EXPIRED"
	}
	return "in " + count(*r.DaysLeft, "day", "days")
}

func (r partnerRow) tell(p *page) {
	below := ""
	if r.Subdomains {
		below = " and the domains below it"
	}
	rows := [][]string{{"domain", r.Domain + below}, {"hosts", orDash(strings.Join(r.Hosts, ", "))}, {"authenticated", yesNo(r.Require || len(r.Pins) > 0)},
		{"changed", when(r.ChangedAt, "-")}}
	line := func(name string, x pinRow) {
		rows = append(rows, []string{name, x.Fingerprint})
		if x.Subject != "" {
			rows = append(rows, []string{"", x.Subject + ", until " + x.ExpiresAt.Format(time.DateOnly)})
		}
	}
	for _, x := range r.Pins {
		line("pinned "+string(x.Kind), x)
	}
	if r.Client != nil {
		line("shown to it", *r.Client)
	}
	p.table(rows...)
}

func yesNo(b bool) string {
	if b {
		return "required"
	}
	return "-"
}

type partnerListCmd struct{ orgFlag }

// Run lists arrangements.
func (c partnerListCmd) Run(ctx context.Context, env *environment) error {
	return env.withOrg(ctx, c.pick, func(core *app.Core, o account.Org) error {
		all, err := core.Partners.List(ctx, o.ID)
		if err != nil {
			return err
		}
		r := struct {
			Org      string       `json:"org"`
			Partners []partnerRow `json:"partners"`
		}{o.Slug, []partnerRow{}}
		rows := [][]string{{"DOMAIN", "SUBDOMAINS", "ARRANGED", "ENDS"}}
		for _, e := range all {
			row := partnerRowOf(e, core.Clock.Now())
			below := "-"
			if e.Subdomains {
				below = "yes"
			}
			r.Partners = append(r.Partners, row)
			rows = append(rows, []string{row.Domain, below, row.asks(), row.ends()})
		}
		return env.result(r, func(p *page) {
			if len(all) == 0 {
				p.linef("%s has arranged nothing with a domain. \"sealpost partner add\" does.", o.Slug)
				return
			}
			p.table(rows...)
		})
	})
}

// partnerArg names one domain.
type partnerArg struct {
	orgFlag
	Domain string `arg:"" help:"Domain of recipients."`
}

type partnerShowCmd struct{ partnerArg }

// Run shows one arrangement.
func (c partnerShowCmd) Run(ctx context.Context, env *environment) error {
	name, err := domainName(c.Domain)
	if err != nil {
		return err
	}
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		e, err := core.Partners.Show(ctx, o.ID, name)
		if err != nil {
			return err
		}
		r := partnerRowOf(e, core.Clock.Now())
		return env.result(r, r.tell)
	})
}

type partnerRemoveCmd struct {
	partnerArg
	Pin   string `placeholder:"FINGERPRINT" help:"Take away this pin alone."`
	Apply bool   `help:"Do it; without it, nothing is changed and you see what would happen."`
}

// Run removes, or says what that would mean.
func (c partnerRemoveCmd) Run(ctx context.Context, env *environment) error {
	name, err := domainName(c.Domain)
	if err != nil {
		return err
	}
	return env.withOrg(ctx, c.pick, func(core *app.Core, o account.Org) error {
		switch {
		case c.Apply && c.Pin != "":
			_, err = core.Partners.Put(ctx, o.ID, partner.Change{Domain: name, Unpin: []string{c.Pin}})
		case c.Apply:
			err = core.Partners.Remove(ctx, o.ID, name)
		default:
			err = c.rehearse(ctx, core, o, name)
		}
		if err != nil {
			return err
		}
		r := struct {
			Domain  string `json:"domain"`
			Pin     string `json:"pin,omitempty"`
			Applied bool   `json:"applied"`
		}{name, c.Pin, c.Apply}
		return env.result(r, func(p *page) {
			if c.Apply {
				p.linef("Removed. Deliveries under way see it within seconds.")
				return
			}
			p.linef("Hosts of %s would be proved by less: by what the domain itself publishes, or by their names alone.", name)
			p.linef("Nothing was changed. Run it again with --apply to do it.")
		})
	})
}

// rehearse refuses what --apply would refuse for want of the thing.
func (c partnerRemoveCmd) rehearse(ctx context.Context, core *app.Core, o account.Org, name string) error {
	e, err := core.Partners.Show(ctx, o.ID, name)
	if err != nil || c.Pin == "" || slices.ContainsFunc(e.Pins, func(p partner.Pin) bool { return strings.EqualFold(p.Fingerprint, c.Pin) }) {
		return err
	}
	return partner.ErrNoPin
}

type partnerTestCmd struct{ partnerArg }

// Help says what the exit code means.
func (partnerTestCmd) Help() string {
	return "The exit code is 1 when mail may go to none of the hosts."
}

type probedRow struct {
	Preference uint16 `json:"preference"`
	Host       string `json:"host"`
	Addr       string `json:"addr,omitempty"`
	Grade      string `json:"grade"`
	VerifiedBy string `json:"verified_by,omitempty"`
	TLSVersion string `json:"tls_version,omitempty"`
	Peer       string `json:"peer_fingerprint,omitempty"`
	TLSA       string `json:"tlsa,omitempty"`
	Client     string `json:"client_certificate,omitempty"`
	Usable     bool   `json:"usable"`
	Why        string `json:"why,omitempty"`
}

// Run tries the hosts.
func (c partnerTestCmd) Run(ctx context.Context, env *environment) error {
	name, err := domainName(c.Domain)
	if err != nil {
		return err
	}
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		probed, err := core.Probe(ctx, o.ID, name)
		if err != nil {
			return err
		}
		r := struct {
			Domain string      `json:"domain"`
			Hosts  []probedRow `json:"hosts"`
		}{name, []probedRow{}}
		rows := [][]string{{"HOST", "GRADE", "PROVED BY", "CERTIFICATE", "MAIL"}}
		for _, x := range probed {
			e := x.Evidence
			row := probedRow{x.Preference, e.MX, e.Addr, e.Grade.String(), e.VerifiedBy, e.TLSVersion, e.PeerFingerprint, e.TLSA, e.ClientCert, x.Err == nil, ""}
			verdict := "may go there"
			if x.Err != nil {
				row.Why = x.Err.Error()
				verdict = row.Why
			}
			r.Hosts = append(r.Hosts, row)
			rows = append(rows, []string{row.Host, row.Grade, orDash(row.VerifiedBy), orDash(row.Peer), verdict})
		}
		if err := env.result(r, func(p *page) {
			if len(rows) == 1 {
				p.linef("%s has no mail host.", name)
				return
			}
			p.table(rows...)
		}); err != nil || slices.ContainsFunc(r.Hosts, func(h probedRow) bool { return h.Usable }) {
			return err
		}
		return errSaid
	})
}

// isSHA256 tells a fingerprint from the name of a file.
func isSHA256(text string) (string, bool) {
	clean := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(text, "sha256:"), ":", ""))
	b, err := hex.DecodeString(clean)
	return clean, err == nil && len(b) == 32
}
