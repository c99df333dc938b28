package zone

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
)

// Mode is what others do when the policy is not satisfied.
type Mode string

// The modes (RFC 8461 section 5).
const (
	Enforce Mode = "enforce" // they do not send
	Testing Mode = "testing" // they send, and report
	None    Mode = "none"    // there is no policy any more
)

// Bounds of a policy.
const (
	maxMX      = 20
	longestSTS = 31557600 * time.Second // RFC 8461 section 3.2
	leastSTS   = time.Hour
)

// Policy is the MTA-STS policy of one domain.
type Policy struct {
	Domain    string
	Mode      Mode
	MX        []string // names of mail hosts
	MaxAge    time.Duration
	UpdatedAt time.Time
}

// Text is the policy as it is served (RFC 8461 section 3.2).
func (p Policy) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: STSv1\r\nmode: %s\r\n", p.Mode)
	for _, h := range p.MX {
		fmt.Fprintf(&b, "mx: %s\r\n", h)
	}
	fmt.Fprintf(&b, "max_age: %d\r\n", int64(p.MaxAge/time.Second))
	return b.String()
}

// Record announces the policy. Its id is made of the text, and changes with it.
func (p Policy) Record() Record {
	return Record{"_mta-sts." + p.Domain, "TXT", "v=STSv1; id=" + p.id() + ";"}
}

func (p Policy) id() string {
	sum := sha256.Sum256([]byte(p.Text()))
	return hex.EncodeToString(sum[:10])
}

// policyFact is the clear part of a policy's ledger entries.
type policyFact struct {
	Domain string   `json:"domain"`
	Mode   Mode     `json:"mode"`
	MX     []string `json:"mx,omitempty"`
	MaxAge int64    `json:"max_age"`
}

// SetPolicy has a policy served for a domain of the organization. No mail host
// stands for ours.
func (s *Service) SetPolicy(ctx context.Context, org id.ID, p Policy) (Policy, error) {
	var err error
	if p.Domain, err = mail.ParseDomain(p.Domain); err != nil {
		return p, err
	}
	if len(p.MX) == 0 {
		p.MX = []string{s.Hostname}
	}
	for i, h := range p.MX {
		if p.MX[i], err = mail.ParseDomain(h); err != nil {
			return p, err
		}
	}
	p.MaxAge = p.MaxAge.Truncate(time.Second)
	switch {
	case p.Mode != Enforce && p.Mode != Testing && p.Mode != None:
		return p, fault.New(fault.Invalid, "bad_mode", "A policy's mode is enforce, testing or none.")
	case len(p.MX) > maxMX:
		return p, fault.Newf(fault.Invalid, "too_many_hosts", "A policy has at most %d mail hosts.", maxMX)
	case p.MaxAge < leastSTS || p.MaxAge > longestSTS:
		return p, fault.New(fault.Invalid, "bad_max_age", "A policy is kept for an hour at least and a year at most; weeks are usual once it is enforced.")
	}
	p.UpdatedAt = s.Clock.Now()
	return p, s.DB.WriteAlone(ctx, org, func(tx *db.Tx) error {
		if ours, err := account.OwnsDomain(tx, p.Domain); err != nil || !ours {
			if err == nil {
				err = fault.New(fault.Denied, "domain_not_verified", "The organization has not verified this domain. \"sealpost domain list\" shows those it has.")
			}
			return err
		}
		if _, err := tx.Exec(`INSERT INTO zone_policies (org_id, domain, mode, mx, max_age, updated_at) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (org_id, domain) DO UPDATE SET mode = excluded.mode, mx = excluded.mx, max_age = excluded.max_age, updated_at = excluded.updated_at`,
			org, p.Domain, string(p.Mode), strings.Join(p.MX, " "), int64(p.MaxAge/time.Second), clock.Micros(p.UpdatedAt)); err != nil {
			return err
		}
		return ledger.Append(tx, ledger.Fact{Type: ledger.ZonePublished, At: p.UpdatedAt,
			Data: policyFact{p.Domain, p.Mode, p.MX, int64(p.MaxAge / time.Second)}})
	})
}

// policyOf gives the policy of an organization's domain, or nil.
func (s *Service) policyOf(ctx context.Context, org id.ID, domain string) (*Policy, error) {
	p := Policy{Domain: domain}
	var mx string
	var age, updated int64
	err := s.DB.Read(ctx, org, func(tx *db.Tx) error {
		return tx.Row("SELECT mode, mx, max_age, updated_at FROM zone_policies WHERE org_id = ? AND domain = ?", org, domain).
			Scan(&p.Mode, &mx, &age, &updated)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p.MX, p.MaxAge, p.UpdatedAt = strings.Fields(mx), time.Duration(age)*time.Second, clock.FromMicros(updated)
	return &p, nil
}

var noPolicy = fault.New(fault.NotFound, "no_policy", "No policy is served for this domain. \"sealpost domain mta-sts DOMAIN --mode testing\" makes one.")

// Policy gives the policy of an organization's domain.
func (s *Service) Policy(ctx context.Context, org id.ID, domain string) (Policy, error) {
	p, err := s.policyOf(ctx, org, domain)
	if err == nil && p == nil {
		err = noPolicy
	}
	if err != nil {
		return Policy{}, err
	}
	return *p, nil
}

// Served gives the text to serve for a domain, whoever asks.
func (s *Service) Served(ctx context.Context, domain string) (string, error) {
	org, err := s.Accounts.DomainOwner(ctx, domain)
	if err != nil {
		return "", err
	}
	p, err := s.Policy(ctx, org, domain)
	return p.Text(), err
}

// maxServed bounds ServedDomains.
const maxServed = 10000

// ServedDomains gives the domains whose policy is served, of all organizations.
func (s *Service) ServedDomains(ctx context.Context) (served []string, err error) {
	type policy struct {
		org    id.ID
		domain string
	}
	var all []policy
	if err := s.DB.Read(ctx, db.System, func(tx *db.Tx) error {
		all, err = db.All(tx, func(r db.Row) (p policy, err error) {
			err = r.Scan(&p.org, &p.domain)
			return p, err
		}, "SELECT org_id, domain FROM zone_policies ORDER BY domain LIMIT ?", maxServed)
		return err
	}); err != nil {
		return nil, err
	}
	for _, p := range all {
		owner, err := s.Accounts.DomainOwner(ctx, p.domain)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return nil, err
		}
		if err == nil && owner == p.org { // as Served has it
			served = append(served, p.domain)
		}
	}
	return served, nil
}
