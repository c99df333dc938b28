package main

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/retain"
)

type retentionProofCmd struct {
	orgFlag
	Purge string `arg:"" optional:"" name:"run" placeholder:"RUN" help:"Which purge: run_…. The newest that destroyed something when left out."`
	List  bool   `help:"List the newest purges that destroyed something."`
	Items string `placeholder:"FILE" help:"Also write the ids of what was destroyed to this file."`
}

// Help says what is proved and what is not.
func (retentionProofCmd) Help() string {
	return "Each line stands for one transaction: what it destroyed is listed by ids, the list's SHA-256 stands in the ledger, and nothing on the list is left in this database. " +
		"The exit code is 1 when that is not so. " + provesNot + "\n\nExamples:\n\n  $ sealpost retention proof\n  $ sealpost retention proof run_… --items items.txt"
}

// provesNot is what a certificate does not claim.
const provesNot = "Backups of the database made before hold the content and its wrapped key. They can be read until they are deleted, " +
	"or until the version of the organization's key of their time is removed: by \"sealpost keys rotate-org\", and again 90 days later."

type provedBatch struct {
	Destroyed retain.Stage   `json:"destroyed"`
	Purpose   policy.Purpose `json:"purpose"`
	At        time.Time      `json:"at"`
	Count     int            `json:"count"`
	First     string         `json:"first"`
	Last      string         `json:"last"`
	SHA256    string         `json:"items_sha256"`
	Event     string         `json:"event"`
	Problems  []string       `json:"problems"`
}

type proved struct {
	Org     string        `json:"org"`
	Run     string        `json:"run"`
	OK      bool          `json:"ok"`
	Batches []provedBatch `json:"batches"`
	Limits  string        `json:"limits"`
}

// Run prints and checks a certificate.
func (c retentionProofCmd) Run(ctx context.Context, env *environment) error {
	var run id.ID
	if c.Purge != "" {
		var err error
		if run, err = id.Parse(id.Run, c.Purge); err != nil {
			return usagef("A purge is named by run_…, as --list shows it.")
		}
	}
	if err := vacant(c.Items); err != nil {
		return err
	}
	return env.withOrg(ctx, c.pick, func(core *app.Core, o account.Org) error {
		if c.List {
			return listRuns(ctx, env, core, o)
		}
		cert, err := core.Retention.Certify(ctx, o.ID, run)
		if err != nil {
			return err
		}
		r := proved{Org: o.Slug, Run: cert.Run.Text(id.Run), OK: cert.OK(), Limits: provesNot}
		var items strings.Builder
		for _, b := range cert.Batches {
			problems := b.Problems
			if problems == nil {
				problems = []string{}
			}
			r.Batches = append(r.Batches, provedBatch{b.Stage, b.Purpose, stamp(b.At), b.Count, b.First.Text(id.Message), b.Last.Text(id.Message),
				b.SHA256, b.Event.Text(id.Event), problems})
			items.WriteString(b.Items)
		}
		if c.Items != "" {
			if err := env.newFile(c.Items, func(w io.Writer) error { _, err := io.WriteString(w, items.String()); return err }); err != nil {
				return err
			}
		}
		if err := env.result(r, r.tell); err != nil || r.OK {
			return err
		}
		return errSaid
	})
}

func (r proved) tell(p *page) {
	p.linef("Certificate of the purge %s of %s.\n", r.Run, r.Org)
	for _, b := range r.Batches {
		p.linef("%s  %s of %s destroyed, purpose %s: %s to %s", when(b.At, "-"), b.Destroyed, count(b.Count, "message", "messages"), b.Purpose, b.First, b.Last)
		p.linef("  items sha256 %s, ledger entry %s", b.SHA256, b.Event)
		for _, problem := range b.Problems {
			p.linef("  PROBLEM: %s", problem)
		}
	}
	if r.OK {
		p.linef("\nThe lists agree with the ledger, and nothing on them is left in this database.")
	} else {
		p.linef("\nThe certificate does not hold.")
	}
	p.linef("%s", r.Limits)
}

type purgeRow struct {
	Run      string    `json:"run"`
	At       time.Time `json:"at"`
	Bodies   int       `json:"bodies"`
	Metadata int       `json:"metadata"`
	Records  int       `json:"records"`
}

const runsListed = 100

func listRuns(ctx context.Context, env *environment, core *app.Core, o account.Org) error {
	runs, err := core.Retention.Runs(ctx, o.ID, runsListed)
	if err != nil {
		return err
	}
	r := struct {
		Org  string     `json:"org"`
		Runs []purgeRow `json:"runs"`
	}{o.Slug, []purgeRow{}}
	for _, one := range runs {
		r.Runs = append(r.Runs, purgeRow{one.ID.Text(id.Run), stamp(one.At), one.Messages[retain.Bodies], one.Messages[retain.Metadata], one.Messages[retain.Records]})
	}
	return env.result(r, func(p *page) {
		if len(r.Runs) == 0 {
			p.linef("No purge of %s has destroyed anything yet.", r.Org)
			return
		}
		for _, one := range r.Runs {
			p.linef("%s  %s  bodies %d, metadata %d, records %d", when(one.At, "-"), one.Run, one.Bodies, one.Metadata, one.Records)
		}
	})
}
