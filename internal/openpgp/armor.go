package openpgp

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"io"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
)

// Bounds of armor. Lines are 76 characters by the book (RFC 9580 section 6.2);
// some mail programs wrap later. go-crypto's reader has no bound on a header.
const (
	maxArmorLine    = 4096
	maxArmorHeaders = 32
)

const (
	armorBegin = "-----BEGIN PGP "
	armorEnd   = "-----END PGP "
	armorDash  = "-----"
)

// dearmored is the inside of one armored block, decoded while it is read.
type dearmored struct {
	kind  string // "MESSAGE", "PUBLIC KEY BLOCK"
	clean bool   // nothing but white space stood before it
	in    *bufio.Reader
	line  []byte
	ended bool // the block's last line was seen
	body  io.Reader
}

// armored finds the next armored block, or gives nil. in must have a buffer
// of at least maxArmorLine.
func armored(in *bufio.Reader) *dearmored {
	d := &dearmored{in: in, clean: true}
	for {
		line, err := in.ReadSlice('\n')
		if t := trim(line); strings.HasPrefix(t, armorBegin) && strings.HasSuffix(t[len(armorBegin):], armorDash) {
			d.kind = t[len(armorBegin) : len(t)-len(armorDash)]
			break
		} else if t != "" {
			d.clean = false
		}
		if err != nil && err != bufio.ErrBufferFull {
			return nil
		}
	}
	for range maxArmorHeaders {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return nil
		}
		t := trim(line)
		if t == "" {
			break
		}
		if !strings.Contains(t, ": ") && !strings.HasSuffix(t, ":") {
			d.line = []byte(t) // GnuPG reads a block without the empty line too
			break
		}
	}
	d.body = base64.NewDecoder(base64.StdEncoding, (*armorText)(d))
	return d
}

func trim(line []byte) string { return string(bytes.TrimSpace(line)) }

// armorText gives the characters between an armored block's head and tail.
type armorText dearmored

func (a *armorText) Read(b []byte) (int, error) {
	for len(a.line) == 0 {
		if a.ended {
			return 0, io.EOF
		}
		line, err := a.in.ReadSlice('\n')
		t := trim(line)
		switch {
		case strings.HasPrefix(t, armorEnd):
			a.ended = true
		case strings.HasPrefix(t, "="): // the checksum, which section 6.1 tells to ignore
		case err != nil:
			return 0, io.ErrUnexpectedEOF
		default:
			a.line = []byte(t)
		}
	}
	n := copy(b, a.line)
	a.line = a.line[n:]
	return n, nil
}

// alone reports whether the block was whole and nothing but white space
// stands around it. It reads to the end.
func (d *dearmored) alone() bool {
	if !d.clean || !d.ended {
		return false
	}
	for {
		c, err := d.in.ReadByte()
		if err != nil {
			return err == io.EOF
		}
		if !bytes.ContainsRune([]byte(" \t\r\n"), rune(c)) {
			return false
		}
	}
}

// isBinary tells packets from text: the first octet of a packet has its high bit
// set.
func isBinary(data []byte) bool { return len(data) > 0 && data[0]&0x80 != 0 }

// blocks gives the packets of data, binary or armored, and the kinds of the
// armored blocks they came in.
func blocks(data []byte, max int) (packets [][]byte, kinds []string, err error) {
	if isBinary(data) {
		return [][]byte{data}, []string{""}, nil
	}
	in := bufio.NewReaderSize(bytes.NewReader(data), maxArmorLine)
	for len(packets) < max {
		d := armored(in)
		if d == nil {
			break
		}
		if d.kind == "SIGNED MESSAGE" { // cleartext signatures (section 7)
			return nil, nil, refuse(Unsupported)
		}
		body, err := io.ReadAll(d.body)
		if err != nil {
			return nil, nil, refuse(Malformed).Because(err)
		}
		packets, kinds = append(packets, body), append(kinds, d.kind)
	}
	if len(packets) == 0 {
		return nil, nil, refuse(Malformed)
	}
	return packets, kinds, nil
}

// enarmor wraps packets. The checksum is for readers of RFC 4880; section 6.1
// of RFC 9580 forbids it around version 6.
func enarmor(kind string, packets []byte, checksum bool) ([]byte, error) {
	var out bytes.Buffer
	w, err := armor.EncodeWithChecksumOption(&out, "PGP "+kind, nil, checksum)
	if err != nil {
		return nil, err
	}
	if _, err = w.Write(packets); err == nil {
		err = w.Close()
	}
	out.WriteByte('\n')
	return out.Bytes(), err
}
