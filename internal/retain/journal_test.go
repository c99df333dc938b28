package retain_test

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/bounce"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/retain"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
)

const archive = "keep@archive.example"

func (w *world) setJournal(address string) {
	w.T.Helper()
	if _, err := w.retain.Change(ctx, w.Org.ID, func(p *retain.Policy) error {
		p.Journal = w.address(address)
		return nil
	}); err != nil {
		w.T.Fatal(err)
	}
	w.pass(2 * time.Second) // doors look again after a second
}

func (w *world) draft(from string, to ...string) submit.Draft {
	w.T.Helper()
	draft := submit.Draft{Principal: auth.Principal{Org: w.Org.ID, Client: id.New(), Scopes: auth.Scopes()}, Source: spool.FromSMTP, Protocol: "ESMTPSA",
		Sender: w.address(from), Message: strings.NewReader("From: " + from + "\r\nSubject: Results\r\n\r\nAll is well.\r\n")}
	for _, a := range to {
		draft.Recipients = append(draft.Recipients, w.address(a))
	}
	return draft
}

func (w *world) submit(draft submit.Draft) submit.Receipt {
	w.T.Helper()
	r, err := w.door.Accept(ctx, draft)
	if err != nil {
		w.T.Fatal(err)
	}
	return r
}

// journalOf gives the archive's delivery of a message, if it has one, and how
// many there are in all.
func (w *world) journalOf(message id.ID) (j *spool.Delivery, all int) {
	w.T.Helper()
	w.read(w.Org.ID, func(tx *db.Tx) error {
		m, err := spool.LoadMessage(tx, w.Custody, message)
		if err != nil {
			return err
		}
		deliveries, err := spool.Deliveries(tx, m)
		for i := range deliveries {
			if deliveries[i].Journal {
				j = &deliveries[i]
			}
		}
		all = len(deliveries)
		return err
	})
	return j, all
}

func TestEverythingIsCopiedToTheArchive(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		w.setJournal(archive)
		draft := w.draft("ada@clinic.test", "x@y.example", "z@y.example")
		draft.Seal = policy.Portal // what the sender wants for the recipients
		if preview, err := w.door.Preview(ctx, w.draft("ada@clinic.test", "x@y.example")); err != nil || len(preview) != 1 {
			t.Errorf("the sender's preview: %v, %v", preview, err)
		}
		r := w.submit(draft)
		j, all := w.journalOf(r.Message)
		if len(r.Deliveries) != 2 || all != 3 || j == nil || j.Recipient.Reveal() != archive {
			t.Fatalf("%d in the receipt, %d in all, %+v", len(r.Deliveries), all, j)
		}
		if !slices.Equal(j.Plan.Seals, []policy.Seal{policy.PGP, policy.SMIME, policy.TLS}) || j.Plan.Floor < policy.Verified {
			t.Errorf("the archive's copy is sealed by %v over %v", j.Plan.Seals, j.Plan.Floor)
		}
		accepted := w.events(w.Org.ID, ledger.MessageAccepted)
		if text := string(accepted[0].Data); !strings.Contains(text, `"recipients":2,"journal":"`+j.ID.Text(id.Delivery)+`"`) || strings.Contains(text, "archive") {
			t.Error(text)
		}
		// The sender cannot call it back.
		w.write(w.Org.ID, func(tx *db.Tx) error {
			n, err := spool.CancelMessage(tx, r.Message, spool.ReasonSender, "cli", w.clock.Now())
			if n != 2 {
				t.Errorf("%d canceled", n)
			}
			return err
		})
		if j, _ := w.journalOf(r.Message); j.State != spool.Ready {
			t.Errorf("the copy is %s", j.State)
		}
		w.setJournal("other@archive.example")
		if _, err := w.retain.Change(ctx, w.Org.ID, func(p *retain.Policy) error { p.Purposes.Generic.Bodies = 30; return nil }); err != nil {
			t.Fatal(err)
		}
		if j, _ := w.journalOf(w.submit(w.draft("ada@clinic.test", "x@y.example")).Message); j == nil || j.Recipient.Reveal() != "other@archive.example" {
			t.Errorf("%+v", j)
		}
	})
}

func TestTheArchiveMakesNoCircle(t *testing.T) {
	w := open(t, dbtest.SQLite(t))
	w.setJournal(archive)
	for name, draft := range map[string]submit.Draft{
		"to the archive": w.draft("ada@clinic.test", "Keep@archive.example"),
		"also to it":     w.draft("ada@clinic.test", "x@y.example", archive),
	} {
		if j, all := w.journalOf(w.submit(draft).Message); j != nil || all != len(draft.Recipients) {
			t.Errorf("%s: %d deliveries, %+v", name, all, j)
		}
	}
	w.setJournal("archive@clinic.test")
	if j, _ := w.journalOf(w.submit(w.draft("archive@clinic.test", "x@y.example")).Message); j != nil {
		t.Error("mail from the archive goes to the archive")
	}
}

// The message goes whatever the archive's domain can do, and the organization
// is told; its sender is not.
func TestAnArchiveThatFails(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		w.setJournal(archive)
		publish := func(document string) {
			t.Helper()
			if _, err := w.Accounts.PublishPolicy(ctx, w.Org.ID, []byte(document)); err != nil {
				t.Fatal(err)
			}
			w.pass(2 * time.Second)
		}
		publish(`{"version":1,"order":["pgp","smime","tls","portal"],"tls_floor":"verified","rules":[{"name":"portal-only","when":{},"then":{"remove":["pgp","smime","tls"]}}]}`)
		r := w.submit(w.draft("ada@clinic.test", "x@y.example"))
		if j, _ := w.journalOf(r.Message); j.State != spool.Failed || j.Reason != spool.ReasonNoPrivateChannel || r.Deliveries[0].State != spool.Ready {
			t.Errorf("%s %s, the message %s", j.State, j.Reason, r.Deliveries[0].State)
		}
		publish(`{"version":1,"order":["pgp","smime","tls","portal"],"tls_floor":"verified","rules":[{"name":"no-archive","when":{"recipient":["archive.example"]},"then":{"refuse":"not there"}}]}`)
		r = w.submit(w.draft("ada@clinic.test", "x@y.example"))
		if j, _ := w.journalOf(r.Message); j.State != spool.Failed || j.Reason != spool.ReasonPolicyRefused || r.Deliveries[0].State != spool.Ready {
			t.Errorf("%s %s, the message %s", j.State, j.Reason, r.Deliveries[0].State)
		}
		publish(`{"version":1,"order":["pgp","smime","tls","portal"],"tls_floor":"verified"}`)
		w.submit(w.draft("ada@clinic.test", "x@y.example"))
		w.settle(spool.Failed) // three recipients and one copy
		writer := bounce.New(bounce.Deps{DB: d, Custody: w.Custody, Clock: clock.System{}, Log: slog.New(slog.DiscardHandler), Hostname: "mail.clinic.test"})
		if _, err := ledger.Place(ctx, d, 0); err != nil {
			t.Fatal(err)
		}
		if err := writer.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if n := rows(w, "spool_notices"); n != 3 {
			t.Errorf("%d reports to senders, want one for each recipient", n)
		}
		for org, want := range map[id.ID]int{w.Org.ID: 3, db.System: 3, w.NewOrg("lab", "lab.test").ID: 0} {
			w.read(org, func(tx *db.Tx) error {
				n, err := spool.JournalFailed(tx, w.clock.Now().Add(-day))
				if n != want {
					t.Errorf("%d copies failed, want %d", n, want)
				}
				return err
			})
		}
	})
}
