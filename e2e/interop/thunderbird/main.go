// Command thunderbird shows that Thunderbird reads what Sealpost seals. It
// starts Thunderbird without a window and with a new profile, gives it keys
// and messages, has it open each message in a tab, and compares what stands
// there with what is expected: text, attachment, subject, and the icons for
// encryption and signature.
//
// Invariants:
//   - It ends with 0 only when every message was shown exactly as expected,
//     those included that Thunderbird cannot read or must not believe.
//   - Thunderbird's own code opens the messages. The scripts call it and look
//     at its windows, and decide nothing.
//   - Nothing leaves the machine, and nothing of it stays: keys are new, the
//     profile lies in a folder that is removed, the network is shut off.
package main

import (
	"context"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

//go:embed prepare.js
var prepareScript string

//go:embed read.js
var readScript string

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) (err error) {
	if _, err := exec.LookPath("thunderbird"); err != nil {
		return errors.New("the program is not installed: make thunderbird installs it")
	}
	p, err := newPeople(time.Now())
	if err != nil {
		return err
	}
	t, err := start(ctx)
	if err != nil {
		return fmt.Errorf("start Thunderbird: %w", err)
	}
	defer func() { err = errors.Join(err, t.stop()) }()
	trials := p.trials()
	in, err := p.intake(ctx, t.folder, trials)
	if err != nil {
		return err
	}
	var out prepared
	if err := t.run(prepareScript, in, &out); err != nil {
		return err
	}
	fmt.Printf("Thunderbird %s with RNP %s and NSS %s\n\n", out.Thunderbird, out.RNP, out.NSS)
	wrong := checkKeys(p.keysWanted(), out.Keys)
	fmt.Println("| sealed | opened | signature | subject shown |\n|---|---|---|---|")
	for _, trial := range trials {
		ok, err := t.try(trial, out.Letters[trial.Name])
		if err != nil {
			return fmt.Errorf("%s: %w", trial.Name, err)
		}
		if !ok {
			wrong++
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%d not as expected", wrong)
	}
	return nil
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

func checkKeys(wanted map[string]bool, said map[string]string) (wrong int) {
	for name, taken := range wanted {
		if !taken {
			fmt.Printf("The %s key is %s.\n\n", name, said[name])
		}
		if (said[name] == "taken") != taken {
			fmt.Printf("WRONG: the %s key: %s\n\n", name, said[name])
			wrong++
		}
	}
	return wrong
}

// try has one message opened and prints its line of the table.
func (t *thunderbird) try(trial trial, uri string) (ok bool, err error) {
	var got struct {
		seen
		Notice string
	}
	if err := t.marionette.run(readScript, map[string]any{"URI": uri, "Want": trial.want}, &got); err != nil {
		return false, err
	}
	opened := "yes"
	switch {
	case got.Text == "":
		opened = strings.TrimSpace("no: " + got.Notice)
		if got.Notice == "" {
			opened = "no, and it does not say why"
		}
	case got.Encrypted == "":
		opened = "not encrypted"
	}
	fmt.Printf("| %s | %s | %s | %s |\n", trial.Name, opened, or(got.Signed, "none shown"), got.Subject)
	if got.seen != trial.want {
		fmt.Printf("WRONG: it shows   %+v\n       instead of %+v\n", got.seen, trial.want)
	}
	return got.seen == trial.want, nil
}

func or(s, instead string) string {
	if s == "" {
		return instead
	}
	return s
}
