package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

type builtWith struct {
	FIPS struct {
		Module  string `json:"module"`
		Setting string `json:"setting"`
		Mode    string `json:"mode"`
	} `json:"fips140"`
}

// TestFIPS builds the program with Go's validated module. It says so, runs in
// FIPS mode by itself, and the whole demo passes even where everything that
// FIPS 140-3 does not approve ends in an error.
func TestFIPS(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "sealpost")
	build := exec.Command("go", "build", "-o", program, "../cmd/sealpost")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFIPS140=certified")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	run := func(mode string, args ...string) []byte {
		cmd := exec.Command(program, args...)
		cmd.Env = append(os.Environ(), "TMPDIR="+dir)
		if mode != "" {
			cmd.Env = append(cmd.Env, "GODEBUG=fips140="+mode)
		}
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			t.Fatalf("sealpost %s with fips140=%s: %v\n%s%s", strings.Join(args, " "), mode, err, out.Bytes(), errs.Bytes())
		}
		return out.Bytes()
	}
	for given, want := range map[string]string{"": "on", "on": "on", "only": "only"} {
		var v builtWith
		if err := json.Unmarshal(run(given, "version", "--json"), &v); err != nil {
			t.Fatal(err)
		}
		if v.FIPS.Mode != want || !strings.HasPrefix(v.FIPS.Module, "v1.") || !strings.HasPrefix(v.FIPS.Setting, v.FIPS.Module) {
			t.Errorf("with fips140=%s: %+v", given, v.FIPS)
		}
	}
	for line := range bytes.Lines(run("only", "demo", "--once", "--json")) {
		var e struct {
			Event      string `json:"event"`
			AsExpected *bool  `json:"as_expected"`
			Evidence   struct {
				Suite string `json:"suite"`
			} `json:"evidence"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		if e.AsExpected != nil && !*e.AsExpected || e.Evidence.Suite != "" && !strings.Contains(e.Evidence.Suite, "_AES_") {
			t.Errorf("%s", line)
		}
	}
}
