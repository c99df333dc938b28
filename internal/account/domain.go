package account

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
)

// Domain is a sender domain of an organization.
type Domain struct {
	Org        id.ID
	Name       string // A-label form, lower case
	Token      string
	VerifiedAt time.Time // zero until verified
	VerifiedBy string    // "dns" or "forced"
}

// Record is the DNS record that proves the domain: its name and TXT value.
func (d Domain) Record() (name, value string) {
	return "_sealpost." + d.Name, "sealpost-verify=" + d.Token
}

// domainFact is the clear part of a domain's ledger entries.
type domainFact struct {
	Domain string `json:"domain"`
	By     string `json:"by,omitempty"`
}

// AddDomain names a domain that the organization will prove to be its own.
// Adding it again gives the same token.
func (a *Accounts) AddDomain(ctx context.Context, org id.ID, name string) (Domain, error) {
	name, err := mail.ParseDomain(name)
	if err != nil {
		return Domain{}, err
	}
	now := a.Clock.Now()
	err = a.DB.Write(ctx, org, func(tx *db.Tx) error {
		n, err := tx.Exec(`INSERT INTO account_domains (org_id, domain, token, created_at)
			VALUES (?, ?, ?, ?) ON CONFLICT (org_id, domain) DO NOTHING`, org, name, token(), clock.Micros(now))
		if err != nil || n == 0 {
			return err
		}
		return ledger.Append(tx, ledger.Fact{Type: ledger.DomainAdded, At: now, Data: domainFact{Domain: name}})
	})
	if err != nil {
		return Domain{}, err
	}
	return a.Domain(ctx, org, name)
}

var noDomain = fault.New(fault.NotFound, "no_domain", "The organization has no such domain. \"sealpost domain add\" adds it.")

// Domain gives one domain of the organization.
func (a *Accounts) Domain(ctx context.Context, org id.ID, name string) (Domain, error) {
	name, err := mail.ParseDomain(name)
	if err != nil {
		return Domain{}, err
	}
	all, err := a.Domains(ctx, org)
	if err != nil {
		return Domain{}, err
	}
	if i := slices.IndexFunc(all, func(d Domain) bool { return d.Name == name }); i >= 0 {
		return all[i], nil
	}
	return Domain{}, noDomain
}

// Domains lists the organization's domains by name.
func (a *Accounts) Domains(ctx context.Context, org id.ID) (all []Domain, err error) {
	err = a.DB.Read(ctx, org, func(tx *db.Tx) error {
		all, err = db.All(tx, scanDomain, `SELECT org_id, domain, token, verified_at, verified_by
			FROM account_domains WHERE org_id = ? ORDER BY domain`, org)
		return err
	})
	return all, err
}

func scanDomain(row db.Row) (d Domain, err error) {
	var at sql.NullInt64
	var by sql.NullString
	err = row.Scan(&d.Org, &d.Name, &d.Token, &at, &by)
	if at.Valid {
		d.VerifiedAt, d.VerifiedBy = clock.FromMicros(at.Int64), by.String
	}
	return d, err
}

// LookupTXT asks the DNS for the TXT records of a name.
type LookupTXT func(ctx context.Context, name string) ([]string, error)

// VerifyDomain looks for the domain's record and marks it verified.
func (a *Accounts) VerifyDomain(ctx context.Context, org id.ID, name string, lookup LookupTXT) (Domain, error) {
	d, err := a.Domain(ctx, org, name)
	if err != nil {
		return d, err
	}
	host, want := d.Record()
	found, err := lookup(ctx, host)
	if err != nil {
		return d, fault.Newf(fault.Unavailable, "lookup_failed",
			"The DNS could not be asked for the TXT record %s. Check the resolver and try again.", host).Because(err)
	}
	if !slices.Contains(found, want) {
		return d, fault.Newf(fault.Denied, "record_missing",
			"There is no TXT record %s with the value %q. Publish it, wait until it is visible, and try again.", host, want)
	}
	return a.markVerified(ctx, d, "dns")
}

// ForceDomain marks a domain verified without proof. Only commands on the
// machine itself call it; the ledger keeps that it was forced.
func (a *Accounts) ForceDomain(ctx context.Context, org id.ID, name string) (Domain, error) {
	d, err := a.Domain(ctx, org, name)
	if err != nil {
		return d, err
	}
	return a.markVerified(ctx, d, "forced")
}

func (a *Accounts) markVerified(ctx context.Context, d Domain, by string) (Domain, error) {
	now := a.Clock.Now()
	err := a.DB.WriteAlone(ctx, d.Org, func(tx *db.Tx) error {
		var owner id.ID
		err := tx.Row("SELECT org_id FROM account_domains WHERE domain = ? AND verified_at IS NOT NULL", d.Name).Scan(&owner)
		switch {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return err
		case owner != d.Org:
			return fault.New(fault.Conflict, "domain_taken", "Another organization of this installation has verified this domain.")
		}
		n, err := tx.Exec("UPDATE account_domains SET verified_at = ?, verified_by = ? WHERE org_id = ? AND domain = ? AND token = ?",
			clock.Micros(now), by, d.Org, d.Name, d.Token)
		if err != nil {
			return err
		}
		if n == 0 { // removed while the DNS was asked
			return noDomain
		}
		return ledger.Append(tx, ledger.Fact{Type: ledger.DomainVerified, At: now, Data: domainFact{d.Name, by}})
	})
	if err != nil {
		return d, err
	}
	d.VerifiedAt, d.VerifiedBy = now, by
	return d, nil
}

// RemoveDomain takes a domain from the organization.
func (a *Accounts) RemoveDomain(ctx context.Context, org id.ID, name string) error {
	name, err := mail.ParseDomain(name)
	if err != nil {
		return err
	}
	return a.DB.WriteAlone(ctx, org, func(tx *db.Tx) error {
		n, err := tx.Exec("DELETE FROM account_domains WHERE org_id = ? AND domain = ?", org, name)
		if err != nil {
			return err
		}
		if n == 0 {
			return noDomain
		}
		return ledger.Append(tx, ledger.Fact{Type: ledger.DomainRemoved, At: a.Clock.Now(), Data: domainFact{Domain: name}})
	})
}

// DomainOwner finds the organization that has verified the domain, for those
// who come from outside and know only its name.
func (a *Accounts) DomainOwner(ctx context.Context, domain string) (org id.ID, err error) {
	err = a.DB.Read(ctx, db.System, func(tx *db.Tx) error {
		err := tx.Row("SELECT org_id FROM account_domains WHERE domain = ? AND verified_at IS NOT NULL", domain).Scan(&org)
		if errors.Is(err, sql.ErrNoRows) {
			return fault.New(fault.NotFound, "no_domain", "No organization has verified this domain.")
		}
		return err
	})
	return org, err
}

// OwnsDomain reports whether the organization has verified the domain. It is
// asked for every message.
func OwnsDomain(tx *db.Tx, domain string) (bool, error) {
	var n int
	err := tx.Row("SELECT count(*) FROM account_domains WHERE org_id = ? AND domain = ? AND verified_at IS NOT NULL",
		tx.Org(), domain).Scan(&n)
	return n > 0, err
}
