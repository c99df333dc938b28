package zone

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/private"
)

const (
	checkEvery = 24 * time.Hour
	atOnce     = 4 // domains
)

// verdictFact is the clear part of a changed verdict's ledger entry.
type verdictFact struct {
	Domain  string   `json:"domain"`
	State   State    `json:"state"`
	Failing []string `json:"failing,omitempty"`
}

// Keep stores a report, and tells the ledger when the verdict is another one
// than before. One that knows not all is not kept.
func (s *Service) Keep(ctx context.Context, org id.ID, r Report) error {
	if r.unknown() {
		return nil
	}
	document, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return s.DB.WriteAlone(ctx, org, func(tx *db.Tx) error {
		before, err := stored(tx, r.Domain)
		if err != nil {
			return err
		}
		at := clock.Micros(r.CheckedAt)
		if _, err := tx.Exec(`INSERT INTO zone_verdicts (org_id, domain, state, document, checked_at, changed_at) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (org_id, domain) DO UPDATE SET state = excluded.state, document = excluded.document, checked_at = excluded.checked_at,
				changed_at = CASE WHEN ? = 1 THEN excluded.changed_at ELSE zone_verdicts.changed_at END`,
			org, r.Domain, string(r.State), string(document), at, at, flag(changed(before, r))); err != nil || !changed(before, r) {
			return err
		}
		return ledger.Append(tx, ledger.Fact{Type: ledger.ZoneChanged, At: r.CheckedAt, Data: verdictFact{r.Domain, r.State, r.failing()}})
	})
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

func changed(before *Report, r Report) bool {
	return before == nil || before.State != r.State || !slices.Equal(before.failing(), r.failing())
}

// stored gives the last report of a domain, or nil.
func stored(tx *db.Tx, domain string) (*Report, error) {
	var document string
	err := tx.Row("SELECT document FROM zone_verdicts WHERE org_id = ? AND domain = ?", tx.Org(), domain).Scan(&document)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r := &Report{}
	return r, json.Unmarshal([]byte(document), r)
}

// Stored gives the last reports of an organization's domains.
func (s *Service) Stored(ctx context.Context, org id.ID) (all []Report, err error) {
	err = s.DB.Read(ctx, org, func(tx *db.Tx) error {
		all, err = db.All(tx, func(row db.Row) (r Report, err error) {
			var document []byte
			if err = row.Scan(&document); err == nil {
				err = json.Unmarshal(document, &r)
			}
			return r, err
		}, "SELECT document FROM zone_verdicts WHERE org_id = ? ORDER BY domain", org)
		return err
	})
	return all, err
}

// Count counts the domains of all organizations by their verdict, for a gauge.
func Count(tx *db.Tx) (map[State]int, error) {
	n := map[State]int{Good: 0, Warning: 0, Bad: 0}
	states, err := db.All(tx, db.Value[string], "SELECT state FROM zone_verdicts")
	for _, s := range states {
		n[State(s)]++
	}
	return n, err
}

// CheckDue is a periodic task. It checks each verified domain once a day and
// keeps what it found. What fails for one domain does not stop the others.
func (s *Service) CheckDue(ctx context.Context) error {
	orgs, err := s.Accounts.Orgs(ctx)
	if err != nil {
		return err
	}
	var failed error
	for _, o := range orgs {
		if !o.DestroyedAt.IsZero() {
			continue
		}
		due, err := s.due(ctx, o.ID)
		if err == nil {
			err = s.checkAll(ctx, o.ID, due)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

// due gives an organization's verified domains that were not checked lately,
// and forgets those that are not its own any more.
func (s *Service) due(ctx context.Context, org id.ID) (due []string, err error) {
	domains, err := s.Accounts.Domains(ctx, org)
	if err != nil {
		return nil, err
	}
	lately := map[string]bool{}
	err = s.DB.Write(ctx, org, func(tx *db.Tx) error {
		clear(lately)
		type row struct {
			domain  string
			checked int64
		}
		rows, err := db.All(tx, func(r db.Row) (w row, err error) {
			err = r.Scan(&w.domain, &w.checked)
			return w, err
		}, "SELECT domain, checked_at FROM zone_verdicts WHERE org_id = ?", org)
		if err != nil {
			return err
		}
		for _, r := range rows {
			ours := slices.ContainsFunc(domains, func(d account.Domain) bool { return d.Name == r.domain && !d.VerifiedAt.IsZero() })
			if !ours {
				if _, err := tx.Exec("DELETE FROM zone_verdicts WHERE org_id = ? AND domain = ?", org, r.domain); err != nil {
					return err
				}
			}
			lately[r.domain] = s.Clock.Now().Before(clock.FromMicros(r.checked).Add(checkEvery))
		}
		return nil
	})
	for _, d := range domains {
		if !d.VerifiedAt.IsZero() && !lately[d.Name] {
			due = append(due, d.Name)
		}
	}
	return due, err
}

func (s *Service) checkAll(ctx context.Context, org id.ID, domains []string) error {
	errs := make([]error, len(domains))
	turns := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, domain := range domains {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			defer private.Recover(&errs[i])
			r, err := s.Check(ctx, org, domain)
			if err == nil {
				err = s.Keep(ctx, org, r)
			}
			errs[i] = err
		})
	}
	all.Wait()
	return errors.Join(errs...)
}
