package seal

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/quotedprintable"
	"strings"

	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
)

const (
	maxPreamble = 512     // octets that nobody is shown
	maxVersion  = 1 << 10 // octets of the part that says "Version: 1"
)

// Sealed reports whether a message is encrypted by its sender: a complete
// multipart/encrypted of OpenPGP (RFC 3156 section 4) or an S/MIME message
// whose content is enveloped (RFC 8551 section 3.3). It looks at the parsed
// structure, down to the packets. What only looks encrypted (armor in a text,
// an encrypted message attached to another one, a signature) is not sealed;
// neither is what has readable text beside the encrypted one. It reads the
// body once, in constant memory.
func Sealed(h mail.Header, body io.Reader) bool {
	media, params, ok := onlyType(h)
	if !ok {
		return false
	}
	switch media {
	case "multipart/encrypted":
		return strings.EqualFold(params["protocol"], "application/pgp-encrypted") &&
			untransferred(h) && sealedByPGP(params["boundary"], body)
	case "application/pkcs7-mime", "application/x-pkcs7-mime":
		// KindOf reads to the end: nothing may be missing or stand behind it.
		kind := cms.KindOf(transferDecoded(h, body))
		return kind == cms.KindEnveloped || kind == cms.KindAuthEnveloped
	}
	return false
}

// MaybeSealed reports whether a header promises a message that its sender
// encrypted. Only its structure proves that: see Sealed.
func MaybeSealed(h mail.Header) bool {
	media, _, ok := onlyType(h)
	switch media {
	case "multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime":
		return ok
	}
	return false
}

// onlyType reads a Content-Type that every program reads alike.
func onlyType(h mail.Header) (media string, params map[string]string, ok bool) {
	values := h.Values("Content-Type")
	if len(values) != 1 || len(h.Values("Content-Transfer-Encoding")) > 1 {
		return "", nil, false
	}
	media, params, err := mime.ParseMediaType(values[0])
	return media, params, err == nil
}

func transferEncoding(h mail.Header) string {
	return strings.ToLower(strings.TrimSpace(h.Get("Content-Transfer-Encoding")))
}

func untransferred(h mail.Header) bool {
	switch transferEncoding(h) {
	case "", "7bit", "8bit", "binary":
		return true
	}
	return false
}

// transferDecoded takes off the transfer encoding. An encoding that nobody
// knows gives an error.
func transferDecoded(h mail.Header, r io.Reader) io.Reader {
	switch transferEncoding(h) {
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, r)
	case "quoted-printable":
		return quotedprintable.NewReader(r)
	case "", "7bit", "8bit", "binary":
		return r
	}
	return failing{}
}

var errNotSealed = errors.New("seal: not an encrypted message")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errNotSealed }

// sealedByPGP wants the two parts of RFC 3156 section 4, the close delimiter,
// and nothing to read around them.
func sealedByPGP(boundary string, body io.Reader) bool {
	if boundary == "" || len(boundary) > 200 {
		return false
	}
	parts := &splitter{r: bufio.NewReader(body), delimiter: "--" + boundary}
	if !drained(parts, maxPreamble) || parts.closed || !parts.next() {
		return false
	}
	if h, r, ok := partOf(parts); !ok || !mediaIs(h, "application/pgp-encrypted") || !versionOne(transferDecoded(h, r)) {
		return false
	}
	if parts.closed || !parts.next() {
		return false
	}
	h, r, ok := partOf(parts)
	if !ok || !mediaIs(h, "application/octet-stream") || !openpgp.Encrypted(transferDecoded(h, r)) {
		return false
	}
	return drained(parts, 0) && parts.closed && onlySpace(parts.r)
}

func mediaIs(h mail.Header, want string) bool {
	media, _, ok := onlyType(h)
	return ok && media == want
}

func partOf(r io.Reader) (mail.Header, io.Reader, bool) {
	buffered := bufio.NewReader(r)
	h, err := mail.ParseHeader(buffered)
	return h, buffered, err == nil
}

func versionOne(r io.Reader) bool {
	text, err := io.ReadAll(io.LimitReader(r, maxVersion+1))
	name, value, _ := strings.Cut(string(text), ":")
	return err == nil && len(text) <= maxVersion &&
		strings.EqualFold(strings.TrimSpace(name), "Version") && strings.TrimSpace(value) == "1"
}

// drained reads to the end of a part and reports whether that were at most so
// many octets.
func drained(r io.Reader, most int64) bool {
	n, err := io.Copy(io.Discard, io.LimitReader(r, most+1))
	return err == nil && n <= most
}

func onlySpace(r io.Reader) bool {
	b := make([]byte, 4<<10)
	for {
		n, err := r.Read(b)
		if len(bytes.TrimSpace(b[:n])) > 0 {
			return false
		}
		if err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}

// splitter gives the octets up to the next delimiter of a multipart. The line
// end before a delimiter is given too.
type splitter struct {
	r         *bufio.Reader
	delimiter string
	line      []byte // not given yet
	inLine    bool   // line is not the start of one
	at        bool   // at a delimiter
	closed    bool   // it was the close delimiter
}

// next goes on behind a delimiter.
func (s *splitter) next() bool {
	was := s.at && !s.closed
	s.at = false
	return was
}

func (s *splitter) Read(p []byte) (int, error) {
	for len(s.line) == 0 {
		if s.at {
			return 0, io.EOF
		}
		line, err := s.r.ReadSlice('\n')
		if len(line) == 0 && err != nil {
			return 0, cutOff(err)
		}
		if !s.inLine {
			text := strings.TrimRight(string(line), " \t\r\n")
			if s.closed = text == s.delimiter+"--"; s.closed || text == s.delimiter {
				s.at = true
				return 0, io.EOF
			}
		}
		s.inLine = errors.Is(err, bufio.ErrBufferFull)
		s.line = line
	}
	n := copy(p, s.line)
	s.line = s.line[n:]
	return n, nil
}

// cutOff makes an error of the end of a multipart without its delimiter.
func cutOff(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
