package ledger_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
)

var errEOF = io.EOF

const origin = "mail.clinic.example/ledger"

func newNotary(t testing.TB, d *db.DB) (*ledger.Notary, note.Verifier) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, "clinic.example")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	n, err := ledger.New(ledger.Deps{DB: d, Clock: clock.NewFake(when), Origin: origin, Signer: signer, VKey: vkey})
	if err != nil {
		t.Fatal(err)
	}
	return n, verifier
}

// kept is a ledger of 600 entries with checkpoints at 100, 300 and 600.
type kept struct {
	d           *db.DB
	n           *ledger.Notary
	verifier    note.Verifier
	org         id.ID
	checkpoints [][]byte
}

func keep(t testing.TB, d *db.DB) *kept {
	t.Helper()
	k := &kept{d: d, org: id.New()}
	k.n, k.verifier = newNotary(t, d)
	for _, size := range []int{100, 300, 600} {
		k.grow(t, size)
		text, err := k.n.Checkpoint(ctx, k.org)
		if err != nil {
			t.Fatal(err)
		}
		k.checkpoints = append(k.checkpoints, text)
	}
	return k
}

func (k *kept) grow(t testing.TB, size int) {
	t.Helper()
	var have int64
	if err := k.d.Read(ctx, k.org, func(tx *db.Tx) (err error) { have, err = ledger.Size(tx); return err }); err != nil {
		t.Fatal(err)
	}
	appendMany(t, k.d, k.org, int(have), size-int(have))
	place(t, k.d, 0)
}

func (k *kept) export(t testing.TB) string {
	t.Helper()
	var b bytes.Buffer
	if err := k.n.Export(ctx, k.org, &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func (k *kept) verify(t testing.TB, file string, checkpoints ...[]byte) ledger.Report {
	t.Helper()
	r, err := ledger.Verify(iotest.HalfReader(strings.NewReader(file)), k.verifier, checkpoints)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// numOf is the number of the entry at a position.
func (k *kept) leaf(t testing.TB, seq int) (num int64, leaf []byte) {
	t.Helper()
	if err := k.d.Read(ctx, k.org, func(tx *db.Tx) error {
		return tx.Row("SELECT e.num, e.leaf FROM ledger_positions p JOIN ledger_entries e ON e.num = p.num WHERE p.org_id = ? AND p.seq = ?",
			k.org, seq).Scan(&num, &leaf)
	}); err != nil {
		t.Fatal(err)
	}
	return num, leaf
}

func forged(leaf []byte) []byte {
	return bytes.Replace(leaf, []byte("delivery.attempted"), []byte("delivery.delivered"), 1)
}

// rehash builds tiles, head and positions anew from the entries, as somebody
// with every right on the database could.
func (k *kept) rehash(t testing.TB) {
	t.Helper()
	exec(t, k.d, "DELETE FROM ledger_tiles")
	exec(t, k.d, "DELETE FROM ledger_heads")
	exec(t, k.d, "DELETE FROM ledger_positions")
	exec(t, k.d, "INSERT INTO ledger_unplaced (org_id, num) SELECT org_id, num FROM ledger_entries")
	place(t, k.d, 0)
}

// problem asserts the only problem found.
func problem(t *testing.T, r ledger.Report, kind string, seq int64) ledger.Problem {
	t.Helper()
	if r.OK || len(r.Problems) != 1 || r.Problems[0].Kind != kind || r.Problems[0].Seq != seq {
		t.Fatalf("want one problem %s at %d, got %+v", kind, seq, r)
	}
	return r.Problems[0]
}

func TestAnIntactLedgerVerifies(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		k := keep(t, d)
		file := k.export(t)
		r := k.verify(t, file, k.checkpoints...)
		if !r.OK || r.Entries != 600 || r.Checked != 600 || r.Covered != 600 || r.Checkpoints != 3 || r.Org != k.org.Text(id.Org) {
			t.Fatalf("%+v", r)
		}
		if s := r.String(); !strings.Contains(s, "is intact: 600 entries") || !strings.Contains(s, "3 checkpoints, which vouch for every entry") {
			t.Error(s)
		}
		k.grow(t, 610)
		r = k.verify(t, k.export(t), k.checkpoints...)
		if !r.OK || r.Covered != 600 || !strings.Contains(r.String(), "the later ones are not") {
			t.Errorf("%+v\n%s", r, r)
		}
		if r = k.verify(t, file); !r.OK || !strings.Contains(r.String(), "nothing outside of the file vouches") {
			t.Errorf("%+v\n%s", r, r)
		}
		var all bytes.Buffer
		if err := k.n.ExportCheckpoints(ctx, k.org, &all); err != nil {
			t.Fatal(err)
		}
		if got := ledger.SplitCheckpoints(all.Bytes()); !slices.EqualFunc(got, k.checkpoints, bytes.Equal) {
			t.Errorf("checkpoints come back as %q", got)
		}
		empty := &kept{d: d, n: k.n, verifier: k.verifier, org: id.New()}
		if r = empty.verify(t, empty.export(t)); !r.OK || r.Entries != 0 {
			t.Errorf("empty ledger: %+v", r)
		}
	})
}

func TestCheckpointForm(t *testing.T) {
	k := keep(t, dbtest.SQLite(t))
	root, err := ledger.Root(ctx, k.d, k.org, 300)
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(k.checkpoints[1], note.VerifierList(k.verifier))
	want := fmt.Sprintf("%s/%s\n300\n%s\n", origin, k.org.Text(id.Org), base64.StdEncoding.EncodeToString(root[:]))
	if err != nil || n.Text != want {
		t.Errorf("checkpoint %q, %v", n.Text, err)
	}
	again, err := k.n.Checkpoint(ctx, k.org)
	if err != nil || !bytes.Equal(again, k.checkpoints[2]) {
		t.Errorf("a second checkpoint of one size: %q, %v", again, err)
	}
}

func TestCheckpointsWhenDue(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		skey, vkey, _ := note.GenerateKey(rand.Reader, "clinic.example")
		signer, _ := note.NewSigner(skey)
		now := clock.NewFake(when)
		n, err := ledger.New(ledger.Deps{DB: d, Clock: now, Origin: origin, Signer: signer, VKey: vkey, Every: time.Hour, Entries: 50})
		if err != nil {
			t.Fatal(err)
		}
		a, b := id.New(), id.New()
		due := func(want int, why string) {
			t.Helper()
			place(t, d, 0)
			if got, err := n.CheckpointDue(ctx); err != nil || got != want {
				t.Errorf("%s: %d, %v; want %d", why, got, err, want)
			}
		}
		due(0, "nothing recorded")
		appendMany(t, d, a, 0, 1)
		appendMany(t, d, b, 0, 1)
		due(2, "the first entries")
		appendMany(t, d, a, 1, 49)
		due(0, "49 entries later")
		appendMany(t, d, a, 50, 1)
		due(1, "50 entries later")
		appendMany(t, d, a, 51, 1)
		now.Advance(time.Hour)
		due(1, "an hour later")
		now.Advance(time.Hour)
		due(0, "nothing new")
	})
}

func TestTamperingInTheDatabase(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Run("leaf", func(t *testing.T) {
			k := keep(t, d)
			num, leaf := k.leaf(t, 257)
			exec(t, d, "UPDATE ledger_entries SET leaf = ? WHERE num = ?", forged(leaf), num)
			r := k.verify(t, k.export(t), k.checkpoints...)
			problem(t, r, ledger.EntryHash, 257)
			if r.Checked != 257 || r.Covered != 100 || !strings.Contains(r.String(), "position 257 contradicts its own hash") {
				t.Errorf("%+v\n%s", r, r)
			}
		})
		t.Run("leaf and its hash", func(t *testing.T) {
			k := keep(t, d)
			num, leaf := k.leaf(t, 150)
			leaf = forged(leaf)
			exec(t, d, "UPDATE ledger_entries SET leaf = ? WHERE num = ?", leaf, num)
			var tile []byte
			if err := d.Read(ctx, k.org, func(tx *db.Tx) error {
				return tx.Row("SELECT data FROM ledger_tiles WHERE org_id = ? AND level = 0 AND n = 0", k.org).Scan(&tile)
			}); err != nil {
				t.Fatal(err)
			}
			hash := tlog.RecordHash(leaf)
			copy(tile[150*32:], hash[:])
			exec(t, d, "UPDATE ledger_tiles SET data = ? WHERE org_id = ? AND level = 0 AND n = 0", tile, k.org)
			r := k.verify(t, k.export(t), k.checkpoints...)
			if len(r.Problems) != 2 || r.Problems[0].Kind != ledger.Rewritten || r.Problems[0].From != 100 || r.Problems[0].To != 300 ||
				r.Problems[1].Kind != ledger.RootMismatch {
				t.Errorf("%+v", r)
			}
		})
		t.Run("entry deleted", func(t *testing.T) {
			k := keep(t, d)
			num, _ := k.leaf(t, 299)
			exec(t, d, "DELETE FROM ledger_entries WHERE num = ?", num)
			problem(t, k.verify(t, k.export(t), k.checkpoints...), ledger.EntryMissing, 299)
		})
		t.Run("entries swapped", func(t *testing.T) {
			k := keep(t, d)
			one, _ := k.leaf(t, 40)
			two, _ := k.leaf(t, 41)
			exec(t, d, "UPDATE ledger_positions SET num = ? - num WHERE org_id = ? AND seq IN (40, 41)", one+two, k.org)
			problem(t, k.verify(t, k.export(t), k.checkpoints...), ledger.EntryHash, 40)
		})
		t.Run("head set back", func(t *testing.T) {
			k := keep(t, d)
			exec(t, d, "UPDATE ledger_heads SET size = 300 WHERE org_id = ?", k.org)
			r := k.verify(t, k.export(t), k.checkpoints...)
			if p := problem(t, r, ledger.BeyondFile, -1); p.Checkpoint != 3 || r.Covered != 300 {
				t.Errorf("%+v", r)
			}
			exec(t, d, "UPDATE ledger_heads SET size = 299 WHERE org_id = ?", k.org)
			if _, err := k.n.Checkpoint(ctx, k.org); fault.From(err).Reason != "ledger_damaged" {
				t.Errorf("a tree that has lost entries was signed: %v", err)
			}
		})
	})
}

func TestRewritingTheWholeLedger(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		k := keep(t, d)
		num, leaf := k.leaf(t, 150)
		exec(t, d, "UPDATE ledger_entries SET leaf = ? WHERE num = ?", forged(leaf), num)
		k.rehash(t)
		r := k.verify(t, k.export(t), k.checkpoints...)
		p := problem(t, r, ledger.Rewritten, -1)
		if p.From != 100 || p.To != 300 || p.Checkpoint != 2 || r.Covered != 100 || r.Checkpoints != 1 {
			t.Errorf("%+v", r)
		}
		if !strings.Contains(p.Text, "the entries from position 100 to 299 are not all those that checkpoint 2 was signed for") {
			t.Error(p.Text)
		}
		if _, err := k.n.Checkpoint(ctx, k.org); fault.From(err).Reason != "ledger_damaged" {
			t.Errorf("the rewritten tree was signed: %v", err)
		}
	})
}

// A backup from when the ledger had 300 entries is put back and grows anew.
func TestAnOldBackupPutBack(t *testing.T) {
	k := keep(t, dbtest.SQLite(t))
	exec(t, k.d, "DELETE FROM ledger_checkpoints WHERE size > 300")
	exec(t, k.d, "DELETE FROM ledger_entries WHERE num > 300")
	k.rehash(t)
	p := problem(t, k.verify(t, k.export(t), k.checkpoints...), ledger.BeyondFile, -1)
	if p.Checkpoint != 3 {
		t.Errorf("%+v", p)
	}
	k.grow(t, 700)
	r := k.verify(t, k.export(t), k.checkpoints...)
	if p := problem(t, r, ledger.Rewritten, -1); p.From != 300 || p.To != 600 {
		t.Errorf("%+v", p)
	}
}

func TestTamperingWithTheFile(t *testing.T) {
	k := keep(t, dbtest.SQLite(t))
	file := k.export(t)
	lines := func() []string { return strings.SplitAfter(file, "\n") } // [0] is the header
	join := func(l ...[]string) string { return strings.Join(slices.Concat(l...), "") }
	l := lines()
	swapped := lines()
	swapped[5], swapped[6] = swapped[6], swapped[5]
	bent := lines()
	bent[8] = strings.Replace(bent[8], `"seq":7`, `"seq": 7`, 1)
	other := &kept{d: k.d, n: k.n, org: id.New()}
	other.grow(t, 1)
	foreign := lines()
	foreign[1] = strings.SplitAfter(other.export(t), "\n")[1]
	for _, c := range []struct {
		name, file, kind string
		seq              int64
	}{
		{"empty", "", ledger.BadHeader, -1},
		{"no header", join(l[1:]), ledger.BadHeader, -1},
		{"other version", strings.Replace(file, `{"sealpost_ledger":1`, `{"sealpost_ledger":2`, 1), ledger.BadHeader, -1},
		{"header only", l[0], ledger.FileTruncated, 0},
		{"line missing", join(l[:5], l[6:]), ledger.EntryMissing, 4},
		{"line twice", join(l[:6], l[5:]), ledger.EntryOrder, 5},
		{"lines swapped", join(swapped), ledger.EntryOrder, 4},
		{"line in another form", join(bent), ledger.BadEntry, 7},
		{"cut between lines", join(l[:11]), ledger.FileTruncated, 10},
		{"cut in a line", join(l[:11]) + l[11][:30], ledger.FileTruncated, 10},
		{"cut in front of the last LF", strings.TrimSuffix(file, "\n"), ledger.FileTruncated, 599},
		{"goes on", file + l[600], ledger.FileExcess, -1},
		{"endless line", join(l[:3]) + strings.Repeat("x", 1<<20), ledger.BadEntry, 2},
		{"foreign entry", join(foreign), ledger.EntryForeign, 0},
		{"root in the header", strings.Replace(file, `"root":"`+l[0][strings.Index(l[0], `"root":"`)+8:][:4], `"root":"AAAA`, 1), ledger.RootMismatch, -1},
	} {
		r := k.verify(t, c.file, k.checkpoints...)
		if r.OK || len(r.Problems) != 1 || r.Problems[0].Kind != c.kind || r.Problems[0].Seq != c.seq {
			t.Errorf("%s: want %s at %d, got %+v", c.name, c.kind, c.seq, r)
		}
	}
	boom := fmt.Errorf("disk")
	if _, err := ledger.Verify(io.MultiReader(strings.NewReader(join(l[:9])), iotest.ErrReader(boom)), k.verifier, nil); err != boom {
		t.Errorf("a failing disk: %v", err)
	}
}

func TestCheckpointsThatDoNotFit(t *testing.T) {
	k := keep(t, dbtest.SQLite(t))
	file := k.export(t)
	sign := func(n *ledger.Notary, org id.ID) []byte {
		text, err := n.Checkpoint(ctx, org)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	neighbor := &kept{d: k.d, n: k.n, org: id.New()}
	neighbor.grow(t, 3)
	fresh := keep(t, dbtest.SQLite(t))
	skey, _, _ := note.GenerateKey(rand.Reader, "clinic.example")
	signer, _ := note.NewSigner(skey)
	resigned, err := note.Sign(&note.Note{Text: "hello\n"}, signer)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, kind string
		text       []byte
	}{
		{"garbage", ledger.BadCheckpoint, []byte("hello\n")},
		{"text changed", ledger.BadSignature, bytes.Replace(k.checkpoints[1], []byte("\n300\n"), []byte("\n301\n"), 1)},
		{"another key of the same name", ledger.UnknownKey, resigned},
		{"another installation", ledger.UnknownKey, fresh.checkpoints[0]},
		{"another organization", ledger.OtherLedger, sign(k.n, neighbor.org)},
	} {
		r := k.verify(t, file, k.checkpoints[0], c.text)
		if p := problem(t, r, c.kind, -1); p.Checkpoint != 2 || r.Checkpoints != 1 {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
	// The key signs two histories: only its holder can, and both stay proved.
	num, leaf := k.leaf(t, 50)
	exec(t, k.d, "UPDATE ledger_entries SET leaf = ? WHERE num = ?", forged(leaf), num)
	exec(t, k.d, "DELETE FROM ledger_checkpoints")
	exec(t, k.d, "DELETE FROM ledger_entries WHERE num > 200")
	k.rehash(t)
	second := sign(k.n, k.org)
	r := k.verify(t, file, append(slices.Clone(k.checkpoints), second)...)
	if p := problem(t, r, ledger.CheckpointsClash, -1); p.Checkpoint != 4 || r.Covered != 600 {
		t.Errorf("%+v", r)
	}
}

func TestReportHasTagsForPrograms(t *testing.T) {
	k := keep(t, dbtest.SQLite(t))
	b, err := json.Marshal(k.verify(t, k.export(t), k.checkpoints...))
	want := fmt.Sprintf(`{"ok":true,"org":%q,"origin":%q,"entries":600,"checked":600,"checkpoints":3,"covered":600,"problems":[]}`,
		k.org.Text(id.Org), origin+"/"+k.org.Text(id.Org))
	if err != nil || string(b) != want {
		t.Errorf("%s, %v", b, err)
	}
}
