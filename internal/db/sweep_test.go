package db_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
)

// TestSweep deletes what it is asked to and nothing else, also when that is
// more than one transaction's part.
func TestSweep(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		const old, fresh = 2*db.SweepRows + 1, 3
		if err := d.WriteAlone(t.Context(), db.System, func(tx *db.Tx) error {
			for i := range old + fresh {
				if _, err := tx.Exec("INSERT INTO posture_domains (domain, document, updated_at) VALUES (?, '', ?)", fmt.Sprint(i), i); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		commits := d.Figures().Transactions
		if err := d.Sweep(t.Context(), "posture_domains", "domain", "updated_at < ?", old); err != nil {
			t.Fatal(err)
		}
		if n := d.Figures().Transactions - commits; n != 3 {
			t.Errorf("%d transactions, want 3", n)
		}
		var left, least int
		if err := d.Read(t.Context(), db.System, func(tx *db.Tx) error {
			return tx.Row("SELECT count(*), min(updated_at) FROM posture_domains").Scan(&left, &least)
		}); err != nil || left != fresh || least != old {
			t.Errorf("%d rows are left, the oldest %d: %v", left, least, err)
		}
	})
}

// TestSweepsUseIndexes looks at every sweep there is: what it costs must not
// grow with what stays.
func TestSweepsUseIndexes(t *testing.T) {
	sweeps := sweepsIn(t, "..")
	if len(sweeps) < 11 {
		t.Fatalf("only %d sweeps were found", len(sweeps))
	}
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		for _, s := range sweeps {
			args := make([]any, strings.Count(s[2], "?"))
			for i := range args {
				args[i] = int64(1)
			}
			plan := dbtest.Explain(t, d, d.Sweeping(s[0], s[1], s[2]), args...)
			if d.Dialect == db.SQLite && (strings.Contains(plan, "SCAN "+s[0]) || strings.Count(plan, "SEARCH "+s[0]) != 2) ||
				d.Dialect == db.PostgreSQL && (strings.Contains(plan, "Seq Scan") || !strings.Contains(plan, "Tid Scan") || !strings.Contains(plan, "Index Cond")) {
				t.Errorf("a sweep of %s reads more than it deletes:\n%s", s[0], plan)
			}
		}
	})
}

// sweepsIn gives table, key and condition of every call of Sweep below a folder.
func sweepsIn(t *testing.T, dir string) (all [][3]string) {
	t.Helper()
	files := token.NewFileSet()
	if err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if of, ok := call.Fun.(*ast.SelectorExpr); !ok || of.Sel.Name != "Sweep" {
				return true
			}
			var s [3]string
			for i := range s {
				text, ok := call.Args[i+1].(*ast.BasicLit)
				if !ok {
					t.Fatalf("%s: what is swept must stand here for its plan to be looked at", files.Position(call.Pos()))
				}
				if s[i], err = strconv.Unquote(text.Value); err != nil {
					t.Fatal(err)
				}
			}
			all = append(all, s)
			return true
		})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}
