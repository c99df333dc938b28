package smtpin

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/inbound/inboundtest"
)

// TestDialogs plays the conversations in testdata/dialogs:
//
//	ON name       connects to a listener; "stranger" is relay from elsewhere
//	TLS           makes the handshake
//	C: line       sends a line with CRLF
//	C> octets     sends octets as a Go string is written, without CRLF
//	S: pattern    reads one line of a reply; * stands for anything
//	S*: 250 +A -B reads a whole reply with keyword A and without B
//	STORED n      messages accepted since the beginning
//	HAS text      the newest message holds text (as a Go string is written)
//	HASNOT text   it does not
//	STATE n state the nth delivery with a return path is in this state
//	END           the server has closed the connection
//
// {x*8192} is repeated text, {PLAIN} and the like are credentials. When a
// conversation is over, the server has nothing more to say.
func TestDialogs(t *testing.T) {
	files, err := filepath.Glob("testdata/dialogs/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("conversations: %d, %v", len(files), err)
	}
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d, nil)
		w.returnPaths()
		for _, f := range files {
			t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) { play(t, w, f) })
		}
		for _, secret := range []string{w.words["KEY"], "patient", "@"} {
			if strings.Contains(w.log.String(), secret) {
				t.Errorf("the log holds %q:\n%s", secret, w.log.String())
			}
		}
	})
}

func play(t *testing.T, w *world, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before := len(w.Stored())
	var p *peer
	for i, line := range strings.Split(string(text), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		verb, arg, _ := strings.Cut(line, " ")
		arg = w.expand(arg)
		where := filepath.Base(file) + ":" + strconv.Itoa(i+1)
		switch verb {
		case "ON":
			p = w.dial(t, arg)
		case "TLS":
			p.secure()
		case "C:":
			p.send(arg + "\r\n")
		case "C>":
			p.send(unquote(t, arg))
		case "S:":
			got, err := p.r.ReadString('\n')
			if ok, _ := path.Match(slashes(arg), slashes(strings.TrimSuffix(got, "\r\n"))); !ok || err != nil {
				t.Fatalf("%s: got %q (%v), want %q", where, got, err, arg)
			}
		case "S*:":
			checkKeywords(t, where, p.reply(), arg)
		case "STORED":
			if got := len(w.Stored()) - before; strconv.Itoa(got) != arg {
				t.Fatalf("%s: %d messages stored, want %s", where, got, arg)
			}
		case "HAS", "HASNOT":
			if m := w.Stored()[0]; strings.Contains(m, unquote(t, arg)) != (verb == "HAS") {
				t.Fatalf("%s: the message is\n%q", where, m)
			}
		case "STATE":
			n, state, _ := strings.Cut(arg, " ")
			if got := inboundtest.State(t, w.House, w.sent[must(strconv.Atoi(n))-1]); string(got) != state {
				t.Fatalf("%s: the delivery is %s, want %s", where, got, state)
			}
		case "END":
			p.end()
		default:
			t.Fatalf("%s: what is %s?", where, verb)
		}
	}
	if n := p.r.Buffered(); n > 0 {
		t.Fatalf("%s: the server also said %q", file, must(p.r.Peek(n)))
	}
}

// slashes keeps path.Match from treating / as special.
func slashes(s string) string {
	return strings.NewReplacer("/", "\x01", "[", "\x02", "]", "\x03", "\\", "\x04", "?", "\x05").Replace(s)
}

func unquote(t *testing.T, s string) string {
	out, err := strconv.Unquote(`"` + strings.ReplaceAll(s, `"`, `\"`) + `"`)
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return out
}

var repeated = regexp.MustCompile(`\{(.)\*(\d+)\}`)

func (w *world) expand(s string) string {
	s = repeated.ReplaceAllStringFunc(s, func(m string) string {
		parts := repeated.FindStringSubmatch(m)
		return strings.Repeat(parts[1], must(strconv.Atoi(parts[2])))
	})
	for k, v := range w.words {
		s = strings.ReplaceAll(s, "{"+k+"}", v)
	}
	return s
}

func checkKeywords(t *testing.T, where string, lines []string, want string) {
	t.Helper()
	words := strings.Fields(want)
	for _, l := range lines {
		if !strings.HasPrefix(l, words[0]) {
			t.Fatalf("%s: reply %q, want %s", where, lines, words[0])
		}
	}
	for _, word := range words[1:] {
		found := false
		for _, l := range lines {
			found = found || l[4:] == word[1:] || strings.HasPrefix(l[4:], word[1:]+" ")
		}
		if found != (word[0] == '+') {
			t.Fatalf("%s: %s in %q", where, word, lines)
		}
	}
}
