// Package blob keeps bodies in the database, encrypted, in chunks of 64 KiB.
//
// Invariants:
//   - Content is encrypted chunk by chunk as it is read. What waits for its
//     transaction, in memory or in a temporary file, is ciphertext.
//   - A temporary file has no name by the time anything is written to it.
//   - A reader gets only bytes that were verified, in order; a body that was
//     cut short, mixed up or moved ends in an error, never in io.EOF.
//   - However long a body is, staging, saving and reading it take the memory of
//     a few chunks.
package blob

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
)

const (
	label     = "blob.body.v1" // fixed for ever
	chunkSize = 64 << 10       // bytes of plaintext; fixed for ever
	boxSize   = chunkSize + custody.Overhead
)

// Store keeps bodies in the database.
type Store struct {
	d    *db.DB
	temp string
	// buffers are of chunkSize+1 bytes: one more tells whether there is more.
	buffers sync.Pool
}

// New makes a store. What a large body needs to wait in a file waits in the
// folder temp.
func New(d *db.DB, temp string) *Store {
	s := &Store{d: d, temp: temp}
	s.buffers.New = func() any { b := make([]byte, chunkSize+1); return &b }
	return s
}

// Delete removes a body of the transaction's organization.
func (s *Store) Delete(tx *db.Tx, blobID id.ID) error {
	if _, err := tx.Exec("DELETE FROM blob_chunks WHERE blob_id = ? AND org_id = ?", blobID, tx.Org()); err != nil {
		return fmt.Errorf("delete body: %w", err)
	}
	return nil
}

// Stored reports whether there is anything of a body of the transaction's
// organization.
func Stored(tx *db.Tx, blobID id.ID) (bool, error) {
	var n int
	err := tx.Row("SELECT count(*) FROM blob_chunks WHERE blob_id = ? AND org_id = ?", blobID, tx.Org()).Scan(&n)
	return n > 0, err
}

// Open gives a body to read. Each chunk is read in a short transaction of its
// own, so a slow reader holds nothing up. A body that is not there, or is
// another organization's, gives custody.ErrDestroyed on Read.
func (s *Store) Open(ctx context.Context, k *custody.DataKey, blobID id.ID) io.ReadCloser {
	return &reader{ctx: ctx, d: s.d, k: k, blob: blobID}
}

type reader struct {
	ctx  context.Context
	d    *db.DB
	k    *custody.DataKey
	blob id.ID
	next int64  // the chunk to read
	rest []byte // verified and not yet handed out
	box  []byte
	buf  []byte
	err  error // what follows rest
}

// Read gives verified bytes.
func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(r.rest) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.fill()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Close ends reading.
func (r *reader) Close() error {
	clear(r.buf)
	r.rest, r.err = nil, errors.New("read of a closed body")
	return nil
}

// fill reads the next chunk. Whether it is the last one is asked of the table
// and proved by the chunk: the flag is part of what the tag covers.
func (r *reader) fill() {
	more, err := r.load()
	if err != nil {
		r.err = err
		return
	}
	if r.buf, err = r.k.OpenChunk(r.buf[:0], label, r.blob, uint64(r.next), !more, r.box); err != nil {
		r.err = err
		return
	}
	r.rest = r.buf
	r.next++
	if !more {
		r.err = io.EOF
	}
}

func (r *reader) load() (more bool, err error) {
	var following int
	err = r.d.Read(r.ctx, r.k.Org, func(tx *db.Tx) error {
		return tx.Row(`SELECT data, (SELECT count(*) FROM blob_chunks WHERE blob_id = ? AND org_id = ? AND n = ?)
			FROM blob_chunks WHERE blob_id = ? AND org_id = ? AND n = ?`,
			r.blob, r.k.Org, r.next+1, r.blob, r.k.Org, r.next).Scan(&r.box, &following)
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, custody.ErrDestroyed
	case err != nil:
		return false, fmt.Errorf("read body: %w", err)
	}
	return following > 0, nil
}
