package blob

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"

	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
)

// memoryLimit is how much ciphertext of one body waits in memory.
const memoryLimit = 256 << 10

// Staged is an encrypted body that waits to be saved. All its chunks but the
// last have the same length.
type Staged struct {
	k      *custody.DataKey
	blob   id.ID
	temp   string
	size   int64
	chunks int
	last   int      // bytes of the last chunk's ciphertext
	boxes  [][]byte // in memory, or
	held   int
	file   *os.File // in a file without a name
	buf    []byte   // for one chunk of that file
	sum    hash.Hash

	mu     sync.Mutex // a write may outlive the caller who closes
	closed bool
}

// Stage reads a body to its end and encrypts it. Errors of r are given back as
// they are. The caller closes what it gets.
func (s *Store) Stage(k *custody.DataKey, blobID id.ID, r io.Reader) (_ *Staged, err error) {
	g := &Staged{k: k, blob: blobID, temp: s.temp, sum: sha256.New()}
	buf := s.buffers.Get().(*[]byte)
	used := 0
	defer func() {
		clear((*buf)[:used])
		s.buffers.Put(buf)
	}()
	ended := false
	for have := 0; ; {
		var n int
		if !ended {
			n, ended, err = fill(r, (*buf)[have:])
		}
		have += n
		used = max(used, have)
		last := ended && have <= chunkSize // r may end with the byte too many
		if err == nil {
			err = g.add((*buf)[:min(have, chunkSize)], last)
		}
		if err != nil {
			_ = g.Close()
			return nil, err
		}
		if last {
			return g, nil
		}
		have = copy(*buf, (*buf)[chunkSize:have])
	}
}

// fill reads until p is full or r ends. io.ReadFull would not do: it reports
// an r that was cut short (io.ErrUnexpectedEOF) like one that ended.
func fill(r io.Reader, p []byte) (n int, ended bool, err error) {
	for empty := 0; n < len(p); {
		m, err := r.Read(p[n:])
		n += m
		if err == io.EOF { // wrapped, it would not mean the end
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
		if m > 0 {
			empty = 0
		} else if empty++; empty > 100 {
			return n, false, io.ErrNoProgress
		}
	}
	return n, false, nil
}

// Size is the length of the body, unencrypted.
func (g *Staged) Size() int64 { return g.size }

// SHA256 is the hex hash of the ciphertext, all chunks one behind the other.
// The ledger keeps it, so that a body that was exchanged is noticed.
func (g *Staged) SHA256() string { return hex.EncodeToString(g.sum.Sum(nil)) }

func (g *Staged) add(plain []byte, last bool) error {
	if g.file == nil && g.held+len(plain)+custody.Overhead > memoryLimit {
		if err := g.spill(); err != nil {
			return noRoom(err)
		}
	}
	dst := g.buf[:0]
	if g.file == nil {
		dst = make([]byte, 0, len(plain)+custody.Overhead)
	}
	box := g.k.SealChunk(dst, label, g.blob, uint64(g.chunks), last, plain)
	_, _ = g.sum.Write(box) // a hash takes everything
	g.chunks++
	g.size += int64(len(plain))
	g.last = len(box)
	if g.file == nil {
		g.boxes = append(g.boxes, box)
		g.held += len(box)
		return nil
	}
	if _, err := g.file.Write(box); err != nil {
		return noRoom(err)
	}
	return nil
}

// spill moves what is in memory to a file that vanishes with this process.
func (g *Staged) spill() error {
	f, err := os.CreateTemp(g.temp, "body-*")
	if err != nil {
		return err
	}
	g.file = f
	if err := os.Remove(f.Name()); err != nil {
		return err
	}
	for _, box := range g.boxes {
		if _, err := f.Write(box); err != nil {
			return err
		}
	}
	g.boxes, g.buf = nil, make([]byte, boxSize)
	return nil
}

func noRoom(err error) error {
	return fault.New(fault.Unavailable, "no_temporary_space",
		"There is no room now for a message of this size. Nothing was stored; try again later.").Because(err)
}

// Save inserts the chunks. It may run again if its transaction did not commit.
func (g *Staged) Save(tx *db.Tx) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || tx.Org() != g.k.Org {
		return errors.New("save body: it is closed or belongs to another organization")
	}
	for n := range g.chunks {
		box, err := g.box(n)
		if err != nil {
			return fmt.Errorf("read staged body: %w", err)
		}
		if _, err := tx.Exec("INSERT INTO blob_chunks (blob_id, n, org_id, data) VALUES (?, ?, ?, ?)", g.blob, n, g.k.Org, box); err != nil {
			return fmt.Errorf("save body: %w", err)
		}
	}
	return nil
}

func (g *Staged) box(n int) ([]byte, error) {
	if g.file == nil {
		return g.boxes[n], nil
	}
	box := g.buf
	if n == g.chunks-1 {
		box = box[:g.last]
	}
	_, err := g.file.ReadAt(box, int64(n)*boxSize)
	return box, err
}

// Close lets go of memory and of the file, after a Save that is under way. A
// Save that comes later fails: close only when the outcome is known or does
// not matter any more.
func (g *Staged) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	g.closed, g.boxes = true, nil
	if g.file == nil {
		return nil
	}
	return g.file.Close()
}
