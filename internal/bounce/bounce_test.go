package bounce

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/custody/custodytest"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/spool/spooltest"
)

var ctx = context.Background()

// What must never stand in a notice.
const (
	canarySubject = "canary-subject"
	canaryHeader  = "canary-header"
	canaryReply   = "canary-reply"
	canaryTag     = "canary-tag"
)

// site is an installation with one organization and one run that delivers.
type site struct {
	t   testing.TB
	d   *db.DB
	c   *custody.Custody
	clk *clock.Fake
	org id.ID
	run id.ID
	log bytes.Buffer

	proved bool // of senders outside
}

func newSite(t testing.TB, d *db.DB) *site {
	t.Helper()
	s := &site{t: t, d: d, clk: clock.NewFake(when), org: id.New(), run: id.New()}
	s.c = custodytest.New(t, d, s.org)
	return s
}

func (s *site) write(fn func(tx *db.Tx) error) {
	s.t.Helper()
	if err := s.d.Write(ctx, s.org, fn); err != nil {
		s.t.Fatal(err)
	}
}

// accept puts a message with its deliveries into the spool, owned by the run.
func (s *site) accept(source, sender string, recipients ...string) (spool.Message, []spool.Delivery) {
	s.t.Helper()
	key, err := s.c.NewDataKey(s.org)
	if err != nil {
		s.t.Fatal(err)
	}
	now := s.clk.Now()
	m := spool.Message{
		ID: id.New(), Org: s.org, Source: source, Purpose: policy.Treatment, Key: key, Blob: id.New(), Size: 100,
		Header: []byte("Subject: " + canarySubject + "\r\nX-Note: " + canaryHeader + "\r\n\r\n"),
		Details: spool.Details{From: private.NewString(canaryHeader), Subject: private.NewString(canarySubject),
			Tags: []private.String{private.NewString(canaryTag)}},
		CreatedAt: now, SendAt: now, ExpiresAt: now.Add(48 * time.Hour),
	}
	m.Envelope.Proved = s.proved
	if sender != "" {
		m.Envelope.Sender = address(s.t, sender)
	}
	var all []spool.Delivery
	for _, r := range recipients {
		all = append(all, spool.Delivery{ID: id.New(), Org: s.org, Message: m.ID, Recipient: address(s.t, r), State: spool.Ready,
			Plan: policy.Plan{Seals: []policy.Seal{policy.TLS}, Floor: policy.Verified, NoticeFloor: policy.Encrypted}, Seal: policy.TLS, CreatedAt: now, NextAt: now})
	}
	p, err := spool.Prepare(m, all, "", func(a string) ([]byte, error) { return s.c.Index(s.org, spool.IndexAddress, a) })
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(func(tx *db.Tx) error {
		if err := s.c.SaveDataKey(tx, key); err != nil {
			return err
		}
		return p.Insert(tx, s.run)
	})
	return m, all
}

// refused is the outcome of an attempt to which the peer said no.
func (s *site) refused(state spool.State, reason string, code int, enhanced string) spool.Outcome {
	now := s.clk.Now()
	return spool.Outcome{State: state, Reason: reason, At: now, NextAt: now.Add(time.Hour), Attempt: &spool.Attempt{
		Number: 1, Seal: policy.TLS, Result: spool.ResultTemporary, Host: "mx.example.org", Code: code, Enhanced: enhanced,
		Reply: private.NewString(canaryReply), Began: now.Add(-time.Second)}}
}

func (s *site) finish(m spool.Message, d spool.Delivery, o spool.Outcome) {
	s.t.Helper()
	s.write(func(tx *db.Tx) error {
		it := spool.Item{ID: d.ID, Org: s.org, Message: m.ID, Domain: d.Recipient.Domain()}
		if ok, err := spool.Finish(tx, it, s.run, m.Key, o); err != nil || !ok {
			return fmt.Errorf("finish: %v %w", ok, err)
		}
		return nil
	})
}

// later moves the clock and takes what is due by then.
func (s *site) later(d time.Duration) {
	s.t.Helper()
	s.clk.Advance(d)
	if err := s.d.WriteAlone(ctx, db.System, func(tx *db.Tx) error {
		_, err := spooltest.TakeAll(tx, s.run, s.clk.Now())
		return err
	}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) place() {
	s.t.Helper()
	if _, err := ledger.Place(ctx, s.d, 0); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) writer(posted func([]spool.Item)) *Writer {
	return New(Deps{DB: s.d, Custody: s.c, Clock: s.clk, Hostname: "mail.clinic.test", Posted: posted,
		Log: slog.New(slog.NewTextHandler(&s.log, nil))})
}

// pass places what is new and lets a writer read it.
func (s *site) pass() {
	s.t.Helper()
	s.place()
	if err := s.writer(nil).Run(ctx); err != nil {
		s.t.Fatal(err)
	}
	s.caughtUp()
}

func (s *site) caughtUp() {
	s.t.Helper()
	if orgs, err := ledger.OrgsBehind(ctx, s.d, cursor, 10); err != nil || len(orgs) > 0 {
		s.t.Fatalf("behind: %v %v", orgs, err)
	}
}

// notices gives what was posted, oldest first.
func (s *site) notices() (all []spool.Notice) {
	s.t.Helper()
	if err := s.d.Read(ctx, s.org, func(tx *db.Tx) error {
		rows, err := tx.Query("SELECT id FROM spool_notices WHERE org_id = ? ORDER BY id", s.org)
		if err != nil {
			return err
		}
		defer rows.Close()
		var ids []id.ID
		for rows.Next() {
			var n id.ID
			if err := rows.Scan(&n); err != nil {
				return err
			}
			ids = append(ids, n)
		}
		_ = rows.Close()
		all = nil
		for _, n := range ids {
			notice, err := spool.LoadNotice(tx, s.c, n)
			if err != nil {
				return err
			}
			all = append(all, notice)
		}
		return rows.Err()
	}); err != nil {
		s.t.Fatal(err)
	}
	return all
}

// only wants exactly one notice and reads it strictly.
func (s *site) only() (spool.Notice, dsn) {
	s.t.Helper()
	all := s.notices()
	if len(all) != 1 {
		s.t.Fatalf("%d notices, want 1", len(all))
	}
	return all[0], s.read(all[0])
}

func (s *site) read(n spool.Notice) dsn {
	s.t.Helper()
	raw := n.Text.Reveal()
	d := readStrictly(s.t, raw)
	for _, canary := range []string{canarySubject, canaryHeader, canaryReply, canaryTag} {
		if bytes.Contains(raw, []byte(canary)) || strings.Contains(d.human, canary) {
			s.t.Errorf("%s stands in the notice", canary)
		}
	}
	return d
}

func TestTheSenderIsToldOnceOfAFailure(t *testing.T) {
	for _, source := range []string{spool.FromSMTP, spool.FromRelay} {
		t.Run(source, func(t *testing.T) {
			dbtest.Each(t, func(t *testing.T, d *db.DB) {
				s := newSite(t, d)
				m, dl := s.accept(source, "dr.ada@clinic.test", "tom@example.org", "eve@example.org")
				s.clk.Advance(time.Minute)
				s.finish(m, dl[0], s.refused(spool.Failed, spool.ReasonUserUnknown, 550, "5.1.1"))
				s.finish(m, dl[1], s.refused(spool.Delivered, "", 250, "2.0.0"))
				s.place()
				var woken []spool.Item
				if err := s.writer(func(items []spool.Item) { woken = append(woken, items...) }).Run(ctx); err != nil {
					t.Fatal(err)
				}
				s.caughtUp()
				n, got := s.only()
				if n.Kind != spool.KindDSN || n.To != m.Envelope.Sender || n.Message != m.ID || n.Delivery != dl[0].ID || n.Key.ID != m.Key.ID ||
					!n.CreatedAt.Equal(s.clk.Now()) || !n.ExpiresAt.After(n.CreatedAt) {
					t.Errorf("notice %+v", n)
				}
				if len(woken) != 1 || woken[0] != (spool.Item{ID: n.ID, Org: s.org, Message: m.ID, Notice: true, Domain: "clinic.test"}) {
					t.Errorf("woken for %v", woken)
				}
				wantFields(t, got.message, map[string]string{"Original-Envelope-Id": m.ID.Text(id.Message), "Arrival-Date": mail.FormatDate(when)})
				wantFields(t, got.rcpt, map[string]string{"Final-Recipient": "rfc822; tom@example.org", "Action": "failed", "Status": "5.1.1",
					"Remote-MTA": "dns; mx.example.org", "Diagnostic-Code": "smtp; 550 5.1.1", "Last-Attempt-Date": mail.FormatDate(when.Add(time.Minute))})
				s.pass()
				s.only()
				s.due(n)
			})
		})
	}
}

// due checks that whoever delivers finds the notice.
func (s *site) due(n spool.Notice) {
	s.t.Helper()
	var items []spool.Item
	if err := s.d.WriteAlone(ctx, db.System, func(tx *db.Tx) (err error) {
		items, err = spool.TakeNotices(tx, id.New(), s.clk.Now(), 10)
		return err
	}); err != nil || len(items) != 1 || items[0].ID != n.ID {
		s.t.Errorf("due are %v: %v", items, err)
	}
}

func TestWhoIsNotTold(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		for _, tc := range []struct{ source, sender string }{{spool.FromSMTP, ""}, {spool.FromRelay, ""}, {spool.FromAPI, "dr.ada@clinic.test"}} {
			m, dl := s.accept(tc.source, tc.sender, "tom@example.org", "eve@example.org")
			s.finish(m, dl[0], s.refused(spool.Failed, spool.ReasonRejected, 550, "5.1.1"))
			o := s.refused(spool.Deferred, spool.ReasonTemporary, 450, "4.2.0")
			o.At = when.Add(20 * time.Hour)
			s.finish(m, dl[1], o)
		}
		m, dl := s.accept(spool.FromSMTP, "dr.ada@clinic.test", "a@example.org", "b@example.org", "c@example.org")
		s.finish(m, dl[0], s.refused(spool.Delivered, "", 250, "2.0.0"))
		s.finish(m, dl[1], s.refused(spool.Waiting, "", 250, "2.0.0"))
		s.write(func(tx *db.Tx) error {
			_, err := spool.CancelMessage(tx, m.ID, spool.ReasonSender, "", s.clk.Now())
			return err
		})
		s.pass()
		if all := s.notices(); len(all) != 0 || s.log.Len() > 0 {
			t.Errorf("%d notices, log %q", len(all), s.log.String())
		}
	})
}

func TestADelayAndThenAFailure(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		m, dl := s.accept(spool.FromSMTP, "dr.ada@clinic.test", "tom@example.org")
		for range 3 { // at 0, 1 and 2 hours
			s.finish(m, dl[0], s.refused(spool.Deferred, spool.ReasonMailboxFull, 452, "4.2.2"))
			s.later(time.Hour)
		}
		s.later(time.Hour - time.Second)
		s.finish(m, dl[0], s.refused(spool.Deferred, spool.ReasonMailboxFull, 452, "4.2.2"))
		s.pass()
		if all := s.notices(); len(all) != 0 {
			t.Fatalf("%d notices before four hours", len(all))
		}
		for range 3 {
			s.later(time.Hour)
			s.finish(m, dl[0], s.refused(spool.Deferred, spool.ReasonMailboxFull, 452, "4.2.2"))
			s.pass()
		}
		n, got := s.only()
		if n.Kind != spool.KindDelay || !n.ExpiresAt.Equal(m.ExpiresAt) {
			t.Errorf("notice %+v", n)
		}
		wantFields(t, got.rcpt, map[string]string{"Action": "delayed", "Status": "4.2.2", "Diagnostic-Code": "smtp; 452 4.2.2",
			"Will-Retry-Until": mail.FormatDate(m.ExpiresAt)})

		s.later(41 * time.Hour)
		s.finish(m, dl[0], spool.Outcome{State: spool.Expired, Reason: spool.ReasonExpired, At: s.clk.Now()})
		s.pass()
		all := s.notices()
		if len(all) != 2 || all[1].Kind != spool.KindDSN {
			t.Fatalf("notices %+v", all)
		}
		got = s.read(all[1])
		wantFields(t, got.rcpt, map[string]string{"Action": "failed", "Status": "4.4.7", "Diagnostic-Code": "smtp; 452 4.2.2"})
		if !strings.Contains(got.human, "mailbox is full") {
			t.Errorf("text for people:\n%s", got.human)
		}
	})
}

// When nobody read the ledger for a while, a notice of a delay would be old
// news.
func TestADelayThatIsOverIsNotTold(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		m, dl := s.accept(spool.FromSMTP, "dr.ada@clinic.test", "a@example.org", "b@example.org")
		s.clk.Advance(5 * time.Hour)
		for _, x := range dl {
			s.finish(m, x, s.refused(spool.Deferred, spool.ReasonTemporary, 450, "4.2.0"))
		}
		s.later(time.Hour)
		s.finish(m, dl[0], s.refused(spool.Delivered, "", 250, "2.0.0"))
		s.finish(m, dl[1], s.refused(spool.Failed, spool.ReasonRejected, 550, "5.0.0"))
		s.pass()
		if n, _ := s.only(); n.Kind != spool.KindDSN || n.Delivery != dl[1].ID {
			t.Errorf("notice %+v", n)
		}
	})
}

func TestAnUnreadPortalMessageIsTold(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		m, dl := s.accept(spool.FromSMTP, "dr.ada@clinic.test", "tom@example.org")
		s.finish(m, dl[0], s.refused(spool.Waiting, "", 250, "2.0.0"))
		s.clk.Advance(30 * 24 * time.Hour)
		s.write(func(tx *db.Tx) error { return spool.ExpireWaiting(tx, m.ID, dl[0].ID, s.clk.Now()) })
		s.pass()
		_, got := s.only()
		wantFields(t, got.rcpt, map[string]string{"Action": "failed", "Status": "4.4.7", "Remote-MTA": "", "Diagnostic-Code": ""})
		if !strings.Contains(strings.Join(strings.Fields(got.human), " "), "did not read it before its link expired") {
			t.Errorf("text for people:\n%s", got.human)
		}
	})
}

// failMany makes n deliveries that fail, ten a message.
func (s *site) failMany(n int) {
	s.t.Helper()
	for range n / 10 {
		var to []string
		for i := range 10 {
			to = append(to, fmt.Sprintf("r%d@example.org", i))
		}
		m, dl := s.accept(spool.FromSMTP, "dr.ada@clinic.test", to...)
		for _, x := range dl {
			s.finish(m, x, s.refused(spool.Failed, spool.ReasonRejected, 550, "5.0.0"))
		}
	}
}

func TestWritersInARaceTellOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		s.failMany(200)
		s.place()
		var mu sync.Mutex
		seen, most := map[id.ID]int{}, 0
		var group sync.WaitGroup
		for range 4 {
			w := s.writer(func(items []spool.Item) {
				mu.Lock()
				defer mu.Unlock()
				most = max(most, len(items))
				for _, it := range items {
					seen[it.ID]++
				}
			})
			group.Go(func() {
				if err := w.Run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		// Who lost a batch leaves it to the others; one more pass takes what
		// is left if all of them did.
		s.pass()
		once := map[id.ID]bool{}
		for _, n := range s.notices() {
			if once[n.Delivery] || seen[n.ID] > 1 {
				t.Errorf("told twice of %s", n.Delivery.Text(id.Delivery))
			}
			once[n.Delivery] = true
			s.read(n)
		}
		if len(once) != 200 || most > batchPosts {
			t.Errorf("%d deliveries told, at most %d at once", len(once), most)
		}
	})
}

// What the cursor passes over is posted; what cannot be posted is not passed
// over.
func TestACrashLosesNothingAndRepeatsNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		s.failMany(10)
		s.place()
		rename := func(from, to string) {
			s.write(func(tx *db.Tx) error {
				_, err := tx.Exec("ALTER TABLE " + from + " RENAME TO " + to)
				return err
			})
		}
		rename("spool_notices", "away")
		if err := s.writer(nil).Run(ctx); err == nil {
			t.Fatal("no error")
		}
		rename("away", "spool_notices")
		if all := s.notices(); len(all) != 0 {
			t.Fatalf("%d notices of a transaction that failed", len(all))
		}
		s.pass()
		if all := s.notices(); len(all) != 10 {
			t.Fatalf("%d notices, want 10", len(all))
		}
		// A cursor that was lost, as by a restored backup, tells nobody twice.
		s.write(func(tx *db.Tx) error {
			_, err := tx.Exec("DELETE FROM ledger_cursors WHERE org_id = ?", s.org)
			return err
		})
		s.pass()
		if all := s.notices(); len(all) != 10 {
			t.Fatalf("%d notices, want 10", len(all))
		}
	})
}

func TestWhatCannotBeReadDoesNotStopTheRest(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		fail := func() (spool.Message, spool.Delivery) {
			m, dl := s.accept(spool.FromSMTP, "dr.ada@clinic.test", "tom@example.org")
			s.finish(m, dl[0], s.refused(spool.Failed, spool.ReasonRejected, 550, "5.0.0"))
			return m, dl[0]
		}
		destroyed, _ := fail()
		_, damaged := fail()
		good, _ := fail()
		s.write(func(tx *db.Tx) error {
			if _, err := tx.Exec("UPDATE spool_deliveries SET recipient_sealed = ? WHERE id = ?", make([]byte, 80), damaged.ID); err != nil {
				return err
			}
			return s.c.DestroyDataKey(tx, destroyed.Key.ID)
		})
		s.pass()
		if n, _ := s.only(); n.Message != good.ID {
			t.Errorf("notice about %s", n.Message.Text(id.Message))
		}
		if log := s.log.String(); !strings.Contains(log, damaged.ID.Text(id.Delivery)) || strings.Count(log, "\n") != 1 || strings.Contains(log, "tom") {
			t.Errorf("log %q", log)
		}
	})
}

func TestADestroyedOrganizationIsPassedOver(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		s.failMany(10)
		other := *s
		other.org = id.New()
		if err := s.c.CreateOrg(other.org); err != nil {
			t.Fatal(err)
		}
		other.failMany(10)
		if _, err := s.c.DestroyOrg(s.org); err != nil {
			t.Fatal(err)
		}
		other.pass()
		if all := other.notices(); len(all) != 10 {
			t.Errorf("%d notices", len(all))
		}
	})
}

// A long stretch that asks for nothing takes one move of the cursor.
func TestManyEventsAreReadInBatches(t *testing.T) {
	d := dbtest.SQLite(t)
	s := newSite(t, d)
	fill := func(n int) {
		s.write(func(tx *db.Tx) error {
			for range n {
				if err := ledger.Append(tx, ledger.Fact{Type: ledger.DeliverySealed, Message: id.New(), Delivery: id.New(), At: when}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	fill(3 * pageEvents)
	s.failMany(batchPosts + 10)
	fill(batchPages * pageEvents)
	s.place()
	w := s.writer(nil)
	for i, want := range []struct {
		notices int
		more    bool
	}{{batchPosts, true}, {batchPosts + 10, true}, {batchPosts + 10, false}, {batchPosts + 10, false}} {
		more, err := w.step(ctx, s.org)
		if err != nil || more != want.more || len(s.notices()) != want.notices {
			t.Fatalf("batch %d: %d notices, more %v, %v", i, len(s.notices()), more, err)
		}
	}
	s.caughtUp()
}
