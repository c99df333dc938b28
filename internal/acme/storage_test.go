package acme

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/custody/custodytest"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
)

var (
	_ certmagic.Storage   = (*storage)(nil)
	_ certmagic.TryLocker = (*storage)(nil)
)

// node gives the storage of one node on a database.
func node(t *testing.T, d *db.DB, keys *custody.Custody) *storage {
	t.Helper()
	s := newStorage(Deps{DB: d, Custody: keys, Clock: clock.System{}, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() {
		for name := range s.leases {
			_ = s.Unlock(context.Background(), name)
		}
		s.wait()
	})
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestStorage is what certmagic asks of a storage, with two nodes on one
// database.
func TestStorage(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		keys := custodytest.New(t, d)
		a, b := node(t, d, keys), node(t, d, keys)
		ctx := t.Context()
		for _, p := range []string{"certs/ca/a_b.example/a_b.example.key", "certs/ca/axb.example/axb.example.key", "certs/ca/a_b.example/x.json", "other"} {
			must(t, a.Store(ctx, p, []byte("of "+p)))
		}
		if got, err := b.Load(ctx, "certs/ca/axb.example/axb.example.key"); err != nil || string(got) != "of certs/ca/axb.example/axb.example.key" {
			t.Errorf("%q, %v", got, err)
		}
		must(t, b.Store(ctx, "other", []byte("second")))
		if got, err := a.Load(ctx, "other"); err != nil || string(got) != "second" {
			t.Errorf("what another node stored over it: %q, %v", got, err)
		}
		if info, err := b.Stat(ctx, "other"); err != nil || !info.IsTerminal || info.Size != 6 || time.Since(info.Modified) > time.Minute {
			t.Errorf("%+v, %v", info, err)
		}
		if info, err := b.Stat(ctx, "certs/ca"); err != nil || info.IsTerminal {
			t.Errorf("a folder: %+v, %v", info, err)
		}
		for _, tc := range []struct {
			at        string
			recursive bool
			want      string
		}{
			{"certs", false, "certs/ca"},
			{"certs/ca", false, "certs/ca/a_b.example certs/ca/axb.example"},
			{"certs/ca/a_b.example", false, "certs/ca/a_b.example/a_b.example.key certs/ca/a_b.example/x.json"},
			{"certs/ca/axb.example", true, "certs/ca/axb.example/axb.example.key"},
			{"certs", true, "certs/ca certs/ca/a_b.example certs/ca/a_b.example/a_b.example.key certs/ca/a_b.example/x.json " +
				"certs/ca/axb.example certs/ca/axb.example/axb.example.key"},
			{"", false, "certs other"},
		} {
			list, err := b.List(ctx, tc.at, tc.recursive)
			slices.Sort(list)
			if got := strings.Join(list, " "); err != nil || got != tc.want {
				t.Errorf("%q: %q, %v", tc.at, got, err)
			}
		}
		must(t, b.Delete(ctx, "certs/ca/a_b.example"))
		must(t, b.Delete(ctx, "certs/ca/a_b.example"))
		if !a.Exists(ctx, "certs/ca/axb.example/axb.example.key") || !a.Exists(ctx, "certs/ca") {
			t.Error("more was deleted than asked for")
		}
		_, loaded := a.Load(ctx, "certs/ca/a_b.example/x.json")
		_, stat := a.Stat(ctx, "certs/ca/a_b.example")
		_, list := a.List(ctx, "certs/c", true)
		for _, err := range []error{loaded, stat, list} {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("of what is not there: %v", err)
			}
		}
		if err := a.Store(ctx, "large", make([]byte, maxValue+1)); !fault.Is(err, fault.Invalid) {
			t.Errorf("a value too large: %v", err)
		}
	})
}

// TestStoredValuesAreSealed: a key is nowhere in the database, and the key that
// seals it goes with it.
func TestStoredValuesAreSealed(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := node(t, d, custodytest.New(t, d))
		ctx := t.Context()
		must(t, s.Store(ctx, "k", []byte("secret one")))
		must(t, s.Store(ctx, "k", []byte("secret two")))
		var box []byte
		var key id.ID
		must(t, d.Read(ctx, db.System, func(tx *db.Tx) error {
			return tx.Row("SELECT value_sealed, key_id FROM acme_values").Scan(&box, &key)
		}))
		if strings.Contains(string(box), "secret") {
			t.Error("a value stands in clear")
		}
		must(t, s.Delete(ctx, "k"))
		must(t, d.Read(ctx, db.System, func(tx *db.Tx) error {
			kept, err := custody.DataKeyStored(tx, key)
			if kept {
				t.Error("a data key outlived its value")
			}
			return err
		}))
	})
}

// TestLocks: two nodes contend, one that gives back lets the other in, and the
// lease of a dead one is taken over.
func TestLocks(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		keys := custodytest.New(t, d)
		a, b := node(t, d, keys), node(t, d, keys)
		ctx := t.Context()
		must(t, a.Lock(ctx, "x"))
		if taken, err := b.TryLock(ctx, "x"); err != nil || taken {
			t.Fatalf("a lock was taken twice: %v, %v", taken, err)
		}
		if taken, err := a.TryLock(ctx, "x"); err != nil || taken {
			t.Fatalf("a lock was taken twice by one node: %v, %v", taken, err)
		}
		soon, cancel := context.WithTimeout(ctx, 2*lockPoll)
		defer cancel()
		if err := b.Lock(soon, "x"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("waiting did not end with its caller: %v", err)
		}
		in := make(chan error, 1)
		go func() { in <- b.Lock(ctx, "x") }()
		gone, cancel := context.WithCancel(ctx)
		cancel()
		must(t, a.Unlock(gone, "x"))
		must(t, <-in)
		if err := a.Unlock(ctx, "x"); !errors.Is(err, errNotHeld) {
			t.Errorf("what another holds was given back: %v", err)
		}
		// b stops renewing.
		must(t, d.Write(ctx, db.System, func(tx *db.Tx) error {
			_, err := tx.Exec("UPDATE acme_locks SET expires_at = 1 WHERE org_id = ?", db.System)
			return err
		}))
		must(t, a.Lock(ctx, "x"))
		must(t, b.Unlock(ctx, "x"))
		if taken, err := b.TryLock(ctx, "x"); err != nil || taken {
			t.Errorf("a node that lost its lease gave back another one's lock: %v, %v", taken, err)
		}
	})
}
