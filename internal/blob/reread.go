package blob

import (
	"errors"
	"io"
)

// Open reads a body before it is saved, from its beginning. Any number of
// readers may read at once, until Close.
func (g *Staged) Open() io.Reader { return &rereader{g: g} }

type rereader struct {
	g    *Staged
	next int    // the chunk to read
	box  []byte // of this reader alone
	buf  []byte
	rest []byte // verified and not yet handed out
}

// Read gives verified bytes.
func (r *rereader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.next == r.g.chunks {
			return 0, io.EOF
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *rereader) fill() error {
	g := r.g
	last := r.next == g.chunks-1
	g.mu.Lock()
	closed, file := g.closed, g.file
	var box []byte
	if !closed && file == nil {
		box = g.boxes[r.next]
	}
	g.mu.Unlock()
	if closed {
		return errors.New("read of a closed body")
	}
	if file != nil {
		if r.box == nil {
			r.box = make([]byte, boxSize)
		}
		box = r.box
		if last {
			box = box[:g.last]
		}
		if _, err := file.ReadAt(box, int64(r.next)*boxSize); err != nil {
			return err
		}
	}
	plain, err := g.k.OpenChunk(r.buf[:0], label, g.blob, uint64(r.next), last, box)
	if err != nil {
		return err
	}
	r.buf, r.rest = plain, plain
	r.next++
	return nil
}
