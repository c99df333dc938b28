package dmarc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/account/accounttest"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody/custodytest"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/dmarc/intake"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
)

var ctx = context.Background()

// office is an installation with two organizations, one with clinic.example.
type office struct {
	*Reports
	t          *testing.T
	clk        *clock.Fake
	org, other id.ID
}

func open(t *testing.T, d *db.DB) *office {
	t.Helper()
	o := &office{t: t, clk: clock.NewFake(time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC))}
	accounts := account.New(account.Deps{DB: d, Custody: custodytest.New(t, d), Clock: o.clk})
	o.org, o.other = accounttest.Org(t, accounts, "clinic"), accounttest.Org(t, accounts, "other")
	if _, err := accounts.AddDomain(ctx, o.org, "unproved.example"); err != nil {
		t.Fatal(err)
	}
	o.Reports = NewReports(Deps{DB: d, Clock: o.clk, Accounts: accounts, Known: func(context.Context, id.ID) ([]Known, error) {
		return []Known{{"Sealpost", netip.MustParsePrefix("198.51.100.0/28")}, {"Payroll", netip.MustParsePrefix("2001:db8:77::/48")}}, nil
	}})
	return o
}

// report is one of a day, with rows "address count dkim spf disposition from".
func report(reporter, number string, day time.Time, domain string, rows ...string) *Aggregate {
	a := &Aggregate{Org: reporter, ID: number, Domain: domain, Begin: day, End: day.Add(24*time.Hour - time.Second), Asked: None}
	for _, text := range rows {
		f := strings.Fields(text)
		r := Row{Source: netip.MustParseAddr(f[0]), DKIMAligned: f[2] == "dkim", SPFAligned: f[3] == "spf", Disposition: Disposition(f[4]), HeaderFrom: f[5]}
		if _, err := fmt.Sscan(f[1], &r.Count); err != nil {
			panic(err)
		}
		if r.DKIMAligned {
			r.DKIM = []Auth{{Domain: domain, Selector: "k1", Result: "pass"}, {Domain: "vendor.example", Selector: "v", Result: "pass"}}
		}
		a.Rows = append(a.Rows, r)
	}
	return a
}

func (o *office) add(a *Aggregate) Receipt {
	o.t.Helper()
	r, err := o.Add(ctx, o.org, a, intake.ByStrangers)
	if err != nil {
		o.t.Fatal(err)
	}
	return r
}

func (o *office) facts(of ledger.Type) (out []string) {
	o.t.Helper()
	if _, err := ledger.Place(ctx, o.DB, 0); err != nil {
		o.t.Fatal(err)
	}
	if err := o.DB.Read(ctx, o.org, func(tx *db.Tx) error {
		out = nil
		events, _, err := ledger.ReadTx(tx, -1, 1000)
		for _, e := range events {
			if e.Type == of {
				out = append(out, string(e.Data))
			}
		}
		return err
	}); err != nil {
		o.t.Fatal(err)
	}
	return out
}

var yesterday = time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)

// TestSummaryPerSource: what several reporters saw adds up by source, the same
// report counts once, and mail that left past us is told once for source and
// day.
func TestSummaryPerSource(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		o := open(t, d)
		first := report("big.example", "1", yesterday, "clinic.example",
			"198.51.100.3 10 dkim spf none clinic.example",
			"198.51.100.4 5 - spf none clinic.example",
			"198.51.100.4 1 - - none clinic.example",
			"2001:db8:77::9 3 dkim - none pay.clinic.example",
			"40.107.1.1 4 dkim - none clinic.example",
			"192.0.2.66 9 - - quarantine clinic.example")
		if r := o.add(first); r.Again || r.Bypasses != 2 || r.Messages != 32 {
			t.Errorf("first: %+v", r)
		}
		if r := o.add(first); !r.Again || r.Bypasses != 0 {
			t.Errorf("again: %+v", r)
		}
		// Another reporter on the same day, another number, and a name below.
		if r := o.add(report("small.example", "1", yesterday, "lab.clinic.example", "40.107.1.1 1 dkim - none clinic.example", "192.0.2.66 1 - - none lab.clinic.example")); r.Bypasses != 0 {
			t.Errorf("the same sources on the same day: %+v", r)
		}
		if r := o.add(report("big.example", "2", yesterday.Add(-day), "clinic.example", "192.0.2.66 2 - - reject clinic.example")); r.Bypasses != 1 {
			t.Errorf("another day: %+v", r)
		}
		o.add(report("old.example", "1", yesterday.Add(-35*day), "clinic.example", "192.0.2.1 99 - - none clinic.example"))

		got, err := o.Summarize(ctx, o.org, "Clinic.example", 30)
		if err != nil {
			t.Fatal(err)
		}
		if got.Reports != 3 || got.Messages != 36 || got.Passed != 23 || strings.Join(got.Reporters, " ") != "big.example small.example" || got.Asked != None {
			t.Errorf("%+v", got)
		}
		var lines []string
		for _, s := range got.Sources {
			lines = append(lines, fmt.Sprintf("%s known=%v %d passed=%d spf=%d dkim=%d stopped=%d %v %v steps=%d %s", s.Source, s.Known, s.Messages, s.Passed, s.SPF, s.DKIM, s.Stopped, s.Names, s.Keys, len(s.Steps), s.Provider))
		}
		want := []string{
			"Sealpost known=true 16 passed=15 spf=15 dkim=10 stopped=0 [clinic.example] [k1._domainkey.clinic.example] steps=1 ",
			"Payroll known=true 3 passed=3 spf=0 dkim=3 stopped=0 [pay.clinic.example] [k1._domainkey.clinic.example] steps=0 ",
			"40.107.1.1 known=false 5 passed=5 spf=0 dkim=5 stopped=0 [clinic.example] [k1._domainkey.clinic.example k1._domainkey.lab.clinic.example] steps=2 Microsoft 365",
			"192.0.2.66 known=false 12 passed=0 spf=0 dkim=0 stopped=11 [clinic.example lab.clinic.example] [] steps=2 ",
		}
		if !slices.Equal(lines, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
		}
		if s := strings.Join(got.Sources[2].Steps, " "); !strings.Contains(s, "outbound connector") || !strings.Contains(s, "k1._domainkey.clinic.example") {
			t.Errorf("steps for Microsoft 365: %s", s)
		}
		if s := strings.Join(got.Sources[3].Steps, " "); !strings.Contains(s, "p=quarantine") {
			t.Errorf("steps for a forger while nothing is asked: %s", s)
		}
		facts := o.facts(ledger.DomainBypassSeen)
		if len(facts) != 4 || !strings.Contains(facts[0], `"source":"40.107.1.1","day":"2026-11-21","messages":4,"passed":4,"reporter":"big.example"`) {
			t.Errorf("the ledger: %q", facts)
		}
		if other, err := o.Summarize(ctx, o.other, "clinic.example", 30); err != nil || other.Reports+len(other.Sources) != 0 {
			t.Errorf("another organization sees %+v, %v", other, err)
		}
	})
}

// TestOnlyOwnDomains: nobody's reports about domains of others are kept.
func TestOnlyOwnDomains(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		o := open(t, d)
		var f *fault.Fault
		for _, domain := range []string{"other.example", "unproved.example", "example", "xclinic.example"} {
			_, err := o.Add(ctx, o.org, report("big.example", "1", yesterday, domain, "192.0.2.1 1 - - none "+domain), intake.ByStrangers)
			if !errors.As(err, &f) || f.Reason != "not_our_domain" {
				t.Errorf("%s: %v", domain, err)
			}
			if _, err := o.AddFailure(ctx, o.org, &Failure{Domain: domain, Source: netip.MustParseAddr("192.0.2.1"), Incidents: 1}, intake.ByStrangers); !errors.As(err, &f) {
				t.Errorf("failure of %s: %v", domain, err)
			}
		}
	})
}

// TestReceive: whatever kind of report comes is told apart and counted, at the
// same time on several nodes too.
func TestReceive(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		o := open(t, d)
		var group sync.WaitGroup
		receipts, errs := make([]Receipt, 6), make([]error, 6)
		for i := range receipts {
			group.Go(func() {
				receipts[i], errs[i] = o.Receive(ctx, o.org, bytes.NewReader(mailed("application/gzip", gzipped(t, sample(t, "rfc7489.xml")))))
			})
		}
		group.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		if fresh := slices.DeleteFunc(receipts, func(r Receipt) bool { return r.Again }); len(fresh) != 1 || fresh[0].Bypasses != 2 || fresh[0].Kind != "aggregate" {
			t.Errorf("kept %+v", fresh)
		}
		fields := "From: a@b.example\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: auth-failure\r\nSource-IP: 192.0.2.4\r\nReported-Domain: lab.clinic.example\r\nIncidents: 2\r\n"
		for range 2 {
			if r, err := o.Receive(ctx, o.org, strings.NewReader(fields)); err != nil || r.Kind != "failure" || r.Messages != 2 {
				t.Errorf("failure: %+v, %v", r, err)
			}
		}
		if _, err := o.Receive(ctx, o.org, strings.NewReader("Subject: hello\r\n\r\nNo report.\r\n")); !fault.Is(err, fault.Invalid) {
			t.Errorf("no report: %v", err)
		}
		got, err := o.Summarize(ctx, o.org, "clinic.example", 30)
		if err != nil || got.Reports != 1 || got.Messages != 8 || got.Failures != 4 {
			t.Errorf("%+v, %v", got, err)
		}
		o.clk.Advance(400 * day)
		if err := o.Forget(ctx, 365*day); err != nil {
			t.Fatal(err)
		}
		if got, err := o.Summarize(ctx, o.org, "clinic.example", 1000); err != nil || got.Reports+int(got.Failures)+len(got.Sources) != 0 {
			t.Errorf("after a year: %+v, %v", got, err)
		}
	})
}

// TestManySources: a forger with many hosts, or many reports, fills neither the
// ledger nor the list, and the sums count all of them.
func TestManySources(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		o := open(t, d)
		var rows []string
		for i := range 3 * maxFacts {
			rows = append(rows, fmt.Sprintf("192.0.%d.%d 1 - - none clinic.example", 2+i/250, i%250))
		}
		rows = append(rows, "203.0.113.9 1 dkim - none clinic.example")
		for i, told := range []int{maxFacts / 2, maxFacts / 2, 0, 0} { // the last one brings nothing new
			many := rows[max(0, len(rows)-(1+min(i, 2))*maxFacts/2):]
			if r := o.add(report("big.example", fmt.Sprint(i), yesterday, "clinic.example", many...)); r.Bypasses != told {
				t.Errorf("%d: %+v", i, r)
			}
			if more := o.facts(ledger.DomainBypassMore); len(more) != max(0, min(1, i-1)) {
				t.Errorf("%d: there is more: %q", i, more)
			}
		}
		o.add(report("big.example", "all", yesterday, "clinic.example", rows...))
		if more := o.facts(ledger.DomainBypassMore); len(more) != 1 || more[0] != `{"day":"2026-11-21"}` {
			t.Errorf("there is more: %q", more)
		}
		if r := o.add(report("big.example", "all", yesterday.Add(-day), "clinic.example", rows...)); r.Bypasses != maxFacts {
			t.Errorf("another day: %+v", r)
		}
		if facts := o.facts(ledger.DomainBypassSeen); len(facts) != 2*maxFacts || !strings.Contains(facts[0], "203.0.113.9") {
			t.Errorf("%d facts, the first %s", len(facts), facts[0])
		}
		var sources int
		if err := o.DB.Read(ctx, db.System, func(tx *db.Tx) (err error) {
			sources, err = BypassSources(tx, yesterday.Add(-7*day))
			return err
		}); err != nil || sources != 2*maxFacts-1 {
			t.Errorf("%d sources are counted, %v", sources, err)
		}
		got, err := o.Summarize(ctx, o.org, "clinic.example", 30)
		if err != nil || len(got.Sources) != maxSources || got.More != 3*maxFacts+1-maxSources || got.Sources[0].Source != "203.0.113.9" || got.Messages != 2*(3*maxFacts+1)+9*maxFacts/2 {
			t.Errorf("%d sources, %d more, %d messages, %v", len(got.Sources), got.More, got.Messages, err)
		}
	})
}

// TestForgedPeriods: nobody makes us keep days that no reporter writes about.
func TestForgedPeriods(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		o := open(t, d)
		var f *fault.Fault
		for _, ahead := range []time.Duration{-60 * day, 5 * day, 3000 * day} {
			_, err := o.Add(ctx, o.org, report("big.example", "1", yesterday.Add(ahead), "clinic.example", "192.0.2.1 1 - - none clinic.example"), intake.ByStrangers)
			if !errors.As(err, &f) || f.Reason != "bad_period" {
				t.Errorf("%v: %v", ahead, err)
			}
		}
		for ago, kept := range map[time.Duration]bool{39 * day: true, 41 * day: false, -100 * day: true} { // that of the future counts for today
			_, err := o.AddFailure(ctx, o.org, &Failure{Domain: "clinic.example", Source: netip.MustParseAddr("192.0.2.1"), At: o.clk.Now().Add(-ago), Incidents: 1}, intake.ByStrangers)
			if kept != (err == nil) || !kept && (!errors.As(err, &f) || f.Reason != "bad_period") {
				t.Errorf("failure %v ago: %v", ago, err)
			}
		}
		old := report("archive.example", "1", yesterday.Add(-300*day), "clinic.example", "192.0.2.1 1 - - none clinic.example")
		if _, err := o.Add(ctx, o.org, old, intake.ByHand); err != nil {
			t.Errorf("a person may bring an old one: %v", err)
		}
		if err := o.Forget(ctx, -day); err != nil {
			t.Fatal(err)
		}
		o.add(report("late.example", "1", yesterday.Add(-38*day), "clinic.example", "192.0.2.1 1 - - none clinic.example"))
		for _, after := range []struct {
			days    time.Duration
			reports int
		}{{360, 1}, {10, 0}} { // kept from when it came
			o.clk.Advance(after.days * day)
			if err := o.Forget(ctx, 365*day); err != nil {
				t.Fatal(err)
			}
			if got, err := o.Summarize(ctx, o.org, "clinic.example", 1000); err != nil || got.Reports != after.reports || len(got.Sources) != after.reports {
				t.Errorf("after %d days: %+v, %v", after.days, got, err)
			}
		}
	})
}

// TestRoom: what strangers can put into the database within a day ends, for
// each organization by itself, and begins again.
func TestRoom(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		o := open(t, d)
		var octets int64
		o.add(report("big.example", "1", yesterday, "clinic.example", "192.0.2.1 1 dkim - none clinic.example"))
		if err := o.DB.WriteAlone(ctx, o.org, func(tx *db.Tx) error {
			if err := tx.Row("SELECT octets FROM dmarc_reports WHERE org_id = ?", o.org).Scan(&octets); err != nil {
				return err
			}
			_, err := tx.Exec("UPDATE dmarc_reports SET octets = ? WHERE org_id = ?", intake.MaxDayOctets-octets, o.org)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if err := o.Room(ctx, o.org); err != nil || octets < 200 {
			t.Errorf("before: %v; a report of %d octets", err, octets)
		}
		o.add(report("big.example", "2", yesterday, "clinic.example", "192.0.2.1 1 dkim - none clinic.example"))
		if err := o.Room(ctx, o.org); !fault.Is(err, fault.TooMany) {
			t.Errorf("full: %v", err)
		}
		if err := o.Room(ctx, o.other); err != nil {
			t.Errorf("another organization: %v", err)
		}
		o.clk.Advance(day)
		if err := o.Room(ctx, o.org); err != nil {
			t.Errorf("a day later: %v", err)
		}
	})
}

// TestBlind: where no source is known, nobody is called a stranger.
func TestBlind(t *testing.T) {
	o := open(t, dbtest.SQLite(t))
	o.Known = func(context.Context, id.ID) ([]Known, error) { return nil, nil }
	if r := o.add(report("big.example", "1", yesterday, "clinic.example", "192.0.2.1 1 - - none clinic.example")); r.Bypasses != 0 {
		t.Errorf("%+v", r)
	}
	if got, err := o.Summarize(ctx, o.org, "clinic.example", 30); err != nil || !got.Blind || len(got.Sources) != 1 || got.Sources[0].Steps != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestNamesOfHosts: a name counts only if it leads back to the address.
func TestNamesOfHosts(t *testing.T) {
	n, r := outside(t)
	o := open(t, dbtest.SQLite(t))
	o.Resolver = r
	honest, liar := netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("192.0.2.11")
	n.SetPTR(honest, "a1.smtp-out.amazonses.com")
	n.SetA("a1.smtp-out.amazonses.com", honest)
	n.SetPTR(liar, "mail-eopbgr.outbound.protection.outlook.com")
	n.SetA("mail-eopbgr.outbound.protection.outlook.com", netip.MustParseAddr("192.0.2.99"))
	o.add(report("big.example", "1", yesterday, "clinic.example", "192.0.2.10 5 - spf none clinic.example", "192.0.2.11 4 - spf none clinic.example"))
	got, err := o.Summarize(ctx, o.org, "clinic.example", 30)
	if err != nil {
		t.Fatal(err)
	}
	if s := got.Sources[0]; s.Provider != "Amazon SES" || s.Host != "a1.smtp-out.amazonses.com" || !strings.Contains(s.Steps[0], "Amazon SES") {
		t.Errorf("%+v", s)
	}
	if s := got.Sources[1]; s.Provider != "" || s.Host != "" {
		t.Errorf("the liar: %+v", s)
	}
}

// TestForgettingManyReports takes several transactions, and leaves nothing of
// what is old and all of the rest.
func TestForgettingManyReports(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		o := open(t, d)
		const old, rows = 250, 11
		if err := d.WriteAlone(ctx, o.org, func(tx *db.Tx) error {
			for i := range old {
				report := id.New()
				if _, err := tx.Exec(`INSERT INTO dmarc_reports (id, org_id, reporter, report_id, domain, asked, begin_at, end_at, received_at)
					VALUES (?, ?, '', ?, '', '', 0, 0, ?)`, report, o.org, fmt.Sprint(i), i); err != nil {
					return err
				}
				for n := range rows {
					if _, err := tx.Exec(`INSERT INTO dmarc_rows (report, n, org_id, source, messages, disposition, dkim, spf, header_from, envelope_from, auth)
						VALUES (?, ?, ?, '', 0, '', 0, 0, '', '', '')`, report, n, o.org); err != nil {
						return err
					}
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		o.add(report("big.example", "1", yesterday, "clinic.example", "192.0.2.1 1 dkim - none clinic.example"))
		before := d.Figures().Transactions
		if err := o.Forget(ctx, 365*day); err != nil {
			t.Fatal(err)
		}
		if n := d.Figures().Transactions - before; n != 2+3 { // failures and bypasses; 91, 91 and 68 reports
			t.Errorf("%d transactions", n)
		}
		var reports, left int
		if err := d.Read(ctx, o.org, func(tx *db.Tx) error {
			return tx.Row("SELECT (SELECT count(*) FROM dmarc_reports), (SELECT count(*) FROM dmarc_rows)").Scan(&reports, &left)
		}); err != nil || reports != 1 || left != 1 {
			t.Errorf("%d reports and %d rows are left, %v", reports, left, err)
		}
	})
}
