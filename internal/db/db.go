// Package db opens the database, SQLite or PostgreSQL, and runs transactions
// for one organization at a time.
//
// One SQL text serves both engines: parameters are written as ? and rebound
// for PostgreSQL; columns are TEXT, BIGINT and BYTEA only. Where the engines
// must differ, Pick puts the two texts side by side at the place of use.
//
// Invariants:
//   - Write returns nil only after the commit is on disk: SQLite runs in WAL
//     mode with synchronous=FULL, and PostgreSQL with fsync or
//     synchronous_commit off is refused.
//   - Writes that arrive together share one transaction and its fsync (group
//     commit). If anything in such a batch fails, the batch is rolled back and
//     its items run again one by one, so that one bad item fails alone.
//   - A caller who goes away does not cancel its write.
//   - Every transaction names its organization; on PostgreSQL the setting
//     app.org carries it, so that row-level security can stand behind it.
package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver named "pgx"
	_ "modernc.org/sqlite"             // the driver named "sqlite"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
)

// Dialect is the engine behind a DB.
type Dialect int

// The engines.
const (
	SQLite Dialect = iota
	PostgreSQL
)

func (d Dialect) String() string {
	if d == PostgreSQL {
		return "PostgreSQL"
	}
	return "SQLite"
}

// System is the organization that facts about the installation belong to.
var System id.ID

// Options say which database to open: URL for PostgreSQL, else Path for SQLite.
type Options struct {
	Path string
	URL  string
	// MaxPages bounds the SQLite file (PRAGMA max_page_count); 0 means no bound.
	MaxPages int
}

// DB is an open database.
type DB struct {
	Dialect Dialect

	writer *sql.DB
	reader *sql.DB
	queue  chan *write
	lanes  sync.WaitGroup
	stop   chan struct{}

	gate    sync.RWMutex // held for writing only to close
	closing bool

	figures figures
	queries *statements // of readers, on SQLite
	texts   sync.Map    // SQL with ? → SQL of this engine
}

const (
	postgresLanes = 4   // transactions that PostgreSQL commits side by side
	batchLimit    = 200 // writes in one transaction
	queueLimit    = 4096

	writerCache = "cache_size(-48000)" // KiB
	readerCache = "cache_size(-4000)"
)

// Open connects and checks that the engine keeps what it acknowledges.
func Open(ctx context.Context, o Options) (*DB, error) {
	d := &DB{queue: make(chan *write, queueLimit), stop: make(chan struct{})}
	var err error
	lanes := 1
	if o.URL != "" {
		d.Dialect, lanes = PostgreSQL, postgresLanes
		err = d.openPostgres(ctx, o.URL)
	} else {
		err = d.openSQLite(ctx, o)
	}
	if err != nil {
		d.closePools()
		return nil, err
	}
	for range lanes {
		d.lanes.Add(1)
		go (&lane{d: d}).work()
	}
	return d, nil
}

func (d *DB) openSQLite(ctx context.Context, o Options) error {
	// SQLite makes files that all may read, and gives the others of a database
	// the mode of the first.
	if f, err := os.OpenFile(o.Path, os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return fmt.Errorf("open SQLite: %w", err)
	} else if err := f.Close(); err != nil {
		return fmt.Errorf("open SQLite: %w", err)
	}
	q := url.Values{}
	q["_pragma"] = []string{
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)",
		"foreign_keys(1)", "temp_store(MEMORY)",
	}
	if o.MaxPages > 0 {
		q.Add("_pragma", "max_page_count("+strconv.Itoa(o.MaxPages)+")")
	}
	// The pages that one writer changes at random are worth more memory than
	// what eight readers look at, which the system's cache has too.
	q.Add("_pragma", writerCache)
	q.Set("_txlock", "immediate")
	// The name is a URI (https://sqlite.org/uri.html): a # would cut the path
	// short, and two folders would share one file.
	name := "file:" + strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(o.Path) + "?"
	var err error
	if d.writer, err = sql.Open("sqlite", name+q.Encode()); err != nil {
		return fmt.Errorf("open SQLite: %w", err)
	}
	d.writer.SetMaxOpenConns(1)
	if err := d.writer.PingContext(ctx); err != nil {
		return fmt.Errorf("open SQLite: %w", err)
	}
	q["_pragma"] = append(q["_pragma"], "query_only(1)", readerCache) // the last one counts
	q.Set("_txlock", "deferred")
	if d.reader, err = sql.Open("sqlite", name+q.Encode()); err != nil {
		return fmt.Errorf("open SQLite: %w", err)
	}
	d.reader.SetMaxOpenConns(8)
	d.reader.SetMaxIdleConns(8)
	d.queries = newStatements(d.reader)
	return nil
}

func (d *DB) openPostgres(ctx context.Context, dsn string) error {
	var err error
	if d.writer, err = sql.Open("pgx", dsn); err != nil {
		// The driver's error quotes the DSN, which holds the password.
		return errors.New("open PostgreSQL: the database URL cannot be read")
	}
	d.writer.SetMaxOpenConns(24)
	d.writer.SetMaxIdleConns(12)
	d.writer.SetConnMaxIdleTime(5 * time.Minute)
	d.reader = d.writer
	for _, setting := range []string{"fsync", "synchronous_commit"} {
		var v string
		if err := d.writer.QueryRowContext(ctx, "SHOW "+setting).Scan(&v); err != nil {
			return fmt.Errorf("connect to PostgreSQL: %w", err)
		}
		if v == "off" {
			return fault.Newf(fault.Invalid, "unsafe_database",
				"PostgreSQL runs with %s = off, so a crash would lose acknowledged mail. Turn it on and start again.", setting)
		}
	}
	return nil
}

// Close waits for the writes under way and closes the pools.
func (d *DB) Close() error {
	d.gate.Lock()
	if !d.closing {
		d.closing = true
		close(d.stop)
	}
	d.gate.Unlock()
	d.lanes.Wait()
	if d.queries != nil {
		d.queries.close()
	}
	return d.closePools()
}

func (d *DB) closePools() error {
	var err error
	if d.writer != nil {
		err = d.writer.Close()
	}
	if d.reader != nil && d.reader != d.writer {
		err = errors.Join(err, d.reader.Close())
	}
	return err
}

// Ping reports whether the database answers.
func (d *DB) Ping(ctx context.Context) error { return d.reader.PingContext(ctx) }

// Pick gives the text of this engine, where the two must differ.
func (d *DB) Pick(sqlite, postgres string) string {
	if d.Dialect == PostgreSQL {
		return postgres
	}
	return sqlite
}

func (d *DB) text(query string) string {
	if d.Dialect == SQLite {
		return query
	}
	if t, ok := d.texts.Load(query); ok {
		return t.(string)
	}
	var b strings.Builder
	for i, part := range strings.Split(query, "?") {
		if i > 0 {
			b.WriteString("$" + strconv.Itoa(i))
		}
		b.WriteString(part)
	}
	t := b.String()
	d.texts.Store(query, t)
	return t
}
