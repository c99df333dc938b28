package mail

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/private"
)

// Draft is what Build makes a message of.
type Draft struct {
	From        Mailbox
	To, Cc      []Mailbox
	ReplyTo     []Mailbox
	Subject     private.String
	Text        private.String
	HTML        private.String
	Attachments []File
	Headers     []Field
	MessageID   string // made under the domain of From when empty
	Date        time.Time
}

// File is an attachment of a draft.
type File struct {
	Filename    private.String
	ContentType string // application/octet-stream when empty
	Content     private.Bytes
}

// Field is a header field a caller adds. Pointer is where the caller wrote its
// name, for faults.
type Field struct {
	Name    string
	Value   private.String
	Pointer string
}

const maxFilename = 255

// Build makes the message: CRLF line ends, seven-bit, lines of at most 78
// octets where the parts allow it. The only bytes beyond ASCII are those of a
// local part that has them. All mistakes in the draft are reported at once.
func Build(d Draft) ([]byte, error) {
	if d.Date.IsZero() {
		return nil, errors.New("mail: a draft has no date")
	}
	h, faults := draftHeader(d)
	files, more := draftFiles(d.Attachments)
	faults = append(faults, more...)
	for _, p := range []struct {
		text    private.String
		pointer string
	}{{d.Text, "/text"}, {d.HTML, "/html"}} {
		if !utf8.ValidString(p.text.Reveal()) {
			faults = append(faults, fault.New(fault.Invalid, "bad_text", "The text is not valid UTF-8.").At(p.pointer))
		}
	}
	if len(faults) == 0 && (h.Len() >= MaxHeaderFields/2 || len(h.Bytes()) >= MaxHeaderBytes/2) {
		faults = append(faults, fault.From(headerTooLarge()))
	}
	if len(faults) > 0 {
		return nil, fault.Join(faults...)
	}
	body := draftBody(d)
	if len(files) > 0 {
		body = multipart("mixed", append([]entity{body}, files...))
	}
	var out bytes.Buffer
	out.Grow(len(body.body) + 4096)
	for _, f := range h.fields {
		out.Write(f.raw)
	}
	out.WriteString("MIME-Version: 1.0\r\n")
	body.writeTo(&out)
	return out.Bytes(), nil
}

func draftHeader(d Draft) (h Header, faults []*fault.Fault) {
	check := func(err error, pointer string) {
		if err != nil {
			faults = append(faults, fault.From(err).At(pointer))
		}
	}
	check(h.SetMailboxes("From", []Mailbox{d.From}), "/from")
	for _, l := range []struct {
		name, pointer string
		list          []Mailbox
	}{{"Reply-To", "/reply_to", d.ReplyTo}, {"To", "/to", d.To}, {"Cc", "/cc", d.Cc}} {
		if len(l.list) > 0 {
			check(h.SetMailboxes(l.name, l.list), l.pointer)
		}
	}
	if len(d.To)+len(d.Cc) == 0 {
		check(h.Set("To", "undisclosed-recipients:;"), "/to")
	}
	f, err := literalField("Subject", d.Subject.Reveal())
	check(err, "/subject")
	h.fields = append(h.fields, f)
	check(h.Set("Date", FormatDate(d.Date)), "/date")
	if d.MessageID == "" {
		d.MessageID = NewMessageID(d.From.Address.Domain())
	}
	check(checkMessageID(d.MessageID), "/message_id")
	if len(faults) == 0 {
		check(h.Set("Message-ID", d.MessageID), "/message_id")
	}
	for _, f := range d.Headers {
		if reserved(f.Name) {
			check(fault.New(fault.Invalid, "reserved_header",
				"This header field is written by the server or has a field of its own; leave it out."), f.Pointer)
			continue
		}
		if hidesLineEnd(f.Value.Reveal()) {
			check(badHeader("An encoded word in this header field hides a line end or NUL."), f.Pointer)
			continue
		}
		check(h.Add(f.Name, f.Value.Reveal()), f.Pointer)
	}
	return h, faults
}

// hidesLineEnd reports whether an encoded word (RFC 2047) decodes to a line
// end or NUL: a program that decodes before it parses would find a field there.
func hidesLineEnd(value string) bool {
	for {
		_, end, _, text, ok := nextWord(value)
		if !ok || bytes.ContainsAny(text, "\r\n\x00") {
			return ok
		}
		value = value[end:]
	}
}

// reserved reports whether a caller may not write this field: it would
// contradict the envelope, break the MIME structure or forge a trace.
func reserved(name string) bool {
	name = strings.ToLower(strings.TrimSpace(name))
	for _, prefix := range []string{"content-", "arc-", "resent-", "x-sealpost-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	switch name {
	case "from", "to", "cc", "bcc", "subject", "date", "message-id", "mime-version", "received",
		"return-path", "dkim-signature", "sender", "reply-to", "authentication-results",
		"received-spf", "delivered-to", "domainkey-signature", "apparently-to":
		return true
	}
	return false
}

// entity is a MIME part ready to be written.
type entity struct {
	header []byte
	body   []byte
}

func (e entity) writeTo(out *bytes.Buffer) {
	out.Write(e.header)
	out.WriteString("\r\n")
	out.Write(e.body)
}

func draftBody(d Draft) entity {
	if d.HTML.Empty() {
		return textEntity("text/plain", d.Text.Reveal())
	}
	html := textEntity("text/html", d.HTML.Reveal())
	if d.Text.Empty() {
		return html
	}
	// The best form comes last (RFC 2046 section 5.1.4).
	return multipart("alternative", []entity{textEntity("text/plain", d.Text.Reveal()), html})
}

func textEntity(media, text string) entity {
	text = crlf(text)
	if text != "" && !strings.HasSuffix(text, "\r\n") {
		text += "\r\n"
	}
	encoding, body := "7bit", []byte(text)
	switch {
	case isPlain(body):
	case denseNonASCII(body):
		encoding, body = "base64", encodeBase64(body)
	default:
		encoding, body = "quoted-printable", encodeQP(body)
	}
	return entity{append(typeField("Content-Type", media, "charset=utf-8"),
		"Content-Transfer-Encoding: "+encoding+"\r\n"...), body}
}

// isPlain reports whether text can go unencoded without any host on its way
// having a reason to change it.
func isPlain(b []byte) bool {
	for line := range bytes.SplitSeq(b, []byte("\r\n")) {
		if len(line) > softLine || bytes.HasPrefix(line, []byte("From ")) ||
			bytes.HasSuffix(line, []byte(" ")) || bytes.HasSuffix(line, []byte("\t")) {
			return false
		}
		for _, c := range line {
			if c < ' ' && c != '\t' || c >= 0x7f {
				return false
			}
		}
	}
	return true
}

func denseNonASCII(b []byte) bool {
	n := 0
	for _, c := range b {
		if c >= utf8.RuneSelf {
			n++
		}
	}
	return n > len(b)/6
}

func draftFiles(files []File) (out []entity, faults []*fault.Fault) {
	for i, f := range files {
		at := fmt.Sprintf("/attachments/%d/", i)
		media, params, err := attachmentType(f.ContentType)
		if err != nil {
			faults = append(faults, fault.From(err).At(at+"content_type"))
		}
		name := f.Filename.Reveal()
		if err := checkFilename(name); err != nil {
			faults = append(faults, fault.From(err).At(at+"filename"))
			continue
		}
		disposition := []string{}
		if name != "" {
			disposition = formatParam("filename", name)
		}
		header := typeField("Content-Type", media, params...)
		header = append(header, typeField("Content-Disposition", "attachment", disposition...)...)
		header = append(header, "Content-Transfer-Encoding: base64\r\n"...)
		out = append(out, entity{header, encodeBase64(f.Content.Reveal())})
	}
	return out, faults
}

func checkFilename(name string) error {
	if err := CheckText(name); err != nil {
		return err
	}
	if strings.Contains(name, "\t") {
		return fault.New(fault.Invalid, "control_character", "The file name contains a control character.")
	}
	if len(name) > maxFilename {
		return fault.Newf(fault.Invalid, "filename_too_long", "The file name is longer than %d octets.", maxFilename)
	}
	return nil
}

// multipart joins parts. Every part ends with a line end of its own, which
// belongs to it; the delimiter brings another one (RFC 2046 section 5.1.1).
func multipart(subtype string, parts []entity) entity {
	boundary := freshBoundary(parts)
	var out bytes.Buffer
	for i, p := range parts {
		if i > 0 {
			out.WriteString("\r\n")
		}
		out.WriteString("--" + boundary + "\r\n")
		p.writeTo(&out)
	}
	out.WriteString("\r\n--" + boundary + "--\r\n")
	return entity{typeField("Content-Type", "multipart/"+subtype, `boundary="`+boundary+`"`), out.Bytes()}
}

// freshBoundary gives a boundary that is in none of the parts. "=_" never
// stands in base64 or quoted-printable (RFC 2045 section 6.7).
func freshBoundary(parts []entity) string {
	for {
		b := "=_" + randomHex()
		free := true
		for _, p := range parts {
			free = free && !bytes.Contains(p.body, []byte(b))
		}
		if free {
			return b
		}
	}
}
