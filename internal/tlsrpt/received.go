package tlsrpt

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/dmarc/intake"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
)

// Deps are what Received works with.
type Deps struct {
	DB       *db.DB
	Clock    clock.Clock
	Accounts *account.Accounts
}

// Received keeps what others report of TLS with an organization's mail hosts.
type Received struct {
	Deps
	intake.Table
}

// NewReceived gives the store.
func NewReceived(d Deps) *Received {
	return &Received{d, intake.New(d.DB, d.Clock, "tlsrpt_received", "tlsrpt_received_rows")}
}

// Receipt says what became of a report that came in.
type Receipt struct {
	Reporter  string
	Domains   []string
	Successes int64
	Failures  int64
	Again     bool // it was there already
}

// Receive reads a report that a stranger brings to an organization, and keeps
// it. The same report again changes nothing.
func (s *Received) Receive(ctx context.Context, org id.ID, in io.Reader) (Receipt, error) {
	if err := s.Room(ctx, org); err != nil {
		return Receipt{}, err
	}
	return s.take(ctx, org, in, intake.ByStrangers)
}

// Import is Receive for reports that a person of the installation brings.
func (s *Received) Import(ctx context.Context, org id.ID, in io.Reader) (Receipt, error) {
	return s.take(ctx, org, in, intake.ByHand)
}

func (s *Received) take(ctx context.Context, org id.ID, in io.Reader, late time.Duration) (Receipt, error) {
	r, err := Read(in)
	if err != nil {
		return Receipt{}, err
	}
	return s.Add(ctx, org, r, late)
}

// Add keeps a report. What it says of domains that the organization has not
// verified is left out.
func (s *Received) Add(ctx context.Context, org id.ID, r *Report, late time.Duration) (Receipt, error) {
	out := Receipt{Reporter: r.Organization}
	domains, err := s.Accounts.Domains(ctx, org)
	if err != nil {
		return out, err
	}
	var ours []Policy
	for _, p := range r.Policies {
		if slices.ContainsFunc(domains, func(d account.Domain) bool { return !d.VerifiedAt.IsZero() && below(p.Domain, d.Name) }) {
			ours = append(ours, p)
			out.Successes += p.Successes
			out.Failures += p.Failures
			if !slices.Contains(out.Domains, p.Domain) {
				out.Domains = append(out.Domains, p.Domain)
			}
		}
	}
	if len(ours) == 0 {
		return out, fault.New(fault.Denied, "not_our_domain",
			"The report is about no domain that the organization has verified. \"sealpost domain list\" shows those it has.")
	}
	now := s.Clock.Now()
	if err := intake.CheckPeriod(r.Begin, r.End, now, late); err != nil {
		return out, err
	}
	rows, octets := rowsOf(ours)
	err = s.DB.WriteAlone(ctx, org, func(tx *db.Tx) error {
		report := id.New()
		n, err := tx.Exec(`INSERT INTO tlsrpt_received (id, org_id, reporter, report_id, begin_at, end_at, received_at, octets) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (org_id, reporter, report_id, begin_at, end_at) DO NOTHING`,
			report, org, r.Organization, r.ID, clock.Micros(r.Begin), clock.Micros(r.End), clock.Micros(now), octets)
		out.Again = n == 0
		if err != nil || n == 0 {
			return err
		}
		for i, row := range rows {
			if _, err := tx.Exec(`INSERT INTO tlsrpt_received_rows (report, n, org_id, domain, policy_type, result, mx, sending_ip, successes, failures)
				VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, append([]any{report, i + 1, org}, row...)...); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// below reports whether name is the domain or lies below it. The policy domain
// of DANE is a mail host (RFC 8460 section 4.4).
func below(name, domain string) bool { return name == domain || strings.HasSuffix(name, "."+domain) }

// rowsOf gives the columns of rows from domain on, and about how many octets
// they and what tells of the report take.
func rowsOf(policies []Policy) (rows [][]any, octets int) {
	const fixed = 100 // of a row
	octets = fixed
	put := func(p Policy, result, mx, ip string, successes, failures int64) {
		rows = append(rows, []any{p.Domain, p.Type, result, mx, ip, successes, failures})
		octets += fixed + len(p.Domain) + len(p.Type) + len(result) + len(mx) + len(ip)
	}
	for _, p := range policies {
		put(p, "", "", "", p.Successes, p.Failures)
		for _, d := range p.Details {
			put(p, d.Result, d.MX, d.SendingIP, 0, d.Sessions)
		}
	}
	return rows, octets
}

// Summary is what others saw of TLS with the mail hosts of a domain and of
// names below it.
type Summary struct {
	Domain    string     `json:"domain"`
	From      time.Time  `json:"from"`
	Until     time.Time  `json:"until"`
	Reports   int        `json:"reports"`
	Reporters []Reported `json:"reporters"`
	Successes int64      `json:"successes"`
	Failures  int64      `json:"failures"`
	Causes    []Failing  `json:"causes"`
}

// Reported is what one reporter saw.
type Reported struct {
	Reporter  string `json:"reporter"`
	Successes int64  `json:"successes"`
	Failures  int64  `json:"failures"`
}

// Failing is one way in which sessions failed at one host.
type Failing struct {
	Result   string `json:"result"`
	Policy   string `json:"policy_type"`
	MX       string `json:"mx,omitempty"`
	Sessions int64  `json:"sessions"`
	Step     string `json:"step,omitempty"` // what to do
}

const maxFailing = 100

// Summarize sums up what was reported of a domain in the last days.
func (s *Received) Summarize(ctx context.Context, org id.ID, domain string, days int) (Summary, error) {
	now := s.Clock.Now()
	out := Summary{Domain: domain, From: now.Add(-time.Duration(days) * day).Truncate(day), Until: now, Reporters: []Reported{}, Causes: []Failing{}}
	const about = "r.org_id = ? AND r.end_at >= ? AND (w.domain = ? OR w.domain LIKE ?)"
	args := []any{org, clock.Micros(out.From), domain, "%." + domain}
	err := s.DB.Read(ctx, org, func(tx *db.Tx) error {
		if err := tx.Row("SELECT count(DISTINCT r.id) FROM tlsrpt_received r JOIN tlsrpt_received_rows w ON w.report = r.id WHERE "+about, args...).Scan(&out.Reports); err != nil {
			return err
		}
		reporters, err := db.All(tx, func(row db.Row) (r Reported, err error) {
			err = row.Scan(&r.Reporter, &r.Successes, &r.Failures)
			return r, err
		}, "SELECT r.reporter, CAST(sum(w.successes) AS BIGINT), CAST(sum(w.failures) AS BIGINT) FROM tlsrpt_received r JOIN tlsrpt_received_rows w ON w.report = r.id WHERE "+
			about+" AND w.result = '' GROUP BY r.reporter ORDER BY r.reporter", args...)
		if err != nil {
			return err
		}
		out.Reporters = append(out.Reporters, reporters...)
		causes, err := db.All(tx, func(row db.Row) (f Failing, err error) {
			err = row.Scan(&f.Result, &f.Policy, &f.MX, &f.Sessions)
			return f, err
		}, "SELECT w.result, w.policy_type, w.mx, CAST(sum(w.failures) AS BIGINT) FROM tlsrpt_received r JOIN tlsrpt_received_rows w ON w.report = r.id WHERE "+
			about+" AND w.result <> '' GROUP BY w.result, w.policy_type, w.mx ORDER BY sum(w.failures) DESC, w.result, w.mx, w.policy_type LIMIT ?", append(args, maxFailing)...)
		out.Causes = append(out.Causes, causes...)
		return err
	})
	for _, r := range out.Reporters {
		out.Successes += r.Successes
		out.Failures += r.Failures
	}
	for i := range out.Causes {
		out.Causes[i].Step = stepFor[out.Causes[i].Result]
	}
	return out, err
}

// stepFor says what to do about each result of RFC 8460 section 4.3.
var stepFor = map[string]string{
	"starttls-not-supported":    "The host offers no STARTTLS: turn TLS on there, and look for a device in between that takes STARTTLS away.",
	"certificate-host-mismatch": "The host's certificate does not name it: get one with the name that the MX record has.",
	"certificate-expired":       "The host's certificate has expired: renew it, and have it renewed by itself.",
	"certificate-not-trusted":   "The host's certificate is of no authority that others trust, or its chain is incomplete: install the full chain of a public authority.",
	"validation-failure":        "The host's TLS could not be verified: compare the mx lines of the MTA-STS policy with the MX records, and the certificates with both.",
	"tlsa-invalid":              "The TLSA records do not fit the host's certificate: publish the new one before the certificate changes.",
	"dnssec-invalid":            "DNSSEC of the zone does not validate: check its signatures and the DS record.",
	"dane-required":             "A sender requires DANE and found no usable TLSA records: publish them.",
	"sts-policy-fetch-error":    "The MTA-STS policy could not be fetched: check that https://mta-sts.DOMAIN/.well-known/mta-sts.txt answers 200.",
	"sts-policy-invalid":        "The MTA-STS policy has a mistake: \"sealpost domain check\" says which.",
	"sts-webpki-invalid":        "The certificate of mta-sts.DOMAIN does not verify: renew it.",
}
