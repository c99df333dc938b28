package mail

import (
	"bytes"
	"errors"
	"io"
	"unicode/utf8"

	"github.com/sealpost/sealpost/internal/fault"
)

// ErrNotSevenBit says that a message cannot be brought to seven bits without
// changing what it says or breaking a signature in it.
var ErrNotSevenBit = errors.New("the message cannot be encoded in seven bits")

const (
	maxDepth = 20
	maxParts = 200
)

// ToSevenBit encodes the 8-bit parts of a message in quoted-printable or
// base64, for a host without 8BITMIME (RFC 6152 section 3). A message that is
// seven-bit already keeps all its bytes. It reads at most limit bytes of body
// into memory. When the structure is not understood, a field holds bytes
// beyond ASCII or a signed part would change, the error is ErrNotSevenBit.
func ToSevenBit(h Header, body io.Reader, limit int64) (Header, io.Reader, error) {
	b, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return Header{}, nil, err
	}
	if int64(len(b)) > limit {
		return Header{}, nil, fault.Newf(fault.TooLarge, "message_too_large", "The message is over %d bytes.", limit)
	}
	if NeedsSMTPUTF8(h) {
		return Header{}, nil, ErrNotSevenBit
	}
	if !Has8Bit(b) {
		return h, bytes.NewReader(b), nil
	}
	h = h.Clone()
	if !h.Has("MIME-Version") {
		if err := h.Add("MIME-Version", "1.0"); err != nil {
			return Header{}, nil, err
		}
	}
	left := maxParts
	out, err := sevenBitPart(&h, b, "text/plain", 0, &left)
	if err != nil {
		return Header{}, nil, err
	}
	return h, bytes.NewReader(out), nil
}

// sevenBitPart encodes one part and sets its header accordingly.
func sevenBitPart(h *Header, body []byte, fallback string, depth int, left *int) ([]byte, error) {
	if *left--; *left < 0 || depth > maxDepth || NeedsSMTPUTF8(*h) {
		return nil, ErrNotSevenBit
	}
	if !Has8Bit(body) {
		return body, nil
	}
	switch h.transferEncoding() {
	case "7bit", "8bit", "binary":
	default:
		return nil, ErrNotSevenBit
	}
	media, params := h.contentType(fallback)
	switch {
	case media == "multipart/signed" || media == "multipart/encrypted":
		return nil, ErrNotSevenBit
	case hasPrefix(media, "multipart/"):
		if err := h.Set("Content-Transfer-Encoding", "7bit"); err != nil {
			return nil, err
		}
		return sevenBitMultipart(media, params["boundary"], body, depth, left)
	case media == "message/rfc822":
		if err := h.Set("Content-Transfer-Encoding", "7bit"); err != nil {
			return nil, err
		}
		return sevenBitEntity(body, "text/plain", depth+1, left)
	case hasPrefix(media, "message/"):
		return nil, ErrNotSevenBit
	}
	return sevenBitLeaf(h, media, body)
}

func hasPrefix(s, prefix string) bool { return len(s) >= len(prefix) && s[:len(prefix)] == prefix }

func sevenBitLeaf(h *Header, media string, body []byte) ([]byte, error) {
	if !h.Has("Content-Type") && utf8.Valid(body) {
		if err := h.Set("Content-Type", "text/plain; charset=utf-8"); err != nil {
			return nil, err
		}
	}
	encoding, out := "base64", []byte(nil)
	if hasPrefix(media, "text/") && onlyCRLF(body) {
		encoding, out = "quoted-printable", encodeQP(body)
	} else {
		out = encodeBase64(body)
	}
	return out, h.Set("Content-Transfer-Encoding", encoding)
}

// onlyCRLF reports whether quoted-printable gives the body back as it was: it
// turns every other line end into CRLF.
func onlyCRLF(b []byte) bool {
	return bytes.Count(b, []byte("\r\n")) == bytes.Count(b, []byte("\n")) &&
		bytes.Count(b, []byte("\r\n")) == bytes.Count(b, []byte("\r"))
}

// sevenBitEntity encodes a part with its header. A part that is seven-bit
// keeps its bytes.
func sevenBitEntity(b []byte, fallback string, depth int, left *int) ([]byte, error) {
	if !Has8Bit(b) {
		*left--
		return b, nil
	}
	h, body, err := splitHeader(b)
	if err != nil {
		return nil, ErrNotSevenBit
	}
	out, err := sevenBitPart(&h, body, fallback, depth, left)
	if err != nil {
		return nil, err
	}
	return append(h.Bytes(), out...), nil
}

func sevenBitMultipart(media, boundary string, body []byte, depth int, left *int) ([]byte, error) {
	if boundary == "" {
		return nil, ErrNotSevenBit
	}
	parts, over := splitParts(body, boundary, maxParts)
	if over || len(parts) == 0 {
		return nil, ErrNotSevenBit
	}
	fallback := "text/plain"
	if media == "multipart/digest" {
		fallback = "message/rfc822"
	}
	var out bytes.Buffer
	pos := 0
	for _, p := range parts {
		out.Write(asciiOnly(body[pos:p.start]))
		part, err := sevenBitEntity(body[p.start:p.end], fallback, depth+1, left)
		if err != nil {
			return nil, err
		}
		out.Write(part)
		pos = p.end
	}
	out.Write(asciiOnly(body[pos:]))
	return out.Bytes(), nil
}

// asciiOnly marks what cannot be encoded in the preamble and epilogue, which
// readers do not show (RFC 2046 section 5.1.1).
func asciiOnly(b []byte) []byte {
	if !Has8Bit(b) {
		return b
	}
	out := bytes.Clone(b)
	for i, c := range out {
		if c >= utf8.RuneSelf {
			out[i] = '?'
		}
	}
	return out
}
