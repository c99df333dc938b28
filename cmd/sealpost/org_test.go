package main

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
)

// stubbornStore is a key store whose disk fails while keys are destroyed.
type stubbornStore struct {
	custody.KeyStore
	broken error
}

func (s *stubbornStore) Destroy(org id.ID, at time.Time) (custody.Tombstone, error) {
	if s.broken != nil {
		return custody.Tombstone{}, s.broken
	}
	return s.KeyStore.Destroy(org, at)
}

func TestDestroyingIsDoneOnlyWhenTheKeysAreGone(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	d := dbtest.SQLite(t)
	file := filepath.Join(dir, "master.key")
	if _, err := custody.InitMaster(file); err != nil {
		t.Fatal(err)
	}
	master, err := custody.OpenMaster(file)
	if err != nil {
		t.Fatal(err)
	}
	folder, err := custody.OpenFolder(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	store := &stubbornStore{KeyStore: folder}
	keys, err := custody.Open(ctx, custody.Deps{DB: d, Master: master, Store: store, Clock: clock.System{}})
	if err != nil {
		t.Fatal(err)
	}
	core := &app.Core{DB: d, Custody: keys, Clock: clock.System{},
		Accounts: account.New(account.Deps{DB: d, Custody: keys, Clock: clock.System{}})}
	if _, err := core.Accounts.CreateOrg(ctx, "clinic", "Clinic"); err != nil {
		t.Fatal(err)
	}
	destroy := func() (custody.Tombstone, error) {
		o, err := core.Accounts.OrgBySlug(ctx, "clinic")
		if err != nil {
			t.Fatal(err)
		}
		return destroyOrg(ctx, core, o)
	}

	store.broken = errors.New("the disk fails")
	for range 2 { // the second time the database says that it is destroyed
		if _, err := destroy(); !errors.Is(err, store.broken) {
			t.Fatalf("the keys are still there and the answer is %v", err)
		}
	}
	if n := destructions(t, core); n != 0 {
		t.Errorf("the ledger says %d times that the keys are destroyed", n)
	}
	store.broken = nil
	if stone, err := destroy(); err != nil || len(stone.Versions) != 1 {
		t.Fatalf("when the disk works again: %+v, %v", stone, err)
	}
	if _, err := destroy(); !errors.Is(err, destroyedAlready) {
		t.Errorf("the third time: %v", err)
	}
	if n := destructions(t, core); n != 1 {
		t.Errorf("the ledger says %d times that the keys are destroyed, want once", n)
	}
}

// destructions counts the entries that say the organization's keys are gone.
func destructions(t *testing.T, core *app.Core) (n int) {
	t.Helper()
	if err := placeAll(t.Context(), core); err != nil {
		t.Fatal(err)
	}
	o, err := core.Accounts.OrgBySlug(t.Context(), "clinic")
	if err != nil {
		t.Fatal(err)
	}
	events, _, err := ledger.Read(t.Context(), core.DB, o.ID, ledger.Start, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Type == ledger.KeyDestroyed {
			n++
		}
	}
	return n
}
