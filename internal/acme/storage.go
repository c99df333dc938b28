package acme

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"database/sql"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
)

// valueLabel binds a value to its row for ever.
const valueLabel = "acme.value.v1"

const (
	maxValue = 256 << 10
	maxPath  = 600 // a name twice, and the authority's
)

// errNotStored is what certmagic and we ourselves expect of a missing value.
var errNotStored = fs.ErrNotExist

// storage is certmagic.Storage in the database: paths in clear, values sealed,
// and locks as rows with a lease. It belongs to the installation.
type storage struct {
	Deps
	mu     sync.Mutex
	leases map[string]*lease // of this process, by name
	work   sync.WaitGroup    // one for each lease
}

func newStorage(d Deps) *storage { return &storage{Deps: d, leases: map[string]*lease{}} }

// Store keeps a value. A certificate that was not known before is a ledger
// entry.
func (s *storage) Store(ctx context.Context, at string, value []byte) error {
	if len(value) > maxValue || len(at) > maxPath {
		return fault.New(fault.Invalid, "acme_value_too_large", "A value of a certificate authority is larger than is kept.")
	}
	fresh, err := s.Custody.NewDataKey(db.System)
	if err != nil {
		return err
	}
	row := id.New()
	return s.DB.Write(ctx, db.System, func(tx *db.Tx) error {
		now := s.Clock.Now()
		n, err := tx.Exec(`INSERT INTO acme_values (org_id, path, id, key_id, value_sealed, size, stored_at) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (org_id, path) DO NOTHING`,
			db.System, at, row, fresh.ID, fresh.Seal(valueLabel, row, value), int64(len(value)), clock.Micros(now))
		if err != nil {
			return err
		}
		var before []byte
		if n == 1 {
			err = s.Custody.SaveDataKey(tx, fresh)
		} else {
			before, err = s.replace(tx, at, value, now)
		}
		if err != nil {
			return err
		}
		return tell(tx, at, before, value, now)
	})
}

// replace puts a value in the place of another one, under the same data key.
func (s *storage) replace(tx *db.Tx, at string, value []byte, now time.Time) (before []byte, err error) {
	before, row, key, err := s.open(tx, at)
	if err != nil {
		return nil, err
	}
	_, err = tx.Exec("UPDATE acme_values SET value_sealed = ?, size = ?, stored_at = ? WHERE org_id = ? AND path = ?",
		key.Seal(valueLabel, row, value), int64(len(value)), clock.Micros(now), db.System, at)
	return before, err
}

func (s *storage) open(tx *db.Tx, at string) (value []byte, row id.ID, key *custody.DataKey, err error) {
	var keyID id.ID
	var box []byte
	err = tx.Row("SELECT id, key_id, value_sealed FROM acme_values WHERE org_id = ? AND path = ?", db.System, at).Scan(&row, &keyID, &box)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, row, nil, errNotStored
	}
	if err != nil {
		return nil, row, nil, err
	}
	if key, err = s.Custody.DataKey(tx, keyID); err != nil {
		return nil, row, nil, err
	}
	value, err = key.Open(valueLabel, row, box)
	return value, row, key, err
}

// certificateFact is the clear part of a new certificate's ledger entry. TLSA
// is what a record 3 1 1 of the key says.
type certificateFact struct {
	Host   string `json:"host"`
	Issuer string `json:"issuer"`
	Serial string `json:"serial"`
	Ends   string `json:"ends"`
	TLSA   string `json:"tlsa"`
}

func tell(tx *db.Tx, at string, before, value []byte, now time.Time) error {
	if !strings.HasSuffix(at, ".crt") || string(before) == string(value) {
		return nil
	}
	leaf, _, err := readChain(value)
	if err != nil {
		return err
	}
	key := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return ledger.Append(tx, ledger.Fact{Type: ledger.CertificateObtained, At: now, Data: certificateFact{
		Host: path.Base(path.Dir(at)), Issuer: leaf.Issuer.String(), Serial: leaf.SerialNumber.Text(16),
		Ends: leaf.NotAfter.UTC().Format(time.RFC3339), TLSA: hex.EncodeToString(key[:]),
	}})
}

func readChain(text []byte) (leaf *x509.Certificate, rest []*x509.Certificate, err error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, fmt.Errorf("a certificate of an authority cannot be read: %w", err)
		}
		if leaf == nil {
			leaf = c
		} else {
			rest = append(rest, c)
		}
	}
	if leaf == nil {
		return nil, nil, errors.New("an authority gave no certificate")
	}
	return leaf, rest, nil
}

// Load gives a value.
func (s *storage) Load(ctx context.Context, at string) (value []byte, err error) {
	err = s.DB.Read(ctx, db.System, func(tx *db.Tx) error {
		value, _, _, err = s.open(tx, at)
		return err
	})
	return value, err
}

// below chooses a path and everything under it. LIKE would take the _ of a
// name for any letter.
const below = "org_id = ? AND (path = ? OR substr(path, 1, ?) = ?)"

func under(at string) []any {
	if at == "" {
		return []any{db.System, "", 0, ""}
	}
	return []any{db.System, at, len(at) + 1, at + "/"}
}

// Delete removes a value, or all below a folder, with their keys.
func (s *storage) Delete(ctx context.Context, at string) error {
	return s.DB.Write(ctx, db.System, func(tx *db.Tx) error {
		keys, err := db.All(tx, db.Value[id.ID], "SELECT key_id FROM acme_values WHERE "+below, under(at)...)
		if err != nil {
			return err
		}
		for _, key := range keys {
			if err := s.Custody.DestroyDataKey(tx, key); err != nil {
				return err
			}
		}
		_, err = tx.Exec("DELETE FROM acme_values WHERE "+below, under(at)...)
		return err
	})
}

// Exists reports whether there is a value or a folder.
func (s *storage) Exists(ctx context.Context, at string) bool {
	_, err := s.Stat(ctx, at)
	return err == nil
}

// List gives what lies directly in a folder, or everything below it, folders
// included.
func (s *storage) List(ctx context.Context, at string, recursive bool) ([]string, error) {
	var paths []string
	if err := s.DB.Read(ctx, db.System, func(tx *db.Tx) (err error) {
		paths, err = db.All(tx, db.Value[string], "SELECT path FROM acme_values WHERE "+below+" ORDER BY path", under(at)...)
		return err
	}); err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, errNotStored
	}
	var list []string
	seen := map[string]bool{}
	for _, p := range paths {
		rest := strings.TrimPrefix(strings.TrimPrefix(p, at), "/")
		if rest == "" { // the value itself
			continue
		}
		parts := strings.Split(rest, "/")
		for i := range parts {
			one := path.Join(at, path.Join(parts[:i+1]...))
			if !seen[one] && (recursive || i == 0) {
				seen[one], list = true, append(list, one)
			}
		}
	}
	return list, nil
}

// Stat tells of a value or a folder.
func (s *storage) Stat(ctx context.Context, at string) (certmagic.KeyInfo, error) {
	info := certmagic.KeyInfo{Key: at}
	var stored int64
	err := s.DB.Read(ctx, db.System, func(tx *db.Tx) error {
		err := tx.Row("SELECT size, stored_at FROM acme_values WHERE org_id = ? AND path = ?", db.System, at).Scan(&info.Size, &stored)
		if err == nil {
			info.IsTerminal, info.Modified = true, clock.FromMicros(stored)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		var n int64
		if err := tx.Row("SELECT count(*) FROM acme_values WHERE "+below, under(at)...).Scan(&n); err != nil {
			return err
		}
		if n == 0 {
			return errNotStored
		}
		return nil
	})
	return info, err
}
