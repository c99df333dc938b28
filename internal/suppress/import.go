package suppress

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
)

// Imported is what became of a file.
type Imported struct {
	Rows  int `json:"rows"`
	Added int `json:"added"` // the others were there already
}

// importedFact is the clear part of suppress.imported.
type importedFact struct {
	Rows  int    `json:"rows"`
	Added int    `json:"added"`
	By    string `json:"by"`
}

const (
	importAtOnce = 200   // rows that one statement writes
	importPage   = 5_000 // rows that one transaction writes: others wait for it
)

// Import adds every entry of a file; when a line is wrong it adds none, and all
// mistakes come as a *BadFile. The file is read twice, so that it need not be
// held. It is written page by page, each with its ledger entry; if the database
// fails midway, what is there stays, and importing the file again adds the rest.
func (s *Service) Import(ctx context.Context, org id.ID, file io.ReadSeeker, by string) (done Imported, err error) {
	now := s.Clock.Now()
	if err := s.validate(org, file, now); err != nil {
		return done, err
	}
	var key *custody.DataKey
	if err := s.DB.Write(ctx, org, func(tx *db.Tx) (err error) {
		key, err = s.key(tx)
		return err
	}); err != nil {
		return done, err
	}
	s.remember(org, memo{at: now, any: true})
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return done, err
	}
	rs, err := newRecords(file, org, now)
	if err != nil {
		return done, err
	}
	for more := true; more && err == nil; {
		var page []row
		if page, more, err = s.page(rs, key); err == nil {
			err = s.savePage(ctx, org, page, now, by, &done)
		}
	}
	return done, err
}

// page reads some entries.
func (s *Service) page(rs *records, key *custody.DataKey) (page []row, more bool, err error) {
	for len(page) < importPage {
		e, ok, err := rs.next()
		switch {
		case errors.Is(err, io.EOF):
			return page, false, nil
		case err != nil:
			return nil, false, err
		case !ok: // the file has changed meanwhile
			return nil, false, rs.wrong
		}
		r, err := s.seal(key, e)
		if err != nil {
			return nil, false, err
		}
		page = append(page, r)
	}
	return page, true, nil
}

func (s *Service) savePage(ctx context.Context, org id.ID, page []row, now time.Time, by string, done *Imported) error {
	if len(page) == 0 {
		return nil
	}
	added := 0
	if err := s.DB.WriteAlone(ctx, org, func(tx *db.Tx) error {
		added = 0
		for from := 0; from < len(page); from += importAtOnce {
			n, err := insertAll(tx, distinct(page[from:min(from+importAtOnce, len(page))]), now)
			if err != nil {
				return err
			}
			added += int(n)
		}
		return ledger.Append(tx, ledger.Fact{Type: ledger.SuppressImported, At: now, Data: importedFact{len(page), added, by}})
	}); err != nil {
		return err
	}
	done.Rows += len(page)
	done.Added += added
	return nil
}

// distinct leaves out what comes twice: one statement must not meet a row
// twice.
func distinct(rows []row) []row {
	seen := map[string]bool{}
	var out []row
	for _, r := range rows {
		if name := string(r.mac) + string(r.Scope); !seen[name] {
			seen[name] = true
			out = append(out, r)
		}
	}
	return out
}

// validate reads the whole file and keeps nothing of it.
func (s *Service) validate(org id.ID, file io.ReadSeeker, now time.Time) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	rs, err := newRecords(file, org, now)
	if err != nil {
		return err
	}
	for {
		_, _, err := rs.next()
		switch {
		case errors.Is(err, io.EOF) && rs.wrong.Total > 0:
			return rs.wrong
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// insertAll writes entries where there are none of their scope that last.
func insertAll(tx *db.Tx, page []row, now time.Time) (int64, error) {
	const one = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
	var args []any
	for _, r := range page {
		var expires any
		if !r.ExpiresAt.IsZero() {
			expires = clock.Micros(r.ExpiresAt)
		}
		args = append(args, r.ID, tx.Org(), r.mac, r.Address.Domain(), string(r.Scope), string(r.Reason), r.key.ID, r.sealed, r.Delivery,
			clock.Micros(r.CreatedAt), expires)
	}
	return tx.Exec(`INSERT INTO suppress_entries
		(id, org_id, address_hmac, domain, scope, reason, key_id, sealed, delivery_id, created_at, expires_at)
		VALUES `+one+strings.Repeat(", "+one, len(page)-1)+` ON CONFLICT (org_id, address_hmac, scope) DO UPDATE SET
		id = excluded.id, domain = excluded.domain, reason = excluded.reason, key_id = excluded.key_id, sealed = excluded.sealed,
		delivery_id = excluded.delivery_id, created_at = excluded.created_at, expires_at = excluded.expires_at
		WHERE suppress_entries.expires_at <= ?`, append(args, clock.Micros(now))...)
}
