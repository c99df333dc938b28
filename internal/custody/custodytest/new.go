// Package custodytest gives tests a custody of their own, and holds the suites
// that every key store and every provider of master keys must pass.
package custodytest

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
)

// New gives a custody with new keys in a temporary folder and makes the keys
// of these organizations.
func New(t testing.TB, d *db.DB, orgs ...id.ID) *custody.Custody {
	t.Helper()
	dir := t.TempDir()
	if _, err := custody.InitMaster(filepath.Join(dir, "master.key")); err != nil {
		t.Fatal(err)
	}
	c := Open(t, d, dir)
	for _, org := range orgs {
		if err := c.CreateOrg(org); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// Open gives another custody on the folder dir, as a second node would have:
// dir/master.key and dir/keys.
func Open(t testing.TB, d *db.DB, dir string) *custody.Custody {
	t.Helper()
	m, err := custody.OpenMaster(filepath.Join(dir, "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := custody.OpenFolder(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := custody.Open(context.Background(), custody.Deps{DB: d, Master: m, Store: s, Clock: clock.System{}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
