package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/db"
)

// migrateCmd changes the schema.
type migrateCmd struct {
	Apply bool `help:"Make the changes; without it, nothing is changed and you see which are needed."`
}

// Help says when it is needed.
func (migrateCmd) Help() string {
	return "On PostgreSQL, run it once with each new version, before the nodes start; nodes of the version before keep working. " +
		"SQLite is also brought up to date by every command that opens it.\n\nExamples:\n\n" +
		"  $ sealpost migrate            # says what would be done\n  $ sealpost migrate --apply"
}

type migrateResult struct {
	Database string `json:"database"`
	Have     int64  `json:"have"` // schema before; 0 for none
	Want     int64  `json:"want"`
	Applied  int    `json:"applied"`
	Pending  bool   `json:"pending"` // something is still to be done
}

// Run migrates, or says what migrating would do.
func (c migrateCmd) Run(ctx context.Context, env *environment) (err error) {
	cfg, err := env.load()
	if err != nil {
		return err
	}
	if c.Apply && cfg.Database.URL.Empty() {
		if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
			return fmt.Errorf("make the data folder: %w", err)
		}
	}
	r, d, err := c.look(ctx, cfg)
	if err != nil {
		return err
	}
	if d != nil {
		defer func() { err = errors.Join(err, d.Close()) }()
	}
	r.Pending = r.Have < r.Want
	if c.Apply && r.Pending {
		if r.Applied, err = d.Migrate(ctx); err != nil {
			return err
		}
		r.Pending = false
	}
	return env.result(r, r.tell)
}

func (r migrateResult) tell(p *page) {
	switch {
	case r.Applied > 0:
		p.linef("The %s database is at schema %d now; it was at %d.", r.Database, r.Want, r.Have)
	case r.Have > r.Want:
		p.linef("The %s database is at schema %d, which is newer than this version (%d) knows. Use a newer version of Sealpost.", r.Database, r.Have, r.Want)
	case r.Pending:
		p.linef("The %s database is at schema %d and would be brought to %d.\nNothing was changed. Run \"sealpost migrate --apply\" to do it.", r.Database, r.Have, r.Want)
	default:
		p.linef("The %s database is at schema %d, as this version needs it. There is nothing to do.", r.Database, r.Have)
	}
}

// look opens the database without changing its schema. A SQLite file that is
// not there is not made by a rehearsal: then there is no database.
func (c migrateCmd) look(ctx context.Context, cfg *config.Config) (migrateResult, *db.DB, error) {
	opts := db.Options{URL: cfg.Database.URL.Reveal()}
	r := migrateResult{Database: db.PostgreSQL.String()}
	if opts.URL == "" {
		opts.Path, r.Database = filepath.Join(cfg.DataDir, "sealpost.db"), db.SQLite.String()
		if _, err := os.Stat(opts.Path); errors.Is(err, fs.ErrNotExist) && !c.Apply {
			want, err := newestSchema(ctx)
			r.Want = want
			return r, nil, err
		}
	}
	d, err := db.Open(ctx, opts)
	if err != nil {
		return r, nil, err
	}
	if r.Have, r.Want, err = d.SchemaVersions(ctx); err != nil {
		return r, nil, errors.Join(err, d.Close())
	}
	return r, d, nil
}

// newestSchema asks a database that is thrown away.
func newestSchema(ctx context.Context) (want int64, err error) {
	dir, err := os.MkdirTemp("", "sealpost-migrate-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	d, err := db.Open(ctx, db.Options{Path: filepath.Join(dir, "empty.db")})
	if err != nil {
		return 0, err
	}
	_, want, err = d.SchemaVersions(ctx)
	return want, errors.Join(err, d.Close())
}
