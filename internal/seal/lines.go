package seal

import (
	"context"
	"encoding/base64"
	"io"
)

// The octets that make a line of base64.
const (
	armorLine = 48 // 64 columns, as OpenPGP programs write
	mimeLine  = 57 // 76 columns (RFC 2045 section 6.8)
	lineBatch = 512
)

// inLines encodes a stream in lines of base64. With a checksum, CRC24 of
// OpenPGP's armor stands behind it.
func (s stream) inLines(octets int, checksum bool) stream {
	lines := (s.size + int64(octets) - 1) / int64(octets)
	size := (s.size+2)/3*4 + 2*lines
	if checksum {
		size += int64(len("=AAAA\r\n"))
	}
	return stream{size, func(ctx context.Context) (io.ReadCloser, error) {
		r, err := s.open(ctx)
		if err != nil {
			return nil, err
		}
		most := int(min(lines, lineBatch))
		l := &lineReader{r: r, left: s.size, octets: octets, raw: make([]byte, most*octets), text: make([]byte, 0, most*(octets/3*4+2)+8), checksum: checksum, crc: crcInit}
		return readCloser{l, r}, nil
	}}
}

// lineReader gives base64 in lines of what it reads. An error of its source
// is given in place of what was read with it.
type lineReader struct {
	r        io.Reader
	left     int64
	octets   int
	raw      []byte
	text     []byte
	pos      int
	checksum bool
	crc      uint32
	err      error
}

func (l *lineReader) Read(p []byte) (int, error) {
	for l.pos == len(l.text) {
		if l.err != nil {
			return 0, l.err
		}
		l.fill()
	}
	n := copy(p, l.text[l.pos:])
	l.pos += n
	return n, nil
}

func (l *lineReader) fill() {
	l.text, l.pos = l.text[:0], 0
	// Not io.ReadFull: its io.ErrUnexpectedEOF may be the source's own, which
	// is no end.
	n, err := 0, error(nil)
	for n < len(l.raw) && err == nil {
		var k int
		k, err = l.r.Read(l.raw[n:])
		n += k
	}
	l.left -= int64(n)
	if err == io.EOF && l.left != 0 {
		err = errOther
	}
	ended := err == io.EOF
	if err != nil && !ended {
		l.err = err
		return
	}
	raw := l.raw[:n]
	if l.checksum {
		l.crc = crc24(l.crc, raw)
	}
	for len(raw) > 0 {
		k := min(l.octets, len(raw))
		l.text = append(base64.StdEncoding.AppendEncode(l.text, raw[:k]), "\r\n"...)
		raw = raw[k:]
	}
	if !ended {
		return
	}
	l.err = io.EOF
	if l.checksum {
		sum := []byte{byte(l.crc >> 16), byte(l.crc >> 8), byte(l.crc)}
		l.text = append(base64.StdEncoding.AppendEncode(append(l.text, '='), sum), "\r\n"...)
	}
}

// CRC24 of RFC 9580 section 6.1.1.
const (
	crcInit = 0xB704CE
	crcPoly = 0x864CFB
)

var crcTable = func() (table [256]uint32) {
	for i := range table {
		c := uint32(i) << 16
		for range 8 {
			if c <<= 1; c&0x1000000 != 0 {
				c ^= 0x1000000 | crcPoly
			}
		}
		table[i] = c
	}
	return table
}()

func crc24(crc uint32, b []byte) uint32 {
	for _, c := range b {
		crc = crc<<8&0xFFFFFF ^ crcTable[byte(crc>>16)^c]
	}
	return crc
}
