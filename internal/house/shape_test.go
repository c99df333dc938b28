package house

import (
	"go/ast"
	"regexp"
	"strings"
	"testing"
)

const (
	fileLimit     = 600 // lines
	functionLimit = 80  // lines, outside tests
	shortDoc      = 14  // lines of a package doc that need no list of invariants
)

func TestNothingGrowsOutOfHand(t *testing.T) {
	for _, s := range tree(t) {
		if s.lines > fileLimit {
			t.Errorf("%s has %d lines; a file has at most %d: part it by what it is about", s.file, s.lines, fileLimit)
		}
		if s.test {
			continue
		}
		for _, d := range s.ast.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := s.set.Position(f.End()).Line - s.set.Position(f.Pos()).Line + 1; n > functionLimit {
				t.Errorf("%s: %s has %d lines; a function has at most %d and mostly under 40", s.at(f), f.Name.Name, n, functionLimit)
			}
		}
	}
}

func TestRefusedNamesAndHabits(t *testing.T) {
	vague := regexp.MustCompile(`(^|/)(util|utils|common|helper|helpers|misc)(/|\.go$|_test\.go$)`)
	for _, s := range tree(t) {
		if vague.MatchString(s.file) {
			t.Errorf("%s: name it after what it holds", s.file)
		}
		for _, d := range s.ast.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: no init functions: what a package needs is handed to it", s.at(f))
			}
		}
	}
}

// badDoc says what is wrong with a package doc, or "".
func badDoc(pkg, dir, doc string) string {
	want := "Package " + pkg + " "
	switch {
	case doc == "":
		return "has no package doc"
	case pkg == "main":
		if !strings.HasPrefix(doc, "Command ") && !strings.HasPrefix(doc, want) {
			return `its doc does not begin with "Command"`
		}
	case !strings.HasPrefix(doc, want):
		return `its doc does not begin with "` + want + `"`
	case strings.HasPrefix(dir, "internal/") && strings.Count(doc, "\n") > shortDoc && !strings.Contains(strings.ToLower(doc), "invariant"):
		return "its doc is long and states no invariants"
	}
	return ""
}

func TestEveryPackageIsDocumented(t *testing.T) {
	type pkg struct{ name, doc string }
	found := map[string]*pkg{}
	for _, s := range tree(t) {
		p := found[s.dir]
		if p == nil {
			p = &pkg{}
			found[s.dir] = p
		}
		if p.name == "" || !s.test {
			p.name = strings.TrimSuffix(s.ast.Name.Name, "_test")
		}
		if doc := s.ast.Doc.Text(); doc != "" {
			if p.doc != "" {
				t.Errorf("%s: the package has a second doc", s.file)
			}
			p.doc = doc
		}
	}
	for dir, p := range found {
		if why := badDoc(p.name, dir, p.doc); why != "" {
			t.Errorf("%s: %s", dir, why)
		}
	}
}

func TestBadDocsAreSeen(t *testing.T) {
	long := strings.Repeat("More words.\n", shortDoc+1)
	for _, tc := range []struct {
		pkg, dir, doc string
		good          bool
	}{
		{"spool", "internal/spool", "", false},
		{"spool", "internal/spool", "This package spools.\n", false},
		{"spool", "internal/spool", "Package spool keeps messages.\n", true},
		{"spool", "internal/spool", "Package spool keeps messages.\n" + long, false},
		{"spool", "internal/spool", "Package spool keeps messages.\n\nInvariants:\n" + long, true},
		{"main", "cmd/sealpost", "Command sealpost seals mail.\n", true},
		{"main", "cmd/sealpost", "Main.\n", false},
	} {
		if got := badDoc(tc.pkg, tc.dir, tc.doc); (got == "") != tc.good {
			t.Errorf("%s %q…: %q", tc.dir, tc.doc[:min(len(tc.doc), 20)], got)
		}
	}
}
