package db_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/sealpost/sealpost/internal/db"
)

func TestTheFileIsWhereThePathSays(t *testing.T) {
	for _, folder := range []string{"a#1", "b?mode=memory", "c%23", "d e"} {
		path := filepath.Join(t.TempDir(), folder, "sealpost.db")
		if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		d, err := db.Open(context.Background(), db.Options{Path: path})
		if err != nil {
			t.Fatalf("%s: %v", folder, err)
		}
		if _, err := d.Migrate(context.Background()); err != nil {
			t.Errorf("%s: %v", folder, err)
		}
		if err := d.Close(); err != nil {
			t.Errorf("%s: %v", folder, err)
		}
		if i, err := os.Stat(path); err != nil || i.Size() == 0 {
			t.Errorf("%s: the file is elsewhere: %v", folder, err)
		}
	}
}
