package submit

import (
	"context"

	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/spool"
)

// suppress ends deliveries to addresses that nothing is sent to. They are
// accepted all the same: the sender sees which ones, and why.
func (d *Door) suppress(ctx context.Context, org id.ID, ask spool.Lane, all []spool.Delivery) error {
	if d.Suppressed == nil {
		return nil
	}
	recipients := make([]mail.Address, len(all))
	for i := range all {
		recipients[i] = all[i].Recipient
	}
	found, err := d.Suppressed(ctx, org, recipients)
	if err != nil {
		return err
	}
	for i, s := range found {
		dl := &all[i]
		reason := s.All
		if reason == "" && (ask.Stream() == spool.Bulk || dl.Plan.Purpose == policy.Marketing) {
			reason = s.Bulk
		}
		if reason != "" && dl.State != spool.Failed {
			dl.State, dl.Reason, dl.Seal = spool.Suppressed, reason, ""
		}
	}
	return nil
}
