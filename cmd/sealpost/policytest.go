package main

import (
	"context"
	"slices"
	"strings"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

// policyTestCmd decides without sending.
type policyTestCmd struct {
	orgFlag
	From           string   `required:"" placeholder:"ADDRESS" help:"Sender."`
	To             []string `required:"" sep:"none" placeholder:"ADDRESS" help:"Recipient; can be given several times."`
	Subject        string   `placeholder:"TEXT" help:"Subject."`
	Purpose        string   `enum:",treatment,payment,operations,marketing,generic" default:"" placeholder:"PURPOSE" help:"Purpose that the caller states."`
	DefaultPurpose string   `enum:",treatment,payment,operations,marketing,generic" default:"" placeholder:"PURPOSE" help:"Default purpose of the key used. (default: treatment)"`
	Header         []string `sep:"none" placeholder:"FIELD" help:"Header field such as \"X-Class: lab\"; can be given several times."`
	Size           string   `default:"10KiB" placeholder:"SIZE" help:"Size of the message. (default: 10KiB)"`
	Seal           string   `enum:",pgp,smime,tls,portal" default:"" placeholder:"SEAL" help:"Seal that the caller asks for, which removes all others."`
	RequireTLS     bool     `name:"require-tls" help:"As if sent with REQUIRETLS."`
	File           string   `placeholder:"FILE" help:"Policy to test in place of the published one; - for standard input."`
	Refresh        bool     `help:"Look up what the recipients' domains can do and which keys they have, in place of using what is known."`
}

// Help shows an example.
func (policyTestCmd) Help() string {
	return "The seal is a forecast from what is known of the recipient's domain; the plan's other seals follow if it proves weaker.\n\nExample:\n\n" +
		"  $ sealpost policy test --from dr@clinic.example --to pat@example.org --subject \"[secure] Results\""
}

type planRow struct {
	Recipient   string         `json:"recipient"`
	State       string         `json:"state"` // ready, held, failed
	Seal        policy.Seal    `json:"seal"`  // forecast; empty for none
	Grade       string         `json:"grade"` // expected; empty for none
	Rule        string         `json:"rule"`
	Reason      string         `json:"reason"`
	Reasons     []string       `json:"reasons"`
	Seals       []policy.Seal  `json:"seals"`
	Floor       policy.Grade   `json:"floor"`
	NoticeFloor policy.Grade   `json:"notice_floor"`
	Purpose     policy.Purpose `json:"purpose"`
	Hold        string         `json:"hold,omitempty"`
	Refuse      string         `json:"refuse,omitempty"`
	Triggers    []string       `json:"triggers,omitempty"`
}

type policyTested struct {
	Org            string    `json:"org"`
	Version        int64     `json:"policy_version"`
	File           string    `json:"policy_file,omitempty"`
	SenderVerified bool      `json:"sender_verified"`
	Deliveries     []planRow `json:"deliveries"`
}

// facts reads what the command line says of the message.
func (c policyTestCmd) facts() (policy.Facts, []mail.Address, error) {
	f := policy.Facts{Purpose: policy.Purpose(c.Purpose), DefaultPurpose: policy.Purpose(c.DefaultPurpose),
		Subject: private.NewString(c.Subject), RequestSeal: policy.Seal(c.Seal), RequireTLS: c.RequireTLS}
	var err error
	if _, f.Sender, err = mail.ParseMailbox(c.From); err != nil {
		return f, nil, usagef("--from: %v", err)
	}
	size, err := config.ParseSize(c.Size)
	if err != nil {
		return f, nil, usagef("--size: %v", err)
	}
	f.Size = int64(size)
	for _, h := range c.Header {
		name, value, ok := strings.Cut(h, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return f, nil, usagef("--header: write a field as \"Name: value\".")
		}
		f.Headers = append(f.Headers, policy.Header{Name: strings.TrimSpace(name), Value: private.NewString(strings.TrimSpace(value))})
	}
	var to []mail.Address
	for _, r := range c.To {
		_, a, err := mail.ParseMailbox(r)
		if err != nil {
			return f, nil, usagef("--to: %v", err)
		}
		if !slices.ContainsFunc(to, func(b mail.Address) bool { return b.Normal() == a.Normal() }) {
			to = append(to, a)
		}
	}
	return f, to, nil
}

// Run tests.
func (c policyTestCmd) Run(ctx context.Context, env *environment) error {
	facts, to, err := c.facts()
	if err != nil {
		return err
	}
	var doc policy.Document
	if c.File != "" {
		if doc, err = env.parsePolicy(c.File); err != nil {
			return err
		}
	}
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		r := policyTested{Org: o.Slug, File: c.File, Deliveries: []planRow{}}
		if c.File == "" {
			if doc, r.Version, err = readPolicy(ctx, core, o.ID, 0); err != nil {
				return err
			}
		}
		if r.SenderVerified, err = owns(ctx, core, o.ID, facts.Sender.Domain()); err != nil {
			return err
		}
		for _, facts.Recipient = range to {
			if facts.Posture, err = c.posture(ctx, core, facts.Recipient.Domain()); err != nil {
				return err
			}
			if facts.Keys, err = c.keys(ctx, core, o.ID, facts.Recipient); err != nil {
				return err
			}
			r.Deliveries = append(r.Deliveries, rowOfPlan(facts.Recipient, policy.Decide(doc, facts)))
		}
		return env.result(r, r.tell)
	})
}

func (c policyTestCmd) keys(ctx context.Context, core *app.Core, org id.ID, to mail.Address) (policy.Keys, error) {
	if !c.Refresh {
		return core.Keyring.Known(ctx, org, to)
	}
	found, err := core.Keyring.Find(ctx, org, to)
	return found.Facts(), err
}

func owns(ctx context.Context, core *app.Core, org id.ID, domain string) (yes bool, err error) {
	err = core.DB.Read(ctx, org, func(tx *db.Tx) (err error) {
		yes, err = account.OwnsDomain(tx, domain)
		return err
	})
	return yes, err
}

func (c policyTestCmd) posture(ctx context.Context, core *app.Core, domain string) (policy.Posture, error) {
	if c.Refresh {
		known, err := core.Posture.Refresh(ctx, domain)
		return known.Facts(), err
	}
	known, ok := core.Posture.Cached(ctx, domain)
	if !ok {
		return policy.Posture{}, nil
	}
	return known.Facts(), nil
}

func rowOfPlan(to mail.Address, plan policy.Plan) planRow {
	r := planRow{Recipient: to.Reveal(), State: "ready", Seal: plan.Forecast, Grade: plan.ForecastGrade.Word(), Rule: plan.Rule, Reason: plan.Sentence(),
		Reasons: append([]string{}, plan.Reasons...), Seals: append([]policy.Seal{}, plan.Seals...), Floor: plan.Floor, NoticeFloor: plan.NoticeFloor,
		Purpose: plan.Purpose, Hold: plan.Hold, Refuse: plan.Refuse, Triggers: plan.Triggers}
	switch {
	case plan.Refuse != "":
		r.State, r.Seal, r.Reason = "failed", "", "Refused: "+plan.Refuse
	case plan.Hold != "":
		r.State = "held"
	}
	return r
}

func (r policyTested) tell(p *page) {
	switch {
	case r.File != "":
		p.linef("With the policy in the file, nothing being sent:\n")
	case r.Version == 0:
		p.linef("With the default policy, nothing being sent:\n")
	default:
		p.linef("With version %d of the policy of %s, nothing being sent:\n", r.Version, r.Org)
	}
	rows := [][]string{{"RECIPIENT", "STATE", "SEAL", "GRADE", "RULE", "WHY"}}
	for _, d := range r.Deliveries {
		rows = append(rows, []string{d.Recipient, d.State, orDash(string(d.Seal)), orDash(d.Grade), d.Rule, d.Reason})
	}
	p.table(rows...)
	for _, d := range r.Deliveries {
		p.linef("")
		p.linef("%s", printable(d.Recipient))
		seals := make([]string, len(d.Seals))
		for i, s := range d.Seals {
			seals[i] = string(s)
		}
		p.linef("  may be sealed by %s; tls at no less than %s; purpose %s", orDash(strings.Join(seals, ", ")), d.Floor, d.Purpose)
		for _, why := range d.Reasons {
			p.linef("  %s", printable(why))
		}
		if len(d.Triggers) > 0 {
			p.linef("  removed from the subject: %s", printable(strings.Join(d.Triggers, " ")))
		}
	}
	if !r.SenderVerified {
		p.linef("\nThe sender's domain is not a verified domain of %s: the message would be refused. See \"sealpost domain --help\".", r.Org)
	}
}
