package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
)

// ledgerCmd hands out the record of what happened, and checks it.
type ledgerCmd struct {
	Export     ledgerExportCmd     `cmd:"" help:"Write an organization's ledger to a file."`
	Checkpoint ledgerCheckpointCmd `cmd:"" help:"Sign the ledger as it stands and print that."`
	Key        ledgerKeyCmd        `cmd:"" help:"Print the public key that checkpoints are verified with."`
	Verify     ledgerVerifyCmd     `cmd:"" help:"Verify an exported ledger. Needs no database and no configuration."`
}

// Help tells the whole walk.
func (ledgerCmd) Help() string {
	return "An auditor keeps checkpoints and the public key; with them an exported file shows whether anything in it was changed, removed or put in later.\n\n" +
		"  $ sealpost ledger key > ledger.pub\n  $ sealpost ledger checkpoint > monday.txt\n" +
		"  $ sealpost ledger export clinic.ledger\n  $ sealpost ledger verify clinic.ledger --key \"$(cat ledger.pub)\" --checkpoint monday.txt"
}

const placeBatch = 2000

// placeAll gives every entry its position; a running server does the same and
// they do not disturb each other.
func placeAll(ctx context.Context, core *app.Core) error {
	for {
		n, err := ledger.Place(ctx, core.DB, placeBatch)
		if err != nil || n < placeBatch {
			return err
		}
	}
}

type ledgerExportCmd struct {
	orgFlag
	File        string `arg:"" help:"File to make; - for standard output."`
	Checkpoints string `placeholder:"FILE" help:"Also sign the ledger now and write all checkpoints to this file."`
}

// Help says what stands in the file.
func (ledgerExportCmd) Help() string {
	return "Facts stand in clear, what names a person is encrypted. A file that is there is not overwritten. \"--org system\" exports the facts about the installation.\n\nExample:\n\n" +
		"  $ sealpost ledger export --org clinic clinic.ledger --checkpoints clinic.checkpoints"
}

type ledgerExported struct {
	Org         string `json:"org"`
	Entries     int64  `json:"entries"` // at least; more may have come meanwhile
	File        string `json:"file"`
	Checkpoints string `json:"checkpoints,omitempty"`
}

// Run exports.
func (c ledgerExportCmd) Run(ctx context.Context, env *environment) error {
	if c.File == "-" && env.JSON {
		return usagef("--json and an export to standard output would mix: name a file.")
	}
	for _, path := range []string{c.File, c.Checkpoints} {
		if err := vacant(path); err != nil {
			return err
		}
	}
	return env.withOrg(ctx, c.orSystem, func(core *app.Core, o account.Org) error {
		if err := placeAll(ctx, core); err != nil {
			return err
		}
		r := ledgerExported{Org: o.Slug, File: c.File, Checkpoints: c.Checkpoints}
		if c.Checkpoints != "" {
			if _, err := core.Ledger.Checkpoint(ctx, o.ID); err != nil {
				return err
			}
		}
		entries, err := ledgerSize(ctx, core, o.ID)
		if err != nil {
			return err
		}
		r.Entries = entries
		if err := env.newFile(c.File, func(w io.Writer) error { return core.Ledger.Export(ctx, o.ID, w) }); err != nil {
			return err
		}
		if c.Checkpoints != "" {
			if err := env.newFile(c.Checkpoints, func(w io.Writer) error { return core.Ledger.ExportCheckpoints(ctx, o.ID, w) }); err != nil {
				return err
			}
		}
		if c.File == "-" {
			return nil
		}
		return env.result(r, func(p *page) {
			p.linef("Wrote the ledger of %s, %s, to %s.", r.Org, count(int(r.Entries), "entry", "entries"), r.File)
			if r.Checkpoints != "" {
				p.linef("Wrote its checkpoints to %s.", r.Checkpoints)
			}
		})
	})
}

func ledgerSize(ctx context.Context, core *app.Core, org id.ID) (size int64, err error) {
	err = core.DB.Read(ctx, org, func(tx *db.Tx) (err error) {
		size, err = ledger.Size(tx)
		return err
	})
	return size, err
}

// vacant refuses the name of a file that is there.
func vacant(path string) error {
	if path == "" || path == "-" {
		return nil
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return fault.Newf(fault.Conflict, "file_exists", "%s is there already and was left as it is. Choose another name.", path)
	}
	return nil
}

// newFile writes a file that appears only when it is whole; "-" is standard
// output. It never overwrites: it may be somebody's evidence.
func (e *environment) newFile(path string, write func(io.Writer) error) (err error) {
	if path == "-" {
		return write(e.stdout)
	}
	if err := vacant(path); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".sealpost-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}

type ledgerCheckpointCmd struct{ orgFlag }

// Help says what to do with it.
func (ledgerCheckpointCmd) Help() string {
	return "Keep it where nobody who can change the database can change it too."
}

// Run signs.
func (c ledgerCheckpointCmd) Run(ctx context.Context, env *environment) error {
	return env.withOrg(ctx, c.orSystem, func(core *app.Core, o account.Org) error {
		if err := placeAll(ctx, core); err != nil {
			return err
		}
		text, err := core.Ledger.Checkpoint(ctx, o.ID)
		if err != nil {
			return err
		}
		if env.JSON {
			return env.result(struct {
				Org        string `json:"org"`
				Checkpoint string `json:"checkpoint"`
			}{o.Slug, string(text)}, nil)
		}
		_, err = env.stdout.Write(text)
		return err
	})
}

type ledgerKeyCmd struct{}

// Run prints the verifier key.
func (ledgerKeyCmd) Run(ctx context.Context, env *environment) error {
	return env.withCore(ctx, func(core *app.Core) error {
		origin := strings.TrimSuffix(core.Ledger.OriginOf(db.System), "/"+db.System.Text(id.Org))
		_, key, err := core.Custody.SigningKey(origin)
		if err != nil {
			return err
		}
		r := struct {
			Origin string `json:"origin"`
			Key    string `json:"key"`
		}{origin, key}
		return env.result(r, func(p *page) { p.linef("%s", key) })
	})
}

type ledgerVerifyCmd struct {
	File       string   `arg:"" help:"Exported ledger; - for standard input."`
	Key        string   `placeholder:"VKEY" help:"Public key, as \"sealpost ledger key\" prints it."`
	Checkpoint []string `sep:"none" placeholder:"FILE" help:"File of one or more checkpoints; can be given several times."`
}

// Help says what is proved.
func (ledgerVerifyCmd) Help() string {
	return "Each entry is checked against its own hash and place, and all of them against the checkpoints. It names the first entry that contradicts itself, " +
		"or the range in which something was changed. The exit code is 1 when it does not verify.\n\nExample:\n\n" +
		"  $ sealpost ledger verify clinic.ledger --key \"$(cat ledger.pub)\" --checkpoint monday.txt --checkpoint tuesday.txt"
}

const checkpointFileLimit = 64 << 20

// Run verifies.
func (c ledgerVerifyCmd) Run(env *environment) (err error) {
	var verifier note.Verifier
	if c.Key != "" {
		if verifier, err = note.NewVerifier(strings.TrimSpace(c.Key)); err != nil {
			return usagef("--key is not a public key as \"sealpost ledger key\" prints it.")
		}
	}
	if len(c.Checkpoint) > 0 && verifier == nil {
		return usagef("Checkpoints can be checked only with the public key: give --key.")
	}
	var checkpoints [][]byte
	for _, name := range c.Checkpoint {
		text, err := env.readInput(name, checkpointFileLimit)
		if err != nil {
			return err
		}
		found := ledger.SplitCheckpoints(text)
		if len(found) == 0 {
			return fault.Newf(fault.Invalid, "no_checkpoint", "%s holds no checkpoint.", name)
		}
		checkpoints = append(checkpoints, found...)
	}
	in := env.stdin
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return fmt.Errorf("read the ledger: %w", err)
		}
		defer f.Close()
		in = f
	}
	report, err := ledger.Verify(in, verifier, checkpoints)
	if err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	if report.Problems == nil {
		report.Problems = []ledger.Problem{}
	}
	err = env.result(report, func(p *page) { p.text.WriteString(report.String()) })
	if err == nil && !report.OK {
		err = errSaid
	}
	return err
}
