package db

import (
	"context"
	"database/sql"
	"sync"
)

// reading runs the queries of a reading transaction on SQLite by statements
// that were prepared before: to parse a query takes longer than to look a row
// up. PostgreSQL's driver does this itself.
type reading struct {
	*sql.Tx
	all *statements
}

func (r reading) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if s := r.all.get(query); s != nil {
		return r.StmtContext(ctx, s).QueryContext(ctx, args...)
	}
	return r.Tx.QueryContext(ctx, query, args...)
}

func (r reading) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if s := r.all.get(query); s != nil {
		return r.StmtContext(ctx, s).QueryRowContext(ctx, args...)
	}
	return r.Tx.QueryRowContext(ctx, query, args...)
}

// statementsMost is more than the texts there are. Some texts grow with their
// number of arguments.
const statementsMost = 500

// statements remembers prepared queries.
type statements struct {
	pool *sql.DB
	work sync.WaitGroup

	mu     sync.Mutex
	byText map[string]*sql.Stmt // nil while it is prepared
	closed bool
}

func newStatements(pool *sql.DB) *statements {
	return &statements{pool: pool, byText: map[string]*sql.Stmt{}}
}

// get gives the statement of a text, or nil while there is none. It is prepared
// behind the caller's back: who prepared it here would need a second connection
// while holding one, and so could everybody.
func (s *statements) get(query string) *sql.Stmt {
	s.mu.Lock()
	defer s.mu.Unlock()
	stmt, known := s.byText[query]
	if known || s.closed || len(s.byText) >= statementsMost {
		return stmt
	}
	s.byText[query] = nil
	s.work.Go(func() {
		stmt, err := s.pool.Prepare(query)
		s.mu.Lock()
		defer s.mu.Unlock()
		if err != nil { // whoever runs it unprepared is told
			delete(s.byText, query)
			return
		}
		s.byText[query] = stmt
	})
	return nil
}

// close waits for what is being prepared. The pool closes the statements.
func (s *statements) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.work.Wait()
}
