package main

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/suppress"
)

// suppressCmd looks after the addresses that nothing is sent to.
type suppressCmd struct {
	List   suppressListCmd   `cmd:"" help:"List suppressed addresses, or say why one is."`
	Add    suppressAddCmd    `cmd:"" help:"Send nothing to an address, or no bulk mail."`
	Remove suppressRemoveCmd `cmd:"" help:"Take an address from the list; rules may add it again."`
	Allow  suppressAllowCmd  `cmd:"" help:"Send to an address again, and keep the rules from adding it for a time."`
	Import suppressImportCmd `cmd:"" help:"Add the addresses of a CSV file: all of them, or none when one line is wrong."`
	Export suppressExportCmd `cmd:"" help:"Write all suppressed addresses as CSV."`
}

type suppressionRow struct {
	ID        string    `json:"id"`
	Address   string    `json:"address"`
	Scope     string    `json:"scope"`
	Reason    string    `json:"reason"`
	Note      string    `json:"note,omitempty"`
	Delivery  string    `json:"delivery,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

func suppressionRowOf(e suppress.Entry) suppressionRow {
	r := suppressionRow{ID: e.ID.Text(id.Suppression), Address: e.Address.Reveal(), Scope: string(e.Scope), Reason: string(e.Reason),
		Note: e.Note.Reveal(), CreatedAt: e.CreatedAt}
	if !e.Delivery.IsZero() {
		r.Delivery = e.Delivery.Text(id.Delivery)
	}
	if !e.ExpiresAt.IsZero() {
		r.ExpiresAt = stamp(e.ExpiresAt)
	}
	return r
}

func suppressionTable(all []suppressionRow) [][]string {
	rows := [][]string{{"ADDRESS", "STOPS", "WHY", "SINCE", "UNTIL", "DELIVERY", "NOTE"}}
	for _, r := range all {
		rows = append(rows, []string{r.Address, r.Scope, r.Reason, when(r.CreatedAt, "-"), when(r.ExpiresAt, "for ever"), orDash(r.Delivery), orDash(r.Note)})
	}
	return rows
}

type suppressListCmd struct {
	orgFlag
	Address string `arg:"" optional:"" help:"Only this address."`
	Limit   int    `default:"100" help:"How many at most. (default: 100)"`
}

// Run lists.
func (c suppressListCmd) Run(ctx context.Context, env *environment) (err error) {
	var of mail.Address
	if c.Address != "" {
		if of, err = mailAddress(c.Address); err != nil {
			return err
		}
	}
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		all, err := core.Suppress.List(ctx, o.ID, of, id.ID{}, c.Limit)
		if err != nil {
			return err
		}
		r := struct {
			Org          string           `json:"org"`
			Suppressions []suppressionRow `json:"suppressions"`
		}{o.Slug, []suppressionRow{}}
		for _, e := range all {
			r.Suppressions = append(r.Suppressions, suppressionRowOf(e))
		}
		return env.result(r, func(p *page) {
			switch {
			case len(all) > 0:
				p.table(suppressionTable(r.Suppressions)...)
			case c.Address != "":
				p.linef("%s is not suppressed.", printable(c.Address))
			default:
				p.linef("Nothing is suppressed.")
			}
		})
	})
}

type suppressAddCmd struct {
	orgFlag
	Address string        `arg:"" help:"Address."`
	Scope   string        `enum:"all,bulk" default:"all" placeholder:"SCOPE" help:"Which mail is stopped: all or bulk. (default: all)"`
	For     time.Duration `placeholder:"DURATION" help:"For how long, such as 30d. For ever when not given."`
	Note    string        `placeholder:"TEXT" help:"Why, for people."`
}

// Run adds.
func (c suppressAddCmd) Run(ctx context.Context, env *environment) error {
	a, err := mailAddress(c.Address)
	if err != nil {
		return err
	}
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		e := suppress.Entry{Org: o.ID, Address: a, Scope: suppress.Scope(c.Scope), Note: private.NewString(c.Note)}
		if c.For != 0 {
			e.ExpiresAt = core.Clock.Now().Add(c.For)
		}
		if e, err = core.Suppress.Add(ctx, e, byOperator); err != nil {
			return err
		}
		r := suppressionRowOf(e)
		return env.result(r, func(p *page) { p.table(suppressionTable([]suppressionRow{r})...) })
	})
}

type suppressRemoveCmd struct {
	orgFlag
	Address string `arg:"" help:"Address."`
}

// Run removes.
func (c suppressRemoveCmd) Run(ctx context.Context, env *environment) error {
	a, err := mailAddress(c.Address)
	if err != nil {
		return err
	}
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		n, err := core.Suppress.RemoveAddress(ctx, o.ID, a, byOperator)
		if err != nil {
			return err
		}
		if n == 0 {
			return suppress.ErrNone
		}
		return env.result(struct {
			Removed int `json:"removed"`
		}{n}, func(p *page) {
			p.linef("Removed. Rules may add the address again; \"sealpost suppress allow\" keeps them from it.")
		})
	})
}

type suppressAllowCmd struct {
	orgFlag
	Address string        `arg:"" help:"Address."`
	For     time.Duration `default:"30d" placeholder:"DURATION" help:"How long rules leave the address alone. (default: 30d)"`
}

// Run allows.
func (c suppressAllowCmd) Run(ctx context.Context, env *environment) error {
	a, err := mailAddress(c.Address)
	if err != nil {
		return err
	}
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		until := core.Clock.Now().Add(c.For)
		if err := core.Suppress.Allow(ctx, o.ID, a, until, byOperator); err != nil {
			return err
		}
		return env.result(struct {
			Until time.Time `json:"until"`
		}{stamp(until)}, func(p *page) {
			p.linef("Mail to the address goes again. Until %s no rule suppresses it; what was suppressed already is not sent by itself.", when(until, ""))
		})
	})
}

type suppressImportCmd struct {
	orgFlag
	File string `arg:"" help:"CSV file."`
}

// Help says what the file looks like.
func (suppressImportCmd) Help() string {
	return "The first line names the columns: address, and if you like scope (all or bulk), reason, created_at, expires_at and note. An address that is suppressed already stays as it is. " +
		"When any line is wrong, nothing is imported, and all mistakes are listed with their lines."
}

// Run imports.
func (c suppressImportCmd) Run(ctx context.Context, env *environment) error {
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		f, err := os.Open(c.File)
		if err != nil {
			return fault.New(fault.Invalid, "unreadable", "The file cannot be read.").Because(err)
		}
		defer f.Close()
		done, err := core.Suppress.Import(ctx, o.ID, f, byOperator)
		var bad *suppress.BadFile
		if errors.As(err, &bad) {
			for _, m := range bad.Mistakes {
				env.sayf("%s:%d: %s", c.File, m.Line, m.Text)
			}
			env.sayf("sealpost: %v", bad)
			return errSaid
		}
		if err != nil {
			return err
		}
		return env.result(done, func(p *page) {
			p.linef("%d lines read, %d addresses added; the others were there already.", done.Rows, done.Added)
		})
	})
}

type suppressExportCmd struct {
	orgFlag
	File string `arg:"" help:"New file to write; - for standard output."`
}

// Run exports.
func (c suppressExportCmd) Run(ctx context.Context, env *environment) error {
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		n := 0
		if err := env.newFile(c.File, func(w io.Writer) (err error) {
			n, err = core.Suppress.Export(ctx, o.ID, w)
			return err
		}); err != nil || c.File == "-" {
			return err
		}
		return env.result(struct {
			Entries int `json:"entries"`
		}{n}, func(p *page) { p.linef("%d entries written to %s.", n, c.File) })
	})
}
