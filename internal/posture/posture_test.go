package posture

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/policy"
)

// world is a fake internet with a Service that lives in it, under a clock that
// stands still.
type world struct {
	*Service
	net   *fake.Internet
	clock *clock.Fake
	db    *db.DB
	dial  func(ctx context.Context, network, addr string) (net.Conn, error)

	dnssec bool // the resolver is trusted
}

func start(t *testing.T, d *db.DB) *world {
	t.Helper()
	n, err := fake.Start(t.Context(), fake.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	w := &world{net: n, db: d, clock: clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))}
	w.restart(t)
	return w
}

// restart gives a Service that remembers only what is in the database.
func (w *world) restart(t *testing.T) {
	t.Helper()
	var err error
	w.Service, err = New(Deps{
		DB: w.db, Clock: w.clock, Resolver: w.net.ResolverAddr, HTTPSPort: w.net.HTTPSPort, RootCAs: w.net.CAPool(),
		DNSTimeout: 200 * time.Millisecond, FetchTimeout: 400 * time.Millisecond, AllowLoopback: true, Dial: w.dial,
		DNSSEC: w.dnssec, SMTPPort: w.net.SMTPPort,
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) refresh(t *testing.T, domain string) Posture {
	t.Helper()
	p, err := w.Refresh(t.Context(), domain)
	if err != nil {
		t.Fatalf("%s: %v", domain, err)
	}
	return p
}

func hostsOf(p Posture) string {
	var out []string
	for _, mx := range p.MX {
		if len(mx.Addrs) == 0 {
			out = append(out, mx.Host+" without address")
			continue
		}
		out = append(out, mx.Host)
	}
	return strings.Join(out, ", ")
}

func TestMailHosts(t *testing.T) {
	w := start(t, dbtest.SQLite(t))
	w.net.SetMX("mixed.example", fake.MX{Preference: 10, Host: "."}, fake.MX{Preference: 20, Host: "mx.modern.example"},
		fake.MX{Preference: 5, Host: "192.0.2.1"})
	w.net.SetTXT("bare.example", "no address")
	w.net.SetCNAME("nowhere.example", "gone.example")
	for _, tc := range []struct {
		domain, hosts           string
		null, implicit, missing bool
	}{
		{domain: "modern.example", hosts: "mx.modern.example"},
		{domain: "alias.example", hosts: "mx.modern.example"},
		{domain: "many-mx.example", hosts: "mx1.many-mx.example, mx2.many-mx.example without address, mx3.many-mx.example"},
		{domain: "no-mx.example", hosts: "no-mx.example", implicit: true},
		{domain: "mixed.example", hosts: "mx.modern.example"},
		{domain: "null-mx.example", null: true},
		{domain: "nxdomain.example", missing: true},
		{domain: "bare.example", missing: true},
		{domain: "nowhere.example", missing: true},
	} {
		p := w.refresh(t, tc.domain)
		if hostsOf(p) != tc.hosts || p.NullMX != tc.null || p.Implicit != tc.implicit || p.Missing != tc.missing {
			t.Errorf("%s", p)
		}
		if f := p.Facts(); !f.Known || f.NullMX != tc.null || f.TLSKnown {
			t.Errorf("%s: facts %+v", tc.domain, f)
		}
	}
	for _, domain := range []string{"", "Modern.example", "a..b", "modern.example.", "a b.example", "[192.0.2.1]"} {
		if _, err := w.Refresh(t.Context(), domain); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", domain, err)
		}
	}
}

func TestManyHostsAreBoundedAndShuffled(t *testing.T) {
	w := start(t, dbtest.SQLite(t))
	var mxs []fake.MX
	for i := range 60 {
		host := fmt.Sprintf("a-mail-host-with-a-long-name-%d.wide.example", i)
		mxs = append(mxs, fake.MX{Preference: uint16(10 - i/59), Host: host}) // the last goes first
		w.net.SetA(host, netip.MustParseAddr("127.23.0.1"))
	}
	w.net.SetMX("wide.example", mxs...) // too large for UDP
	orders := map[string]bool{}
	for range 5 {
		p := w.refresh(t, "wide.example")
		if len(p.MX) != maxHosts || p.MX[0].Host != "a-mail-host-with-a-long-name-59.wide.example" {
			t.Fatalf("%s", p)
		}
		orders[hostsOf(p)] = true
	}
	if len(orders) < 2 {
		t.Error("hosts of equal preference keep their order")
	}
}

func TestResolverFailures(t *testing.T) {
	w := start(t, dbtest.SQLite(t))
	for _, domain := range []string{"servfail.example", "dns-timeout.example"} {
		if _, err := w.Refresh(t.Context(), domain); !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s: %v", domain, err)
		}
		asked := w.net.Queries(domain)
		if _, err := w.Refresh(t.Context(), domain); !fault.Is(err, fault.Unavailable) || w.net.Queries(domain) != asked {
			t.Errorf("%s was asked for again at once: %v", domain, err)
		}
		if _, ok := w.Cached(t.Context(), domain); ok {
			t.Errorf("%s is known", domain)
		}
	}
	w.net.SetDNSFault("servfail.example", fake.NoDNSFault)
	w.net.SetMX("servfail.example", fake.MX{Preference: 1, Host: "mx.modern.example"})
	w.clock.Advance(2 * retryMX)
	if p := w.refresh(t, "servfail.example"); hostsOf(p) != "mx.modern.example" {
		t.Errorf("%s", p)
	}
	// One host whose address nobody tells: the others do, for a while.
	w.net.SetDNSFault("mx2.many-mx.example", fake.ServFail)
	if p := w.refresh(t, "many-mx.example"); len(p.MX) != 3 || p.MXExpires.Sub(p.MXAt) != retryMX {
		t.Errorf("%s", p)
	}
	w.net.SetDNSFault("mx.tls12.example", fake.ServFail)
	if _, err := w.Refresh(t.Context(), "tls12.example"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("no host can be located: %v", err)
	}
}

func TestAnswersExpireAndOldOnesServeForAWhile(t *testing.T) {
	w := start(t, dbtest.SQLite(t))
	const domain = "modern.example"
	w.refresh(t, domain)
	asked := w.net.Queries(domain)
	w.refresh(t, domain)
	if w.net.Queries(domain) != asked {
		t.Error("asked again although fresh")
	}
	w.clock.Advance(time.Minute + time.Second) // the TTL of the fake internet
	w.refresh(t, domain)
	if w.net.Queries(domain) == asked {
		t.Error("not asked again although expired")
	}
	w.net.SetDNSFault(domain, fake.ServFail)
	w.clock.Advance(time.Hour)
	p := w.refresh(t, domain)
	if hostsOf(p) != "mx.modern.example" || p.MXError != "servfail" {
		t.Errorf("%s", p)
	}
	asked = w.net.Queries(domain)
	w.refresh(t, domain)
	if w.net.Queries(domain) != asked {
		t.Error("a failing resolver is asked each time")
	}
	w.clock.Advance(graceMX)
	if _, err := w.Refresh(t.Context(), domain); !fault.Is(err, fault.Unavailable) {
		t.Errorf("an answer of yesterday still serves: %v", err)
	}
	if _, ok := w.Cached(t.Context(), domain); !ok {
		t.Error("forgotten after a day")
	}
	w.clock.Advance(forgetMX)
	if p, ok := w.Cached(t.Context(), domain); ok {
		t.Errorf("still known after a week: %s", p)
	}
}

func TestCachedNeverAsks(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := start(t, d)
		const domain = "sts-enforce.example"
		if _, ok := w.Cached(t.Context(), domain); ok || w.net.Queries(domain) != 0 {
			t.Fatal("known, or asked for")
		}
		before := w.refresh(t, domain)
		if p, ok := w.Cached(t.Context(), domain); !ok || !p.Facts().STSEnforce {
			t.Errorf("%v %s", ok, p)
		}
		w.restart(t)
		asked := w.net.Queries(domain)
		p, ok := w.Cached(t.Context(), domain)
		if !ok || p.String() != before.String() || !p.STSFor("mx.sts-enforce.example").Match {
			t.Errorf("after a restart: %v\n%s\nbefore:\n%s", ok, p, before)
		}
		if w.net.Queries(domain) != asked {
			t.Error("Cached asked the network")
		}
	})
}

func TestRefreshesTogetherAreOne(t *testing.T) {
	w := start(t, dbtest.SQLite(t))
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if _, err := w.Refresh(t.Context(), "sts-enforce.example"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := w.net.STSFetches("sts-enforce.example"); n != 1 {
		t.Errorf("%d fetches", n)
	}
	if n := w.net.Queries("sts-enforce.example"); n != 1 {
		t.Errorf("%d queries", n)
	}
	// A caller who goes away does not take the look-up along.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Refresh(ctx, "dns-timeout.example"); err == nil {
		t.Error("no error")
	}
}

func TestLearn(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := start(t, d)
		ctx := t.Context()
		grade := func() (policy.Grade, bool) {
			p, _ := w.Cached(ctx, "modern.example")
			f := p.Facts()
			return f.CanTLS, f.TLSKnown
		}
		w.Learn(ctx, "modern.example", policy.Verified, "mx1.modern.example")
		w.Learn(ctx, "modern.example", policy.Encrypted, "mx2.modern.example")
		if g, ok := grade(); !ok || g != policy.Verified {
			t.Errorf("another, weaker host made it %s", g)
		}
		w.refresh(t, "modern.example")
		w.restart(t)
		if g, ok := grade(); !ok || g != policy.Verified {
			t.Errorf("after a restart %s %v", g, ok)
		}
		w.Learn(ctx, "modern.example", policy.Encrypted, "mx1.modern.example")
		if g, _ := grade(); g != policy.Encrypted {
			t.Errorf("the same host got worse, but %s", g)
		}
		w.clock.Advance(learnedFor)
		if _, ok := grade(); ok {
			t.Error("believed after a day")
		}
		if p := w.refresh(t, "modern.example"); hostsOf(p) != "mx.modern.example" {
			t.Errorf("%s", p)
		}
	})
}

// TestLearnDuringLookUp: what is learned while a look-up is under way is not
// lost when the look-up ends.
func TestLearnDuringLookUp(t *testing.T) {
	w := start(t, dbtest.SQLite(t))
	w.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		w.Learn(ctx, "modern.example", policy.Verified, "mx.modern.example")
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	w.restart(t)
	w.refresh(t, "modern.example")
	if p, _ := w.Cached(t.Context(), "modern.example"); !p.Facts().TLSKnown || hostsOf(p) != "mx.modern.example" {
		t.Errorf("%s", p)
	}
}

func TestLearnWritesSeldom(t *testing.T) {
	w := start(t, dbtest.SQLite(t))
	updated := func() (at int64) {
		err := w.db.Read(t.Context(), db.System, func(tx *db.Tx) error {
			return tx.Row("SELECT updated_at FROM posture_domains WHERE domain = ?", "modern.example").Scan(&at)
		})
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	learn := func() { w.Learn(t.Context(), "modern.example", policy.Verified, "mx.modern.example") }
	learn()
	first := updated()
	for range 10 {
		w.clock.Advance(5 * time.Minute)
		learn()
	}
	if updated() != first {
		t.Error("written again within the hour")
	}
	w.clock.Advance(15 * time.Minute)
	learn()
	if updated() == first {
		t.Error("not written after an hour")
	}
}

func TestMemoryIsBounded(t *testing.T) {
	m := newMemory(3)
	for _, d := range []string{"a", "b", "c", "a", "d"} {
		m.update(d, func(*entry) {})
	}
	m.get("c")
	m.update("e", func(*entry) {})
	for d, want := range map[string]bool{"a": false, "b": false, "c": true, "d": true, "e": true} {
		if _, ok := m.get(d); ok != want {
			t.Errorf("%s in memory: %v", d, ok)
		}
	}
}

func TestOwnNetworkIsNotAsked(t *testing.T) {
	w := start(t, dbtest.SQLite(t))
	var err error
	// A resolver that is named allows nothing by that.
	if w.Service, err = New(Deps{DB: w.db, Clock: w.clock, Resolver: w.net.ResolverAddr, HTTPSPort: w.net.HTTPSPort, RootCAs: w.net.CAPool()}); err != nil {
		t.Fatal(err)
	}
	p := w.refresh(t, "sts-enforce.example")
	if p.STS.Mode != "" || p.STS.LastError != STSAddress || hostsOf(p) != "mx.sts-enforce.example without address" {
		t.Errorf("%s", p)
	}
	if n := w.net.STSFetches("sts-enforce.example"); n != 0 {
		t.Errorf("%d fetches", n)
	}
}

// TestHostsThatAreNowhere: a domain can name any address for its host. Those
// that can only be this machine, or none, are not connected to.
func TestHostsThatAreNowhere(t *testing.T) {
	w := start(t, dbtest.SQLite(t))
	var err error
	if w.Service, err = New(Deps{DB: w.db, Clock: w.clock, Resolver: w.net.ResolverAddr, HTTPSPort: w.net.HTTPSPort, RootCAs: w.net.CAPool()}); err != nil {
		t.Fatal(err)
	}
	for i, a := range []string{"127.0.0.1", "127.255.0.9", "0.0.0.0", "255.255.255.255", "224.0.0.1", "169.254.169.254",
		"::", "::1", "::ffff:127.0.0.1", "::ffff:0.0.0.0", "::ffff:169.254.169.254", "fe80::1", "ff02::1"} {
		domain := fmt.Sprintf("nowhere-%d.example", i)
		w.net.SetMX(domain, fake.MX{Preference: 10, Host: "mx." + domain})
		w.net.SetA("mx."+domain, netip.MustParseAddr(a))
		if p := w.refresh(t, domain); hostsOf(p) != "mx."+domain+" without address" {
			t.Errorf("%s: %s", a, p)
		}
	}
	w.net.SetMX("inside.example", fake.MX{Preference: 10, Host: "mx.inside.example"})
	w.net.SetA("mx.inside.example", netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("fd00::1"))
	if p := w.refresh(t, "inside.example"); len(p.MX) != 1 || fmt.Sprint(p.MX[0].Addrs) != "[10.1.2.3 fd00::1]" {
		t.Errorf("a host in the own network: %s", p)
	}
}

// TestAliasesOfHosts: chains of aliases lead to hosts, and those that lead
// nowhere, or back, are a failure to look again later: never a no.
func TestAliasesOfHosts(t *testing.T) {
	w := start(t, dbtest.SQLite(t))
	at := netip.MustParseAddr("127.23.0.1")
	for _, pair := range [][2]string{{"alias-1.example", "alias-2.example"}, {"alias-2.example", "alias-3.example"}, {"alias-3.example", "real.example"},
		{"loop-1.example", "loop-2.example"}, {"loop-2.example", "loop-1.example"}, {"self.example", "self.example"}} {
		w.net.SetCNAME(pair[0], pair[1])
	}
	w.net.SetA("real.example", at)
	for domain, hosts := range map[string][]string{"chain.example": {"alias-1.example"}, "half.example": {"loop-1.example", "real.example"}} {
		var mxs []fake.MX
		for i, h := range hosts {
			mxs = append(mxs, fake.MX{Preference: uint16(i), Host: h})
		}
		w.net.SetMX(domain, mxs...)
		if p := w.refresh(t, domain); len(p.MX) != len(hosts) || len(p.MX[len(hosts)-1].Addrs) != 1 || p.Missing || p.NullMX {
			t.Errorf("%s", p)
		}
	}
	w.net.SetMX("lost.example", fake.MX{Preference: 10, Host: "loop-1.example"})
	for _, domain := range []string{"lost.example", "loop-1.example", "self.example"} {
		if p, err := w.Refresh(t.Context(), domain); err == nil {
			t.Errorf("%s: %s", domain, p)
		}
	}
}

func TestPostureAsJSON(t *testing.T) {
	w := start(t, dbtest.SQLite(t))
	p := w.refresh(t, "requiretls.example")
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"domain":"requiretls.example"`, `"host":"mx.requiretls.example","preference":10,"addrs":["127.23.`,
		`"mode":"enforce","id":"20260101","mx":["mx.requiretls.example"]`, `"mx_expires":"2026-03-01T12:01:00Z"`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %s in %s", want, b)
		}
	}
	for _, want := range []string{"mail host     10 mx.requiretls.example (127.23.", "enforce, policy 20260101, until 2026-03-08 12:00:00 UTC", "not tried lately"} {
		if !strings.Contains(p.String(), want) {
			t.Errorf("no %q in\n%s", want, p)
		}
	}
}

// TestTheClockIsSet: set back by a day, the clock makes no answer and no failure
// hold for a day longer.
func TestTheClockIsSet(t *testing.T) {
	w := start(t, dbtest.SQLite(t))
	w.refresh(t, "modern.example")
	w.net.SetDNSFault("tls12.example", fake.ServFail)
	if _, err := w.Refresh(t.Context(), "tls12.example"); !fault.Is(err, fault.Unavailable) {
		t.Fatal(err)
	}
	w.clock.Jump(-24 * time.Hour)
	w.net.SetMX("modern.example", fake.MX{Preference: 10, Host: "mx.tls12.example"})
	w.net.SetDNSFault("tls12.example", fake.NoDNSFault)
	if p := w.refresh(t, "modern.example"); hostsOf(p) != "mx.tls12.example" {
		t.Errorf("an answer from the future holds: %s", p)
	}
	w.refresh(t, "tls12.example")
	w.net.SetDNSFault("modern.example", fake.ServFail)
	w.clock.Jump(-24 * time.Hour)
	asked := w.net.Queries("modern.example")
	w.refresh(t, "modern.example")
	w.refresh(t, "modern.example")
	if n := w.net.Queries("modern.example") - asked; n > 2 { // one question, put twice to a resolver that fails
		t.Errorf("a failing resolver is asked each time: %d questions", n)
	}
}

func TestDomainsThatNobodyAsksForAreForgotten(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := start(t, d)
		kept := func() (n int) {
			if err := w.Tidy(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := d.Read(t.Context(), db.System, func(tx *db.Tx) error { return tx.Row("SELECT count(*) FROM posture_domains").Scan(&n) }); err != nil {
				t.Fatal(err)
			}
			return n
		}
		w.Learn(t.Context(), "modern.example", policy.Verified, "mx.modern.example")
		w.clock.Advance(366 * 24 * time.Hour)
		if n := kept(); n != 1 {
			t.Errorf("%d kept after a year", n)
		}
		w.clock.Advance(35 * 24 * time.Hour)
		if n := kept(); n != 0 {
			t.Errorf("%d kept for ever", n)
		}
	})
}
