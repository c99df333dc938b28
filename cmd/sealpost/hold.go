package main

import (
	"cmp"
	"context"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/retain"
)

// holdCmd keeps things from being destroyed.
type holdCmd struct {
	Place holdPlaceCmd `cmd:"" help:"Keep messages from being destroyed, whatever the retention says."`
	List  holdListCmd  `cmd:"" help:"List the holds in effect."`
	Lift  holdLiftCmd  `cmd:"" help:"End a hold."`
}

// Help says what a hold does.
func (holdCmd) Help() string {
	return "Nothing overrides a legal hold: the nightly purge, the pruning of the ledger and the destruction of the organization leave what it covers, including what is accepted later. " +
		"Matter, reason, addresses and who acted are encrypted; the ledger keeps that a hold was placed and lifted."
}

type holdPlaceCmd struct {
	orgFlag
	Matter    string `required:"" placeholder:"NAME" help:"What it is about, such as a case."`
	Reason    string `required:"" placeholder:"TEXT" help:"Why it is placed."`
	By        string `placeholder:"NAME" help:"Who places it. \"operator\" when left out."`
	Message   string `placeholder:"MESSAGE" xor:"scope" required:"" help:"Hold one message: msg_…."`
	Sender    string `placeholder:"ADDRESS" xor:"scope" required:"" help:"Hold what this address sends."`
	Recipient string `placeholder:"ADDRESS" xor:"scope" required:"" help:"Hold what is sent to this address."`
	OrgWide   bool   `xor:"scope" required:"" help:"Hold everything of the organization."`
}

// Help shows examples.
func (holdPlaceCmd) Help() string {
	return "An address finds messages by the address of the envelope, as long as their metadata exists.\n\nExamples:\n\n" +
		"  $ sealpost hold place --matter \"Doe v. Clinic\" --reason \"subpoena of May 3\" --recipient doe@example.org\n" +
		"  $ sealpost hold place --matter \"OCR audit\" --reason \"letter of June 1\" --org-wide"
}

// hold reads what is to be held.
func (c holdPlaceCmd) hold() (h retain.Hold, err error) {
	h = retain.Hold{Matter: private.NewString(c.Matter), Reason: private.NewString(c.Reason), By: private.NewString(cmp.Or(c.By, byOperator))}
	switch {
	case c.Message != "":
		h.Scope = retain.HoldMessage
		if h.Message, err = id.Parse(id.Message, c.Message); err != nil {
			return h, usagef("--message is the id of a message: msg_….")
		}
	case c.Sender != "":
		h.Scope = retain.HoldSender
		h.Address, err = mail.ParseAddress(c.Sender)
	case c.Recipient != "":
		h.Scope = retain.HoldRecipient
		h.Address, err = mail.ParseAddress(c.Recipient)
	default:
		h.Scope = retain.HoldOrganization
	}
	return h, err
}

type holdRow struct {
	ID       string       `json:"id"`
	Scope    retain.Scope `json:"scope"`
	Message  string       `json:"message,omitempty"`
	Address  string       `json:"address,omitempty"`
	Matter   string       `json:"matter"`
	Reason   string       `json:"reason"`
	By       string       `json:"by"`
	PlacedAt time.Time    `json:"placed_at"`
	LiftedAt time.Time    `json:"lifted_at,omitzero"`
}

func rowOfHold(h retain.Hold) holdRow {
	r := holdRow{ID: h.ID.Text(id.Hold), Scope: h.Scope, Address: h.Address.Reveal(), Matter: h.Matter.Reveal(), Reason: h.Reason.Reveal(),
		By: h.By.Reveal(), PlacedAt: stamp(h.PlacedAt), LiftedAt: stamp(h.LiftedAt)}
	if !h.Message.IsZero() {
		r.Message = h.Message.Text(id.Message)
	}
	return r
}

func (r holdRow) covers() string {
	return string(r.Scope) + " " + cmp.Or(r.Message, r.Address)
}

// Run places the hold.
func (c holdPlaceCmd) Run(ctx context.Context, env *environment) error {
	h, err := c.hold()
	if err != nil {
		return err
	}
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		placed, err := core.Retention.Place(ctx, o.ID, h)
		if err != nil {
			return err
		}
		r := rowOfHold(placed)
		return env.result(r, func(p *page) {
			p.linef("Placed %s. Nothing it covers is destroyed before \"sealpost hold lift %s\" ends it.", r.ID, r.ID)
		})
	})
}

type holdListCmd struct {
	orgFlag
	Lifted bool `help:"Also those that were lifted."`
}

// Run lists holds.
func (c holdListCmd) Run(ctx context.Context, env *environment) error {
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		all, err := core.Retention.Holds(ctx, o.ID, c.Lifted)
		if err != nil {
			return err
		}
		r := struct {
			Org   string    `json:"org"`
			Holds []holdRow `json:"holds"`
		}{o.Slug, []holdRow{}}
		for _, h := range all {
			r.Holds = append(r.Holds, rowOfHold(h))
		}
		return env.result(r, func(p *page) {
			if len(r.Holds) == 0 {
				p.linef("%s has no legal hold in effect.", r.Org)
				return
			}
			rows := [][]string{{"HOLD", "COVERS", "MATTER", "REASON", "BY", "PLACED", "LIFTED"}}
			for _, h := range r.Holds {
				rows = append(rows, []string{h.ID, h.covers(), h.Matter, h.Reason, h.By, when(h.PlacedAt, "-"), when(h.LiftedAt, "-")})
			}
			p.table(rows...)
		})
	})
}

type holdLiftCmd struct {
	orgFlag
	Hold   string `arg:"" help:"The hold: hld_…."`
	Reason string `required:"" placeholder:"TEXT" help:"Why it is lifted."`
	By     string `placeholder:"NAME" help:"Who lifts it. \"operator\" when left out."`
}

// Help says what follows.
func (holdLiftCmd) Help() string {
	return "What only this hold kept, and whose time is over, is destroyed by the next night's purge."
}

// Run lifts the hold.
func (c holdLiftCmd) Run(ctx context.Context, env *environment) error {
	hold, err := id.Parse(id.Hold, c.Hold)
	if err != nil {
		return usagef("A hold is named by hld_…, as \"sealpost hold list\" shows it.")
	}
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		if err := core.Retention.Lift(ctx, o.ID, hold, private.NewString(c.Reason), private.NewString(cmp.Or(c.By, byOperator))); err != nil {
			return err
		}
		r := struct {
			Hold   string `json:"hold"`
			Lifted bool   `json:"lifted"`
		}{c.Hold, true}
		return env.result(r, func(p *page) { p.linef("Lifted %s.", r.Hold) })
	})
}
