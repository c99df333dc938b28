package classify

import (
	"regexp"
	"strings"
	"unicode"
)

// wording is a meaning and the phrases it is told with. A phrase is written as
// normal gives text; "…" stands for a few words.
type wording struct {
	meaning
	phrases []string
}

// near is how far apart the pieces of a phrase may be, in octets.
const near = 60

var (
	// What would be taken for words: paths of links and the numbers that begin
	// each line of a reply.
	linkPattern = regexp.MustCompile(`(?i)https?://([^/\s<>"?]+)[^\s<>"]*`)
	// "mail.example.org does not exist" names no mailbox.
	hostPhrase    = regexp.MustCompile(`(?i)(^|[\s(\[])[a-z0-9-]+(?:\.[a-z0-9-]+)+\.? ((?:does not|doesn't) exist|not found|is unknown)`)
	numberPattern = regexp.MustCompile(`\b[245][0-7][0-9]-(?:[245]\.[0-9]{1,3}\.[0-9]{1,3})?`)
)

// normal gives lower-case words parted by single spaces, with one in front and
// one behind. A bar stands where a sentence or a paragraph ends, so that no
// phrase is put together from two.
func normal(s string) string {
	s = numberPattern.ReplaceAllString(s, " ")
	s = linkPattern.ReplaceAllString(s, " $1 ")
	s = hideAddresses(s)
	s = hostPhrase.ReplaceAllString(s, "${1}domain $2")
	var b strings.Builder
	b.Grow(len(s) + 2)
	b.WriteByte(' ')
	space := true
	for i, r := range s {
		switch {
		case ends(s, i):
			if !space {
				b.WriteByte(' ')
			}
			b.WriteString("| ")
			space = true
		case unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) || r == '@':
			b.WriteRune(unicode.ToLower(r))
			space = false
		case r == '\'' || r == '’' || r == '`':
			// doesn't, doesn’t and doesnt are one word.
		case !space:
			b.WriteByte(' ')
			space = true
		}
	}
	if !space {
		b.WriteByte(' ')
	}
	return b.String()
}

// phrase finds the first wording of the table that stands in a text.
func phrase(text string) (meaning, bool) {
	text = normal(text)
	if len(text) < 3 {
		return meaning{}, false
	}
	for _, w := range wordings {
		for _, p := range w.phrases {
			if says(text, p) {
				return w.meaning, true
			}
		}
	}
	return meaning{}, false
}

// says reports whether a normalized text has a phrase, from the start of a
// word on. Languages without spaces have no words to start.
func says(text, p string) bool {
	first, rest, more := strings.Cut(p, "…")
	if first[0] < 0x80 {
		first = " " + first
	}
	for from := 0; ; {
		i := strings.Index(text[from:], first)
		if i < 0 {
			return false
		}
		from += i + len(first)
		if !more || follows(text[from:min(len(text), from+near+len(rest))], rest) {
			return true
		}
	}
}

func follows(text, p string) bool {
	text, _, _ = strings.Cut(text, "|")
	piece, rest, more := strings.Cut(p, "…")
	i := strings.Index(text, piece)
	return i >= 0 && (!more || follows(text[i+len(piece):], rest))
}

// ends reports whether a sentence or a paragraph ends at s[i].
func ends(s string, i int) bool {
	next := byte('\n')
	if i+1 < len(s) {
		next = s[i+1]
	}
	switch s[i] {
	case '.', ';', '!', '?':
		return next == ' ' || next == '\n' || next == '\r'
	case '\n':
		return next == '\n' || next == '\r'
	}
	return strings.HasPrefix(s[i:], "。")
}
