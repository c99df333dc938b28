package interop

import (
	_ "embed"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/interoperability.md")

//go:embed template.md
var template string

var path = filepath.Join("..", "..", "docs", "interoperability.md")

// document compares what was measured with docs/interoperability.md, or writes
// it. Every cell was compared with its expectation before, so that the text
// follows from the expectations.
func document(t *testing.T, versions map[string]string, present bool) {
	t.Helper()
	old, err := os.ReadFile(path)
	if err != nil && !(*update && os.IsNotExist(err)) {
		t.Fatal(err)
	}
	text := render(versions)
	text = put(text, "thunderbird", between(string(old), "thunderbird"))
	if *update {
		if !present || t.Failed() {
			t.Fatal("not written: it would say what was not measured")
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if was, is := between(string(old), "versions"), between(text, "versions"); was != is {
		t.Logf("measured with other programs than the document:%s", is)
		text = put(text, "versions", was)
	}
	if text != string(old) {
		t.Error("docs/interoperability.md says something else: go test ./e2e/interop -update")
	}
}

// render fills the template.
func render(versions map[string]string) string {
	var list strings.Builder
	list.WriteString("\n")
	for _, name := range []string{"GnuPG", "gpgsm", "OpenSSL", "NSS", "RNP", "Sequoia", "OpenPGP.js"} {
		fmt.Fprintf(&list, "- %s: `%s`\n", name, versions[name])
	}
	n := &notes{}
	text := put(template, "versions", list.String())
	text = put(text, "openpgp", n.table(pgpRows, []string{"GnuPG", "RNP", "Sequoia", "OpenPGP.js"}, false))
	text = put(text, "smime", n.table(smimeRows, []string{"OpenSSL", "NSS", "gpgsm"}, true))
	text = put(text, "notes", n.list())
	return put(text, "samples", sampleTable())
}

func marks(name string) (open, end string) { return "<!-- " + name + " -->", "<!-- /" + name + " -->" }

// between gives what stands between the marks of this name.
func between(text, name string) string {
	open, end := marks(name)
	_, rest, found := strings.Cut(text, open)
	inner, _, closed := strings.Cut(rest, end)
	if !found || !closed {
		return "\n"
	}
	return inner
}

// put replaces it.
func put(text, name, inner string) string {
	open, end := marks(name)
	before, rest, found := strings.Cut(text, open)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		panic("the template has no place for " + name)
	}
	return before + open + inner + end + after
}

// notes are the reasons of the cells that do not work, numbered.
type notes []*exception

func (n *notes) number(e *exception) int {
	if !slices.Contains(*n, e) {
		*n = append(*n, e)
	}
	return slices.Index(*n, e) + 1
}

func (n *notes) table(rows []row, programs []string, withSamples bool) string {
	var b strings.Builder
	b.WriteString("\n| |")
	for _, p := range programs {
		fmt.Fprintf(&b, " %s reads ours | we read %s's |", p, p)
	}
	if withSamples {
		b.WriteString(" we read the RFC 9216 sample |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", 2*len(programs)))
	if withSamples {
		b.WriteString("---|")
	}
	b.WriteString("\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s |", r.title)
		for _, p := range programs {
			for _, direction := range []string{reads, writes} {
				word := "works"
				if e := exceptionFor(cell{p, r.id, direction}); e != nil {
					word = fmt.Sprintf("%s [%d]", e.word, n.number(e))
				}
				fmt.Fprintf(&b, " %s |", word)
			}
		}
		if withSamples {
			fmt.Fprintf(&b, " %s |", sampleCell(r))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func (n *notes) list() string {
	var b strings.Builder
	b.WriteString("\n")
	for i, e := range *n {
		fmt.Fprintf(&b, "%d. %s: %s", i+1, e.program, e.why)
		if e.says != errNoOption.Error() {
			fmt.Fprintf(&b, " It says `%s`.", e.says)
		}
		switch {
		case e.control == rfc9580Samples || e.control == rfc9216Samples:
			fmt.Fprintf(&b, " It refuses %s in the same way (measured).", e.control)
		case e.control != "":
			fmt.Fprintf(&b, " It refuses what %s makes in the same way (measured).", e.control)
		case e.word == refused:
			b.WriteString(" No third program here makes such a message to compare.")
		}
		b.WriteString("\n")
	}
	return b.String()
}

func sampleCell(r row) string {
	for _, s := range publishedSamples {
		if s.folder == rfc9216 && s.row == r.id {
			return "works"
		}
	}
	return "there is none"
}

func sampleTable() string {
	var b strings.Builder
	b.WriteString("\n| from | file | what it is | what Sealpost does |\n|---|---|---|---|\n")
	for _, s := range publishedSamples {
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s |\n", s.folder, s.file, s.what, s.result)
	}
	return b.String()
}
