package house

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
)

// bands is the table of rooms. A room imports only rooms of lower bands, and
// within its own band only those named before it. cmd, e2e and bench stand
// above all of them.
var bands = [][]string{
	{"fault", "private", "id", "clock", "mail", "config", "fake"},
	{"db", "custody", "blob", "resolve", "fetch", "openpgp", "cms", "certs", "scan"},
	{"ledger", "job", "account", "auth", "acme"},
	{"policy", "posture", "discover", "keyring", "identity", "dkim", "partner", "suppress", "shaping", "pool", "seal", "spool", "pickup", "bounce",
		"dmarc", "verdict", "tlsrpt", "zone", "submit", "inbound", "deliver/smtpclient", "deliver", "retain"},
	{"template", "contact", "consent", "segment", "campaign", "journey", "form", "text", "inbox", "report", "webhook", "comply"},
	{"web", "web/api", "web/compat", "web/portal", "web/console", "web/smtpin"},
	{"doctor", "app"},
}

const featureBand = 4

// only narrows what the bands would allow, each with its reason.
var only = map[string]struct {
	rooms  []string
	reason string
}{
	"fault":              {nil, "errors are known everywhere and know nobody"},
	"private":            {nil, "redaction is known everywhere and knows nobody"},
	"id":                 {nil, "ids are known everywhere and know nobody"},
	"clock":              {nil, "time is known everywhere and knows nobody"},
	"mail":               {[]string{"fault", "private"}, "mail is about bytes and addresses alone"},
	"config":             {[]string{"fault", "private"}, "configuration describes itself and knows no room it configures"},
	"fake":               {[]string{"clock"}, "the internet outside shares no code with us, or it would share our mistakes"},
	"openpgp":            {[]string{"fault", "private", "mail"}, "OpenPGP is about octets, keys and the time it is told: no network, no database"},
	"cms":                {[]string{"fault", "private", "mail"}, "CMS is about octets, keys and the time it is told: no network, no database"},
	"policy":             {[]string{"fault", "private", "mail"}, "policy is pure: it sees no clock, no network and no database"},
	"deliver/smtpclient": {[]string{"fault", "private", "id", "clock", "mail", "policy", "seal"}, "a transport knows artifacts and grades, and nothing of where they come from"},
}

// pure lists the doors of the standard library through which policy could see
// more than it is handed.
var pure = []string{"context", "database/sql", "net", "net/http", "os", "time"}

// Why an import is refused.
const (
	lowerOnly    = "a room imports only rooms of lower bands and those above it in its own band"
	features     = "features do not import each other: what one needs of another it learns from the ledger, or through a function that app hands it"
	handlersOnly = "handlers decode, call and encode; they never see the database"
	fakeOnly     = "the internet on loopback is for tests and for the demo, which cmd and app run"
	testsOnly    = "what serves tests is imported by tests only"
	noEntry      = "it has no place in the table of internal/house/rooms_test.go"
	topOnly      = "programs and end-to-end tests stand above the house: nobody imports them"
)

// roomOf is the room a package folder belongs to: the longest entry of the
// table that it equals or lies in.
func roomOf(dir string) (room string, known bool) {
	room, inside := strings.CutPrefix(dir, "internal/")
	if !inside {
		return strings.SplitN(dir, "/", 2)[0], true
	}
	for r := room; r != "."; r = path.Dir(r) {
		if band, _ := place(r); band >= 0 {
			return r, true
		}
	}
	return room, room == "house"
}

func place(room string) (band, rank int) {
	for b, rooms := range bands {
		if r := slices.Index(rooms, room); r >= 0 {
			return b, r
		}
	}
	return -1, -1
}

// servesTests tells packages such as db/dbtest, which are named after what
// they help to test.
func servesTests(dir string) bool {
	return strings.HasPrefix(dir, "internal/") && strings.HasSuffix(path.Base(dir), "test")
}

// denied says why the package in one folder may not import the one in another,
// or "".
func denied(from, to string, test bool) string {
	test = test || servesTests(from)
	a, known := roomOf(from)
	if !known {
		return noEntry
	}
	b, known := roomOf(to)
	inside := strings.HasPrefix(from, "internal/")
	switch {
	case !known:
		return noEntry
	case servesTests(to):
		if !test && !slices.Contains([]string{"e2e", "bench"}, a) {
			return testsOnly
		}
		return ""
	case a == b:
		return ""
	case !strings.HasPrefix(to, "internal/"):
		return topOnly
	case b == "fake":
		if inside && !test && a != "app" {
			return fakeOnly
		}
		return ""
	case !inside || a == "house":
		return ""
	}
	if strings.HasPrefix(a, "web") && b == "db" && !test {
		return handlersOnly
	}
	return deniedByTable(a, b)
}

func deniedByTable(a, b string) string {
	if rule, narrow := only[a]; narrow {
		if !slices.Contains(rule.rooms, b) {
			return rule.reason
		}
		return ""
	}
	bandA, rankA := place(a)
	bandB, rankB := place(b)
	switch {
	case bandA == featureBand && bandB == featureBand:
		return features
	case bandB < bandA, bandB == bandA && rankB < rankA:
		return ""
	}
	return lowerOnly
}

// violations gives every import of a file that the table forbids.
func violations(s *source) (found []string) {
	for p, spec := range s.imports() {
		if room, _ := roomOf(s.dir); room == "policy" && !s.test && slices.Contains(pure, p) {
			found = append(found, fmt.Sprintf("%s: %s may not import %q: %s", s.at(spec), s.dir, p, only["policy"].reason))
		}
		to, ours := strings.CutPrefix(p, module)
		if !ours {
			continue
		}
		if why := denied(s.dir, to, s.test); why != "" {
			found = append(found, fmt.Sprintf("%s: %s may not import %s: %s", s.at(spec), s.dir, to, why))
		}
	}
	return found
}

func TestRoomsImportOnlyWhatTheTableAllows(t *testing.T) {
	for _, s := range tree(t) {
		if _, known := roomOf(s.dir); !known {
			t.Errorf("%s: %s", s.file, noEntry)
		}
		for _, v := range violations(s) {
			t.Error(v)
		}
	}
}

func TestTheTableItself(t *testing.T) {
	seen := map[string]bool{}
	for _, rooms := range bands {
		for _, r := range rooms {
			if seen[r] {
				t.Errorf("%s stands in the table twice", r)
			}
			seen[r] = true
		}
	}
	for room, rule := range only {
		band, rank := place(room)
		for _, r := range rule.rooms {
			if b, k := place(r); b < 0 || b > band || b == band && k >= rank {
				t.Errorf("only[%q] allows %s, which the bands forbid", room, r)
			}
		}
	}
}

func TestTheTableForbids(t *testing.T) {
	for _, tc := range []struct {
		from, to string
		test     bool
		want     string
	}{
		{"internal/spool", "internal/submit", false, lowerOnly},
		{"internal/spool", "internal/submit", true, lowerOnly},
		{"internal/spool", "internal/ledger", false, ""},
		{"internal/submit", "internal/spool", false, ""},
		{"internal/db", "internal/custody", false, lowerOnly},
		{"internal/custody", "internal/db", false, ""},
		{"internal/db", "internal/app", false, lowerOnly},
		{"internal/policy", "internal/clock", false, only["policy"].reason},
		{"internal/deliver", "internal/deliver/smtpclient", false, ""},
		{"internal/deliver/smtpclient", "internal/deliver", false, only["deliver/smtpclient"].reason},
		{"internal/deliver/smtpclient", "internal/db", false, only["deliver/smtpclient"].reason},
		{"internal/form", "internal/text", false, features},
		{"internal/text", "internal/form", false, features},
		{"internal/form", "internal/submit", false, ""},
		{"internal/web/api", "internal/db", false, handlersOnly},
		{"internal/web/api", "internal/db", true, ""},
		{"internal/web/api", "internal/web", false, ""},
		{"internal/web", "internal/web/api", false, lowerOnly},
		{"internal/spool", "internal/fake", false, fakeOnly},
		{"internal/spool", "internal/fake", true, ""},
		{"internal/app", "internal/fake", false, ""},
		{"cmd/sealpost", "internal/fake", false, ""},
		{"internal/spool", "internal/db/dbtest", false, testsOnly},
		{"internal/spool", "internal/db/dbtest", true, ""},
		{"internal/custody/custodytest", "internal/db/dbtest", false, ""},
		{"internal/db/migrations", "internal/db", false, ""},
		{"internal/helpers", "internal/id", false, noEntry},
		{"internal/spool", "internal/helpers", false, noEntry},
		{"internal/app", "cmd/sealpost", false, topOnly},
		{"cmd/sealpost", "bench", false, topOnly},
		{"cmd/sealpost", "internal/app", false, ""},
	} {
		if got := denied(tc.from, tc.to, tc.test); got != tc.want {
			t.Errorf("%s imports %s (test: %v): %q, want %q", tc.from, tc.to, tc.test, got, tc.want)
		}
	}
	s := parse(t, "internal/policy/x.go", "package policy\nimport \"time\"\n")
	if len(violations(s)) != 1 {
		t.Error("policy may look at the clock")
	}
}
