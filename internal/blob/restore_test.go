package blob_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sealpost/sealpost/internal/blob"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/custody/custodytest"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/id"
)

// row is what a backup keeps of one row: every column as bytes.
type row [][]byte

var tables = map[string]string{ // columns; those named n and version are numbers
	"custody_data_keys": "id, org_id, wrapped, org_key_version",
	"blob_chunks":       "blob_id, org_id, data, n",
}

func dump(t testing.TB, d *db.DB, table string) (out []row) {
	t.Helper()
	if err := d.Read(context.Background(), db.System, func(tx *db.Tx) error {
		rows, err := tx.Query("SELECT " + tables[table] + " FROM " + table + " ORDER BY 1, 4")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var a, b, c []byte
			var n byte
			if err := rows.Scan(&a, &b, &c, &n); err != nil {
				return err
			}
			out = append(out, row{a, b, c, {n}})
		}
		return rows.Err()
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func chunks(t testing.TB, d *db.DB) []row { return dump(t, d, "blob_chunks") }

// backUpAndRestore gives a function that brings the rows as they are now into
// a new PostgreSQL database.
func backUpPostgres(t *testing.T, d *db.DB) (restore func() *db.DB) {
	kept := map[string][]row{}
	for table := range tables {
		kept[table] = dump(t, d, table)
	}
	return func() *db.DB {
		fresh, err := db.Open(context.Background(), db.Options{URL: dbtest.PostgresURL(t)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = fresh.Close() })
		if _, err := fresh.Migrate(context.Background()); err != nil {
			t.Fatal(err)
		}
		for table, columns := range tables {
			if err := fresh.Write(context.Background(), db.System, func(tx *db.Tx) error {
				for _, r := range kept[table] {
					if _, err := tx.Exec("INSERT INTO "+table+" ("+columns+") VALUES (?, ?, ?, ?)", r[0], r[1], r[2], int64(r[3][0])); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		return fresh
	}
}

func openSQLite(t *testing.T, path string) *db.DB {
	d, err := db.Open(context.Background(), db.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	if _, err := d.Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return d
}

// A database is backed up, organization A destroyed, and the backup restored
// beside today's key store: A cannot be read by anybody, B can.
func TestDestructionOutlivesARestore(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "sealpost.db")
		destroyAndRestore(t, openSQLite(t, path), func(d *db.DB) func() *db.DB {
			if err := d.Close(); err != nil { // a cold backup: the file is whole
				t.Fatal(err)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			return func() *db.DB {
				restored := filepath.Join(t.TempDir(), "restored.db")
				if err := os.WriteFile(restored, data, 0o600); err != nil {
					t.Fatal(err)
				}
				return openSQLite(t, restored)
			}
		}, func() *db.DB { return openSQLite(t, path) })
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		d, err := db.Open(context.Background(), db.Options{URL: dbtest.PostgresURL(t)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.Close() })
		if _, err := d.Migrate(context.Background()); err != nil {
			t.Fatal(err)
		}
		destroyAndRestore(t, d, func(d *db.DB) func() *db.DB { return backUpPostgres(t, d) }, func() *db.DB { return d })
	})
}

func destroyAndRestore(t *testing.T, d *db.DB, backUp func(*db.DB) func() *db.DB, reopen func() *db.DB) {
	dir, temp := t.TempDir(), t.TempDir()
	if _, err := custody.InitMaster(filepath.Join(dir, "master.key")); err != nil {
		t.Fatal(err)
	}
	at := func(d *db.DB) *house { return &house{d: d, c: custodytest.Open(t, d, dir), s: blob.New(d, temp)} }
	h := at(d)
	text := noise(2*chunk + 9)
	var bodies [2]body
	for i := range bodies {
		org := id.New()
		if err := h.c.CreateOrg(org); err != nil {
			t.Fatal(err)
		}
		var err error
		if bodies[i], err = h.save(org, bytes.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	restore := backUp(d)
	h = at(reopen())
	if _, err := h.c.DestroyOrg(bodies[0].org); err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]*house{"the same process": h, "the restored backup": at(restore())} {
		if _, err := h.read(bodies[0]); !errors.Is(err, custody.ErrDestroyed) {
			t.Errorf("%s reads the destroyed organization: %v", name, err)
		}
		if got, err := h.read(bodies[1]); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s: the other organization: %v", name, err)
		}
	}
}
