package ledger

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
)

// An exported ledger is a file of JSON lines, each ended by one LF: a header,
// then one line per entry in the order of positions. The hash of a line is
// what the tree has kept since the entry was placed, not what the leaf gives
// now. Of entries that are pruned a line holds the hashes of a whole segment;
// only a file that has such lines is of version 2.

const (
	exportVersion       = 1
	exportVersionPruned = 2
)

type header struct {
	Version int     `json:"sealpost_ledger"`
	Org     string  `json:"org"`
	Origin  string  `json:"origin"`
	Size    int64   `json:"size"`
	Root    []byte  `json:"root"`
	VKey    string  `json:"vkey"`
	Pruned  *pruned `json:"pruned,omitempty"`
}

// pruned names the entries without leaves: the first Size ones, whose root
// this is.
type pruned struct {
	Size int64  `json:"size"`
	Root []byte `json:"root"`
}

// segmentLine is a segment without leaves.
type segmentLine struct {
	Seq    int64  `json:"seq"`    // of its first entry
	Hashes []byte `json:"hashes"` // of its leaves
}

type line struct {
	Seq  int64  `json:"seq"`
	Leaf []byte `json:"leaf"`
	Hash []byte `json:"hash"`
}

// Export writes the ledger of an organization as it stands. It reads a tile's
// worth of entries at a time, so neither memory nor a long transaction is
// needed; the tree behind a given size never changes. An entry that the
// database has lost is left out, for Verify to name.
func (n *Notary) Export(ctx context.Context, org id.ID, w io.Writer) error {
	h := header{Version: exportVersion, Org: org.Text(id.Org), Origin: n.OriginOf(org), VKey: n.d.VKey}
	err := n.d.DB.Read(ctx, org, func(tx *db.Tx) (err error) {
		if h.Size, err = Size(tx); err != nil {
			return err
		}
		tree := readHashes(tx)
		root, err := tlog.TreeHash(h.Size, tree)
		if err != nil {
			return err
		}
		h.Root = root[:]
		return h.readPruned(tx, tree)
	})
	if err != nil {
		return fmt.Errorf("export ledger: %w", err)
	}
	out := bufio.NewWriterSize(w, 64<<10)
	if err := writeLine(out, h); err != nil {
		return err
	}
	for from := int64(0); from < h.Size; from += tileWidth {
		var lines []any
		err := n.d.DB.Read(ctx, org, func(tx *db.Tx) (err error) {
			if h.Pruned != nil && from < h.Pruned.Size {
				lines, err = exportSegment(tx, from)
				return err
			}
			lines, err = exportPage(tx, from, min(from+tileWidth, h.Size))
			return err
		})
		if err != nil {
			return fmt.Errorf("export ledger: %w", err)
		}
		for _, l := range lines {
			if err := writeLine(out, l); err != nil {
				return err
			}
		}
	}
	return out.Flush()
}

func (h *header) readPruned(tx *db.Tx, tree *hashes) error {
	size, err := Pruned(tx)
	if err != nil || size == 0 {
		return err
	}
	root, err := tlog.TreeHash(size, tree)
	h.Version, h.Pruned = exportVersionPruned, &pruned{size, root[:]}
	return err
}

func exportSegment(tx *db.Tx, from int64) ([]any, error) {
	tile, err := readHashes(tx).tile(0, from/tileWidth)
	if err != nil {
		return nil, err
	}
	if len(tile) != tileWidth*hashSize {
		return nil, damaged(tx.Org(), "a tile of its tree does not fit its size")
	}
	return []any{segmentLine{from, tile}}, nil
}

var prunedMeanwhile = fault.New(fault.Unavailable, "ledger_pruned",
	"The ledger was pruned while it was exported. Export it again.")

func exportPage(tx *db.Tx, from, to int64) (lines []any, err error) {
	if gone, err := Pruned(tx); err != nil || from < gone {
		return nil, cmp.Or(err, error(prunedMeanwhile))
	}
	tile, err := readHashes(tx).tile(0, from/tileWidth)
	if err != nil {
		return nil, err
	}
	if int64(len(tile)) < (to-from)*hashSize {
		return nil, damaged(tx.Org(), "a tile of its tree does not fit its size")
	}
	errEnd := errors.New("behind the page")
	err = eachPlaced(tx, from-1, tileWidth, func(seq int64, leaf []byte) error {
		if seq >= to {
			return errEnd
		}
		at := (seq - from) * hashSize
		lines = append(lines, line{seq, append([]byte(nil), leaf...), tile[at : at+hashSize]})
		return nil
	})
	if errors.Is(err, errEnd) {
		err = nil
	}
	return lines, err
}

func writeLine(w *bufio.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := w.Write(b); err != nil {
		return err
	}
	return w.WriteByte('\n')
}
