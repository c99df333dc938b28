package policy

import (
	"slices"
	"strings"
)

// purposes is the set of purposes a message stands under.
type purposes map[Purpose]bool

func (s purposes) strictest() Purpose {
	var best Purpose
	for p := range s {
		if p.StricterThan(best) {
			best = p
		}
	}
	return best
}

// standing gives the purposes a message stands under before any rule, and
// whether the stated one was set aside. A sender alone never gets below the
// credential's default.
func standing(f Facts) (set purposes, setAside bool) {
	base := f.DefaultPurpose
	if !base.Valid() {
		base = Treatment
	}
	set = purposes{base: true}
	if f.Purpose.StricterThan(base) {
		set[f.Purpose] = true
	}
	return set, f.Purpose != "" && f.Purpose != base && !set[f.Purpose]
}

// matching gives the rules that match, in the document's order, and the
// purposes the message then stands under. A rule may raise the purpose and so
// make another match, hence the rounds; each adds a purpose, so there are
// never more rounds than purposes.
func matching(rules []Rule, f Facts) ([]*Rule, purposes, bool) {
	set, setAside := standing(f)
	base := set.strictest()
	text := texts{subject: lowerASCII(f.Subject.Reveal()), headers: f.Headers}
	for {
		var hits []*Rule
		grown := false
		for i := range rules {
			if !rules[i].When.match(f, text, set) {
				continue
			}
			hits = append(hits, &rules[i])
			if p := rules[i].Then.Purpose; p.StricterThan(base) && !set[p] {
				set[p], grown = true, true
			}
		}
		if !grown {
			return hits, set, setAside
		}
	}
}

// texts are the parts of the message that rules look into.
type texts struct {
	subject string // lower case
	headers []Header
}

func (w *When) match(f Facts, text texts, set purposes) bool {
	return (len(w.Sender) == 0 || slices.ContainsFunc(w.Sender, func(p Pattern) bool { return p.Match(f.Sender) })) &&
		(len(w.Recipient) == 0 || slices.ContainsFunc(w.Recipient, func(p Pattern) bool { return p.Match(f.Recipient) })) &&
		(len(w.Purpose) == 0 || slices.ContainsFunc(w.Purpose, func(p Purpose) bool { return set[p] })) &&
		(len(w.Trigger) == 0 || slices.ContainsFunc(w.Trigger, text.hasTrigger)) &&
		(w.Header == nil || slices.ContainsFunc(text.headers, w.Header.match)) &&
		f.Size >= w.MinSize &&
		(len(w.Findings) == 0 || slices.ContainsFunc(w.Findings, func(word string) bool { return slices.Contains(f.Findings, word) }))
}

func (t texts) hasTrigger(trigger string) bool {
	return trigger != "" && strings.Contains(t.subject, lowerASCII(trigger))
}

func (m *HeaderMatch) match(h Header) bool {
	if lowerASCII(h.Name) != lowerASCII(m.Name) {
		return false
	}
	value := lowerASCII(strings.TrimSpace(h.Value.Reveal()))
	switch {
	case m.Equals != "":
		return value == lowerASCII(m.Equals)
	case m.Contains != "":
		return strings.Contains(value, lowerASCII(m.Contains))
	default:
		return m.Present
	}
}

// lowerASCII leaves letters outside ASCII alone, so that offsets stay valid
// and the result does not depend on a Unicode version.
func lowerASCII(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return 'A' <= r && r <= 'Z' }) {
		return s
	}
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// StripTriggers removes triggers from a subject, in any case of ASCII letters,
// with the space behind them. The result contains none of them, not even one
// that only the removal of another would have put together.
func StripTriggers(subject string, triggers []string) string {
	out := make([]byte, 0, len(subject))
	removed, skip := false, false
	for i := 0; i < len(subject); i++ {
		if skip && subject[i] == ' ' {
			continue
		}
		skip = false
		out = append(out, subject[i])
		if n := endsInTrigger(out, triggers); n > 0 {
			out = out[:len(out)-n]
			removed = true
			skip = len(out) == 0 || out[len(out)-1] == ' '
		}
	}
	if !removed {
		return subject
	}
	return strings.TrimSpace(string(out))
}

// endsInTrigger gives the length of the longest trigger that text ends in.
func endsInTrigger(text []byte, triggers []string) int {
	longest := 0
	for _, t := range triggers {
		if len(t) > longest && len(t) <= len(text) && equalASCIIFold(text[len(text)-len(t):], t) {
			longest = len(t)
		}
	}
	return longest
}

func equalASCIIFold(a []byte, b string) bool {
	for i := len(a) - 1; i >= 0; i-- {
		x, y := a[i], b[i]
		if x != y && (x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z') {
			return false
		}
	}
	return true
}
