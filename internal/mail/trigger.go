package mail

import "strings"

// HasTrigger reports whether a decoded subject holds the literal, such as
// "[secure]", in whatever ASCII case.
func HasTrigger(subject, literal string) bool {
	literal = strings.TrimSpace(literal)
	_, found := cutAll(subject, literal)
	return found
}

// RemoveTrigger takes a literal such as "[secure]" out of the subject, also
// where it stands in encoded words, and reports whether it was there. All else
// the subject says stays; a subject without the literal keeps its bytes.
func RemoveTrigger(h *Header, literal string) (bool, error) {
	literal = strings.TrimSpace(literal)
	removed := false
	fields := append([]field(nil), h.fields...)
	for i, f := range fields {
		if !strings.EqualFold(f.name, "Subject") {
			continue
		}
		// Once more where removing the literal has joined pieces to an
		// encoded word that says it again.
		for range 10 {
			changed, found, err := subjectWithout(fields[i], literal)
			if err != nil {
				return false, err
			}
			if !found {
				break
			}
			fields[i], removed = changed, true
		}
	}
	h.fields = fields
	return removed, nil
}

func subjectWithout(f field, literal string) (field, bool, error) {
	raw := f.value()
	text := decodeWords(raw)
	if text == raw {
		// Nothing is encoded: the bytes stay as they are, 8-bit ones too.
		rest, found := cutAll(raw, literal)
		return field{f.name, foldField(f.name, rest)}, found, nil
	}
	rest, found := cutAll(text, literal)
	if !found {
		return f, false, nil
	}
	out, err := textField(f.name, showable(rest))
	if err != nil {
		return f, false, err
	}
	// What looked like text may decode to something else when written anew,
	// the literal among it. Space beside words of an unknown charset may
	// differ: who knows the charset sees none there.
	if squeeze(DecodeText(out.value())) != squeeze(showable(rest)) {
		out, err = literalField(f.name, showable(rest))
	}
	return out, true, err
}

func squeeze(s string) string { return strings.ReplaceAll(s, " ", "") }

// cutAll removes every occurrence of literal, those that appear by removing
// one included, and the white space that would stand double in its place.
func cutAll(s, literal string) (string, bool) {
	// Damaged text is shown with U+FFFD and matches nothing.
	if literal == "" || strings.ToValidUTF8(literal, "\uFFFD") != literal || strings.Contains(literal, "\uFFFD") {
		return s, false
	}
	found := false
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		out = append(out, s[i])
		cut := len(out) - len(literal)
		if cut < 0 || !equalFoldASCII(out[cut:], literal) {
			continue
		}
		found = true
		out = out[:cut]
		for i+1 < len(s) && isWSP(rune(s[i+1])) && (len(out) == 0 || isWSP(rune(out[len(out)-1]))) {
			i++
		}
	}
	if !found {
		return s, false
	}
	return strings.Trim(string(out), " \t"), true
}

func equalFoldASCII(b []byte, s string) bool {
	for i := range b {
		if lowerASCII(b[i]) != lowerASCII(s[i]) {
			return false
		}
	}
	return true
}

func lowerASCII(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
