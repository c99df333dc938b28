package doctor

import (
	"context"
	"errors"
	"fmt"

	"github.com/sealpost/sealpost/internal/deliver/smtpclient"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/policy"
)

// Route is where mail for a domain's members goes on to, and what came of
// connecting to it as a delivery does.
type Route struct {
	Domain, Host string
	Grade        policy.Grade
	Failed       error // nil: it takes our mail
}

// routes tells which hosts take no mail for members: it waits here, and senders
// are asked to come again.
func (d Deps) routes(ctx context.Context) (found []Finding) {
	if d.Routes == nil {
		return nil
	}
	all, err := d.Routes(ctx)
	if err != nil {
		return warning("Try again when the database answers.", "It is not known where mail for members goes on to.")
	}
	for _, r := range all {
		if r.Failed == nil {
			found = append(found, good("Mail for members of %s goes on to %s, and the transport is %s.", r.Domain, r.Host, r.Grade)...)
			continue
		}
		why, fix := r.ailment()
		found = append(found, wrong(fix, "Mail for members of %s cannot go on to %s: %s.", r.Domain, r.Host, why)...)
	}
	return found
}

// ailment says why a host takes no mail of ours, and what to do.
func (r Route) ailment() (why, fix string) {
	var weak *smtpclient.WeakError
	var lost *smtpclient.ConnError
	var refused *smtpclient.RefusedError
	switch {
	case errors.As(r.Failed, &weak) && weak.Reason == smtpclient.WeakRouteFailed:
		return fmt.Sprintf("its certificate is not valid for that name (%s)", weak.Evidence.VerifyError),
			"Lead the route to the name that the host's certificate is for (\"sealpost domain route\"), or name the authority in network.ca_file."
	case errors.As(r.Failed, &weak):
		return "TLS is not good enough (" + weak.Reason + ")", "Let the host offer STARTTLS with TLS 1.2 or newer."
	case errors.As(r.Failed, &refused):
		return fmt.Sprintf("it refuses this machine (%d)", refused.Reply.Code), "Let the host take mail from this machine's address: see docs/mail-suites.md."
	case errors.As(r.Failed, &lost):
		return "it cannot be spoken to (" + lost.Word + ")", "See that the host runs, that its name has an address, and that this machine may connect to its port."
	}
	return "its address cannot be looked up (" + fault.From(r.Failed).Reason + ")", "Try again when the resolver answers."
}
