package mail

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/sealpost/sealpost/internal/fault"
)

// Limits of a header. RFC 5322 has none; no mail that people send comes near.
const (
	MaxHeaderBytes  = 1 << 20
	MaxHeaderFields = 1000
)

// Header is an ordered list of fields, each with exactly the bytes it was
// read with. The zero value is an empty header.
type Header struct {
	fields []field
}

// field is one field with its folds and its final line end. raw is never
// written to: headers share it.
type field struct {
	name string // as written, without space before the colon
	raw  []byte
}

func badHeader(text string) *fault.Fault {
	return fault.New(fault.Invalid, "bad_header", text)
}

// ParseHeader reads a header and the empty line behind it, and leaves r at the
// first byte of the body. A header that ends with the input is complete.
func ParseHeader(r *bufio.Reader) (Header, error) {
	var buf []byte
	for {
		start := len(buf)
		err := appendLine(r, &buf)
		if err != nil && !errors.Is(err, io.EOF) {
			return Header{}, err
		}
		if line := buf[start:]; len(line) == 0 || isBlankLine(line) {
			h, _, err := splitHeader(buf)
			return h, err
		}
		if err != nil {
			h, _, err := splitHeader(buf)
			return h, err
		}
	}
}

// appendLine reads one line of any length, bounded by MaxHeaderBytes.
func appendLine(r *bufio.Reader, buf *[]byte) error {
	for {
		part, err := r.ReadSlice('\n')
		if len(*buf)+len(part) > MaxHeaderBytes {
			return headerTooLarge()
		}
		*buf = append(*buf, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

func headerTooLarge() error {
	return fault.Newf(fault.TooLarge, "header_too_large",
		"The header of the message is over %d bytes or %d fields.", MaxHeaderBytes, MaxHeaderFields)
}

func isBlankLine(line []byte) bool {
	return len(line) == 1 && line[0] == '\n' || len(line) == 2 && line[0] == '\r' && line[1] == '\n'
}

// splitHeader takes the header and the empty line off the front of b. The
// fields share the memory of b.
func splitHeader(b []byte) (h Header, body []byte, err error) {
	start := 0 // of the field being read
	pos := 0
	for pos < len(b) {
		end := len(b)
		if i := bytes.IndexByte(b[pos:], '\n'); i >= 0 {
			end = pos + i + 1
		}
		line := b[pos:end]
		blank := isBlankLine(line)
		if end > MaxHeaderBytes {
			return Header{}, nil, headerTooLarge()
		}
		if !blank && (line[0] == ' ' || line[0] == '\t') {
			if pos == 0 {
				return Header{}, nil, badHeader("The header of the message begins with a space.")
			}
			pos = end
			continue
		}
		if pos > start {
			if err := h.take(b[start:pos:pos]); err != nil {
				return Header{}, nil, err
			}
		}
		start, pos = pos, end
		if blank {
			return h, b[end:], nil
		}
	}
	if pos > start {
		if err := h.take(b[start:pos:pos]); err != nil {
			return Header{}, nil, err
		}
	}
	return h, nil, nil
}

// take appends one field as it was read.
func (h *Header) take(raw []byte) error {
	if len(h.fields) == MaxHeaderFields {
		return headerTooLarge()
	}
	name, err := fieldName(raw)
	if err != nil {
		return err
	}
	if raw[len(raw)-1] != '\n' {
		raw = append(raw[:len(raw):len(raw)], "\r\n"...)
	}
	h.fields = append(h.fields, field{name, raw})
	return nil
}

// fieldName checks the syntax of a raw field (RFC 5322 section 2.2) and gives
// its name. Space before the colon is obsolete (section 4.5) yet read, so that
// "Bcc :" is found under its name.
func fieldName(raw []byte) (string, error) {
	i := bytes.IndexByte(raw, ':')
	if i < 0 {
		return "", badHeader("The header of the message has a line without a colon.")
	}
	name := bytes.TrimRight(raw[:i], " \t")
	if !isFieldName(string(name)) {
		return "", badHeader("The header of the message has a field name with characters that are not allowed.")
	}
	if bytes.IndexByte(raw, 0) >= 0 {
		return "", badHeader("The header of the message contains a NUL octet.")
	}
	for rest := raw; ; {
		j := bytes.IndexByte(rest, '\r')
		if j < 0 {
			return string(name), nil
		}
		if j+1 == len(rest) || rest[j+1] != '\n' {
			return "", badHeader("The header of the message contains a carriage return that ends no line.")
		}
		rest = rest[j+2:]
	}
}

// isFieldName reports whether s is an RFC 5322 field-name.
func isFieldName(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == ':' {
			return false
		}
	}
	return s != ""
}

// value is what stands behind the colon, unfolded (RFC 5322 section 2.2.3).
func (f field) value() string {
	v := f.raw[bytes.IndexByte(f.raw, ':')+1:]
	return strings.Trim(unfold.Replace(string(v)), " \t")
}

var unfold = strings.NewReplacer("\r\n", "", "\n", "")

// Get gives the value of the first field of that name, unfolded and not
// decoded, or "".
func (h Header) Get(name string) string {
	for _, f := range h.fields {
		if strings.EqualFold(f.name, name) {
			return f.value()
		}
	}
	return ""
}

// Values gives the values of all fields of that name, from the top.
func (h Header) Values(name string) []string {
	var out []string
	for _, f := range h.fields {
		if strings.EqualFold(f.name, name) {
			out = append(out, f.value())
		}
	}
	return out
}

// Has reports whether there is a field of that name.
func (h Header) Has(name string) bool { return h.count(name) > 0 }

func (h Header) count(name string) int {
	n := 0
	for _, f := range h.fields {
		if strings.EqualFold(f.name, name) {
			n++
		}
	}
	return n
}

// Len is the number of fields.
func (h Header) Len() int { return len(h.fields) }

// Clone gives a header that changes apart from h.
func (h Header) Clone() Header {
	return Header{append([]field(nil), h.fields...)}
}

// Del removes all fields of that name.
func (h *Header) Del(name string) {
	kept := make([]field, 0, len(h.fields))
	for _, f := range h.fields {
		if !strings.EqualFold(f.name, name) {
			kept = append(kept, f)
		}
	}
	h.fields = kept
}

// Prepend puts a field on top, where trace fields belong (RFC 5322 section
// 3.6.7). The value is text: it is encoded and folded as needed.
func (h *Header) Prepend(name, value string) error {
	f, err := textField(name, value)
	if err != nil {
		return err
	}
	h.fields = append([]field{f}, h.fields...)
	return nil
}

// Add puts a field at the end.
func (h *Header) Add(name, value string) error {
	f, err := textField(name, value)
	if err != nil {
		return err
	}
	h.fields = append(h.fields, f)
	return nil
}

// Set makes the field the only one of its name, in the place of the first one
// or at the end.
func (h *Header) Set(name, value string) error {
	f, err := textField(name, value)
	if err != nil {
		return err
	}
	h.place(f)
	return nil
}

// SetMailboxes is Set for From, To, Cc and their like.
func (h *Header) SetMailboxes(name string, list []Mailbox) error {
	f, err := mailboxField(name, list)
	if err != nil {
		return err
	}
	h.place(f)
	return nil
}

func (h *Header) place(f field) {
	for i, old := range h.fields {
		if strings.EqualFold(old.name, f.name) {
			rest := Header{append([]field(nil), h.fields[i+1:]...)}
			rest.Del(f.name)
			kept := append(append([]field(nil), h.fields[:i]...), f)
			h.fields = append(kept, rest.fields...)
			return
		}
	}
	h.fields = append(h.fields, f)
}

// WriteTo writes the fields and the empty line.
func (h Header) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(h.Bytes())
	return int64(n), err
}

// Bytes gives the fields and the empty line.
func (h Header) Bytes() []byte {
	size := 2
	for _, f := range h.fields {
		size += len(f.raw)
	}
	out := make([]byte, 0, size)
	for _, f := range h.fields {
		out = append(out, f.raw...)
	}
	return append(out, "\r\n"...)
}

// NeedsSMTPUTF8 reports whether the header holds bytes beyond ASCII, which may
// travel only under SMTPUTF8 (RFC 6532).
func NeedsSMTPUTF8(h Header) bool {
	for _, f := range h.fields {
		if Has8Bit(f.raw) {
			return true
		}
	}
	return false
}
