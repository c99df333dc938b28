package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/e2e/internal/product"
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
	program, err := product.Build(dir, "GOFIPS140=certified")
	if err != nil {
		t.Fatal(err)
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
	data := filepath.Join(dir, "demo")
	checkDemo(t, run("only", "demo", "--once", "--json", "--data", data))
	config := filepath.Join(data, "sealpost.toml")
	for command, want := range map[string]string{
		"partner list": "partner.example", "suppress list": "bella@returns.example", "dkim list": "active", "queue list": "full.example",
	} {
		if out := run("only", append(strings.Fields(command), "--config", config)...); !bytes.Contains(out, []byte(want)) {
			t.Errorf("sealpost %s says nothing of %s:\n%s", command, want, out)
		}
	}
	// Nobody answers now, so doctor complains; what the DNS said is kept.
	found, _ := exec.Command(program, "doctor", "--json", "--config", config).Output()
	if !bytes.Contains(found, []byte(`"check":"domains","state":"good"`)) {
		t.Errorf("the demo's own domain is not in order: %s", found)
	}
}

// checkDemo finds each delivery where it must be, and among them a host proved
// by DANE, a partner's by its pin, and mail that came back.
func checkDemo(t *testing.T, lines []byte) {
	t.Helper()
	shown := map[string]string{}
	for line := range bytes.Lines(lines) {
		var e struct {
			Recipient  string `json:"recipient"`
			State      string `json:"state"`
			Reason     string `json:"reason"`
			AsExpected *bool  `json:"as_expected"`
			Evidence   struct {
				Suite string `json:"suite"`
				By    string `json:"verified_by"`
			} `json:"evidence"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		if e.AsExpected != nil && !*e.AsExpected || e.Evidence.Suite != "" && !strings.Contains(e.Evidence.Suite, "_AES_") {
			t.Errorf("%s", line)
		}
		shown[e.Recipient] = e.State + " " + e.Evidence.By + e.Reason
	}
	for to, want := range map[string]string{
		"dora@dane.example": "delivered dane-ee", "paul@partner.example": "delivered pin", "bella@returns.example": "failed pkixbounced",
	} {
		if shown[to] != want {
			t.Errorf("%s: %q, want %q", to, shown[to], want)
		}
	}
}
