// Package account keeps organizations, their sender domains and their policy
// documents. Members arrive with the console.
//
// Invariants:
//   - A domain that is verified belongs to one organization, and mail is
//     accepted only from a sender at a verified domain.
//   - A policy document is never changed: publishing adds a version.
//   - Every change is a ledger entry of the organization, in the same
//     transaction.
package account

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base32"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
)

// Org is one organization, the tenant.
type Org struct {
	ID          id.ID
	Slug        string // how commands name it: riverside-clinic
	Name        string // as people read it, also in notices
	Limits      Limits
	CreatedAt   time.Time
	DestroyedAt time.Time // zero while its keys exist
}

// Limits bound what an organization may hand in. Zero means no bound of its
// own: those of the installation apply, and none can be widened here but the
// rate.
type Limits struct {
	MessagesPerMinute int `json:"messages_per_minute,omitempty"`
	Recipients        int `json:"recipients,omitempty"`   // of one message
	MessageSize       int `json:"message_size,omitempty"` // octets
}

// Deps are what the accounts need.
type Deps struct {
	DB      *db.DB
	Custody *custody.Custody
	Clock   clock.Clock
	// MayDestroy says whether the keys of the transaction's organization may
	// be destroyed: a legal hold forbids it. nil: nothing does.
	MayDestroy func(tx *db.Tx) error
}

// Accounts is the store of organizations.
type Accounts struct{ Deps }

// New gives the accounts of one installation.
func New(d Deps) *Accounts { return &Accounts{d} }

var slugForm = regexp.MustCompile(`^[a-z][a-z0-9-]{1,62}$`)

var slugTaken = fault.New(fault.Conflict, "org_exists", "There is an organization of this short name already.")

// CreateOrg makes an organization and its keys.
func (a *Accounts) CreateOrg(ctx context.Context, slug, name string) (Org, error) {
	if !slugForm.MatchString(slug) || slug == "system" {
		return Org{}, fault.New(fault.Invalid, "bad_slug",
			"An organization's short name has 2 to 63 lower-case letters, digits and hyphens, begins with a letter, and is not \"system\".")
	}
	if name = strings.TrimSpace(name); name == "" || len(name) > 200 || strings.ContainsAny(name, "\r\n\x00") {
		return Org{}, fault.New(fault.Invalid, "bad_name", "An organization's name is one line of up to 200 characters.")
	}
	if _, err := a.OrgBySlug(ctx, slug); !fault.Is(err, fault.NotFound) {
		if err == nil {
			err = slugTaken // asked first, so that no keys are made for nothing
		}
		return Org{}, err
	}
	o := Org{ID: id.New(), Slug: slug, Name: name, CreatedAt: a.Clock.Now()}
	if err := a.Custody.CreateOrg(o.ID); err != nil {
		return Org{}, err
	}
	limits, err := json.Marshal(o.Limits)
	if err != nil {
		return Org{}, err
	}
	err = a.DB.WriteAlone(ctx, o.ID, func(tx *db.Tx) error {
		n, err := tx.Exec(`INSERT INTO account_orgs (id, slug, name, limits, created_at)
			VALUES (?, ?, ?, ?, ?) ON CONFLICT (slug) DO NOTHING`, o.ID, slug, name, string(limits), clock.Micros(o.CreatedAt))
		if err != nil {
			return err
		}
		if n == 0 {
			return slugTaken
		}
		return ledger.Append(tx, ledger.Fact{Type: ledger.OrgCreated, At: o.CreatedAt, Data: struct {
			Slug string `json:"slug"`
		}{slug}})
	})
	return o, err
}

const orgColumns = "id, slug, name, limits, created_at, destroyed_at"

func scanOrg(row db.Row) (Org, error) {
	var o Org
	var limits string
	var created int64
	var destroyed sql.NullInt64
	if err := row.Scan(&o.ID, &o.Slug, &o.Name, &limits, &created, &destroyed); err != nil {
		if errors.Is(err, sql.ErrNoRows) {
			return o, fault.New(fault.NotFound, "no_org", "There is no such organization. \"sealpost org list\" shows all.")
		}
		return o, err
	}
	o.CreatedAt = clock.FromMicros(created)
	if destroyed.Valid {
		o.DestroyedAt = clock.FromMicros(destroyed.Int64)
	}
	return o, json.Unmarshal([]byte(limits), &o.Limits)
}

// Org gives one organization by its id.
func (a *Accounts) Org(ctx context.Context, org id.ID) (o Org, err error) {
	err = a.DB.Read(ctx, org, func(tx *db.Tx) error {
		o, err = scanOrg(tx.Row("SELECT "+orgColumns+" FROM account_orgs WHERE id = ?", org))
		return err
	})
	return o, err
}

// OrgBySlug gives one organization by its short name.
func (a *Accounts) OrgBySlug(ctx context.Context, slug string) (o Org, err error) {
	err = a.DB.Read(ctx, db.System, func(tx *db.Tx) error {
		o, err = scanOrg(tx.Row("SELECT "+orgColumns+" FROM account_orgs WHERE slug = ?", slug))
		return err
	})
	return o, err
}

// Orgs lists all organizations by short name.
func (a *Accounts) Orgs(ctx context.Context) (all []Org, err error) {
	err = a.DB.Read(ctx, db.System, func(tx *db.Tx) error {
		all, err = db.All(tx, scanOrg, "SELECT "+orgColumns+" FROM account_orgs ORDER BY slug")
		return err
	})
	return all, err
}

// SetLimits changes what an organization may hand in.
func (a *Accounts) SetLimits(ctx context.Context, org id.ID, l Limits) error {
	limits, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return a.DB.Write(ctx, org, func(tx *db.Tx) error {
		n, err := tx.Exec("UPDATE account_orgs SET limits = ? WHERE id = ?", string(limits), org)
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.New(fault.NotFound, "no_org", "There is no such organization.")
		}
		return ledger.Append(tx, ledger.Fact{Type: ledger.OrgLimited, At: a.Clock.Now(), Data: l})
	})
}

// DestroyOrg destroys an organization's keys, and with them its content
// everywhere, old backups of the database included. What remains are records and a ledger
// whose proofs still hold. The record comes before the act, which cannot be
// undone; should the act fail, asking again completes it. The answer to a
// repeated wish is the first one.
func (a *Accounts) DestroyOrg(ctx context.Context, org id.ID) (custody.Tombstone, error) {
	now := a.Clock.Now()
	err := a.DB.WriteAlone(ctx, org, func(tx *db.Tx) error {
		if a.MayDestroy != nil {
			if err := a.MayDestroy(tx); err != nil {
				return err
			}
		}
		n, err := tx.Exec("UPDATE account_orgs SET destroyed_at = ? WHERE id = ? AND destroyed_at IS NULL", clock.Micros(now), org)
		if err != nil {
			return err
		}
		if n == 0 {
			_, err := scanOrg(tx.Row("SELECT "+orgColumns+" FROM account_orgs WHERE id = ?", org))
			return err // nil: destroyed already, or begun
		}
		return ledger.Append(tx, ledger.Fact{Type: ledger.OrgDestroyed, At: now})
	})
	if err != nil {
		return custody.Tombstone{}, err
	}
	return a.Custody.DestroyOrg(org)
}

// Destroyed reports whether the keys of the transaction's organization are
// destroyed, or somebody has begun to.
func Destroyed(tx *db.Tx) (bool, error) {
	o, err := scanOrg(tx.Row("SELECT "+orgColumns+" FROM account_orgs WHERE id = ?", tx.Org()))
	return !o.DestroyedAt.IsZero(), err
}

// token is what a domain's owner publishes to prove that it is theirs.
func token() string {
	var b [20]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}
