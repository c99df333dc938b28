package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
)

// Tiles are those of tlog at height 8: the tile (level, n) holds the hashes of
// up to 256 neighboring complete subtrees of 256^level entries each. The last
// tile of a level is partial and is overwritten as it grows; a hash once in a
// tile never changes, so a reader of an older size may read a newer tile.
const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
	hashSize   = tlog.HashSize
)

// edge is the right edge of a tree while entries are added to it. It reads a
// level only when something is added to that level, and writes only in store.
type edge struct {
	tx    *db.Tx
	org   id.ID
	size  int64 // before the first add
	added int64
	open  []*tile // by level
	full  []*tile
}

type tile struct {
	level, n int64
	data     []byte
}

func (e *edge) add(h tlog.Hash) error {
	if err := e.push(0, h); err != nil {
		return err
	}
	e.added++
	return nil
}

func (e *edge) push(level int64, h tlog.Hash) error {
	if int(level) == len(e.open) {
		t, err := e.load(level)
		if err != nil {
			return err
		}
		e.open = append(e.open, t)
	}
	t := e.open[level]
	t.data = append(t.data, h[:]...)
	if len(t.data) < tileWidth*hashSize {
		return nil
	}
	e.full = append(e.full, t)
	e.open[level] = &tile{level: level, n: t.n + 1}
	return e.push(level+1, subtree(t.data))
}

// load reads the partial tile of a level as it was before the first add. The
// levels below had not completed a tile since, so the size tells its width.
func (e *edge) load(level int64) (*tile, error) {
	hashes := e.size >> (tileHeight * level)
	t := &tile{level: level, n: hashes / tileWidth}
	width := hashes % tileWidth
	if width == 0 {
		return t, nil
	}
	err := e.tx.Row("SELECT data FROM ledger_tiles WHERE org_id = ? AND level = ? AND n = ?", e.org, level, t.n).Scan(&t.data)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	if int64(len(t.data)) != width*hashSize {
		return nil, damaged(e.org, "a tile of its tree does not fit its size")
	}
	return t, nil
}

func (e *edge) store() error {
	for _, t := range append(e.full, e.open...) {
		if len(t.data) == 0 {
			continue
		}
		if _, err := e.tx.Exec(`INSERT INTO ledger_tiles (org_id, level, n, data) VALUES (?, ?, ?, ?)
			ON CONFLICT (org_id, level, n) DO UPDATE SET data = excluded.data`, e.org, t.level, t.n, t.data); err != nil {
			return fmt.Errorf("store tile: %w", err)
		}
	}
	return nil
}

// subtree is the hash over a full tile (RFC 6962 section 2.1).
func subtree(data []byte) tlog.Hash {
	var row [tileWidth]tlog.Hash
	for i := range row {
		row[i] = tlog.Hash(data[i*hashSize:])
	}
	for n := tileWidth / 2; n > 0; n /= 2 {
		for i := range n {
			row[i] = tlog.NodeHash(row[2*i], row[2*i+1])
		}
	}
	return row[0]
}

// hashes reads the hashes of one tree out of its tiles.
type hashes struct {
	tx    *db.Tx
	org   id.ID
	tiles map[[2]int64][]byte
}

func readHashes(tx *db.Tx) *hashes {
	return &hashes{tx: tx, org: tx.Org(), tiles: map[[2]int64][]byte{}}
}

// ReadHashes makes hashes a tlog.HashReader.
func (h *hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		t := tlog.TileForIndex(tileHeight, index)
		data, err := h.tile(int64(t.L), t.N)
		if err != nil {
			return nil, err
		}
		if out[i], err = tlog.HashFromTile(t, data, index); err != nil {
			return nil, damaged(h.org, "a tile of its tree does not fit its size")
		}
	}
	return out, nil
}

func (h *hashes) tile(level, n int64) ([]byte, error) {
	key := [2]int64{level, n}
	if data, ok := h.tiles[key]; ok {
		return data, nil
	}
	var data []byte
	err := h.tx.Row("SELECT data FROM ledger_tiles WHERE org_id = ? AND level = ? AND n = ?", h.org, level, n).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, damaged(h.org, "a tile of its tree is missing")
	}
	if err != nil {
		return nil, err
	}
	h.tiles[key] = data
	return data, nil
}

func damaged(org id.ID, what string) error {
	return fault.Newf(fault.Internal, "ledger_damaged",
		"The ledger of %s is damaged: %s. Keep a copy of the database as it is, and verify an export, or one of a backup, against your checkpoints.", org.Text(id.Org), what)
}

func isDamage(err error) bool {
	var f *fault.Fault
	return errors.As(err, &f) && f.Reason == "ledger_damaged"
}

// Size is how many entries of the organization have a position.
func Size(tx *db.Tx) (int64, error) {
	var size int64
	err := tx.Row("SELECT size FROM ledger_heads WHERE org_id = ?", tx.Org()).Scan(&size)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return size, err
}

// Root is the hash over the first size entries of an organization's tree.
func Root(ctx context.Context, d *db.DB, org id.ID, size int64) (root tlog.Hash, err error) {
	err = ofTree(ctx, d, org, size, func(h *hashes) error {
		root, err = tlog.TreeHash(size, h)
		return err
	})
	return root, err
}

// ProveEntry proves that the entry at seq is in the tree of this size (RFC
// 6962 section 2.1.1); tlog.CheckRecord checks it.
func ProveEntry(ctx context.Context, d *db.DB, org id.ID, size, seq int64) (proof tlog.RecordProof, err error) {
	if seq < 0 || seq >= size {
		return nil, noSuchSize
	}
	err = ofTree(ctx, d, org, size, func(h *hashes) error {
		proof, err = tlog.ProveRecord(size, seq, h)
		return err
	})
	return proof, err
}

// ProveConsistency proves that the tree of the older size is a beginning of
// the newer one (RFC 6962 section 2.1.2); tlog.CheckTree checks it.
func ProveConsistency(ctx context.Context, d *db.DB, org id.ID, size, older int64) (proof tlog.TreeProof, err error) {
	if older < 1 || older > size {
		return nil, noSuchSize
	}
	err = ofTree(ctx, d, org, size, func(h *hashes) error {
		proof, err = tlog.ProveTree(size, older, h)
		return err
	})
	return proof, err
}

var noSuchSize = fault.New(fault.Invalid, "no_such_position", "The ledger has no such position yet.")

func ofTree(ctx context.Context, d *db.DB, org id.ID, size int64, fn func(*hashes) error) error {
	return d.Read(ctx, org, func(tx *db.Tx) error {
		have, err := Size(tx)
		if err != nil {
			return err
		}
		if size < 0 || size > have {
			return noSuchSize
		}
		return fn(readHashes(tx))
	})
}
