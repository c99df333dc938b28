package house

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// reserved says who alone may mention some names of a package in code that is
// not a test: an act that only one place may do is an invariant of ours.
type reserved struct {
	pkg    string // from the root of the module, or a full import path
	names  []string
	rooms  []string // or folders outside internal/
	reason string
}

var reservations = []reserved{
	{"internal/seal", []string{"Artifact{}"}, []string{"seal"}, "only seal makes an artifact; what is not one cannot be sent"},
	{"internal/spool", []string{"Prepare", "Prepared"}, []string{"submit"}, "only submit may add to the spool: there is one front door"},
	{"internal/spool", []string{"PostNotice"}, []string{"pickup", "bounce", "tlsrpt"}, "notices are fixed texts that only pickup, bounce and tlsrpt post, so that they cannot recurse"},
	{"internal/spool", []string{"ForgetBody", "ForgetContent", "ForgetRecord"}, []string{"retain"}, destroyReason},
	{"internal/pickup", []string{"ForgetDelivery"}, []string{"retain"}, destroyReason},
	{"internal/ledger", []string{"Prune"}, []string{"retain"}, destroyReason},
	{"net/smtp", nil, []string{"fake"}, clientReason},
	{"github.com/emersion/go-smtp", []string{"Dial", "DialTLS", "DialStartTLS", "NewClient", "NewClientStartTLS", "NewClientLMTP", "SendMail", "SendMailTLS"},
		[]string{"fake", "cmd", "bench", "e2e"}, clientReason},
}

const (
	destroyReason  = "only retain destroys what was accepted: it looks at legal holds in the same transaction"
	clientReason   = "mail leaves by deliver/smtpclient alone, which sends nothing in clear; only the demo and the tests play other people's mail clients"
	artifactReason = "only deliver makes artifacts of messages and notices; one made elsewhere would leave without an attempt on record"
)

// artifactMakers are the functions of package seal that give an artifact.
func artifactMakers(all []*source) (names []string) {
	for _, s := range all {
		if s.dir != "internal/seal" || s.test {
			continue
		}
		for _, d := range s.ast.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil || f.Type.Results == nil || !f.Name.IsExported() {
				continue
			}
			for _, r := range f.Type.Results.List {
				star, ok := r.Type.(*ast.StarExpr)
				if !ok {
					continue
				}
				if x, ok := star.X.(*ast.Ident); ok && x.Name == "Artifact" {
					names = append(names, f.Name.Name)
				}
			}
		}
	}
	return names
}

// breaches gives the places where a file uses what is reserved for others.
func (r reserved) breaches(s *source) (found []string) {
	room, _ := roomOf(s.dir)
	if s.test || servesTests(s.dir) || slices.Contains(r.rooms, room) {
		return nil
	}
	pkg := r.pkg
	if strings.HasPrefix(pkg, "internal/") {
		pkg = module + pkg
	}
	if spec := s.imports()[pkg]; spec != nil && r.names == nil {
		return []string{fmt.Sprintf("%s: %s may not import %s: %s", s.at(spec), s.dir, r.pkg, r.reason)}
	}
	for _, sel := range s.uses(pkg, func(name string) bool { return slices.Contains(r.names, name) }) {
		found = append(found, fmt.Sprintf("%s: %s may not use %s.%s: %s", s.at(sel), s.dir, path.Base(r.pkg), sel.Sel.Name, r.reason))
	}
	for _, name := range r.names {
		if made, ok := strings.CutSuffix(name, "{}"); ok {
			for _, lit := range literals(s, pkg, made) {
				found = append(found, fmt.Sprintf("%s: %s may not make a %s.%s: %s", s.at(lit), s.dir, path.Base(r.pkg), made, r.reason))
			}
		}
	}
	return found
}

// literals gives the composite literals and new calls of a package's type.
func literals(s *source, pkg, typeName string) (found []ast.Node) {
	names := s.uses(pkg, func(name string) bool { return name == typeName })
	is := func(e ast.Expr) bool {
		sel, ok := e.(*ast.SelectorExpr)
		return ok && slices.Contains(names, sel)
	}
	ast.Inspect(s.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CompositeLit:
			if is(n.Type) {
				found = append(found, n)
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && f.Name == "new" && len(n.Args) == 1 && is(n.Args[0]) {
				found = append(found, n)
			}
		}
		return true
	})
	return found
}

func TestReservedActsStayWhereTheyBelong(t *testing.T) {
	all := tree(t)
	makers := artifactMakers(all)
	if len(makers) < 2 {
		t.Fatalf("package seal makes artifacts by %v only: this test has lost sight of them", makers)
	}
	for _, r := range append(reservations, reserved{"internal/seal", makers, []string{"deliver"}, artifactReason}) {
		for _, s := range all {
			for _, b := range r.breaches(s) {
				t.Error(b)
			}
		}
	}
}

func TestReservationsAreSeen(t *testing.T) {
	makers := reserved{"internal/seal", []string{"TLS", "Report"}, []string{"deliver"}, artifactReason}
	for _, tc := range []struct {
		file, imports, body string
		want                int
	}{
		{"internal/web/api/x.go", module + "internal/seal", "var a = seal.TLS(x)", 1},
		{"internal/web/api/x.go", module + "internal/seal", "var a = seal.Report", 1},
		{"internal/bounce/x.go", module + "internal/seal", "var a = seal.Report(x)", 1},
		{"internal/deliver/x.go", module + "internal/seal", "var a = seal.Report(x)", 0},
		{"internal/web/api/x_test.go", module + "internal/seal", "var a = seal.Report(x)", 0},
		{"internal/deliver/x.go", module + "internal/seal", "var a = &seal.Artifact{}", 1},
		{"internal/deliver/x.go", module + "internal/seal", "var a = new(seal.Artifact)", 1},
		{"internal/deliver/x.go", module + "internal/seal", "func f(*seal.Artifact) {}", 0},
		{"internal/campaign/x.go", module + "internal/spool", "func f(p *spool.Prepared) { p.Insert(nil) }", 1},
		{"internal/submit/x.go", module + "internal/spool", "func f(p *spool.Prepared) { p.Insert(nil) }", 0},
		{"internal/submit/x.go", module + "internal/spool", "var a, b = spool.PostNotice(x)", 1},
		{"internal/bounce/x.go", module + "internal/spool", "var a, b = spool.PostNotice(x)", 0},
		{"internal/report/x.go", "net/smtp", "var a = smtp.SendMail(x)", 1},
		{"internal/web/smtpin/x.go", "github.com/emersion/go-smtp", "var a, b = smtp.Dial(x)", 1},
		{"internal/web/smtpin/x.go", "github.com/emersion/go-smtp", "var a = smtp.NewServer(x)", 0},
	} {
		s := parse(t, tc.file, "package x\nimport \""+tc.imports+"\"\n"+tc.body)
		n := len(makers.breaches(s))
		for _, r := range reservations {
			n += len(r.breaches(s))
		}
		if n != tc.want {
			t.Errorf("%s: %s: %d breaches, want %d", tc.file, tc.body, n, tc.want)
		}
	}
}

// logging are the methods of slog and the functions that make errors.
var logging = regexp.MustCompile(`^(Debug|Info|Warn|Error)(Context)?$|^(Log|LogAttrs|With|Errorf)$`)

// revealed gives the places where a private value is revealed to a log or an
// error.
func revealed(s *source) (found []ast.Node) {
	ast.Inspect(s.ast, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, _ := sel.X.(*ast.Ident)
		makesError := x != nil && (x.Name == "errors" || x.Name == "fault") && sel.Sel.Name == "New"
		if !makesError && !logging.MatchString(sel.Sel.Name) {
			return true
		}
		for _, arg := range call.Args {
			ast.Inspect(arg, func(n ast.Node) bool {
				if inner, ok := n.(*ast.SelectorExpr); ok && inner.Sel.Name == "Reveal" {
					found = append(found, inner)
				}
				return true
			})
		}
		return true
	})
	return found
}

func TestNothingPrivateIsRevealedToLogsOrErrors(t *testing.T) {
	for _, s := range tree(t) {
		if s.test {
			continue
		}
		for _, n := range revealed(s) {
			t.Errorf("%s: Reveal inside a log call or an error: hand over the private value itself, which shows only that it is there", s.at(n))
		}
	}
}

func TestRevealingIsSeen(t *testing.T) {
	for body, want := range map[string]int{
		`log.Info("x", "to", a.Reveal())`:                            1,
		`log.InfoContext(ctx, "x", slog.String("to", a.Reveal()))`:   1,
		`env.log.With("to", len(a.Reveal())).Warn("x")`:              1,
		`return fmt.Errorf("no mailbox %s", a.Reveal())`:             1,
		`return errors.New("no mailbox " + a.Reveal())`:              1,
		`return fault.New(fault.Denied, "x", "no "+a.Reveal())`:      1,
		`log.Info("x", "to", a)`:                                     0,
		`return fmt.Errorf("no mailbox %s", a)`:                      0,
		`if open(a.Reveal()) != nil { return errors.New("closed") }`: 0,
	} {
		s := parse(t, "internal/x/x.go", "package x\nfunc f() error {\n"+body+"\n}")
		if got := len(revealed(s)); got != want {
			t.Errorf("%s: %d, want %d", body, got, want)
		}
	}
}

var sqlTable = regexp.MustCompile(`(?:\b(?:FROM|JOIN|INTO|UPDATE|TABLE))\s+([a-z]+)_[a-z_]+(\(?)`)

// foreignTables gives the tables that a file's SQL names and other rooms own.
func foreignTables(s *source) (found []string) {
	own, _ := roomOf(s.dir)
	ast.Inspect(s.ast, func(n ast.Node) bool {
		lit, ok := n.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return true
		}
		text, err := strconv.Unquote(lit.Value)
		if err != nil {
			return true
		}
		for _, m := range sqlTable.FindAllStringSubmatch(text, -1) {
			if band, _ := place(m[1]); band >= 0 && m[1] != own && m[2] == "" {
				found = append(found, fmt.Sprintf("%s: %s touches a table of %s: tables carry their room's name, and nobody else queries them", s.at(lit), s.dir, m[1]))
			}
		}
		return true
	})
	return found
}

func TestTablesAreQueriedByTheirOwnersOnly(t *testing.T) {
	for _, s := range tree(t) {
		if s.test || servesTests(s.dir) {
			continue
		}
		for _, f := range foreignTables(s) {
			t.Error(f)
		}
	}
	s := parse(t, "internal/web/api/x.go", "package x\nconst q = `SELECT 1 FROM spool_messages m JOIN ledger_entries e`")
	if n := len(foreignTables(s)); n != 2 {
		t.Errorf("two foreign tables in one text: %d found", n)
	}
	s = parse(t, "internal/spool/x.go", "package x\nconst q = `UPDATE spool_messages SET x = extract(epoch FROM clock_timestamp())`")
	if n := len(foreignTables(s)); n != 0 {
		t.Errorf("a room's own table or a function is taken for a foreign table")
	}
}
