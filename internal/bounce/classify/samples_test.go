package classify

import (
	"bytes"
	"crypto/sha1"
	"encoding/csv"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// sisimai maps the names of sisimai, by which public samples are labeled, to
// our classes; docs/bounces.md shows the same table. Where sisimai's name holds
// what we tell apart, there are several and the first is the usual one.
var sisimai = map[string][]Class{
	"authfailure":     {Policy},
	"badreputation":   {Policy},
	"blocked":         {Policy, Rate, Spam},
	"contenterror":    {Content},
	"exceedlimit":     {Content},
	"expired":         {Expired},
	"failedstarttls":  {TLS},
	"filtered":        {MailboxUnknown, Policy},
	"hasmoved":        {MailboxUnknown},
	"hostunknown":     {DNS},
	"mailboxfull":     {MailboxFull},
	"mailererror":     {Other},
	"mesgtoobig":      {Content},
	"networkerror":    {DNS, Expired, Other},
	"norelaying":      {Policy},
	"notaccept":       {DNS, Policy},
	"notcompliantrfc": {Content},
	"onhold":          nil, // sisimai could not tell: any class
	"policyviolation": {Policy, Content},
	"rejected":        {Policy},
	"requireptr":      {Policy},
	"securityerror":   {Policy, TLS},
	"spamdetected":    {Spam},
	"speeding":        {Rate},
	"suspend":         {MailboxUnknown},
	"syntaxerror":     {Other},
	"systemerror":     {Other},
	"systemfull":      {MailboxFull, Other},
	"toomanyconn":     {Rate},
	"undefined":       nil,
	"userunknown":     {MailboxUnknown},
	"virusdetected":   {Content},
	"feedback":        nil,
	"vacation":        nil,
	"delivered":       nil,
}

func sampleFolder(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("SEALPOST_TEST_DATA")
	if dir == "" {
		dir = "../../../../shared/data"
	}
	dir = filepath.Join(dir, "bounces")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the folder of samples is not there")
	}
	return dir
}

type label struct{ status, code, reason, hard string }

// TestSamples reads real mails. They are measured in two halves, because the
// rules were written with the first in view only.
func TestSamples(t *testing.T) {
	dir := sampleFolder(t)
	raw, err := os.ReadFile(filepath.Join(dir, "labels.csv"))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(raw)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string][]label{}
	for _, r := range rows[1:] {
		labels[r[0]] = append(labels[r[0]], label{r[2], r[3], r[4], r[5]})
	}
	var halves [2]score
	for file, want := range labels {
		half := &halves[sha1.Sum([]byte(file))[0]%2]
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		rep, err := Read(bytes.NewReader(b))
		if err != nil || time.Since(start) > time.Second {
			t.Errorf("%s: %v after %v", file, err, time.Since(start))
		}
		half.count(t, file, rep, want)
	}
	for i, s := range halves {
		t.Logf("half %d: %d recipients: right kind and number %d, permanent %d, hard %d of %d, class %d, usual class %d of %d",
			i, s.rows, s.found, s.permanent, s.hard, s.judged, s.class, s.usual, s.classed)
	}
	var all score
	for _, s := range halves {
		all.add(s)
	}
	for _, r := range []struct {
		what    string
		got, of int
		atLeast float64
	}{
		{"recipients", all.found, all.rows, 0.98}, {"permanent", all.permanent, all.judged, 0.98},
		{"hard", all.hard, all.judged, 0.89}, {"class", all.class, all.classed, 0.94},
	} {
		if float64(r.got) < r.atLeast*float64(r.of) {
			t.Errorf("%s: %d of %d", r.what, r.got, r.of)
		}
	}
}

type score struct{ rows, found, judged, permanent, hard, classed, class, usual int }

func (s *score) add(o score) {
	s.rows += o.rows
	s.found += o.found
	s.judged += o.judged
	s.permanent += o.permanent
	s.hard += o.hard
	s.classed += o.classed
	s.class += o.class
	s.usual += o.usual
}

// kinds are what sisimai's reasons that are no failures stand for.
var kinds = map[string]Kind{"feedback": Complaint, "vacation": Autoreply, "delivered": Delivered}

func (s *score) count(t *testing.T, file string, rep Report, want []label) {
	complain := func(format string, args ...any) {
		half := sha1.Sum([]byte(file))[0] % 2
		if (os.Getenv("HALF") == "0" && half == 0) || (os.Getenv("HALF") == "1a" && half == 1 && sha1.Sum([]byte(file))[1]%2 == 0) || os.Getenv("HALF") == "all" {
			t.Logf(file+": "+format, args...)
		}
	}
	s.rows += len(want)
	kind, other := kinds[want[0].reason]
	switch {
	case other && rep.Kind == kind:
		s.found += len(want)
		return
	case other || rep.Kind != Bounce && rep.Kind != Delay:
		complain("is %q, want %v", rep.Kind, want)
		return
	case len(rep.Recipients) < len(slices.Compact(slices.Clone(want))) && len(rep.Recipients) != 1:
		complain("%d recipients of %v", len(rep.Recipients), want)
	case len(rep.Recipients) > len(want):
		complain("%d recipients, %v", len(rep.Recipients), want)
	default:
		s.found += len(want)
	}
	for i, w := range want {
		if i >= len(rep.Recipients) {
			if i > 0 && w == want[i-1] {
				s.rows--
				s.found--
			} else {
				complain("no recipient %d", i+1)
			}
			continue
		}
		s.judge(complain, rep.Recipients[i], w)
	}
}

func (s *score) judge(complain func(string, ...any), r Recipient, w label) {
	s.judged++
	diag := cutText(r.Diagnostic.Reveal(), 300)
	if r.Permanent == strings.HasPrefix(w.status, "5") {
		s.permanent++
	} else {
		complain("permanent %v, %s %d, want %v: %s", r.Permanent, r.Status, r.Code, w, diag)
	}
	if r.Hard == (w.hard == "true") {
		s.hard++
	} else {
		complain("hard %v, want %v: %s", r.Hard, w, diag)
	}
	s.classed++
	classes := sisimai[w.reason]
	if classes == nil || slices.Contains(classes, r.Class) {
		s.class++
	} else {
		complain("CLASS %s, want %v: %s", r.Class, w, diag)
	}
	if len(classes) > 0 && classes[0] == r.Class {
		s.usual++
	}
}

func TestSamplesThatAreNoBounce(t *testing.T) {
	dir := sampleFolder(t)
	files, err := filepath.Glob(filepath.Join(dir, "not-a-bounce*.eml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if rep, err := Read(bytes.NewReader(b)); err != nil || rep.Kind == Bounce || rep.Kind == Delay {
			t.Errorf("%s is taken for a %q, %v", filepath.Base(f), rep.Kind, err)
		}
	}
}

// TestReasonsAreThoseOfTheDocument compares the map with the table that people
// read, as far as the table goes: it names what sisimai's names hold.
func TestReasonsAreThoseOfTheDocument(t *testing.T) {
	text, err := os.ReadFile("../../../docs/bounces.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "\n## Classes\n")
	table, _, _ = strings.Cut(table, "\n## ")
	told := map[string][]Class{}
	name := regexp.MustCompile(`([a-z]+)(?: \(also ([a-z_, ]+)\))?(?:, |$)`)
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|[^|]*\\|[^|]*\\| ([^|]*) \\|$").FindAllStringSubmatch(table, -1) {
		for _, m := range name.FindAllStringSubmatch(row[2], -1) {
			told[m[1]] = []Class{Class(row[1])}
			for also := range strings.SplitSeq(m[2], ", ") {
				if also != "" {
					told[m[1]] = append(told[m[1]], Class(also))
				}
			}
		}
	}
	want := maps.Clone(sisimai)
	maps.DeleteFunc(want, func(_ string, c []Class) bool { return c == nil }) // any class, or no failure
	if !maps.EqualFunc(told, want, slices.Equal) {
		t.Errorf("docs/bounces.md says\n%v\nand samples are judged by\n%v", told, want)
	}
}
