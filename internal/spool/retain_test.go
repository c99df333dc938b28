package spool_test

import (
	"testing"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/spool"
)

// A record outlives its content: who asks for it, or finds it on a page, gets
// what is left.
func TestTheDeskShowsWhatIsLeftOfAMessage(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		desk := &spool.Desk{DB: d, Custody: s.keys}
		kept, _ := s.accept(given{sender: "ada@clinic.test"}, "x@home.example")
		m, deliveries := s.accept(given{sender: "ada@clinic.test"}, "x@home.example")
		run := s.runs[1]
		s.take(run)
		s.write(s.org, func(tx *db.Tx) error {
			it := item(deliveries[0])
			if _, err := spool.Start(tx, it, run, deliveries[0].Plan, spool.Sealing{Seal: policy.PGP,
				Protection: &spool.Protection{Tier: policy.Confirmed, Source: "wkd", Key: private.NewString("fingerprint")}}, m.Key, s.clk.Now()); err != nil {
				return err
			}
			_, err := spool.Finish(tx, it, run, m.Key, spool.Outcome{State: spool.Delivered, At: s.clk.Now(),
				Attempt: &spool.Attempt{Number: 1, Result: spool.ResultDelivered, Code: 250, Reply: private.NewString("thanks, x@home.example"), Began: s.clk.Now()}})
			return err
		})
		if _, tried, err := desk.Delivery(ctx, s.org, deliveries[0].ID); err != nil || len(tried) != 1 || tried[0].Reply.Empty() || tried[0].Protection.Key.Empty() {
			t.Fatalf("before: %+v, %v", tried, err)
		}
		s.write(s.org, func(tx *db.Tx) error {
			if err := s.keys.DestroyDataKey(tx, m.Key.ID); err != nil {
				return err
			}
			return spool.ForgetContent(tx, m.ID, s.clk.Now())
		})
		found, _, err := desk.Search(ctx, s.org, spool.Wanted{Limit: 10})
		if err != nil || len(found) != 2 || found[0].Message.ID != m.ID || !found[0].Destroyed || found[1].Message.ID != kept.ID || found[1].Destroyed {
			t.Fatalf("%+v, %v", found, err)
		}
		left := found[0]
		if len(left.Deliveries) != 1 || left.Deliveries[0].State != spool.Delivered || left.Deliveries[0].Recipient.Reveal() != "" ||
			left.Message.Details.Subject.Reveal() != "" || left.Message.Envelope.Sender.Reveal() != "" {
			t.Errorf("%+v", left)
		}
		if found, _, err := desk.Search(ctx, s.org, spool.Wanted{Limit: 10, Recipient: address(t, "x@home.example")}); err != nil || len(found) != 1 {
			t.Errorf("by an address that is destroyed: %d found, %v", len(found), err)
		}
		dl, tried, err := desk.Delivery(ctx, s.org, deliveries[0].ID)
		if err != nil || dl.State != spool.Delivered || len(tried) != 1 || tried[0].Code != 250 || !tried[0].Reply.Empty() || !tried[0].Protection.Key.Empty() {
			t.Errorf("%+v, %+v, %v", dl, tried, err)
		}
	})
}
