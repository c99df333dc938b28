package ledger_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/sealpost/sealpost/internal/ledger"
)

// testdata/kept holds an exported ledger of five entries, its checkpoints of
// two and of five, and the key they were signed with.
func sample(t testing.TB) (file []byte, checkpoints [][]byte, verifier note.Verifier) {
	t.Helper()
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("testdata", "kept", name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(read("vkey"))))
	if err != nil {
		t.Fatal(err)
	}
	return read("export.jsonl"), ledger.SplitCheckpoints(read("checkpoints")), verifier
}

// The format is for ever: what was exported once must verify in every version.
func TestAnExportOfTheFirstVersionVerifies(t *testing.T) {
	file, checkpoints, verifier := sample(t)
	r, err := ledger.Verify(bytes.NewReader(file), verifier, checkpoints)
	if err != nil || !r.OK || r.Entries != 5 || r.Covered != 5 || r.Checkpoints != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
}

// FuzzVerify holds that a file which verifies and is covered by the
// checkpoint of all five entries has exactly those lines.
func FuzzVerify(f *testing.F) {
	file, checkpoints, verifier := sample(f)
	f.Add(file, checkpoints[1])
	f.Add(file, bytes.Join(checkpoints, nil))
	for _, cut := range []int{0, 1, 100, len(file) / 2, len(file) - 1} {
		f.Add(file[:cut], checkpoints[0])
	}
	f.Add(bytes.Replace(file, []byte(`"size":5`), []byte(`"size":4`), 1), checkpoints[1])
	_, entries, _ := bytes.Cut(file, []byte("\n"))
	f.Fuzz(func(t *testing.T, in, cps []byte) {
		texts := ledger.SplitCheckpoints(cps)
		if joined := bytes.Join(texts, nil); !bytes.HasPrefix(cps, joined) || len(bytes.TrimSpace(cps[len(joined):])) > 0 {
			t.Fatal("splitting checkpoints lost bytes")
		}
		r, err := ledger.Verify(bytes.NewReader(in), verifier, texts)
		if err != nil {
			t.Fatal(err)
		}
		if r.OK != (len(r.Problems) == 0) || r.Covered > r.Checked || r.Checked > r.Entries || r.OK && r.Checked != r.Entries {
			t.Fatalf("report contradicts itself: %+v", r)
		}
		if r.Covered == 5 {
			_, got, _ := bytes.Cut(in, []byte("\n"))
			if !bytes.HasPrefix(got, entries) {
				t.Fatalf("other entries pass for the ones that were signed: %+v", r)
			}
		}
		_ = r.String()
	})
}
