package house

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestMigrationsAreNumberedInARow: two of one number, written at the same time
// in two branches, would keep every command from opening the database.
func TestMigrationsAreNumberedInARow(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "internal/db/migrations/*.sql"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no migrations: %v", err)
	}
	for i, file := range files {
		if want := fmt.Sprintf("%04d_", i+1); !strings.HasPrefix(filepath.Base(file), want) {
			t.Errorf("%s stands where %s… should", filepath.Base(file), want)
		}
	}
}
