package tlsrpt

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fetch"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/resolve"
	"github.com/sealpost/sealpost/internal/spool"
)

// ReporterDeps are what a Reporter works with.
type ReporterDeps struct {
	DB           *db.DB
	Custody      *custody.Custody
	Clock        clock.Clock
	Log          *slog.Logger
	Resolver     *resolve.Resolver
	Fetch        *fetch.Client
	Hostname     string // of this mail system: reports come from it
	Organization string // as reports name us; empty: Hostname
	Contact      string // an address or URL for people, or empty
	// Signed reports whether mail that comes from Hostname is signed by DKIM.
	Signed func(ctx context.Context) (bool, error)
	// Posted is called once mails are committed, so that somebody sends them at
	// once. It may be nil.
	Posted func([]spool.Item)
}

// Reporter sends a report to each domain that asks for it, for each day. It
// keeps nothing in memory, so any number may run at once.
type Reporter struct{ ReporterDeps }

// NewReporter gives a Reporter.
func NewReporter(d ReporterDeps) *Reporter {
	d.Organization = cmp.Or(d.Organization, d.Hostname)
	return &Reporter{d}
}

const (
	settle     = 15 * time.Minute // after midnight: every node has written its counts, and clocks differ
	spread     = 4 * time.Hour    // over which reports are sent, so that collectors are not asked by all at once
	firstRetry = 15 * time.Minute
	maxTries   = 7 // within a day
	keepDays   = 7 * day
	keepSent   = 90 * day
	atOnce     = 8
	batch      = 200
	sendTime   = 30 * time.Second
	mailedFor  = day
)

// job is a report that is due.
type job struct {
	day      time.Time
	domain   string
	id       string
	attempts int
}

// Run makes the reports of days that are over and sends those that are due. It
// is called every minute or so.
func (r *Reporter) Run(ctx context.Context) error {
	now := r.Clock.Now()
	if err := r.plan(ctx, now); err != nil {
		return fmt.Errorf("plan TLS reports: %w", err)
	}
	for ctx.Err() == nil {
		jobs, err := r.due(ctx, now)
		if err != nil || len(jobs) == 0 {
			return err
		}
		if err := r.sendAll(ctx, jobs, now); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// plan makes one row for each domain and day, at a moment of its own.
func (r *Reporter) plan(ctx context.Context, now time.Time) error {
	today := now.UTC().Truncate(day)
	return r.DB.WriteAlone(ctx, db.System, func(tx *db.Tx) error {
		if _, err := tx.Exec("DELETE FROM tlsrpt_sessions WHERE day < ?", clock.Micros(today.Add(-keepDays))); err != nil {
			return err
		}
		if _, err := tx.Exec("DELETE FROM tlsrpt_reports WHERE day < ?", clock.Micros(today.Add(-keepSent))); err != nil {
			return err
		}
		fresh, err := db.All(tx, scanJob, `SELECT DISTINCT s.day, s.domain, '', 0 FROM tlsrpt_sessions s WHERE s.day < ?
			AND NOT EXISTS (SELECT 1 FROM tlsrpt_reports r WHERE r.day = s.day AND r.domain = s.domain) LIMIT 10000`, clock.Micros(today))
		if err != nil {
			return err
		}
		for _, j := range fresh {
			if _, err := tx.Exec(`INSERT INTO tlsrpt_reports (day, domain, report_id, state, attempts, next_at) VALUES (?, ?, ?, 'due', 0, ?)
				ON CONFLICT (day, domain) DO NOTHING`, clock.Micros(j.day), j.domain, r.number(j), clock.Micros(r.moment(j))); err != nil {
				return err
			}
		}
		return nil
	})
}

// number is the report's number, which no other report has (RFC 8460 section
// 4.4 leaves its form to us).
func (r *Reporter) number(j job) string {
	return j.day.Format(time.DateOnly) + "." + j.domain + "." + r.Hostname
}

// moment spreads the reports of a day by the names of their domains.
func (r *Reporter) moment(j job) time.Time {
	h := fnv.New64a()
	_, _ = h.Write([]byte(r.number(j))) // never fails
	return j.day.Add(day + settle + time.Duration(h.Sum64()%uint64(spread)))
}

func scanJob(row db.Row) (j job, err error) {
	var at int64
	err = row.Scan(&at, &j.domain, &j.id, &j.attempts)
	j.day = clock.FromMicros(at)
	return j, err
}

func (r *Reporter) due(ctx context.Context, now time.Time) (jobs []job, err error) {
	err = r.DB.Read(ctx, db.System, func(tx *db.Tx) error {
		jobs, err = db.All(tx, scanJob, `SELECT day, domain, report_id, attempts FROM tlsrpt_reports
			WHERE state = 'due' AND next_at <= ? ORDER BY next_at LIMIT ?`, clock.Micros(now), batch)
		return err
	})
	return jobs, err
}

func (r *Reporter) sendAll(ctx context.Context, jobs []job, now time.Time) error {
	errs := make([]error, len(jobs))
	turns := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	for i, j := range jobs {
		turns <- struct{}{}
		group.Go(func() {
			defer func() { <-turns }()
			defer private.Recover(&errs[i])
			errs[i] = r.attempt(ctx, j, now)
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// attempt takes the turn of a report and makes one try to send it. Who has the
// turn has moved the next one into the future, so that another node, or this
// one after a crash, tries again only then.
func (r *Reporter) attempt(ctx context.Context, j job, now time.Time) error {
	var mine bool
	next := now.Add(firstRetry << min(j.attempts, 5))
	if err := r.DB.Write(ctx, db.System, func(tx *db.Tx) error {
		n, err := tx.Exec("UPDATE tlsrpt_reports SET attempts = attempts + 1, next_at = ? WHERE day = ? AND domain = ? AND state = 'due' AND attempts = ?",
			clock.Micros(next), clock.Micros(j.day), j.domain, j.attempts)
		mine = n == 1
		return err
	}); err != nil || !mine {
		return err
	}
	work, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	o := r.send(work, j)
	if ctx.Err() != nil && o.state == "" {
		return nil // told to stop: the next turn comes
	}
	if o.state == "" && j.attempts+1 >= maxTries {
		o.state = "failed"
	}
	return r.record(context.WithoutCancel(ctx), j, o)
}

// outcome is what became of an attempt. state is empty while another one may
// do better.
type outcome struct {
	state  string
	fact   sentFact
	mails  []mailed
	reason string
}

// sentFact is the clear part of tlsreport.sent and tlsreport.failed.
type sentFact struct {
	Domain    string `json:"domain"`
	Day       string `json:"day"`
	Report    string `json:"report"`
	Posted    int    `json:"posted,omitempty"` // to https collectors
	Mailed    int    `json:"mailed,omitempty"` // handed to delivery: notice.sent tells the rest
	Successes int64  `json:"successes"`
	Failures  int64  `json:"failures"`
	Reason    string `json:"reason,omitempty"`
}

// Why a report could not be sent.
const (
	reasonDNS      = "dns_failure"
	reasonUnsigned = "not_signed" // the host name has no DKIM key
	reasonRefused  = "collector_failed"
)

func (r *Reporter) send(ctx context.Context, j job) outcome {
	o := outcome{fact: sentFact{Domain: j.domain, Day: j.day.Format(time.DateOnly), Report: j.id}}
	texts, _, err := r.Resolver.Texts(ctx, "_smtp._tls."+j.domain)
	if err != nil {
		o.reason = reasonDNS
		return o
	}
	places := destinations(texts)
	if len(places) == 0 {
		o.state = "unwanted"
		return o
	}
	report, err := r.build(ctx, j)
	if err != nil {
		o.reason = "database"
		return o
	}
	if len(report.Policies) == 0 { // its sessions were too old and are gone
		o.state = "unwanted"
		return o
	}
	for _, p := range report.Policies {
		o.fact.Successes += p.Successes
		o.fact.Failures += p.Failures
	}
	packed, err := pack(report)
	if err != nil {
		o.reason = "report"
		return o
	}
	for i, p := range places {
		r.deliver(ctx, &o, report, packed, i, p)
	}
	if o.fact.Posted+len(o.mails) > 0 {
		o.state = "sent"
	}
	return o
}

func (r *Reporter) deliver(ctx context.Context, o *outcome, report *Report, packed []byte, i int, p destination) {
	if p.post != "" {
		_, err := r.Fetch.Get(ctx, fetch.Request{URL: p.post, Body: packed, BodyType: "application/tlsrpt+gzip", Timeout: sendTime / 2})
		// Any success will do (RFC 8460 section 3), whatever comes with it; fetch
		// knows only 200 with an answer of a size that it reads.
		if err == nil || fetch.Code(err)/100 == 2 || fetch.Word(err) == fetch.TooLarge {
			o.fact.Posted++
		} else {
			o.reason = reasonRefused
		}
		return
	}
	signed, err := r.Signed(ctx)
	if err != nil || !signed {
		o.reason = reasonUnsigned
		return
	}
	m, err := r.mail(report, o.fact.Domain, packed, p.to, i)
	if err != nil {
		r.Log.Error("a TLS report could not be written", "domain", o.fact.Domain, "error", err)
		return
	}
	o.mails = append(o.mails, m)
}

// build reads a day's sessions.
func (r *Reporter) build(ctx context.Context, j job) (*Report, error) {
	out := &Report{Organization: r.Organization, Contact: cmp.Or(r.Contact, "postmaster@"+r.Hostname), ID: j.id,
		Begin: j.day, End: j.day.Add(day - time.Second)}
	at := map[string]int{}
	err := r.DB.Read(ctx, db.System, func(tx *db.Tx) error {
		rows, err := tx.Query("SELECT policy, detail, sessions FROM tlsrpt_sessions WHERE day = ? AND domain = ? ORDER BY sessions DESC, hash LIMIT 10000",
			clock.Micros(j.day), j.domain)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var policy, detail string
			var n int64
			if err := rows.Scan(&policy, &detail, &n); err != nil {
				return err
			}
			i, known := at[policy]
			if !known {
				i, at[policy] = len(out.Policies), len(out.Policies)
				out.Policies = append(out.Policies, Policy{})
			}
			if err := out.Policies[i].add(policy, detail, n, j.domain); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	slices.SortFunc(out.Policies, func(a, b Policy) int {
		return cmp.Or(strings.Compare(a.Type, b.Type), strings.Compare(a.Domain, b.Domain), slices.Compare(a.Strings, b.Strings))
	})
	return out, err
}

func (p *Policy) add(policy, detail string, n int64, domain string) error {
	var a Applied
	if err := json.Unmarshal([]byte(policy), &a); err != nil {
		return err
	}
	p.Type, p.Strings, p.Domain, p.MX = a.Type, a.Strings, cmp.Or(a.Domain, domain), a.MX
	if detail == "" {
		p.Successes += n
		return nil
	}
	var c Cause
	if err := json.Unmarshal([]byte(detail), &c); err != nil {
		return err
	}
	p.Failures += n
	p.Details = append(p.Details, Detail{c, n})
	return nil
}

func pack(r *Report) ([]byte, error) {
	text, err := r.JSON()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, err = z.Write(text)
	err = errors.Join(err, z.Close())
	return out.Bytes(), err
}

// Outgoing counts our reports by state.
func Outgoing(tx *db.Tx) (map[string]int, error) {
	type line struct {
		state string
		n     int
	}
	all, err := db.All(tx, func(row db.Row) (l line, err error) {
		err = row.Scan(&l.state, &l.n)
		return l, err
	}, "SELECT state, count(*) FROM tlsrpt_reports GROUP BY state")
	out := map[string]int{"due": 0, "sent": 0, "unwanted": 0, "failed": 0}
	for _, l := range all {
		out[l.state] = l.n
	}
	return out, err
}
