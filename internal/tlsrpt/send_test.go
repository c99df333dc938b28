package tlsrpt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/custody/custodytest"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/fetch"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/resolve"
	"github.com/sealpost/sealpost/internal/spool"
)

var ctx = context.Background()

// site is an installation that reports.
type site struct {
	t    *testing.T
	d    *db.DB
	keys *custody.Custody
	clk  *clock.Fake
	net  *fake.Internet
	mu   sync.Mutex
	got  map[string][]*Report // by collector
	deps ReporterDeps
}

func open(t *testing.T, d *db.DB) *site {
	t.Helper()
	n, err := fake.Start(t.Context(), fake.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	r, err := resolve.New(resolve.Deps{Servers: []string{n.ResolverAddr}, Timeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, d: d, keys: custodytest.New(t, d), clk: clock.NewFake(today.Add(-2 * time.Hour)), net: n, got: map[string][]*Report{}}
	s.deps = ReporterDeps{DB: d, Custody: s.keys, Clock: s.clk, Log: slog.New(slog.DiscardHandler), Resolver: r, Hostname: "mail.clinic.test", Organization: "Clinic",
		Fetch:  fetch.New(fetch.Deps{Resolver: r, Roots: n.CAPool(), AnyAddress: true, HTTPSPort: n.HTTPSPort}),
		Signed: func(context.Context) (bool, error) { return true, nil }}
	return s
}

func (s *site) counter() *Counter {
	return NewCounter(CounterDeps{DB: s.d, Clock: s.clk, Log: slog.New(slog.DiscardHandler)})
}

// collect is a collector that answers each report with the status.
func (s *site) collect(host string, status *int) string {
	s.t.Helper()
	if err := s.net.PutHandler(host, "/v1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/tlsrpt+gzip" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		report, err := Read(bytes.NewReader(b))
		if err != nil {
			s.t.Errorf("the collector cannot read the report: %v", err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if *status/100 == 2 {
			s.got[host] = append(s.got[host], report)
		}
		w.WriteHeader(*status)
	})); err != nil {
		s.t.Fatal(err)
	}
	return "https://" + host + "/v1"
}

func (s *site) run() {
	s.t.Helper()
	if err := NewReporter(s.deps).Run(ctx); err != nil {
		s.t.Fatal(err)
	}
}

// facts are what the ledger was told of reports.
func (s *site) facts() (out []string) {
	s.t.Helper()
	if _, err := ledger.Place(ctx, s.d, 0); err != nil {
		s.t.Fatal(err)
	}
	if err := s.d.Read(ctx, db.System, func(tx *db.Tx) error {
		out = nil
		events, _, err := ledger.ReadTx(tx, -1, 1000)
		for _, e := range events {
			if strings.HasPrefix(string(e.Type), "tlsreport.") {
				out = append(out, string(e.Type)+" "+string(e.Data))
			}
		}
		return err
	}); err != nil {
		s.t.Fatal(err)
	}
	return out
}

var enforced = Applied{Type: "sts", Strings: []string{"version: STSv1", "mode: enforce"}, Domain: "b.example", MX: []string{"*.b.example"}}

func (s *site) session(domain string, p Applied, c Cause) Session {
	return Session{At: s.clk.Now(), Domain: domain, Policy: p, Detail: c}
}

// TestADayLater: what two nodes counted on one day is in one report, which is
// sent after that day, once, however many nodes there are.
func TestADayLater(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := open(t, d)
		ok := http.StatusCreated
		s.net.SetTXT("_smtp._tls.b.example", "v=TLSRPTv1; rua="+s.collect("reports.b.example", &ok))
		one, two := s.counter(), s.counter()
		expired := Cause{Result: "certificate-expired", MX: "mx.b.example", ReceivingIP: "192.0.2.1", SendingIP: "198.51.100.1", Reason: "expired"}
		none := Applied{Type: "no-policy-found", Domain: "b.example"}
		for range 3 {
			one.Count(s.session("b.example", enforced, Cause{}))
			two.Count(s.session("b.example", enforced, expired))
		}
		two.Count(s.session("b.example", enforced, Cause{}))
		two.Count(s.session("b.example", none, Cause{}))
		one.Count(s.session("quiet.example", none, Cause{}))
		for _, c := range []*Counter{one, two, one} {
			if err := c.Flush(ctx); err != nil {
				t.Fatal(err)
			}
		}
		s.run()
		s.clk.Advance(2*time.Hour + settle - time.Minute)
		s.run()
		if len(s.got) != 0 {
			t.Fatal("a report was sent before every node had the time to count")
		}
		s.clk.Advance(spread + time.Minute)
		var nodes sync.WaitGroup
		errs := make([]error, 4)
		for i := range errs {
			nodes.Go(func() { errs[i] = NewReporter(s.deps).Run(ctx) })
		}
		nodes.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		s.clk.Advance(day)
		s.run()
		got := s.got["reports.b.example"]
		if len(got) != 1 {
			t.Fatalf("%d reports", len(got))
		}
		want := &Report{Organization: "Clinic", ID: "2026-11-21.b.example.mail.clinic.test", Begin: today.Add(-day), End: today.Add(-time.Second), Policies: []Policy{
			{Type: "no-policy-found", Domain: "b.example", Successes: 1},
			{Type: "sts", Strings: enforced.Strings, Domain: "b.example", MX: enforced.MX, Successes: 4, Failures: 3, Details: []Detail{{expired, 3}}},
		}}
		if fmt.Sprintf("%+v", got[0]) != fmt.Sprintf("%+v", want) {
			t.Errorf("\n got %+v\nwant %+v", got[0], want)
		}
		facts := s.facts()
		if len(facts) != 1 || !strings.Contains(facts[0], `tlsreport.sent {"domain":"b.example","day":"2026-11-21","report":"2026-11-21.b.example.mail.clinic.test","posted":1,"successes":5,"failures":3}`) {
			t.Errorf("the ledger: %q", facts)
		}
		left := 0
		if err := d.Read(ctx, db.System, func(tx *db.Tx) error {
			return tx.Row("SELECT count(*) FROM tlsrpt_sessions").Scan(&left)
		}); err != nil || left != 0 {
			t.Errorf("%d counts are left, %v", left, err)
		}
	})
}

// TestCollectorsFail: a report is tried again with the same number, later each
// time, and given up in the end.
func TestCollectorsFail(t *testing.T) {
	s := open(t, dbtest.SQLite(t))
	status := http.StatusServiceUnavailable
	url := s.collect("reports.b.example", &status)
	s.net.SetTXT("_smtp._tls.b.example", "v=TLSRPTv1; rua="+url)
	s.net.SetTXT("_smtp._tls.never.example", "v=TLSRPTv1; rua=https://nowhere.example/v1")
	s.net.SetDNSFault("_smtp._tls.c.example", fake.ServFail)
	s.net.SetTXT("_smtp._tls.c.example", "v=TLSRPTv1; rua="+url)
	c := s.counter()
	for _, domain := range []string{"b.example", "never.example", "c.example"} {
		c.Count(s.session(domain, Applied{Type: "no-policy-found"}, Cause{}))
	}
	if err := c.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	s.clk.Advance(day)
	s.run()
	s.run()
	if n := s.net.Fetches("reports.b.example"); n != 1 {
		t.Errorf("asked %d times in one turn", n)
	}
	status = http.StatusOK
	s.net.SetDNSFault("_smtp._tls.c.example", fake.NoDNSFault)
	for range 2 * maxTries {
		s.clk.Advance(8 * time.Hour)
		s.run()
	}
	var numbers []string
	for _, r := range s.got["reports.b.example"] {
		numbers = append(numbers, r.Policies[0].Domain)
	}
	slices.Sort(numbers)
	if fmt.Sprint(numbers) != "[b.example c.example]" {
		t.Errorf("reports of %v", numbers)
	}
	facts := s.facts()
	if len(facts) != 3 || !slices.ContainsFunc(facts, func(f string) bool {
		return strings.HasPrefix(f, "tlsreport.failed") && strings.Contains(f, "never.example") && strings.Contains(f, `"reason":"collector_failed"`)
	}) {
		t.Errorf("the ledger: %q", facts)
	}
}

// TestNotIntoOurNetwork: a record of somebody else's does not make us post
// into our own network.
func TestNotIntoOurNetwork(t *testing.T) {
	s := open(t, dbtest.SQLite(t))
	ok := http.StatusOK
	s.net.SetTXT("_smtp._tls.b.example", "v=TLSRPTv1; rua="+s.collect("reports.b.example", &ok))
	s.deps.Fetch = fetch.New(fetch.Deps{Resolver: s.deps.Resolver, Roots: s.net.CAPool(), HTTPSPort: s.net.HTTPSPort})
	c := s.counter()
	c.Count(s.session("b.example", Applied{Type: "no-policy-found"}, Cause{}))
	if err := c.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	s.clk.Advance(day)
	s.run()
	if s.net.Fetches("reports.b.example") != 0 || len(s.facts()) != 0 {
		t.Error("it was posted to an address of our own network")
	}
}

// TestMailed: a report that is mailed is a notice of the installation, made
// once, and its mail reads back as the report. Unsigned it is not sent.
func TestMailed(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := open(t, d)
		s.net.SetTXT("_smtp._tls.b.example", "v=TLSRPTv1; rua=mailto:canary@reports.example")
		signed := false
		s.deps.Signed = func(context.Context) (bool, error) { return signed, nil }
		var posted []spool.Item
		s.deps.Posted = func(items []spool.Item) { posted = append(posted, items...) }
		c := s.counter()
		c.Count(s.session("b.example", enforced, Cause{Result: "dane-required"}))
		if err := c.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		s.clk.Advance(day)
		s.run()
		if len(posted) != 0 {
			t.Fatal("an unsigned report was posted")
		}
		signed = true
		s.clk.Advance(day)
		s.run()
		s.run()
		if len(posted) != 1 || posted[0].Org != db.System || posted[0].Domain != "reports.example" || !posted[0].Notice {
			t.Fatalf("posted %+v", posted)
		}
		var n spool.Notice
		if err := d.Read(ctx, db.System, func(tx *db.Tx) (err error) {
			n, err = spool.LoadNotice(tx, s.keys, posted[0].ID)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		text := string(n.Text.Reveal())
		for _, line := range []string{"From: \"TLS reports\" <tls-reports@mail.clinic.test>\r\n", "To: canary@reports.example\r\n", "TLS-Report-Domain: b.example\r\n",
			"TLS-Report-Submitter: mail.clinic.test\r\n", "report-type=\"tlsrpt\"", "Content-Type: application/tlsrpt+gzip\r\n",
			`filename="mail.clinic.test!b.example!1795219200!1795305599.json.gz"`} {
			if !strings.Contains(text, line) {
				t.Errorf("no %q in\n%s", line, text)
			}
		}
		for line := range strings.SplitSeq(text, "\r\n") {
			if len(line) > 998 || strings.ContainsAny(line, "\r\n") {
				t.Errorf("line %q", line)
			}
		}
		r, err := Read(strings.NewReader(text))
		if err != nil || r.Policies[0].Failures != 1 || r.Policies[0].Details[0].Result != "dane-required" {
			t.Errorf("%+v, %v", r, err)
		}
		facts := strings.Join(s.facts(), "\n")
		if !strings.Contains(facts, `"mailed":1`) || strings.Contains(facts, "canary") {
			t.Errorf("the ledger: %s", facts)
		}
		for _, c := range []struct {
			wait  time.Duration
			state string
			left  int
		}{{80 * day, "delivered", 1}, {11 * day, "deferred", 1}, {0, "delivered", 0}} {
			s.clk.Advance(c.wait)
			if notices, keys := s.tidied(n, c.state); notices != c.left || keys != c.left {
				t.Errorf("%d mails and %d of their keys after %v, %s; want %d", notices, keys, c.wait, c.state, c.left)
			}
		}
	})
}

// tidied puts a mail into a state and counts it and its key after Tidy.
func (s *site) tidied(n spool.Notice, state string) (notices, keys int) {
	s.t.Helper()
	if err := s.d.WriteAlone(ctx, db.System, func(tx *db.Tx) error {
		_, err := tx.Exec("UPDATE spool_notices SET state = ? WHERE id = ?", state, n.ID)
		return err
	}); err != nil {
		s.t.Fatal(err)
	}
	if err := NewReporter(s.deps).Tidy(ctx); err != nil {
		s.t.Fatal(err)
	}
	if err := s.d.Read(ctx, db.System, func(tx *db.Tx) error {
		return tx.Row("SELECT (SELECT count(*) FROM spool_notices), (SELECT count(*) FROM custody_data_keys WHERE id = ?)", n.Key.ID).Scan(&notices, &keys)
	}); err != nil {
		s.t.Fatal(err)
	}
	return notices, keys
}

// TestCounterBounds: a domain with ever new hosts takes bounded room, and each
// of its sessions counts.
func TestCounterBounds(t *testing.T) {
	s := open(t, dbtest.SQLite(t))
	c := s.counter()
	const many = 10 * maxDetails
	for i := range many {
		c.Count(s.session("b.example", enforced, Cause{Result: "validation-failure", MX: fmt.Sprintf("mx%d.b.example", i)}))
	}
	c.Count(s.session("c.example", enforced, Cause{Result: "certificate-expired", MX: "mx.c.example"}))
	if err := c.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	sum := func(domain string) (rows, sessions int) {
		if err := s.d.Read(ctx, db.System, func(tx *db.Tx) error {
			return tx.Row("SELECT count(*), CAST(sum(sessions) AS BIGINT) FROM tlsrpt_sessions WHERE domain = ?", domain).Scan(&rows, &sessions)
		}); err != nil {
			t.Fatal(err)
		}
		return rows, sessions
	}
	if rows, sessions := sum("b.example"); rows != maxDetails+1 || sessions != many {
		t.Errorf("%d rows for %d sessions", rows, sessions)
	}
	if rows, _ := sum("c.example"); rows != 1 || c.Lost() != 0 {
		t.Errorf("another domain: %d rows; %d lost", rows, c.Lost())
	}
}

// TestCountsOutliveTheDatabase: what could not be written is written later, and
// what is left when the counter stops.
func TestCountsOutliveTheDatabase(t *testing.T) {
	s := open(t, dbtest.SQLite(t))
	c := s.counter()
	c.Count(s.session("b.example", enforced, Cause{}))
	rename := func(from, to string) {
		if err := s.d.WriteAlone(ctx, db.System, func(tx *db.Tx) error {
			_, err := tx.Exec("ALTER TABLE " + from + " RENAME TO " + to)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	rename("tlsrpt_sessions", "tlsrpt_away")
	if err := c.Flush(ctx); err == nil {
		t.Fatal("written into a table that is away")
	}
	rename("tlsrpt_away", "tlsrpt_sessions")
	c.Start(ctx)
	c.Count(s.session("b.example", enforced, Cause{}))
	c.Stop()
	c.Stop()
	var n int
	if err := s.d.Read(ctx, db.System, func(tx *db.Tx) error {
		return tx.Row("SELECT sessions FROM tlsrpt_sessions").Scan(&n)
	}); err != nil || n != 2 {
		t.Errorf("%d, %v", n, err)
	}
}

// TestOneTurn: of nodes that found the same report due, one tries to send it.
func TestOneTurn(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := open(t, d)
		status := http.StatusServiceUnavailable
		s.net.SetTXT("_smtp._tls.b.example", "v=TLSRPTv1; rua="+s.collect("reports.b.example", &status))
		c := s.counter()
		c.Count(s.session("b.example", enforced, Cause{}))
		if err := c.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		s.clk.Advance(day)
		one, two := NewReporter(s.deps), NewReporter(s.deps)
		now := s.clk.Now()
		if err := one.plan(ctx, now); err != nil {
			t.Fatal(err)
		}
		jobs, err := one.due(ctx, now)
		if err != nil || len(jobs) != 1 {
			t.Fatalf("%d are due, %v", len(jobs), err)
		}
		for _, node := range []*Reporter{one, two} {
			if err := node.attempt(ctx, jobs[0], now); err != nil {
				t.Fatal(err)
			}
		}
		if n := s.net.Fetches("reports.b.example"); n != 1 {
			t.Errorf("the collector was asked %d times", n)
		}
	})
}
