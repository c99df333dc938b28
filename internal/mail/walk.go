package mail

import (
	"mime"
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/html/charset"
)

// encodingKind is a Content-Transfer-Encoding.
type encodingKind int

const (
	identity encodingKind = iota
	base64Encoding
	quotedPrintable
	unknownEncoding // offered as it stands
)

// decoded gives the bytes a part stands for. Base64 that is damaged is given
// as it stands, so that nothing is lost.
func (k encodingKind) decoded(b []byte) []byte {
	switch k {
	case base64Encoding:
		if out, ok := decodeBase64(b); ok {
			return out
		}
	case quotedPrintable:
		return decodeQP(b)
	}
	return b
}

func (k encodingKind) size(b []byte) int64 { return int64(len(k.decoded(b))) }

// leaf is a part that is not a multipart.
type leaf struct {
	header   Header
	media    string
	params   map[string]string
	encoding encodingKind
	body     []byte
}

// walker collects the parts of a message in the way of RFC 8621 section 4.1.4:
// text and html are what is shown in either form.
type walker struct {
	limits        Limits
	count         int
	text, html    []leaf
	files         []leaf
	inAlternative bool
}

// part walks one part and reports whether it could be understood.
func (w *walker) part(h Header, body []byte, fallback string, depth int) bool {
	if w.count++; w.count > w.limits.Parts || depth > w.limits.Depth {
		return false
	}
	media, params := h.contentType(fallback)
	if strings.HasPrefix(media, "multipart/") {
		return w.multipart(media, params["boundary"], h, body, depth)
	}
	w.leaf(leaf{h, media, params, kindOf(h.transferEncoding()), body})
	return true
}

func kindOf(encoding string) encodingKind {
	switch encoding {
	case "7bit", "8bit", "binary":
		return identity
	case "base64":
		return base64Encoding
	case "quoted-printable":
		return quotedPrintable
	}
	return unknownEncoding
}

func (w *walker) multipart(media, boundary string, h Header, body []byte, depth int) bool {
	if boundary == "" || kindOf(h.transferEncoding()) != identity {
		return false
	}
	parts, over := splitParts(body, boundary, w.limits.Parts)
	if over || len(parts) == 0 {
		return false
	}
	fallback := "text/plain"
	if media == "multipart/digest" {
		fallback = "message/rfc822"
	}
	texts, htmls, outer := len(w.text), len(w.html), w.inAlternative
	w.inAlternative = outer || media == "multipart/alternative"
	for _, p := range parts {
		ph, pb, err := splitHeader(body[p.start:p.end])
		if err != nil || !w.part(ph, pb, fallback, depth+1) {
			return false
		}
	}
	w.inAlternative = outer
	if media == "multipart/alternative" && !outer {
		w.fillAlternative(texts, htmls)
	}
	return true
}

// fillAlternative lets the only form of an alternative stand in both lists, so
// that a reader of either list misses nothing.
func (w *walker) fillAlternative(texts, htmls int) {
	if len(w.html) == htmls {
		w.html = append(w.html, w.text[texts:]...)
	}
}

func (w *walker) leaf(l leaf) {
	if l.encoding == unknownEncoding || l.attached() {
		w.files = append(w.files, l)
		return
	}
	if l.encoding == base64Encoding {
		if _, ok := decodeBase64(l.body); !ok {
			w.files = append(w.files, l)
			return
		}
	}
	switch l.media {
	case "text/plain":
		w.text = append(w.text, l)
		if !w.inAlternative {
			w.html = append(w.html, l)
		}
	case "text/html":
		w.html = append(w.html, l)
	default:
		w.files = append(w.files, l)
	}
}

// attached reports whether the sender meant the part to be saved.
func (l leaf) attached() bool {
	disposition, params := l.disposition()
	return disposition == "attachment" || params["filename"] != "" || l.params["name"] != ""
}

func (l leaf) disposition() (string, map[string]string) {
	v := l.header.Get("Content-Disposition")
	if v == "" {
		return "", nil
	}
	d, params, err := mime.ParseMediaType(v)
	if err != nil {
		first, _, _ := strings.Cut(v, ";")
		return strings.ToLower(strings.TrimSpace(first)), nil
	}
	return d, params
}

func (l leaf) contentID() string {
	id := strings.TrimSpace(l.header.Get("Content-ID"))
	id = strings.TrimSuffix(strings.TrimPrefix(id, "<"), ">")
	if CheckText(id) != nil || len(id) > 500 {
		return ""
	}
	return id
}

// text decodes the part to UTF-8 with LF line ends.
func (l leaf) text() string {
	b := l.encoding.decoded(l.body)
	name := l.params["charset"]
	if name == "" && l.media == "text/html" && !utf8.Valid(b) {
		_, name, _ = charset.DetermineEncoding(b, "text/html")
	}
	s := strings.ToValidUTF8(toUTF8(b, name), "\uFFFD")
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\x00", "\uFFFD")
}

// extensions name files that come without a name; the machine's own table
// would make the names differ from machine to machine.
var extensions = map[string]string{
	"text/plain": ".txt", "text/html": ".html", "text/csv": ".csv", "text/calendar": ".ics",
	"image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif", "image/webp": ".webp",
	"application/pdf": ".pdf", "application/zip": ".zip", "application/json": ".json",
	"application/xml": ".xml", "text/xml": ".xml", "message/rfc822": ".eml",
	"application/pgp-signature": ".asc", "application/pgp-encrypted": ".asc", "application/pkcs7-signature": ".p7s",
}

func (l leaf) filename(index int) string {
	_, params := l.disposition()
	for _, name := range []string{params["filename"], l.params["name"]} {
		if name = SafeFilename(DecodeText(name)); name != "" {
			return name
		}
	}
	return "attachment-" + strconv.Itoa(index+1) + extensions[l.media]
}

const maxSafeName = 200

// SafeFilename makes a name that is one path element on every system: no
// directories, no control or direction-changing characters, none that Windows
// forbids. It gives "" when nothing is left.
func SafeFilename(s string) string {
	s = strings.ToValidUTF8(s, "_")
	if i := strings.LastIndexAny(s, `/\`); i >= 0 {
		s = s[i+1:]
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r), unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control), r == 0xfeff:
			return -1
		case strings.ContainsRune(`<>:"|?*`, r):
			return '_'
		}
		return r
	}, s)
	s = strings.TrimLeft(strings.Trim(s, " "), ". ")
	s = strings.TrimRight(s, ". ")
	if len(s) > maxSafeName {
		ext := path.Ext(s)
		if len(ext) > 16 {
			ext = ""
		}
		s = strings.TrimRight(cutRunes(s[:len(s)-len(ext)], maxSafeName-len(ext)), ". ") + ext
	}
	return s
}

// cutRunes gives at most n bytes and no half of a character.
func cutRunes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
