package deliver_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/deliver"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/pool"
	"github.com/sealpost/sealpost/internal/shaping"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
)

// acceptFor accepts a message of another organization.
func (h *node) acceptFor(org id.ID, sender, to string) id.ID {
	h.T.Helper()
	from, err := mail.ParseAddress(sender)
	if err != nil {
		h.T.Fatal(err)
	}
	rcpt, err := mail.ParseAddress(to)
	if err != nil {
		h.T.Fatal(err)
	}
	r, err := h.door.Accept(context.Background(), submit.Draft{Principal: auth.Principal{Org: org, Client: id.New(), Scopes: auth.Scopes()},
		Source: spool.FromSMTP, Protocol: "ESMTPSA", Sender: from, Recipients: []mail.Address{rcpt},
		Message: strings.NewReader("From: " + sender + "\r\nSubject: x\r\n\r\nx\r\n")})
	if err != nil {
		h.T.Fatal(err)
	}
	return r.Deliveries[0].Delivery
}

// arrivals records in which order a host sees recipients.
type arrivals struct {
	mu  sync.Mutex
	all []string
}

func (a *arrivals) rcpt(to string, _ int) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, to)
	return ""
}

func (a *arrivals) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.all)
}

func (a *arrivals) place(to string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Index(a.all, to)
}

// TestOneTenantsBulkDelaysNobody: a slow domain is full of one organization's
// bulk mail, in memory and in the database, when a message that matters comes.
func TestOneTenantsBulkDelaysNobody(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		var seen arrivals
		h := start(t, d, internet(t), func(deps *deliver.Deps) { deps.PerDestination = 1 })
		other := h.NewOrg("other", "other.test")
		h.add(fake.Domain{Name: "slowly.example", Host: &fake.Behavior{Delay: 10 * time.Millisecond, Rcpt: seen.rcpt}})
		var last submit.Receipt
		for i := range 60 {
			last = h.accept(submit.Draft{Stream: spool.Bulk}, fmt.Sprintf("b%d@slowly.example", i))
		}
		before := seen.count()
		h.acceptFor(other.ID, "bea@other.test", "others@slowly.example")
		one := h.accept(submit.Draft{}, "now@slowly.example").Deliveries[0].Delivery
		h.delivered(one)
		h.until("that of another organization arrives", func() bool { return seen.place("others@slowly.example") >= 0 })
		if got := seen.place("others@slowly.example") - before; got > 30 {
			t.Errorf("%d bulk messages went before that of another organization", got)
		}
		if got := h.delivery(last.Deliveries[0].Delivery).State; got == spool.Delivered {
			t.Error("all bulk mail went first")
		}
		for i := range 60 {
			to := fmt.Sprintf("b%d@slowly.example", i)
			h.until(to+" arrives", func() bool { return len(h.net.Messages(to)) == 1 })
		}
		if n := h.engine.Depth(); n > 10 {
			t.Errorf("%d items are still counted in memory", n)
		}
	})
}

// TestOrganizationsTakeTurns: one message of one waits behind none of the
// hundred that another has for the same slow domain in the same lane.
func TestOrganizationsTakeTurns(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		var seen arrivals
		h := start(t, d, internet(t), func(deps *deliver.Deps) { deps.PerDestination = 1 })
		other := h.NewOrg("other", "other.test")
		h.add(fake.Domain{Name: "slowly.example", Host: &fake.Behavior{Delay: 10 * time.Millisecond, Rcpt: seen.rcpt}})
		for i := range 100 {
			h.accept(submit.Draft{}, fmt.Sprintf("p%d@slowly.example", i))
		}
		before := seen.count()
		one := h.acceptFor(other.ID, "bea@other.test", "one@slowly.example")
		h.until("it arrives", func() bool { return seen.place("one@slowly.example") >= 0 })
		if got := seen.place("one@slowly.example") - before; got > 50 {
			t.Errorf("%d messages went first", got)
		}
		h.until("it is delivered", func() bool {
			var state string
			if err := d.Read(context.Background(), other.ID, func(tx *db.Tx) error {
				return tx.Row("SELECT coalesce(settled, '') FROM spool_deliveries WHERE id = ?", one).Scan(&state)
			}); err != nil {
				t.Fatal(err)
			}
			return state == string(spool.Delivered)
		})
	})
}

// TestSilentSitesHoldUpNobody: far more sites than there are connections take
// the connection and never answer.
func TestSilentSitesHoldUpNobody(t *testing.T) {
	t.Parallel()
	h := start(t, dbtest.SQLite(t), internet(t), func(deps *deliver.Deps) {
		deps.Concurrency = 3
		deps.SMTP.Timeouts.Banner, deps.SMTP.Timeouts.Rcpt = time.Minute, time.Minute
	})
	for i := range 24 {
		stage := fake.HangBanner
		if i < 4 {
			stage = fake.HangRcpt // these hang after they have proved their TLS
		}
		name := fmt.Sprintf("silent%d.example", i)
		h.add(fake.Domain{Name: name, Host: &fake.Behavior{Hang: stage}})
		h.accept(submit.Draft{}, "p@"+name)
	}
	began := time.Now()
	var all []id.ID
	for i := range 20 {
		all = append(all, h.accept(submit.Draft{}, fmt.Sprintf("p%d@modern.example", i)).Deliveries[0].Delivery)
	}
	h.delivered(all...)
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the others took %v", took)
	}
}

// TestADeadSiteIsLeftAlone: after a few attempts the rest of its mail waits
// without any, and expires in time all the same; a code is tried.
func TestADeadSiteIsLeftAlone(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		h := start(t, d, internet(t), func(deps *deliver.Deps) { deps.DelayAfter = 6 * time.Second })
		h.net.SetA("mx.dead.example", netip.MustParseAddr("127.23.250.251"))
		h.add(fake.Domain{Name: "dead.example", HostName: "mx2.dead.example", Host: &fake.Behavior{}, MX: []fake.MX{{Preference: 10, Host: "mx.dead.example"}}})
		expires := time.Now().Add(8 * time.Second)
		var all []id.ID
		for i := range 30 {
			all = append(all, h.accept(submit.Draft{ExpiresAt: expires}, fmt.Sprintf("p%d@dead.example", i)).Deliveries[0].Delivery)
		}
		h.until("the site is left alone", func() bool {
			return slices.ContainsFunc(h.engine.Stats(), func(s deliver.SiteStat) bool { return s.Site == "dead.example" && !s.Suspended.IsZero() })
		})
		h.until("all are put off", func() bool {
			return !slices.ContainsFunc(all, func(i id.ID) bool { return h.delivery(i).State != spool.Deferred })
		})
		tried := 0
		for _, i := range all {
			got := h.delivery(i)
			tried += got.Attempts
			if got.NextAt.After(expires) {
				t.Errorf("it waits %v beyond its end", got.NextAt.Sub(expires))
			}
		}
		if tried == 0 || tried > 12 {
			t.Errorf("%d attempts", tried)
		}
		for _, i := range all {
			h.until("it expires", func() bool { return h.delivery(i).State == spool.Expired })
		}
		late := 0
		for _, i := range all {
			if at := h.delivery(i).SettledAt; at.Sub(expires) > 10*time.Second {
				late++
			}
		}
		if late > 0 {
			t.Errorf("%d expired late", late)
		}
	})
}

// TestManyDomainsAfterARestart: what waits in the database for many domains,
// lanes and organizations is found and delivered, in bounded memory.
func TestManyDomainsAfterARestart(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		h := prepare(t, d, internet(t), func(deps *deliver.Deps) { deps.Window = 20 })
		var all []id.ID
		for i := range 30 {
			name := fmt.Sprintf("many%d.example", i)
			h.add(fake.Domain{Name: name, Host: &fake.Behavior{}})
			stream := spool.Transactional
			if i%3 == 0 {
				stream = spool.Bulk
			}
			for n := range 3 {
				all = append(all, h.accept(submit.Draft{Stream: stream}, fmt.Sprintf("p%d@%s", n, name)).Deliveries[0].Delivery)
			}
		}
		h.exec("UPDATE spool_unsettled SET state = 'deferred'")
		if err := h.engine.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		defer h.engine.Stop(context.Background())
		h.until("all are delivered", func() bool {
			if n := h.engine.Depth(); n > 20 {
				t.Fatalf("%d in memory", n)
			}
			return !slices.ContainsFunc(all, func(i id.ID) bool { return h.delivery(i).State != spool.Delivered })
		})
	})
}

// TestOneProviderIsOneSite: its limits hold for all its domains together, and
// each message leaves from the source that was asked for.
func TestOneProviderIsOneSite(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	told := map[pool.Result]int{}
	h := start(t, dbtest.SQLite(t), internet(t), func(deps *deliver.Deps) {
		deps.Shape = func(string, []string) shaping.Site {
			return shaping.Site{Name: "provider", Connections: 1, PerConnection: 4}
		}
		deps.Source = func(_ context.Context, _ id.ID, stream, site string) (pool.Source, error) {
			if site != "provider" || stream != string(spool.Transactional) {
				t.Errorf("asked for %s to %s", stream, site)
			}
			return pool.Source{Pool: "main", Helo: "out.clinic.test", Addr: netip.MustParseAddr("127.0.0.1")}, nil
		}
		deps.Told = func(_, _ string, r pool.Result) { mu.Lock(); told[r]++; mu.Unlock() }
	})
	var all []id.ID
	for i := range 4 {
		name := fmt.Sprintf("hosted%d.example", i)
		h.add(fake.Domain{Name: name, HostName: fmt.Sprintf("mx%d.provider.example", i), Host: &fake.Behavior{}})
		for n := range 6 {
			all = append(all, h.accept(submit.Draft{}, fmt.Sprintf("p%d@%s", n, name)).Deliveries[0].Delivery)
		}
	}
	h.delivered(all...)
	mu.Lock()
	defer mu.Unlock()
	if told[pool.Accepted] != len(all) || told[pool.Bounced]+told[pool.Deferred] != 0 {
		t.Errorf("the pool was told %v", told)
	}
}

// TestAnExhaustedSourcePutsOff: without an attempt, until the time it names.
func TestAnExhaustedSourcePutsOff(t *testing.T) {
	t.Parallel()
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	h := start(t, dbtest.SQLite(t), internet(t), func(deps *deliver.Deps) {
		deps.Source = func(context.Context, id.ID, string, string) (pool.Source, error) {
			return pool.Source{}, &pool.Full{Fault: fault.New(fault.TooMany, "ceiling", "Full."), Pool: "main", Until: until}
		}
	})
	one := h.accept(submit.Draft{}, "anna@modern.example").Deliveries[0].Delivery
	h.until("it is put off", func() bool { return h.delivery(one).State == spool.Deferred })
	if got := h.delivery(one); !got.NextAt.Equal(until) || got.Attempts != 0 || got.Reason != spool.ReasonSource {
		t.Errorf("%s until %v after %d attempts, %q", got.State, got.NextAt, got.Attempts, got.Reason)
	}
}
