package mail

import (
	"strings"
)

// Part is a MIME entity with exactly the octets it was read with, for who
// checks signatures or decrypts. Every other reader wants Parse.
type Part struct {
	Header Header
	Raw    []byte // header, empty line and body
	Body   []byte // not decoded
	Media  string // type/subtype, lower case
	Params map[string]string
	// Ambiguous: a field that says how to read the part is there twice, so
	// that two readers could see two different things.
	Ambiguous bool
}

// ReadPart reads an entity. Without a Content-Type it is plain text.
func ReadPart(raw []byte) (Part, error) { return readPart(raw, "text/plain") }

func readPart(raw []byte, fallback string) (Part, error) {
	h, body, err := splitHeader(raw)
	if err != nil {
		return Part{}, err
	}
	media, params := h.contentType(fallback)
	p := Part{Header: h, Raw: raw, Body: body, Media: media, Params: params}
	for _, name := range []string{"Content-Type", "Content-Transfer-Encoding", "Content-Disposition"} {
		p.Ambiguous = p.Ambiguous || h.count(name) > 1
	}
	return p, nil
}

// Parts gives the parts of a multipart, and false when it does not parse or
// has more than most.
func (p Part) Parts(most int) ([]Part, bool) {
	boundary := p.Params["boundary"]
	if !strings.HasPrefix(p.Media, "multipart/") || boundary == "" || kindOf(p.Header.transferEncoding()) != identity {
		return nil, false
	}
	spans, over := splitParts(p.Body, boundary, most)
	if over || len(spans) == 0 {
		return nil, false
	}
	fallback := "text/plain"
	if p.Media == "multipart/digest" {
		fallback = "message/rfc822"
	}
	out := make([]Part, 0, len(spans))
	for _, s := range spans {
		child, err := readPart(p.Body[s.start:s.end], fallback)
		if err != nil {
			return nil, false
		}
		out = append(out, child)
	}
	return out, true
}

// Content gives the decoded octets, and false where the encoding is unknown or
// damaged.
func (p Part) Content() ([]byte, bool) {
	switch kind := kindOf(p.Header.transferEncoding()); kind {
	case base64Encoding:
		return decodeBase64(p.Body)
	case unknownEncoding:
		return nil, false
	default:
		return kind.decoded(p.Body), true
	}
}

// Text gives the part as UTF-8 with LF line ends.
func (p Part) Text() string { return p.leaf().text() }

// Filename is a single path element without control characters; a part without
// a name is called by its number.
func (p Part) Filename(index int) string { return p.leaf().filename(index) }

// Attached reports whether the sender meant the part to be saved.
func (p Part) Attached() bool { return p.leaf().attached() }

func (p Part) leaf() leaf {
	return leaf{p.Header, p.Media, p.Params, kindOf(p.Header.transferEncoding()), p.Body}
}

// Where gives a header with the fields whose names are kept, as they are.
func (h Header) Where(keep func(name string) bool) Header {
	var out Header
	for _, f := range h.fields {
		if keep(f.name) {
			out.fields = append(out.fields, f)
		}
	}
	return out
}

// Names gives the names of the fields, from the top.
func (h Header) Names() []string {
	out := make([]string, 0, len(h.fields))
	for _, f := range h.fields {
		out = append(out, f.name)
	}
	return out
}

// Join puts the fields of another header behind those of h, as they are.
func (h Header) Join(other Header) Header {
	return Header{append(append([]field(nil), h.fields...), other.fields...)}
}
