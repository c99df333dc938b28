package deliver_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/deliver"
	"github.com/sealpost/sealpost/internal/deliver/smtpclient"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/partner"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
)

// signed makes a domain of the loopback internet a signed one whose host has
// this TLSA record.
func signed(n *fake.Internet, domain string, record fake.TLSA) {
	n.SetSecure(domain, true)
	n.PutTLSA("mx."+domain, record)
}

var wrongTLSA = fake.TLSA{Usage: 3, Selector: 1, Matching: 1, Data: make([]byte, 32)}

// TestDANEDecides: a host that has TLSA records gets messages and notices only
// when it keeps them, whatever else speaks for it or against it.
func TestDANEDecides(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		n := internet(t)
		of := func(domain string, usage uint8) fake.TLSA {
			if usage == 2 {
				return fake.TLSAOf(2, 0, 0, n.Authority())
			}
			return fake.TLSAOf(3, 1, 1, n.Certificate("mx."+domain))
		}
		h := start(t, d, n, nil)
		for domain, tc := range map[string]struct {
			record fake.TLSA
			by     string // or empty: it waits
		}{
			"modern.example":          {of("modern.example", 3), "dane-ee"},
			"tls12.example":           {of("tls12.example", 2), "dane-ta"},
			"self-signed.example":     {of("self-signed.example", 3), "dane-ee"},
			"wrong-name.example":      {of("wrong-name.example", 3), "dane-ee"},
			"expired.example":         {wrongTLSA, ""},
			"slow.example":            {wrongTLSA, ""},
			"sts-wrong-cert.example":  {of("sts-wrong-cert.example", 3), "dane-ee"},  // MTA-STS alone would fail it
			"sts-unlisted-mx.example": {of("sts-unlisted-mx.example", 3), "dane-ee"}, // and this
			"sts-enforce.example":     {wrongTLSA, ""},                               // and would take this
			"no-starttls.example":     {of("no-starttls.example", 3), ""},
		} {
			signed(n, domain, tc.record)
			i := h.accept(submit.Draft{}, "somebody@"+domain).Deliveries[0].Delivery
			h.until("an attempt at "+domain, func() bool {
				got := h.delivery(i)
				return got.State.Settled() || tc.by == "" && got.Attempts >= 2
			})
			got := h.delivery(i)
			if tc.by == "" {
				if domain != "no-starttls.example" && got.Reason != spool.ReasonDANE || got.State != spool.Deferred || len(n.Messages("somebody@"+domain)) != 0 {
					t.Errorf("%s: %s, %q, %d mails", domain, got.State, got.Reason, len(n.Messages("somebody@"+domain)))
				}
				continue
			}
			last := h.attempts(i)[0].Evidence
			if got.State != spool.Delivered || got.Grade != policy.Authenticated || last.VerifiedBy != tc.by || last.TLSA == "" {
				t.Errorf("%s: %s at %s, %q, %+v", domain, got.State, got.Grade, got.Reason, last)
			}
		}
		for _, r := range []string{"modern.example", "expired.example", "no-starttls.example", "slow.example"} {
			onlyGreetings(t, n, r)
		}
	})
}

func onlyGreetings(t *testing.T, n *fake.Internet, domain string) {
	t.Helper()
	for _, line := range n.Transcript(domain) {
		if verb, _, _ := strings.Cut(line, " "); verb != "EHLO" && verb != "STARTTLS" {
			t.Errorf("%s saw %q in clear", domain, verb)
		}
	}
}

// arranged is a node whose organization has arranged something.
func arranged(t *testing.T, d *db.DB, n *fake.Internet, change ...func(*deliver.Deps)) (*node, *partner.Service) {
	var partners *partner.Service
	h := start(t, d, n, func(deps *deliver.Deps) {
		partners = partner.New(partner.Deps{DB: d, Custody: deps.Custody, Clock: clock.System{}, Log: slog.New(slog.DiscardHandler)})
		deps.Partner = partners.Terms
		for _, fn := range change {
			fn(deps)
		}
	})
	return h, partners
}

func keyPin(c *x509.Certificate) partner.Pin {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return partner.Pin{Kind: partner.Key, Fingerprint: hex.EncodeToString(sum[:])}
}

// TestAPinBelongsToADomainOfOneOrganization: of three domains at one mail host
// one is pinned to it, one to another key, and one to nothing.
func TestAPinBelongsToADomainOfOneOrganization(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		n := internet(t)
		h, partners := arranged(t, d, n)
		put := func(domain string, p partner.Pin) {
			if _, err := partners.Put(context.Background(), h.Org.ID, partner.Change{Domain: domain, Pins: []partner.Pin{p}}); err != nil {
				t.Fatal(err)
			}
		}
		put("shared-a.example", keyPin(n.Certificate("mx.hoster.example")))
		put("shared-b.example", keyPin(n.Certificate("mx.modern.example")))
		r := h.accept(submit.Draft{}, "ines@shared-a.example", "jan@shared-b.example", "lucia@shared-c.example")
		a, b, c := r.Deliveries[0].Delivery, r.Deliveries[1].Delivery, r.Deliveries[2].Delivery
		h.delivered(a, c)
		h.until("it is tried", func() bool { return h.delivery(b).Attempts >= 2 })
		if got := h.delivery(b); got.State != spool.Deferred || got.Reason != spool.ReasonPartner || len(n.Messages("jan@shared-b.example")) != 0 {
			t.Errorf("%s, %q, %d mails", got.State, got.Reason, len(n.Messages("jan@shared-b.example")))
		}
		if by := h.attempts(a)[0].Evidence.VerifiedBy + " " + h.attempts(c)[0].Evidence.VerifiedBy; by != "pin mta-sts+pkix" {
			t.Errorf("proved by %s", by)
		}
		// The partner changes its key, and the organization hears of it.
		put("shared-b.example", keyPin(n.Certificate("mx.hoster.example")))
		h.delivered(b)
		other := h.NewOrg("other", "other.test")
		terms, err := partners.Terms(context.Background(), other.ID, "shared-a.example")
		if err != nil || terms.Pinned() {
			t.Errorf("another organization has %+v, %v", terms, err)
		}
	})
}

// TestHoursPassBeforeThereIsNoTransport: TLS that is stripped for a while costs
// a delivery nothing but time; a domain that never has any fails it after some
// hours and attempts.
func TestHoursPassBeforeThereIsNoTransport(t *testing.T) {
	t.Parallel()
	n := internet(t)
	clk := clock.NewFake(time.Now().UTC().Truncate(time.Second))
	began := clk.Now()
	h := start(t, dbtest.SQLite(t), n, func(deps *deliver.Deps) {
		deps.Clock, deps.RetryMin, deps.RetryMax, deps.NoTLSAfter = clk, 5*time.Minute, 4*time.Hour, 0
	})
	h.door.Clock = clk
	strip := func(how fake.StartTLS) {
		if err := n.Change("mx.modern.example", func(b *fake.Behavior) { b.StartTLS = how }); err != nil {
			t.Fatal(err)
		}
	}
	strip(fake.StartTLSAbsent)
	never := h.accept(submit.Draft{}, "ida@no-starttls.example").Deliveries[0].Delivery
	once := h.accept(submit.Draft{}, "anna@modern.example").Deliveries[0].Delivery
	tried := func(i id.ID, n int) spool.Delivery {
		t.Helper()
		h.until("one more attempt is recorded", func() bool {
			clk.Advance(time.Second)
			return h.delivery(i).Attempts >= n
		})
		return h.delivery(i)
	}
	if got := tried(once, 1); got.State != spool.Deferred || got.Reason != spool.ReasonTLSUnavailable {
		t.Fatalf("one look without TLS left it %s, %q", got.State, got.Reason)
	}
	strip(fake.StartTLSOffered)
	times := 0
	for got := tried(never, 1); ; got = tried(never, got.Attempts+1) {
		times = got.Attempts
		if got.State == spool.Failed {
			break
		}
		if got.State != spool.Deferred || times > 10 {
			t.Fatalf("attempt %d left it %s, %q", times, got.State, got.Reason)
		}
		clk.Advance(got.NextAt.Sub(clk.Now()))
	}
	got := h.delivery(never)
	if age := clk.Now().Sub(began); got.Reason != spool.ReasonNoPrivateChannel || times < 3 || age < 4*time.Hour || age > 10*time.Hour {
		t.Errorf("it failed after %v and %d attempts, %q", age, times, got.Reason)
	}
	h.until("the other arrives", func() bool { clk.Advance(time.Second); return h.delivery(once).State == spool.Delivered })
}

// TestWhatADomainFailsByIsSaid: when time is up, the reason is what stood in
// the way.
func TestWhatADomainFailsByIsSaid(t *testing.T) {
	n := internet(t)
	signed(n, "modern.example", wrongTLSA)
	h, partners := arranged(t, dbtest.SQLite(t), n, func(deps *deliver.Deps) { deps.RetryMin, deps.RetryMax = time.Hour, time.Hour })
	if _, err := partners.Put(context.Background(), h.Org.ID, partner.Change{Domain: "tls12.example", Pins: []partner.Pin{keyPin(n.Certificate("mx.modern.example"))}}); err != nil {
		t.Fatal(err)
	}
	h.door.ExpireAfter = 30 * time.Minute // before the second attempt
	r := h.accept(submit.Draft{}, "anna@modern.example", "bruno@tls12.example")
	for i, want := range []string{spool.ReasonDANE, spool.ReasonPartner} {
		one := r.Deliveries[i].Delivery
		h.until("it ends", func() bool { return h.delivery(one).State.Settled() })
		if got := h.delivery(one); got.State != spool.Failed || got.Reason != want {
			t.Errorf("%s, %q, want %q", got.State, got.Reason, want)
		}
	}
}

// TestRequireTLSOverDANE: DANE proves the next hop as REQUIRETLS asks (RFC 8689
// section 4.2.1).
func TestRequireTLSOverDANE(t *testing.T) {
	n := internet(t)
	if err := n.Change("mx.modern.example", func(b *fake.Behavior) { b.RequireTLS = true }); err != nil {
		t.Fatal(err)
	}
	signed(n, "modern.example", fake.TLSAOf(3, 1, 1, n.Certificate("mx.modern.example"))) // a changed host has a new certificate
	h := start(t, dbtest.SQLite(t), n, nil)
	// RFC 8689 section 5 lets a header take it back; here nothing does.
	i := h.accept(submit.Draft{RequireTLS: true, Message: strings.NewReader("From: ada@clinic.test\r\nTLS-Required: No\r\n\r\nx\r\n")}, "anna@modern.example").Deliveries[0].Delivery
	h.delivered(i)
	if e := h.attempts(i)[0].Evidence; !e.RequireTLS || e.VerifiedBy != smtpclient.ByDANEEE {
		t.Errorf("%+v", e)
	}
}
