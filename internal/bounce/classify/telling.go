package classify

import (
	"regexp"
	"slices"
	"strings"
)

// named is a recipient that a text names, and the line where it does.
type named struct {
	address string
	line    int
}

// telling is the text of a report, line by line.
type telling struct {
	lines []string
	names []named
	guess bool // the text names nobody: they are of the returned message
}

var (
	// A line names a recipient where its address stands in front, behind no
	// more than marks, the numbers of a reply or a label.
	nameLine  = regexp.MustCompile(`^(?:\s|[>*•·-]|<<<)*(?:[45]\d\d[ -](?:[45]\.\d+\.\d+\s+)?)?(?:([^:@<>]{0,70}?)[:=]\s*)?(?:smtp[:;]|rfc822;\s*)?["'<(\[{]{0,3}([^\s<>"()\[\]:;,@]{1,100}@[^\s<>"()\[\]:;,@]{1,255})`)
	notWhom   = regexp.MustCompile(`(?i)^\W*((e-?mail )?from|sender|mail from|return|envelope-from|reply|message-id|contact|postmaster|support|help|cc|subject|date|sent|received|on behalf|by|reporting|questions?|please|hello|hi|dear|id)\b`)
	replyLine = regexp.MustCompile(`(?i)^(\s|[>*])*(<<<\s*)?[45]\d\d[ -]|rcpt to|\b5\d\d \d?\.?|said:`)
)

// telling finds the recipients in the text, from the surest place down.
func (m *material) telling() *telling {
	t := &telling{lines: strings.Split(strings.Join(m.heads(), "\n"), "\n")}
	t.lines = t.lines[:min(len(t.lines), maxLines)]
	for _, a := range addressesIn(m.top.get("x-failed-recipients")) {
		t.names = append(t.names, named{a, t.lineOf(a)})
	}
	if len(t.names) > 0 {
		return t
	}
	if m.listProgram() {
		m.first(t) // the list; how to join it comes below
		return t
	}
	foreign := func(a string) bool { return !m.own(a) }
	// Last, somebody who wrote to his own address.
	any := func(a string) bool { return !m.wrote(a) }
	for _, look := range []struct {
		find func(line string) []string
		of   func(address string) bool
	}{{nameOf, foreign}, {repliedTo, foreign}, {toOf, foreign}, {nameOf, any}} {
		for i, line := range t.lines {
			for _, a := range look.find(line) {
				if look.of(a) {
					t.name(a, i)
				}
			}
		}
		if len(t.names) > 0 {
			return t
		}
	}
	m.fallback(t)
	return t
}

// name takes a recipient where it is named first.
func (t *telling) name(address string, line int) {
	if len(t.names) < maxRecipients && !slices.ContainsFunc(t.names, func(n named) bool { return strings.EqualFold(n.address, address) }) {
		t.names = append(t.names, named{address, line})
	}
}

// fallback asks whom the returned message was for, and then any address of
// the text.
func (m *material) fallback(t *telling) {
	t.guess = true
	for _, name := range []string{"x-failed-recipients", "envelope-to", "to"} {
		for _, a := range addressesIn(m.returned.get(name)) {
			t.names = append(t.names, named{a, -1})
		}
		if len(t.names) > 0 {
			return
		}
	}
	m.first(t)
}

// first takes the first address of the text that is of none of the parties.
func (m *material) first(t *telling) {
	for i, line := range t.lines {
		for _, a := range addressesIn(line) {
			if !m.own(a) {
				t.names = append(t.names, named{a, i})
				return
			}
		}
	}
}

// nameOf gives the recipient that a line names, and toOf the one of a To field
// that a report quotes.
func nameOf(line string) []string { return nameIn(line, false) }

func toOf(line string) []string { return nameIn(line, true) }

func nameIn(line string, to bool) []string {
	if strings.IndexByte(line, '@') < 0 {
		return nil
	}
	match := nameLine.FindStringSubmatch(cutText(line, 500))
	if match == nil || strings.EqualFold(match[1], "to") != to || notWhom.MatchString(match[1]) || notWhom.MatchString(line) {
		return nil
	}
	return addressesIn(match[2])
}

func repliedTo(line string) []string {
	if !replyLine.MatchString(line) {
		return nil
	}
	return addressesIn(line)
}

func (t *telling) lineOf(address string) int {
	for i, l := range t.lines {
		if strings.Contains(l, address) {
			return i
		}
	}
	return -1
}

// wrote reports whether an address is of who wrote the report.
func (m *material) wrote(address string) bool {
	return slices.Contains(addressesIn(m.top.get("from")), address)
}

// own reports whether an address is of the report's own parties: whom it came
// to, who wrote it.
func (m *material) own(address string) bool {
	a, ok := anAddress(address)
	if !ok {
		return true
	}
	if l := strings.ToLower(a.Local()); slices.Contains(systemNames, l) {
		return true
	}
	for _, h := range []string{m.top.get("to"), m.top.get("from"), m.top.get("reply-to"), m.top.get("delivered-to"), m.returned.get("from"), m.returned.get("return-path"), m.returned.get("sender")} {
		for _, o := range addressesIn(h) {
			b, ok := anAddress(o)
			if ok && a.Normal() == b.Normal() && !strings.Contains(m.returned.get("to"), o) {
				return true
			}
		}
	}
	return false
}

// judge reads what is said of one recipient: below its name up to the next
// one, then where it is named, then anywhere.
func (t *telling) judge(n named) (verdict, string) {
	var best verdict
	why := ""
	close := t.below(n)
	if len(t.names) > 1 {
		close = paragraph(close) // what follows may be about all
	}
	for _, text := range []string{close, t.below(n), t.mentions(n.address), t.whole()} {
		text = cutText(text, 2*maxDiagnostic)
		v := judge(text, "")
		if why == "" && strings.TrimSpace(text) != "" {
			why = text
		}
		if best.code == 0 && (best.status == "" || best.status[0] == byte('0'+v.code/100)) {
			best.code = v.code
		}
		if best.status == "" || vague(best.status) && v.status != "" {
			best.status = v.status
		}
		if best.class == "" && v.class != "" {
			best.class, best.hard, why = v.class, v.hard, text
		}
		if best.class != "" && (best.code != 0 || len(t.names) > 1) {
			break
		}
	}
	return best, why
}

// below gives the text from a name up to the next one.
func (t *telling) below(n named) string {
	if n.line < 0 {
		return ""
	}
	end := len(t.lines)
	for _, o := range t.names {
		if o.line > n.line && o.line < end && !strings.EqualFold(o.address, n.address) {
			end = o.line
		}
	}
	return join(t.lines[n.line:end])
}

// paragraph gives the first lines of a text up to an empty one, of which it
// passes over those around the name.
func paragraph(s string) string {
	end, words := 0, 0
	for _, l := range strings.SplitAfter(s, "\n") {
		if strings.TrimSpace(l) == "" && words > 1 {
			break
		}
		if strings.TrimSpace(l) != "" {
			words++
		}
		end += len(l)
	}
	return s[:end]
}

// mentions gives the lines with an address, each with the one below.
func (t *telling) mentions(address string) string {
	var out []string
	for i, l := range t.lines {
		if strings.Contains(l, address) && len(out) < 40 {
			out = append(out, t.lines[i:min(i+2, len(t.lines))]...)
		}
	}
	return strings.Join(out, "\n")
}

func (t *telling) whole() string { return join(t.lines) }

// join gives as many lines as are judged.
func join(lines []string) string {
	size := 0
	for i, l := range lines {
		if size += len(l) + 1; size > 8<<10 {
			return strings.Join(lines[:i+1], "\n")
		}
	}
	return strings.Join(lines, "\n")
}

// about gives what the text for people says of one recipient of several, or
// all of it.
func (m *material) about(final string) string {
	t := &telling{lines: strings.Split(strings.Join(m.heads(), "\n"), "\n")}
	t.lines = t.lines[:min(len(t.lines), maxLines)]
	if len(m.status) > 3 {
		a, _ := anAddress(final)
		return t.mentions(a.Reveal())
	}
	return t.whole()
}

// latePhrases are said of what the peer is still trying to deliver.
var latePhrases = patterns(
	"warning message only", "has been delayed", "delivery…delayed", "was delayed", "is delayed", "will be retried", "will retry",
	"will keep trying", "will continue to try", "continue trying", "still being retried", "still trying", "still attempting",
	"delivery attempts will continue", "will be attempted", "not yet been delivered", "could not be delivered yet",
	"no action is required on your part", "do not need to resend", "dont need to resend", "you do not need to", "weiter versucht", "erneut versucht",
	"weitere zustellversuche", "sera réessayé", "se seguirá intentando",
)

var overPhrases = patterns(
	"giving up", "given up", "gave up", "permanent", "will not be retried", "no further", "failed permanently", "has failed",
	"could not be delivered to one or more",
)

// late tells a notice of delay from one of failure.
func (t *telling) late() bool {
	text := normal(cutText(t.whole(), 8<<10))
	return says(text, latePhrases) && !says(text, overPhrases)
}
