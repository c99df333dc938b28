package policy

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sealpost/sealpost/internal/fault"
)

var (
	nameForm    = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)
	findingForm = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,63}$`)
	headerForm  = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,76}$")
)

// Parse reads a document strictly: unknown keys, repeated keys and values that
// would weaken protection are refused, and all mistakes are reported at once
// (as a fault with further ones in Also).
func Parse(data []byte) (Document, error) {
	tree, bad := readTree(data)
	if bad != nil {
		return Document{}, bad
	}
	r := &reader{}
	doc := r.document(tree)
	if len(r.faults) > 0 {
		return Document{}, fault.Join(r.faults...)
	}
	return doc, nil
}

func (r *reader) document(n node) Document {
	doc := Default()
	keys, ok := r.object(n, []string{"version", "order", "tls_floor", "notice_floor", "key_tiers", "sign", "rules"}, "version")
	if !ok {
		return doc
	}
	if v, ok := keys["version"]; ok {
		r.integer(v, Version, Version)
	}
	if v, ok := keys["order"]; ok {
		doc.Order = r.seals(v)
	}
	if v, ok := keys["tls_floor"]; ok {
		doc.TLSFloor = r.grade(v, Verified)
	}
	if v, ok := keys["notice_floor"]; ok {
		doc.NoticeFloor = r.grade(v, Encrypted)
	}
	if v, ok := keys["key_tiers"]; ok {
		doc.KeyTiers = r.keyTiers(v, doc.KeyTiers)
	}
	if v, ok := keys["sign"]; ok {
		doc.Sign = r.sign(v)
	}
	if v, ok := keys["rules"]; ok {
		doc.Rules = r.rules(v)
	}
	return doc
}

func (r *reader) keyTiers(n node, tiers KeyTiers) KeyTiers {
	keys, _ := r.object(n, []string{"pgp", "smime"})
	if v, ok := keys["pgp"]; ok {
		tiers.PGP = r.tier(v)
	}
	if v, ok := keys["smime"]; ok {
		tiers.SMIME = r.tier(v)
	}
	return tiers
}

func (r *reader) tier(n node) Tier {
	text, ok := r.text(n)
	tier, err := ParseTier(text)
	if ok && err != nil {
		r.bad(n, "unknown_tier", "The tiers are harvested, discovered, confirmed and pinned.")
	}
	return tier
}

func (r *reader) sign(n node) Sign {
	text, ok := r.text(n)
	switch sign := Sign(text); sign {
	case SignSealed, SignAll, SignNever:
		return sign
	}
	if ok {
		r.bad(n, "unknown_sign", "What is signed can be sealed, all or never.")
	}
	return SignSealed
}

func (r *reader) rules(n node) []Rule {
	var rules []Rule
	names := map[string]bool{}
	for _, item := range r.array(n, MaxRules) {
		keys, ok := r.object(item, []string{"name", "when", "then"}, "name", "when", "then")
		if !ok {
			continue
		}
		var rule Rule
		if v, ok := keys["name"]; ok {
			rule.Name = r.ruleName(v, names)
		}
		if v, ok := keys["when"]; ok {
			rule.When = r.when(v)
		}
		if v, ok := keys["then"]; ok {
			rule.Then = r.then(v)
		}
		rules = append(rules, rule)
	}
	return rules
}

func (r *reader) ruleName(n node, names map[string]bool) string {
	name, ok := r.text(n)
	switch {
	case !ok:
	case !nameForm.MatchString(name):
		r.bad(n, "bad_name", "A rule's name is up to 64 small letters, digits, - and _, because it is shown and stored in clear.")
	case name == RuleDefault:
		r.bad(n, "reserved_name", "This name is taken for the document's own settings.")
	case names[name]:
		r.bad(n, "repeated_name", "Another rule has this name.")
	}
	names[name] = true
	return name
}

func (r *reader) when(n node) When {
	var w When
	keys, _ := r.object(n, []string{"sender", "recipient", "purpose", "trigger", "header", "min_size", "findings"})
	if v, ok := keys["sender"]; ok {
		w.Sender = r.patterns(v)
	}
	if v, ok := keys["recipient"]; ok {
		w.Recipient = r.patterns(v)
	}
	if v, ok := keys["purpose"]; ok {
		w.Purpose = list(r, v, r.purpose)
	}
	if v, ok := keys["trigger"]; ok {
		w.Trigger = list(r, v, r.trigger)
	}
	if v, ok := keys["header"]; ok {
		w.Header = r.header(v)
	}
	if v, ok := keys["min_size"]; ok {
		w.MinSize = r.integer(v, 1, 1<<40)
	}
	if v, ok := keys["findings"]; ok {
		w.Findings = list(r, v, r.finding)
	}
	return w
}

func (r *reader) then(n node) Then {
	var t Then
	keys, ok := r.object(n, []string{"remove", "floor", "purpose", "hold", "refuse"})
	if ok && len(keys) == 0 {
		r.bad(n, "empty", "This rule does nothing. Give remove, floor, purpose, hold or refuse.")
	}
	if v, ok := keys["remove"]; ok {
		t.Remove = r.seals(v)
	}
	if v, ok := keys["floor"]; ok {
		t.Floor = r.grade(v, Verified)
	}
	if v, ok := keys["purpose"]; ok {
		if t.Purpose = r.purpose(v); t.Purpose == Generic {
			r.bad(v, "weakens", "A rule can only make the purpose stricter, and generic is the least strict.")
		}
	}
	if v, ok := keys["hold"]; ok {
		t.Hold = r.reason(v)
	}
	if v, ok := keys["refuse"]; ok {
		t.Refuse = r.reason(v)
	}
	return t
}

// list reads a list that is not empty and has no item twice.
func list[T comparable](r *reader, n node, item func(node) T) []T {
	items := r.array(n, maxItems)
	if items != nil && len(items) == 0 {
		r.bad(n, "empty", "This list is empty. Leave the key out instead.")
	}
	var out []T
	seen := map[T]bool{}
	before := len(r.faults)
	for _, i := range items {
		v := item(i)
		if seen[v] && len(r.faults) == before {
			r.bad(i, "repeated", "This stands in the list twice.")
		}
		seen[v] = true
		out = append(out, v)
	}
	return out
}

func (r *reader) seals(n node) []Seal {
	if items, ok := n.value.([]node); ok && len(items) == 0 {
		r.bad(n, "empty", "Name at least one of pgp, smime, tls and portal.")
		return nil
	}
	return list(r, n, func(n node) Seal {
		text, ok := r.text(n)
		if ok && !Seal(text).Valid() {
			r.bad(n, "unknown_seal", "The seals are pgp, smime, tls and portal.")
		}
		return Seal(text)
	})
}

func (r *reader) grade(n node, least Grade) Grade {
	text, ok := r.text(n)
	if !ok {
		return None
	}
	grade, err := ParseGrade(text)
	if err != nil || grade < least {
		words := []string{}
		for g := least; g <= Authenticated; g++ {
			words = append(words, g.String())
		}
		r.bad(n, "bad_floor", "This floor can be %s; nothing weaker.", strings.Join(words, " or "))
	}
	return grade
}

func (r *reader) purpose(n node) Purpose {
	text, ok := r.text(n)
	if ok && !Purpose(text).Valid() {
		r.bad(n, "unknown_purpose", "The purposes are generic, treatment, payment, operations and marketing.")
	}
	return Purpose(text)
}

func (r *reader) patterns(n node) []Pattern {
	return list(r, n, func(n node) Pattern {
		text, ok := r.text(n)
		if !ok {
			return Pattern{}
		}
		p, err := ParsePattern(text)
		if err != nil {
			r.bad(n, "bad_pattern", "This must be an address, a domain, or *. and a domain for all names under it.")
		}
		return p
	})
}

func (r *reader) trigger(n node) string {
	text := r.words(n, 2, 64)
	if strings.Contains(text, "  ") {
		r.bad(n, "bad_text", "Two spaces in a row are not found reliably in a subject.")
	}
	return text
}

func (r *reader) finding(n node) string {
	text, ok := r.text(n)
	if ok && !findingForm.MatchString(text) {
		r.bad(n, "bad_name", "A finding is a word of up to 64 small letters, digits, and . _ -.")
	}
	return text
}

func (r *reader) header(n node) *HeaderMatch {
	var h HeaderMatch
	keys, ok := r.object(n, []string{"name", "equals", "contains", "present"}, "name")
	if !ok {
		return nil
	}
	if v, ok := keys["name"]; ok {
		text, ok := r.text(v)
		if ok && !headerForm.MatchString(text) {
			r.bad(v, "bad_name", "This is not the name of a header field.")
		}
		h.Name = text
	}
	tests := 0
	if v, ok := keys["equals"]; ok {
		tests++
		h.Equals = r.words(v, 1, 256)
	}
	if v, ok := keys["contains"]; ok {
		tests++
		h.Contains = r.words(v, 1, 256)
	}
	if v, ok := keys["present"]; ok {
		tests++
		if h.Present, ok = v.value.(bool); !ok || !h.Present {
			r.bad(v, "wrong_type", "This can only be true: a rule cannot ask for a header field to be absent.")
		}
	}
	if tests != 1 {
		r.bad(n, "bad_header", "Give exactly one of equals, contains and present.")
	}
	return &h
}

// reason reads a sentence that senders see and that is stored in clear.
func (r *reader) reason(n node) string {
	text := r.words(n, 1, 200)
	switch {
	case strings.Contains(text, "@"):
		r.bad(n, "bad_reason", "A reason is shown to senders and stored in clear, so it cannot contain an address.")
	case text == HoldNoSeal:
		r.bad(n, "bad_reason", "This word is taken for deliveries that no seal is left for.")
	}
	return text
}

// words reads printable text without white space at its ends.
func (r *reader) words(n node, least, most int) string {
	text, ok := r.text(n)
	if !ok {
		return ""
	}
	count := utf8.RuneCountInString(text)
	odd := strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) || c == utf8.RuneError })
	if odd || count < least || count > most || strings.TrimSpace(text) != text {
		r.bad(n, "bad_text", "This must be %d to %d printable characters with no space at the ends.", least, most)
	}
	return text
}
