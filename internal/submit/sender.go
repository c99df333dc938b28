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
	if !p.May(auth.Send) {
		return fault.New(fault.Denied, "scope_missing", "This key may not send messages.")
	}
	org, err := d.orgs.get(ctx, d, p.Org)
	if err != nil {
		return err
	}
	if org.destroyed {
		return fault.New(fault.Denied, "org_destroyed", "This organization's keys are destroyed; it can send nothing.")
	}
	if !sender.IsZero() && !org.domains[sender.Domain()] {
		return notOurs
	}
	return nil
}
