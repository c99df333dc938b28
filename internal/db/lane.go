package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/private"
)

// A write waits in the queue until a lane takes it into a transaction.
type write struct {
	org   id.ID
	fn    func(*Tx) error
	alone bool
	done  chan error
}

// lane holds one connection and commits on it what queued up while its last
// commit was under way. There is no timer: waiting for more only costs.
type lane struct {
	d     *DB
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

func (l *lane) work() {
	defer l.d.lanes.Done()
	defer l.drop()
	for {
		var first *write
		select {
		case first = <-l.d.queue:
		case <-l.d.stop:
			select {
			case first = <-l.d.queue:
			default:
				return
			}
		}
		batch, alone := l.collect(first)
		l.commit(batch)
		if alone != nil {
			alone.done <- l.run([]*write{alone})
		}
	}
}

func (l *lane) collect(first *write) (batch []*write, alone *write) {
	if first.alone {
		return nil, first
	}
	batch = append(batch, first)
	for len(batch) < batchLimit {
		select {
		case w := <-l.d.queue:
			if w.alone {
				return batch, w
			}
			batch = append(batch, w)
		default:
			return batch, nil
		}
	}
	return batch, nil
}

func (l *lane) commit(batch []*write) {
	if len(batch) == 0 {
		return
	}
	err := l.run(batch)
	if err == nil || len(batch) == 1 {
		for _, w := range batch {
			w.done <- err
		}
		return
	}
	for _, w := range batch {
		w.done <- l.run([]*write{w})
	}
}

// run gives each write in turn the same transaction and commits it.
func (l *lane) run(batch []*write) (err error) {
	began := time.Now() // of the disk: wall time
	defer func() { l.d.figures.count(began, len(batch), err) }()
	ctx := context.Background()
	if err := l.begin(ctx); err != nil {
		return unavailable(err)
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a write panicked: %s\n%s", private.Panic(p), debug.Stack())
		}
		if err == nil {
			return
		}
		if _, rb := l.conn.ExecContext(ctx, "ROLLBACK"); rb != nil {
			l.drop() // a connection in an unknown state is not used again
		}
	}()
	t := &Tx{d: l.d, ctx: ctx, on: l}
	var set id.ID
	for i, w := range batch {
		t.org = w.org
		if l.d.Dialect == PostgreSQL && (i == 0 || set != w.org) {
			if _, err := t.Exec(setOrg, w.org.Text(id.Org)); err != nil {
				return unavailable(err)
			}
			set = w.org
		}
		if err := w.fn(t); err != nil {
			return classify(err)
		}
	}
	if _, err := l.conn.ExecContext(ctx, "COMMIT"); err != nil {
		return unavailable(err)
	}
	return nil
}

// begin opens a transaction, on a new connection if the last one died.
func (l *lane) begin(ctx context.Context) error {
	start := l.d.Pick("BEGIN IMMEDIATE", "BEGIN")
	if l.conn != nil {
		if _, err := l.conn.ExecContext(ctx, start); err == nil {
			return nil
		}
		l.drop()
	}
	conn, err := l.d.writer.Conn(ctx)
	if err != nil {
		return err
	}
	l.conn, l.stmts = conn, map[string]*sql.Stmt{}
	_, err = conn.ExecContext(ctx, start)
	return err
}

// drop closes the connection for good instead of giving it back to the pool.
func (l *lane) drop() {
	if l.conn == nil {
		return
	}
	for _, s := range l.stmts {
		_ = s.Close()
	}
	_ = l.conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = l.conn.Close()
	l.conn, l.stmts = nil, nil
}

// prepared gives the statement for a text, prepared once per connection.
func (l *lane) prepared(ctx context.Context, query string) (*sql.Stmt, error) {
	if s, ok := l.stmts[query]; ok {
		return s, nil
	}
	s, err := l.conn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	l.stmts[query] = s
	return s, nil
}

// ExecContext runs a prepared statement in the open transaction.
func (l *lane) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	s, err := l.prepared(ctx, query)
	if err != nil {
		return nil, err
	}
	return s.ExecContext(ctx, args...)
}

// QueryContext runs a prepared query in the open transaction.
func (l *lane) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	s, err := l.prepared(ctx, query)
	if err != nil {
		return nil, err
	}
	return s.QueryContext(ctx, args...)
}

// QueryRowContext runs a prepared query for one row in the open transaction.
func (l *lane) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	s, err := l.prepared(ctx, query)
	if err != nil {
		return l.conn.QueryRowContext(ctx, query, args...) // reports the error on Scan
	}
	return s.QueryRowContext(ctx, args...)
}

// enqueue hands a write to the lanes and waits for its commit.
func (d *DB) enqueue(ctx context.Context, w *write) error {
	if err := d.admit(ctx, w); err != nil {
		return err
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// admit puts a write into the queue unless the database is closing. The lock
// makes sure that nothing enters behind the last lane's back.
func (d *DB) admit(ctx context.Context, w *write) error {
	d.gate.RLock()
	defer d.gate.RUnlock()
	if d.closing {
		return fault.New(fault.Unavailable, "shutting_down", "The server is shutting down. Try again in a moment.")
	}
	select {
	case d.queue <- w:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
