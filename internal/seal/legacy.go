package seal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html"

	"github.com/sealpost/sealpost/internal/mail"
)

// Bounds of what is done for readers who know nothing of header protection.
const (
	displayAhead   = 64 << 10 // of a body is looked at
	displayContent = 16 << 10 // of a part's content, decoded
	displaySubject = 2 << 10  // a longer one is not repeated
	displayLine    = 600      // columns of a line that is put in
	mostColumns    = 998      // RFC 5322 section 2.1.1
)

// edit puts octets in the place of others.
type edit struct {
	at, cut int
	put     []byte
}

// display plans how the subject, which is hidden outside, comes to stand on
// top of the main body parts: a Legacy Display Element (RFC 9788 section
// 5.2). Nothing else of them changes. Where there is any doubt about a part,
// it stays as it is.
type display struct {
	raw      []byte // the header and the beginning of the body
	whole    bool   // it is all of the body
	subject  string
	eightBit bool // octets beyond ASCII may be put in

	edits    []edit
	declared []int // parts that say 8bit now, by where they begin
	shown    bool  // a part has an element already
	added    bool  // octets beyond ASCII were put in
}

// withDisplay gives the message with the element, and whether there are octets
// beyond ASCII in it. ahead is the beginning of rest.
func withDisplay(h mail.Header, ahead []byte, rest stream, eightBit bool) (mail.Header, stream, bool) {
	d := display{whole: int64(len(ahead)) == rest.size, subject: plainValue(h.Get("Subject")), eightBit: eightBit}
	if !d.whole {
		// A delimiter that is cut could be taken for another one.
		ahead = ahead[:bytes.LastIndexByte(ahead, '\n')+1]
	}
	if d.subject == "" || len(d.subject) > displaySubject || len(h.Values("Subject")) != 1 || signedOrSealed(h) || len(ahead) == 0 && !d.whole {
		return h, rest, false
	}
	head := h.Bytes()
	d.raw = append(head[:len(head):len(head)], ahead...)
	root, err := mail.ReadPart(d.raw)
	if err != nil {
		return h, rest, false
	}
	d.part(root, nil)
	if d.shown || len(d.edits) == 0 {
		return h, rest, false
	}
	slices.SortStableFunc(d.edits, func(a, b edit) int { return a.at - b.at })
	first := slices.IndexFunc(d.edits, func(e edit) bool { return e.at >= len(head) })
	changed, err := parseHeader(edited(head, d.edits[:first]))
	if err != nil {
		return h, rest, false
	}
	inBody := slices.Clone(d.edits[first:])
	for i := range inBody {
		inBody[i].at -= len(head)
	}
	return changed, rest.edited(inBody), d.added
}

// part looks for the main body parts (RFC 9788 section 1.1.1): what programs
// show first, and all forms of it.
func (d *display) part(p mail.Part, above []mail.Part) {
	if p.Ambiguous || len(above) > mostNested {
		return
	}
	switch p.Media {
	case "multipart/alternative", "multipart/mixed", "multipart/related":
		children, ok := p.Parts(200)
		if !ok {
			return
		}
		if p.Media != "multipart/alternative" {
			children = children[:1]
		}
		if start := p.Params["start"]; start != "" && start != children[0].Header.Get("Content-ID") {
			return // the first part is not the one that is shown (RFC 2387 section 3.2)
		}
		above = append(slices.Clone(above), p)
		for _, child := range children {
			d.part(child, above)
		}
	case "text/plain", "text/html":
		if p.Params[displayParam] != "" {
			d.shown = true
		} else if !p.Attached() && p.Body != nil {
			d.leaf(p, above)
		}
	}
}

const displayParam = "hp-legacy-display"

// leaf plans the element of one part.
func (d *display) leaf(p mail.Part, above []mail.Part) {
	charset := strings.ToLower(p.Params["charset"])
	utf := charset == "utf-8" || charset == "utf8"
	// A page without one may be read by what stands in its first octets.
	if known := utf || charset == "us-ascii" || charset == "" && p.Media == "text/plain"; !known {
		return
	}
	e, ok := d.element(p, utf)
	if !ok {
		return
	}
	mark, ok := d.marked(p)
	if !ok {
		return
	}
	if mail.Has8Bit(e.put) {
		if !d.eightBit {
			return
		}
		for _, part := range append(slices.Clone(above), p) {
			d.declare8Bit(part)
		}
		d.added = true
	}
	e.at += d.at(p.Body)
	d.edits = append(d.edits, mark, e)
}

// at is where a part of the message, or its body, begins: all of them are
// slices of raw up to its capacity.
func (d *display) at(b []byte) int { return cap(d.raw) - cap(b) }

// element is the edit of a part's body that puts the element in.
func (d *display) element(p mail.Part, utf bool) (edit, bool) {
	partial := !d.whole && d.at(p.Body)+len(p.Body) == len(d.raw)
	c, ok := readContent(p, partial)
	if !ok || bytes.IndexByte(c.octets, 0) >= 0 || bytes.Contains(c.octets, []byte("-----BEGIN PGP ")) {
		return edit{}, false
	}
	write, place := d.text, 0
	if p.Media == "text/html" {
		write = d.html
		if place, ok = displayPlace(c.octets, c.partial); !ok {
			return edit{}, false
		}
	} else if bytes.HasPrefix(c.octets, []byte("\xef\xbb\xbf")) || !utf && mail.Has8Bit([]byte(d.subject)) {
		return edit{}, false
	}
	return c.put(place, write)
}

// marked is the edit of a part's Content-Type, or a new one.
func (d *display) marked(p mail.Part) (edit, bool) {
	start, raw := d.field(p, "content-type")
	if raw == nil {
		return edit{at: d.at(p.Raw), put: []byte("Content-Type: text/plain; " + displayParam + "=\"1\"\r\n")}, true
	}
	if _, _, err := mime.ParseMediaType(p.Header.Get("Content-Type")); err != nil {
		return edit{}, false
	}
	kept := len(bytes.TrimRight(raw, "; \t\r\n"))
	return edit{start + kept, len(raw) - kept, []byte(";\r\n " + displayParam + "=\"1\"\r\n")}, true
}

// field finds a field of a part's header, or gives nil.
func (d *display) field(p mail.Part, name string) (at int, raw []byte) {
	at = d.at(p.Raw)
	for _, f := range fieldsOf(p.Header) {
		if f.name == name {
			return at, f.raw
		}
		at += len(f.raw)
	}
	return 0, nil
}

// declare8Bit says of a part, once, that it is not all ASCII (RFC 2045 section
// 6.2).
func (d *display) declare8Bit(p mail.Part) {
	if encoding := transferEncoding(p.Header); encoding != "" && encoding != "7bit" || slices.Contains(d.declared, d.at(p.Raw)) {
		return
	}
	d.declared = append(d.declared, d.at(p.Raw))
	start, raw := d.field(p, "content-transfer-encoding")
	if raw == nil {
		start = d.at(p.Raw)
	}
	d.edits = append(d.edits, edit{start, len(raw), []byte("Content-Transfer-Encoding: 8bit\r\n")})
}

// text is the element of a plain text (RFC 9788 section 5.2.2). The spaces
// that fill it up stand in front: at the end of a line they would join it with
// the next one where the format is flowed (RFC 3676).
func (d *display) text(fill int) []byte {
	return []byte("Subject:" + strings.Repeat(" ", fill) + inLinesOf(d.subject, func(r rune) string { return string(r) }) + "\r\n\r\n")
}

// html is the element of a page (RFC 9788 section 5.2.3). It is ASCII.
func (d *display) html(fill int) []byte {
	return []byte(`<div class="header-protection-legacy-display"><pre>Subject:` + strings.Repeat(" ", fill) + inLinesOf(d.subject, func(r rune) string {
		switch {
		case strings.ContainsRune(`<>&"'`, r) || r >= utf8.RuneSelf:
			return fmt.Sprintf("&#%d;", r)
		}
		return string(r)
	}) + "</pre></div>")
}

// inLinesOf writes a value behind a space, in lines that may be sent.
func inLinesOf(s string, escape func(rune) string) string {
	var out strings.Builder
	column := 0
	for _, word := range strings.Fields(s) {
		text := ""
		for _, r := range word {
			text += escape(r)
		}
		if column > 0 && column+len(text) > displayLine {
			out.WriteString("\r\n")
			column = 0
		}
		out.WriteString(" ")
		column++
		if len(text) <= displayLine {
			out.WriteString(text)
			column += len(text)
			continue
		}
		for _, r := range word {
			if column >= displayLine {
				out.WriteString("\r\n ")
				column = 1
			}
			text := escape(r)
			out.WriteString(text)
			column += len(text)
		}
	}
	return out.String()
}

// displayPlace finds where the body of a page begins: behind its tag, or
// behind all that belongs in front of it. It is told by what stands before it
// alone, so that an element there does not change it.
func displayPlace(page []byte, partial bool) (place int, ok bool) {
	const mark = "\xef\xbb\xbf"
	at := 0
	if bytes.HasPrefix(page, []byte(mark)) {
		at, place = len(mark), len(mark)
	}
	z := html.NewTokenizer(bytes.NewReader(page[at:]))
	within := "" // an element of the head that holds text
	for {
		kind := z.Next()
		raw := z.Raw()
		start := at
		at += len(raw)
		if kind == html.ErrorToken {
			return place, !partial && within == ""
		}
		if at == len(page) && partial && kind == html.TextToken || kind != html.TextToken && (len(raw) == 0 || raw[len(raw)-1] != '>') {
			return 0, false // it may be cut
		}
		name := ""
		if kind == html.StartTagToken || kind == html.EndTagToken || kind == html.SelfClosingTagToken {
			b, _ := z.TagName()
			name = string(b)
		}
		switch {
		case kind == html.CommentToken:
		case kind == html.DoctypeToken:
			place = at
		case kind == html.TextToken:
			if within == "" && len(bytes.TrimSpace(page[start:at])) > 0 {
				return place, true
			}
		case name == "body" && kind != html.EndTagToken:
			return at, true
		case !inHead[name]:
			return place, true
		default:
			place, within = at, ""
			if kind == html.StartTagToken && holdsText[name] {
				within = name
			}
		}
	}
}

var (
	inHead    = map[string]bool{"html": true, "head": true, "title": true, "style": true, "script": true, "noscript": true, "meta": true, "link": true, "base": true}
	holdsText = map[string]bool{"title": true, "style": true, "script": true, "noscript": true}
)

var displayElement = regexp.MustCompile(`^\s*(<div class="header-protection-legacy-display">\s*<pre>[^<]*</pre>\s*</div>)`)

// undisplayed gives the text and the content of a main part without the copy
// of hidden fields that is there for other readers (RFC 9788 section 4.5.3).
func (op *opener) undisplayed(p mail.Part, covers []int, content []byte) (string, []byte) {
	if op.protection != hpCipher || !slices.Equal(covers, op.root) || p.Params[displayParam] != "1" {
		return p.Text(), content
	}
	without := withoutText
	if p.Media == "text/html" {
		without = withoutElement
	}
	return without(p.Text()), []byte(without(string(content)))
}

// withoutText takes off all up to the first empty line.
func withoutText(text string) string {
	for rest := text; rest != ""; {
		line, next, ok := strings.Cut(rest, "\n")
		if !ok {
			break
		}
		if line == "" || line == "\r" {
			return next
		}
		rest = next
	}
	return text
}

func withoutElement(page string) string {
	const most = 4 * displayContent // it was counted in octets, with CRLF
	place, ok := displayPlace([]byte(page[:min(len(page), most)]), len(page) > most)
	if !ok {
		return page
	}
	found := displayElement.FindStringSubmatchIndex(page[place:])
	if found == nil {
		return page
	}
	return page[:place+found[2]] + page[place+found[3]:]
}

func edited(b []byte, edits []edit) (out []byte) {
	at := 0
	for _, e := range edits {
		out = append(append(out, b[at:e.at]...), e.put...)
		at = e.at + e.cut
	}
	return append(out, b[at:]...)
}

// edited is the stream with edits in their order. What is cut is read all the
// same, so that the stream ends only where it should.
func (s stream) edited(edits []edit) stream {
	size := s.size
	for _, e := range edits {
		size += int64(len(e.put) - e.cut)
	}
	return stream{size, func(ctx context.Context) (io.ReadCloser, error) {
		r, err := s.open(ctx)
		if err != nil {
			return nil, err
		}
		var pieces []io.Reader
		at := 0
		for _, e := range edits {
			pieces = append(pieces, io.LimitReader(r, int64(e.at-at)), &skipper{r, int64(e.cut)}, bytes.NewReader(e.put))
			at = e.at + e.cut
		}
		return readCloser{io.MultiReader(append(pieces, r)...), r}, nil
	}}
}

// skipper reads octets and gives none.
type skipper struct {
	r io.Reader
	n int64
}

func (s *skipper) Read([]byte) (int, error) {
	_, err := io.CopyN(io.Discard, s.r, s.n)
	s.n = 0
	if err != nil {
		return 0, cut(err)
	}
	return 0, io.EOF
}
