package submit

import (
	"context"
	"slices"
	"time"

	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/spool"
)

// journal gives the delivery of the copy for the organization's archive, or
// none. It is decided on like any other, with two differences: what the sender
// asked for the recipients does not bind it, and it does not go to the portal,
// where an archive cannot fetch it. Whatever becomes of it, the message goes:
// an archive that refuses mail must not keep results from patients.
func (d *Door) journal(ctx context.Context, draft Draft, org *orgFacts, facts policy.Facts, now time.Time) ([]spool.Delivery, error) {
	to := org.journal
	if to.IsZero() || !outgoing(draft.Source) || draft.Sender.Normal() == to.Normal() || addressed(draft.Recipients, to) {
		return nil, nil // mail from and to the archive itself makes no circle
	}
	facts.Recipient, facts.Posture, facts.RequestSeal = to, d.Posture(ctx, to.Domain()), ""
	var err error
	if facts.Keys, err = d.Keys(ctx, draft.Principal.Org, to); err != nil {
		return nil, err
	}
	plan := policy.Decide(org.policy, facts)
	plan.Seals = slices.DeleteFunc(plan.Seals, func(s policy.Seal) bool { return s == policy.Portal })
	if plan.Forecast == policy.Portal {
		plan.Forecast = ""
		if len(plan.Seals) > 0 {
			plan.Forecast = plan.Seals[0]
		}
	}
	dl := spool.Delivery{ID: id.New(), Recipient: to, Plan: plan, Seal: plan.Forecast, State: spool.Ready, CreatedAt: now, Journal: true}
	switch {
	case plan.Refuse != "":
		dl.State, dl.Reason, dl.Seal = spool.Failed, spool.ReasonPolicyRefused, ""
	case len(plan.Seals) == 0:
		dl.State, dl.Reason, dl.Seal = spool.Failed, spool.ReasonNoPrivateChannel, ""
	case plan.Hold != "":
		dl.State, dl.Reason = spool.Held, spool.ReasonHeld
	}
	return []spool.Delivery{dl}, nil
}

// outgoing tells what the organization sends from what it receives.
func outgoing(source string) bool {
	return source == spool.FromAPI || source == spool.FromSMTP || source == spool.FromRelay
}

func addressed(all []mail.Address, to mail.Address) bool {
	return slices.ContainsFunc(all, func(a mail.Address) bool { return a.Normal() == to.Normal() })
}
