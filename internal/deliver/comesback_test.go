package deliver_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/sealpost/sealpost/internal/bounce/classify"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/deliver"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
)

// Every delivery leaves with its own envelope sender, the portal's notice too;
// what has the null sender keeps it.
func TestEachDeliveryHasItsReturnPath(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		n := internet(t)
		h := start(t, d, n, func(deps *deliver.Deps) {
			deps.ReturnPath = func(_ context.Context, _ id.ID, sender mail.Address, delivery id.ID) (mail.Address, error) {
				return mail.ParseAddress(delivery.Text(id.Delivery) + "@bounce." + sender.Domain())
			}
		})
		r := h.accept(submit.Draft{}, "jo@modern.example", "jo@expired.example")
		for _, f := range r.Deliveries {
			got, err := n.Wait(t.Context(), f.Recipient.Reveal(), 1)
			if err != nil {
				t.Fatal(err)
			}
			if want := f.Delivery.Text(id.Delivery) + "@bounce.clinic.test"; got[0].From != want {
				t.Errorf("%s came from %q", f.Recipient.Domain(), got[0].From)
			}
		}
	})
}

func TestANoticeWithoutAReturnPathHasTheNullSender(t *testing.T) {
	n := internet(t)
	h := start(t, dbtest.SQLite(t), n, func(deps *deliver.Deps) {
		deps.ReturnPath = func(_ context.Context, _ id.ID, sender mail.Address, _ id.ID) (mail.Address, error) {
			return sender, nil
		}
	})
	h.accept(submit.Draft{Seal: policy.Portal}, "jo@modern.example")
	if got, err := n.Wait(t.Context(), "jo@modern.example", 1); err != nil || got[0].From != "" {
		t.Errorf("%+v, %v", got, err)
	}
}

// An address that is suppressed by the time of the attempt is not sent to.
func TestSuppressedBeforeTheAttempt(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		n := internet(t)
		h := start(t, d, n, func(deps *deliver.Deps) {
			deps.Suppressed = func(_ context.Context, _ id.ID, to mail.Address, bulk bool) (string, error) {
				if to.Local() == "gone" || to.Local() == "cross" && bulk {
					return spool.ReasonSuppressedManual, nil
				}
				return "", nil
			}
		})
		for _, tc := range []struct {
			to      string
			purpose policy.Purpose
			want    spool.State
		}{{"gone", policy.Treatment, spool.Suppressed}, {"cross", policy.Marketing, spool.Suppressed}, {"cross", policy.Treatment, spool.Delivered}} {
			r := h.accept(submit.Draft{Purpose: tc.purpose}, tc.to+"@modern.example")
			h.until("settled", func() bool { return h.delivery(r.Deliveries[0].Delivery).State.Settled() })
			if got := h.delivery(r.Deliveries[0].Delivery); got.State != tc.want {
				t.Errorf("%s, %s: %s %s", tc.to, tc.purpose, got.State, got.Reason)
			}
		}
		if got, err := n.Wait(t.Context(), "cross@modern.example", 1); err != nil || len(got) != 1 || strings.Contains(string(got[0].Raw), "gone@") {
			t.Errorf("%d mails, %v", len(got), err)
		}
	})
}

// What a peer says no with is told by its class, and once.
func TestRepliesHaveClasses(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		n := internet(t)
		if err := n.AddDomain(fake.Domain{Name: "says-no.example", Host: &fake.Behavior{
			Rcpt: func(to string, _ int) string {
				if strings.HasPrefix(to, "full@") {
					return "552 5.2.2 mailbox full"
				}
				return "550 5.1.1 canary-reply: no such user"
			},
		}}); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		told := map[string]int{}
		h := start(t, d, n, func(deps *deliver.Deps) {
			deps.Refused = func(_ *db.Tx, to mail.Address, _ id.ID, class classify.Class, hard bool) error {
				mu.Lock()
				defer mu.Unlock()
				word := to.Local() + " " + string(class)
				if hard {
					word += " hard"
				}
				told[word] = 1 // a transaction can run twice
				return nil
			}
		})
		r := h.accept(submit.Draft{}, "jo@says-no.example", "full@says-no.example")
		for i, want := range []string{"mailbox_unknown", "mailbox_full"} {
			f := r.Deliveries[i]
			h.until("failed", func() bool { return h.delivery(f.Delivery).State == spool.Failed })
			if err := d.Read(t.Context(), h.Org.ID, func(tx *db.Tx) error {
				events, err := ledger.ForDelivery(tx, r.Message, f.Delivery)
				for _, e := range events {
					var data struct {
						Class string `json:"class"`
					}
					if e.Type == ledger.DeliveryAttempted && (json.Unmarshal(e.Data, &data) != nil || data.Class != want || strings.Contains(string(e.Data), "canary")) {
						t.Errorf("the ledger says %s", e.Data)
					}
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if len(told) != 2 || told["jo mailbox_unknown hard"] != 1 || told["full mailbox_full"] != 1 {
			t.Errorf("told %v", told)
		}
	})
}
