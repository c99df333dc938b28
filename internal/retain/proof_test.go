package retain_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/custody/custodytest"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/retain"
	"github.com/sealpost/sealpost/internal/spool"
)

func TestTheCertificateOfARun(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		change(t, w, w.Org.ID, func(p *retain.Document) { p.Purposes.Payment.Metadata = 90 })
		m := w.send(policy.Payment, "x@y.example")
		w.pass(100 * day)
		r := w.purge(w.Org.ID)
		c, err := w.retain.Certify(ctx, w.Org.ID, id.ID{})
		if err != nil || !c.OK() || c.Run != r.Run || len(c.Batches) != 2 {
			t.Fatalf("%+v, %v", c, err)
		}
		b := c.Batches[1]
		if b.Stage != retain.Metadata || b.Purpose != policy.Payment || b.Count != 1 || b.First != m || b.Last != m || !strings.HasPrefix(b.Items, m.Text(id.Message)+" dek_") {
			t.Errorf("%+v", b)
		}
		// Whoever has the lines can check the ledger's hash without us.
		sum := sha256.Sum256([]byte(b.Items))
		found := false
		for _, e := range w.events(w.Org.ID, ledger.RetentionPurged) {
			found = found || e.ID == b.Event && strings.Contains(string(e.Data), `"items_sha256":"`+hex.EncodeToString(sum[:])+`"`)
			if strings.Contains(string(e.Data), "y.example") {
				t.Errorf("the entry says too much: %s", e.Data)
			}
		}
		if !found {
			t.Error("the ledger has no such hash")
		}
		runs, err := w.retain.Runs(ctx, w.Org.ID, 5)
		if err != nil || len(runs) != 1 || runs[0].Messages[retain.Metadata] != 1 {
			t.Errorf("%v, %v", runs, err)
		}
	})
}

func TestACertificateThatIsNotTrue(t *testing.T) {
	w := open(t, dbtest.SQLite(t))
	change(t, w, w.Org.ID, func(p *retain.Document) { p.Purposes.Payment.Metadata = 90 })
	one, two := w.send(policy.Payment, "x@y.example"), w.send(policy.Payment, "x@y.example")
	kept := map[string][][]any{}
	for table, columns := range map[string]int{"custody_data_keys": 4, "blob_chunks": 4} {
		kept[table] = dump(w, table, columns)
	}
	w.pass(100 * day)
	w.purge(w.Org.ID)
	problems := func() (all []string) {
		t.Helper()
		c, err := w.retain.Certify(ctx, w.Org.ID, id.ID{})
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range c.Batches {
			all = append(all, b.Problems...)
		}
		return all
	}
	if p := problems(); len(p) != 0 {
		t.Fatal(p)
	}
	restore := func(table string) {
		t.Helper()
		w.write(db.System, func(tx *db.Tx) error {
			for _, row := range kept[table] {
				if _, err := tx.Exec("INSERT INTO "+table+" VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", row...); err != nil {
					return err
				}
			}
			return nil
		})
	}
	restore("custody_data_keys") // from a backup
	if p := problems(); fmt.Sprint(p) != fmt.Sprintf("[The data key of %s is still there. The data key of %s is still there.]", one.Text(id.Message), two.Text(id.Message)) {
		t.Error(p)
	}
	restore("blob_chunks")
	if p := problems(); len(p) != 2+2+2 {
		t.Error(p)
	}
	w.write(w.Org.ID, func(tx *db.Tx) error { // one message less
		_, err := tx.Exec("UPDATE retain_destroyed SET items = substr(items, 1, 48)")
		return err
	})
	if p := strings.Join(problems(), ""); strings.Count(p, "not the one that the ledger's entry was written for") != 2 {
		t.Error(p)
	}
}

func dump(w *world, table string, columns int) (all [][]any) {
	w.T.Helper()
	w.read(db.System, func(tx *db.Tx) error {
		rows, err := tx.Query("SELECT * FROM " + table)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			row, into := make([]any, columns), make([]any, columns)
			for i := range row {
				into[i] = &row[i]
			}
			if err := rows.Scan(into...); err != nil {
				return err
			}
			all = append(all, row)
		}
		return rows.Err()
	})
	return all
}

// What the certificate says of older backups: they hold the message as long as
// the version of the organization's key lives that wrapped its key.
func TestABackupFromBeforeThePurge(t *testing.T) {
	dir := t.TempDir()
	d, err := db.Open(ctx, db.Options{Path: filepath.Join(dir, "live.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	w := open(t, d)
	if _, err := custody.InitMaster(filepath.Join(dir, "master.key")); err != nil {
		t.Fatal(err)
	}
	// Keys whose old versions end at once, in place of 90 days later.
	keys := custodytest.Open(t, d, dir)
	w.Custody = keys
	w.Accounts.Custody, w.retain.Custody = keys, keys
	org := w.NewOrg("practice", "practice.test")
	w.door = w.Door(nil)
	w.Org = org
	m := w.accept(org.ID, "ada@practice.test", policy.Treatment, "x@y.example")
	w.settle(spool.Delivered)
	backup := filepath.Join(dir, "backup.db")
	w.write(db.System, func(*db.Tx) error { return nil })
	if err := vacuumInto(filepath.Join(dir, "live.db"), backup); err != nil {
		t.Fatal(err)
	}
	change(t, w, org.ID, func(p *retain.Document) { p.Purposes.Treatment.Metadata = 90 })
	w.pass(100 * day)
	w.purge(org.ID)
	w.is(m, recorded)
	for _, file := range []string{"live.db", "live.db-wal"} {
		if raw, err := os.ReadFile(filepath.Join(dir, file)); err == nil && bytes.Contains(raw, []byte("All is well")) {
			t.Errorf("%s holds content in clear", file)
		}
	}

	old, err := db.Open(ctx, db.Options{Path: backup})
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	opens := func() error {
		return old.Read(ctx, org.ID, func(tx *db.Tx) error {
			_, err := spool.LoadMessage(tx, custodytest.Open(t, old, dir), m)
			return err
		})
	}
	if err := opens(); err != nil {
		t.Fatalf("the certificate would be modest for nothing: %v", err)
	}
	if _, err := keys.RotateOrg(ctx, org.ID); err != nil {
		t.Fatal(err)
	}
	if err := opens(); !errors.Is(err, custody.ErrDestroyed) {
		t.Errorf("after a rotation: %v", err)
	}
}

// The purge of a night costs what it destroys, however much lies before it and
// behind it.
func TestANightIsAsShortWithManyMessages(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		night := func() int {
			t.Helper()
			counted := &countedContext{Context: ctx}
			r, err := w.retain.Purge(counted, w.Org.ID)
			if err != nil || len(r.Destroyed) != 0 {
				t.Fatal(r.Destroyed, err)
			}
			return counted.looks
		}
		messages, looks := 0, [2]int{}
		for size, n := range []int{5_000, 20_000} {
			// Half of them went in other nights, the others are too young.
			fill(w, 2*messages, n/2, w.clock.Now().Add(-95*day), true)
			messages += n / 2
			night() // reads over what is new
			fill(w, 1_000_000+messages, n/2, w.clock.Now().Add(-10*day), false)
			looks[size] = night()
		}
		if looks[0] == 0 || looks[1] != looks[0] {
			t.Errorf("a night with nothing to do takes %d looks with 5,000 messages and %d with 25,000", looks[0], looks[1])
		}
		w.write(w.Org.ID, func(tx *db.Tx) error { _, err := tx.Exec("ANALYZE spool_messages"); return err })
		w.read(w.Org.ID, func(tx *db.Tx) error {
			plan, err := db.All(tx, func(row db.Row) (string, error) {
				var line string
				if d.Dialect == db.PostgreSQL {
					err := row.Scan(&line)
					return line, err
				}
				var n [3]int
				err := row.Scan(&n[0], &n[1], &n[2], &line)
				return line, err
			}, tx.Pick("EXPLAIN QUERY PLAN ", "EXPLAIN ")+"SELECT id FROM spool_messages WHERE org_id = ? AND id > ? ORDER BY id LIMIT 500", w.Org.ID, id.ID{})
			if text := strings.Join(plan, "\n"); err == nil && (!strings.Contains(text, "spool_messages") || strings.Contains(text, "SCAN") || strings.Contains(text, "Seq Scan") || strings.Contains(text, "Sort")) {
				t.Errorf("the walk does not follow an index:\n%s", text)
			}
			return err
		})
	})
}

// countedContext counts how often it is asked whether it ended, as is done at
// least before each page.
type countedContext struct {
	context.Context
	looks int
}

func (c *countedContext) Err() error {
	c.looks++
	return nil
}

// fill inserts records of messages by the shortest way. Their ids follow all
// others in the order of n.
func fill(w *world, from, n int, at time.Time, purged bool) {
	w.T.Helper()
	gone := int64(0)
	if purged {
		gone = at.UnixMicro()
	}
	w.write(w.Org.ID, func(tx *db.Tx) error {
		const columns = `INSERT INTO spool_messages (org_id, client_id, source, purpose, key_id, blob_id, size, envelope_sealed, header_sealed,
			details_sealed, sender_hmac, sender_domain, null_sender, policy_version, send_at, expires_at, id, created_at, body_destroyed_at) `
		_, err := tx.Exec(columns+tx.Pick(
			`SELECT ?1, ?1, 'api', 'treatment', ?1, ?1, 1, x'', x'', x'', x'', '', 0, 0, 0, 0, CAST(printf('%016d', value) AS BLOB), ?4, nullif(?5, 0)
				FROM (WITH RECURSIVE n (value) AS (SELECT ?2 UNION ALL SELECT value + 1 FROM n WHERE value + 1 < ?3) SELECT value FROM n)`,
			`SELECT $1::bytea, $1, 'api', 'treatment', $1, $1, 1, ''::bytea, ''::bytea, ''::bytea, ''::bytea, '', 0, 0, 0, 0,
				convert_to(lpad(value::text, 16, '0'), 'UTF8'), $4::bigint, nullif($5::bigint, 0)
				FROM generate_series($2::bigint, $3::bigint - 1) AS value`), w.Org.ID, from, from+n, at.UnixMicro(), gone)
		return err
	})
}
