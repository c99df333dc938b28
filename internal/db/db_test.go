package db_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
)

func insertRun(tx *db.Tx, i id.ID, node string) error {
	_, err := tx.Exec("INSERT INTO deliver_runs (id, node, heartbeat_at) VALUES (?, ?, ?)", i, node, 1)
	return err
}

func count(t *testing.T, d *db.DB) (n int) {
	t.Helper()
	if err := d.Read(context.Background(), db.System, func(tx *db.Tx) error {
		return tx.Row("SELECT count(*) FROM deliver_runs").Scan(&n)
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOneBadWriteFailsAlone(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ctx := context.Background()
		taken := id.New()
		if err := d.Write(ctx, db.System, func(tx *db.Tx) error { return insertRun(tx, taken, "first") }); err != nil {
			t.Fatal(err)
		}
		boom := errors.New("boom")
		var wg sync.WaitGroup
		errs := make([]error, 90)
		for i := range errs {
			wg.Go(func() {
				errs[i] = d.Write(ctx, db.System, func(tx *db.Tx) error {
					switch i % 3 {
					case 0:
						return insertRun(tx, taken, "again") // violates the key
					case 1:
						if err := insertRun(tx, id.New(), "half"); err != nil {
							return err
						}
						return boom // after having written
					}
					return insertRun(tx, id.New(), "good")
				})
			})
		}
		wg.Wait()
		for i, err := range errs {
			if good := i%3 == 2; good != (err == nil) {
				t.Errorf("write %d: %v", i, err)
			}
			if i%3 == 1 && !errors.Is(err, boom) {
				t.Errorf("write %d lost its own error: %v", i, err)
			}
		}
		if got := count(t, d); got != 1+30 {
			t.Errorf("%d rows, want 31: a failed write left something behind", got)
		}
	})
}

// A deferred constraint fails in the commit itself, after every statement of
// the write went well.
func TestAWriteIsNotAcknowledgedBeforeItsCommit(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ctx := context.Background()
		if err := d.WriteAlone(ctx, db.System, func(tx *db.Tx) error {
			if _, err := tx.Exec("CREATE TABLE parents (id BIGINT PRIMARY KEY)"); err != nil {
				return err
			}
			_, err := tx.Exec("CREATE TABLE children (parent BIGINT NOT NULL REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		orphan := func(tx *db.Tx) error {
			_, err := tx.Exec("INSERT INTO children (parent) VALUES (?)", 7)
			return err
		}
		if err := d.WriteAlone(ctx, db.System, orphan); err == nil {
			t.Error("WriteAlone acknowledged what was not committed")
		}
		var wg sync.WaitGroup
		errs := make([]error, 60)
		for i := range errs {
			wg.Go(func() {
				errs[i] = d.Write(ctx, db.System, func(tx *db.Tx) error {
					if i%3 == 0 {
						return orphan(tx)
					}
					return insertRun(tx, id.New(), "good")
				})
			})
		}
		wg.Wait()
		for i, err := range errs {
			if bad := i%3 == 0; bad != (err != nil) {
				t.Errorf("write %d: %v", i, err)
			}
		}
		if got := count(t, d); got != 40 {
			t.Errorf("%d rows, want the 40 that were acknowledged", got)
		}
	})
}

func TestACallerWhoLeavesDoesNotCancel(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ctx, leave := context.WithCancel(context.Background())
		running, finish, done := make(chan bool), make(chan bool), make(chan error)
		go func() {
			done <- d.Write(ctx, db.System, func(tx *db.Tx) error {
				running <- true
				<-finish
				return insertRun(tx, id.New(), "kept")
			})
		}()
		<-running
		leave()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Fatalf("Write = %v, want canceled", err)
		}
		close(finish)
		if err := d.WriteAlone(context.Background(), db.System, func(tx *db.Tx) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil { // waits for what is under way
			t.Fatal(err)
		}
	})
}

func TestNobodyElseReadsTheFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d, err := db.Open(context.Background(), db.Options{Path: filepath.Join(dir, "x.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < 3 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has the mode %v, %v", f.Name(), info.Mode(), err)
		}
	}
}

func TestAFullDiskIsUnavailableAndLosesNothing(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "x.db")
	d, err := db.Open(ctx, db.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if d, err = db.Open(ctx, db.Options{Path: path, MaxPages: 80}); err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	stored, full := 0, false
	for i := range 500 {
		err := d.Write(ctx, db.System, func(tx *db.Tx) error {
			return insertRun(tx, id.New(), fmt.Sprintf("%0*d", 2000, i))
		})
		if err == nil {
			stored++
			continue
		}
		full = true
		if !fault.Is(err, fault.Unavailable) {
			t.Fatalf("full disk gives %v", err)
		}
		break
	}
	if !full {
		t.Fatal("the disk never filled")
	}
	if got := count(t, d); got != stored {
		t.Fatalf("%d rows, want %d", got, stored)
	}
}

func TestUnsafePostgresIsRefused(t *testing.T) {
	p, err := dbtest.NewPostgres()
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(p.Dir)
	for _, setting := range []string{"fsync=off", "synchronous_commit=off"} {
		if err := p.Start(setting); err != nil {
			t.Fatal(err)
		}
		d, err := db.Open(context.Background(), db.Options{URL: p.URL("postgres")})
		if err == nil {
			d.Close()
			t.Errorf("opened with %s", setting)
		} else if f := fault.From(err); f.Reason != "unsafe_database" {
			t.Errorf("%s: %v", setting, err)
		}
		if err := p.Stop("fast"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSchemaIsChecked(t *testing.T) {
	ctx := context.Background()
	for _, o := range []db.Options{{Path: filepath.Join(t.TempDir(), "x.db")}, {URL: dbtest.PostgresURL(t)}} {
		d, err := db.Open(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		if f := fault.From(d.CheckSchema(ctx)); f.Reason != "schema_behind" {
			t.Errorf("%v: empty database: %v", d.Dialect, f)
		}
		if _, err := d.Migrate(ctx); err != nil {
			t.Fatal(err)
		}
		if err := d.CheckSchema(ctx); err != nil {
			t.Errorf("%v: %v", d.Dialect, err)
		}
		if n, err := d.Migrate(ctx); n != 0 || err != nil {
			t.Errorf("%v: a second Migrate did %d, %v", d.Dialect, n, err)
		}
		d.Close()
	}
}

func TestWriteAfterCloseIsRefused(t *testing.T) {
	d := dbtest.SQLite(t)
	d.Close()
	err := d.Write(context.Background(), db.System, func(*db.Tx) error { return nil })
	if !fault.Is(err, fault.Unavailable) {
		t.Fatalf("Write after Close = %v", err)
	}
}

func TestPostgresKnowsTheOrganization(t *testing.T) {
	ctx := context.Background()
	d, err := db.Open(ctx, db.Options{URL: dbtest.PostgresURL(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			org := id.New()
			for _, run := range []func(context.Context, id.ID, func(*db.Tx) error) error{d.Write, d.Read} {
				if err := run(ctx, org, func(tx *db.Tx) error {
					var got string
					if err := tx.Row("SELECT current_setting('app.org')").Scan(&got); err != nil {
						return err
					}
					if got != org.Text(id.Org) || tx.Org() != org {
						return fmt.Errorf("app.org = %q", got)
					}
					return nil
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// TestAReadOnlyServerIsUnavailable, as a standby is, and one whose service has
// no disk left for it.
func TestAReadOnlyServerIsUnavailable(t *testing.T) {
	err := dbtest.PostgreSQL(t).WriteAlone(context.Background(), db.System, func(tx *db.Tx) error {
		if _, err := tx.Exec("SET TRANSACTION READ ONLY"); err != nil {
			return err
		}
		return insertRun(tx, id.New(), "x")
	})
	if !fault.Is(err, fault.Unavailable) {
		t.Errorf("it gives %v", err)
	}
}
