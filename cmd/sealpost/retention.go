package main

import (
	"context"
	"math"
	"strconv"
	"strings"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/retain"
	"github.com/sealpost/sealpost/internal/spool"
)

// retentionCmd says how long things are kept, and proves what is gone.
type retentionCmd struct {
	Show    retentionShowCmd    `cmd:"" help:"Show how long things are kept."`
	Set     retentionSetCmd     `cmd:"" help:"Change how long things are kept."`
	Preview retentionPreviewCmd `cmd:"" help:"Say what a purge would destroy now. Nothing is changed."`
	Resume  retentionResumeCmd  `cmd:"" help:"Let purges run again after the clock was in doubt."`
	Proof   retentionProofCmd   `cmd:"" help:"Print and check the certificate of a purge."`
	Journal retentionJournalCmd `cmd:"" help:"Send a copy of everything to an archive, or stop it."`
}

type retentionShowCmd struct {
	orgFlag
	Version int64 `placeholder:"N" help:"Version to show. The newest when not given."`
}

type retentionShown struct {
	Org           string          `json:"org"`
	Version       int64           `json:"version"` // 0: the default, nothing is published
	Unit          string          `json:"unit"`
	Purposes      retain.Purposes `json:"purposes"`
	Answers       int             `json:"answers"`
	Ledger        int             `json:"ledger"`
	Journal       string          `json:"journal,omitempty"`
	JournalFailed int             `json:"journal_failed"` // in the last seven days
}

// Run shows the periods.
func (c retentionShowCmd) Run(ctx context.Context, env *environment) error {
	if c.Version < 0 {
		return usagef("Versions count from 1.")
	}
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		p, err := core.Retention.Policy(ctx, o.ID, c.Version)
		if err != nil {
			return err
		}
		return showRetention(ctx, env, core, o, p)
	})
}

func showRetention(ctx context.Context, env *environment, core *app.Core, o account.Org, p retain.Policy) error {
	r := retentionShown{Org: o.Slug, Version: p.Version, Unit: "days", Purposes: p.Purposes, Answers: p.Answers, Ledger: p.Ledger, Journal: p.Journal.Reveal()}
	err := core.DB.Read(ctx, o.ID, func(tx *db.Tx) (err error) {
		r.JournalFailed, err = spool.JournalFailed(tx, core.Clock.Now().Add(-app.JournalWindow))
		return err
	})
	if err != nil {
		return err
	}
	return env.result(r, r.tell)
}

func (r retentionShown) tell(p *page) {
	if r.Version == 0 {
		p.linef("%s has published no retention: this is the default.\n", r.Org)
	} else {
		p.linef("Retention of %s, version %d.\n", r.Org, r.Version)
	}
	rows := [][]string{{"PURPOSE", "BODIES", "METADATA", "RECORDS"}}
	for _, purpose := range policy.Purposes() {
		t := r.Purposes.Of(purpose)
		rows = append(rows, []string{string(purpose), daysText(t.Bodies), daysText(t.Metadata), daysText(t.Records)})
	}
	p.table(rows...)
	answers := "as long as the installation keeps them"
	if r.Answers > 0 {
		answers = daysText(r.Answers)
	}
	p.linef("\nLedger: %s. Answers to requests: %s.", daysText(r.Ledger), answers)
	p.linef("Periods count from the day on which a message's last delivery was settled.")
	if r.Journal != "" {
		p.linef("A copy of everything goes to %s; %s in the last seven days.", printable(r.Journal), count(r.JournalFailed, "copy failed", "copies failed"))
	}
}

func daysText(n int) string {
	if n == retain.MinRecords {
		return "6 years"
	}
	return count(n, "day", "days")
}

type retentionSetCmd struct {
	orgFlag
	Purpose  []string `placeholder:"PURPOSE" help:"Only for this purpose: generic, treatment, payment, operations or marketing. Can be given several times; all when left out."`
	Bodies   string   `placeholder:"PERIOD" help:"How long bodies are kept."`
	Metadata string   `placeholder:"PERIOD" help:"How long subject, addresses, header, tags and metadata are kept."`
	Records  string   `placeholder:"PERIOD" help:"How long it is kept that there was a message: six years or more."`
	Ledger   string   `placeholder:"PERIOD" help:"How long the ledger is kept: six years or more."`
	Answers  string   `placeholder:"PERIOD" help:"How long answers to requests are kept; 0d for as long as the installation keeps them."`
}

// Help shows what a period is.
func (retentionSetCmd) Help() string {
	return "A period is a number of days or years: 90d, 6y. Periods count from the day on which the last delivery of a message was settled. What is not given stays as it is. " +
		"A shorter period is applied by the next night's purge; \"sealpost retention preview\" says what that will destroy. Records and ledger are kept for six years at least (45 CFR 164.316(b)(2)(i)).\n\nExamples:\n\n" +
		"  $ sealpost retention set --bodies 60d\n" +
		"  $ sealpost retention set --purpose marketing --bodies 30d --metadata 1y"
}

// Run changes the periods that were given.
func (c retentionSetCmd) Run(ctx context.Context, env *environment) error {
	purposes := policy.Purposes()
	if len(c.Purpose) > 0 {
		purposes = nil
		for _, name := range c.Purpose {
			if !policy.Purpose(name).Valid() {
				return usagef("A purpose is one of generic, treatment, payment, operations and marketing.")
			}
			purposes = append(purposes, policy.Purpose(name))
		}
	}
	given := map[string]*int{"bodies": nil, "metadata": nil, "records": nil, "ledger": nil, "answers": nil}
	some := false
	for name, text := range map[string]string{"bodies": c.Bodies, "metadata": c.Metadata, "records": c.Records, "ledger": c.Ledger, "answers": c.Answers} {
		if text == "" {
			continue
		}
		n, ok := parseDays(text)
		if !ok {
			return usagef("--%s is a number of days or years: 90d, 6y.", name)
		}
		given[name], some = &n, true
	}
	if !some {
		return usagef("Say what is to be kept how long: --bodies, --metadata, --records, --ledger or --answers.")
	}
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		p, err := core.Retention.Change(ctx, o.ID, func(p *retain.Policy) error {
			for _, purpose := range purposes {
				t := p.Purposes.Of(purpose)
				set(&t.Bodies, given["bodies"])
				set(&t.Metadata, given["metadata"])
				set(&t.Records, given["records"])
			}
			set(&p.Ledger, given["ledger"])
			set(&p.Answers, given["answers"])
			return nil
		})
		if err != nil {
			return err
		}
		return showRetention(ctx, env, core, o, p)
	})
}

// parseDays reads 90d or 6y. Years are counted with all leap days they can
// hold.
func parseDays(text string) (int, bool) {
	text, years := strings.CutSuffix(text, "y")
	if !years {
		var days bool
		if text, days = strings.CutSuffix(text, "d"); !days {
			return 0, false
		}
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > 100_000 {
		return 0, false
	}
	if years {
		n = 365*n + int(math.Ceil(float64(n)/4))
	}
	return n, true
}

type retentionPreviewCmd struct{ orgFlag }

type retentionPreviewed struct {
	Org     string                                  `json:"org"`
	Destroy map[retain.Stage]map[policy.Purpose]int `json:"destroy"`
	Left    map[retain.Stage]map[retain.Reason]int  `json:"left"`
	Ledger  int64                                   `json:"ledger_entries"`
}

// Run counts.
func (c retentionPreviewCmd) Run(ctx context.Context, env *environment) error {
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		r, err := core.Retention.Preview(ctx, o.ID)
		if err != nil {
			return err
		}
		out := retentionPreviewed{o.Slug, r.Destroyed, r.Left, r.Pruned}
		return env.result(out, out.tell)
	})
}

func (r retentionPreviewed) tell(p *page) {
	p.linef("A purge of %s would destroy now:\n", r.Org)
	rows := [][]string{{"PURPOSE", "BODIES", "METADATA", "RECORDS"}}
	for _, purpose := range policy.Purposes() {
		row := []string{string(purpose)}
		for _, stage := range []retain.Stage{retain.Bodies, retain.Metadata, retain.Records} {
			row = append(row, strconv.Itoa(r.Destroy[stage][purpose]))
		}
		rows = append(rows, row)
	}
	p.table(rows...)
	p.linef("\nand prune %s.", count(int(r.Ledger), "ledger entry", "ledger entries"))
	words := map[retain.Reason]string{retain.LeftHeld: "under legal hold", retain.LeftUnsettled: "not settled or not read yet", retain.LeftLink: "a portal link still works",
		retain.LeftNotice: "mail about it is under way", retain.LeftYoung: "settled later than accepted"}
	for _, why := range []retain.Reason{retain.LeftHeld, retain.LeftUnsettled, retain.LeftLink, retain.LeftNotice, retain.LeftYoung} {
		n := 0
		for _, left := range r.Left {
			n = max(n, left[why])
		}
		if n > 0 {
			p.linef("Left: %s (%s).", count(n, "message", "messages"), words[why])
		}
	}
}

type retentionJournalCmd struct {
	orgFlag
	Address string `arg:"" help:"Address of the archive, or off."`
}

// Help says what the archive gets.
func (retentionJournalCmd) Help() string {
	return "Each message that is accepted gets one more delivery, to the archive, sealed by the policy like any other; only the portal is not used for it. " +
		"Senders see nothing of it. A copy that fails keeps no message back: \"sealpost retention show\" and the metric sealpost_journal_failed count them."
}

// Run sets the address.
func (c retentionJournalCmd) Run(ctx context.Context, env *environment) error {
	var to mail.Address
	if c.Address != "off" {
		var err error
		if to, err = mail.ParseAddress(c.Address); err != nil {
			return err
		}
	}
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		p, err := core.Retention.Change(ctx, o.ID, func(p *retain.Policy) error {
			p.Journal = to
			return nil
		})
		if err != nil {
			return err
		}
		return showRetention(ctx, env, core, o, p)
	})
}
