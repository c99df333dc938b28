package deliver_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/deliver"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
)

// TestANoticeSaysNothingOfTheMessage: what travels over any TLS brings the
// link and nothing that the sender wrote.
func TestANoticeSaysNothingOfTheMessage(t *testing.T) {
	h := start(t, dbtest.SQLite(t), internet(t), nil)
	r := h.accept(submit.Draft{Message: strings.NewReader("From: \"canaryname\" <canarylocal@clinic.test>\r\nReply-To: canaryreply@clinic.test\r\n" +
		"Subject: canarysubject\r\nX-Case: canaryheader\r\n\r\ncanarybody\r\n")}, "edith@expired.example")
	h.until("the notice is accepted", func() bool { return h.delivery(r.Deliveries[0].Delivery).State == spool.Waiting })
	all := h.net.Messages("edith@expired.example")
	if len(all) != 1 {
		t.Fatalf("%d mails", len(all))
	}
	raw := string(all[0].Raw)
	v, err := mail.Parse(strings.NewReader(raw), mail.Limits{})
	if err != nil || v.Broken {
		t.Fatalf("the notice does not parse: %v", err)
	}
	if !strings.Contains(v.Text.Reveal(), "http://localhost/m/") {
		t.Error("the notice has no link")
	}
	for _, text := range []string{raw, v.Subject.Reveal(), v.From.Reveal(), v.Text.Reveal(), v.HTML.Reveal()} {
		if strings.Contains(text, "canary") || strings.Contains(text, "ada@") || strings.Contains(text, r.Message.Text(id.Message)) {
			t.Errorf("the notice tells of the message:\n%s", text)
		}
	}
}

// TestADoubtfulLeaseSendsNothing: while a worker prepares its attempt, this
// run's lease cannot be renewed any more.
func TestADoubtfulLeaseSendsNothing(t *testing.T) {
	const lease = time.Second
	d, ctx := dbtest.SQLite(t), context.Background()
	ddl := func(text string) error {
		return d.Write(ctx, db.System, func(tx *db.Tx) error { _, err := tx.Exec(text); return err })
	}
	var once sync.Once
	doubt := make(chan struct{})
	h := start(t, d, internet(t), func(deps *deliver.Deps) {
		deps.Lease = lease
		today := deps.Policy
		deps.Policy = func(ctx context.Context, org id.ID) (policy.Document, int64, error) {
			once.Do(func() {
				if err := ddl(`CREATE TRIGGER late BEFORE UPDATE ON deliver_runs BEGIN SELECT RAISE(ABORT, 'late'); END`); err != nil {
					t.Error(err)
				}
				time.Sleep(lease/2 + time.Millisecond) // half the time since the last renewal, at the least
				close(doubt)
			})
			return today(ctx, org)
		}
	})
	one := h.accept(submit.Draft{}, "anna@modern.example").Deliveries[0].Delivery
	h.until("an attempt is prepared", func() bool {
		select {
		case <-doubt:
			return true
		default:
			return false
		}
	})
	var owned int
	h.until("the attempt is given up", func() bool {
		if err := d.Read(ctx, db.System, func(tx *db.Tx) error {
			return tx.Row("SELECT count(*) FROM spool_unsettled WHERE owner IS NOT NULL").Scan(&owned)
		}); err != nil {
			t.Fatal(err)
		}
		return owned == 0
	})
	if got := h.delivery(one); got.State != spool.Ready || got.Attempts != 0 || len(h.net.Messages("anna@modern.example")) != 0 {
		t.Errorf("a run whose lease is in doubt went on: %s, %d attempts", got.State, got.Attempts)
	}
	if err := ddl("DROP TRIGGER late"); err != nil {
		t.Fatal(err)
	}
	h.until("it is delivered later", func() bool { return h.delivery(one).State == spool.Delivered })
	if n := len(h.net.Messages("anna@modern.example")); n != 1 {
		t.Errorf("delivered %d times", n)
	}
}

// TestANoticeObeysMTASTS: a host that the domain's enforced policy does not
// name gets neither the message nor its notice, however good its certificate.
func TestANoticeObeysMTASTS(t *testing.T) {
	h := start(t, dbtest.SQLite(t), internet(t), nil)
	const to = "nils@sts-unlisted-mx.example"
	one := h.accept(submit.Draft{}, to).Deliveries[0].Delivery
	h.until("it is settled", func() bool { return h.delivery(one).State.Settled() })
	if got := h.delivery(one); got.State != spool.Failed || got.Reason != spool.ReasonNoPrivateChannel || len(h.net.Messages(to)) != 0 {
		t.Errorf("%s %q, %d mails", got.State, got.Reason, len(h.net.Messages(to)))
	}
}

// TestAStalePolicyFailsNothing: a domain moves to another mail host and says so
// in a new policy, which is found before mail fails by the old one (RFC 8461
// section 5.1).
func TestAStalePolicyFailsNothing(t *testing.T) {
	h := start(t, dbtest.SQLite(t), internet(t), nil)
	const domain, to = "sts-unlisted-mx.example", "nils@sts-unlisted-mx.example"
	before := h.accept(submit.Draft{}, to).Deliveries[0].Delivery
	h.until("it fails by the policy", func() bool { return h.delivery(before).State == spool.Failed })
	if err := h.net.SetSTS(domain, "2", fake.STSPolicy("enforce", time.Hour, "mx."+domain)); err != nil {
		t.Fatal(err)
	}
	after := h.accept(submit.Draft{}, to).Deliveries[0].Delivery
	h.until("it is settled", func() bool { return h.delivery(after).State.Settled() })
	if got := h.delivery(after); got.State != spool.Delivered || got.Grade != policy.Authenticated {
		t.Errorf("%s %q, %v", got.State, got.Reason, got.Grade)
	}
}
