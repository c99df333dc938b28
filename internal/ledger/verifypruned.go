package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"golang.org/x/mod/sumdb/tlog"
)

// segments reads the lines of what is pruned. Of those entries only their
// hashes are there, which is enough for every checkpoint: that nothing else
// stood in their place is proved, what they said is not told any more.
func (v *verification) segments() error {
	p := v.head.Pruned
	if p == nil {
		return nil
	}
	for seq := int64(0); seq < p.Size; seq += SegmentSize {
		if err := v.segment(seq); err != nil {
			return err
		}
	}
	if root := v.tree.root(); !bytes.Equal(root[:], p.Root) {
		v.report.add(file(PrunedRoot), "The hashes of the pruned entries do not give the root that the header says of them.")
		return errStop
	}
	return nil
}

func (v *verification) segment(seq int64) error {
	var l segmentLine
	raw, err := v.next()
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, errCut):
		v.report.add(at(FileTruncated, seq), "The file is cut off: it ends before the hashes of the pruned entries from position %d on are complete.", seq)
		return errStop
	case err != nil && !errors.Is(err, errForm):
		return err
	case err != nil || !strict(raw, &l) || l.Seq != seq || len(l.Hashes) != SegmentSize*hashSize:
		v.report.add(at(BadEntry, seq), "The line of the pruned entries from position %d on is not in the form of one.", seq)
		return errStop
	}
	for i := range SegmentSize {
		v.tree.add(tlog.Hash(l.Hashes[i*hashSize:]))
		v.report.Pruned++
		v.compare()
	}
	return nil
}

// tells reports whether the data of an entry tells of the pruning that the
// header names.
func (h *header) tells(data []byte) bool {
	var f prunedFact
	return h.Pruned != nil && json.Unmarshal(data, &f) == nil && f.Size == h.Pruned.Size && bytes.Equal(f.Root, h.Pruned.Root)
}

// endPruned misses the entry that tells of the pruning: leaves that are not
// there without one were withheld.
func (v *verification) endPruned() {
	if p := v.head.Pruned; p != nil && !v.told {
		v.report.add(file(PruneUntold), "The first %d entries have no content, and no entry tells that they were pruned: they were withheld.", p.Size)
	}
}
