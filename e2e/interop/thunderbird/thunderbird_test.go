//go:build thunderbird

package thunderbird

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

//go:embed prepare.js
var prepareScript string

//go:embed read.js
var readScript string

// TestThunderbirdShowsWhatWeSeal logs a table of what it showed, which stands
// shortened in docs/interoperability.md.
func TestThunderbirdShowsWhatWeSeal(t *testing.T) {
	p, err := newPeople(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	program, err := start(t.Context(), t.TempDir())
	if err != nil {
		t.Fatalf("start Thunderbird, which make thunderbird installs: %v", err)
	}
	defer program.stop()
	trials := p.trials()
	in, err := p.intake(t.Context(), program.folder, trials)
	if err != nil {
		t.Fatal(err)
	}
	var out prepared
	if err := program.run(prepareScript, in, &out); err != nil {
		t.Fatal(err)
	}
	checkKeys(t, p.keysWanted(), out.Keys)
	table := "| sealed | opened | signature | subject shown |\n|---|---|---|---|\n"
	for _, trial := range trials {
		table += program.try(t, trial, out.Letters[trial.Name])
	}
	t.Logf("Thunderbird %s with RNP %s and NSS %s\n\n%s", out.Thunderbird, out.RNP, out.NSS, table)
}

// intake is the argument of prepare.js.
type intake struct {
	PGP, SMIME, Letters []item
	Authority           string
}

type item struct{ Name, Secret, Public, File, Password string }

// prepared is what prepare.js returns.
type prepared struct {
	Thunderbird, RNP, NSS string
	Keys                  map[string]string // "taken" or why not
	Letters               map[string]string // the address in the folder
}

// intake writes keys and messages where Thunderbird can read them.
func (p *people) intake(ctx context.Context, folder string, trials []trial) (in intake, err error) {
	text := base64.StdEncoding.EncodeToString
	in.Authority = text(p.authority.cert.Raw)
	in.PGP = append(in.PGP, item{Name: adaKey, Public: text(p.adaPGP.Public().Bytes())})
	for name, secret := range p.patPGP {
		in.PGP = append(in.PGP, item{Name: name, Secret: text(secret.Bytes().Reveal())})
	}
	for name, identity := range p.patSMIME {
		file := filepath.Join(folder, name+".p12")
		data, err := identity.pkcs12()
		if err = errors.Join(err, os.WriteFile(file, data, 0o600)); err != nil {
			return in, err
		}
		in.SMIME = append(in.SMIME, item{Name: name, File: file, Password: password})
	}
	for i, trial := range trials {
		file := filepath.Join(folder, fmt.Sprintf("%d.eml", i))
		message, err := trial.make(ctx)
		if err = errors.Join(err, os.WriteFile(file, message, 0o600)); err != nil {
			return in, fmt.Errorf("%s: %w", trial.Name, err)
		}
		in.Letters = append(in.Letters, item{Name: trial.Name, File: file})
	}
	return in, nil
}

func checkKeys(t *testing.T, wanted map[string]bool, said map[string]string) {
	t.Helper()
	for name, taken := range wanted {
		if (said[name] == "taken") != taken {
			t.Errorf("the %s key: %s", name, said[name])
		}
	}
}

// try has one message opened and gives its line of the table.
func (t *thunderbird) try(tt *testing.T, trial trial, uri string) string {
	tt.Helper()
	var got struct {
		seen
		Notice   string
		Finished bool // as far as its events tell
	}
	if err := t.marionette.run(readScript, map[string]any{"URI": uri, "Want": trial.want}, &got); err != nil {
		tt.Fatalf("%s: %v", trial.Name, err)
	}
	if !got.Finished || got.seen != trial.want {
		tt.Errorf("%s (finished: %t): it shows\n%+v\ninstead of\n%+v", trial.Name, got.Finished, got.seen, trial.want)
	}
	opened := "yes"
	switch {
	case got.Text == "" && got.Notice == "":
		opened = "no, and it does not say why"
	case got.Text == "":
		opened = "no: " + strings.Join(strings.Fields(got.Notice), " ")
	case got.Encrypted == "":
		opened = "not encrypted"
	}
	where := got.Subject
	if strings.HasPrefix(got.Text, "Subject: "+subject+"\n\n") {
		where += ", and the real one on top of the text"
	}
	return fmt.Sprintf("| %s | %s | %s | %s |\n", trial.Name, opened, cmp.Or(got.Signed, "none shown"), where)
}
