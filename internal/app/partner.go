package app

import (
	"context"
	"time"

	"github.com/sealpost/sealpost/internal/deliver"
	"github.com/sealpost/sealpost/internal/deliver/smtpclient"
	"github.com/sealpost/sealpost/internal/id"
)

// probeTimeout is for a person who waits.
const probeTimeout = 15 * time.Second

// Probe connects to the mail hosts of a domain as deliveries of an
// organization do, and sends nothing.
func (c *Core) Probe(ctx context.Context, org id.ID, domain string) ([]deliver.Probed, error) {
	return deliver.Probe(ctx, deliver.Deps{
		Config: deliver.Config{SMTPPort: c.Config.Network.SMTPPort}, Posture: c.Posture, Partner: c.Partners.Terms, Clock: c.Clock,
		SMTP: smtpclient.Deps{RootCAs: c.Roots, Name: c.Config.Hostname, Clock: c.Clock, Timeouts: smtpclient.Timeouts{
			Connect: probeTimeout, Banner: probeTimeout, EHLO: probeTimeout, StartTLS: probeTimeout, TLS: probeTimeout}},
	}, org, domain)
}
