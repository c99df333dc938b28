package retain

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
)

// journalLabel binds the archive's address to this use for ever; its row is
// its data key's id.
const journalLabel = "retain.journal.v1"

// Bounds of periods, in days.
const (
	// MinRecords is six years, which hold at most two leap days: 45 CFR
	// 164.316(b)(2)(i).
	MinRecords = 6*365 + 2
	// MinMetadata lets the reports about a message end first: they are tried
	// for five days and sealed under its key.
	MinMetadata = 7
	MinBodies   = 1
	maxDays     = 100 * 366
)

// Periods say for how many days things are kept, counted from the day the
// message's last delivery was settled.
type Periods struct {
	Bodies   int `json:"bodies"`
	Metadata int `json:"metadata"` // header, subject, addresses, tags; the message's key
	Records  int `json:"records"`  // that there was a message, when, and what became of it
}

// Purposes are the periods for each purpose.
type Purposes struct {
	Generic    Periods `json:"generic"`
	Treatment  Periods `json:"treatment"`
	Payment    Periods `json:"payment"`
	Operations Periods `json:"operations"`
	Marketing  Periods `json:"marketing"`
}

// Of gives the periods for one purpose, to read or to change.
func (p *Purposes) Of(purpose policy.Purpose) *Periods {
	switch purpose {
	case policy.Treatment:
		return &p.Treatment
	case policy.Payment:
		return &p.Payment
	case policy.Operations:
		return &p.Operations
	case policy.Marketing:
		return &p.Marketing
	}
	return &p.Generic
}

// Document is what an organization says of retention, in days. It holds
// nothing private.
type Document struct {
	Purposes Purposes `json:"purposes"`
	Answers  int      `json:"answers"` // to requests with an Idempotency-Key; 0: as long as the installation keeps them
	Ledger   int      `json:"ledger"`
}

// Policy is a document and the archive's address.
type Policy struct {
	Version int64 // 0: the default, nothing is published
	Document
	Journal mail.Address // zero for none
}

// Default keeps bodies for 90 days: three times as long as a portal link
// lives, so whoever asks for a message again within a quarter gets it, and
// what lies about after that is a risk and no use: the record of care is the
// chart. Everything else is kept for the six years of 45 CFR 164.316(b)(2)(i)
// and 164.528.
func Default() Document {
	p := Periods{Bodies: 90, Metadata: MinRecords, Records: MinRecords}
	return Document{Purposes: Purposes{p, p, p, p, p}, Ledger: MinRecords}
}

// Check gives everything that is wrong with the document at once.
func (d *Document) Check() error {
	var bad []*fault.Fault
	say := func(pointer, reason, format string, args ...any) {
		bad = append(bad, fault.Newf(fault.Invalid, reason, format, args...).At(pointer))
	}
	const floor = "is kept for at least six years (%d days): 45 CFR 164.316(b)(2)(i)."
	if d.Ledger < MinRecords {
		say("/ledger", "below_six_years", "The ledger "+floor, MinRecords)
	}
	if d.Ledger > maxDays {
		say("/ledger", "period_too_long", "A period has at most %d days.", maxDays)
	}
	if d.Answers < 0 || d.Answers > maxDays {
		say("/answers", "bad_period", "Answers are kept for 0 days, which stands for as long as the installation keeps them, to %d.", maxDays)
	}
	for _, purpose := range policy.Purposes() {
		p, at := d.Purposes.Of(purpose), "/purposes/"+string(purpose)
		if p.Records < MinRecords {
			say(at+"/records", "below_six_years", "The record of what was sent "+floor, MinRecords)
		}
		if p.Bodies < MinBodies {
			say(at+"/bodies", "period_too_short", "A body is kept for at least %d day.", MinBodies)
		}
		if p.Metadata < MinMetadata {
			say(at+"/metadata", "period_too_short", "Metadata is kept for at least %d days: reports to the sender need it so long.", MinMetadata)
		}
		if p.Bodies > p.Metadata || p.Metadata > p.Records || p.Records > d.Ledger && d.Ledger >= MinRecords {
			say(at, "periods_out_of_order", "Bodies go first, then metadata, then records, at last the ledger: no period can be longer than the next one.")
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return fault.Join(bad...)
}

// publishedFact is the clear part of retention.published.
type publishedFact struct {
	Version       int64    `json:"version"`
	Document      Document `json:"document"`
	JournalDomain string   `json:"journal_domain,omitempty"`
}

// Policy gives a version of what the organization says; 0 asks for the newest,
// and is what the default has.
func (s *Service) Policy(ctx context.Context, org id.ID, version int64) (p Policy, err error) {
	err = s.DB.Read(ctx, org, func(tx *db.Tx) error {
		p, err = s.policy(tx, version, true)
		return err
	})
	return p, err
}

// policy reads a version, with the archive's address or without: that needs
// the organization's key.
func (s *Service) policy(tx *db.Tx, version int64, journal bool) (p Policy, err error) {
	var text string
	var keyID id.ID
	var sealed []byte
	query, args := "ORDER BY version DESC LIMIT 1", []any{tx.Org()}
	if version > 0 {
		query, args = "AND version = ?", append(args, version)
	}
	err = tx.Row("SELECT version, document, key_id, journal_sealed FROM retain_policies WHERE org_id = ? "+query, args...).
		Scan(&p.Version, &text, &keyID, &sealed)
	switch {
	case errors.Is(err, sql.ErrNoRows) && version == 0:
		return Policy{Document: Default()}, nil
	case errors.Is(err, sql.ErrNoRows):
		return p, fault.New(fault.NotFound, "no_retention", "The organization has no retention of this version.")
	case err != nil:
		return p, err
	}
	if err := json.Unmarshal([]byte(text), &p.Document); err != nil {
		return p, errors.New("stored retention does not parse")
	}
	p.Document.raise()
	if !journal || len(sealed) == 0 {
		return p, nil
	}
	key, err := s.Custody.DataKey(tx, keyID)
	if err != nil {
		return p, err
	}
	address, err := key.Open(journalLabel, keyID, sealed)
	if err != nil {
		return p, err
	}
	p.Journal, err = mail.ParseAddress(string(address))
	return p, err
}

// Change publishes a new version: what change makes of the newest.
func (s *Service) Change(ctx context.Context, org id.ID, change func(*Policy) error) (p Policy, err error) {
	key, err := s.Custody.NewDataKey(org)
	if err != nil {
		return p, err
	}
	now := s.Clock.Now()
	err = s.DB.WriteAlone(ctx, org, func(tx *db.Tx) error {
		if _, err := lock(tx); err != nil {
			return err
		}
		if p, err = s.policy(tx, 0, true); err != nil {
			return err
		}
		if err := change(&p); err != nil {
			return err
		}
		if err := p.Check(); err != nil {
			return err
		}
		p.Version++
		text, err := json.Marshal(p.Document)
		if err != nil {
			return err
		}
		sealed := []byte{}
		if !p.Journal.IsZero() {
			sealed = key.Seal(journalLabel, key.ID, []byte(p.Journal.Reveal()))
		}
		if err := s.Custody.SaveDataKey(tx, key); err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO retain_policies (org_id, version, document, key_id, journal_sealed, created_at)
			VALUES (?, ?, ?, ?, ?, ?)`, org, p.Version, string(text), key.ID, sealed, clock.Micros(now)); err != nil {
			return fmt.Errorf("publish retention: %w", err)
		}
		return ledger.Append(tx, ledger.Fact{Type: ledger.RetentionPublished, At: now,
			Data: publishedFact{p.Version, p.Document, p.Journal.Domain()}})
	})
	return p, err
}

// Journal gives the organization's archive address, or zero.
func (s *Service) Journal(ctx context.Context, org id.ID) (mail.Address, error) {
	p, err := s.Policy(ctx, org, 0)
	return p.Journal, err
}

// raise brings what must be kept for six years up to them: a row that says
// less was not written by Change.
func (d *Document) raise() {
	d.Ledger = max(d.Ledger, MinRecords)
	for _, purpose := range policy.Purposes() {
		p := d.Purposes.Of(purpose)
		p.Records = max(p.Records, MinRecords)
	}
}

func days(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }
