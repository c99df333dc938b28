package dkim

import (
	"bytes"
	"crypto/sha256"
	"hash"
)

// relaxed appends a header field in relaxed form (RFC 6376 section 3.4.2):
// name in lower case, folds undone, white space reduced, CRLF at the end.
func relaxed(dst, raw []byte) []byte {
	i := bytes.IndexByte(raw, ':')
	for _, c := range bytes.TrimRight(raw[:i], " \t") {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	dst = append(dst, ':')
	start, space := len(dst), false
	for _, c := range raw[i+1:] {
		switch c {
		case ' ', '\t', '\r', '\n':
			space = true
			continue
		}
		if space && len(dst) > start {
			dst = append(dst, ' ')
		}
		space = false
		dst = append(dst, c)
	}
	return append(dst, '\r', '\n')
}

// bodyHash takes a body in pieces and hashes its relaxed form (RFC 6376
// section 3.4.4). Its lines end in CRLF and nothing else does.
type bodyHash struct {
	sum    hash.Hash
	buf    []byte
	breaks int  // line ends that count only if text follows
	space  bool // white space that counts only if text of the line follows
	some   bool // there was text
}

func newBodyHash() *bodyHash { return &bodyHash{sum: sha256.New(), buf: make([]byte, 0, 8<<10)} }

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// Write never fails.
func (b *bodyHash) Write(p []byte) (int, error) {
	for i := 0; i < len(p); {
		j := i
		for j < len(p) && !blank(p[j]) {
			j++
		}
		if j > i {
			b.text(p[i:j])
			i = j
			continue
		}
		switch p[i] {
		case ' ', '\t':
			b.space = true
		case '\n':
			b.space = false
			b.breaks++
		}
		i++
	}
	return len(p), nil
}

func (b *bodyHash) text(run []byte) {
	b.some = true
	for ; b.breaks > 0; b.breaks-- {
		b.put(crlf)
	}
	if b.space {
		b.put(oneSpace)
		b.space = false
	}
	b.put(run)
}

func (b *bodyHash) put(p []byte) {
	if len(b.buf)+len(p) > cap(b.buf) {
		b.sum.Write(b.buf)
		b.buf = b.buf[:0]
		if len(p) > cap(b.buf) {
			b.sum.Write(p)
			return
		}
	}
	b.buf = append(b.buf, p...)
}

// Sum ends the body: with one line end, or as nothing at all.
func (b *bodyHash) Sum() []byte {
	if b.some {
		b.put(crlf)
	}
	b.sum.Write(b.buf)
	b.buf = b.buf[:0]
	return b.sum.Sum(nil)
}

var (
	crlf     = []byte("\r\n")
	oneSpace = []byte(" ")
)
