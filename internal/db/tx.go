package db

import (
	"context"
	"database/sql"
	"errors"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
)

// runner is what both a connection inside a transaction and a *sql.Tx can do.
type runner interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Tx is a transaction that acts for one organization. It is valid only inside
// the function it was handed to.
type Tx struct {
	d   *DB
	ctx context.Context
	on  runner
	org id.ID
}

// Org is the organization the transaction acts for.
func (t *Tx) Org() id.ID { return t.org }

// Pick gives the text of this engine, where the two must differ.
func (t *Tx) Pick(sqlite, postgres string) string { return t.d.Pick(sqlite, postgres) }

// Exec runs a statement and gives the number of rows it touched.
func (t *Tx) Exec(query string, args ...any) (int64, error) {
	res, err := t.on.ExecContext(t.ctx, t.d.text(query), args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// Query runs a query. The caller closes the rows.
func (t *Tx) Query(query string, args ...any) (*sql.Rows, error) {
	return t.on.QueryContext(t.ctx, t.d.text(query), args...)
}

// Row is one row that a query gave.
type Row interface{ Scan(dest ...any) error }

// All runs a query and reads every row of its result with scan.
func All[T any](t *Tx, scan func(Row) (T, error), query string, args ...any) ([]T, error) {
	rows, err := t.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// Value reads a row of one column, for All.
func Value[T any](row Row) (v T, err error) {
	err = row.Scan(&v)
	return v, err
}

// Row runs a query for one row.
func (t *Tx) Row(query string, args ...any) *sql.Row {
	return t.on.QueryRowContext(t.ctx, t.d.text(query), args...)
}

// Now is the database's own time in microseconds. Leases are kept in it, so
// that nodes with differing clocks agree.
func (t *Tx) Now() (int64, error) {
	var us int64
	err := t.Row(t.Pick(
		"SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
		"SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
	)).Scan(&us)
	return us, err
}

const setOrg = "SELECT set_config('app.org', ?, true)"

// Read runs fn on a consistent snapshot that it cannot change.
func (d *DB) Read(ctx context.Context, org id.ID, fn func(*Tx) error) error {
	tx, err := d.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: d.Dialect == PostgreSQL})
	if err != nil {
		return unavailable(err)
	}
	defer func() { _ = tx.Rollback() }()
	t := &Tx{d: d, ctx: ctx, on: tx, org: org}
	if d.Dialect == SQLite {
		t.on = reading{tx, d.queries}
	} else {
		if _, err := t.Exec(setOrg, org.Text(id.Org)); err != nil {
			return unavailable(err)
		}
	}
	return classify(fn(t))
}

// Write runs fn in a transaction that other writes may share, and returns when
// it is committed. fn may run twice, so everything it leaves behind outside
// the transaction must be safe to overwrite. When ctx ends first, the write
// goes on and its outcome is unknown to the caller.
func (d *DB) Write(ctx context.Context, org id.ID, fn func(*Tx) error) error {
	return d.enqueue(ctx, &write{org: org, fn: fn, done: make(chan error, 1)})
}

// WriteAlone is Write in a transaction of its own: for long or rare work.
func (d *DB) WriteAlone(ctx context.Context, org id.ID, fn func(*Tx) error) error {
	return d.enqueue(ctx, &write{org: org, fn: fn, alone: true, done: make(chan error, 1)})
}

// classify marks what failed for want of a database, a disk or a connection:
// the caller may try the same again later. Other errors pass unchanged.
func classify(err error) error {
	var known *fault.Fault
	if err == nil || errors.As(err, &known) {
		return err
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		switch lite.Code() & 0xff { // primary result code
		case 5, 6, 8, 10, 13, 14: // BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN
			return unavailable(err)
		}
		return err
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code[:2] {
		case "08", "40", "53", "55", "57", "58", "XX": // connection, deadlock, resources, locks, operator, system
			return unavailable(err)
		}
		switch pg.Code {
		case "25006", "25P03", "25P04": // read-only, as a standby is or a service whose disk is full; too slow
			return unavailable(err)
		}
		return err
	}
	var dead net.Error
	if errors.As(err, &dead) || pgconn.SafeToRetry(err) || errors.Is(err, sql.ErrConnDone) {
		return unavailable(err)
	}
	return err
}

func unavailable(err error) error {
	return fault.New(fault.Unavailable, "database_unavailable",
		"The database cannot take this now. Nothing was stored; try again later.").Because(err)
}
