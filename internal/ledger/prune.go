package ledger

import (
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
)

// SegmentSize is how many entries are pruned together: those whose hashes
// share a tile.
const SegmentSize = tileWidth

// Segment is the oldest stretch of entries whose leaves are still there.
type Segment struct {
	First, End int64     // positions First ≤ seq < End
	Newest     time.Time // of its entries
	Messages   []id.ID   // that its entries are about
}

// prunedFact is the clear part of ledger.pruned.
type prunedFact struct {
	First int64  `json:"first"` // of the positions pruned now
	Last  int64  `json:"last"`
	Size  int64  `json:"size"` // entries 0 to Size-1 have lost their leaves, these and earlier ones
	Root  []byte `json:"root"` // of the tree of this size
}

// Pruned is how many entries at the beginning of the organization's ledger
// have lost their leaves.
func Pruned(tx *db.Tx) (size int64, err error) {
	err = tx.Row("SELECT pruned FROM ledger_heads WHERE org_id = ?", tx.Org()).Scan(&size)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return size, err
}

// NextSegment gives the segment at position first if it may be pruned as far
// as the ledger is concerned: a signed checkpoint covers it, every reader with
// a cursor is behind it, and no entry contradicts its hash: what shows that
// somebody changed an entry is not removed.
func NextSegment(tx *db.Tx, first int64) (s Segment, ok bool, err error) {
	s = Segment{First: first, End: first + SegmentSize}
	bound, err := prunable(tx)
	if err != nil || first%SegmentSize != 0 || s.End > bound {
		return s, false, err
	}
	hashes, err := readHashes(tx).tile(0, first/tileWidth)
	if err != nil || len(hashes) != SegmentSize*hashSize {
		return s, false, cmp.Or(err, damaged(tx.Org(), "a tile of its tree does not fit its size"))
	}
	seen, n := map[id.ID]bool{}, int64(0)
	err = eachPlaced(tx, first-1, SegmentSize, func(seq int64, leaf []byte) error {
		if seq != first+n {
			return damaged(tx.Org(), fmt.Sprintf("the entry at position %d is missing", first+n))
		}
		if hash := tlog.RecordHash(leaf); string(hash[:]) != string(hashes[n*hashSize:(n+1)*hashSize]) {
			return damaged(tx.Org(), fmt.Sprintf("the entry at position %d contradicts its hash", seq))
		}
		n++
		e, err := decode(tx.Org(), leaf)
		if err != nil {
			return err
		}
		if e.At.After(s.Newest) {
			s.Newest = e.At
		}
		if !e.Message.IsZero() && !seen[e.Message] {
			seen[e.Message] = true
			s.Messages = append(s.Messages, e.Message)
		}
		return nil
	})
	if err == nil && n != SegmentSize {
		err = damaged(tx.Org(), fmt.Sprintf("the entry at position %d is missing", first+n))
	}
	return s, err == nil, err
}

// prunable is the position behind which nothing may be pruned.
func prunable(tx *db.Tx) (bound int64, err error) {
	err = tx.Row("SELECT checkpoint_size FROM ledger_heads WHERE org_id = ?", tx.Org()).Scan(&bound)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var slowest sql.NullInt64
	if err := tx.Row("SELECT min(seq) FROM ledger_cursors WHERE org_id = ?", tx.Org()).Scan(&slowest); err != nil {
		return 0, err
	}
	if slowest.Valid {
		bound = min(bound, slowest.Int64+1)
	}
	return bound, nil
}

var badPrune = fault.New(fault.Conflict, "not_prunable",
	"The ledger can be pruned from its beginning only, in whole segments that a signed checkpoint covers and every reader has read.")

// Prune removes the leaves in front of the position end, which is that of a
// segment that NextSegment gave. Their hashes and every checkpoint stay, so
// the tree gives the same roots as before. The entry that tells of it has its
// position when the leaves go: whoever reads the one misses nothing of the
// other. Whether something must be kept is for the caller to know.
func Prune(tx *db.Tx, end int64, at time.Time) error {
	if _, err := lockHead(tx, tx.Org()); err != nil {
		return err
	}
	first, err := Pruned(tx)
	if err != nil {
		return err
	}
	bound, err := prunable(tx)
	if err != nil {
		return err
	}
	if end%SegmentSize != 0 || end <= first || end > bound {
		return badPrune
	}
	root, err := tlog.TreeHash(end, readHashes(tx))
	if err != nil {
		return err
	}
	if err := Append(tx, Fact{Type: LedgerPruned, At: at, Data: prunedFact{first, end - 1, end, root[:]}}); err != nil {
		return err
	}
	for n := placeEntries; n == placeEntries; {
		var bad error
		if n, bad, err = placeOrg(tx, tx.Org(), placeEntries); err != nil || bad != nil {
			return errors.Join(bad, err)
		}
	}
	for _, text := range []string{
		`DELETE FROM ledger_entries WHERE org_id = ? AND num IN
			(SELECT num FROM ledger_positions WHERE org_id = ? AND seq >= ? AND seq < ?)`,
		`DELETE FROM ledger_positions WHERE org_id = ? AND org_id = ? AND seq >= ? AND seq < ?`,
	} {
		n, err := tx.Exec(text, tx.Org(), tx.Org(), first, end)
		if err != nil {
			return fmt.Errorf("prune ledger: %w", err)
		}
		if n != end-first {
			return damaged(tx.Org(), "entries that are to be pruned are missing")
		}
	}
	_, err = tx.Exec("UPDATE ledger_heads SET pruned = ? WHERE org_id = ?", end, tx.Org())
	return err
}
