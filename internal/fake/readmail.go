package fake

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"strings"
	"unicode/utf8"
)

// The page shows mail to people; what it cannot read it leaves to the link to
// the source. These bounds keep a hostile mail from costing more than a look.
const (
	maxNesting = 8
	maxParts   = 100
	maxText    = 1 << 20
	maxHeader  = 64 << 10
)

// headOf reads the header of a mail and an empty body.
func headOf(raw []byte) io.Reader {
	head, _, _ := bytes.Cut(raw[:min(len(raw), maxHeader)], []byte("\r\n\r\n"))
	return io.MultiReader(bytes.NewReader(head), strings.NewReader("\r\n\r\n"))
}

// decodeWords undoes RFC 2047 where it can.
func decodeWords(s string) string {
	if out, err := new(mime.WordDecoder).DecodeHeader(s); err == nil {
		return out
	}
	return s
}

// walker collects what the page shows of one mail.
type walker struct {
	text     string
	found    bool
	html     string
	attached []string
	parts    int
}

func walk(raw []byte) walker {
	var w walker
	msg, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return w
	}
	w.part(textproto.MIMEHeader(msg.Header), msg.Body, 0)
	return w
}

func (w *walker) part(h textproto.MIMEHeader, body io.Reader, depth int) {
	if w.parts++; w.parts > maxParts || depth > maxNesting {
		return
	}
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		kind = "text/plain" // RFC 2045 section 5.2
	}
	disposition, dparams, _ := mime.ParseMediaType(h.Get("Content-Disposition"))
	switch {
	case strings.HasPrefix(kind, "multipart/"):
		r := multipart.NewReader(body, params["boundary"])
		for w.parts <= maxParts {
			p, err := r.NextRawPart()
			if err != nil {
				return
			}
			w.part(p.Header, p, depth+1)
		}
	case disposition == "attachment":
		name := decodeWords(dparams["filename"])
		if name == "" {
			name = kind
		}
		w.attached = append(w.attached, name)
	case kind == "text/plain" && !w.found:
		w.found = true
		w.text = decodeBody(h.Get("Content-Transfer-Encoding"), params["charset"], body)
	case kind == "text/html" && w.html == "":
		w.html = decodeBody(h.Get("Content-Transfer-Encoding"), params["charset"], body)
	}
}

func decodeBody(encoding, charset string, body io.Reader) string {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	text, _ := io.ReadAll(io.LimitReader(body, maxText)) // what could be read is shown
	if strings.EqualFold(charset, "iso-8859-1") || !utf8.Valid(text) {
		runes := make([]rune, len(text))
		for i, c := range text {
			runes[i] = rune(c)
		}
		return string(runes)
	}
	return string(text)
}
