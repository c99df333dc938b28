// Package dbtest runs a test on both databases: a fresh SQLite file, and a
// fresh database in a PostgreSQL server that it starts in a temporary folder
// under an unprivileged user.
package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
)

// Each runs fn once per engine, each time on an empty, migrated database.
func Each(t *testing.T, fn func(t *testing.T, d *db.DB)) {
	t.Run("SQLite", func(t *testing.T) { fn(t, SQLite(t)) })
	t.Run("PostgreSQL", func(t *testing.T) { fn(t, PostgreSQL(t)) })
}

// SQLite gives an empty, migrated SQLite database.
func SQLite(t testing.TB) *db.DB {
	return open(t, db.Options{Path: filepath.Join(t.TempDir(), "sealpost.db")})
}

// PostgreSQL gives an empty, migrated PostgreSQL database.
func PostgreSQL(t testing.TB) *db.DB {
	return open(t, db.Options{URL: PostgresURL(t)})
}

func open(t testing.TB, o db.Options) *db.DB {
	t.Helper()
	ctx := context.Background()
	d, err := db.Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	if _, err := d.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	return d
}

// PostgresURL gives the DSN of a new, empty database. The server is one per
// test process; TEST_POSTGRES names one that is already running.
func PostgresURL(t testing.TB) string {
	t.Helper()
	base := os.Getenv("TEST_POSTGRES")
	if base == "" {
		s, err := shared()
		if err != nil {
			t.Fatalf("start PostgreSQL: %v", err)
		}
		base = s.URL("postgres")
	}
	name := "t" + strings.ReplaceAll(id.New().Text("x"), "_", "")
	admin, err := sql.Open("pgx", base)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := admin.Exec("CREATE DATABASE " + name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		admin, err := sql.Open("pgx", base)
		if err != nil {
			return
		}
		defer admin.Close()
		_, _ = admin.Exec(fmt.Sprintf("DROP DATABASE IF EXISTS %s WITH (FORCE)", name))
	})
	return strings.Replace(base, "/postgres?", "/"+name+"?", 1)
}

// PostgresDir is the folder with everything the shared server has on disk.
func PostgresDir(t testing.TB) string {
	t.Helper()
	s, err := shared()
	if err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
	return s.Dir
}

// Explain gives the engine's plan for a statement. On PostgreSQL it is the one
// of a table that is too large to be read whole, for here tables are empty.
func Explain(t testing.TB, d *db.DB, query string, args ...any) string {
	t.Helper()
	var plan strings.Builder
	if err := d.WriteAlone(context.Background(), db.System, func(tx *db.Tx) error {
		plan.Reset()
		if d.Dialect == db.PostgreSQL {
			if _, err := tx.Exec("SET LOCAL enable_seqscan = off"); err != nil {
				return err
			}
		}
		rows, err := tx.Query(tx.Pick("EXPLAIN QUERY PLAN "+query, "EXPLAIN (FORMAT JSON) "+query), args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var text string
			into := []any{&text}
			if d.Dialect == db.SQLite {
				into = []any{new(any), new(any), new(any), &text}
			}
			if err := rows.Scan(into...); err != nil {
				return err
			}
			plan.WriteString(text + "\n")
		}
		return rows.Err()
	}); err != nil {
		t.Fatal(err)
	}
	return plan.String()
}
