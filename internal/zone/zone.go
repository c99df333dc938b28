// Package zone tells what the DNS must say for the mail of our own domains, and
// whether it says so. It also keeps their MTA-STS policies (RFC 8461), which
// are served by us.
//
// Invariants:
//   - It only asks and compares: the DNS is changed by people. Whatever is not
//     right comes with the exact record to publish.
//   - What nobody could tell, since the DNS failed, is unknown: never ok, never
//     missing, and no reason to change the verdict that is stored.
//   - Everything is bounded: domains at once, questions and time of each.
//   - A verdict that changes is a ledger entry in the same transaction. All of
//     it is in the DNS for everybody, and stands in clear.
//   - A policy is served only for a domain that its organization has verified.
package zone

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/dkim"
	"github.com/sealpost/sealpost/internal/fetch"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/resolve"
)

// Status is how one thing stands.
type Status string

// The statuses.
const (
	OK      Status = "ok"
	Missing Status = "missing"
	Wrong   Status = "wrong"
	Unknown Status = "unknown" // the DNS failed
)

// The checks.
const (
	SPF        = "spf"
	DKIM       = "dkim"
	DMARC      = "dmarc"
	ReturnPath = "return-path"
	MTASTS     = "mta-sts"
	TLSRPT     = "tls-rpt"
	TLSA       = "tlsa"
	PTR        = "ptr"
)

// Record is a record to publish.
type Record struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Value string `json:"value"`
}

// Zone writes the record for a zone file.
func (r Record) Zone() string {
	if r.Type == "TXT" {
		return dkim.ZoneRecord(r.Name, r.Value)
	}
	return r.Name + ". 3600 IN " + r.Type + " " + r.Value
}

// Item is one thing that the DNS must say.
type Item struct {
	Check   string   `json:"check"`
	Name    string   `json:"name"` // where it stands
	Status  Status   `json:"status"`
	Needed  bool     `json:"needed"` // mail suffers without it; otherwise it is good to have
	Text    string   `json:"text"`   // what is the case, and why it matters
	Publish []Record `json:"publish,omitempty"`
}

// State sums a report up.
type State string

// The states.
const (
	Good    State = "ok"
	Warning State = "warning" // nothing that is needed
	Bad     State = "wrong"
)

// Report is what was found for one domain.
type Report struct {
	Domain    string    `json:"domain"`
	State     State     `json:"state"`
	CheckedAt time.Time `json:"checked_at"`
	Items     []Item    `json:"items"`
}

// failing are the checks that are not ok, in order.
func (r Report) failing() (checks []string) {
	for _, i := range r.Items {
		if i.Status != OK && !slices.Contains(checks, i.Check) {
			checks = append(checks, i.Check)
		}
	}
	return checks
}

func (r Report) unknown() bool {
	return slices.ContainsFunc(r.Items, func(i Item) bool { return i.Status == Unknown })
}

func stateOf(items []Item) State {
	s := Good
	for _, i := range items {
		switch {
		case i.Status == OK:
		case i.Needed:
			return Bad
		default:
			s = Warning
		}
	}
	return s
}

// Source is where mail leaves from: an address and the name in EHLO. Without
// an address it is those of the name.
type Source struct {
	Addr netip.Addr
	Helo string
}

// Deps are what the service works with.
type Deps struct {
	DB       *db.DB
	Clock    clock.Clock
	Log      *slog.Logger
	Accounts *account.Accounts
	Resolver *resolve.Resolver
	Fetch    *fetch.Client
	Hostname string // our mail host: of EHLO, MX and reports
	SMTPPort int    // of mail hosts: 25 but in tests
	// Keys gives the organization's DKIM keys of a domain.
	Keys func(ctx context.Context, org id.ID, domain string) ([]dkim.Key, error)
	// Sources gives where an organization's mail leaves from. nil or none: the
	// addresses of Hostname.
	Sources func(ctx context.Context, org id.ID) ([]Source, error)
	// ReturnPath gives the host below a domain that bounces come back to, or
	// nothing. nil: no domain has one.
	ReturnPath func(ctx context.Context, org id.ID, domain string) (string, error)
	// Certificates gives what the mail listener serves and what it will serve
	// next, the present one first. nil or none: TLSA records are not looked at.
	Certificates func() ([]*x509.Certificate, error)
}

// Service checks domains. It is safe for concurrent use.
type Service struct{ Deps }

// New makes the service.
func New(d Deps) *Service { return &Service{d} }

// checkLimit bounds the check of one domain.
const checkLimit = time.Minute

// Check asks the DNS what it says of a domain now.
func (s *Service) Check(ctx context.Context, org id.ID, domain string) (Report, error) {
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	c, err := s.checker(ctx, org, domain)
	if err != nil {
		return Report{}, err
	}
	for _, check := range []func(context.Context){c.spf, c.dkim, c.dmarc, c.returnPath, c.mtaSTS, c.tlsRPT, c.tlsa, c.ptr} {
		check(ctx)
	}
	return Report{Domain: domain, State: stateOf(c.items), CheckedAt: s.Clock.Now(), Items: c.items}, nil
}

// checker looks at one domain.
type checker struct {
	*Service
	org     id.ID
	domain  string
	sources []Source // as they are given
	keys    []dkim.Key
	bounces string // the return path's host, or nothing
	policy  *Policy
	items   []Item
}

func (s *Service) checker(ctx context.Context, org id.ID, domain string) (*checker, error) {
	c := &checker{Service: s, org: org, domain: domain}
	var err error
	if s.Sources != nil {
		if c.sources, err = s.Sources(ctx, org); err != nil {
			return nil, err
		}
	}
	if len(c.sources) == 0 {
		c.sources = []Source{{Helo: s.Hostname}}
	}
	if c.keys, err = s.Keys(ctx, org, domain); err != nil {
		return nil, err
	}
	if s.ReturnPath != nil {
		if c.bounces, err = s.ReturnPath(ctx, org, domain); err != nil {
			return nil, err
		}
	}
	c.policy, err = s.policyOf(ctx, org, domain)
	return c, err
}

func (c *checker) add(i Item) { c.items = append(c.items, i) }

// unknown tells that the DNS failed.
func (c *checker) unknown(check, name string, needed bool) {
	c.add(Item{Check: check, Name: name, Status: Unknown, Needed: needed, Text: "The DNS could not be asked for " + name + ". Try again later."})
}

// receives reports whether mail comes to us for the domain or its return path.
func (c *checker) receives() bool { return c.bounces != "" || c.policy != nil }

// texts gives the TXT records of a name that begin with a version.
func (c *checker) texts(ctx context.Context, name, version string) (found []string, err error) {
	all, _, err := c.Resolver.Texts(ctx, name)
	for _, t := range all {
		if len(t) >= len(version) && strings.EqualFold(t[:len(version)], version) {
			found = append(found, t)
		}
	}
	return found, err
}
