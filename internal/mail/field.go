package mail

import (
	"mime"
	"strings"
	"unicode/utf8"

	"github.com/sealpost/sealpost/internal/fault"
)

const (
	softLine = 76  // preferred length of a line, CRLF not counted
	hardLine = 998 // RFC 5322 section 2.1.1
)

// CheckText refuses what must not enter a header field: control characters
// (CR, LF and NUL among them) and bytes that are not UTF-8.
func CheckText(s string) error {
	if !utf8.ValidString(s) {
		return fault.New(fault.Invalid, "bad_text", "The text is not valid UTF-8.")
	}
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return fault.New(fault.Invalid, "control_character",
				"The text contains a line break, a NUL or another control character, which cannot stand in a header field.")
		}
	}
	return nil
}

// textField makes a field of unstructured text. ASCII stays as it is, encoded
// words in it included; other text becomes encoded words (RFC 2047).
func textField(name, value string) (field, error) {
	if !isFieldName(name) || len(name) > softLine {
		return field{}, badHeader("This is not a name for a header field.")
	}
	if err := CheckText(value); err != nil {
		return field{}, err
	}
	value = strings.Trim(value, " \t")
	if !isASCII(value) || longestWord(value) > hardLine-len(name)-2 {
		value = encodeText(value)
	}
	return field{name, foldField(name, value)}, nil
}

// literalField is textField for text that is shown as typed: what looks like
// an encoded word is encoded, so that it does not decode to something else.
func literalField(name, value string) (field, error) {
	if strings.Contains(value, "=?") && CheckText(value) == nil {
		value = encodeWord(strings.Trim(value, " \t"))
	}
	return textField(name, value)
}

// encodeText encodes text but leaves alone the encoded words that already
// stand in it, because nobody could decode them otherwise.
func encodeText(s string) string {
	if !strings.Contains(s, "=?") {
		return encodeWord(s)
	}
	var out []string
	var plain []string
	flush := func() {
		if len(plain) > 0 {
			out = append(out, encodeWord(strings.Join(plain, " ")))
		}
		plain = nil
	}
	for _, w := range strings.Split(s, " ") {
		if _, _, ok := parseWord(w); ok {
			// Space between two encoded words is not shown (RFC 2047
			// section 6.2), so it goes into the encoded text.
			if len(plain) > 0 {
				plain = append(plain, "")
			}
			flush()
			out = append(out, w)
			plain = append(plain, "")
			continue
		}
		plain = append(plain, w)
	}
	if len(plain) > 1 || len(plain) == 1 && plain[0] != "" {
		flush()
	}
	return strings.Join(out, " ")
}

// encodeWord encodes all of s, in the shorter of the two forms.
func encodeWord(s string) string {
	if isASCII(s) {
		return forceWord(s)
	}
	many := 0
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			many++
		}
	}
	if many*3 > len(s) {
		return mime.BEncoding.Encode("utf-8", s)
	}
	return mime.QEncoding.Encode("utf-8", s)
}

// forceWord encodes ASCII text, which the mime package leaves alone.
func forceWord(s string) string {
	const hex = "0123456789ABCDEF"
	var out []string
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == ' ':
			b.WriteByte('_')
		case c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			b.WriteByte(c)
		default:
			b.Write([]byte{'=', hex[c>>4], hex[c&15]})
		}
		if b.Len() > 55 {
			out = append(out, "=?utf-8?q?"+b.String()+"?=")
			b.Reset()
		}
	}
	if b.Len() > 0 {
		out = append(out, "=?utf-8?q?"+b.String()+"?=")
	}
	return strings.Join(out, " ")
}

func longestWord(s string) int {
	most := 0
	for _, w := range strings.FieldsFunc(s, isWSP) {
		most = max(most, len(w))
	}
	return most
}

func isWSP(r rune) bool { return r == ' ' || r == '\t' }

// foldField writes name and value with a fold before white space wherever a
// line would grow over 76 octets (RFC 5322 section 2.2.3). The unfolded value
// is exactly the value given.
func foldField(name, value string) []byte {
	out := append(make([]byte, 0, len(name)+len(value)+32), name...)
	out = append(out, ':', ' ')
	line := len(out)
	first := true
	for value != "" {
		space := len(value) - len(strings.TrimLeftFunc(value, isWSP))
		end := strings.IndexFunc(value[space:], isWSP)
		if end < 0 {
			end = len(value)
		} else {
			end += space
		}
		if line+end > softLine && space > 0 && !first {
			out = append(out, '\r', '\n')
			line = 0
		}
		out = append(out, value[:end]...)
		line += end
		value = value[end:]
		first = false
	}
	return append(out, '\r', '\n')
}

// mailboxField makes an address list (RFC 5322 section 3.4), folded between
// its elements.
func mailboxField(name string, list []Mailbox) (field, error) {
	if !isFieldName(name) {
		return field{}, badHeader("This is not a name for a header field.")
	}
	var tokens []string
	for i, m := range list {
		if m.Address.IsZero() {
			return field{}, badAddress("An address is missing.")
		}
		if err := CheckText(m.Name.Reveal()); err != nil {
			return field{}, err
		}
		tokens = append(tokens, phrase(m.Name.Reveal())...)
		a := m.Address.Reveal()
		if len(tokens) > 0 && !m.Name.Empty() {
			a = "<" + a + ">"
		}
		if i+1 < len(list) {
			a += ","
		}
		tokens = append(tokens, a)
	}
	return field{name, foldTokens(name, tokens)}, nil
}

// phrase writes a display name as one quoted string or as encoded words.
func phrase(s string) []string {
	switch {
	case strings.Trim(s, " \t") == "":
		return nil
	case isASCII(s) && !strings.Contains(s, "=?") && !strings.Contains(s, "\t") && len(s) < hardLine/2:
		return []string{`"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`}
	case isASCII(s):
		return strings.Fields(forceWord(s))
	case strings.ContainsAny(s, "\"#$%&'(),.:;<>@[\\]^`{|}~\t"):
		// Not allowed literally inside a word of a phrase (RFC 2047 section 5).
		return strings.Fields(mime.BEncoding.Encode("utf-8", s))
	}
	return strings.Fields(encodeWord(s))
}

func foldTokens(name string, tokens []string) []byte {
	out := append([]byte(name), ':')
	line := len(out)
	for i, t := range tokens {
		if line+1+len(t) > softLine && i > 0 {
			out = append(out, '\r', '\n')
			line = 0
		}
		out = append(append(out, ' '), t...)
		line += 1 + len(t)
	}
	return append(out, '\r', '\n')
}
