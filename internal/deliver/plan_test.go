package deliver_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/deliver"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
)

// quiet is for tests that make the engine complain.
var quiet = slog.New(slog.DiscardHandler)

func (h *node) publish(rules string) {
	h.T.Helper()
	text := `{"version":1,"order":["tls","portal"],"tls_floor":"verified","notice_floor":"encrypted","rules":[` + rules + `]}`
	if _, err := policy.Parse([]byte(text)); err != nil {
		h.T.Fatal(err)
	}
	accounts := account.New(account.Deps{DB: h.DB, Custody: h.Custody, Clock: clock.System{}})
	if _, err := accounts.PublishPolicy(context.Background(), h.Org.ID, []byte(text)); err != nil {
		h.T.Fatal(err)
	}
}

// TestALaterPolicyNarrows: what was accepted under no rules is attempted under
// those of today, and never under fewer.
func TestALaterPolicyNarrows(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		h := start(t, d, internet(t), nil)
		r := h.accept(submit.Draft{SendAt: time.Now().Add(1500 * time.Millisecond)}, "portal@modern.example", "held@modern.example", "refused@modern.example", "free@modern.example", "proved@modern.example")
		h.publish(`{"name":"only-portal","when":{"recipient":["portal@modern.example"]},"then":{"remove":["tls"]}},
			{"name":"look","when":{"recipient":["held@modern.example"]},"then":{"hold":"look first"}},
			{"name":"no","when":{"recipient":["refused@modern.example"]},"then":{"refuse":"not there"}},
			{"name":"proved","when":{"recipient":["proved@modern.example"]},"then":{"floor":"authenticated"}}`)
		for i, want := range []struct {
			state  spool.State
			seal   policy.Seal
			reason string
		}{
			{spool.Waiting, policy.Portal, ""}, {spool.Held, policy.TLS, spool.ReasonHeld}, {spool.Failed, policy.TLS, spool.ReasonPolicyRefused},
			{spool.Delivered, policy.TLS, ""}, {spool.Waiting, policy.Portal, ""},
		} {
			one := r.Deliveries[i].Delivery
			h.until("it comes to "+string(want.state), func() bool { return h.delivery(one).State == want.state })
			got := h.delivery(one)
			if want.reason != "" && got.Reason != want.reason || got.Final && got.Seal != want.seal {
				t.Errorf("delivery %d: sealed by %s, %q", i, got.Seal, got.Reason)
			}
		}
		held := r.Deliveries[1].Delivery
		if err := d.Write(context.Background(), h.Org.ID, func(tx *db.Tx) error { return spool.ReleaseHeld(tx, held, "op", time.Now()) }); err != nil {
			t.Fatal(err)
		}
		h.delivered(held)
		if n := len(h.net.Messages("refused@modern.example")); n != 0 {
			t.Errorf("the refused one arrived %d times", n)
		}
	})
}

// TestAReleasedDeliveryGoes: the rule that held it at the door is still there.
func TestAReleasedDeliveryGoes(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		h := prepare(t, d, internet(t), nil)
		h.publish(`{"name":"look","when":{},"then":{"hold":"look first"}}`)
		if err := h.engine.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		defer h.engine.Stop(context.Background())
		held := h.accept(submit.Draft{}, "anna@modern.example").Deliveries[0]
		if held.State != spool.Held {
			t.Fatalf("accepted as %s", held.State)
		}
		if err := d.Write(context.Background(), h.Org.ID, func(tx *db.Tx) error {
			return spool.ReleaseHeld(tx, held.Delivery, "op", time.Now())
		}); err != nil {
			t.Fatal(err)
		}
		h.delivered(held.Delivery)
	})
}

// TestRequireTLS is kept on every hop or the delivery fails; it never goes to
// the portal (RFC 8689 section 4.2.1).
func TestRequireTLS(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		h := start(t, d, internet(t), nil)
		good, _ := fakePerson("requiretls.example")
		r := h.accept(submit.Draft{RequireTLS: true}, good, "anna@modern.example", "p@sts-enforce.example")
		ok, weak, without := r.Deliveries[0].Delivery, r.Deliveries[1].Delivery, r.Deliveries[2].Delivery
		h.delivered(ok)
		tried := h.attempts(ok)
		if last := tried[len(tried)-1]; !last.Evidence.RequireTLS || last.Evidence.Grade != policy.Authenticated {
			t.Errorf("evidence %+v", last.Evidence)
		}
		for what, i := range map[string]id.ID{"a host not proved": weak, "a host without REQUIRETLS": without} {
			h.until("it fails", func() bool { return h.delivery(i).State == spool.Failed })
			if got := h.delivery(i); got.Reason != spool.ReasonRequireTLS || got.Seal == policy.Portal {
				t.Errorf("%s: %s, %q", what, got.Seal, got.Reason)
			}
		}
		if tried := h.attempts(without); len(tried) != 1 || tried[0].Enhanced != "5.7.30" {
			t.Errorf("attempts %+v", tried)
		}
		for _, to := range []string{"anna@modern.example", "p@sts-enforce.example"} {
			if n := len(h.net.Messages(to)); n != 0 {
				t.Errorf("%s got %d", to, n)
			}
		}
	})
}

func fakePerson(domain string) (address string, found bool) {
	for _, e := range fake.Table() {
		if e.Domain == domain {
			return e.Address, true
		}
	}
	return "", false
}

func TestTooLargeForThePeer(t *testing.T) {
	t.Parallel()
	h := start(t, dbtest.SQLite(t), internet(t), nil)
	text := "From: ada@clinic.test\r\nSubject: large\r\n\r\n" + strings.Repeat(strings.Repeat("x", 98)+"\r\n", 1000)
	r := h.accept(submit.Draft{Message: strings.NewReader(text)}, "cleo@small-size.example", "anna@modern.example")
	small, large := r.Deliveries[0].Delivery, r.Deliveries[1].Delivery
	h.until("it fails", func() bool { return h.delivery(small).State == spool.Failed })
	if got := h.attempts(small); len(got) != 1 || got[0].Reason != spool.ReasonTooLarge || got[0].Enhanced != "5.3.4" {
		t.Errorf("attempts %+v", got)
	}
	h.delivered(large)
	if got := h.net.Messages("anna@modern.example"); len(got) != 1 || !strings.HasSuffix(string(got[0].Raw), text[len(text)-100_000:]) {
		t.Error("what does not stay in memory is sent otherwise than it came")
	}
}

// TestWhatDoesNotStayInMemoryIsReadAgain: nothing may stay.
func TestWhatDoesNotStayInMemoryIsReadAgain(t *testing.T) {
	t.Parallel()
	h := start(t, dbtest.SQLite(t), internet(t), func(deps *deliver.Deps) { deps.Bodies = 1 })
	i := h.accept(submit.Draft{}, "anna@modern.example").Deliveries[0].Delivery
	h.delivered(i)
	if got := h.net.Messages("anna@modern.example"); len(got) != 1 || !strings.HasSuffix(string(got[0].Raw), "\r\n\r\nAll is well. Größe 8 bit.\r\n") {
		t.Errorf("%d messages arrived, or another than was accepted", len(got))
	}
}

func TestAThousandRecipients(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		h := start(t, d, internet(t), func(deps *deliver.Deps) { deps.Window = 300 }) // most wait in the database
		domains := []string{"modern.example", "tls12.example", "shared-a.example", "shared-b.example", "alias.example"}
		var to []string
		for i := range 1000 {
			to = append(to, fmt.Sprintf("p%d@%s", i, domains[i%len(domains)]))
		}
		r := h.accept(submit.Draft{}, to...)
		if len(r.Deliveries) != 1000 {
			t.Fatalf("%d deliveries", len(r.Deliveries))
		}
		h.until("all are settled", func() bool {
			var left int64
			if err := d.Read(context.Background(), h.Org.ID, func(tx *db.Tx) (err error) {
				_, _, left, err = spool.Count(tx)
				return err
			}); err != nil {
				t.Fatal(err)
			}
			return left == 0
		})
		for i, a := range to {
			if n := len(h.net.Messages(a)); n != 1 {
				t.Errorf("%s got %d", a, n)
			}
			if got := h.delivery(r.Deliveries[i].Delivery); got.State != spool.Delivered || got.Attempts != 1 {
				t.Errorf("%s: %s after %d attempts", a, got.State, got.Attempts)
			}
		}
		if n := h.engine.Depth(); n != 0 {
			t.Errorf("%d items are still counted in memory", n)
		}
	})
}

// post queues a code mail about a delivery.
func (h *node) post(message, delivery id.ID, to string, live time.Duration) id.ID {
	h.T.Helper()
	return h.postKind(spool.KindCode, message, delivery, to, live)
}

func (h *node) postKind(kind string, message, delivery id.ID, to string, live time.Duration) id.ID {
	h.T.Helper()
	n := id.New()
	recipient, err := mail.ParseAddress(to)
	if err != nil {
		h.T.Fatal(err)
	}
	if err := h.DB.Write(context.Background(), h.Org.ID, func(tx *db.Tx) error {
		m, err := spool.LoadMessage(tx, h.Custody, message)
		if err != nil {
			return err
		}
		now := time.Now()
		_, err = spool.PostNotice(tx, spool.Notice{ID: n, Org: h.Org.ID, Message: message, Delivery: delivery, Kind: kind, Once: n.Text(id.Notice), Key: m.Key,
			To: recipient, Text: private.NewBytes([]byte("Subject: code\r\n\r\n123 456\r\n")), CreatedAt: now, ExpiresAt: now.Add(live)}, id.ID{})
		return err
	}); err != nil {
		h.T.Fatal(err)
	}
	h.engine.Poke()
	return n
}

func (h *node) noticeState(n id.ID) (state string) {
	h.T.Helper()
	if err := h.DB.Read(context.Background(), h.Org.ID, func(tx *db.Tx) error {
		return tx.Row("SELECT state FROM spool_notices WHERE id = ?", n).Scan(&state)
	}); err != nil {
		h.T.Fatal(err)
	}
	return state
}

func (h *node) noticeIs(n id.ID, want spool.State) {
	h.T.Helper()
	h.until("the notice is "+string(want), func() bool { return h.noticeState(n) == string(want) })
}

// TestReportsOnREQUIRETLS go under REQUIRETLS where the sender's host offers it
// (RFC 8689 section 5), and others do not.
func TestReportsOnREQUIRETLS(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		h := start(t, d, internet(t), nil)
		for _, tc := range []struct {
			kind  string
			asked bool
			to    string
			want  bool
		}{
			{spool.KindDSN, true, "dsn@requiretls.example", true},
			{spool.KindDelay, true, "delay@requiretls.example", true},
			{spool.KindDSN, false, "plain@requiretls.example", false},
			{spool.KindDSN, true, "dsn@modern.example", false},
		} {
			r := h.accept(submit.Draft{RequireTLS: tc.asked}, "kofi@requiretls.example")
			h.noticeIs(h.postKind(tc.kind, r.Message, r.Deliveries[0].Delivery, tc.to, time.Hour), spool.Delivered)
			if got := h.net.Messages(tc.to); len(got) != 1 || got[0].RequireTLS != tc.want {
				t.Errorf("%s to %s: %d arrived, or not as asked", tc.kind, tc.to, len(got))
			}
		}
	})
}

// TestACodeDoesNotWait: every worker of the domain hangs, no connection is
// free and memory is full.
func TestACodeDoesNotWait(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		h := start(t, d, internet(t), func(deps *deliver.Deps) {
			deps.Concurrency, deps.PerDestination, deps.Window = 1, 1, 2
			deps.SMTP.Timeouts.Banner = time.Minute
		})
		h.add(fake.Domain{Name: "stuck.example", Host: &fake.Behavior{Hang: fake.HangBanner}})
		r := h.accept(submit.Draft{}, "a@stuck.example", "b@stuck.example")
		h.until("the only worker hangs", func() bool { return h.net.Stats("mx.stuck.example").Connections == 1 })
		if err := h.net.Change("mx.stuck.example", func(b *fake.Behavior) { b.Hang = fake.HangNowhere }); err != nil {
			t.Fatal(err)
		}
		for _, to := range []string{"a@stuck.example", "a@modern.example"} {
			h.noticeIs(h.post(r.Message, r.Deliveries[0].Delivery, to, time.Minute), spool.Delivered)
		}
		if got := h.delivery(r.Deliveries[0].Delivery).State; got == spool.Delivered {
			t.Errorf("the delivery is %s; the worker did not hang", got)
		}
	})
}

func TestHowNoticesEnd(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		h := start(t, d, internet(t), func(deps *deliver.Deps) { deps.Log = quiet })
		r := h.accept(submit.Draft{SendAt: time.Now().Add(time.Hour)}, "anna@modern.example")
		about := r.Deliveries[0].Delivery
		for to, want := range map[string]spool.State{
			"anna@modern.example": spool.Delivered, "vera@greylist.example": spool.Delivered, "dora@one-per-connection.example": spool.Delivered,
			"p@no-starttls.example": spool.Failed, "wilma@unknown-user.example": spool.Failed, "p@null-mx.example": spool.Failed, "p@nxdomain.example": spool.Failed,
		} {
			n := h.post(r.Message, about, to, time.Minute)
			h.until(to+" comes to "+string(want), func() bool { return h.noticeState(n) == string(want) })
		}
		h.noticeIs(h.post(r.Message, about, "p@servfail.example", 700*time.Millisecond), spool.Expired)

		// One that cannot be read this moment is not given up.
		var open atomic.Bool
		h.add(fake.Domain{Name: "later.example", Host: &fake.Behavior{Rcpt: func(string, int) string {
			if open.Load() {
				return ""
			}
			return "451 4.7.1 later"
		}}})
		damaged := h.post(r.Message, about, "p@later.example", time.Minute)
		h.noticeIs(damaged, spool.Deferred)
		var sealed []byte
		if err := d.Read(context.Background(), h.Org.ID, func(tx *db.Tx) error {
			return tx.Row("SELECT sealed FROM spool_notices WHERE id = ?", damaged).Scan(&sealed)
		}); err != nil {
			t.Fatal(err)
		}
		tried := func() (n int) {
			if err := d.Read(context.Background(), h.Org.ID, func(tx *db.Tx) error {
				return tx.Row("SELECT attempts FROM spool_notices WHERE id = ?", damaged).Scan(&n)
			}); err != nil {
				t.Fatal(err)
			}
			return n
		}
		h.exec("UPDATE spool_notices SET sealed = ? WHERE id = ?", append([]byte{99}, sealed...), damaged)
		before := tried()
		h.until("it is looked at again", func() bool { return tried() > before })
		if got := h.noticeState(damaged); got == string(spool.Failed) {
			t.Error("a notice that could not be read was given up")
		}
		open.Store(true)
		h.exec("UPDATE spool_notices SET sealed = ? WHERE id = ?", sealed, damaged)
		h.noticeIs(damaged, spool.Delivered)
	})
}

func TestDestroyedContentFails(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		h := prepare(t, d, internet(t), nil)
		r := h.accept(submit.Draft{}, "anna@modern.example")
		one := r.Deliveries[0].Delivery
		n := h.post(r.Message, one, "anna@modern.example", time.Minute)
		if _, err := h.Custody.DestroyOrg(h.Org.ID); err != nil {
			t.Fatal(err)
		}
		if err := h.engine.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		defer h.engine.Stop(context.Background())
		h.until("it fails", func() bool { return h.delivery(one).State == spool.Failed })
		if got := h.delivery(one); got.Reason != spool.ReasonContentDestroyed || got.Attempts != 0 {
			t.Errorf("%q after %d attempts", got.Reason, got.Attempts)
		}
		h.noticeIs(n, spool.Failed)
	})
}

// TestStopBreaksOffWithoutATrace: what Stop interrupts before anything was
// sent is not an attempt that failed.
func TestStopBreaksOffWithoutATrace(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		h := prepare(t, d, internet(t), func(deps *deliver.Deps) { deps.Concurrency = 3 })
		h.add(fake.Domain{Name: "mute.example", Host: &fake.Behavior{Hang: fake.HangBanner}})
		h.add(fake.Domain{Name: "hangs.example", Host: &fake.Behavior{Hang: fake.HangRcpt}})
		if err := h.engine.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		var all []id.ID
		all = append(all, h.accept(submit.Draft{}, "p@mute.example").Deliveries[0].Delivery) // waits for the banner
		h.until("one connects", func() bool { return h.net.Stats("mx.mute.example").Connections == 1 })
		for i := range 6 { // one is being sent, five wait until the host has proved itself
			all = append(all, h.accept(submit.Draft{}, fmt.Sprintf("p%d@hangs.example", i)).Deliveries[0].Delivery)
		}
		h.until("an attempt begins", func() bool { return h.net.Stats("mx.hangs.example").Handshakes == 1 })
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		began := time.Now()
		h.engine.Stop(ctx)
		h.engine.Stop(ctx) // may be called again
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("Stop took %v", took)
		}
		for _, i := range all {
			if got := h.delivery(i); got.State != spool.Ready || got.Attempts != 0 || got.Reason != "" {
				t.Errorf("left %s, %q, %d attempts", got.State, got.Reason, got.Attempts)
			}
		}
		var runs int
		if err := d.Read(context.Background(), db.System, func(tx *db.Tx) error {
			return tx.Row("SELECT count(*) FROM deliver_runs").Scan(&runs)
		}); err != nil || runs != 0 {
			t.Errorf("%d runs left: %v", runs, err)
		}
	})
}
