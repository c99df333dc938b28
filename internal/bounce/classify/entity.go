package classify

import (
	"bytes"
	"encoding/base64"
	"mime"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html/charset"

	"github.com/sealpost/sealpost/internal/mail"
)

// Bounds of what is looked at. Reports of real systems stay far below.
const (
	maxFields     = 500       // of one header
	maxField      = 8 << 10   // octets of one field, folds included
	maxParts      = 100       // of the whole mail
	maxDepth      = 8         // of parts in parts, returned messages included
	maxText       = 128 << 10 // octets of all text parts, decoded
	maxStatus     = 1 << 20   // octets of one status part, decoded
	maxRecipients = 200
	maxDiagnostic = 2 << 10
)

// field is one header field: its name in lower case, its value unfolded.
type field struct{ name, value string }

// fields are a header, or one group of a delivery status.
type fields []field

func (f fields) get(name string) string {
	for _, x := range f {
		if x.name == name {
			return x.value
		}
	}
	return ""
}

func (f fields) all(name string) (out []string) {
	for _, x := range f {
		if x.name == name {
			out = append(out, x.value)
		}
	}
	return out
}

// entity is a MIME entity. Package mail reads headers strictly, because it
// vouches for what it relays; systems that send bounces are read as they are.
type entity struct {
	header fields
	media  string
	params map[string]string
	body   []byte
}

func readEntity(raw []byte) entity {
	h, body := cutHeader(raw)
	e := entity{header: h, body: body}
	e.media, e.params = contentType(h.get("content-type"))
	return e
}

// cutHeader reads fields up to an empty line, or to a line that is no field.
func cutHeader(raw []byte) (h fields, body []byte) {
	for first := true; len(raw) > 0; first = false {
		line, rest := cutLine(raw)
		if len(line) == 0 {
			if first {
				return nil, rest // a header of no fields
			}
			return h, rest
		}
		if first && (bytes.HasPrefix(line, []byte("From ")) || bytes.HasPrefix(line, []byte(">From "))) {
			raw = rest // the line of an mbox
			continue
		}
		name, value, ok := cutField(line)
		if !ok {
			return h, raw
		}
		text, rest := unfold(value, rest)
		if len(h) < maxFields {
			h = append(h, field{name, text})
		}
		raw = rest
	}
	return h, nil
}

// cutLine gives the first line without its line end.
func cutLine(raw []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(raw, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), rest
}

func cutField(line []byte) (name string, value []byte, ok bool) {
	i := bytes.IndexByte(line[:min(len(line), 100)], ':')
	if i <= 0 {
		return "", nil, false
	}
	for _, c := range bytes.TrimRight(line[:i], " \t") {
		if c <= ' ' || c >= 0x7f {
			return "", nil, false
		}
	}
	return strings.ToLower(string(bytes.TrimRight(line[:i], " \t"))), line[i+1:], true
}

// unfold joins the lines that continue a field, and passes over those that
// make it longer than anybody needs.
func unfold(value, rest []byte) (string, []byte) {
	text := append([]byte(nil), bytes.TrimSpace(value[:min(len(value), maxField)])...)
	for len(rest) > 0 && (rest[0] == ' ' || rest[0] == '\t') {
		var line []byte
		line, rest = cutLine(rest)
		line = bytes.TrimSpace(line)
		if len(line) > 0 && len(text)+len(line) < maxField {
			text = append(append(text, ' '), line...)
		}
	}
	return strings.ToValidUTF8(string(text), "\uFFFD"), rest
}

// contentType reads the field as far as it can be understood. Report types and
// boundaries are found in fields that are not well formed, too.
func contentType(value string) (string, map[string]string) {
	if value == "" {
		return "text/plain", nil
	}
	media, params, err := mime.ParseMediaType(value)
	if err == nil {
		return media, params
	}
	media, rest, _ := strings.Cut(value, ";")
	params = map[string]string{}
	for _, p := range strings.Split(rest, ";") {
		name, v, ok := strings.Cut(p, "=")
		if ok && len(params) < 20 {
			params[strings.ToLower(strings.TrimSpace(name))] = strings.Trim(strings.TrimSpace(v), `"'`)
		}
	}
	return strings.ToLower(strings.TrimSpace(media)), params
}

// parts gives the entities between the delimiters of a multipart, most at the
// most.
func (e entity) parts(most int) (out []entity) {
	boundary := strings.TrimRight(e.params["boundary"], " ")
	if boundary == "" {
		return nil
	}
	dash := []byte("--" + boundary)
	open := -1
	for pos := 0; pos < len(e.body); {
		line, rest := cutLine(e.body[pos:])
		next := len(e.body) - len(rest)
		if bytes.HasPrefix(line, dash) {
			tail := bytes.TrimRight(line[len(dash):], " \t")
			if len(tail) == 0 || string(tail) == "--" {
				if open >= 0 {
					out = append(out, readEntity(e.body[open:pos]))
				}
				if open = next; len(tail) > 0 {
					open = -1
				}
				if len(out) >= most {
					return out
				}
			}
		}
		pos = next
	}
	if open >= 0 {
		out = append(out, readEntity(e.body[open:]))
	}
	return out
}

// content decodes the body, up to most octets. What is damaged is given as far
// as it goes.
func (e entity) content(most int) []byte {
	body := e.body
	switch strings.ToLower(strings.TrimSpace(e.header.get("content-transfer-encoding"))) {
	case "base64":
		return decodeBase64(body[:min(len(body), most*2)], most)
	case "quoted-printable":
		var h mail.Header
		if h.Add("Content-Transfer-Encoding", "quoted-printable") == nil {
			// An octet takes three, and soft line breaks.
			body, _ = mail.Part{Header: h, Body: body[:min(len(body), most*4)]}.Content()
		}
	}
	return body[:min(len(body), most)]
}

func decodeBase64(b []byte, most int) []byte {
	clean := make([]byte, 0, len(b))
	for _, c := range b {
		if c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '+' || c == '/' {
			clean = append(clean, c)
		}
	}
	if len(clean)%4 == 1 {
		clean = clean[:len(clean)-1]
	}
	n, _ := base64.RawStdEncoding.Decode(clean, clean) // the alphabet is clean
	return clean[:min(n, most)]
}

// text gives the part as UTF-8 with LF line ends.
func (e entity) text(most int) string {
	b := e.content(most)
	name := e.params["charset"]
	if name == "" || strings.EqualFold(name, "us-ascii") || strings.EqualFold(name, "utf-8") {
		name = guessCharset(b, name)
	}
	return cutText(mail.Part{Media: "text/plain", Params: map[string]string{"charset": name}, Body: b}.Text(), most)
}

// guessCharset is for text that does not say what it is, or is not what it
// says. ISO-2022-JP is known by its escapes, and looks like ASCII otherwise.
func guessCharset(b []byte, name string) string {
	switch {
	case bytes.Contains(b, []byte("\x1b$B")) || bytes.Contains(b, []byte("\x1b$@")):
		return "iso-2022-jp"
	case utf8.Valid(b):
		return "utf-8"
	}
	_, found, _ := charset.DetermineEncoding(b[:min(len(b), 1024)], "text/plain")
	return found
}

// cutText gives at most n octets and no half of a character.
func cutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
