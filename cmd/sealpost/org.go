package main

import (
	"context"
	"strconv"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/spool"
)

// orgCmd looks after organizations.
type orgCmd struct {
	Create  orgCreateCmd  `cmd:"" help:"Make an organization and its keys."`
	List    orgListCmd    `cmd:"" help:"List all organizations."`
	Show    orgShowCmd    `cmd:"" help:"Show one organization."`
	Limits  orgLimitsCmd  `cmd:"" help:"Show or set what an organization may hand in."`
	Destroy orgDestroyCmd `cmd:"" help:"Destroy an organization's keys, and so its content everywhere."`
}

type orgCreateCmd struct {
	Slug string `arg:"" help:"Short name that commands use: lower-case letters, digits and hyphens."`
	Name string `required:"" placeholder:"NAME" help:"Name as recipients read it in notices."`
}

// Help shows an example.
func (orgCreateCmd) Help() string {
	return "Example:\n\n  $ sealpost org create clinic --name \"Riverside Clinic\""
}

type orgRow struct {
	ID          string    `json:"id"`
	Slug        string    `json:"slug"`
	Name        string    `json:"name"`
	Limits      orgLimits `json:"limits"`
	CreatedAt   time.Time `json:"created_at"`
	DestroyedAt time.Time `json:"destroyed_at,omitzero"`
}

type orgLimits struct {
	MessagesPerMinute int `json:"messages_per_minute"` // 0: that of the installation
	Recipients        int `json:"recipients"`
	MessageSize       int `json:"message_size"`
}

func rowOf(o account.Org) orgRow {
	return orgRow{o.ID.Text(id.Org), o.Slug, o.Name, orgLimits(o.Limits), stamp(o.CreatedAt), stamp(o.DestroyedAt)}
}

// Run makes the organization.
func (c orgCreateCmd) Run(ctx context.Context, env *environment) error {
	return env.withCore(ctx, func(core *app.Core) error {
		o, err := core.Accounts.CreateOrg(ctx, c.Slug, c.Name)
		if err != nil {
			return err
		}
		if err := record(ctx, core, o.ID, ledger.KeyCreated, keyFact{Kind: custody.KindOrg, Version: 1}); err != nil {
			return err
		}
		return env.result(rowOf(o), func(p *page) {
			p.linef("Made the organization %s (%s).", o.Slug, o.ID.Text(id.Org))
			p.linef("Next: sealpost domain add --org %s DOMAIN, then sealpost apikey create --org %s --name NAME", o.Slug, o.Slug)
		})
	})
}

type orgListCmd struct{}

// Run lists organizations.
func (orgListCmd) Run(ctx context.Context, env *environment) error {
	return env.withCore(ctx, func(core *app.Core) error {
		all, err := core.Accounts.Orgs(ctx)
		if err != nil {
			return err
		}
		r := struct {
			Orgs []orgRow `json:"orgs"`
		}{[]orgRow{}}
		for _, o := range all {
			r.Orgs = append(r.Orgs, rowOf(o))
		}
		return env.result(r, func(p *page) {
			if len(all) == 0 {
				p.linef("There is no organization yet. \"sealpost org create\" makes one.")
				return
			}
			rows := [][]string{{"SLUG", "NAME", "CREATED", "DESTROYED"}}
			for _, o := range all {
				rows = append(rows, []string{o.Slug, o.Name, when(o.CreatedAt, "-"), when(o.DestroyedAt, "-")})
			}
			p.table(rows...)
		})
	})
}

type orgShowCmd struct {
	Slug string `arg:"" optional:"" help:"Short name; can be left out when there is only one organization."`
}

type orgShown struct {
	orgRow
	Domains       []domainRow `json:"domains"`
	APIKeys       int         `json:"api_keys"` // that work
	PolicyVersion int64       `json:"policy_version"`
	Messages      int64       `json:"messages"`
	Deliveries    int64       `json:"deliveries"`
	Unsettled     int64       `json:"unsettled"`
	LedgerEntries int64       `json:"ledger_entries"`
}

// Run shows one organization.
func (c orgShowCmd) Run(ctx context.Context, env *environment) error {
	return env.withOrg(ctx, orgFlag{c.Slug}.pick, func(core *app.Core, o account.Org) error {
		r, err := showOrg(ctx, core, o)
		if err != nil {
			return err
		}
		return env.result(r, r.tell)
	})
}

// showOrg counts what the organization has.
func showOrg(ctx context.Context, core *app.Core, o account.Org) (orgShown, error) {
	r := orgShown{orgRow: rowOf(o), Domains: []domainRow{}}
	domains, err := core.Accounts.Domains(ctx, o.ID)
	if err != nil {
		return r, err
	}
	for _, d := range domains {
		r.Domains = append(r.Domains, domainRowOf(d))
	}
	clients, err := core.Clients.List(ctx, o.ID)
	if err != nil {
		return r, err
	}
	now := core.Clock.Now()
	for _, cl := range clients {
		if cl.RevokedAt.IsZero() && (cl.ExpiresAt.IsZero() || now.Before(cl.ExpiresAt)) {
			r.APIKeys++
		}
	}
	if err := placeAll(ctx, core); err != nil {
		return r, err
	}
	err = core.DB.Read(ctx, o.ID, func(tx *db.Tx) (err error) {
		if r.PolicyVersion, err = account.PolicyVersion(tx); err != nil {
			return err
		}
		if r.Messages, r.Deliveries, r.Unsettled, err = spool.Count(tx); err != nil {
			return err
		}
		r.LedgerEntries, err = ledger.Size(tx)
		return err
	})
	return r, err
}

func (r orgShown) tell(p *page) {
	rows := [][]string{
		{"short name", r.Slug}, {"name", r.Name}, {"id", r.ID}, {"created", when(r.CreatedAt, "-")},
	}
	if !r.DestroyedAt.IsZero() {
		rows = append(rows, []string{"keys destroyed", when(r.DestroyedAt, "-")})
	}
	rows = append(rows, limitRows(r.Limits)...)
	policy := "the default"
	if r.PolicyVersion > 0 {
		policy = "version " + strconv.FormatInt(r.PolicyVersion, 10)
	}
	rows = append(rows,
		[]string{"policy", policy},
		[]string{"API keys", strconv.Itoa(r.APIKeys)},
		[]string{"messages", strconv.FormatInt(r.Messages, 10)},
		[]string{"deliveries", strconv.FormatInt(r.Deliveries, 10) + ", " + strconv.FormatInt(r.Unsettled, 10) + " of them not settled"},
		[]string{"ledger entries", strconv.FormatInt(r.LedgerEntries, 10)})
	p.table(rows...)
	if len(r.Domains) > 0 {
		p.linef("")
		p.table(domainTable(r.Domains)...)
	}
}

func limitRows(l orgLimits) [][]string {
	return [][]string{
		{"messages per minute", limitText(l.MessagesPerMinute)},
		{"recipients of a message", limitText(l.Recipients)},
		{"bytes of a message", limitText(l.MessageSize)},
	}
}

func limitText(n int) string {
	if n == 0 {
		return "as the installation allows"
	}
	return strconv.Itoa(n)
}

type orgLimitsCmd struct {
	Slug              string `arg:"" optional:"" help:"Short name; can be left out when there is only one organization."`
	MessagesPerMinute *int   `placeholder:"N" help:"Most messages a minute; 0 for the installation's limit."`
	Recipients        *int   `placeholder:"N" help:"Most recipients of one message; 0 for the installation's limit, which also bounds it."`
	MessageSize       *int   `placeholder:"BYTES" help:"Largest message; 0 for the installation's limit, which also bounds it."`
}

// Help shows both uses.
func (orgLimitsCmd) Help() string {
	return "Without a limit it shows those that are set.\n\nExample:\n\n  $ sealpost org limits clinic --messages-per-minute 600"
}

// Run shows or sets limits.
func (c orgLimitsCmd) Run(ctx context.Context, env *environment) error {
	l := account.Limits{}
	for _, n := range []*int{c.MessagesPerMinute, c.Recipients, c.MessageSize} {
		if n != nil && *n < 0 {
			return usagef("A limit cannot be less than 0.")
		}
	}
	return env.withOrg(ctx, orgFlag{c.Slug}.alive, func(core *app.Core, o account.Org) error {
		l = o.Limits
		set(&l.MessagesPerMinute, c.MessagesPerMinute)
		set(&l.Recipients, c.Recipients)
		set(&l.MessageSize, c.MessageSize)
		if l != o.Limits {
			if err := core.Accounts.SetLimits(ctx, o.ID, l); err != nil {
				return err
			}
		}
		r := struct {
			Org string `json:"org"`
			orgLimits
		}{o.Slug, orgLimits(l)}
		return env.result(r, func(p *page) { p.table(limitRows(r.orgLimits)...) })
	})
}

// set takes a limit that was given.
func set(limit, given *int) {
	if given != nil {
		*limit = *given
	}
}

type orgDestroyCmd struct {
	Slug    string `arg:"" help:"Short name of the organization."`
	Apply   bool   `help:"Do it; without it, nothing is changed and you see what would be lost."`
	Confirm string `placeholder:"SLUG" help:"The short name once more."`
}

// Help says that there is no way back.
func (orgDestroyCmd) Help() string {
	return "The keys are destroyed, and nobody can read the organization's messages any more: not here, not in any backup of the database, not with the master key. " +
		"There is no way back. Records without content stay, and the ledger still verifies. Copies of the key store made before still hold the keys: erase them too.\n\nExamples:\n\n" +
		"  $ sealpost org destroy clinic                            # says what would be lost\n" +
		"  $ sealpost org destroy clinic --apply --confirm clinic"
}

type orgDestroyed struct {
	Org         string    `json:"org"`
	OrgID       string    `json:"org_id"`
	Lost        *orgShown `json:"lost,omitempty"` // in a rehearsal
	Versions    []int     `json:"key_versions,omitempty"`
	DestroyedAt time.Time `json:"destroyed_at,omitzero"`
	Applied     bool      `json:"applied"`
}

// Run destroys, or says what would be lost.
func (c orgDestroyCmd) Run(ctx context.Context, env *environment) error {
	if c.Apply && c.Confirm != c.Slug {
		return usagef("Give the short name once more with --confirm: the content of this organization cannot be brought back.")
	}
	return env.withCore(ctx, func(core *app.Core) error {
		o, err := core.Accounts.OrgBySlug(ctx, c.Slug)
		if err != nil {
			return err
		}
		r := orgDestroyed{Org: o.Slug, OrgID: o.ID.Text(id.Org), Applied: c.Apply}
		if !c.Apply {
			lost, err := showOrg(ctx, core, o)
			if err != nil {
				return err
			}
			r.Lost, r.DestroyedAt = &lost, o.DestroyedAt
			return env.result(r, r.tell)
		}
		stone, err := destroyOrg(ctx, core, o)
		if err != nil {
			return err
		}
		r.Versions, r.DestroyedAt = stone.Versions, stone.At
		return env.result(r, r.tell)
	})
}

var destroyedAlready = fault.New(fault.Conflict, "org_destroyed", "The keys of this organization are destroyed already.")

// destroyOrg also ends what a crash between database and key store left half
// done.
func destroyOrg(ctx context.Context, core *app.Core, o account.Org) (custody.Tombstone, error) {
	if !o.DestroyedAt.IsZero() {
		newest, err := newestVersion(core, o.ID)
		if err != nil {
			return custody.Tombstone{}, err
		}
		if newest == 0 {
			return custody.Tombstone{}, destroyedAlready
		}
	}
	stone, err := core.Accounts.DestroyOrg(ctx, o.ID)
	if err != nil {
		return stone, err
	}
	return stone, record(ctx, core, o.ID, ledger.KeyDestroyed, keyFact{Kind: custody.KindOrg, Versions: stone.Versions})
}

func (r orgDestroyed) tell(p *page) {
	if r.Applied {
		p.linef("The keys of %s are destroyed (%s, at %s). Nobody can read its content any more, in no copy of the database. Erase old copies of the key folder too.",
			r.Org, count(len(r.Versions), "version", "versions"), when(r.DestroyedAt, "-"))
		p.linef("Records and the ledger stay: \"sealpost ledger export --org %s FILE\" still gives the proof.", r.Org)
		return
	}
	if !r.DestroyedAt.IsZero() {
		p.linef("The keys of %s were destroyed at %s already.", r.Org, when(r.DestroyedAt, "-"))
		return
	}
	l := r.Lost
	p.linef("Destroying %s (%s) cannot be undone. For ever, here and in every backup of the database:", r.Org, printable(l.Name))
	p.linef("  %s to %s could be read by nobody any more,", count(int(l.Messages), "message", "messages"), count(int(l.Deliveries), "recipient", "recipients"))
	p.linef("  %s not settled would fail,", count(int(l.Unsettled), "delivery that is", "deliveries that are"))
	p.linef("  the policy could not be read, and %s and %s would be of no use.", count(len(l.Domains), "domain", "domains"), count(l.APIKeys, "API key", "API keys"))
	p.linef("Records without content and %s would stay.", count(int(l.LedgerEntries), "ledger entry", "ledger entries"))
	p.linef("\nNothing was changed. To do it: sealpost org destroy %s --apply --confirm %s", r.Org, r.Org)
}
