package spool_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/spool"
)

func TestSearch(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		desk := &spool.Desk{DB: d, Custody: s.keys}
		var all []id.ID
		add := func(g given, to ...string) {
			m, _ := s.accept(g, to...)
			all = append(all, m.ID)
			s.clk.Advance(time.Minute)
		}
		began := s.clk.Now()
		add(given{sender: "ada@clinic.test"}, "x@home.example", "y@home.example")
		add(given{sender: "ada@clinic.test", state: spool.Held}, "y@home.example")
		add(given{sender: "bob@clinic.test", state: spool.Failed}, "X@Home.example")
		s.accept(given{org: s.other, sender: "ada@clinic.test"}, "x@home.example")
		a := func(text string) mail.Address { return address(t, text) }
		for name, c := range map[string]struct {
			w    spool.Wanted
			want []int // of all, newest first
			more bool
		}{
			"everything":   {spool.Wanted{Limit: 10}, []int{2, 1, 0}, false},
			"a page":       {spool.Wanted{Limit: 2}, []int{2, 1}, true},
			"the next":     {spool.Wanted{Limit: 2, Before: all[1]}, []int{0}, false},
			"a full page":  {spool.Wanted{Limit: 3}, []int{2, 1, 0}, false},
			"sender":       {spool.Wanted{Limit: 10, Sender: a("ada@clinic.test")}, []int{1, 0}, false},
			"any case":     {spool.Wanted{Limit: 10, Sender: a("ADA@clinic.TEST")}, []int{1, 0}, false},
			"nobody":       {spool.Wanted{Limit: 10, Sender: a("ad@clinic.test")}, nil, false},
			"recipient":    {spool.Wanted{Limit: 10, Recipient: a("x@home.example")}, []int{2, 0}, false},
			"held":         {spool.Wanted{Limit: 10, State: spool.Held}, []int{1}, false},
			"failed":       {spool.Wanted{Limit: 10, State: spool.Failed}, []int{2}, false},
			"since":        {spool.Wanted{Limit: 10, Since: began.Add(time.Minute)}, []int{2, 1}, false},
			"until":        {spool.Wanted{Limit: 10, Until: began.Add(time.Minute)}, []int{0}, false},
			"all together": {spool.Wanted{Limit: 10, Sender: a("ada@clinic.test"), Recipient: a("y@home.example"), State: spool.Ready, Since: began}, []int{0}, false},
		} {
			found, more, err := desk.Search(ctx, s.org, c.w)
			if err != nil {
				t.Fatal(err)
			}
			var got []int
			for _, f := range found {
				got = append(got, slices.Index(all, f.Message.ID))
			}
			if !slices.Equal(got, c.want) || more != c.more {
				t.Errorf("%s: found %v, more %v", name, got, more)
			}
		}
		found, _, err := desk.Search(ctx, s.org, spool.Wanted{Limit: 10, Sender: a("bob@clinic.test")})
		if err != nil || len(found) != 1 || found[0].Message.Details.Subject.Reveal() != canary+" subject" || found[0].Deliveries[0].Recipient.Reveal() != "X@home.example" {
			t.Errorf("what is found is not shown: %v", err)
		}
	})
}

func TestQueue(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		_, a := s.accept(given{}, "x@one.example", "y@two.example")
		_, held := s.accept(given{state: spool.Held}, "x@one.example")
		_, theirs := s.accept(given{org: s.other}, "x@one.example")
		s.accept(given{state: spool.Failed}, "x@one.example")
		list := func(org id.ID, f spool.QueueFilter) (got []id.ID) {
			if f.Limit == 0 {
				f.Limit = 10
			}
			s.read(org, func(tx *db.Tx) error {
				all, err := spool.Queue(tx, f)
				for _, q := range all {
					got = append(got, q.Delivery)
				}
				return err
			})
			return got
		}
		for name, c := range map[string]struct{ got, want []id.ID }{
			"mine":        {list(s.org, spool.QueueFilter{}), []id.ID{a[0].ID, a[1].ID, held[0].ID}},
			"theirs":      {list(s.other, spool.QueueFilter{}), []id.ID{theirs[0].ID}},
			"the machine": {list(db.System, spool.QueueFilter{}), []id.ID{a[0].ID, a[1].ID, held[0].ID, theirs[0].ID}},
			"held":        {list(s.org, spool.QueueFilter{State: spool.Held}), []id.ID{held[0].ID}},
			"a domain":    {list(s.org, spool.QueueFilter{Domain: "one.example"}), []id.ID{a[0].ID, held[0].ID}},
			"both":        {list(s.org, spool.QueueFilter{Domain: "two.example", State: spool.Held}), nil},
			"a page":      {list(s.org, spool.QueueFilter{Limit: 2}), []id.ID{a[0].ID, a[1].ID}},
			"the next":    {list(s.org, spool.QueueFilter{Limit: 2, After: a[1].ID}), []id.ID{held[0].ID}},
		} {
			if !slices.Equal(c.got, c.want) {
				t.Errorf("%s: %v, want %v", name, c.got, c.want)
			}
		}
		s.read(db.System, func(tx *db.Tx) error {
			depth, err := spool.Depth(tx)
			if len(depth) != 2 || depth[spool.Ready] != 3 || depth[spool.Held] != 1 {
				t.Errorf("depth %v", depth)
			}
			return err
		})
		s.read(s.org, func(tx *db.Tx) error {
			messages, deliveries, unsettled, err := spool.Count(tx)
			if messages != 3 || deliveries != 4 || unsettled != 3 {
				t.Errorf("counted %d, %d, %d", messages, deliveries, unsettled)
			}
			return err
		})
	})
}

// TestAnotherOrganizationSeesAndDoesNothing: absent and foreign look alike.
func TestAnotherOrganizationSeesAndDoesNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		desk := &spool.Desk{DB: d, Custody: s.keys}
		run := s.runs[1]
		for _, m := range []model{{state: spool.Held}, {state: spool.Scheduled}, {state: spool.Ready}, {state: spool.Ready, owner: 1},
			{state: spool.Sending, owner: 1}, {state: spool.Deferred}, {state: spool.Waiting}} {
			mine := s.reach(t, m)
			before, told := s.delivery(mine), s.told(mine)
			owner, _ := s.owner(mine)
			try := func(what string, fn func(tx *db.Tx) (bool, error)) {
				t.Helper()
				var done bool
				err := d.Write(ctx, s.other, func(tx *db.Tx) (err error) {
					done, err = fn(tx)
					return err
				})
				if done && err == nil {
					t.Errorf("another organization could %s what is %s", what, m.state)
				}
			}
			now := s.clk.Now()
			try("hold", func(tx *db.Tx) (bool, error) { return true, spool.Hold(tx, mine.ID, "op", now) })
			try("release", func(tx *db.Tx) (bool, error) { return true, spool.ReleaseHeld(tx, mine.ID, "op", now) })
			try("retry", func(tx *db.Tx) (bool, error) { return true, spool.Retry(tx, mine.ID, "op", now) })
			try("cancel", func(tx *db.Tx) (bool, error) { return spool.Cancel(tx, mine.ID, "r", "op", now) })
			try("cancel the message of", func(tx *db.Tx) (bool, error) {
				_, err := spool.CancelMessage(tx, mine.Message, "r", "op", now)
				return true, err
			})
			try("start", func(tx *db.Tx) (bool, error) {
				return spool.Start(tx, item(mine), run, mine.Plan, spool.Sealing{Seal: policy.TLS}, nil, now)
			})
			try("finish", func(tx *db.Tx) (bool, error) {
				return spool.Finish(tx, item(mine), run, nil, spool.Outcome{State: spool.Delivered, At: now})
			})
			try("read", func(tx *db.Tx) (bool, error) { return false, spool.MarkRead(tx, mine.Message, mine.ID, now) })
			try("expire", func(tx *db.Tx) (bool, error) { return false, spool.ExpireWaiting(tx, mine.Message, mine.ID, now) })
			try("give back", func(tx *db.Tx) (bool, error) { return false, spool.GiveBack(tx, item(mine), run) })
			foreign := item(mine)
			foreign.Org = s.other
			s.check(spool.TakeOver(ctx, d, foreign, run, now))
			after := s.delivery(mine)
			if ownerNow, _ := s.owner(mine); fmt.Sprintf("%+v", after) != fmt.Sprintf("%+v", before) || ownerNow != owner || !slices.Equal(s.told(mine), told) {
				t.Errorf("another organization changed %+v to %+v", before, after)
			}
			err := d.Read(ctx, s.other, func(tx *db.Tx) error {
				_, err := spool.LoadDelivery(tx, nil, mine.ID)
				return err
			})
			refused(t, "the record", err, "no_delivery")
			_, err = desk.Message(ctx, s.other, mine.Message)
			refused(t, "message", err, "no_message")
			_, _, err = desk.Delivery(ctx, s.other, mine.ID)
			refused(t, "delivery", err, "no_delivery")
			_, err = desk.Cancel(ctx, s.other, mine.Message, "op", now)
			refused(t, "cancel", err, "no_message")
		}
		m, dl := s.one(given{})
		n := s.notice(m, dl, "code:x", run)
		err := d.Write(ctx, s.other, func(tx *db.Tx) error {
			if ok, err := spool.StartNotice(tx, spool.Item{ID: n.ID, Org: s.other, Notice: true}, run); ok || err != nil {
				t.Errorf("another organization began a notice: %v", err)
			}
			if ok, err := spool.FinishNotice(tx, n, run, spool.Outcome{State: spool.Delivered, At: s.clk.Now()}); ok || err != nil {
				t.Errorf("another organization finished a notice: %v", err)
			}
			_, err := spool.LoadNotice(tx, s.keys, n.ID)
			return err
		})
		refused(t, "notice", err, "no_delivery")
	})
}

// TestNothingPrivateIsStoredInClear reads every column of every table of the
// spool, and the ledger.
func TestNothingPrivateIsStoredInClear(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		m, dl := s.one(given{owner: s.runs[1]})
		s.notice(m, dl, "code:1", id.ID{})
		s.write(s.org, func(tx *db.Tx) error {
			_, err := spool.Finish(tx, item(dl), s.runs[1], m.Key, spool.Outcome{State: spool.Failed, Reason: "rejected", At: s.clk.Now(), Attempt: &spool.Attempt{
				Number: 1, Result: spool.ResultPermanent, Code: 550, Reply: private.NewString("no " + canary + ".rcpt here"), Began: s.clk.Now(), Evidence: &spool.Evidence{MX: "mx.home.example"}}})
			return err
		})
		for _, table := range []string{"spool_messages", "spool_deliveries", "spool_unsettled", "spool_notices", "ledger_entries"} {
			s.read(s.org, func(tx *db.Tx) error {
				rows, err := tx.Query("SELECT * FROM " + table)
				if err != nil {
					return err
				}
				defer rows.Close()
				columns, err := rows.Columns()
				if err != nil {
					return err
				}
				for rows.Next() {
					values := make([]any, len(columns))
					into := make([]any, len(columns))
					for i := range values {
						into[i] = &values[i]
					}
					if err := rows.Scan(into...); err != nil {
						return err
					}
					for i, v := range values {
						text := fmt.Sprint(v)
						if b, ok := v.([]byte); ok {
							text = string(b)
						}
						if strings.Contains(strings.ToLower(text), canary) {
							t.Errorf("%s.%s shows what is private", table, columns[i])
						}
					}
				}
				return rows.Err()
			})
		}
		desk := &spool.Desk{DB: d, Custody: s.keys}
		_, tried, err := desk.Delivery(ctx, s.org, dl.ID)
		if err != nil || len(tried) != 1 || tried[0].Reply.Reveal() != "no "+canary+".rcpt here" || tried[0].Code != 550 || tried[0].Evidence.MX != "mx.home.example" {
			t.Errorf("the attempt reads %+v, %v", tried, err)
		}
		shown, err := desk.Message(ctx, s.org, m.ID)
		if err != nil {
			t.Fatal(err)
		}
		got := shown.Message
		if !bytes.Equal(got.Header, m.Header) || got.Envelope != m.Envelope || got.Details.From != m.Details.From || got.Details.Tags[0] != m.Details.Tags[0] ||
			got.Details.Metadata[0] != m.Details.Metadata[0] || got.Purpose != m.Purpose || !got.ExpiresAt.Equal(m.ExpiresAt) || got.Blob != m.Blob || got.Client != m.Client {
			t.Errorf("the message reads otherwise than it was written")
		}
	})
}

// TestSealedColumnsBelongToTheirRow: a ciphertext moved to another row of the
// same message does not open there.
func TestSealedColumnsBelongToTheirRow(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		m, all := s.accept(given{}, "x@home.example", "y@home.example")
		s.write(s.org, func(tx *db.Tx) error {
			_, err := tx.Exec(`UPDATE spool_deliveries SET recipient_sealed = (SELECT recipient_sealed FROM spool_deliveries WHERE id = ?) WHERE id = ?`, all[0].ID, all[1].ID)
			return err
		})
		err := d.Read(ctx, s.org, func(tx *db.Tx) error {
			_, err := spool.LoadDelivery(tx, m.Key, all[1].ID)
			return err
		})
		refused(t, "a recipient moved to another row", err, "content_damaged")
	})
}

func TestCancelOfAMessage(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		desk := &spool.Desk{DB: d, Custody: s.keys}
		m, all := s.accept(given{owner: s.runs[1]}, "a@x.example", "b@x.example", "c@x.example", "d@x.example")
		s.step(t, all[0], starts(1), model{spool.Ready, 1, 0})
		s.step(t, all[1], finishes(1, spool.Delivered, true), model{spool.Ready, 1, 0})
		s.step(t, all[2], finishes(1, spool.Waiting, true), model{spool.Ready, 1, 0})
		for _, want := range []int{2, 0} {
			if n, err := desk.Cancel(ctx, s.org, m.ID, "cli_x", s.clk.Now()); err != nil || n != want {
				t.Errorf("canceled %d, want %d: %v", n, want, err)
			}
		}
		for i, want := range []spool.State{spool.Sending, spool.Delivered, spool.Canceled, spool.Canceled} {
			if got := s.delivery(all[i]).State; got != want {
				t.Errorf("delivery %d is %s, want %s", i, got, want)
			}
		}
		_, err := desk.Cancel(ctx, s.org, id.New(), "cli_x", s.clk.Now())
		refused(t, "no message at all", err, "no_message")
	})
}
