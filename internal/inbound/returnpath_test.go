package inbound_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/account/accounttest"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/inbound"
	"github.com/sealpost/sealpost/internal/inbound/inboundtest"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/resolve"
	"github.com/sealpost/sealpost/internal/submit/submittest"
)

// A return path is used only when the DNS shows all that it needs.
func TestReturnPathsNeedTheirRecords(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		c := clock.NewFake(time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC))
		h := submittest.New(t, d, c, "clinic.example")
		z := inboundtest.NewZone(t)
		r, err := resolve.New(resolve.Deps{Servers: []string{z.Addr}, Timeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		p := inbound.NewPaths(inbound.PathsDeps{DB: d, Custody: h.Custody, Accounts: h.Accounts, Clock: c, Resolver: r, Hostname: inboundtest.Hostname})
		const host = "bounce.clinic.example"
		var good []string
		for _, rec := range p.Records(host) {
			value := rec.Value
			if rec.Type == "TXT" {
				value = `"` + value + `"`
			}
			good = append(good, rec.Name+". "+rec.Type+" "+value)
		}
		mx, spf := good[0], good[1]
		a := inboundtest.Hostname + ". A 192.0.2.25"
		for name, records := range map[string][]string{
			"nothing":             {a},
			"no MX":               {spf, a},
			"an MX too many":      {mx, host + ". MX 20 mx.elsewhere.example.", spf, a},
			"another MX":          {host + ". MX 10 mx.elsewhere.example.", spf, a},
			"no SPF":              {mx, a},
			"two SPF":             {mx, spf, host + `. TXT "v=spf1 -all"`, a},
			"SPF of another":      {mx, host + `. TXT "v=spf1 ip4:198.51.100.1 -all"`, a},
			"SPF that says maybe": {mx, host + `. TXT "v=spf1 ~all"`, a},
			"no address of ours":  {mx, spf},
			"an IPv6 left out":    {mx, host + `. TXT "v=spf1 ip4:192.0.2.25 -all"`, a, inboundtest.Hostname + ". AAAA 2001:db8::25"},
		} {
			z.Set(t, records...)
			if err := p.Set(ctx, h.Org.ID, "clinic.example", host); !fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), inboundtest.Hostname) && !strings.Contains(err.Error(), host) {
				t.Errorf("%s: %v", name, err)
			}
		}
		z.Set(t, append(good, a)...)
		for _, bad := range [][2]string{{"clinic.example", "clinic.example"}, {"clinic.example", "bounce.elsewhere.example"}, {"clinic.example", "bounceclinic.example"}} {
			if err := p.Set(ctx, h.Org.ID, bad[0], bad[1]); !fault.Is(err, fault.Invalid) {
				t.Errorf("%v: %v", bad, err)
			}
		}
		if err := p.Set(ctx, h.Org.ID, "clinic.example", host); err != nil {
			t.Fatal(err)
		}
		it := inboundtest.Sent(t, h, h.Org.ID, sender, patient, "ready")
		if got, err := p.Address(ctx, h.Org.ID, inboundtest.Sender(t, sender), it.ID); err != nil || got.Domain() != host {
			t.Errorf("%v, %v", got, err)
		}
		other := h.NewOrg("other", "other.example")
		if got, err := p.Address(ctx, other.ID, inboundtest.Sender(t, sender), it.ID); err != nil || got.Domain() != "clinic.example" {
			t.Errorf("another organization: %v, %v", got, err)
		}
		if err := p.Set(ctx, other.ID, "clinic.example", host); !fault.Is(err, fault.NotFound) {
			t.Errorf("a domain of another organization: %v", err)
		}
		if err := p.Off(ctx, h.Org.ID, "clinic.example"); err != nil {
			t.Fatal(err)
		}
		if got, err := p.Address(ctx, h.Org.ID, inboundtest.Sender(t, sender), it.ID); err != nil || got.Domain() != "clinic.example" {
			t.Errorf("switched off: %v, %v", got, err)
		}
		if err := p.Off(ctx, h.Org.ID, "clinic.example"); !fault.Is(err, fault.NotFound) {
			t.Errorf("switched off twice: %v", err)
		}
		z.Fail()
		if err := p.Set(ctx, h.Org.ID, "clinic.example", host); !fault.Is(err, fault.Unavailable) {
			t.Errorf("no DNS: %v", err)
		}
	})
}

// Who has a parent domain has not what another organization has below it.
func TestReturnPathsOfOthersAreNotTaken(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		c := clock.NewFake(time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC))
		h := submittest.New(t, d, c, "health.example")
		clinic := h.NewOrg("branch", "clinic.health.example")
		z := inboundtest.NewZone(t, inboundtest.Hostname+". A 192.0.2.25")
		r, err := resolve.New(resolve.Deps{Servers: []string{z.Addr}, Timeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		p := inbound.NewPaths(inbound.PathsDeps{DB: d, Custody: h.Custody, Accounts: h.Accounts, Clock: c, Resolver: r, Hostname: inboundtest.Hostname})
		set := func(org id.ID, domain, host string) error {
			z.Set(t, host+". MX 10 "+inboundtest.Hostname+".", host+`. TXT "v=spf1 a:`+inboundtest.Hostname+` -all"`, inboundtest.Hostname+". A 192.0.2.25")
			return p.Set(ctx, org, domain, host)
		}
		for _, host := range []string{"clinic.health.example", "bounce.clinic.health.example", "a.b.clinic.health.example"} {
			if err := set(h.Org.ID, "health.example", host); !fault.Is(err, fault.Denied) || strings.Contains(err.Error(), clinic.Slug) {
				t.Errorf("%s: %v", host, err)
			}
		}
		for _, own := range []struct {
			org          id.ID
			domain, host string
		}{
			{h.Org.ID, "health.example", "bounce.health.example"},
			{h.Org.ID, "health.example", "bounce.health.example"}, // again
			{clinic.ID, "clinic.health.example", "bounce.clinic.health.example"},
		} {
			if err := set(own.org, own.domain, own.host); err != nil {
				t.Errorf("%s: %v", own.host, err)
			}
		}
		// A name that another has verified since is its own, whoever had it before.
		if err := set(h.Org.ID, "health.example", "lab.health.example"); err != nil {
			t.Fatal(err)
		}
		h.NewOrg("lab", "lab.health.example")
		c.Advance(time.Minute)
		door := inbound.New(inbound.Deps{DB: d, Custody: h.Custody, Clock: c, Paths: p, Hostname: inboundtest.Hostname})
		if ours, _, err := door.Serves(ctx, "lab.health.example"); err != nil || ours {
			t.Errorf("mail of a domain goes to the return path of another organization: %v", err)
		}
		// What another uses stays with it, and goes with its domain.
		if err := set(h.Org.ID, "health.example", "x.ward.health.example"); err != nil {
			t.Fatal(err)
		}
		ward := h.NewOrg("ward", "ward.health.example")
		if err := set(ward.ID, "ward.health.example", "x.ward.health.example"); !fault.Is(err, fault.Denied) {
			t.Errorf("a return path in use: %v", err)
		}
		if err := p.Off(ctx, h.Org.ID, "health.example"); err != nil {
			t.Fatal(err)
		}
		if err := set(ward.ID, "ward.health.example", "x.ward.health.example"); err != nil {
			t.Errorf("one that is off: %v", err)
		}
		if err := h.Accounts.RemoveDomain(ctx, ward.ID, "ward.health.example"); err != nil {
			t.Fatal(err)
		}
		if err := set(h.Org.ID, "health.example", "x.ward.health.example"); err != nil {
			t.Errorf("one whose domain is nobody's: %v", err)
		}
	})
}

// A domain has members or bounces, never both.
func TestARoutedDomainIsNoReturnPath(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		c := clock.NewFake(time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC))
		h := submittest.New(t, d, c, "health.example")
		accounttest.Domain(t, h.Accounts, h.Org.ID, "ward.health.example")
		accounttest.Domain(t, h.Accounts, h.Org.ID, "lab.health.example")
		z := inboundtest.NewZone(t)
		r, err := resolve.New(resolve.Deps{Servers: []string{z.Addr}, Timeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		p := inbound.NewPaths(inbound.PathsDeps{DB: d, Custody: h.Custody, Accounts: h.Accounts, Clock: c, Resolver: r, Hostname: inboundtest.Hostname})
		routes := inbound.NewRoutes(inbound.RoutesDeps{DB: d, Clock: c, Resolver: r, Hostname: inboundtest.Hostname})
		set := func(host string) error {
			z.Set(t, host+". MX 10 "+inboundtest.Hostname+".", host+`. TXT "v=spf1 a:`+inboundtest.Hostname+` -all"`, inboundtest.Hostname+". A 192.0.2.25")
			return p.Set(ctx, h.Org.ID, "health.example", host)
		}
		if err := routes.Set(ctx, h.Org.ID, "ward.health.example", "mx.suite.example", 0); err != nil {
			t.Fatal(err)
		}
		if err := set("ward.health.example"); !fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), "bounce.health.example") {
			t.Errorf("a routed domain becomes the return path: %v", err)
		}
		if err := set("lab.health.example"); err != nil {
			t.Fatal(err)
		}
		for _, off := range []bool{false, true} {
			if err := routes.Set(ctx, h.Org.ID, "lab.health.example", "mx.suite.example", 0); !fault.Is(err, fault.Denied) {
				t.Errorf("a return path is routed (off: %v): %v", off, err)
			}
			if err := p.Off(ctx, h.Org.ID, "health.example"); err != nil && !off {
				t.Fatal(err)
			}
		}
	})
}

// FuzzReturnPath: no address but the one that was made stands for a delivery,
// and none makes the door fail.
func FuzzReturnPath(f *testing.F) {
	d := dbtest.SQLite(f)
	h := submittest.New(f, d, clock.System{}, "clinic.example")
	door := inboundtest.Door(f, h, h.Org.ID, "clinic.example", nil)
	it := inboundtest.Sent(f, h, h.Org.ID, sender, patient, "delivered")
	own, err := door.Paths.Address(ctx, h.Org.ID, inboundtest.Sender(f, sender), it.ID)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(own.Local())
	f.Add(own.Local() + "a")
	f.Add("b")
	f.Add("postmaster")
	f.Fuzz(func(t *testing.T, local string) {
		to, err := inboundAddress(local)
		if err != nil {
			return
		}
		got, err := door.Recipient(ctx, netip.Prefix{}, to)
		switch {
		case err != nil && !fault.Is(err, fault.NotFound):
			t.Fatal(err)
		case err == nil && got.Kind == inbound.Return && to.Normal() != own.Normal():
			t.Fatalf("%q stands for a delivery", local)
		}
	})
}

func inboundAddress(local string) (mail.Address, error) {
	return mail.ParseAddress(local + "@bounce.clinic.example")
}
