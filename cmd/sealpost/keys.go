package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
)

// keysCmd looks after the keys of the installation.
type keysCmd struct {
	Init         keysInitCmd         `cmd:"" help:"Make the master key. It is never overwritten."`
	List         keysListCmd         `cmd:"" aliases:"status" help:"List the keys, without their secrets."`
	AddMaster    keysAddMasterCmd    `cmd:"" help:"Put a new master key in front of the old ones."`
	RotateMaster keysRotateMasterCmd `cmd:"" help:"Wrap every key again under the newest master key."`
	RotateOrg    keysRotateOrgCmd    `cmd:"" help:"Give an organization a new key."`
}

// Help draws the hierarchy.
func (keysCmd) Help() string {
	return "The master key wraps one key per organization, which wraps one data key per message, which encrypts it. " +
		"Rotation wraps again and never touches a message. Keep a copy of the master key file apart from the database: without it nothing can be read."
}

// keyFact is the clear part of a key's ledger entries.
type keyFact struct {
	Kind      custody.Kind `json:"kind"`
	Key       string       `json:"key,omitempty"` // id of a master key
	Version   int          `json:"version,omitempty"`
	Versions  []int        `json:"versions,omitempty"`
	Rewrapped int          `json:"rewrapped,omitempty"`
	Removed   []int        `json:"removed,omitempty"`
}

// kindMaster stands in facts beside the kinds of the key store.
const kindMaster custody.Kind = "master"

// record writes what was done to a key into the ledger of org.
func record(ctx context.Context, core *app.Core, org id.ID, t ledger.Type, f keyFact) error {
	err := core.DB.WriteAlone(ctx, org, func(tx *db.Tx) error {
		return ledger.Append(tx, ledger.Fact{Type: t, At: core.Clock.Now(), Data: f})
	})
	if err != nil {
		return fmt.Errorf("it is done, but could not be recorded in the ledger: %w", err)
	}
	return nil
}

type keysInitCmd struct{}

// Help says where the key goes.
func (keysInitCmd) Help() string {
	return "The file is keys.master_file of the configuration, with mode 0600. The database must be migrated first."
}

// Run makes the master key and everything that is made on first use.
func (keysInitCmd) Run(ctx context.Context, env *environment) error {
	cfg, err := env.load()
	if err != nil {
		return err
	}
	d, err := app.OpenDatabase(ctx, cfg)
	if err != nil {
		return err
	}
	if err := d.Close(); err != nil {
		return err
	}
	if err := refuseOtherMaster(cfg.Keys); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(cfg.Keys.MasterFile), 0o700); err != nil {
		return fmt.Errorf("make the folder of the master key: %w", err)
	}
	key, err := custody.InitMaster(cfg.Keys.MasterFile)
	if err != nil {
		return err
	}
	core, err := app.Open(ctx, cfg, app.Options{})
	if err != nil {
		return err
	}
	if err := errors.Join(record(ctx, core, db.System, ledger.KeyCreated, keyFact{Kind: kindMaster, Key: key}), core.Close()); err != nil {
		return err
	}
	return env.result(struct {
		MasterKey string `json:"master_key"`
		File      string `json:"file"`
	}{key, cfg.Keys.MasterFile}, func(p *page) {
		p.linef("Made the master key %s in %s.", key, cfg.Keys.MasterFile)
		p.linef("Keep a copy of this file apart from backups of the database: without it nothing can be read, and with both everything can.")
	})
}

// refuseOtherMaster keeps a lost master key from being answered with a new
// one, which could open nothing.
func refuseOtherMaster(files config.Keys) error {
	if _, err := os.Stat(files.MasterFile); err == nil {
		return nil // InitMaster has its own words for that
	}
	if _, err := os.Stat(files.Dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	store, err := custody.OpenFolder(files.Dir)
	if err != nil {
		return err
	}
	keys, err := store.All()
	if err != nil || len(keys) == 0 {
		return err
	}
	return fault.Newf(fault.Conflict, "keys_exist",
		"There are keys already, wrapped by master key %s. Put the file with that key back to keys.master_file; a new one could not open them.", keys[0].MasterID)
}

type keysListCmd struct{}

type keyRow struct {
	Kind      custody.Kind `json:"kind"`
	Org       string       `json:"org,omitempty"`
	OrgID     string       `json:"org_id,omitempty"`
	Version   int          `json:"version,omitempty"`
	Name      string       `json:"name,omitempty"`
	MasterKey string       `json:"master_key"`
	CreatedAt time.Time    `json:"created_at"`
	Rotating  bool         `json:"rotating,omitempty"`
}

type destroyedRow struct {
	Org         string    `json:"org,omitempty"`
	OrgID       string    `json:"org_id"`
	Versions    []int     `json:"versions"`
	DestroyedAt time.Time `json:"destroyed_at"`
}

type keysResult struct {
	MasterKey string         `json:"master_key"`
	Keys      []keyRow       `json:"keys"`
	Destroyed []destroyedRow `json:"destroyed"`
}

// Run lists the keys.
func (keysListCmd) Run(ctx context.Context, env *environment) error {
	return env.withCore(ctx, func(core *app.Core) error {
		slugs, err := slugsByID(ctx, core)
		if err != nil {
			return err
		}
		s, err := core.Custody.Status()
		if err != nil {
			return err
		}
		r := keysResult{MasterKey: s.MasterID, Keys: []keyRow{}, Destroyed: []destroyedRow{}}
		for _, k := range s.Keys {
			row := keyRow{Kind: k.Kind, Version: k.Version, Name: k.Name, MasterKey: k.MasterID, CreatedAt: k.CreatedAt, Rotating: k.Rotating}
			if k.Kind != custody.KindSigning {
				row.Org, row.OrgID = slugs[k.Org], k.Org.Text(id.Org)
			}
			r.Keys = append(r.Keys, row)
		}
		for _, t := range s.Destroyed {
			r.Destroyed = append(r.Destroyed, destroyedRow{slugs[t.Org], t.Org.Text(id.Org), t.Versions, t.At})
		}
		return env.result(r, r.tell)
	})
}

func (r keysResult) tell(p *page) {
	p.linef("New keys are wrapped by master key %s.\n", r.MasterKey)
	rows := [][]string{{"KIND", "OF", "VERSION", "WRAPPED BY", "CREATED", ""}}
	for _, k := range r.Keys {
		of, version, note := cmp.Or(k.Org, k.OrgID), "-", ""
		if k.Kind == custody.KindSigning {
			of = k.Name
		}
		if k.Version > 0 {
			version = strconv.Itoa(k.Version)
		}
		if k.Rotating {
			note = "rotation under way"
		}
		rows = append(rows, []string{string(k.Kind), of, version, k.MasterKey, when(k.CreatedAt, "-"), note})
	}
	p.table(rows...)
	for _, d := range r.Destroyed {
		p.linef("The keys of %s were destroyed at %s.", cmp.Or(d.Org, d.OrgID), when(d.DestroyedAt, "-"))
	}
}

func slugsByID(ctx context.Context, core *app.Core) (map[id.ID]string, error) {
	all, err := core.Accounts.Orgs(ctx)
	if err != nil {
		return nil, err
	}
	slugs := map[id.ID]string{db.System: systemOrg}
	for _, o := range all {
		slugs[o.ID] = o.Slug
	}
	return slugs, nil
}
