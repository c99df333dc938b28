package mail

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
)

// words lets net/mail decode display names in every charset browsers know.
var words = mime.WordDecoder{CharsetReader: func(charset string, in io.Reader) (io.Reader, error) {
	enc := findCharset(charset)
	if enc == nil {
		return nil, errors.New("unknown charset")
	}
	return enc.NewDecoder().Reader(in), nil
}}

// findCharset gives nil for a charset nobody knows, and for those that are not
// to be decoded because they hide ASCII (the "replacement" encodings of the
// WHATWG Encoding Standard).
func findCharset(name string) encoding.Encoding {
	name = strings.Trim(name, " \t\"'")
	if i := strings.IndexByte(name, '*'); i >= 0 {
		name = name[:i] // RFC 2231 section 5: =?utf-8*en?q?…?=
	}
	enc, err := htmlindex.Get(name)
	if err != nil {
		return nil
	}
	if canonical, err := htmlindex.Name(enc); err != nil || canonical == "replacement" {
		return nil
	}
	return enc
}

// parseWord decodes the transfer encoding of exactly one RFC 2047 word.
func parseWord(s string) (charset string, text []byte, ok bool) {
	s, ok1 := strings.CutPrefix(s, "=?")
	s, ok2 := strings.CutSuffix(s, "?=")
	parts := strings.Split(s, "?")
	if !ok1 || !ok2 || len(parts) != 3 || parts[0] == "" {
		return "", nil, false
	}
	switch parts[1] {
	case "b", "B":
		text, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(parts[2], "="))
		return parts[0], text, err == nil
	case "q", "Q":
		if strings.ContainsAny(parts[2], " \t") {
			return "", nil, false
		}
		return parts[0], decodeQ([]byte(strings.ReplaceAll(parts[2], "_", " "))), true
	}
	return "", nil, false
}

// nextWord finds the first encoded word in s.
func nextWord(s string) (start, end int, charset string, text []byte, ok bool) {
	for from := 0; ; {
		i := strings.Index(s[from:], "=?")
		if i < 0 {
			return 0, 0, "", nil, false
		}
		start = from + i
		end = start + 2
		for marks := 0; marks < 3; marks++ {
			j := strings.IndexAny(s[end:], "? \t")
			if j < 0 || s[end+j] != '?' {
				end = -1
				break
			}
			end += j + 1
		}
		if end > 0 && end < len(s) && s[end] == '=' {
			end++
			if charset, text, ok = parseWord(s[start:end]); ok && known(charset) {
				return start, end, charset, text, true
			}
		}
		from = start + 2
	}
}

func known(charset string) bool { return findCharset(charset) != nil }

// decodeWords decodes the encoded words in s and leaves everything else,
// words that cannot be decoded included. Characters that a careless sender
// split between two words of one charset are joined.
func decodeWords(s string) string {
	var out strings.Builder
	var pending []byte
	var charset string
	flush := func() {
		out.WriteString(toUTF8(pending, charset))
		pending = nil
	}
	after := false // the last thing read was an encoded word
	for {
		start, end, cs, text, ok := nextWord(s)
		if !ok {
			flush()
			out.WriteString(s)
			return out.String()
		}
		between := s[:start]
		if !after || strings.Trim(between, " \t") != "" {
			flush()
			out.WriteString(between)
		} else if !strings.EqualFold(cs, charset) {
			flush()
		}
		charset, after = cs, true
		pending = append(pending, text...)
		s = s[end:]
	}
}

// toUTF8 decodes text of a charset, as well as can be.
func toUTF8(b []byte, charset string) string {
	if len(b) == 0 {
		return ""
	}
	enc := findCharset(charset)
	if name := strings.ToLower(charset); enc == nil || name == "us-ascii" || name == "ascii" || name == "utf-8" {
		// What calls itself ASCII or nothing is UTF-8 if it looks like it.
		if utf8.Valid(b) {
			return string(b)
		}
		if name == "utf-8" {
			return string(bytes.ToValidUTF8(b, []byte("\uFFFD")))
		}
		enc, _ = htmlindex.Get("windows-1252")
	}
	out, err := enc.NewDecoder().Bytes(b)
	if err != nil {
		return string(bytes.ToValidUTF8(b, []byte("\uFFFD")))
	}
	return string(out)
}

// DecodeText decodes RFC 2047 words for reading. What does not decode is given
// as it stands; control characters become spaces and bytes that are not UTF-8
// become U+FFFD, so the result can be shown.
func DecodeText(raw string) string { return showable(decodeWords(raw)) }

// showable makes one line of valid UTF-8 without control characters.
func showable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return strings.TrimSpace(s)
}
