package classify

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// wording is a meaning and the patterns of words it is told with, written as
// normal gives text, but with accents:
//
//	user/mailbox+unknown   one of the words, and one right behind it
//	user/mailbox…unknown   with a few words between, in the same sentence
//
// Each alternative is the start of a word, or of several; a space at its end
// stands for the end of the word.
type wording struct {
	meaning
	patterns []string
}

// near is how far behind a step the next one may begin, in octets.
const near = 60

// pattern is one made ready.
type pattern []step

type step struct {
	next  bool // right behind the step before
	words []string
}

// rule is a wording made ready.
type rule struct {
	meaning
	patterns []pattern
}

func compile(ws []wording) (out []rule) {
	for _, w := range ws {
		out = append(out, rule{w.meaning, patterns(w.patterns...)})
	}
	return out
}

func patterns(ps ...string) (out []pattern) {
	for _, p := range ps {
		out = append(out, steps(p))
	}
	return out
}

// unspaced are scripts that are written without spaces, or with some of the
// words put together: no word starts there for sure.
var unspaced = []*unicode.RangeTable{unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul}

func steps(p string) (out pattern) {
	next := false
	for p != "" {
		i := strings.IndexAny(p, "+…")
		part, behind := p, false
		if i < 0 {
			p = ""
		} else {
			part, behind = p[:i], p[i] == '+'
			_, n := utf8.DecodeRuneInString(p[i:])
			p = p[i+n:]
		}
		s := step{next: next}
		for _, w := range strings.Split(strings.Map(fold, part), "/") {
			if r, _ := utf8.DecodeRuneInString(w); !unicode.In(r, unspaced...) {
				w = " " + w
			}
			s.words = append(s.words, w)
		}
		out, next = append(out, s), behind
	}
	return out
}

var (
	// What would be taken for words: paths of links and the numbers that begin
	// each line of a reply.
	linkPattern = regexp.MustCompile(`(?i)https?://([^/\s<>"?]+)[^\s<>"]*`)
	// "mail.example.org does not exist" names no mailbox.
	hostPhrase    = regexp.MustCompile(`(?i)(^|[\s(\[])[a-z0-9-]+(?:\.[a-z0-9-]+)+\.? ((?:does not|doesn't) exist|not found|is unknown)`)
	numberPattern = regexp.MustCompile(`\b[245][0-7][0-9]-(?:[245]\.[0-9]{1,3}\.[0-9]{1,3})?`)
)

// normal gives lower-case words without accents, parted by single spaces, with
// one in front and one behind. A bar stands where a sentence or a paragraph
// ends, so that no phrase is put together from two.
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
			if r = fold(r); r >= 0 {
				b.WriteRune(r)
				space = false
			}
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

// fold gives the lower-case letter without its accents: many systems write
// none, and what they write of them is lost on old ways. Of an accent that
// stands by itself nothing is left (-1).
func fold(r rune) rune {
	switch {
	case r < utf8.RuneSelf:
		return unicode.ToLower(r)
	case unicode.Is(accents, r):
		return -1
	case r == 'ł' || r == 'Ł':
		return 'l'
	case r == 'ø' || r == 'Ø':
		return 'o'
	case unicode.In(r, unicode.Latin, unicode.Cyrillic):
		r, _ = utf8.DecodeRuneInString(norm.NFD.String(string(r)))
	}
	return unicode.ToLower(r)
}

var accents = &unicode.RangeTable{R16: []unicode.Range16{{Lo: 0x300, Hi: 0x36f, Stride: 1}}}

// phrase finds the first rule of which words stand in a normalized text.
func phrase(rules []rule, text string) (meaning, bool) {
	for _, r := range rules {
		if says(text, r.patterns) {
			return r.meaning, true
		}
	}
	return meaning{}, false
}

// says reports whether a normalized text has one of the patterns.
func says(text string, ps []pattern) bool {
	return slices.ContainsFunc(ps, func(p pattern) bool { return stands(text, p) })
}

func stands(text string, p pattern) bool {
	for _, w := range p[0].words {
		for from := 0; ; {
			i := strings.Index(text[from:], w)
			if i < 0 {
				break
			}
			from = behind(from+i, w)
			if follows(text[from:], p[1:]) {
				return true
			}
		}
	}
	return false
}

// behind is where a word ends that stands at an octet; the space between two
// words is of both.
func behind(at int, w string) int { return at + len(strings.TrimSuffix(w, " ")) }

// follows reports whether the steps stand in front of a text.
func follows(text string, p pattern) bool {
	if len(p) == 0 {
		return true
	}
	for _, w := range p[0].words {
		from, reach := 0, near+len(w)
		if p[0].next {
			from, reach = behindWord(text, w), len(w)
		}
		scope := text[from:min(len(text), from+reach)]
		scope, _, _ = strings.Cut(scope, "|")
		if i := strings.Index(scope, w); i >= 0 && follows(text[behind(from+i, w):], p[1:]) {
			return true
		}
	}
	return false
}

// behindWord is where w stands if it is right behind the word, or the start of
// one, that a text continues.
func behindWord(text, w string) int {
	if w[0] == ' ' {
		return max(0, strings.IndexByte(text, ' '))
	}
	return len(text) - len(strings.TrimPrefix(text, " "))
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
