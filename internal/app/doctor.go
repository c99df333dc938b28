package app

import (
	"context"
	"errors"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/doctor"
	"github.com/sealpost/sealpost/internal/job"
	"github.com/sealpost/sealpost/internal/resolve"
	"github.com/sealpost/sealpost/internal/zone"
)

// Examine looks at the installation of a configuration and at what it stands
// on. mx is a domain whose mail host is tried, or empty.
func Examine(ctx context.Context, cfg *config.Config, mx string) ([]doctor.Finding, error) {
	d := doctor.Deps{Config: cfg, Clock: clock.System{}, MX: mx, Disk: doctor.DiskOf, Steered: doctor.SteeredClock, Files: doctor.OpenFiles}
	var servers []string
	if cfg.Network.Resolver != "" {
		servers = []string{cfg.Network.Resolver}
	}
	var err error
	if d.Resolver, err = resolve.New(resolve.Deps{Servers: servers, Trusted: cfg.Network.DNSSEC}); err != nil {
		return nil, err
	}
	if d.Roots, err = loadRoots(cfg.Network.CAFile, "network.ca_file"); err != nil {
		return nil, err
	}
	core, err := Open(ctx, cfg, Options{})
	if err != nil {
		d.Failed = err
		return doctor.Examine(ctx, d), nil
	}
	d.DB, d.Domains, d.Routes = core.DB, core.reported, core.triedRoutes
	d.Jobs = func(ctx context.Context) ([]job.Standing, error) { return job.Leased(ctx, core.DB) }
	if core.ACME != nil {
		d.Obtained = core.ACME.Held
	}
	found := doctor.Examine(ctx, d)
	return found, errors.Join(ctx.Err(), core.Close())
}

// reported gives what was last found in the DNS of all sender domains.
func (c *Core) reported(ctx context.Context) (all []zone.Report, err error) {
	orgs, err := c.Accounts.Orgs(ctx)
	if err != nil {
		return nil, err
	}
	for _, o := range orgs {
		if !o.DestroyedAt.IsZero() {
			continue
		}
		found, err := c.Zone.Stored(ctx, o.ID)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}
