package deliver_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/deliver"
	"github.com/sealpost/sealpost/internal/deliver/smtpclient"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/pickup"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/posture"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
	"github.com/sealpost/sealpost/internal/submit/submittest"
)

// node is one delivering node on a loopback internet.
type node struct {
	*submittest.House
	net    *fake.Internet
	door   *submit.Door
	engine *deliver.Engine
}

var logs = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))

func internet(t *testing.T) *fake.Internet {
	t.Helper()
	n, err := fake.Start(context.Background(), fake.Options{Dir: t.TempDir(), SlowBy: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// start brings up a node; change may adjust its engine first.
func start(t *testing.T, d *db.DB, n *fake.Internet, change func(*deliver.Deps)) *node {
	t.Helper()
	h := prepare(t, d, n, change)
	if err := h.engine.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		h.engine.Stop(ctx)
	})
	return h
}

func prepare(t testing.TB, d *db.DB, n *fake.Internet, change func(*deliver.Deps)) *node {
	t.Helper()
	h := &node{House: submittest.New(t, d, clock.System{}, "clinic.test"), net: n}
	known, err := posture.New(posture.Deps{DB: d, Clock: clock.System{}, AllowLoopback: true, Resolver: n.ResolverAddr, HTTPSPort: n.HTTPSPort,
		RootCAs: n.CAPool(), DNSTimeout: 500 * time.Millisecond, FetchTimeout: time.Second, DNSSEC: true, SMTPPort: n.SMTPPort})
	if err != nil {
		t.Fatal(err)
	}
	pick := pickup.New(pickup.Deps{DB: d, Custody: h.Custody, Accounts: h.Accounts, Blob: h.Blob, Clock: clock.System{}, Log: logs, PublicURL: "http://localhost"})
	deps := deliver.Deps{
		Config: deliver.Config{Node: "test", Concurrency: 100, PerDestination: 10, RetryMin: 300 * time.Millisecond, RetryMax: time.Second, NoTLSAfter: time.Second,
			Alone: d.Dialect == db.SQLite, SMTPPort: n.SMTPPort},
		DB: d, Custody: h.Custody, Blob: h.Blob, Posture: known, Clock: clock.System{}, Log: logs,
		SMTP: smtpclient.Deps{RootCAs: n.CAPool(), Name: "mail.clinic.test", Clock: clock.System{}, Timeouts: smtpclient.Timeouts{
			Connect: time.Second, Banner: time.Second, EHLO: time.Second, StartTLS: time.Second, TLS: time.Second, Mail: time.Second,
			Rcpt: time.Second, Data: time.Second, Block: time.Second, Dot: time.Second}},
		Policy:  func(ctx context.Context, org id.ID) (policy.Document, int64, error) { return h.door.PolicyOf(ctx, org) },
		OrgName: func(context.Context, id.ID) (string, error) { return "Clinic", nil },
		Link:    pick.EnsureLink,
	}
	if change != nil {
		change(&deps)
	}
	h.engine = deliver.New(deps)
	h.door = h.Door(func(deps *submit.Deps) {
		deps.MaxSize, deps.MaxRecipients, deps.IdempotencyTTL = 25<<20, 1000, time.Hour
		deps.Reserve, deps.Push = h.engine.Reserve, h.engine.Push
	})
	return h
}

func (h *node) accept(draft submit.Draft, to ...string) submit.Receipt {
	h.T.Helper()
	draft.Principal = auth.Principal{Org: h.Org.ID, Client: id.New(), Scopes: auth.Scopes()}
	draft.Source, draft.Protocol = spool.FromSMTP, "ESMTPSA"
	sender, err := mail.ParseAddress("ada@clinic.test")
	if err != nil {
		h.T.Fatal(err)
	}
	draft.Sender = sender
	if draft.Message == nil {
		draft.Message = strings.NewReader("From: ada@clinic.test\r\nSubject: Results\r\n\r\nAll is well. Größe 8 bit.\r\n")
	}
	for _, s := range to {
		a, err := mail.ParseAddress(s)
		if err != nil {
			h.T.Fatal(err)
		}
		draft.Recipients = append(draft.Recipients, a)
	}
	r, err := h.door.Accept(context.Background(), draft)
	if err != nil {
		h.T.Fatal(err)
	}
	return r
}

func (h *node) delivery(i id.ID) (d spool.Delivery) {
	h.T.Helper()
	if err := h.DB.Read(context.Background(), h.Org.ID, func(tx *db.Tx) (err error) {
		d, err = spool.LoadDelivery(tx, nil, i)
		return err
	}); err != nil {
		h.T.Fatal(err)
	}
	return d
}

// until polls what is recorded, since deliveries settle on their own.
func (h *node) until(what string, ok func() bool) {
	h.T.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			h.T.Fatalf("never came to pass: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestEveryPostureReachesItsEndState walks the whole table of the loopback
// internet through acceptance, queue, transport and record.
func TestEveryPostureReachesItsEndState(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		h := start(t, d, internet(t), nil)
		type expected struct {
			fake.Entry
			delivery id.ID
		}
		var all []expected
		for _, e := range fake.Table() {
			r := h.accept(submit.Draft{}, e.Address)
			all = append(all, expected{e, r.Deliveries[0].Delivery})
		}
		for _, e := range all {
			var got spool.Delivery
			reached := func() bool {
				got = h.delivery(e.delivery)
				if string(got.State) != e.EndState {
					return false
				}
				if e.EndState == fake.Deferred && got.Attempts == 0 && e.Reason != fake.DNSFailure {
					return false
				}
				return true
			}
			ok := reached() // what is deferred is tried again: it is there for a moment
			for deadline := time.Now().Add(20 * time.Second); !ok && time.Now().Before(deadline); ok = reached() {
				time.Sleep(20 * time.Millisecond)
			}
			if !ok {
				t.Errorf("%s (%s): %s %q after %d attempts, want %s", e.Domain, e.Posture, got.State, got.Reason, got.Attempts, e.EndState)
				continue
			}
			if e.EndState == fake.Delivered || e.EndState == fake.Waiting {
				if string(got.Seal) != e.Seal || got.Grade.String() != e.Grade || !got.Final {
					t.Errorf("%s (%s): %s at %s, want %s at %s", e.Domain, e.Posture, got.Seal, got.Grade, e.Seal, e.Grade)
				}
			} else if got.Reason != e.Reason && !(e.Late && got.Reason == spool.ReasonUnknown) {
				t.Errorf("%s (%s): reason %q, want %q", e.Domain, e.Posture, got.Reason, e.Reason)
			}
		}
		for _, e := range all {
			for _, line := range h.net.Transcript(e.Domain) {
				if verb := strings.ToUpper(strings.Fields(line + " -")[0]); verb != "EHLO" && verb != "STARTTLS" {
					t.Errorf("%s saw %q in clear", e.Domain, verb)
				}
			}
		}
	})
}

func TestCommandsActWhileTheEngineRuns(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		h := start(t, d, internet(t), nil)
		ctx := context.Background()
		act := func(fn func(tx *db.Tx) error) error { return h.DB.Write(ctx, h.Org.ID, fn) }
		now := time.Now()
		r := h.accept(submit.Draft{SendAt: now.Add(time.Hour)}, "anna@modern.example", "bruno@tls12.example", "ines@shared-a.example")
		one, two, three := r.Deliveries[0].Delivery, r.Deliveries[1].Delivery, r.Deliveries[2].Delivery
		if err := act(func(tx *db.Tx) error { return spool.Hold(tx, one, "op", now) }); err != nil {
			t.Fatal(err)
		}
		if err := act(func(tx *db.Tx) error { return spool.Retry(tx, one, "op", now) }); err == nil {
			t.Error("a held delivery was retried")
		}
		if err := act(func(tx *db.Tx) error { return spool.Retry(tx, two, "op", now) }); err != nil {
			t.Fatal(err)
		}
		if err := act(func(tx *db.Tx) error { _, err := spool.Cancel(tx, three, spool.ReasonSender, "op", now); return err }); err != nil {
			t.Fatal(err)
		}
		h.until("the retried one is delivered", func() bool { return h.delivery(two).State == spool.Delivered })
		if got := h.delivery(one).State; got != spool.Held {
			t.Errorf("held delivery is %s", got)
		}
		if got := h.delivery(three).State; got != spool.Canceled {
			t.Errorf("canceled delivery is %s", got)
		}
		if err := act(func(tx *db.Tx) error { return spool.ReleaseHeld(tx, one, "op", now) }); err != nil {
			t.Fatal(err)
		}
		if got := h.delivery(one).State; got != spool.Scheduled {
			t.Errorf("released before its send_at it is %s", got)
		}
		if err := act(func(tx *db.Tx) error { return spool.Retry(tx, one, "op", now) }); err != nil {
			t.Fatal(err)
		}
		h.until("the released one is delivered", func() bool { return h.delivery(one).State == spool.Delivered })
		if n := len(h.net.Messages("ines@shared-a.example")); n != 0 {
			t.Errorf("the canceled one arrived %d times", n)
		}
	})
}

func TestADeadRunIsTakenOver(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		ctx := context.Background()
		n := internet(t)
		h := prepare(t, d, n, func(deps *deliver.Deps) { deps.Lease = 2 * time.Second })
		// A run that accepted two deliveries, began one and died.
		dead := id.New()
		if err := d.Write(ctx, db.System, func(tx *db.Tx) error {
			now, err := tx.Now()
			if err != nil {
				return err
			}
			_, err = tx.Exec("INSERT INTO deliver_runs (id, node, heartbeat_at) VALUES (?, 'dead', ?)", dead, now-10_000_000)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		r := h.accept(submit.Draft{}, "anna@modern.example", "bruno@tls12.example")
		for i, state := range []string{"sending", "ready"} {
			if err := d.Write(ctx, h.Org.ID, func(tx *db.Tx) error {
				_, err := tx.Exec("UPDATE spool_unsettled SET owner = ?, state = ? WHERE delivery_id = ?", dead, state, r.Deliveries[i].Delivery)
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		if err := h.engine.Start(ctx); err != nil {
			t.Fatal(err)
		}
		defer h.engine.Stop(ctx)
		for i := range 2 {
			h.until("taken over", func() bool { return h.delivery(r.Deliveries[i].Delivery).State == spool.Delivered })
		}
		if got := h.delivery(r.Deliveries[0].Delivery).Attempts; got != 2 {
			t.Errorf("%d attempts recorded; the unknown one counts", got)
		}
		if got := h.delivery(r.Deliveries[1].Delivery).Attempts; got != 1 {
			t.Errorf("%d attempts recorded of the one that had not begun", got)
		}
	})
}

// TestTwoNodesDeliverOnce: both take from one queue, and nothing goes twice.
func TestTwoNodesDeliverOnce(t *testing.T) {
	t.Parallel()
	n, d := internet(t), dbtest.PostgreSQL(t)
	var second *deliver.Engine
	h := start(t, d, n, func(deps *deliver.Deps) {
		second = deliver.New(*deps)
	})
	if err := second.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	defer second.Stop(context.Background())
	const many = 200
	send := time.Now().Add(300 * time.Millisecond)
	var deliveries []id.ID
	for i := range many {
		r := h.accept(submit.Draft{SendAt: send}, fmt.Sprintf("p%d@modern.example", i))
		deliveries = append(deliveries, r.Deliveries[0].Delivery)
	}
	for _, i := range deliveries {
		h.until("all delivered", func() bool { return h.delivery(i).State == spool.Delivered })
	}
	for i := range many {
		if got := len(n.Messages(fmt.Sprintf("p%d@modern.example", i))); got != 1 {
			t.Errorf("p%d got %d messages", i, got)
		}
	}
}

func TestStopGivesBackWhatWasNotBegun(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	n := internet(t)
	if err := n.AddDomain(fake.Domain{Name: "waits.example", Host: &fake.Behavior{Hang: fake.HangBanner}}); err != nil {
		t.Fatal(err)
	}
	h := prepare(t, d, n, func(deps *deliver.Deps) { deps.PerDestination = 1 })
	if err := h.engine.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		h.accept(submit.Draft{}, fmt.Sprintf("p%d@waits.example", i))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	h.engine.Stop(ctx)
	var owned, runs int
	if err := d.Read(context.Background(), db.System, func(tx *db.Tx) error {
		if err := tx.Row("SELECT count(*) FROM spool_unsettled WHERE owner IS NOT NULL").Scan(&owned); err != nil {
			return err
		}
		return tx.Row("SELECT count(*) FROM deliver_runs").Scan(&runs)
	}); err != nil {
		t.Fatal(err)
	}
	if owned != 0 || runs != 0 {
		t.Errorf("%d deliveries and %d runs left behind", owned, runs)
	}
}
