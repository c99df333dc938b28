package custody_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
)

const (
	rotateDir = "SEALPOST_TEST_ROTATE_DIR"
	rotateOrg = "SEALPOST_TEST_ROTATE_ORG"
)

// TestMain turns the test binary into a program that rotates keys for ever,
// for the test that kills it.
func TestMain(m *testing.M) {
	if dir := os.Getenv(rotateDir); dir != "" {
		fmt.Fprintln(os.Stderr, rotateForEver(dir, os.Getenv(rotateOrg)))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func rotateForEver(dir, orgText string) error {
	ctx := context.Background()
	org, err := id.Parse(id.Org, orgText)
	if err != nil {
		return err
	}
	d, err := db.Open(ctx, db.Options{Path: filepath.Join(dir, "sealpost.db")})
	if err != nil {
		return err
	}
	m, err := custody.OpenMaster(filepath.Join(dir, "master.key"))
	if err != nil {
		return err
	}
	s, err := custody.OpenFolder(filepath.Join(dir, "keys"))
	if err != nil {
		return err
	}
	c, err := custody.Open(ctx, custody.Deps{DB: d, Master: m, Store: s, Clock: clock.System{}})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		if _, err := c.RotateOrg(ctx, org); err != nil {
			return err
		}
		if _, err := custody.AddMaster(filepath.Join(dir, "master.key")); err != nil {
			return err
		}
		if _, err := c.RotateMaster(ctx); err != nil {
			return err
		}
	}
}
