package classify

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// addressAt gives the bounds of what looks like an address around the @ at
// s[at], and false where nothing does. It is no pattern, because a pattern
// tries every octet of a long word again and again.
func addressAt(s string, at int) (start, end int, ok bool) {
	start = at
	for start > 0 && at-start < 100 {
		r, n := utf8.DecodeLastRuneInString(s[:start])
		if !inLocal(r) {
			break
		}
		start -= n
	}
	end = at + 1
	for end < len(s) && end-at < 256 {
		r, n := utf8.DecodeRuneInString(s[end:])
		if !inDomain(r) {
			break
		}
		end += n
	}
	// A domain at the end of a sentence.
	end = at + 1 + len(strings.TrimRight(s[at+1:end], ".-"))
	return start, end, start < at && end > at+1
}

func inLocal(r rune) bool {
	return inDomain(r) && r != utf8.RuneError || r < utf8.RuneSelf && strings.ContainsRune("!#$%&'*+/=?^_{|}~", r)
}

func inDomain(r rune) bool {
	return r == '.' || r == '-' || r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r))
}

// hideAddresses puts a lone @ in place of each address.
func hideAddresses(s string) string {
	if strings.IndexByte(s, '@') < 0 {
		return s
	}
	var b strings.Builder
	done := 0
	for from := 0; from < len(s); {
		i := strings.IndexByte(s[from:], '@')
		if i < 0 {
			break
		}
		start, end, ok := addressAt(s, from+i)
		from += i + 1
		if ok && start >= done {
			b.WriteString(s[done:start] + " @ ")
			done, from = end, end
		}
	}
	b.WriteString(s[done:])
	return b.String()
}

// addressesIn gives the addresses of a text, each once.
func addressesIn(s string) (out []string) {
	s = cutText(s, 64<<10)
	for from, looked := 0, 0; looked < 2*maxRecipients && len(out) < maxRecipients; looked++ {
		i := strings.IndexByte(s[from:], '@')
		if i < 0 {
			break
		}
		start, end, ok := addressAt(s, from+i)
		from += i + 1
		if !ok {
			continue
		}
		from = max(from, end)
		a := strings.Trim(s[start:end], "'")
		if _, ok := anAddress(a); ok && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}
