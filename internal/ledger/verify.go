package ledger

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"sort"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealpost/sealpost/internal/id"
)

// lineLimit bounds a line of an export: a leaf in base64 and what is around it.
const lineLimit = leafLimit/3*4 + 1024

// Verify checks an exported ledger against itself and against checkpoints that
// were kept elsewhere. It needs no database, and memory for one entry. The
// error is one of reading r; everything else is in the report. verifier may be
// nil if there are no checkpoints.
func Verify(r io.Reader, verifier note.Verifier, checkpoints [][]byte) (Report, error) {
	v := &verification{in: bufio.NewReaderSize(r, 64<<10)}
	v.report.Problems = []Problem{}
	if err := v.file(verifier, checkpoints); err != nil && !errors.Is(err, errStop) {
		return v.report, err
	}
	v.report.OK = len(v.report.Problems) == 0
	return v.report, nil
}

var (
	// errStop ends the reading of a file at its first contradiction.
	errStop = errors.New("stop")
	// errCut is a last line without its end.
	errCut  = errors.New("line cut off")
	errForm = errors.New("line not in its form")
)

type verification struct {
	in     *bufio.Reader
	line   []byte // reused by next
	head   header
	report Report
	marks  []mark // by size, those that are still ahead
	tree   growing

	failed    *mark // the smallest checkpoint that does not agree
	rewritten int   // the problem that tells it

	told bool // an entry tells of the pruning that the header names
}

// mark is a checkpoint to compare with when the tree has its size.
type mark struct {
	index int
	checkpoint
}

func (v *verification) file(verifier note.Verifier, checkpoints [][]byte) error {
	if err := v.header(); err != nil {
		return err
	}
	v.openCheckpoints(verifier, checkpoints)
	v.compare()
	if err := v.segments(); err != nil {
		v.conclude()
		return err
	}
	for seq := v.report.Pruned; seq < v.head.Size; seq++ {
		if err := v.entry(seq); err != nil {
			v.conclude()
			return err
		}
		v.report.Checked++
		v.compare()
	}
	err := v.end()
	v.conclude()
	return err
}

func (v *verification) header() error {
	bad := func() error {
		v.report.add(file(BadHeader), "The first line is not the header of an exported ledger of version %d or %d.", exportVersion, exportVersionPruned)
		return errStop
	}
	raw, err := v.next()
	if errors.Is(err, io.EOF) || errors.Is(err, errCut) || errors.Is(err, errForm) {
		return bad()
	}
	if err != nil {
		return err
	}
	if !strict(raw, &v.head) || !v.head.fits() {
		return bad()
	}
	if _, err := id.Parse(id.Org, v.head.Org); err != nil {
		return bad()
	}
	v.report.Org, v.report.Origin, v.report.Entries = v.head.Org, v.head.Origin, v.head.Size
	return nil
}

// fits reports whether the header agrees with itself.
func (h *header) fits() bool {
	if h.Size < 0 || len(h.Root) != hashSize {
		return false
	}
	if p := h.Pruned; p != nil {
		return h.Version == exportVersionPruned && p.Size > 0 && p.Size%SegmentSize == 0 && p.Size <= h.Size && len(p.Root) == hashSize
	}
	return h.Version == exportVersion
}

// openCheckpoints keeps those that are signed by the key and of this ledger.
func (v *verification) openCheckpoints(verifier note.Verifier, texts [][]byte) {
	known := note.VerifierList()
	if verifier != nil {
		known = note.VerifierList(verifier)
	}
	for i, text := range texts {
		n, err := note.Open(text, known)
		var unknown *note.UnverifiedNoteError
		var invalid *note.InvalidSignatureError
		switch {
		case errors.As(err, &unknown):
			v.report.add(ofCheckpoint(UnknownKey, i), "Checkpoint %d carries no signature of this key.", i+1)
			continue
		case errors.As(err, &invalid):
			v.report.add(ofCheckpoint(BadSignature, i), "The signature of checkpoint %d is false: its text was changed, or it was not signed with this key.", i+1)
			continue
		}
		var c checkpoint
		if err == nil {
			c, err = parseCheckpoint(n.Text)
		}
		if err != nil {
			v.report.add(ofCheckpoint(BadCheckpoint, i), "Checkpoint %d is not a signed checkpoint.", i+1)
			continue
		}
		if c.origin != v.head.Origin {
			v.report.add(ofCheckpoint(OtherLedger, i), "Checkpoint %d is of another ledger: its origin is not the one that the file names.", i+1)
			continue
		}
		v.marks = append(v.marks, mark{i, c})
	}
	sort.SliceStable(v.marks, func(a, b int) bool { return v.marks[a].size < v.marks[b].size })
}

// compare settles the checkpoints of the size that the tree has now.
func (v *verification) compare() {
	for len(v.marks) > 0 && v.marks[0].size == v.tree.size {
		m := v.marks[0]
		v.marks = v.marks[1:]
		if v.tree.root() == m.root {
			v.agrees(m)
		} else if v.failed == nil {
			v.failed = &m
			v.rewritten = len(v.report.Problems)
			v.report.add(Problem{Kind: Rewritten, Seq: -1, From: v.report.Covered, To: m.size, Checkpoint: m.index + 1},
				"The ledger was rewritten: the entries from position %d to %d are not all those that checkpoint %d was signed for. The ones before agree with the checkpoints.",
				v.report.Covered, m.size-1, m.index+1)
		}
	}
}

// agrees notes a good checkpoint. If a smaller one did not agree, then that
// one is of another history: this root is over the same beginning.
func (v *verification) agrees(m mark) {
	v.report.Checkpoints++
	v.report.Covered = m.size
	if v.failed == nil {
		return
	}
	clash := Report{}
	clash.add(ofCheckpoint(CheckpointsClash, v.failed.index),
		"Checkpoints %d and %d contradict each other: both carry a good signature, but no ledger can agree with both. The file agrees with checkpoint %d.",
		v.failed.index+1, m.index+1, m.index+1)
	v.report.Problems[v.rewritten] = clash.Problems[0]
}

// conclude reports the first checkpoint that the file does not reach.
func (v *verification) conclude() {
	if v.report.Pruned+v.report.Checked < v.head.Size {
		return // the file breaks off earlier, which says more
	}
	if len(v.marks) > 0 {
		m := v.marks[0] // the others are beyond it too
		v.report.add(ofCheckpoint(BeyondFile, m.index),
			"The file is too short: checkpoint %d was signed for %d entries, and the file has %d. Entries were cut off, or an old copy was put in place.", m.index+1, m.size, v.head.Size)
	}
}

// entry reads the line of one position.
func (v *verification) entry(seq int64) error {
	var l line
	raw, err := v.next()
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, errCut):
		v.report.add(at(FileTruncated, seq), "The file is cut off: its header says %d entries, and it ends before the entry at position %d is complete.", v.head.Size, seq)
		return errStop
	case err != nil && !errors.Is(err, errForm):
		return err
	case err != nil || !strict(raw, &l):
		v.report.add(at(BadEntry, seq), "The line of the entry at position %d is not in the form of an entry.", seq)
		return errStop
	}
	if l.Seq != seq {
		return v.misplaced(seq, l.Seq)
	}
	hash := tlog.RecordHash(l.Leaf)
	if !bytes.Equal(hash[:], l.Hash) {
		v.report.add(at(EntryHash, seq), "The entry at position %d contradicts its own hash: it was changed after it was recorded.", seq)
		return errStop
	}
	var leaf struct {
		V    int             `json:"v"`
		ID   string          `json:"id"`
		Org  string          `json:"org"`
		Type Type            `json:"type"`
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(l.Leaf, &leaf); err != nil || leaf.V < 1 || leaf.ID == "" {
		v.report.add(at(BadEntry, seq), "The entry at position %d is not in the form of an entry.", seq)
		return errStop
	}
	if leaf.Org != v.head.Org {
		v.report.add(at(EntryForeign, seq), "The entry at position %d belongs to another organization.", seq)
		return errStop
	}
	v.told = v.told || leaf.Type == LedgerPruned && v.head.tells(leaf.Data)
	v.tree.add(hash)
	return nil
}

// misplaced tells a missing entry from entries in the wrong order: if one is
// only misplaced, it usually follows.
func (v *verification) misplaced(want, got int64) error {
	if got < want {
		v.report.add(at(EntryOrder, want), "The entries are out of order: where position %d should be, position %d comes again.", want, got)
		return errStop
	}
	var l line
	raw, err := v.next()
	if err == nil && strict(raw, &l) && l.Seq == want {
		v.report.add(at(EntryOrder, want), "The entries are out of order: position %d comes before position %d.", got, want)
		return errStop
	}
	v.report.add(at(EntryMissing, want), "The entry at position %d is missing: position %d follows in its place.", want, got)
	return errStop
}

// end checks what must hold when all entries were read.
func (v *verification) end() error {
	_, err := v.next()
	if err == nil || errors.Is(err, errCut) || errors.Is(err, errForm) {
		v.report.add(file(FileExcess), "The file goes on behind the %d entries that its header says.", v.head.Size)
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	v.endPruned()
	if root := v.tree.root(); !bytes.Equal(root[:], v.head.Root) {
		v.report.add(file(RootMismatch), "The entries do not give the root that the header says: at least one was changed together with its hash, or the header was.")
	}
	return nil
}

// next reads one line without its LF. It is valid until the next call.
func (v *verification) next() ([]byte, error) {
	v.line = v.line[:0]
	for {
		part, err := v.in.ReadSlice('\n')
		v.line = append(v.line, part...)
		switch {
		case err == nil:
			return v.line[:len(v.line)-1], nil
		case errors.Is(err, io.EOF) && len(v.line) > 0:
			return nil, errCut
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(v.line) > lineLimit:
			return nil, errForm
		}
	}
}

// strict reads a line that is exactly what writing its value gives, so that
// one ledger has one file.
func strict(raw []byte, into any) bool {
	if json.Unmarshal(raw, into) != nil {
		return false
	}
	again, err := json.Marshal(into)
	return err == nil && bytes.Equal(raw, again)
}

// growing is a tree to which leaves are added: the roots of its complete
// subtrees, from the largest to the smallest.
type growing struct {
	size  int64
	peaks []tlog.Hash
}

func (g *growing) add(h tlog.Hash) {
	for s := g.size; s&1 == 1; s >>= 1 {
		h = tlog.NodeHash(g.peaks[len(g.peaks)-1], h)
		g.peaks = g.peaks[:len(g.peaks)-1]
	}
	g.peaks = append(g.peaks, h)
	g.size++
}

func (g *growing) root() tlog.Hash {
	if g.size == 0 {
		empty, _ := tlog.TreeHash(0, nil) // reads no hash, so cannot fail
		return empty
	}
	h := g.peaks[len(g.peaks)-1]
	for i := len(g.peaks) - 2; i >= 0; i-- {
		h = tlog.NodeHash(g.peaks[i], h)
	}
	return h
}
