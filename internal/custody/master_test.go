package custody_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/custody/custodytest"
	"github.com/sealpost/sealpost/internal/fault"
)

func master(t testing.TB) (*custody.FileMaster, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "master.key")
	if _, err := custody.InitMaster(path); err != nil {
		t.Fatal(err)
	}
	m, err := custody.OpenMaster(path)
	if err != nil {
		t.Fatal(err)
	}
	return m, path
}

func reason(err error) string {
	var f *fault.Fault
	if errors.As(err, &f) {
		return f.Reason
	}
	return ""
}

func TestFileMasterConforms(t *testing.T) {
	custodytest.MasterKeys(t, func(t *testing.T) (one, other custody.MasterKeys) {
		a, _ := master(t)
		b, _ := master(t)
		return a, b
	})
}

func TestInitMasterNeverOverwrites(t *testing.T) {
	_, path := master(t)
	before, _ := os.ReadFile(path)
	if _, err := custody.InitMaster(path); !fault.Is(err, fault.Conflict) {
		t.Errorf("second InitMaster: %v", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the master key is gone")
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

func TestExposedMasterIsRefused(t *testing.T) {
	_, path := master(t)
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := custody.OpenMaster(path); reason(err) != "master_key_exposed" {
			t.Errorf("mode %v: %v", mode, err)
		}
		if _, err := custody.AddMaster(path); reason(err) != "master_key_exposed" {
			t.Errorf("mode %v: AddMaster: %v", mode, err)
		}
	}
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := custody.OpenMaster(path); err != nil {
		t.Errorf("mode 0400: %v", err)
	}
	if _, err := custody.OpenMaster(path + ".not"); reason(err) != "master_key_file_missing" {
		t.Errorf("no file: %v", err)
	}
}

func TestAddMasterIsFollowedByARunningNode(t *testing.T) {
	node, path := master(t)
	oldID, oldWrap, err := node.Wrap(nil, []byte("old"))
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(filepath.Dir(path), ".sealpost-new-1") // by a crash
	if err := os.WriteFile(left, []byte("a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	newID, err := custody.AddMaster(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	other, err := custody.OpenMaster(path)
	if err != nil {
		t.Fatal(err)
	}
	gotID, newWrap, err := other.Wrap(nil, []byte("new"))
	if err != nil || gotID != newID || newID == oldID {
		t.Fatalf("wraps with %s, %v; want %s", gotID, err, newID)
	}
	if got, err := node.Unwrap(newID, nil, newWrap); err != nil || string(got) != "new" {
		t.Errorf("the running node does not follow: %v", err)
	}
	if got, err := other.Unwrap(oldID, nil, oldWrap); err != nil || string(got) != "old" {
		t.Errorf("the old key is lost: %v", err)
	}
	if got := fileNames(t, filepath.Dir(path)); got != "master.key\n" {
		t.Errorf("left behind: %s", got)
	}
}

func TestMasterFileMistakesAreNamedByLineOnly(t *testing.T) {
	_, path := master(t)
	good, _ := os.ReadFile(path)
	word := strings.Fields(string(good))
	for name, text := range map[string]string{
		"empty":        "",
		"no end":       strings.TrimSpace(string(good)),
		"blank line":   string(good) + "\n",
		"twice":        string(good) + string(good),
		"other format": "sealpost-master-v2 " + word[1] + " " + word[2] + "\n",
		"other id":     word[0] + " 0000000000000000 " + word[2] + "\n",
		"short key":    word[0] + " " + word[1] + " AAAA\n",
		"CRLF":         strings.TrimSpace(string(good)) + "\r\n",
		"large":        strings.Repeat("x", 1<<17),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := custody.OpenMaster(path)
		if reason(err) != "master_key_file_invalid" {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), word[2]) {
			t.Errorf("%s: the error shows the key", name)
		}
	}
}
