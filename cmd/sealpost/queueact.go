package main

import (
	"context"
	"errors"
	"time"

	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/spool"
)

// byOperator is who acts in ledger entries of these commands.
const byOperator = "operator"

type acted struct {
	Delivery string      `json:"delivery"`
	Domain   string      `json:"recipient_domain,omitempty"`
	State    spool.State `json:"state"` // now
	Done     bool        `json:"done"`
	Error    string      `json:"error,omitempty"`
}

type actedAll struct {
	Deliveries []acted `json:"deliveries"`
	Applied    bool    `json:"applied"`
}

type act func(tx *db.Tx, delivery id.ID, by string, at time.Time) error

// actOn does something to each delivery on its own; one that fails does not
// keep the others from it. Without an act it only looks.
func (e *environment) actOn(ctx context.Context, names []string, do act, human func(p *page, r actedAll)) error {
	ids := make([]id.ID, len(names))
	for i, name := range names {
		var err error
		if ids[i], err = deliveryID(name); err != nil {
			return err
		}
	}
	return e.withCore(ctx, func(core *app.Core) error {
		r := actedAll{Applied: do != nil}
		var failed error
		for i, delivery := range ids {
			one, err := actOnOne(ctx, core, delivery, do)
			one.Delivery = names[i]
			if err != nil {
				one.Error = fault.From(err).Text
				failed = errSaid
				e.sayf("%s: %v", names[i], err)
			}
			r.Deliveries = append(r.Deliveries, one)
		}
		return errors.Join(e.result(r, func(p *page) { human(p, r) }), failed)
	})
}

func actOnOne(ctx context.Context, core *app.Core, delivery id.ID, do act) (r acted, err error) {
	org, err := orgOf(ctx, core, delivery)
	if err != nil {
		return r, err
	}
	if do != nil {
		err = core.DB.WriteAlone(ctx, org, func(tx *db.Tx) error { return do(tx, delivery, byOperator, core.Clock.Now()) })
		r.Done = err == nil
	}
	look := core.DB.Read(ctx, org, func(tx *db.Tx) error {
		d, _, err := loadDelivery(tx, core.Custody, delivery)
		r.State, r.Domain = d.State, d.Recipient.Domain()
		return err
	})
	return r, errors.Join(err, look)
}

// toldDone writes a line for each delivery the act was done to.
func toldDone(text string) func(p *page, r actedAll) {
	return func(p *page, r actedAll) {
		for _, d := range r.Deliveries {
			if d.Done {
				p.linef("%s to %s %s.", d.Delivery, orDash(d.Domain), text)
			}
		}
	}
}

type queueHoldCmd struct {
	Delivery []string `arg:"" help:"Ids of deliveries."`
}

// Run holds.
func (c queueHoldCmd) Run(ctx context.Context, env *environment) error {
	return env.actOn(ctx, c.Delivery, spool.Hold, toldDone("is held until it is released"))
}

type queueReleaseCmd struct {
	Delivery []string `arg:"" help:"Ids of deliveries."`
}

// Help says what still binds.
func (queueReleaseCmd) Help() string {
	return "Before it goes, the policy decides once more, within what it allowed when the message was accepted. What it leaves no way to seal stays held."
}

// Run releases.
func (c queueReleaseCmd) Run(ctx context.Context, env *environment) error {
	return env.actOn(ctx, c.Delivery, spool.ReleaseHeld, toldDone("is released"))
}

type queueRetryCmd struct {
	Delivery []string `arg:"" help:"Ids of deliveries."`
}

// Run makes deliveries due.
func (c queueRetryCmd) Run(ctx context.Context, env *environment) error {
	return env.actOn(ctx, c.Delivery, spool.Retry, toldDone("is due now"))
}

type queueCancelCmd struct {
	Delivery []string `arg:"" help:"Ids of deliveries."`
	Apply    bool     `help:"Do it; without it, nothing is changed and you see what would happen."`
}

// Help says what can be taken back.
func (queueCancelCmd) Help() string {
	return "What is being sent this moment cannot be canceled. A delivery that waits in the portal is taken back: its link stops working."
}

// Run cancels, or shows what would be canceled.
func (c queueCancelCmd) Run(ctx context.Context, env *environment) error {
	if !c.Apply {
		return env.actOn(ctx, c.Delivery, nil, func(p *page, r actedAll) {
			some := false
			for _, d := range r.Deliveries {
				if d.Error == "" {
					p.linef("%s to %s is %s%s", d.Delivery, orDash(d.Domain), d.State, fateOf(d.State))
					some = some || !d.State.Settled() || d.State == spool.Waiting
				}
			}
			if some {
				p.linef("Nothing was changed. Run it again with --apply to do it; it cannot be undone.")
			}
		})
	}
	return env.actOn(ctx, c.Delivery, func(tx *db.Tx, delivery id.ID, by string, at time.Time) error {
		changed, err := spool.Cancel(tx, delivery, spool.ReasonOperator, by, at)
		if err == nil && !changed {
			err = fault.New(fault.Conflict, "wrong_state", "The delivery cannot be canceled: it is on its way this moment or settled.")
		}
		return err
	}, toldDone("is canceled"))
}

func fateOf(s spool.State) string {
	switch s {
	case spool.Sending:
		return " this moment and would not be canceled."
	case spool.Waiting:
		return " in the portal and would be taken back."
	}
	if s.Settled() {
		return " and stays as it is."
	}
	return " and would be canceled."
}
