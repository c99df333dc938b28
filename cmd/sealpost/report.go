package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/dmarc"
	"github.com/sealpost/sealpost/internal/dmarc/parcel"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/tlsrpt"
)

// reportCmd shows what receivers report.
type reportCmd struct {
	DMARC  reportDMARCCmd  `cmd:"" name:"dmarc" help:"Sum up who sends in the name of a domain, and what left past Sealpost."`
	TLS    reportTLSCmd    `cmd:"" name:"tls" help:"Sum up how TLS with a domain's mail hosts went."`
	Import reportImportCmd `cmd:"" help:"Take in reports from files."`
}

// Help says where reports come from.
func (reportCmd) Help() string {
	return "Reports come by mail to dmarc@ and tlsrpt@ at a return path host (\"sealpost domain return-path\"), or from files by \"sealpost report import\". " +
		"Only reports about verified domains of the organization are kept, and of them only domains, addresses of hosts and counts."
}

type reportDMARCCmd struct {
	orgFlag
	Domain string `arg:"" help:"Domain of the organization."`
	Days   int    `default:"30" help:"How many days back."`
}

const maxReportDays = 400

func reportDays(n int) error {
	if n < 1 || n > maxReportDays {
		return usagef("--days must be from 1 to %d.", maxReportDays)
	}
	return nil
}

// Run sums up.
func (c reportDMARCCmd) Run(ctx context.Context, env *environment) error {
	name, err := domainName(c.Domain)
	if err := errors.Join(err, reportDays(c.Days)); err != nil {
		return err
	}
	return env.withOrg(ctx, c.pick, func(core *app.Core, o account.Org) error {
		if _, err := core.Accounts.Domain(ctx, o.ID, name); err != nil {
			return err
		}
		s, err := core.DMARC.Summarize(ctx, o.ID, name, c.Days)
		if err != nil {
			return err
		}
		if s.Sources == nil {
			s.Sources = []dmarc.Source{}
		}
		return env.result(s, func(p *page) { dmarcPage(p, s, c.Days) })
	})
}

func dmarcPage(p *page, s dmarc.Summary, days int) {
	if s.Reports == 0 && s.Failures == 0 {
		p.linef("Nobody has reported mail of %s in the last %d days.", s.Domain, days)
		return
	}
	p.linef("%s, last %d days: %d messages, %d passed DMARC, in %d reports of %d reporters; %d reported one by one.",
		s.Domain, days, s.Messages, s.Passed, s.Reports, len(s.Reporters), s.Failures)
	if s.Blind {
		p.linef("No source is known to be yours. Name the addresses that mail leaves from in reports.addresses or [[pool]].")
	}
	p.linef("")
	rows := [][]string{{"SOURCE", "KNOWN", "MESSAGES", "PASSED", "SPF", "DKIM", "STOPPED", "PROVIDER", "IN FROM"}}
	for _, src := range s.Sources {
		provider := src.Provider
		if provider == "" {
			provider = src.Host
		}
		known := "no"
		if src.Known {
			known = "yes"
		}
		rows = append(rows, []string{src.Source, known, number(src.Messages), number(src.Passed), number(src.SPF), number(src.DKIM),
			number(src.Stopped), orDash(provider), orDash(strings.Join(src.Names, " "))})
	}
	p.table(rows...)
	if s.More > 0 {
		p.linef("and %d more sources that are not known; their mail is in the sums.", s.More)
	}
	said := map[string]bool{}
	for _, src := range s.Sources {
		text := strings.Join(src.Steps, "\n  ")
		if text == "" || said[text] {
			continue
		}
		said[text] = true
		p.linef("\n%s:\n  %s", printable(src.Source), text)
	}
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

type reportTLSCmd struct {
	orgFlag
	Domain string `arg:"" help:"Domain of the organization."`
	Days   int    `default:"30" help:"How many days back."`
}

// Run sums up.
func (c reportTLSCmd) Run(ctx context.Context, env *environment) error {
	name, err := domainName(c.Domain)
	if err := errors.Join(err, reportDays(c.Days)); err != nil {
		return err
	}
	return env.withOrg(ctx, c.pick, func(core *app.Core, o account.Org) error {
		if _, err := core.Accounts.Domain(ctx, o.ID, name); err != nil {
			return err
		}
		s, err := core.TLSReports.Summarize(ctx, o.ID, name, c.Days)
		if err != nil {
			return err
		}
		return env.result(s, func(p *page) { tlsPage(p, s, c.Days) })
	})
}

func tlsPage(p *page, s tlsrpt.Summary, days int) {
	if s.Reports == 0 {
		p.linef("Nobody has reported TLS with mail hosts of %s in the last %d days.", s.Domain, days)
		return
	}
	p.linef("%s, last %d days: %d sessions went well and %d failed, in %d reports.\n", s.Domain, days, s.Successes, s.Failures, s.Reports)
	rows := [][]string{{"REPORTER", "WELL", "FAILED"}}
	for _, r := range s.Reporters {
		rows = append(rows, []string{r.Reporter, number(r.Successes), number(r.Failures)})
	}
	p.table(rows...)
	if len(s.Causes) == 0 {
		return
	}
	p.linef("")
	rows = [][]string{{"FAILURE", "POLICY", "HOST", "SESSIONS"}}
	for _, f := range s.Causes {
		rows = append(rows, []string{f.Result, f.Policy, orDash(f.MX), number(f.Sessions)})
	}
	p.table(rows...)
	said := map[string]bool{}
	for _, f := range s.Causes {
		if f.Step != "" && !said[f.Result] {
			said[f.Result] = true
			p.linef("\n%s:\n  %s", f.Result, f.Step)
		}
	}
}

type reportImportCmd struct {
	orgFlag
	Files []string `arg:"" help:"Mails (.eml), .xml, .json, .gz or .zip; - is standard input."`
}

// Help says what happens to the same report twice.
func (reportImportCmd) Help() string {
	return "DMARC aggregate and failure reports and TLS reports are told apart by themselves. Aggregate and TLS reports that are there already change nothing; failure reports have no number and count each time. " +
		"A file that is no report, or about a domain that is not the organization's, is named and passed over; the exit code is 1 then.\n\nExample:\n\n  $ sealpost report import reports/*.eml"
}

type takenReport struct {
	File     string   `json:"file"`
	Kind     string   `json:"kind,omitempty"` // aggregate, failure, tls
	Reporter string   `json:"reporter,omitempty"`
	Domains  []string `json:"domains,omitempty"`
	Count    int64    `json:"count"` // messages or sessions
	Again    bool     `json:"again,omitempty"`
	Bypasses int      `json:"bypasses,omitempty"`
	Reason   string   `json:"reason,omitempty"` // why it was passed over
	Text     string   `json:"text,omitempty"`
}

// Run takes reports in.
func (c reportImportCmd) Run(ctx context.Context, env *environment) error {
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		r := struct {
			Files []takenReport `json:"files"`
		}{}
		failed := false
		for _, file := range c.Files {
			row, err := env.importReport(ctx, core, o.ID, file)
			if err != nil {
				return err
			}
			failed = failed || row.Reason != ""
			r.Files = append(r.Files, row)
		}
		if err := env.result(r, func(p *page) { importPage(p, r.Files) }); err != nil || !failed {
			return err
		}
		return errSaid
	})
}

// importReport takes one file in. Only what keeps the others from being taken
// too is an error.
func (e *environment) importReport(ctx context.Context, core *app.Core, org id.ID, file string) (row takenReport, err error) {
	row.File = file
	b, err := e.readReport(file)
	if err == nil {
		err = row.take(ctx, core, org, b)
	}
	var f *fault.Fault
	if errors.As(err, &f) && f.Kind != fault.Unavailable && f.Kind != fault.Internal {
		row.Reason, row.Text = f.Reason, f.Text
		err = nil
	}
	return row, err
}

// readReport reads a file, and no more of it than any report may have.
func (e *environment) readReport(file string) ([]byte, error) {
	in := io.NopCloser(e.stdin)
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read the report: %w", err)
		}
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, parcel.MaxPacked+1))
	return b, errors.Join(err, in.Close())
}

// take tries the report as each kind.
func (r *takenReport) take(ctx context.Context, core *app.Core, org id.ID, b []byte) error {
	t, err := core.TLSReports.Import(ctx, org, bytes.NewReader(b))
	if err == nil {
		r.Kind, r.Reporter, r.Domains, r.Count, r.Again = "tls", t.Reporter, t.Domains, t.Successes+t.Failures, t.Again
		return nil
	}
	if f := fault.From(err); f.Reason != "no_report" {
		return err
	}
	d, err := core.DMARC.Import(ctx, org, bytes.NewReader(b))
	if err != nil {
		return err
	}
	r.Kind, r.Reporter, r.Domains, r.Count, r.Again, r.Bypasses = d.Kind, d.Reporter, []string{d.Domain}, d.Messages, d.Again, d.Bypasses
	return nil
}

func importPage(p *page, files []takenReport) {
	rows := [][]string{{"FILE", "KIND", "REPORTER", "DOMAIN", "COUNT", ""}}
	for _, f := range files {
		note := f.Text
		switch {
		case f.Again:
			note = "was there already"
		case f.Bypasses > 0:
			note = fmt.Sprintf("%d sources past Sealpost", f.Bypasses)
		}
		rows = append(rows, []string{f.File, orDash(f.Kind), orDash(f.Reporter), orDash(strings.Join(f.Domains, " ")), number(f.Count), note})
	}
	p.table(rows...)
}
