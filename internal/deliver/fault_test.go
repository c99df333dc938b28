package deliver_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/bounce/classify"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/deliver"
	"github.com/sealpost/sealpost/internal/deliver/smtpclient"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
)

// TestMain lets more tests run side by side than there are processors: they
// wait for peers more than they work.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// each runs fn on both databases at the same time.
func each(t *testing.T, fn func(t *testing.T, d *db.DB)) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) { t.Parallel(); fn(t, dbtest.SQLite(t)) })
	t.Run("PostgreSQL", func(t *testing.T) { t.Parallel(); fn(t, dbtest.PostgreSQL(t)) })
}

func (h *node) attempts(i id.ID) []spool.Tried {
	h.T.Helper()
	desk := &spool.Desk{DB: h.DB, Custody: h.Custody}
	_, tried, err := desk.Delivery(context.Background(), h.Org.ID, i)
	if err != nil {
		h.T.Fatal(err)
	}
	return tried
}

func (h *node) delivered(all ...id.ID) {
	h.T.Helper()
	for _, i := range all {
		h.until("it is delivered", func() bool { return h.delivery(i).State == spool.Delivered })
	}
}

func (h *node) exec(query string, args ...any) {
	h.T.Helper()
	if err := h.DB.Write(context.Background(), db.System, func(tx *db.Tx) error {
		_, err := tx.Exec(query, args...)
		return err
	}); err != nil {
		h.T.Fatal(err)
	}
}

func (h *node) add(d fake.Domain) {
	h.T.Helper()
	if err := h.net.AddDomain(d); err != nil {
		h.T.Fatal(err)
	}
}

func messageID(raw []byte) string {
	for line := range strings.Lines(string(raw)) {
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "Message-ID") {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// TestASilentPeerIsTriedAgain: it falls silent at each stage in turn, and
// speaks the next time.
func TestASilentPeerIsTriedAgain(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		h := start(t, d, internet(t), nil) // every stage has a second
		stages := []fake.Stage{fake.HangBanner, fake.HangEHLO, fake.HangStartTLS, fake.HangTLS, fake.HangMail, fake.HangRcpt, fake.HangData, fake.HangDot}
		var all []id.ID
		for _, stage := range stages {
			name := fmt.Sprintf("silent%d.example", stage)
			h.add(fake.Domain{Name: name, Host: &fake.Behavior{Hang: stage}})
			all = append(all, h.accept(submit.Draft{}, "p@"+name).Deliveries[0].Delivery)
		}
		for n, i := range all {
			h.until("the first attempt is recorded", func() bool { return h.delivery(i).Attempts > 0 })
			if got := h.delivery(i); got.State == spool.Delivered || got.State == spool.Failed {
				t.Errorf("stage %d: %s", stages[n], got.State)
			}
			if err := h.net.Change(fmt.Sprintf("mx.silent%d.example", stages[n]), func(b *fake.Behavior) { b.Hang = fake.HangNowhere }); err != nil {
				t.Fatal(err)
			}
		}
		h.delivered(all...)
		for n, i := range all {
			first := h.attempts(i)[0]
			want := spool.ResultTemporary
			switch stages[n] {
			case fake.HangDot:
				want = spool.ResultUnknown
			case fake.HangTLS:
				want = spool.ResultWeak // TLS never came about
			}
			if first.Result != want || first.Reason == "" {
				t.Errorf("stage %d: the first attempt was %s, %q; want %s", stages[n], first.Result, first.Reason, want)
			}
			if got := len(h.net.Messages(fmt.Sprintf("p@silent%d.example", stages[n]))); got != 1 {
				t.Errorf("stage %d: arrived %d times", stages[n], got)
			}
		}
	})
}

// TestADrippingPeerEndsWithTheMessage: each line is taken in time, and all of
// them would take for ever.
func TestADrippingPeerEndsWithTheMessage(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		h := start(t, d, internet(t), func(deps *deliver.Deps) { deps.SMTP.Timeouts.Block = time.Minute })
		h.add(fake.Domain{Name: "drips.example", Host: &fake.Behavior{Drip: 5 * time.Millisecond}})
		expires := time.Now().Add(6 * time.Second)
		i := h.accept(submit.Draft{ExpiresAt: expires, Message: strings.NewReader("From: ada@clinic.test\r\nSubject: x\r\n\r\n" +
			strings.Repeat(strings.Repeat("x", 900)+"\r\n", 8000))}, "p@drips.example").Deliveries[0].Delivery
		h.until("it expires", func() bool { return h.delivery(i).State.Settled() })
		if got := h.delivery(i); got.State != spool.Expired || got.SettledAt.After(expires.Add(5*time.Second)) || got.Attempts != 1 {
			t.Errorf("%s, %v after its end and after %d attempts", got.State, got.SettledAt.Sub(expires), got.Attempts)
		}
		if n := len(h.net.Messages("p@drips.example")); n != 0 {
			t.Errorf("it arrived %d times", n)
		}
	})
}

// TestAnOutcomeThatCannotBeRecorded ends as a plain one, and only where the
// database is there and says no.
func TestAnOutcomeThatCannotBeRecorded(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		var asked atomic.Int32
		h := start(t, d, internet(t), func(deps *deliver.Deps) {
			deps.PerDestination, deps.Log = 1, quiet
			deps.Refused = func(_ *db.Tx, to mail.Address, _ id.ID, _ classify.Class, _ bool) error {
				switch {
				case to.Domain() == "never.example":
					return errors.New("a value that no column takes")
				case asked.Add(1) <= 8:
					return fault.New(fault.Unavailable, "away", "The database is away.")
				}
				return nil
			}
		})
		for _, tc := range []struct {
			domain string
			whole  bool
		}{{"never.example", false}, {"away.example", true}} {
			h.add(fake.Domain{Name: tc.domain, Host: &fake.Behavior{Rcpt: func(to string, _ int) string {
				if strings.HasPrefix(to, "q") {
					return ""
				}
				return "550 5.1.1 no such user"
			}}})
			i := h.accept(submit.Draft{}, "p@"+tc.domain).Deliveries[0].Delivery
			h.until("it fails", func() bool { return h.delivery(i).State == spool.Failed })
			got := h.delivery(i)
			tried := h.attempts(i)
			if got.Reason != spool.ReasonUserUnknown || len(tried) != 1 || tried[0].Code != 550 || tried[0].Reply.Empty() == tc.whole {
				t.Errorf("%s: %q after %+v", tc.domain, got.Reason, tried)
			}
			h.delivered(h.accept(submit.Draft{}, "q@"+tc.domain).Deliveries[0].Delivery)
		}
	})
}

func TestGreylisted(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		h := start(t, d, internet(t), nil)
		i := h.accept(submit.Draft{}, "vera@greylist.example").Deliveries[0].Delivery
		h.delivered(i)
		tried := h.attempts(i)
		if len(tried) != 2 || tried[0].Code != 451 || tried[0].Enhanced != "4.7.1" || tried[0].Number != 1 || tried[1].Number != 2 || tried[1].Result != spool.ResultDelivered {
			t.Errorf("attempts %+v", tried)
		}
	})
}

func TestAnUnknownOutcomeIsRecordedAndTriedAgain(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		h := start(t, d, internet(t), nil)
		i := h.accept(submit.Draft{}, "yara@drops.example").Deliveries[0].Delivery
		h.delivered(i)
		tried := h.attempts(i)
		if len(tried) != 2 || tried[0].Result != spool.ResultUnknown || tried[0].Reason != spool.ReasonUnknown || tried[0].Evidence == nil || tried[1].Result != spool.ResultDelivered {
			t.Errorf("attempts %+v", tried)
		}
		got := h.net.Messages("yara@drops.example")
		if len(got) != 2 || messageID(got[0].Raw) == "" || string(got[0].Raw) != string(got[1].Raw) {
			t.Errorf("%d messages; every attempt sends the same", len(got))
		}
	})
}

// TestAWornOutConnection: a peer that takes one message per connection costs
// no attempt.
func TestAWornOutConnection(t *testing.T) {
	t.Parallel()
	h := start(t, dbtest.SQLite(t), internet(t), func(deps *deliver.Deps) { deps.PerDestination = 1 })
	var all []id.ID
	for i := range 5 {
		all = append(all, h.accept(submit.Draft{}, fmt.Sprintf("p%d@one-per-connection.example", i)).Deliveries[0].Delivery)
	}
	h.delivered(all...)
	for _, i := range all {
		if n := h.delivery(i).Attempts; n != 1 {
			t.Errorf("%d attempts", n)
		}
	}
}

// TestAHostThatIsDownLeavesHope: the backup has no TLS, but the first host may
// have it again tomorrow.
func TestAHostThatIsDownLeavesHope(t *testing.T) {
	t.Parallel()
	h := start(t, dbtest.SQLite(t), internet(t), nil)
	h.net.SetA("mx1.half.example", netip.MustParseAddr("127.23.250.250"))
	h.add(fake.Domain{Name: "half.example", HostName: "mx2.half.example", Host: &fake.Behavior{StartTLS: fake.StartTLSAbsent},
		MX: []fake.MX{{Preference: 10, Host: "mx1.half.example"}, {Preference: 20, Host: "mx2.half.example"}}})
	i := h.accept(submit.Draft{}, "p@half.example").Deliveries[0].Delivery
	h.until("it is tried", func() bool { return h.delivery(i).Attempts > 0 })
	if got := h.delivery(i); got.State == spool.Failed {
		t.Fatalf("it is given up: %s", got.Reason)
	}
	if got := h.delivery(i).Reason; got != spool.ReasonTLSUnavailable {
		t.Errorf("reason %q", got)
	}
}

// TestTheDatabaseGoesWhileMailIsOnItsWay: the peer has the message, and the
// outcome is recorded when the database is back, long after the lease was in
// doubt; once, and nothing is sent twice.
func TestTheDatabaseGoesWhileMailIsOnItsWay(t *testing.T) {
	t.Parallel()
	p, err := dbtest.NewPostgres()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop("immediate"); _ = os.RemoveAll(p.Dir) })
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	d, err := db.Open(context.Background(), db.Options{URL: p.URL("postgres")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if _, err := d.Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	h := start(t, d, internet(t), func(deps *deliver.Deps) {
		deps.Lease, deps.Log = 2*time.Second, quiet
		deps.SMTP.Timeouts = smtpclient.Timeouts{} // the long ones of RFC 5321
	})
	sending := make(chan struct{})
	h.add(fake.Domain{Name: "slowly.example", Host: &fake.Behavior{Delay: 600 * time.Millisecond, Rcpt: func(_ string, attempt int) string {
		if attempt == 1 {
			close(sending)
		}
		return ""
	}}})
	i := h.accept(submit.Draft{}, "p@slowly.example").Deliveries[0].Delivery
	<-sending
	if err := p.Stop("fast"); err != nil {
		t.Fatal(err)
	}
	h.until("the peer has it", func() bool { return len(h.net.Messages("p@slowly.example")) == 1 })
	for gone := time.Now(); time.Since(gone) < 2500*time.Millisecond; { // more than the lease
		if d.Ping(context.Background()) == nil {
			t.Fatal("the database is not away")
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	h.delivered(i)
	if tried := h.attempts(i); len(tried) != 1 || tried[0].Result != spool.ResultDelivered {
		t.Errorf("attempts %+v", tried)
	}
	if n := len(h.net.Messages("p@slowly.example")); n != 1 {
		t.Errorf("sent %d times", n)
	}
	more := h.accept(submit.Draft{}, "q@modern.example").Deliveries[0].Delivery
	h.delivered(more)
}

// TestARunTakenForDeadBeginsAnew: what it held in memory is delivered all the
// same, and once.
func TestARunTakenForDeadBeginsAnew(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		h := start(t, d, internet(t), func(deps *deliver.Deps) { deps.PerDestination, deps.Lease, deps.Log = 1, time.Second, quiet })
		h.add(fake.Domain{Name: "slowly.example", Host: &fake.Behavior{Delay: 30 * time.Millisecond}})
		var all []id.ID
		for i := range 8 {
			all = append(all, h.accept(submit.Draft{}, fmt.Sprintf("p%d@slowly.example", i)).Deliveries[0].Delivery)
		}
		was := h.engine.Run()
		h.exec("DELETE FROM deliver_runs WHERE id = ?", was)
		h.until("another run begins", func() bool { return h.engine.Run() != was })
		h.delivered(all...)
		for i := range all {
			if n := len(h.net.Messages(fmt.Sprintf("p%d@slowly.example", i))); n != 1 {
				t.Errorf("p%d got it %d times", i, n)
			}
		}
	})
}

// TestNothingIsOwnedByNobody: rows of a run that was never buried in order,
// and rows of this run that are not in its memory, as after a commit whose
// answer was lost.
func TestNothingIsOwnedByNobody(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		h := start(t, d, internet(t), func(deps *deliver.Deps) { deps.Log = quiet })
		r := h.accept(submit.Draft{SendAt: time.Now().Add(time.Hour)}, "anna@modern.example", "bruno@tls12.example", "ines@shared-a.example")
		now := clock.Micros(time.Now())
		own := "UPDATE spool_unsettled SET owner = ?, state = ?, next_at = ? WHERE delivery_id = ?"
		h.exec(own, id.New(), "ready", now, r.Deliveries[0].Delivery)
		h.exec(own, id.New(), "sending", now, r.Deliveries[1].Delivery)
		h.exec(own, h.engine.Run(), "ready", now, r.Deliveries[2].Delivery)
		if err := h.engine.Sweep(context.Background()); err != nil {
			t.Fatal(err)
		}
		for i, attempts := range []int{1, 2, 1} {
			h.delivered(r.Deliveries[i].Delivery)
			if got := h.delivery(r.Deliveries[i].Delivery).Attempts; got != attempts {
				t.Errorf("delivery %d: %d attempts, want %d", i, got, attempts)
			}
		}
	})
}

// TestACancelWinsUntilTheAttemptBegins races cancels against attempts: each
// ends in exactly one way, and what is canceled is not sent.
func TestACancelWinsUntilTheAttemptBegins(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		h := start(t, d, internet(t), nil)
		desk := &spool.Desk{DB: d, Custody: h.Custody}
		canceled := 0
		for i := range 30 {
			to := fmt.Sprintf("p%d@modern.example", i)
			r := h.accept(submit.Draft{}, to)
			time.Sleep(time.Duration(i) * time.Millisecond / 2) // so that both come first now and then
			n, err := desk.Cancel(context.Background(), h.Org.ID, r.Message, "op", time.Now())
			if err != nil {
				t.Fatal(err)
			}
			i := r.Deliveries[0].Delivery
			h.until("it settles", func() bool { return h.delivery(i).State.Settled() })
			sent, state := len(h.net.Messages(to)), h.delivery(i).State
			if n == 1 && (state != spool.Canceled || sent != 0) || n == 0 && (state != spool.Delivered || sent != 1) {
				t.Errorf("cancel says %d, the record %s, and %d arrived", n, state, sent)
			}
			canceled += n
		}
		if canceled == 0 {
			t.Error("no cancel ever won")
		}
	})
}

// TestWaitsGrowAndEnd lets two days pass: the waits double within their bounds
// and the delivery expires when they are over.
func TestWaitsGrowAndEnd(t *testing.T) {
	t.Parallel()
	n := internet(t)
	if err := n.AddDomain(fake.Domain{Name: "never.example", Host: &fake.Behavior{Rcpt: func(string, int) string { return "451 4.3.0 not now" }}}); err != nil {
		t.Fatal(err)
	}
	began := time.Now().UTC().Truncate(time.Second)
	clk := clock.NewFake(began)
	h := start(t, dbtest.SQLite(t), n, func(deps *deliver.Deps) {
		deps.Clock, deps.RetryMin, deps.RetryMax = clk, 5*time.Minute, 4*time.Hour
	})
	h.door.Clock = clk
	i := h.accept(submit.Draft{}, "p@never.example").Deliveries[0].Delivery
	nominal, tries := 5*time.Minute, 0
	for {
		tries++
		h.until("one more attempt is recorded", func() bool {
			clk.Advance(time.Second) // wakes whoever waits; the lease is renewed in between
			return h.delivery(i).Attempts == tries
		})
		got := h.delivery(i)
		if got.State == spool.Expired {
			break
		}
		if got.State != spool.Deferred {
			t.Fatalf("attempt %d left it %s", tries, got.State)
		}
		wait := got.NextAt.Sub(clk.Now()) // some seconds less than was decided
		if slack := time.Minute; wait < nominal*8/10-slack || wait > nominal*12/10 {
			t.Errorf("after attempt %d it waits %v, want about %v", tries, wait, nominal)
		}
		clk.Advance(wait)
		nominal = min(2*nominal, 4*time.Hour)
	}
	got := h.delivery(i)
	if age := clk.Now().Sub(began); got.Reason != spool.ReasonExpired || age > 48*time.Hour || age < 40*time.Hour || tries < 12 {
		t.Errorf("it ended after %v and %d attempts as %s, %q", age, tries, got.State, got.Reason)
	}
	if results := h.attempts(i); slices.ContainsFunc(results, func(a spool.Tried) bool { return a.Code != 451 }) {
		t.Error("an attempt was no attempt")
	}
}
