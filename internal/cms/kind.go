package cms

import (
	"bufio"
	"encoding/asn1"
	"io"
	"math"

	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// Kind is what sort of CMS content a message is.
type Kind string

// The kinds. Anything else is the empty Kind.
const (
	KindEnveloped     Kind = "enveloped"
	KindAuthEnveloped Kind = "auth-enveloped"
	KindSigned        Kind = "signed"
	KindCompressed    Kind = "compressed"
)

// kinds tell what follows the version in the content of each.
var kinds = []struct {
	oid  asn1.ObjectIdentifier
	kind Kind
	next []tags.Tag
}{
	{oidEnveloped, KindEnveloped, []tags.Tag{tags.SET, tag0Construct}},
	{oidAuthEnveloped, KindAuthEnveloped, []tags.Tag{tags.SET, tag0Construct}},
	{oidSignedData, KindSigned, []tags.Tag{tags.SET}},
	{oidCompressed, KindCompressed, []tags.Tag{tags.SEQUENCE}},
}

// KindOf tells the kind of a message from its structure, BER or DER. It reads
// to the end, in constant memory: what begins like CMS and does not end with
// it, or has something behind, is of no kind. It does not say that the message
// can be opened.
func KindOf(message io.Reader) Kind {
	w := &walker{r: bufio.NewReader(message)}
	kind, ok := w.contentInfo()
	if !ok {
		return ""
	}
	if _, err := w.r.Peek(1); err != io.EOF {
		return ""
	}
	return kind
}

// walker goes over BER as it streams by.
type walker struct {
	r   *bufio.Reader
	pos int64
}

func (w *walker) octet() (byte, bool) {
	b, err := w.r.ReadByte()
	w.pos++
	return b, err == nil
}

// header reads tag and length; end is where the element ends, or indefinite.
func (w *walker) header() (tag byte, end int64, ok bool) {
	if tag, ok = w.octet(); !ok {
		return 0, 0, false
	}
	if tag&0x1f == 0x1f {
		b := byte(0x80)
		for range maxIdentifier - 1 {
			if b, ok = w.octet(); !ok || b&0x80 == 0 {
				break
			}
		}
		if !ok || b&0x80 != 0 {
			return 0, 0, false
		}
	}
	first, ok := w.octet()
	switch {
	case !ok || first > 0x88:
		return 0, 0, false
	case first == 0x80:
		return tag, indefinite, tag&constructed != 0
	case first < 0x80:
		return tag, w.pos + int64(first), true
	}
	var n uint64
	for range first & 0x7f {
		b, ok := w.octet()
		if !ok {
			return 0, 0, false
		}
		n = n<<8 | uint64(b)
	}
	if n > math.MaxInt64/2 {
		return 0, 0, false
	}
	return tag, w.pos + int64(n), true
}

// enter reads the header of an element that must have this tag, and lie within
// its parent.
func (w *walker) enter(want tags.Tag, within int64) (end int64, ok bool) {
	tag, end, ok := w.header()
	return end, ok && tag == byte(want) && fits(end, within)
}

func fits(end, within int64) bool {
	return within == indefinite || end == indefinite || end <= within
}

// leave goes over what remains of an element.
func (w *walker) leave(end int64, depth int) bool {
	for depth <= maxDepth {
		if end != indefinite && w.pos >= end {
			return w.pos == end
		}
		tag, inner, ok := w.header()
		switch {
		case !ok || !fits(inner, end):
			return false
		case tag == endOfContents:
			return end == indefinite && inner == w.pos
		case tag&constructed != 0:
			if !w.leave(inner, depth+1) {
				return false
			}
		case !w.skip(inner - w.pos):
			return false
		}
	}
	return false
}

func (w *walker) skip(n int64) bool {
	w.pos += n
	_, err := w.r.Discard(int(n))
	return err == nil
}

// contentInfo walks over a ContentInfo and looks at its beginning.
func (w *walker) contentInfo() (Kind, bool) {
	info, ok := w.enter(tags.SEQUENCE, indefinite)
	if !ok {
		return "", false
	}
	oid, ok := w.small(tags.OBJECT_IDENTIFIER, info)
	if !ok {
		return "", false
	}
	for _, k := range kinds {
		if string(identifierDER(k.oid)[2:]) != string(oid) {
			continue
		}
		wrapped, ok := w.enter(tag0Construct, info)
		if !ok {
			return "", false
		}
		content, ok := w.enter(tags.SEQUENCE, wrapped)
		if !ok || !w.begins(content, k.next) {
			return "", false
		}
		return k.kind, w.leave(content, 3) && w.leave(wrapped, 2) && w.leave(info, 1)
	}
	return "", false
}

// begins reads a version and looks at the tag of what follows.
func (w *walker) begins(end int64, next []tags.Tag) bool {
	version, ok := w.small(tags.INTEGER, end)
	if !ok || len(version) != 1 || version[0] > mostVersion {
		return false
	}
	b, err := w.r.Peek(1)
	if err != nil {
		return false
	}
	for _, tag := range next {
		if b[0] == byte(tag) {
			return true
		}
	}
	return false
}

// small reads a primitive of a few octets.
func (w *walker) small(tag tags.Tag, within int64) ([]byte, bool) {
	end, ok := w.enter(tag, within)
	if !ok || end-w.pos > 16 {
		return nil, false
	}
	b := make([]byte, end-w.pos)
	_, err := io.ReadFull(w.r, b)
	w.pos = end
	return b, err == nil
}
