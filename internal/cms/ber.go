package cms

import "github.com/sealpost/sealpost/internal/fault"

// maxDepth bounds how deep elements lie in each other. A SignedData with long
// certificates is about fifteen deep; an encrypted or signed message inside of
// another is octets to it and counts anew.
const maxDepth = 48

// maxIdentifier bounds the octets of a tag; CMS has none of more than one.
const maxIdentifier = 4

var (
	errMalformed = fault.New(fault.Refused, "malformed", "This is not a well-formed S/MIME object.")
	errTooLarge  = fault.New(fault.Refused, "too_large", "The S/MIME object is larger than allowed.")
)

// ToDER makes DER of BER (X.690): lengths become definite and minimal, strings
// in pieces become one. Neither the octets given nor those made may be more
// than max; what is DER already is given back itself, not copied.
//
// Values stay as they are: the order of a SET OF, integers and Booleans are
// not touched, because a signature may have been made over them. Strings whose
// tag is implicit (the ciphertext of EnvelopedData in pieces) look like any
// constructed element and stay one; whoever knows the type joins them.
func ToDER(ber []byte, max int) ([]byte, error) {
	if len(ber) > max {
		return nil, errTooLarge
	}
	p := &transcoder{in: ber, max: max, same: true}
	if err := p.element(0); err != nil {
		return nil, err
	}
	if p.pos != len(ber) {
		return nil, errMalformed
	}
	if p.same {
		return ber, nil
	}
	p.pos, p.same = 0, false
	p.out = make([]byte, 0, len(ber))
	if err := p.element(0); err != nil {
		return nil, err
	}
	return p.out, nil
}

// transcoder walks over BER once to see whether it is DER already (same) and,
// if it is not, a second time to write.
type transcoder struct {
	in   []byte
	pos  int
	out  []byte
	max  int
	same bool
}

const indefinite = -1

// Tags that this file looks at.
const (
	tagBits       = 3
	tagOctets     = 4
	constructed   = 0x20
	endOfContents = 0
)

// header is what stands before the content of an element.
type header struct {
	id     []byte // identifier octets
	length int    // or indefinite
}

func (h header) constructed() bool { return h.id[0]&constructed != 0 }

// text tells a constructed element of one of the string types of the universal
// class, which DER writes in one piece.
func (h header) text() bool {
	if h.id[0]&0xc0 != 0 || !h.constructed() {
		return false
	}
	switch h.id[0] & 0x1f {
	case tagBits, tagOctets, 12, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 30:
		return true
	}
	return false
}

// header reads identifier and length, and looks that the content is there.
func (p *transcoder) header() (header, error) {
	start := p.pos
	if p.pos >= len(p.in) {
		return header{}, errMalformed
	}
	first := p.in[p.pos]
	p.pos++
	if first&0x1f == 0x1f {
		for {
			if p.pos >= len(p.in) || p.pos-start >= maxIdentifier {
				return header{}, errMalformed
			}
			p.pos++
			if p.in[p.pos-1]&0x80 == 0 {
				break
			}
		}
	}
	h := header{id: p.in[start:p.pos]}
	var err error
	h.length, err = p.lengthOctets()
	if err == nil && h.length == indefinite && !h.constructed() {
		err = errMalformed
	}
	return h, err
}

func (p *transcoder) lengthOctets() (int, error) {
	if p.pos >= len(p.in) {
		return 0, errMalformed
	}
	first := p.in[p.pos]
	p.pos++
	switch {
	case first == 0x80:
		p.same = false
		return indefinite, nil
	case first < 0x80:
		return p.fits(uint64(first))
	case first&0x7f > 8:
		return 0, errMalformed
	}
	var n uint64
	octets := int(first & 0x7f)
	for range octets {
		if p.pos >= len(p.in) {
			return 0, errMalformed
		}
		n = n<<8 | uint64(p.in[p.pos])
		p.pos++
	}
	if n < 0x80 || octets > lengthSize(n)-1 {
		p.same = false
	}
	return p.fits(n)
}

func (p *transcoder) fits(n uint64) (int, error) {
	if n > uint64(len(p.in)-p.pos) {
		return 0, errMalformed
	}
	return int(n), nil
}

// lengthSize is the number of length octets that DER uses for n.
func lengthSize(n uint64) int {
	size := 1
	if n >= 0x80 {
		for ; n > 0; n >>= 8 {
			size++
		}
	}
	return size
}

// appendLength appends the length octets of DER for n.
func appendLength(b []byte, n uint64) []byte {
	size := lengthSize(n)
	if size == 1 {
		return append(b, byte(n))
	}
	b = append(b, 0x80|byte(size-1))
	for i := size - 2; i >= 0; i-- {
		b = append(b, byte(n>>(8*i)))
	}
	return b
}

// element transcodes one element.
func (p *transcoder) element(depth int) error {
	h, err := p.header()
	switch {
	case err != nil:
		return err
	case h.id[0]&^constructed == endOfContents:
		return errMalformed
	case h.text():
		p.same = false
		start := p.open([]byte{h.id[0] &^ constructed})
		return p.close(start, p.pieces(h, h.id[0]&^constructed, depth+1))
	case !h.constructed():
		start := p.open(h.id)
		return p.close(start, p.content(h.length))
	}
	start := p.open(h.id)
	return p.close(start, p.inside(h, func() error { return p.element(depth + 1) }, depth+1))
}

// inside calls each for every element in a constructed one.
func (p *transcoder) inside(h header, each func() error, depth int) error {
	if depth > maxDepth {
		return errMalformed
	}
	if h.length == indefinite {
		for {
			if p.pos+1 < len(p.in) && p.in[p.pos] == endOfContents && p.in[p.pos+1] == 0 {
				p.pos += 2
				return nil
			}
			if err := each(); err != nil {
				return err
			}
		}
	}
	// What is inside may not look beyond the end of the element.
	whole, end := p.in, p.pos+h.length
	p.in = p.in[:end]
	for p.pos < end {
		if err := each(); err != nil {
			return err
		}
	}
	p.in = whole
	return nil
}

// pieces joins the pieces of a string (X.690 sections 8.6, 8.7 and 8.23). Those
// of a BIT STRING each begin with the number of unused bits, which only the
// last may have.
func (p *transcoder) pieces(h header, id byte, depth int) error {
	bits, unused := id == tagBits, byte(0)
	bitsAt := len(p.out)
	if bits {
		if err := p.append([]byte{0}); err != nil {
			return err
		}
	}
	var piece func(depth int) error
	piece = func(depth int) error {
		inner, err := p.header()
		if err != nil {
			return err
		}
		kind := inner.id[0] &^ constructed
		if len(inner.id) != 1 || kind != id && (kind != tagOctets || bits) {
			return errMalformed
		}
		if inner.constructed() {
			return p.inside(inner, func() error { return piece(depth + 1) }, depth+1)
		}
		if bits {
			if inner.length == 0 || unused != 0 || p.in[p.pos] > 7 || inner.length == 1 && p.in[p.pos] != 0 {
				return errMalformed
			}
			unused = p.in[p.pos]
			p.pos++
			inner.length--
		}
		return p.content(inner.length)
	}
	if err := p.inside(h, func() error { return piece(depth) }, depth); err != nil {
		return err
	}
	if bits && !p.reading() {
		p.out[bitsAt] = unused
	}
	return nil
}

// reading tells the first walk, which writes nothing.
func (p *transcoder) reading() bool { return p.out == nil }

// content copies the octets of a primitive element.
func (p *transcoder) content(n int) error {
	p.pos += n
	return p.append(p.in[p.pos-n : p.pos])
}

func (p *transcoder) append(b []byte) error {
	if p.reading() {
		return nil
	}
	if len(b) > p.max-len(p.out) {
		return errTooLarge
	}
	p.out = append(p.out, b...)
	return nil
}

// open writes the identifier and gives the place where the content begins.
func (p *transcoder) open(id []byte) int {
	if !p.reading() {
		p.out = append(p.out, id...)
	}
	return len(p.out)
}

// close puts the length before the content that was written since start. That
// moves the content once for each element it lies in, so no octet is moved
// more than maxDepth times.
func (p *transcoder) close(start int, err error) error {
	if err != nil || p.reading() {
		return err
	}
	n := len(p.out) - start
	size := lengthSize(uint64(n))
	if size > p.max-len(p.out) {
		return errTooLarge
	}
	for range size {
		p.out = append(p.out, 0)
	}
	copy(p.out[start+size:], p.out[start:start+n])
	appendLength(p.out[:start], uint64(n))
	return nil
}
