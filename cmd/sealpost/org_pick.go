package main

import (
	"context"
	"strings"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
)

// orgFlag names the organization a command is about.
type orgFlag struct {
	Org string `placeholder:"SLUG" help:"Short name of the organization. Can be left out when there is only one."`
}

// pick finds the organization, also one whose keys are destroyed if it is
// named.
func (f orgFlag) pick(ctx context.Context, core *app.Core) (account.Org, error) {
	if f.Org != "" {
		return core.Accounts.OrgBySlug(ctx, f.Org)
	}
	all, err := core.Accounts.Orgs(ctx)
	if err != nil {
		return account.Org{}, err
	}
	var alive []account.Org
	var slugs []string
	for _, o := range all {
		if o.DestroyedAt.IsZero() {
			alive, slugs = append(alive, o), append(slugs, o.Slug)
		}
	}
	switch {
	case len(alive) == 1:
		return alive[0], nil
	case len(all) == 0:
		return account.Org{}, fault.New(fault.NotFound, "no_org", "There is no organization yet. \"sealpost org create\" makes one.")
	case len(alive) == 0:
		return account.Org{}, usagef("All organizations are destroyed: name the one you mean with --org.")
	case len(alive) > 10:
		return account.Org{}, usagef("There are %d organizations: name one with --org. \"sealpost org list\" shows them.", len(alive))
	}
	return account.Org{}, usagef("There are several organizations: name one of %s with --org.", strings.Join(slugs, ", "))
}

// alive finds an organization that still has its keys.
func (f orgFlag) alive(ctx context.Context, core *app.Core) (account.Org, error) {
	o, err := f.pick(ctx, core)
	if err == nil && !o.DestroyedAt.IsZero() {
		err = fault.New(fault.Conflict, "org_destroyed", "This organization's keys are destroyed: it can do nothing any more.")
	}
	return o, err
}

// orSystem also takes "system", which facts about the installation belong to.
func (f orgFlag) orSystem(ctx context.Context, core *app.Core) (account.Org, error) {
	if f.Org == systemOrg {
		return account.Org{ID: db.System, Slug: systemOrg, Name: "the installation"}, nil
	}
	return f.pick(ctx, core)
}

const systemOrg = "system"

// withOrg is withCore for a command about one organization, which pick finds.
func (e *environment) withOrg(ctx context.Context, pick func(context.Context, *app.Core) (account.Org, error), fn func(*app.Core, account.Org) error) error {
	return e.withCore(ctx, func(core *app.Core) error {
		o, err := pick(ctx, core)
		if err != nil {
			return err
		}
		return fn(core, o)
	})
}
