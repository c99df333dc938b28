package custody_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/custody/custodytest"
	"github.com/sealpost/sealpost/internal/id"
)

func folder(t testing.TB, dir string) *custody.Folder {
	t.Helper()
	f, err := custody.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFolderConforms(t *testing.T) {
	custodytest.KeyStore(t, func(t *testing.T) func() custody.KeyStore {
		dir := filepath.Join(t.TempDir(), "keys")
		return func() custody.KeyStore { return folder(t, dir) }
	})
}

func orgKey(org id.ID, version int) custody.Key {
	return custody.Key{Ref: custody.Ref{Kind: custody.KindOrg, Org: org, Version: version},
		MasterID: "0123456789abcdef", Wrapped: []byte("wrapped"), CreatedAt: time.Now().UTC()}
}

func fileNames(t testing.TB, dir string) string {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range all {
		b.WriteString(e.Name() + "\n")
	}
	return b.String()
}

// A crash may come between tombstone and removal, in the middle of erasing a
// file, or before a rename.
func TestFolderEndsWhatACrashBegan(t *testing.T) {
	dir := t.TempDir()
	f := folder(t, dir)
	org := id.New()
	plain := strings.TrimPrefix(org.Text(id.Org), "org_")
	for v := 1; v <= 3; v++ {
		if err := f.Create(orgKey(org, v)); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string]string{
		"org-" + plain + ".destroyed": `{"org":"` + org.Text(id.Org) + `","versions":[1,2,3],"destroyed_at":"2026-01-01T00:00:00Z"}`,
		"org-" + plain + "-v2.json":   strings.Repeat("\x00", 99),
		".sealpost-new-123":           "half a key",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if keys, err := f.All(); err != nil || len(keys) != 0 {
		t.Errorf("a running node still reads %v, %v", keys, err)
	}
	if changed, err := f.Changed(org, 3); err != nil || !changed {
		t.Errorf("a running node does not notice: %v", err)
	}
	again := folder(t, dir)
	if got, want := fileNames(t, dir), "org-"+plain+".destroyed\n"; got != want {
		t.Errorf("files after opening:\n%s", got)
	}
	if stones, err := again.Tombstones(); err != nil || len(stones) != 1 || len(stones[0].Versions) != 3 {
		t.Errorf("tombstones: %v, %v", stones, err)
	}
}

func TestAFileUnderAnotherNameIsRefused(t *testing.T) {
	dir := t.TempDir()
	f := folder(t, dir)
	a, b := orgKey(id.New(), 1), orgKey(id.New(), 1)
	for _, k := range []custody.Key{a, b} {
		if err := f.Create(k); err != nil {
			t.Fatal(err)
		}
	}
	name := func(k custody.Key) string {
		return filepath.Join(dir, "org-"+strings.TrimPrefix(k.Org.Text(id.Org), "org_")+"-v1.json")
	}
	if info, err := os.Stat(name(a)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of a key file: %v, %v", info.Mode(), err)
	}
	data, err := os.ReadFile(name(a))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name(b), data, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = f.Get(b.Ref)
	if reason(err) != "key_damaged" || !strings.Contains(err.Error(), filepath.Base(name(b))) {
		t.Errorf("a file under another name: %v", err)
	}
}

func TestErasedKeysAreNotLeftInTheFile(t *testing.T) {
	dir := t.TempDir()
	f := folder(t, dir)
	k := orgKey(id.New(), 1)
	k.Wrapped = bytes.Repeat([]byte{0xab}, 60)
	if err := f.Create(k); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "org-"+strings.TrimPrefix(k.Org.Text(id.Org), "org_")+"-v1.json")
	keep := filepath.Join(t.TempDir(), "inode")
	if err := os.Link(path, keep); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Destroy(k.Org, time.Now()); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadFile(keep)
	if err != nil || len(bytes.Trim(left, "\x00")) != 0 {
		t.Errorf("the file was not overwritten: %q, %v", left, err)
	}
}
