package openpgp

import (
	"bufio"
	"io"
)

// Encrypted reports whether message is encrypted, by the structure of its
// packets: key packets, then encrypted data that is protected against changes
// (also GnuPG 2.3's own kind) to the very end. Armor around it is taken off; text
// before or after the armor, which would be readable, makes it false. Memory
// does not grow with the message.
func Encrypted(message io.Reader) bool {
	in := bufio.NewReaderSize(message, maxArmorLine)
	head, err := in.Peek(1)
	if err != nil {
		return false
	}
	if isBinary(head) {
		return encryptedPackets(in)
	}
	d := armored(in)
	if d == nil || !d.clean || d.kind != "MESSAGE" {
		return false
	}
	return encryptedPackets(bufio.NewReader(d.body)) && d.alone()
}

// encryptedPackets walks over packets to the end of in.
func encryptedPackets(in *bufio.Reader) bool {
	keys := 0
	for range maxKeyPackets {
		tag, length, ok := streamedHead(in)
		if !ok {
			return false
		}
		first, err := in.Peek(1)
		if err != nil {
			return false
		}
		switch tag {
		case tagPKESK, tagSKESK:
			if v := first[0]; tag == tagPKESK && v != 3 && v != 6 {
				return false
			}
			keys++
		case tagMarker, tagPadding:
		case tagSEIPD, tagOCB:
			if keys == 0 || first[0] != 1 && (first[0] != 2 || tag != tagSEIPD) || !skipAll(in, tag, length) {
				return false
			}
			_, err := in.ReadByte()
			return err == io.EOF
		default:
			return false
		}
		if length.partial || length.n < 0 || length.n > maxKeyBody || !skip(in, length.n) {
			return false
		}
	}
	return false
}

type length struct {
	n       int // -1: to the end
	partial bool
}

// streamedHead reads a packet's type and length.
func streamedHead(in *bufio.Reader) (tag byte, l length, ok bool) {
	c, err := in.ReadByte()
	if err != nil || c&0x80 == 0 {
		return 0, l, false
	}
	if c&0x40 != 0 {
		l, ok = streamedLength(in)
		return c & 0x3f, l, ok
	}
	width := 1 << (c & 3)
	if width == 8 {
		return c >> 2 & 0xf, length{n: -1}, true
	}
	for range width {
		b, err := in.ReadByte()
		if err != nil {
			return 0, l, false
		}
		l.n = l.n<<8 | int(b)
	}
	return c >> 2 & 0xf, l, true
}

func streamedLength(in *bufio.Reader) (l length, ok bool) {
	for want := 1; want <= 5; want++ {
		b, _ := in.Peek(want)
		if len(b) < want {
			return l, false
		}
		n, used, partial, ok := newLength(b)
		if ok {
			return length{n, partial}, skip(in, used)
		}
	}
	return l, false
}

// skipAll skips a whole body: definite, in parts, or to the end.
func skipAll(in *bufio.Reader, tag byte, l length) bool {
	if l.n < 0 {
		_, err := io.Copy(io.Discard, in)
		return err == nil
	}
	for {
		if !skip(in, l.n) {
			return false
		}
		if !l.partial {
			return true
		}
		var ok bool
		if l, ok = streamedLength(in); !ok {
			return false
		}
	}
}

func skip(in *bufio.Reader, n int) bool {
	m, err := in.Discard(n)
	return err == nil && m == n
}
