package mail

import (
	"bytes"
	"mime"
	"strings"
)

// span is a range of a body.
type span struct{ start, end int }

// splitParts finds the parts between the delimiters of a multipart body. It
// stops at the close delimiter or behind most parts; over reports the latter.
// It passes over the body once.
func splitParts(body []byte, boundary string, most int) (parts []span, over bool) {
	dash := []byte("--" + boundary)
	open := -1 // where the part being read begins
	for pos := 0; pos < len(body); {
		i := bytes.Index(body[pos:], dash)
		if i < 0 {
			break
		}
		at := pos + i
		next, closing, ok := delimiter(body, at, len(dash))
		if !ok {
			pos = at + 2
			continue
		}
		if open >= 0 {
			parts = append(parts, span{open, max(open, beforeLineEnd(body, at))})
		}
		if closing {
			return parts, false
		}
		if len(parts) == most {
			return parts, true
		}
		open, pos = next, next
	}
	if open >= 0 {
		parts = append(parts, span{open, len(body)})
	}
	return parts, false
}

// delimiter reports whether a boundary at this place is a delimiter: alone on
// its line but for "--" and white space (RFC 2046 section 5.1.1). next is the
// start of the line behind it.
func delimiter(body []byte, at, size int) (next int, closing, ok bool) {
	if at > 0 && body[at-1] != '\n' {
		return 0, false, false
	}
	rest := body[at+size:]
	if bytes.HasPrefix(rest, []byte("--")) {
		closing, rest = true, rest[2:]
	}
	line := rest
	end := len(body)
	if i := bytes.IndexByte(rest, '\n'); i >= 0 {
		line = rest[:i]
		end = len(body) - len(rest) + i + 1
	}
	if len(bytes.TrimRight(line, " \t\r")) > 0 {
		return 0, false, false
	}
	return end, closing, true
}

func beforeLineEnd(body []byte, at int) int {
	if at > 0 && body[at-1] == '\n' {
		at--
		if at > 0 && body[at-1] == '\r' {
			at--
		}
	}
	return at
}

// contentType reads the Content-Type of a part; without one it is plain text
// (RFC 2045 section 5.2), inside multipart/digest a message.
func (h Header) contentType(fallback string) (media string, params map[string]string) {
	return mediaType(h.Get("Content-Type"), fallback)
}

func mediaType(value, fallback string) (string, map[string]string) {
	if value == "" {
		return fallback, nil
	}
	media, params, err := mime.ParseMediaType(value)
	if err == nil && isMediaType(media) {
		return media, params
	}
	// The parameters are not understood. The type alone often is.
	first, _, _ := strings.Cut(value, ";")
	first = strings.ToLower(strings.TrimSpace(first))
	if isMediaType(first) {
		return first, nil
	}
	return "application/octet-stream", nil
}

// transferEncoding gives the encoding's name in lower case, "7bit" when there
// is none.
func (h Header) transferEncoding() string {
	v, _, _ := strings.Cut(h.Get("Content-Transfer-Encoding"), ";")
	v = strings.ToLower(strings.TrimSpace(v))
	if v == "" {
		return "7bit"
	}
	return v
}
