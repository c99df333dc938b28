package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const (
	module = "github.com/sealpost/sealpost/"
	root   = "../.." // of the source tree, as seen from this package
)

// source is one Go file of the tree.
type source struct {
	file  string // from the root of the tree
	dir   string // the package's folder, from the root of the tree
	test  bool
	lines int
	set   *token.FileSet
	ast   *ast.File
}

// parseTree reads every Go file but those the go command does not see either.
var parseTree = sync.OnceValues(func() ([]*source, error) {
	var all []*source
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := d.Name(); d.IsDir() {
			if name != root && (base == "testdata" || base == "node_modules" || name == filepath.Join(root, "tools") || base[0] == '.' || base[0] == '_') {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		s := &source{file: rel, dir: path.Dir(rel), test: strings.HasSuffix(rel, "_test.go"), set: token.NewFileSet()}
		if s.ast, err = parser.ParseFile(s.set, name, nil, parser.ParseComments|parser.SkipObjectResolution); err != nil {
			return err
		}
		s.lines = s.set.File(s.ast.Pos()).LineCount()
		all = append(all, s)
		return nil
	})
	return all, err
})

func tree(t *testing.T) []*source {
	t.Helper()
	all, err := parseTree()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("found %d Go files: this is not the whole tree", len(all))
	}
	return all
}

// parse makes a source of a text, to show that a rule can be broken.
func parse(t *testing.T, file, text string) *source {
	t.Helper()
	s := &source{file: file, dir: path.Dir(file), test: strings.HasSuffix(file, "_test.go"), set: token.NewFileSet()}
	var err error
	if s.ast, err = parser.ParseFile(s.set, file, text, parser.ParseComments|parser.SkipObjectResolution); err != nil {
		t.Fatal(err)
	}
	s.lines = s.set.File(s.ast.Pos()).LineCount()
	return s
}

// at is the place of a node, as editors understand it.
func (s *source) at(n ast.Node) string {
	return s.file + ":" + strconv.Itoa(s.set.Position(n.Pos()).Line)
}

// imports gives the import paths, each with the spec that names it.
func (s *source) imports() map[string]*ast.ImportSpec {
	found := map[string]*ast.ImportSpec{}
	for _, spec := range s.ast.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			found[p] = spec
		}
	}
	return found
}

// named is the name under which the file uses an import, or "".
func (s *source) named(importPath string) string {
	spec := s.imports()[importPath]
	switch {
	case spec == nil:
		return ""
	case spec.Name != nil:
		return spec.Name.Name
	}
	return strings.TrimPrefix(path.Base(importPath), "go-")
}

// uses gives every place where the file mentions one of the names of a
// package, whether it calls it, hands it on or makes a value of it.
func (s *source) uses(importPath string, name func(string) bool) (places []*ast.SelectorExpr) {
	pkg := s.named(importPath)
	if pkg == "" {
		return nil
	}
	ast.Inspect(s.ast, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && name(sel.Sel.Name) {
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == pkg {
				places = append(places, sel)
			}
		}
		return true
	})
	return places
}
