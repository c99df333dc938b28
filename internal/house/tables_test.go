package house

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var createTable = regexp.MustCompile(`(?m)^CREATE TABLE (\w+) `)

// Whoever adds a table says in docs/retention.md what deletes its rows and
// when, or why they stay for ever.
func TestEveryTableSaysHowLongItsRowsStay(t *testing.T) {
	doc, err := os.ReadFile("../../docs/retention.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, found := strings.Cut(string(doc), "\n## Every table\n")
	if !found {
		t.Fatal("docs/retention.md has no section \"Every table\"")
	}
	files, err := filepath.Glob("../db/migrations/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d migrations, %v", len(files), err)
	}
	tables := map[string]bool{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range createTable.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(string(text), "ALTER TABLE "+m[1]+" RENAME TO ") {
				continue // made anew under its old name
			}
			tables[m[1]] = true
			if !strings.Contains(list, "`"+m[1]+"`") {
				t.Errorf("docs/retention.md does not say how long rows of %s stay (%s)", m[1], filepath.Base(name))
			}
		}
	}
	for _, m := range regexp.MustCompile("`([a-z]+_[a-z_]+)`").FindAllStringSubmatch(list, -1) {
		if !tables[m[1]] {
			t.Errorf("docs/retention.md speaks of a table %s that there is not", m[1])
		}
	}
}
