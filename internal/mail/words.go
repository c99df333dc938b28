package mail

import (
	"fmt"
	"io"
	"mime"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/htmlindex"
)

// words decodes RFC 2047 encoded words of every charset browsers know.
var words = mime.WordDecoder{CharsetReader: charsetReader}

// charsetReader turns text of a named charset into UTF-8.
func charsetReader(charset string, in io.Reader) (io.Reader, error) {
	charset = strings.ToLower(strings.Trim(charset, " \t\"'"))
	switch charset {
	case "", "us-ascii", "ascii", "utf-8", "utf8":
		return in, nil
	}
	// htmlindex gives the "replacement" encoding for the names of encodings
	// that are dangerous to decode, so they come out as one U+FFFD.
	enc, err := htmlindex.Get(charset)
	if err != nil {
		return nil, fmt.Errorf("unknown charset")
	}
	return enc.NewDecoder().Reader(in), nil
}

// DecodeText decodes RFC 2047 words for reading. What does not decode is given
// as it stands; control characters become spaces and bytes that are not UTF-8
// become U+FFFD, so the result can be shown.
func DecodeText(raw string) string {
	s, err := words.DecodeHeader(raw)
	if err != nil {
		s = raw
	}
	return showable(s)
}

// showable makes one line of valid UTF-8 without control characters.
func showable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, string(utf8.RuneError)))
	return strings.TrimSpace(s)
}
