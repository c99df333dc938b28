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

// importAtOnce is how many rows one statement writes.
const importAtOnce = 200

// Import adds every entry of a file, or none: what is wrong comes as a *BadFile
// with all of it. The file is read twice, so that it need not be held.
func (s *Service) Import(ctx context.Context, org id.ID, file io.ReadSeeker, by string) (done Imported, err error) {
	now := s.Clock.Now()
	if err := s.validate(org, file, now); err != nil {
		return done, err
	}
	err = s.DB.WriteAlone(ctx, org, func(tx *db.Tx) error {
		key, err := s.key(tx)
		if err != nil {
			return err
		}
		if done, err = s.importAll(tx, key, file, now); err != nil {
			return err
		}
		return ledger.Append(tx, ledger.Fact{Type: ledger.SuppressImported, At: now, Data: importedFact{done.Rows, done.Added, by}})
	})
	s.remember(org, memo{at: now, any: true})
	return done, err
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

func (s *Service) importAll(tx *db.Tx, key *custody.DataKey, file io.ReadSeeker, now time.Time) (done Imported, err error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return done, err
	}
	rs, err := newRecords(file, tx.Org(), now)
	if err != nil {
		return done, err
	}
	var page []row
	seen := map[string]bool{} // in the page: one statement must not meet a row twice
	flush := func() error {
		n, err := insertAll(tx, page, now)
		done.Added += int(n)
		page = page[:0]
		clear(seen)
		return err
	}
	for {
		e, ok, err := rs.next()
		if errors.Is(err, io.EOF) {
			return done, flush()
		}
		if err == nil && !ok {
			err = rs.wrong // the file has changed meanwhile
		}
		if err != nil {
			return done, err
		}
		r, err := s.seal(key, e)
		if err != nil {
			return done, err
		}
		done.Rows++
		if name := string(r.mac) + string(e.Scope); !seen[name] {
			seen[name] = true
			page = append(page, r)
		}
		if len(page) == importAtOnce {
			if err := flush(); err != nil {
				return done, err
			}
		}
	}
}

// insertAll writes entries where there are none of their scope that last.
func insertAll(tx *db.Tx, page []row, now time.Time) (int64, error) {
	if len(page) == 0 {
		return 0, nil
	}
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
