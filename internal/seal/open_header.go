package seal

import (
	netmail "net/mail"
	"slices"
	"strings"

	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
)

// protection is how a message protects its header.
type protection string

const (
	unprotected protection = ""
	hpClear     protection = "clear"  // RFC 9788: the same fields outside
	hpCipher    protection = "cipher" // RFC 9788: fields are hidden outside
	hpOld       protection = "v1"     // protected-headers="v1", before RFC 9788: what is not inside is taken from outside
)

// protectionOf reads the parameters of the payload's Content-Type.
func protectionOf(p mail.Part) protection {
	if p.Ambiguous {
		return unprotected
	}
	switch hp := strings.ToLower(p.Params["hp"]); hp {
	case "clear", "cipher":
		return protection(hp)
	}
	if strings.EqualFold(p.Params["protected-headers"], "v1") {
		return hpOld
	}
	return unprotected
}

// innerFrom is the address in a protected From, to look up who may have
// signed before it is known that they did.
func (op *opener) innerFrom(raw []byte) mail.Address {
	p, err := mail.ReadPart(raw)
	if err != nil {
		return mail.Address{}
	}
	for range op.o.Limits.Depth {
		if protectionOf(p) != unprotected || p.Media != "multipart/signed" {
			break
		}
		parts, ok := p.Parts(3)
		if !ok {
			break
		}
		p = parts[0]
	}
	if protectionOf(p) == unprotected {
		return mail.Address{}
	}
	return from(p.Header)
}

// readHeader takes the fields inside of the protection in place of those
// outside (RFC 9788 section 4). A signature that does not fit protects
// nothing.
func (op *opener) readHeader(payload mail.Part) {
	op.protection = protectionOf(payload)
	covered := slices.ContainsFunc(op.root, func(i int) bool {
		return op.out.Layers[i].Opened && (op.states[i].encrypted || op.states[i].valid)
	})
	inlined := slices.ContainsFunc(op.root, func(i int) bool { return op.out.Layers[i].Inline })
	if !covered || inlined {
		op.protection = unprotected
	}
	around := op.out.Outer
	switch {
	case !op.beside.there:
	case op.beside.proved || op.protection != unprotected:
		around = fieldsInside(op.beside.header)
		op.compareHeaders(hpCipher, op.beside.header, op.out.Outer)
	default:
		op.beside.there = false
		op.find("header_withheld")
	}
	if op.protection == unprotected {
		op.out.Header = around.Where(func(name string) bool { return !structural(name) }).Join(payload.Header.Where(structural))
		return
	}
	inner := fieldsInside(payload.Header)
	if op.protection == hpOld {
		missing := op.out.Outer.Where(func(name string) bool { return !structural(name) && !inner.Has(name) })
		inner = missing.Join(inner)
	}
	op.out.Header = inner
	op.out.Verdict.Headers = true
	op.compareHeaders(op.protection, payload.Header, around)
}

// fieldsBeside are those that stand on a signed part, directly inside of an
// encryption. RFC 9788 looks for them in what is signed, but who seals a
// message that its sender has signed cannot put them there.
type fieldsBeside struct {
	there  bool
	proved bool // the encryption notices alteration; the signature never does
	header mail.Header
}

// seeFields takes note of such fields. around is the layer the part was in,
// layer the one it was itself.
func (op *opener) seeFields(p mail.Part, around, layer int) {
	if op.states[around].encrypted && !op.states[layer].encrypted && protectionOf(p) == hpCipher {
		op.beside = fieldsBeside{true, op.states[around].integrity, p.Header}
	}
}

func fieldsInside(h mail.Header) mail.Header {
	return h.Where(func(name string) bool { return !strings.EqualFold(name, "HP-Outer") })
}

// structural fields say how the body is read (RFC 9788 section 1.1.1).
func structural(name string) bool {
	return strings.EqualFold(name, "MIME-Version") || len(name) > 8 && strings.EqualFold(name[:8], "Content-")
}

// shown are the fields people see or answer to.
var shown = []string{"Subject", "From", "To", "Cc", "Date", "Reply-To", "Sender", "Message-ID", "In-Reply-To", "References"}

// compareHeaders notices where the header outside says something else than the
// one inside, and the sender did not mean it to: HP-Outer tells what the
// sender wrote outside (RFC 9788 section 2.2).
func (op *opener) compareHeaders(p protection, inner, outer mail.Header) {
	meant := map[string][]string{}
	for _, v := range inner.Values("HP-Outer") {
		if name, value, ok := strings.Cut(v, ":"); ok {
			name = strings.ToLower(strings.TrimSpace(name))
			meant[name] = append(meant[name], plainValue(value))
		}
	}
	hidden, differs := false, false
	for _, name := range shown {
		in, out := values(inner, name), values(outer, name)
		if slices.Equal(in, out) || p == hpOld && len(in) == 0 {
			continue
		}
		switch {
		case p == hpCipher && slices.Equal(out, meant[strings.ToLower(name)]):
			hidden = true
		case p == hpOld && name == "Subject":
			hidden = true // there was no way to say what is meant
		default:
			differs = true
		}
	}
	if hidden {
		op.find("header_hidden")
	}
	if differs {
		op.find("outer_differs")
	}
}

func values(h mail.Header, name string) (out []string) {
	for _, v := range h.Values(name) {
		out = append(out, plainValue(v))
	}
	return out
}

// plainValue is a value as it reads, however it is folded and encoded.
func plainValue(v string) string { return strings.Join(strings.Fields(mail.DecodeText(v)), " ") }

// message gives the message without the layers that cover all of it.
func (op *opener) message(raw []byte, payload mail.Part) private.Bytes {
	if len(op.root) == 0 {
		return private.NewBytes(raw)
	}
	if !op.proved(op.root) {
		return op.plainMessage()
	}
	h := op.out.Header
	if !h.Has("MIME-Version") {
		version := op.out.Outer.Where(func(name string) bool { return strings.EqualFold(name, "MIME-Version") })
		h = version.Join(h)
	}
	return private.NewBytes(append(h.Bytes(), payload.Body...))
}

// plainMessage makes a new message of the text and the inert files of one that
// may have been altered. Its own structure is not handed on: another program
// could find HTML in it where we saw none.
func (op *opener) plainMessage() private.Bytes {
	h := op.out.Header
	d := mail.Draft{Subject: private.NewString(mail.DecodeText(h.Get("Subject"))), To: h.Mailboxes("To"), Cc: h.Mailboxes("Cc")}
	if list := h.Mailboxes("From"); len(list) > 0 {
		d.From = list[0]
	}
	if date, err := netmail.ParseDate(h.Get("Date")); err == nil {
		d.Date = date
	}
	var text []string
	for _, p := range op.out.Parts {
		switch {
		case p.Withheld != "":
		case p.Attached:
			d.Attachments = append(d.Attachments, mail.File{Filename: p.Filename, ContentType: p.Media, Content: p.Content})
		case !p.OtherForm:
			text = append(text, p.Text.Reveal())
		}
	}
	d.Text = private.NewString(strings.Join(text, "\n"))
	if d.Text.Empty() && len(d.Attachments) == 0 {
		return private.Bytes{}
	}
	b, err := mail.Build(d)
	if err != nil {
		return private.Bytes{} // the header does not say from whom or when
	}
	return private.NewBytes(b)
}
