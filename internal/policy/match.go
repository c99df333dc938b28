package policy

import (
	"slices"
	"strings"

	"github.com/sealpost/sealpost/internal/mail"
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

// standing gives the purposes a message stands under before any rule, the
// credential's default among them, and whether the stated one was set aside. A
// sender alone never gets below the default.
func standing(f Facts) (set purposes, base Purpose, setAside bool) {
	base = f.DefaultPurpose
	if !base.Valid() {
		base = Treatment
	}
	set = purposes{base: true}
	if f.Purpose.StricterThan(base) {
		set[f.Purpose] = true
	}
	return set, base, f.Purpose != "" && f.Purpose != base && !set[f.Purpose]
}

// matching gives the rules that match, in the document's order, and the
// purposes the message then stands under. A rule may raise the purpose and so
// make another match, hence the rounds; each adds a purpose, so there are
// never more rounds than purposes. What a rule asks for is measured against the
// default and not against what the sender states: otherwise stating a stricter
// purpose would take a message out of another rule's reach.
func matching(rules []Rule, f Facts) ([]*Rule, purposes, bool) {
	set, base, setAside := standing(f)
	for {
		var hits []*Rule
		grown := false
		for i := range rules {
			if !rules[i].When.match(f, set) {
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

func (w *When) match(f Facts, set purposes) bool {
	return (len(w.Sender) == 0 || slices.ContainsFunc(w.Sender, func(p Pattern) bool {
		return p.Match(f.Sender) || slices.ContainsFunc(f.From, p.Match)
	})) &&
		(len(w.Recipient) == 0 || slices.ContainsFunc(w.Recipient, func(p Pattern) bool { return p.Match(f.Recipient) })) &&
		(len(w.Purpose) == 0 || slices.ContainsFunc(w.Purpose, func(p Purpose) bool { return set[p] })) &&
		(len(w.Trigger) == 0 || slices.ContainsFunc(w.Trigger, func(t string) bool { return mail.HasTrigger(f.Subject.Reveal(), t) })) &&
		(w.Header == nil || slices.ContainsFunc(f.Headers, w.Header.match)) &&
		f.Size >= w.MinSize &&
		(len(w.Findings) == 0 || slices.ContainsFunc(w.Findings, func(word string) bool { return slices.Contains(f.Findings, word) }))
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

// lowerASCII leaves letters outside ASCII alone, so that the result does not
// depend on a Unicode version.
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
