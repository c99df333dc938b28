package db

import (
	"context"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/sealpost/sealpost/internal/fault"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrate brings the schema up to this version. Migrations only go forward and
// each leaves a schema that nodes of the last version can still work with. On
// PostgreSQL a session lock keeps two of these apart.
func (d *DB) Migrate(ctx context.Context) (applied int, err error) {
	p, err := d.provider()
	if err != nil {
		return 0, err
	}
	results, err := p.Up(ctx)
	if err != nil {
		return len(results), fmt.Errorf("migrate the database: %w", err)
	}
	return len(results), nil
}

// CheckSchema refuses a database whose schema this version does not know.
func (d *DB) CheckSchema(ctx context.Context) error {
	p, err := d.provider()
	if err != nil {
		return err
	}
	have, want, err := p.GetVersions(ctx)
	if err != nil {
		return unavailable(err)
	}
	switch {
	case have < want:
		return fault.Newf(fault.Invalid, "schema_behind",
			"The database has schema %d and this version needs %d. Run \"sealpost migrate --apply\" and start again.", have, want)
	case have > want:
		return fault.Newf(fault.Invalid, "schema_ahead",
			"The database has schema %d and this version knows only %d. Start a newer version of Sealpost.", have, want)
	}
	return nil
}

// SchemaVersions tells the version of the database and the newest one known.
func (d *DB) SchemaVersions(ctx context.Context) (have, want int64, err error) {
	p, err := d.provider()
	if err != nil {
		return 0, 0, err
	}
	return p.GetVersions(ctx)
}

func (d *DB) provider() (*goose.Provider, error) {
	files, err := d.migrationFiles()
	if err != nil {
		return nil, err
	}
	dialect := goose.DialectSQLite3
	opts := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	if d.Dialect == PostgreSQL {
		dialect = goose.DialectPostgres
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return nil, err
		}
		opts = append(opts, goose.WithSessionLocker(locker))
	}
	return goose.NewProvider(dialect, d.writer, files, opts...)
}

// migrationFiles gives the migrations in this engine's words: the two differ
// only in how bytes, a counting primary key and a table without a second tree
// for its rows are written, and in that PostgreSQL has others writing meanwhile:
// "-- EXCLUSIVE table;" locks a table that is made anew.
func (d *DB) migrationFiles() (fs.FS, error) {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return translated{sub, strings.NewReplacer(
		"BYTEA", d.Pick("BLOB", "BYTEA"),
		") CLUSTERED", d.Pick(") WITHOUT ROWID", ")"),
		"-- EXCLUSIVE ", d.Pick("-- ", "LOCK TABLE "),
		"SEQUENCE KEY", d.Pick("INTEGER PRIMARY KEY AUTOINCREMENT", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
	)}, nil
}

// translated is a file system whose files read as words replaces them.
type translated struct {
	fs.FS
	words *strings.Replacer
}

type translatedFile struct {
	fs.File
	text *strings.Reader
}

func (f translatedFile) Read(p []byte) (int, error) { return f.text.Read(p) }

// Open translates a file; folders pass unchanged.
func (t translated) Open(name string) (fs.File, error) {
	f, err := t.FS.Open(name)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || info.IsDir() {
		return f, err
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	return translatedFile{f, strings.NewReader(t.words.Replace(string(b)))}, nil
}
