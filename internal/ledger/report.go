package ledger

import (
	"fmt"
	"strings"
)

// Problem is one thing that Verify found.
type Problem struct {
	Kind string `json:"kind"`
	// Seq is the position of the entry at fault, or -1.
	Seq int64 `json:"seq"`
	// From and To bound the entries From ≤ seq < To among which at least one is
	// not what it was when the checkpoint of size To was signed; -1 for none.
	From int64 `json:"from"`
	To   int64 `json:"to"`
	// Checkpoint is the number of the checkpoint at fault, counted from 1 as
	// they were given, or 0.
	Checkpoint int    `json:"checkpoint"`
	Text       string `json:"text"`
}

// The kinds of problem.
const (
	BadHeader        = "bad_header"          // the first line is not a header
	BadEntry         = "bad_entry"           // a line or its leaf is not in the form of an entry
	EntryMissing     = "entry_missing"       // the positions jump
	EntryOrder       = "entry_order"         // a position comes again or too late
	EntryHash        = "entry_hash"          // a leaf contradicts its hash
	EntryForeign     = "entry_foreign"       // a leaf of another organization
	FileTruncated    = "file_truncated"      // fewer entries than the header says
	FileExcess       = "file_excess"         // more of them
	RootMismatch     = "root_mismatch"       // the entries do not give the header's root
	Rewritten        = "rewritten"           // the entries do not give a checkpoint's root
	BeyondFile       = "checkpoint_beyond"   // a checkpoint knows more entries than the file
	BadCheckpoint    = "bad_checkpoint"      // not a checkpoint
	BadSignature     = "bad_signature"       // signed by the key's name and not by the key
	UnknownKey       = "unknown_key"         // not signed by this key at all
	OtherLedger      = "other_ledger"        // a checkpoint of another origin or organization
	CheckpointsClash = "checkpoint_conflict" // two checkpoints that cannot both be of one ledger
	PrunedRoot       = "pruned_root"         // the hashes of pruned entries do not give the header's root of them
	PruneUntold      = "prune_untold"        // leaves are missing and no entry tells that they were pruned
)

// Report is what Verify found out.
type Report struct {
	OK bool `json:"ok"`
	// Org, Origin and Entries are what the file says of itself.
	Org     string `json:"org"`
	Origin  string `json:"origin"`
	Entries int64  `json:"entries"`
	// Pruned is how many entries, from the first on, have their hash only.
	Pruned int64 `json:"pruned,omitempty"`
	// Checked is how many entries were read and found good, from the first on
	// that is not pruned.
	Checked int64 `json:"checked"`
	// Checkpoints is how many checkpoints the entries agree with, Covered how
	// many entries the largest of those vouches for.
	Checkpoints int       `json:"checkpoints"`
	Covered     int64     `json:"covered"`
	Problems    []Problem `json:"problems"`
}

func (r *Report) add(p Problem, format string, args ...any) {
	p.Text = fmt.Sprintf(format, args...)
	r.Problems = append(r.Problems, p)
}

// at is a problem with one entry.
func at(kind string, seq int64) Problem { return Problem{Kind: kind, Seq: seq, From: -1, To: -1} }

// file is a problem with the file as a whole.
func file(kind string) Problem { return at(kind, -1) }

// ofCheckpoint is a problem with the checkpoint of this index.
func ofCheckpoint(kind string, index int) Problem {
	return Problem{Kind: kind, Seq: -1, From: -1, To: -1, Checkpoint: index + 1}
}

// String tells the report in sentences.
func (r Report) String() string {
	var b strings.Builder
	if r.OK {
		fmt.Fprintf(&b, "The ledger of %s is intact: %s, each with its own hash and in its place.\n", r.Org, count(r.Entries, "entry", "entries"))
	} else {
		fmt.Fprintf(&b, "The ledger does not verify: %s found.\n", count(int64(len(r.Problems)), "problem", "problems"))
	}
	for _, p := range r.Problems {
		b.WriteString("- " + p.Text + "\n")
	}
	if r.OK && r.Pruned > 0 {
		fmt.Fprintf(&b, "Its first %d entries were pruned when their time was over: their hashes are in their place, what they said is gone.\n", r.Pruned)
	}
	switch {
	case r.Checkpoints == 0:
		b.WriteString("No checkpoint agrees with it, so nothing outside of the file vouches for any entry.\n")
	case r.Covered < r.Entries:
		fmt.Fprintf(&b, "It agrees with %s; %s before position %d are vouched for, the later ones are not.\n",
			count(int64(r.Checkpoints), "checkpoint", "checkpoints"), count(r.Covered, "entry", "entries"), r.Covered)
	default:
		fmt.Fprintf(&b, "It agrees with %s, which vouch for every entry.\n", count(int64(r.Checkpoints), "checkpoint", "checkpoints"))
	}
	return b.String()
}

func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
