package openpgp

import (
	"errors"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Packet types (RFC 9580 section 5).
const (
	tagPKESK        = 1
	tagSignature    = 2
	tagSKESK        = 3
	tagOnePass      = 4
	tagSecretKey    = 5
	tagPublicKey    = 6
	tagSecretSubkey = 7
	tagCompressed   = 8
	tagSED          = 9
	tagMarker       = 10
	tagLiteral      = 11
	tagUserID       = 13
	tagPublicSubkey = 14
	tagAttribute    = 17
	tagSEIPD        = 18
	tagOCB          = 20 // GnuPG 2.3's AEAD, never standardized
	tagPadding      = 21
)

var errFraming = errors.New("packet framing")

// raw is a packet as framed: its type and its body.
type raw struct {
	tag  byte
	body []byte
}

// parse hands the packet to go-crypto.
func (p raw) parse() (out packet.Packet, err error) {
	err = library(func() error {
		op := &packet.OpaquePacket{Tag: p.tag, Contents: p.body}
		var e error
		out, e = op.Parse()
		return e
	})
	return out, err
}

// nextPacket takes one packet off data (RFC 9580 section 4.2): definite
// lengths, partial ones, and the indeterminate one that GnuPG gives compressed
// data.
func nextPacket(data []byte) (raw, []byte, error) {
	if len(data) < 2 || data[0]&0x80 == 0 {
		return raw{}, nil, errFraming
	}
	if data[0]&0x40 == 0 {
		return oldPacket(data)
	}
	p, rest := raw{tag: data[0] & 0x3f}, data[1:]
	var joined []byte // grows with what is there: a stranger chooses the number of parts
	for {
		n, used, partial, ok := newLength(rest)
		if !ok || n > len(rest)-used || partial && !mayBePartial(p.tag) {
			return raw{}, nil, errFraming
		}
		piece := rest[used : used+n]
		rest = rest[used+n:]
		if joined == nil && !partial {
			p.body = piece
			return p, rest, nil
		}
		if joined = append(joined, piece...); !partial {
			p.body = joined
			return p, rest, nil
		}
	}
}

// keyPacket takes one packet off a key, where all lengths are definite: others
// are for data packets (section 4.2.1.4), of which a key has none.
func keyPacket(data []byte) (raw, []byte, error) {
	if len(data) > 1 {
		if c := data[0]; c&0x40 == 0 && c&3 == 3 || c&0x40 != 0 && data[1] >= 224 && data[1] < 255 {
			return raw{}, nil, errFraming
		}
	}
	return nextPacket(data)
}

func mayBePartial(tag byte) bool {
	return tag == tagLiteral || tag == tagCompressed || tag == tagSED || tag == tagSEIPD || tag == tagOCB
}

// newLength reads a length of section 4.2.1.
func newLength(b []byte) (n, used int, partial, ok bool) {
	if len(b) == 0 {
		return 0, 0, false, false
	}
	switch c := int(b[0]); {
	case c < 192:
		return c, 1, false, true
	case c < 224 && len(b) >= 2:
		return (c-192)<<8 + int(b[1]) + 192, 2, false, true
	case c == 255 && len(b) >= 5:
		return int(b[1])<<24 | int(b[2])<<16 | int(b[3])<<8 | int(b[4]), 5, false, true
	case c >= 224 && c < 255:
		return 1 << (c & 0x1f), 1, true, true
	}
	return 0, 0, false, false
}

// oldPacket reads the legacy format of section 4.2.2.
func oldPacket(data []byte) (raw, []byte, error) {
	p := raw{tag: data[0] >> 2 & 0xf}
	width := 1 << (data[0] & 3)
	if width == 8 {
		if !mayBePartial(p.tag) {
			return raw{}, nil, errFraming
		}
		p.body = data[1:]
		return p, nil, nil
	}
	if len(data) < 1+width {
		return raw{}, nil, errFraming
	}
	n := 0
	for _, c := range data[1 : 1+width] {
		n = n<<8 | int(c)
	}
	rest := data[1+width:]
	if n > len(rest) {
		return raw{}, nil, errFraming
	}
	p.body = rest[:n]
	return p, rest[n:], nil
}

// appendHead appends a packet's header with a definite length.
func appendHead(dst []byte, tag byte, n int64) []byte {
	dst = append(dst, 0xc0|tag)
	switch {
	case n < 192:
		return append(dst, byte(n))
	case n < 8384:
		n -= 192
		return append(dst, 192+byte(n>>8), byte(n))
	}
	return append(dst, 255, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

func appendPacket(dst []byte, p raw) []byte {
	return append(appendHead(dst, p.tag, int64(len(p.body))), p.body...)
}
