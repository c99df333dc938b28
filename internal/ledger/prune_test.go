package ledger_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
)

// prune removes the leaves in front of end, as far as the ledger allows.
func (k *kept) prune(end int64) error {
	return k.d.WriteAlone(ctx, k.org, func(tx *db.Tx) error { return ledger.Prune(tx, end, when.Add(time.Hour)) })
}

func (k *kept) mustPrune(t testing.TB, end int64) {
	t.Helper()
	if err := k.prune(end); err != nil {
		t.Fatal(err)
	}
}

func TestAPrunedLedgerVerifies(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		k := keep(t, d)
		before, err := ledger.Root(ctx, d, k.org, 600)
		if err != nil {
			t.Fatal(err)
		}
		proof, err := ledger.ProveEntry(ctx, d, k.org, 600, 20)
		if err != nil {
			t.Fatal(err)
		}
		_, leaf := k.leaf(t, 20)
		k.mustPrune(t, 256)
		file := k.export(t)
		if r := k.verify(t, file, k.checkpoints...); !r.OK || r.Entries != 601 || r.Pruned != 256 || r.Checked != 345 || r.Checkpoints != 3 || r.Covered != 600 {
			t.Errorf("%+v", r)
		} else if !strings.Contains(r.String(), "Its first 256 entries were pruned") {
			t.Errorf("the report does not say it:\n%s", r)
		}
		if strings.Count(file, "\n") != 1+1+345 {
			t.Errorf("%d lines", strings.Count(file, "\n"))
		}
		// What was proved of a pruned entry stays proved.
		after, err := ledger.Root(ctx, d, k.org, 600)
		if err != nil || after != before || tlog.CheckRecord(proof, 600, after, 20, tlog.RecordHash(leaf)) != nil {
			t.Errorf("the root moved: %v, %v", after, err)
		}
		if _, err := ledger.ProveConsistency(ctx, d, k.org, 600, 100); err != nil {
			t.Errorf("no consistency with a checkpoint in the pruned part: %v", err)
		}

		k.grow(t, 1100)
		if _, err := k.n.Checkpoint(ctx, k.org); err != nil {
			t.Fatal(err)
		}
		k.mustPrune(t, 1024) // the entry that tells of the first pruning goes too
		if r := k.verify(t, k.export(t), k.checkpoints...); !r.OK || r.Pruned != 1024 || r.Checkpoints != 3 {
			t.Errorf("%+v", r)
		}
	})
}

func TestWhatMayBePruned(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		k := keep(t, d)
		k.grow(t, 800) // the newest checkpoint is of 600
		for _, end := range []int64{-256, 0, 100, 300, 768, 2560} {
			if err := k.prune(end); !fault.Is(err, fault.Conflict) {
				t.Errorf("pruned before %d: %v", end, err)
			}
		}
		// Somebody still reads what is behind position 299.
		move := func(from, to int64) {
			t.Helper()
			if err := d.Write(ctx, k.org, func(tx *db.Tx) error { return ledger.Advance(tx, "slow", from, to) }); err != nil {
				t.Fatal(err)
			}
		}
		move(ledger.Start, 300)
		if err := k.prune(512); !fault.Is(err, fault.Conflict) {
			t.Errorf("pruned what a reader has not read: %v", err)
		}
		segment := func(first int64) (s ledger.Segment, ok bool, err error) {
			err = d.Read(ctx, k.org, func(tx *db.Tx) (err error) {
				s, ok, err = ledger.NextSegment(tx, first)
				return err
			})
			return s, ok, err
		}
		if s, ok, err := segment(0); err != nil || !ok || s.End != 256 || s.Newest.IsZero() {
			t.Errorf("%+v, %v, %v", s, ok, err)
		}
		if _, ok, err := segment(256); err != nil || ok {
			t.Errorf("a segment that is not read: %v, %v", ok, err)
		}
		move(300, 700)
		if _, ok, err := segment(256); err != nil || !ok {
			t.Errorf("a segment that is read: %v, %v", ok, err)
		}
		k.mustPrune(t, 512)
		if err := k.prune(512); !fault.Is(err, fault.Conflict) {
			t.Errorf("pruned twice: %v", err)
		}
		if other := id.New(); d.WriteAlone(ctx, other, func(tx *db.Tx) error { return ledger.Prune(tx, 256, when) }) == nil {
			t.Error("an organization without a ledger pruned it")
		}
	})
}

func TestAChangedEntryIsNotPruned(t *testing.T) {
	k := keep(t, dbtest.SQLite(t))
	num, leaf := k.leaf(t, 77)
	exec(t, k.d, "UPDATE ledger_entries SET leaf = ? WHERE num = ?", forged(leaf), num)
	err := k.d.Read(ctx, k.org, func(tx *db.Tx) error {
		_, _, err := ledger.NextSegment(tx, 0)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "77 contradicts its hash") {
		t.Errorf("%v", err)
	}
}

func TestReadingAPrunedLedger(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		k := keep(t, d)
		k.mustPrune(t, 512)
		for _, after := range []int64{ledger.Start, 100, 511} {
			events, next, err := ledger.Read(ctx, d, k.org, after, 10)
			if err != nil || len(events) != 10 || events[0].Seq != 512 || next != 521 {
				t.Errorf("behind %d: %d events from %v, %v", after, len(events), next, err)
			}
		}
		events, _, err := ledger.Read(ctx, d, k.org, 599, 10)
		if err != nil || len(events) != 1 || events[0].Type != ledger.LedgerPruned || !strings.Contains(string(events[0].Data), `"first":0,"last":511,"size":512,"root":"`) {
			t.Errorf("%+v, %v", events, err)
		}
		exec(t, d, "DELETE FROM ledger_positions WHERE org_id = ? AND seq = 512", k.org)
		if _, _, err := ledger.Read(ctx, d, k.org, ledger.Start, 10); err == nil {
			t.Error("an entry that is missing behind the pruned ones is passed over")
		}
	})
}

func TestTamperingWithAPrunedLedger(t *testing.T) {
	k := keep(t, dbtest.SQLite(t))
	whole := k.export(t)
	k.mustPrune(t, 512)
	file := k.export(t)
	lines := strings.SplitAfter(file, "\n")
	for name, tc := range map[string]struct{ file, kind string }{
		"as it is":                       {file, ""},
		"a hash exchanged":               {lines[0] + swapHashes(t, lines[1]) + strings.Join(lines[2:], ""), ledger.Rewritten},
		"octets too many":                {lines[0] + strings.Replace(lines[1], `"hashes":"`, `"hashes":"AAAA`, 1) + strings.Join(lines[2:], ""), ledger.BadEntry},
		"a segment left out":             {lines[0] + strings.Join(lines[2:], ""), ledger.BadEntry},
		"cut off in a segment":           {lines[0] + lines[1][:100], ledger.FileTruncated},
		"more said to be pruned than is": {strings.Replace(file, `"pruned":{"size":512`, `"pruned":{"size":768`, 1), ledger.BadHeader},
		"less said to be pruned than is": {strings.Replace(file, `"pruned":{"size":512`, `"pruned":{"size":256`, 1), ledger.PrunedRoot},
		"a broken segment":               {strings.Replace(file, `"pruned":{"size":512`, `"pruned":{"size":511`, 1), ledger.BadHeader},
		"an old version":                 {strings.Replace(file, `"sealpost_ledger":2`, `"sealpost_ledger":1`, 1), ledger.BadHeader},
		"leaves withheld by somebody":    {k.withhold(t, whole), ledger.PruneUntold},
	} {
		switch r := k.verify(t, tc.file, k.checkpoints...); {
		case tc.kind == "" && !r.OK:
			t.Errorf("%s: %v", name, r.Problems)
		case tc.kind != "" && (len(r.Problems) == 0 || r.Problems[0].Kind != tc.kind):
			t.Errorf("%s: %v, want %s", name, r.Problems, tc.kind)
		}
	}
}

type hashLine struct {
	Seq    int64  `json:"seq"`
	Hashes []byte `json:"hashes"`
}

func swapHashes(t testing.TB, text string) string {
	t.Helper()
	var l hashLine
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		t.Fatal(err)
	}
	copy(l.Hashes, append(bytes.Clone(l.Hashes[32:64]), l.Hashes[:32]...))
	out, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	return string(out) + "\n"
}

// withhold takes the first 256 leaves out of a file, in the form of pruning.
func (k *kept) withhold(t testing.TB, file string) string {
	t.Helper()
	lines := strings.SplitAfter(file, "\n")
	var l hashLine
	for _, text := range lines[1:257] {
		var entry struct{ Hash []byte }
		if err := json.Unmarshal([]byte(text), &entry); err != nil {
			t.Fatal(err)
		}
		l.Hashes = append(l.Hashes, entry.Hash...)
	}
	segment, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	root, err := ledger.Root(ctx, k.d, k.org, 256)
	if err != nil {
		t.Fatal(err)
	}
	head := strings.Replace(strings.TrimSuffix(lines[0], "}\n"), `"sealpost_ledger":1`, `"sealpost_ledger":2`, 1) +
		`,"pruned":{"size":256,"root":"` + base64.StdEncoding.EncodeToString(root[:]) + "\"}}\n"
	return head + string(segment) + "\n" + strings.Join(lines[257:], "")
}

func TestExportWhilePruning(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		k := keep(t, d)
		w := &pruningWriter{prune: func() error { return k.prune(512) }}
		err := k.n.Export(ctx, k.org, w)
		var f *fault.Fault
		if !errors.As(err, &f) || f.Reason != "ledger_pruned" {
			t.Errorf("%v", err)
		}
	})
}

// pruningWriter prunes when the first octets come.
type pruningWriter struct{ prune func() error }

func (w *pruningWriter) Write(b []byte) (int, error) {
	if w.prune != nil {
		err := w.prune()
		w.prune = nil
		if err != nil {
			return 0, fmt.Errorf("prune: %w", err)
		}
	}
	return len(b), nil
}
