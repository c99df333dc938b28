package deliver_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/deliver"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
)

// refuse makes the database refuse what it is asked to write to a table while
// a condition holds, for a reason that is not that it is away.
func (h *node) refuse(event, table, when string) {
	h.T.Helper()
	if h.DB.Dialect == db.SQLite {
		h.exec(fmt.Sprintf("CREATE TRIGGER refuse BEFORE %s ON %s WHEN %s BEGIN SELECT RAISE(ABORT, 'refused'); END", event, table, when))
		return
	}
	h.exec("CREATE OR REPLACE FUNCTION refuse() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$ LANGUAGE plpgsql")
	h.exec(fmt.Sprintf("CREATE TRIGGER refuse BEFORE %s ON %s FOR EACH ROW WHEN (%s) EXECUTE FUNCTION refuse()", event, table, when))
}

func (h *node) refuseNoMore(table string) {
	h.T.Helper()
	if h.DB.Dialect == db.SQLite {
		h.exec("DROP TRIGGER refuse")
		return
	}
	h.exec("DROP TRIGGER refuse ON " + table)
}

// TestAnOutcomeIsNotGivenUpSoon: whatever the database says for some seconds,
// what a peer took is recorded once it can be; after minutes it is given up,
// and counted.
func TestAnOutcomeIsNotGivenUpSoon(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		var log locked
		clk, figures := clock.NewFake(time.Now()), deliver.NewFigures(nil)
		h := start(t, d, internet(t), func(deps *deliver.Deps) {
			deps.Clock, deps.Figures, deps.Log = clk, figures, slog.New(slog.NewTextHandler(&log, nil))
			deps.ExpireAfter = 48 * time.Hour
		})
		h.door.Clock = clk
		refusedTimes := func() int { return strings.Count(log.String(), "could not be recorded yet") }
		h.refuse("UPDATE", "spool_deliveries", "NEW.settled = 'delivered'")
		one := h.accept(submit.Draft{}, "one@modern.example").Deliveries[0].Delivery
		h.until("it was tried again and again", func() bool { return refusedTimes() > 12 })
		h.refuseNoMore("spool_deliveries")
		h.delivered(one)
		if got := total(t, figures, "sealpost_outcomes_abandoned_total"); got != 0 {
			t.Errorf("%v are given up", got)
		}

		h.refuse("UPDATE", "spool_deliveries", "NEW.settled = 'delivered'")
		before := refusedTimes()
		two := h.accept(submit.Draft{}, "two@modern.example").Deliveries[0].Delivery
		h.until("its last form is refused", func() bool { return refusedTimes() > before+7 })
		clk.Advance(6 * time.Minute)
		h.until("it is given up", func() bool { return total(t, figures, "sealpost_outcomes_abandoned_total") == 1 })
		if got := h.delivery(two).State; got != spool.Sending {
			t.Errorf("it is %s", got)
		}
		if n := len(h.net.Messages("one@modern.example")) + len(h.net.Messages("two@modern.example")); n != 2 {
			t.Errorf("%d arrived", n)
		}
	})
}

// TestAReadOnlyDatabaseSendsNothingTwice: PostgreSQL takes nothing for some
// seconds after a peer has the message.
func TestAReadOnlyDatabaseSendsNothingTwice(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dsn := dbtest.PostgresURL(t)
	d, err := db.Open(ctx, db.Options{URL: dsn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	if _, err := d.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	admin, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	admin.SetMaxOpenConns(1) // its session stays as it began
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	setting := func(what string) {
		for _, q := range []string{"ALTER DATABASE " + strings.TrimPrefix(u.Path, "/") + what,
			"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"} {
			if _, err := admin.ExecContext(ctx, q); err != nil {
				t.Error(err)
			}
		}
	}
	if err := admin.Ping(); err != nil {
		t.Fatal(err)
	}
	var log locked
	var once sync.Once
	h := start(t, d, internet(t), func(deps *deliver.Deps) { deps.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	h.add(fake.Domain{Name: "taken.example", Host: &fake.Behavior{Rcpt: func(string, int) string {
		once.Do(func() { setting(" SET default_transaction_read_only = on") })
		return ""
	}}})
	one := h.accept(submit.Draft{}, "one@taken.example").Deliveries[0].Delivery
	h.until("the outcome was refused again and again", func() bool { return strings.Count(log.String(), "could not be recorded yet") > 12 })
	setting(" RESET default_transaction_read_only")
	var state string
	var attempts int
	h.until("it is recorded", func() bool {
		err := admin.QueryRowContext(ctx, "SELECT coalesce(settled, ''), attempts FROM spool_deliveries WHERE id = $1", one.Bytes()).Scan(&state, &attempts)
		return err == nil && state != ""
	})
	if state != string(spool.Delivered) || attempts != 1 {
		t.Errorf("%s after %d attempts", state, attempts)
	}
	if n := len(h.net.Messages("one@taken.example")); n != 1 {
		t.Errorf("it arrived %d times", n)
	}
}

// TestAPlainOutcomeKnowsThatItWasOpened: the message was read in the portal
// while the outcome of its notice, of which the database takes no more than
// the plain form, was on its way.
func TestAPlainOutcomeKnowsThatItWasOpened(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		h := start(t, d, internet(t), nil)
		var once sync.Once
		i := make(chan id.ID, 1)
		h.add(fake.Domain{Name: "portal.example", Host: &fake.Behavior{Rcpt: func(string, int) string {
			once.Do(func() {
				h.exec("INSERT INTO pickup_codes (id, org_id, delivery_id, browser_sha256, code_hmac, tries, created_at, expires_at, used_at) VALUES (?, ?, ?, ?, ?, 0, 0, 0, 1)",
					id.New(), h.Org.ID, <-i, []byte{1}, []byte{1})
				h.refuse("INSERT", "ledger_entries", "length(NEW.leaf) > 500")
			})
			return ""
		}}})
		one := h.accept(submit.Draft{Seal: policy.Portal}, "one@portal.example").Deliveries[0].Delivery
		i <- one
		h.until("it is settled", func() bool { return h.delivery(one).State.Settled() })
		if got := h.attempts(one); h.delivery(one).State != spool.Read || len(got) != 1 || got[0].Host != "" {
			t.Errorf("it is %s by %+v", h.delivery(one).State, got)
		}
	})
}
