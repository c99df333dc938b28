package submit

import (
	"context"

	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/mail"
)

// CheckSender refuses a principal and an envelope sender that Accept would
// refuse, so that SMTP can say so before a message is sent over. Accept checks
// again.
func (d *Door) CheckSender(ctx context.Context, p auth.Principal, sender mail.Address) error {
	org, err := d.orgOf(ctx, p)
	if err != nil {
		return err
	}
	return org.checkSender(sender)
}

// orgOf gives the organization that a principal may send for.
func (d *Door) orgOf(ctx context.Context, p auth.Principal) (*orgFacts, error) {
	if !p.May(auth.Send) {
		return nil, fault.New(fault.Denied, "scope_missing", "This key may not send messages. Use one with the scope messages:send.")
	}
	org, err := d.orgs.get(ctx, d, p.Org)
	if err != nil {
		return nil, err
	}
	if org.destroyed {
		return nil, fault.New(fault.Denied, "org_destroyed", "This organization's keys are destroyed; it can send nothing.")
	}
	return org, nil
}

var notOurs = fault.New(fault.Denied, "sender_not_verified",
	"The sender's domain is not a verified domain of your organization. \"sealpost domain add\" and \"sealpost domain verify\" make it one.").At("/from")

// checkSender refuses an envelope sender elsewhere; the null sender may pass.
func (o *orgFacts) checkSender(sender mail.Address) error {
	if !sender.IsZero() && !o.domains[sender.Domain()] {
		return notOurs
	}
	return nil
}
