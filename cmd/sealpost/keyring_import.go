package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/keyring"
	"github.com/sealpost/sealpost/internal/policy"
)

type keyringImportCmd struct {
	orgFlag
	Files   []string `arg:"" name:"file" help:"Files or folders; - for standard input."`
	Tier    string   `enum:"harvested,discovered,confirmed,pinned" default:"pinned" placeholder:"TIER" help:"How far to trust what is imported: harvested, discovered, confirmed or pinned. (default: pinned)"`
	Address string   `placeholder:"ADDRESS" help:"Whose keys these are, though they may not say so."`
	Cipher  string   `enum:"cbc,gcm" default:"cbc" placeholder:"CIPHER" help:"What the owners of certificates can open: cbc or gcm. (default: cbc)"`
	OAEP    bool     `name:"oaep" help:"The owners of RSA certificates can open OAEP; without it PKCS #1 v1.5 is used."`
}

// Help says what is read.
func (keyringImportCmd) Help() string {
	return "Reads OpenPGP keys, armored or binary; certificates in PEM, DER and PKCS #7; vCards with keys in them; and every file of a folder. One file that cannot be read stops no other. " +
		"Each key gets an entry for every address it names; of a key that names several, those for which another key is in use are refused: say --address if it is to take that one's place. The exit code is 1 when anything was refused.\n\nExamples:\n\n" +
		"  $ sealpost keyring import jane.asc\n  $ sealpost keyring import --address jane@example.org jane.cer\n  $ sealpost keyring import --tier discovered partners/"
}

const (
	importFiles = 100_000 // in one call
	importBytes = 64 << 20
)

type importedRow struct {
	File    string `json:"file"`
	Outcome string `json:"outcome"` // added trusted known proposed superseded refused
	Why     string `json:"why,omitempty"`
	entryRow
}

type importedFiles struct {
	Entries []importedRow  `json:"entries"`
	Totals  map[string]int `json:"totals"` // by outcome
}

// Run imports.
func (c keyringImportCmd) Run(ctx context.Context, env *environment) error {
	o := keyring.Options{}
	o.Tier, _ = policy.ParseTier(c.Tier) // kong has looked
	o.Opens = keyring.Opens{GCM: c.Cipher == "gcm", OAEP: c.OAEP}
	if c.Address != "" {
		var err error
		if o.Address, err = mailAddress(c.Address); err != nil {
			return err
		}
	}
	files, err := importList(c.Files)
	if err != nil {
		return err
	}
	return env.withOrg(ctx, c.orSystem, func(core *app.Core, org account.Org) error {
		r, err := c.each(ctx, env, core, org, files, o)
		if err != nil {
			return err
		}
		if err := env.result(r, func(p *page) { r.tell(p, core.Clock.Now()) }); err != nil {
			return err
		}
		if r.Totals["refused"] > 0 {
			return errSaid
		}
		return nil
	})
}

// importList gives the files to read; of folders all that are in them.
func importList(names []string) (files []string, err error) {
	for _, name := range names {
		if info, err := os.Stat(name); name == "-" || err != nil || !info.IsDir() {
			files = append(files, name) // what is not there is told in its turn
			continue
		}
		err := filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				files = append(files, path)
			}
			if len(files) > importFiles {
				return usagef("More than %d files are too many for one call.", importFiles)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if len(files) == 0 {
		return nil, usagef("There is no file in the folder.")
	}
	return files, nil
}

func (c keyringImportCmd) each(ctx context.Context, env *environment, core *app.Core, org account.Org, files []string, o keyring.Options) (importedFiles, error) {
	r := importedFiles{Entries: []importedRow{}, Totals: map[string]int{}}
	told := core.Clock.Now()
	for i, name := range files {
		if now := core.Clock.Now(); now.Sub(told) >= 2*time.Second {
			told = now
			env.sayf("%d of %d files read …", i, len(files))
		}
		data, err := importData(env, name)
		var entries []keyring.Entry
		if err == nil {
			entries, err = core.Keyring.Import(ctx, org.ID, data, o)
		}
		for _, e := range entries {
			row := importedRow{File: name, Outcome: e.Outcome, entryRow: entryRowOf(org.Slug, e)}
			if e.Outcome == "refused" {
				row.Why = keyring.Sentence(e.Kind, e.Reason)
			}
			r.add(row)
		}
		if err == nil {
			continue
		}
		var f *fault.Fault
		var cannot *fs.PathError
		switch {
		case errors.As(err, &f) && (f.Kind == fault.Invalid || f.Kind == fault.Refused || f.Kind == fault.TooLarge):
			r.add(importedRow{File: name, Outcome: "refused", Why: f.Text, entryRow: entryRow{Org: org.Slug, Reason: f.Reason, State: keyring.Refused}})
		case errors.As(err, &cannot):
			r.add(importedRow{File: name, Outcome: "refused", Why: "The file cannot be read: " + cannot.Err.Error() + ".", entryRow: entryRow{Org: org.Slug, Reason: "unreadable", State: keyring.Refused}})
		default:
			return r, fmt.Errorf("import: %w", err)
		}
	}
	return r, nil
}

func (r *importedFiles) add(row importedRow) {
	r.Entries = append(r.Entries, row)
	r.Totals[row.Outcome]++
}

// importData reads a file, but not more than is imported.
func importData(env *environment, name string) ([]byte, error) {
	var from io.Reader = env.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		from = f
	}
	return io.ReadAll(io.LimitReader(from, importBytes+1))
}

var outcomeWords = map[string]string{
	"added": "added", "trusted": "trusted", "known": "already there", "proposed": "proposed", "superseded": "an older key: kept, not used",
}

func (r importedFiles) tell(p *page, now time.Time) {
	rows := [][]string{{"FILE", "ID", "ADDRESS", "KEY", "ENDS", "RESULT"}}
	for _, e := range r.Entries {
		result := outcomeWords[e.Outcome]
		if e.Outcome == "refused" {
			result = "refused: " + e.Why
		}
		key, ends := "-", "-"
		if e.Key != "" {
			key, ends = string(e.Kind)+" "+e.Key, e.ends(now)
		}
		rows = append(rows, []string{e.File, orDash(e.ID), orDash(e.Address), key, ends, result})
	}
	p.table(rows...)
	line := ""
	for _, word := range []string{"added", "trusted", "known", "proposed", "superseded", "refused"} {
		if n := r.Totals[word]; n > 0 {
			if line != "" {
				line += ", "
			}
			line += strconv.Itoa(n) + " " + map[bool]string{true: "already there", false: word}[word == "known"]
		}
	}
	p.linef("\n%s.", line)
	if r.Totals["proposed"] > 0 {
		p.linef("A proposal replaces a key in use only when you accept it: \"sealpost keyring trust\".")
	}
}
