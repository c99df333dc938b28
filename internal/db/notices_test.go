package db

import (
	"context"
	"path/filepath"
	"testing"
)

// TestNoticesSurviveTheirNewTable: notices under way when migration 10 makes
// their table anew are there afterwards, each once, and so is what kept a
// notice from being posted twice.
func TestNoticesSurviveTheirNewTable(t *testing.T) {
	ctx := context.Background()
	file := Options{Path: filepath.Join(t.TempDir(), "sealpost.db")}
	d, err := Open(ctx, file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	p, err := d.provider()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(ctx, 9); err != nil {
		t.Fatal(err)
	}
	const insert = `INSERT INTO spool_notices (id, org_id, kind, message_id, delivery_id, once, key_id, sealed, domain, state, owner, attempts, next_at, expires_at, created_at)
		VALUES (?, x'00', ?, x'01', x'02', ?, x'03', x'04', 'a.example', 'deferred', x'05', 3, 7, 8, 6)`
	write := func(args ...any) error {
		return d.WriteAlone(ctx, System, func(tx *Tx) error {
			_, err := tx.Exec(insert, args...)
			return err
		})
	}
	if err := write([]byte{1}, "dsn", "first"); err != nil {
		t.Fatal(err)
	}
	if err := write([]byte{2}, "tlsrpt", "early"); err == nil {
		t.Fatal("the schema before knows the new kind")
	}
	// A server migrates before it writes.
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if d, err = Open(ctx, file); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	var n, sum int
	if err := d.Read(ctx, System, func(tx *Tx) error {
		return tx.Row(`SELECT count(*), sum(attempts + next_at + expires_at + created_at) FROM spool_notices
			WHERE id = x'01' AND kind = 'dsn' AND once = 'first' AND sealed = x'04' AND owner = x'05' AND state = 'deferred'`).Scan(&n, &sum)
	}); err != nil || n != 1 || sum != 24 {
		t.Errorf("%d notices, %d, %v", n, sum, err)
	}
	if err := write([]byte{3}, "dsn", "first"); err == nil {
		t.Error("the same notice was posted twice")
	}
	if err := write([]byte{4}, "tlsrpt", "second"); err != nil {
		t.Error(err)
	}
	if err := write([]byte{5}, "other", "third"); err == nil {
		t.Error("any kind is taken")
	}
}
