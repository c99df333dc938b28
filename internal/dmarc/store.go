package dmarc

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/dmarc/intake"
	"github.com/sealpost/sealpost/internal/dmarc/parcel"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/resolve"
)

// Deps are what Reports work with.
type Deps struct {
	DB       *db.DB
	Clock    clock.Clock
	Resolver *resolve.Resolver // names of hosts, for summaries; nil: none are looked up
	Accounts *account.Accounts
	Log      *slog.Logger // nil: nothing is logged
	// Known are the hosts that an organization's mail leaves from as it should:
	// ours, and others that it names.
	Known func(ctx context.Context, org id.ID) ([]Known, error)
}

// Known is a network that mail of an organization leaves from as it should.
type Known struct {
	Name    string
	Network netip.Prefix
}

// Reports keeps what receivers report to organizations.
type Reports struct {
	Deps
	intake.Table
}

// NewReports gives the store.
func NewReports(d Deps) *Reports {
	if d.Known == nil {
		d.Known = func(context.Context, id.ID) ([]Known, error) { return nil, nil }
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	return &Reports{d, intake.New(d.DB, d.Clock, "dmarc_reports", "dmarc_rows")}
}

// Receipt says what became of a report that came in.
type Receipt struct {
	Kind     string // "aggregate" or "failure"
	Reporter string
	Domain   string
	Messages int64
	Again    bool // it was there already
	Bypasses int  // sources that the ledger was told of
}

const day = 24 * time.Hour

// maxFacts bounds what reports about one day add to an organization's ledger:
// somebody who forges a domain from many hosts, or the reports themselves, must
// not fill it. Summaries count all of them.
const maxFacts = 200

// Receive reads a report of any kind that a stranger brings to an organization,
// and keeps it.
func (s *Reports) Receive(ctx context.Context, org id.ID, r io.Reader) (Receipt, error) {
	if err := s.Room(ctx, org); err != nil {
		return Receipt{}, err
	}
	return s.take(ctx, org, r, intake.ByStrangers)
}

// Import is Receive for reports that a person of the installation brings.
func (s *Reports) Import(ctx context.Context, org id.ID, r io.Reader) (Receipt, error) {
	return s.take(ctx, org, r, intake.ByHand)
}

func (s *Reports) take(ctx context.Context, org id.ID, r io.Reader, late time.Duration) (Receipt, error) {
	pieces, err := parcel.Open(r)
	if err != nil {
		return Receipt{}, err
	}
	a, err := aggregateIn(pieces)
	if err == nil {
		return s.Add(ctx, org, a, late)
	}
	if f, bad := failureIn(pieces); bad == nil {
		return s.AddFailure(ctx, org, f, late)
	}
	return Receipt{}, err
}

// owned is the organization's verified domain that a name is or lies below; a
// name outside of all of them is "".
func (s *Reports) owned(ctx context.Context, org id.ID) (func(name string) string, error) {
	all, err := s.Accounts.Domains(ctx, org)
	if err != nil {
		return nil, err
	}
	own := map[string]bool{}
	for _, d := range all {
		own[d.Name] = !d.VerifiedAt.IsZero()
	}
	return func(name string) string {
		for name != "" {
			if own[name] {
				return name
			}
			_, name, _ = strings.Cut(name, ".")
		}
		return ""
	}, nil
}

var notOurs = fault.New(fault.Denied, "not_our_domain",
	"The report is about a domain that the organization has not verified. \"sealpost domain list\" shows those it has.")

// Add keeps an aggregate report. The same report again changes nothing.
func (s *Reports) Add(ctx context.Context, org id.ID, a *Aggregate, late time.Duration) (Receipt, error) {
	out := Receipt{Kind: "aggregate", Reporter: a.Org, Domain: a.Domain, Messages: a.Messages()}
	owned, err := s.owned(ctx, org)
	if err != nil {
		return out, err
	}
	if owned(a.Domain) == "" {
		return out, notOurs
	}
	now := s.Clock.Now()
	if err := intake.CheckPeriod(a.Begin, a.End, now, late); err != nil {
		return out, err
	}
	known, err := s.Known(ctx, org)
	if err != nil {
		return out, err
	}
	seen := bypasses(known, a, owned)
	rows, octets, err := rowsOf(a)
	if err != nil {
		return out, err
	}
	report := id.New()
	err = s.DB.WriteAlone(ctx, org, func(tx *db.Tx) error {
		out.Again, out.Bypasses = false, 0
		n, err := tx.Exec(`INSERT INTO dmarc_reports (id, org_id, reporter, report_id, domain, asked, begin_at, end_at, received_at, octets)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (org_id, reporter, report_id, domain, begin_at, end_at) DO NOTHING`,
			report, org, a.Org, a.ID, a.Domain, string(a.Asked), clock.Micros(a.Begin), clock.Micros(a.End), clock.Micros(now), octets)
		if err != nil || n == 0 {
			out.Again = n == 0
			return err
		}
		for i, r := range rows {
			if _, err := tx.Exec(`INSERT INTO dmarc_rows (report, n, org_id, source, messages, disposition, dkim, spf, header_from, envelope_from, auth)
				VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, append([]any{report, i, org}, r...)...); err != nil {
				return err
			}
		}
		out.Bypasses, err = tellBypasses(tx, seen, now)
		return err
	})
	return out, err
}

// wireAuths is how results are written into a row.
type wireAuths struct {
	DKIM []Auth `json:"dkim,omitempty"`
	SPF  []Auth `json:"spf,omitempty"`
}

// rowsOf gives the columns of rows from source on, and about how many octets
// they and what tells of the report take.
func rowsOf(a *Aggregate) (rows [][]any, octets int, err error) {
	const fixed = 100 // of a row
	octets = fixed
	for _, r := range a.Rows {
		auth, err := json.Marshal(wireAuths{r.DKIM, r.SPF})
		if err != nil {
			return nil, 0, err
		}
		rows = append(rows, []any{r.Source.String(), r.Count, string(r.Disposition), flag(r.DKIMAligned), flag(r.SPFAligned), r.HeaderFrom, r.Envelope, string(auth)})
		octets += fixed + len(r.HeaderFrom) + len(r.Envelope) + len(auth)
	}
	return rows, octets, nil
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// bypass is mail of a domain of ours from a host that is not.
type bypass struct {
	domain, source string
	day            time.Time
	fact           bypassFact
}

// bypassFact is the clear part of domain.bypass_seen.
type bypassFact struct {
	Domain   string `json:"domain"`
	Source   string `json:"source"`
	Day      string `json:"day"`
	Messages int64  `json:"messages"`
	Passed   int64  `json:"passed"` // DMARC: receivers take them for genuine
	Reporter string `json:"reporter"`
}

// bypasses finds the sources of a report that are not known, the ones with
// mail that passes first. Where nothing is known, nothing can be told apart.
func bypasses(known []Known, a *Aggregate, owned func(string) string) []bypass {
	if len(known) == 0 {
		return nil
	}
	at := map[[2]string]int{}
	var out []bypass
	for _, r := range a.Rows {
		domain := owned(r.HeaderFrom)
		if domain == "" {
			domain = owned(a.Domain)
		}
		if nameOf(known, r.Source) != "" || r.Count == 0 {
			continue
		}
		key := [2]string{domain, r.Source.String()}
		i, again := at[key]
		if !again {
			i, at[key] = len(out), len(out)
			from := a.Begin.Truncate(day)
			out = append(out, bypass{domain, key[1], from, bypassFact{Domain: domain, Source: key[1], Day: from.Format(time.DateOnly), Reporter: a.Org}})
		}
		out[i].fact.Messages += r.Count
		if r.Pass() {
			out[i].fact.Passed += r.Count
		}
	}
	sortBypasses(out)
	return out
}

// moreFact is the clear part of domain.bypass_more.
type moreFact struct {
	Day string `json:"day"`
}

// tellBypasses tells the ledger what it was not told yet of the day that the
// report is about, and once that there is more than it is told.
func tellBypasses(tx *db.Tx, seen []bypass, now time.Time) (told int, err error) {
	if len(seen) == 0 {
		return 0, nil
	}
	about := seen[0].day
	known, err := db.All(tx, func(row db.Row) (k [2]string, err error) {
		err = row.Scan(&k[0], &k[1])
		return k, err
	}, "SELECT domain, source FROM dmarc_bypasses WHERE org_id = ? AND day = ?", tx.Org(), clock.Micros(about))
	if err != nil {
		return 0, err
	}
	fresh := slices.DeleteFunc(slices.Clone(seen), func(b bypass) bool { return slices.Contains(known, [2]string{b.domain, b.source}) })
	left := max(0, maxFacts-len(known))
	for _, b := range fresh[:min(len(fresh), left)] {
		first, err := tellOnce(tx, b, ledger.Fact{Type: ledger.DomainBypassSeen, At: now, Data: b.fact})
		if err != nil {
			return told, err
		}
		if first {
			told++
		}
	}
	if len(fresh) > left {
		_, err = tellOnce(tx, bypass{day: about}, ledger.Fact{Type: ledger.DomainBypassMore, At: now, Data: moreFact{about.Format(time.DateOnly)}})
	}
	return told, err
}

// tellOnce tells the ledger of a source and day unless somebody has. Neither
// domain nor source stands for all that it is not told of.
func tellOnce(tx *db.Tx, b bypass, f ledger.Fact) (bool, error) {
	n, err := tx.Exec(`INSERT INTO dmarc_bypasses (org_id, domain, source, day) VALUES (?, ?, ?, ?)
		ON CONFLICT (org_id, domain, source, day) DO NOTHING`, tx.Org(), b.domain, b.source, clock.Micros(b.day))
	if err != nil || n == 0 {
		return false, err
	}
	return true, ledger.Append(tx, f)
}

// nameOf is the name of the network that a host is in, or "".
func nameOf(known []Known, host netip.Addr) string {
	for _, k := range known {
		if k.Network.Contains(host.Unmap()) {
			return k.Name
		}
	}
	return ""
}

// AddFailure counts a failure report. Of what host it tells is not kept: there
// is a report for every message, and forgers have as many hosts as they like.
func (s *Reports) AddFailure(ctx context.Context, org id.ID, f *Failure, late time.Duration) (Receipt, error) {
	out := Receipt{Kind: "failure", Domain: f.Domain, Messages: f.Incidents}
	owned, err := s.owned(ctx, org)
	if err != nil {
		return out, err
	}
	if owned(f.Domain) == "" {
		return out, notOurs
	}
	at, now := f.At, s.Clock.Now()
	if at.IsZero() || at.After(now) {
		at = now
	}
	if err := intake.CheckPeriod(at, at, now, late); err != nil {
		return out, err
	}
	err = s.DB.Write(ctx, org, func(tx *db.Tx) error {
		_, err := tx.Exec(`INSERT INTO dmarc_failures (org_id, domain, day, source, incidents) VALUES (?, ?, ?, '', ?)
			ON CONFLICT (org_id, domain, day, source) DO UPDATE SET incidents = dmarc_failures.incidents + excluded.incidents`,
			org, owned(f.Domain), clock.Micros(at.Truncate(day)), f.Incidents)
		return err
	})
	return out, err
}

// Forget drops what came longer than age ago, of all organizations.
func (s *Reports) Forget(ctx context.Context, age time.Duration) error {
	before := clock.Micros(s.Clock.Now().Add(-age))
	if err := s.DB.Sweep(ctx, "dmarc_failures", "org_id, domain, day, source", "day < ?", before); err != nil {
		return err
	}
	if err := s.DB.Sweep(ctx, "dmarc_bypasses", "org_id, domain, source, day", "day < ?", before); err != nil {
		return err
	}
	return s.Table.Forget(ctx, age)
}

// BypassSources counts the sources that the ledger was told of since, of all
// organizations.
func BypassSources(tx *db.Tx, since time.Time) (n int, err error) {
	err = tx.Row("SELECT count(*) FROM (SELECT DISTINCT org_id, domain, source FROM dmarc_bypasses WHERE day >= ? AND source <> '') AS seen", clock.Micros(since)).Scan(&n)
	return n, err
}
