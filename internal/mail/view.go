package mail

import (
	"bytes"
	"html"
	"io"
	netmail "net/mail"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/private"
)

// Limits bound Parse. Zero fields have the defaults.
type Limits struct {
	Bytes int64 // of the whole message; 64 MiB
	Parts int   // 200
	Depth int   // 20
}

func (l Limits) orDefault() Limits {
	if l.Bytes <= 0 {
		l.Bytes = 64 << 20
	}
	if l.Parts <= 0 {
		l.Parts = maxParts
	}
	if l.Depth <= 0 {
		l.Depth = maxDepth
	}
	return l
}

// View is a message taken apart to be shown. All text in it is UTF-8.
//
// Every part is somewhere: in Text or HTML, in Inline when the HTML refers to
// it, or among the attachments. When the message does not parse, or the limits
// on parts and depth are exceeded, Broken is set and the only attachment is
// the message itself.
type View struct {
	Broken      bool
	Subject     private.String
	From        private.String // the names shown, or the addresses
	FromList    []Mailbox
	To, Cc      []Mailbox
	Date        time.Time // zero when missing or unreadable
	Text        private.String
	HTML        private.String // as the sender wrote it: NOT cleaned
	Inline      []Inline
	Attachments []Attachment

	raw []byte
}

// Inline is an image the HTML refers to as cid:ContentID.
type Inline struct {
	ContentID   private.String
	ContentType string
	Content     private.Bytes
}

// Attachment is a part to be saved. The file name is a single path element
// without control characters.
type Attachment struct {
	Index       int
	Filename    private.String
	ContentType string // type/subtype, lower case
	Size        int64  // decoded

	raw    private.Bytes
	decode encodingKind
}

// Parse reads a message to be shown. Only reading itself and a message over
// the limit on bytes are errors: everything else gives a View.
func Parse(r io.Reader, limits Limits) (*View, error) {
	limits = limits.orDefault()
	raw, err := io.ReadAll(io.LimitReader(r, limits.Bytes+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > limits.Bytes {
		return nil, fault.Newf(fault.TooLarge, "message_too_large", "The message is over %d bytes.", limits.Bytes)
	}
	v := &View{raw: raw}
	h, body, err := splitHeader(raw)
	if err != nil {
		return brokenView(raw), nil
	}
	v.describe(h)
	w := walker{limits: limits}
	if !w.part(h, body, "text/plain", 0) {
		b := brokenView(raw)
		b.describe(h)
		return b, nil
	}
	v.fill(&w)
	return v, nil
}

// OpenAttachment gives the decoded bytes of an attachment.
func (v *View) OpenAttachment(index int) (io.Reader, error) {
	if index < 0 || index >= len(v.Attachments) {
		return nil, fault.New(fault.NotFound, "no_such_attachment", "There is no such attachment.")
	}
	a := v.Attachments[index]
	return bytes.NewReader(a.decode.decoded(a.raw.Reveal())), nil
}

// Original gives the message as it came.
func (v *View) Original() private.Bytes { return private.NewBytes(v.raw) }

func brokenView(raw []byte) *View {
	return &View{Broken: true, raw: raw, Attachments: []Attachment{{
		Filename:    private.NewString("message.eml"),
		ContentType: "message/rfc822",
		Size:        int64(len(raw)),
		raw:         private.NewBytes(raw),
	}}}
}

func (v *View) describe(h Header) {
	v.Subject = private.NewString(DecodeText(h.Get("Subject")))
	v.FromList = h.Mailboxes("From")
	v.To, v.Cc = h.Mailboxes("To"), h.Mailboxes("Cc")
	var shown []string
	for _, m := range v.FromList {
		name := m.Name.Reveal()
		if name == "" {
			name = m.Address.Reveal()
		}
		shown = append(shown, name)
	}
	if len(shown) == 0 {
		shown = append(shown, DecodeText(h.Get("From")))
	}
	v.From = private.NewString(strings.Join(shown, ", "))
	if t, err := netmail.ParseDate(h.Get("Date")); err == nil {
		v.Date = t
	}
}

// fill joins what the walk has found.
func (v *View) fill(w *walker) {
	v.Text = private.NewString(joinText(w.text))
	v.HTML = private.NewString(joinHTML(w.html))
	lower := strings.ToLower(v.HTML.Reveal())
	for _, l := range w.files {
		id := l.contentID()
		// A content id in HTML is a URL, so % may be escaped in it (RFC 2392).
		escaped := strings.ReplaceAll(strings.ToLower(id), "%", "%25")
		if id != "" && strings.HasPrefix(l.media, "image/") && len(v.Inline) < maxInline &&
			(strings.Contains(lower, "cid:"+strings.ToLower(id)) || strings.Contains(lower, "cid:"+escaped)) {
			v.Inline = append(v.Inline, Inline{
				ContentID:   private.NewString(id),
				ContentType: l.media,
				Content:     private.NewBytes(l.encoding.decoded(l.body)),
			})
			continue
		}
		v.attach(l)
	}
}

// maxInline bounds the searches for references; further images are attachments.
const maxInline = 50

func (v *View) attach(l leaf) {
	i := len(v.Attachments)
	media := l.media
	if l.encoding == unknownEncoding {
		media = "application/octet-stream"
	}
	v.Attachments = append(v.Attachments, Attachment{
		Index:       i,
		Filename:    private.NewString(l.filename(i)),
		ContentType: media,
		Size:        l.encoding.size(l.body),
		raw:         private.NewBytes(l.body),
		decode:      l.encoding,
	})
}

func joinText(list []leaf) string {
	var out []string
	for _, l := range list {
		out = append(out, l.text())
	}
	return strings.Join(out, "\n")
}

// joinHTML puts the parts that are shown one after the other into one page;
// plain text between HTML parts is kept. Without any HTML there is no page.
func joinHTML(list []leaf) string {
	var out []string
	any := false
	for _, l := range list {
		if l.media == "text/html" {
			any = true
			out = append(out, l.text())
		} else {
			out = append(out, "<pre>"+html.EscapeString(l.text())+"</pre>")
		}
	}
	if !any {
		return ""
	}
	return strings.Join(out, "\n")
}
