package main

import (
	"context"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
)

type keysAddMasterCmd struct{}

// Help says what comes next.
func (keysAddMasterCmd) Help() string {
	return "The new key protects what is made from now on. \"sealpost keys rotate-master --apply\" then takes the older keys out of use. " +
		"Nodes on other machines need the new file before that."
}

// Run adds a master key.
func (keysAddMasterCmd) Run(ctx context.Context, env *environment) error {
	return env.withCore(ctx, func(core *app.Core) error {
		key, err := custody.AddMaster(core.Config.Keys.MasterFile)
		if err != nil {
			return err
		}
		if err := record(ctx, core, db.System, ledger.KeyCreated, keyFact{Kind: kindMaster, Key: key}); err != nil {
			return err
		}
		return env.result(struct {
			MasterKey string `json:"master_key"`
			File      string `json:"file"`
		}{key, core.Config.Keys.MasterFile}, func(p *page) {
			p.linef("Added the master key %s on top of %s. The older ones are still needed.", key, core.Config.Keys.MasterFile)
			p.linef("Copy the file to every node and to its safe place, then run \"sealpost keys rotate-master --apply\".")
		})
	})
}

type keysRotateMasterCmd struct {
	Apply bool `help:"Do it; without it, nothing is changed and you see what would be done."`
}

// Help says what it does not do.
func (keysRotateMasterCmd) Help() string {
	return "No message is touched: only the keys of the key store are wrapped again. Nodes may serve meanwhile.\n\nExamples:\n\n" +
		"  $ sealpost keys add-master\n  $ sealpost keys rotate-master\n  $ sealpost keys rotate-master --apply"
}

type rotateMasterResult struct {
	MasterKey string   `json:"master_key"`
	Others    []string `json:"other_master_keys"` // that keys were wrapped by before
	Keys      int      `json:"keys"`              // wrapped by others before
	Rewrapped int      `json:"rewrapped"`
	Applied   bool     `json:"applied"`
}

// Run wraps all keys again, or says how many it would.
func (c keysRotateMasterCmd) Run(ctx context.Context, env *environment) error {
	return env.withCore(ctx, func(core *app.Core) error {
		s, err := core.Custody.Status()
		if err != nil {
			return err
		}
		r := rotateMasterResult{MasterKey: s.MasterID, Others: []string{}, Applied: c.Apply}
		seen := map[string]bool{s.MasterID: true}
		for _, k := range s.Keys {
			if k.MasterID != s.MasterID {
				r.Keys++
			}
			if !seen[k.MasterID] {
				seen[k.MasterID] = true
				r.Others = append(r.Others, k.MasterID)
			}
		}
		if c.Apply && r.Keys > 0 {
			if r.Rewrapped, err = core.Custody.RotateMaster(ctx); err != nil {
				return err
			}
			fact := keyFact{Kind: kindMaster, Key: s.MasterID, Rewrapped: r.Rewrapped}
			if err := record(ctx, core, db.System, ledger.KeyRotated, fact); err != nil {
				return err
			}
		}
		return env.result(r, r.tell)
	})
}

func (r rotateMasterResult) tell(p *page) {
	switch {
	case r.Keys == 0:
		p.linef("All keys are wrapped by the newest master key %s. There is nothing to do; \"sealpost keys add-master\" makes a newer one.", r.MasterKey)
	case r.Applied:
		p.linef("%s now wrapped by master key %s.", count(r.Rewrapped, "key is", "keys are"), r.MasterKey)
		for _, other := range r.Others {
			p.linef("Master key %s may leave the file. Keep a copy for as long as you keep backups of the key store that need it.", other)
		}
	default:
		p.linef("%s wrapped by older master keys and would be wrapped again by %s.", count(r.Keys, "key is", "keys are"), r.MasterKey)
		p.linef("Nothing was changed. Run \"sealpost keys rotate-master --apply\" to do it.")
	}
}

type keysRotateOrgCmd struct {
	orgFlag
	Apply bool `help:"Do it; without it, nothing is changed and you see what would be done."`
}

// Help says what becomes of backups.
func (keysRotateOrgCmd) Help() string {
	return "The organization gets a new key and its data keys are wrapped again. No message is touched and nodes may serve meanwhile. " +
		"The old key stays in the key store for about three months, so that backups of the database made before can be read; the first rotation after that removes it. " +
		"\"--org system\" rotates the installation's own key.\n\nExample:\n\n" +
		"  $ sealpost keys rotate-org --org clinic --apply"
}

type rotateOrgResult struct {
	Org        string `json:"org"`
	Version    int    `json:"version"` // the newest, before or after
	Rewrapped  int    `json:"rewrapped"`
	Removed    []int  `json:"removed"`
	Unreadable int    `json:"unreadable,omitempty"`
	Applied    bool   `json:"applied"`
}

// Run rotates one organization's key.
func (c keysRotateOrgCmd) Run(ctx context.Context, env *environment) error {
	return env.withOrg(ctx, c.orSystem, func(core *app.Core, o account.Org) error {
		if !o.DestroyedAt.IsZero() {
			return custody.ErrDestroyed
		}
		r := rotateOrgResult{Org: o.Slug, Removed: []int{}, Applied: c.Apply}
		if !c.Apply {
			newest, err := newestVersion(core, o.ID)
			if err != nil {
				return err
			}
			r.Version = newest
			return env.result(r, r.tell)
		}
		done, err := core.Custody.RotateOrg(ctx, o.ID)
		if err != nil {
			return err
		}
		r.Version, r.Rewrapped, r.Unreadable = done.Version, done.Rewrapped, done.Unreadable
		r.Removed = append(r.Removed, done.Removed...)
		fact := keyFact{Kind: custody.KindOrg, Version: done.Version, Rewrapped: done.Rewrapped, Removed: done.Removed}
		if err := record(ctx, core, o.ID, ledger.KeyRotated, fact); err != nil {
			return err
		}
		return env.result(r, r.tell)
	})
}

func newestVersion(core *app.Core, org id.ID) (newest int, err error) {
	s, err := core.Custody.Status()
	if err != nil {
		return 0, err
	}
	for _, k := range s.Keys {
		if k.Kind == custody.KindOrg && k.Org == org {
			newest = max(newest, k.Version)
		}
	}
	return newest, nil
}

func (r rotateOrgResult) tell(p *page) {
	if !r.Applied {
		p.linef("The key of %s is at version %d. A new version would be made and its data keys wrapped again.", r.Org, r.Version)
		p.linef("Nothing was changed. Run it again with --apply to do it.")
		return
	}
	p.linef("The key of %s is at version %d now; %s wrapped again.", r.Org, r.Version, count(r.Rewrapped, "data key was", "data keys were"))
	if len(r.Removed) > 0 {
		p.linef("%s of it left the key store: backups of the database from that time cannot be read any more.", count(len(r.Removed), "old version", "old versions"))
	}
	if r.Unreadable > 0 {
		p.linef("%s of versions that were gone before and cannot be read.", count(r.Unreadable, "data key is", "data keys are"))
	}
}
