package seal

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"regexp"
	"strings"

	"github.com/sealpost/sealpost/internal/mail"
)

// outerSubject stands outside in place of what the message is about (RFC 9788
// section 3.2.1, hcp_baseline).
const outerSubject = "Subject: [...]\r\n"

// headerField is one field with its folds and its line end.
type headerField struct {
	name string // in lower case
	raw  []byte
}

func fieldsOf(h mail.Header) (fields []headerField) {
	start := 0
	text := h.Bytes()
	for pos := 0; pos < len(text); {
		end := pos + bytes.IndexByte(text[pos:], '\n') + 1
		if pos > start && text[pos] != ' ' && text[pos] != '\t' {
			fields = append(fields, newField(text[start:pos:pos]))
			start = pos
		}
		pos = end
	}
	return fields // what is left is the empty line
}

func newField(raw []byte) headerField {
	name, _, _ := bytes.Cut(raw, []byte(":"))
	return headerField{strings.ToLower(string(bytes.TrimRight(name, " \t"))), raw}
}

// header reads the field alone, so that every field of a name can be read as
// the first one is.
func (f headerField) header() mail.Header {
	h, err := parseHeader(f.raw)
	if err != nil {
		return mail.Header{} // it parsed as part of its message
	}
	return h
}

func parseHeader(text []byte) (mail.Header, error) {
	return mail.ParseHeader(bufio.NewReader(bytes.NewReader(text)))
}

// written is the only field of a header.
func written(h mail.Header) []byte { return bytes.TrimSuffix(h.Bytes(), []byte("\r\n")) }

// transport holds fields that hosts write on the way. They are about another
// message than the sealed one, or name recipients: they go neither inside nor
// outside.
var transport = map[string]bool{
	"return-path": true, "delivered-to": true, "x-original-to": true, "envelope-to": true,
	"x-envelope-to": true, "x-envelope-from": true, "apparently-to": true, "x-rcpt-to": true,
	"bcc": true, "resent-bcc": true, "x-bcc": true,
	"dkim-signature": true, "domainkey-signature": true, "authentication-results": true,
	"received-spf": true, "x-received": true,
	// Another program's account of an outer header that is not ours (RFC 9788
	// section 2.2).
	"hp-outer": true,
}

func (f headerField) isTransport() bool {
	return transport[f.name] || strings.HasPrefix(f.name, "arc-")
}

// isStructural reports whether the field is about the MIME structure rather
// than about the message (RFC 9788 section 1.1.1).
func (f headerField) isStructural() bool {
	return f.name == "mime-version" || strings.HasPrefix(f.name, "content-")
}

// outside gives the field as it may be read on the way, or nothing. The
// policy is RFC 9788's hcp_shy with two changes: From and Sender keep their
// names, because they are the organization's own and every list of messages
// shows them; and what is not named here stays inside, where hcp_shy lets it
// out. Other addresses stand alone: a name beside one says who is treated
// there, and so does the phrase of a List-Id.
func (f headerField) outside() []byte {
	switch f.name {
	case "subject":
		return []byte(outerSubject)
	case "from", "sender":
		return f.ascii()
	case "to", "cc", "reply-to":
		return f.addresses()
	case "list-id":
		return f.listID()
	case "in-reply-to", "references":
		return f.messageIDs()
	case "date", "message-id", "auto-submitted", "precedence", "x-auto-response-suppress", "autocrypt":
		return f.ascii()
	}
	if strings.HasPrefix(f.name, "list-") {
		return f.ascii()
	}
	return nil
}

// ascii encodes what is not ASCII, so that only an address may ask for
// SMTPUTF8.
func (f headerField) ascii() []byte {
	if !mail.Has8Bit(f.raw) {
		return f.raw
	}
	h := f.header()
	name, _, _ := strings.Cut(string(f.raw), ":")
	name = strings.TrimRight(name, " \t")
	switch f.name {
	case "from", "sender", "reply-to", "to", "cc":
		if list := h.Mailboxes(name); len(list) > 0 {
			if h.SetMailboxes(name, list) == nil {
				return written(h)
			}
		}
	}
	if h.Set(name, strings.ToValidUTF8(h.Get(name), "\uFFFD")) != nil {
		return nil
	}
	return written(h)
}

var outerNames = map[string]string{"to": "To", "cc": "Cc", "reply-to": "Reply-To", "list-id": "List-Id", "in-reply-to": "In-Reply-To", "references": "References"}

// addresses leaves out names, comments and the names of groups. A list that
// does not parse may hold anything: nothing of it is shown.
func (f headerField) addresses() []byte {
	var h mail.Header
	list := f.header().Mailboxes(f.name)
	for i := range list {
		list[i] = mail.NewMailbox("", list[i].Address)
	}
	if len(list) == 0 {
		if f.name != "to" {
			return nil
		}
		return []byte("To: undisclosed-recipients:;\r\n")
	}
	if h.SetMailboxes(outerNames[f.name], list) != nil {
		return nil
	}
	return written(h)
}

var messageID = regexp.MustCompile(`<[!-;=?-~]{1,250}@[!-;=?-~]{1,250}>`)

// messageIDs leaves out the phrases that old programs write beside them (RFC
// 5322 section 4.5.4).
func (f headerField) messageIDs() []byte {
	ids := messageID.FindAllString(f.header().Get(f.name), -1)
	var h mail.Header
	if len(ids) == 0 || h.Set(outerNames[f.name], strings.Join(ids, " ")) != nil {
		return nil
	}
	return written(h)
}

var listID = regexp.MustCompile(`<[A-Za-z0-9._-]{1,250}>`)

// listID leaves out the phrase (RFC 2919 section 2).
func (f headerField) listID() []byte {
	var h mail.Header
	found := listID.FindString(f.header().Get(f.name))
	if found == "" || h.Set(outerNames[f.name], found) != nil {
		return nil
	}
	return written(h)
}

// forRecipient is the part of a Received field that tells whom a host took the
// message for (RFC 5321 section 4.4), a blind copy perhaps.
var forRecipient = regexp.MustCompile(`(?i)\s+for\s+<?[^\s<>;]+@[^\s<>;]+>?`)

// traces are the fields that stay on top of a message.
func traces(fields []headerField) (out []byte) {
	for _, f := range fields {
		if f.name == "received" {
			out = append(out, forRecipient.ReplaceAll(f.ascii(), nil)...)
		}
	}
	return out
}

// envelopeHeader gives the fields around a sealed message, and HP-Outer
// fields that record them for the inside (RFC 9788 section 2.2).
func envelopeHeader(h mail.Header) (outer, record []byte) {
	fields := fieldsOf(h)
	outer = traces(fields)
	for _, f := range fields {
		if line := f.outside(); line != nil {
			outer = append(outer, line...)
			record = append(append(record, "HP-Outer: "...), line...)
		}
	}
	return append(outer, "MIME-Version: 1.0\r\n"...), record
}

// payloadHeader is the header of the cryptographic payload: all fields of the
// message's own, and behind them what is added. It ends with the empty line.
//
// A message that its sender's program signed cannot take the fields into the
// signed part, where RFC 9788 looks for them. They stand on the multipart/signed
// itself: programs that know the older draft find them there, and the others
// show the sender's signature, which a multipart in between would hide.
func payloadHeader(h mail.Header, hp protection, added []byte) []byte {
	var out []byte
	typed := false
	for _, f := range fieldsOf(h) {
		switch {
		case f.isTransport() || f.name == "received":
		case f.name == "content-type" && !typed:
			typed = true
			out = append(out, withProtection(f, hp)...)
		default:
			out = append(out, f.raw...)
		}
	}
	if !typed {
		out = append(out, withProtection(headerField{raw: []byte("Content-Type:")}, hp)...)
	}
	return append(append(out, added...), "\r\n"...)
}

// withProtection marks a Content-Type as that of a payload. The field keeps
// its bytes unless it bears a mark already. protected-headers is the mark of
// the draft before RFC 9788, which programs in use understand.
func withProtection(f headerField, hp protection) []byte {
	raw := f.raw
	value := strings.TrimSpace(strings.NewReplacer("\r", "", "\n", "").Replace(string(raw[bytes.IndexByte(raw, ':')+1:])))
	if value == "" {
		raw = []byte("Content-Type: text/plain") // RFC 2045 section 5.2
	}
	media, params, err := mime.ParseMediaType(value)
	if err == nil && (params["hp"] != "" || params["protected-headers"] != "") {
		delete(params, "hp")
		delete(params, "protected-headers")
		if v := mime.FormatMediaType(media, params); v != "" {
			raw = []byte("Content-Type: " + v)
		}
	}
	raw = bytes.TrimRight(raw, "; \t\r\n")
	return append(raw[:len(raw):len(raw)], ";\r\n hp=\""+string(hp)+"\"; protected-headers=\"v1\"\r\n"...)
}

// errOther says that a stored message is not what it was said to be, or what it
// was when it was read before.
var errOther = errors.New("seal: the message is not the one that was accepted")

// stream is a run of octets that can be read as often as needed.
type stream struct {
	size int64
	open func(context.Context) (io.ReadCloser, error)
}

// between puts fixed octets around a stream.
func (s stream) between(before, after []byte) stream {
	return stream{
		size: int64(len(before)) + s.size + int64(len(after)),
		open: func(ctx context.Context) (io.ReadCloser, error) {
			r, err := s.open(ctx)
			if err != nil {
				return nil, err
			}
			return readCloser{io.MultiReader(bytes.NewReader(before), r, bytes.NewReader(after)), r}, nil
		},
	}
}

func fixed(b []byte) stream {
	return stream{int64(len(b)), func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b)), nil
	}}
}

type readCloser struct {
	io.Reader
	io.Closer
}

// parted parts a message into its header, read now, and what stands behind
// the empty line, byte for byte.
func (b Body) parted(ctx context.Context) (mail.Header, stream, error) {
	h, _, rest, err := b.partedAhead(ctx, 0)
	return h, rest, err
}

// partedAhead also gives so many octets of what stands behind the header, or
// all when there are fewer.
func (b Body) partedAhead(ctx context.Context, most int64) (mail.Header, []byte, stream, error) {
	r, err := b.Open(ctx)
	if err != nil {
		return mail.Header{}, nil, stream{}, err
	}
	counted := &countingReader{r: r}
	buffered := bufio.NewReader(counted)
	h, err := mail.ParseHeader(buffered)
	head := counted.n - int64(buffered.Buffered())
	var ahead []byte
	if err == nil {
		ahead, err = io.ReadAll(io.LimitReader(buffered, min(most, b.Size-head)))
	}
	if err = errors.Join(err, r.Close()); err != nil {
		return mail.Header{}, nil, stream{}, err
	}
	if head > b.Size {
		return mail.Header{}, nil, stream{}, errOther
	}
	return h, ahead, stream{b.Size - head, func(ctx context.Context) (io.ReadCloser, error) {
		r, err := b.Open(ctx)
		if err != nil {
			return nil, err
		}
		if _, err := io.CopyN(io.Discard, r, head); err != nil {
			return nil, errors.Join(cut(err), r.Close())
		}
		return readCloser{&exactReader{r: r, left: b.Size - head}, r}, nil
	}}, nil
}

// cut makes an error of an end that comes too soon, so that nobody takes it
// for the end.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return errOther
	}
	return err
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// exactReader gives exactly so many octets or fails.
type exactReader struct {
	r    io.Reader
	left int64
}

func (e *exactReader) Read(p []byte) (int, error) {
	if e.left == 0 {
		var one [1]byte
		if n, err := io.ReadFull(e.r, one[:]); n > 0 {
			return 0, errOther
		} else {
			return 0, err
		}
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if errors.Is(err, io.EOF) {
		if err = nil; e.left > 0 {
			err = errOther
		}
	}
	return n, err
}
