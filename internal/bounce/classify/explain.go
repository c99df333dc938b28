package classify

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/sealpost/sealpost/internal/private"
)

// verdict is what a diagnostic text says.
type verdict struct {
	class  Class
	hard   bool
	code   int
	status string
}

// permanent: the status tells, else the code, and without either a peer that
// has given up has done so for good.
func (v verdict) permanent(kind Kind) bool {
	switch {
	case kind != Bounce:
		return false
	case v.status != "":
		return v.status[0] == '5'
	case v.code != 0:
		return v.code >= 500
	}
	return true
}

func (v verdict) recipient(kind Kind, diagnostic string) Recipient {
	r := Recipient{Kind: kind, Status: v.status, Code: v.code, Diagnostic: private.NewString(cutText(squeeze(diagnostic), maxDiagnostic))}
	if kind == Bounce || kind == Delay {
		if r.Class = v.class; r.Class == "" {
			r.Class = Other
		}
		r.Permanent = v.permanent(kind)
		r.Hard = v.hard && r.Permanent
	}
	return r
}

func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }

var (
	statusPattern = regexp.MustCompile(`(?:^|[^0-9.])([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:[^0-9.]|\.?$|\.[^0-9])`)
	// A reply stands at the start of a text or behind something that ends a
	// word, and is followed by a space, a hyphen or the end.
	replyPattern = regexp.MustCompile(`(?:^|[\s:;,(\["'<#])([245][0-7][0-9])(?:[ \-:;,)\]]|$)`)
)

// statusIn finds the enhanced status (RFC 3463) that says the most: one that
// is more than "something failed", and the last of these, since who relays a
// reply puts its own in front.
func statusIn(s string) (status string, at int) {
	at = -1
	for from := 0; from < len(s); {
		loc := statusPattern.FindStringSubmatchIndex(s[from:])
		if loc == nil {
			break
		}
		found := s[from+loc[2] : from+loc[3]]
		if status == "" || vague(status) || !vague(found) && status[0] == found[0] {
			status, at = found, from+loc[2]
		}
		from += loc[3]
	}
	return status, at
}

// vague is a status that tells no more than its class, or that an address has
// some problem.
func vague(status string) bool {
	return strings.HasSuffix(status, ".0.0") || strings.HasSuffix(status, ".1.0")
}

// codeIn finds the reply code of a text.
func codeIn(s string) int {
	found := 0
	for _, m := range replyPattern.FindAllStringSubmatch(s, 8) {
		n, _ := strconv.Atoi(m[1])
		// 2xx and 354 are steps on the way to the refusal.
		if n >= 400 && (found == 0 || found < 500 && n >= 500) {
			found = n
		}
	}
	return found
}

// explain judges one recipient of a notification: its diagnostic, the status
// field beside it, and for a single recipient the text for people.
func (m *material) explain(final, diagnostic, field string, kind Kind) verdict {
	diagnostic = cutText(diagnostic, maxDiagnostic)
	outer, _ := statusIn(field)
	v := judge(diagnostic, outer)
	if v.class == "" {
		// The comment of a status field is prose, too.
		if w := judge(field, outer); w.class != "" {
			v.class, v.hard = w.class, w.hard
		}
	}
	if v.class == "" && (kind == Bounce || kind == Delay) {
		w := judge(cutText(m.about(final), maxDiagnostic), "")
		v.class, v.hard = w.class, w.hard
		if v.code == 0 {
			v.code = w.code
		}
	}
	return v
}

// quoted is how Cisco IronPort tells a reply: "5.1.0 - Unknown address error
// 550-'5.7.1 Access denied'". What stands in front is its guess.
var quoted = regexp.MustCompile(`^.{0,20}[45]\.[0-9]\.[0-9] - [^']{0,60}? ([45][0-9]{2})[- ]'(.*)`)

// judge reads a diagnostic text; outer is the status that stands beside it.
func judge(text, outer string) verdict {
	if m := quoted.FindStringSubmatch(text); m != nil {
		text = m[1] + " " + m[2]
	}
	v := verdict{code: codeIn(text)}
	v.status, _ = statusIn(text)
	// What the server said itself goes before what its client made of it, if it
	// says more.
	if v.status == "" || vague(v.status) && outer != "" && !vague(outer) && outer[0] == v.status[0] {
		v.status = outer
	}
	v.class, v.hard = classify(v.code, v.status, text)
	v.hard = v.hard && !doubted(v.class, v.status, text)
	if v.status == "" && v.code == 0 && v.class == Expired && strings.Contains(text, "retry timeout exceeded") {
		v.status = "4.4.7" // Exim says so where each error was of class 4
	}
	return v
}

// What tells the command that was refused.
var (
	rcptPhrases = patterns("rcpt")
	dataPhrases = patterns("end of data", "reply to data", "data command", "command data")
)

// doubted reports whether something speaks against "no such mailbox" for good:
// filters say it too, of mailboxes that are there. They say it when they have
// seen the message, or with a status of another kind.
func doubted(class Class, status, text string) bool {
	if class != MailboxUnknown || strings.HasPrefix(detail(status), "1.") {
		return false
	}
	text = normal(text)
	if says(text, rcptPhrases) {
		return false
	}
	if says(text, dataPhrases) {
		return true
	}
	switch detail(status) {
	case "", "0.0", "5.0", "4.1", "3.0", "2.1":
		return false
	}
	return true
}
