package submit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
	"github.com/sealpost/sealpost/internal/submit/submittest"
)

// house is a front door on an empty installation with one organization.
type house struct {
	*submittest.House
	door  *submit.Door
	clock *clock.Fake
	by    auth.Principal
}

func open(t *testing.T, d *db.DB) *house {
	t.Helper()
	fake := clock.NewFake(time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC))
	h := &house{House: submittest.New(t, d, fake, "clinic.test"), clock: fake}
	h.door = h.Door(nil)
	h.by = auth.Principal{Org: h.Org.ID, Client: id.New(), Scopes: auth.Scopes()}
	return h
}

func addr(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

const plain = "From: Dr. Ada <ada@clinic.test>\r\nTo: x@y.example\r\nBcc: hidden@z.example\r\nSubject: Results [secure]\r\n\r\nAll is well.\r\n"

func (h *house) draft(message string, to ...string) submit.Draft {
	d := submit.Draft{Principal: h.by, Source: spool.FromAPI, Sender: addr(h.T, "ada@clinic.test"), Message: strings.NewReader(message), Protocol: "HTTP"}
	for _, a := range to {
		d.Recipients = append(d.Recipients, addr(h.T, a))
	}
	return d
}

// stored reads a message back with its body.
func (h *house) stored(message id.ID) (m spool.Message, deliveries []spool.Delivery, body []byte) {
	h.T.Helper()
	ctx := context.Background()
	if err := h.DB.Read(ctx, h.Org.ID, func(tx *db.Tx) (err error) {
		if m, err = spool.LoadMessage(tx, h.Custody, message); err != nil {
			return err
		}
		deliveries, err = spool.Deliveries(tx, m)
		return err
	}); err != nil {
		h.T.Fatal(err)
	}
	r := h.Blob.Open(ctx, m.Key, m.Blob)
	defer r.Close()
	body, err := io.ReadAll(r)
	if err != nil {
		h.T.Fatal(err)
	}
	return m, deliveries, body
}

func (h *house) rows(table string) (n int) {
	h.T.Helper()
	if err := h.DB.Read(context.Background(), db.System, func(tx *db.Tx) error {
		return tx.Row("SELECT count(*) FROM " + table).Scan(&n)
	}); err != nil {
		h.T.Fatal(err)
	}
	return n
}

func (h *house) nothingStored(why string) {
	h.T.Helper()
	for _, table := range []string{"spool_messages", "spool_deliveries", "spool_unsettled", "blob_chunks", "submit_answers"} {
		if n := h.rows(table); n != 0 {
			h.T.Errorf("%s: %d rows in %s", why, n, table)
		}
	}
}

func TestAcceptStoresOnceAndHidesBlindCopies(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := open(t, d)
		r, err := h.door.Accept(context.Background(), h.draft(plain, "x@y.example", "X@Y.example", "hidden@z.example"))
		if err != nil {
			t.Fatal(err)
		}
		m, deliveries, body := h.stored(r.Message)
		if len(deliveries) != 2 || len(r.Deliveries) != 2 {
			t.Fatalf("%d deliveries; duplicates must merge into one of two", len(deliveries))
		}
		if string(body) != "All is well.\r\n" {
			t.Errorf("body %q", body)
		}
		header := string(m.Header)
		if strings.Contains(header, "hidden") || strings.Contains(header, "Bcc") {
			t.Errorf("the blind copy shows: %s", header)
		}
		for _, want := range []string{"Message-ID: <", "Date: ", "Received: by mail.clinic.test with HTTP id " + r.Message.Text(id.Message)} {
			if !strings.Contains(header, want) {
				t.Errorf("header lacks %q:\n%s", want, header)
			}
		}
		if m.Size != int64(len(header)+len(body)) {
			t.Errorf("size %d, want %d", m.Size, len(header)+len(body))
		}
		if m.Purpose != policy.Treatment {
			t.Errorf("purpose %q, want treatment by default", m.Purpose)
		}
		for _, dl := range deliveries {
			if dl.State != spool.Ready || dl.Final {
				t.Errorf("delivery %+v", dl)
			}
		}
	})
}

func TestRefusalsStoreNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := open(t, d)
		many := make([]string, 11)
		for i := range many {
			many[i] = fmt.Sprintf("p%d@y.example", i)
		}
		big := plain + strings.Repeat("0123456789abcdef\r\n", 1<<16)
		loop := strings.Repeat("Received: by a.example\r\n", 50) + plain
		past := func(dr *submit.Draft) { dr.ExpiresAt = h.clock.Now().Add(-time.Second) }
		for _, c := range []struct {
			reason string
			draft  submit.Draft
			change func(*submit.Draft)
		}{
			{"no_recipient", h.draft(plain), nil},
			{"too_many_recipients", h.draft(plain, many...), nil},
			{"message_too_large", h.draft(big, "x@y.example"), nil},
			{"loop", h.draft(loop, "x@y.example"), nil},
			{"bad_from", h.draft("Subject: x\r\n\r\nbody\r\n", "x@y.example"), nil},
			{"bad_header", h.draft("From ada@clinic.test\r\n\r\nbody\r\n", "x@y.example"), nil},
			{"sender_not_verified", h.draft("From: a@evil.example\r\n\r\nbody\r\n", "x@y.example"), nil},
			{"sender_not_verified", h.draft("From: ada@clinic.test, a@evil.example\r\n\r\nbody\r\n", "x@y.example"), nil},
			{"sender_not_verified", h.draft(plain, "x@y.example"), func(dr *submit.Draft) { dr.Sender = addr(t, "ada@evil.example") }},
			{"scope_missing", h.draft(plain, "x@y.example"), func(dr *submit.Draft) { dr.Principal.Scopes = []auth.Scope{auth.Read} }},
			{"expires_too_soon", h.draft(plain, "x@y.example"), past},
		} {
			if c.change != nil {
				c.change(&c.draft)
			}
			_, err := h.door.Accept(context.Background(), c.draft)
			if f := fault.From(err); f.Reason != c.reason {
				t.Errorf("want %s, got %s (%v)", c.reason, f.Reason, err)
			}
			if c.reason == "loop" && strings.Contains(err.Error(), "come by here") {
				t.Errorf("nothing shows that it came by here: %v", err)
			}
			h.nothingStored(c.reason)
		}
	})
}

func TestPolicyHoldsRefusesAndRemovesTriggers(t *testing.T) {
	h := open(t, dbtest.SQLite(t))
	ctx := context.Background()
	_, err := h.Accounts.PublishPolicy(ctx, h.Org.ID, []byte(`{"version":1,"order":["tls","portal"],"tls_floor":"verified","notice_floor":"encrypted","rules":[
		{"name":"secure","when":{"trigger":["[secure]"]},"then":{"remove":["tls"]}},
		{"name":"review","when":{"recipient":["held.example"]},"then":{"hold":"a person looks first"}},
		{"name":"never","when":{"recipient":["bad.example"]},"then":{"refuse":"we do not write there"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	r, err := h.door.Accept(ctx, h.draft(plain, "x@y.example", "x@held.example", "x@bad.example"))
	if err != nil {
		t.Fatal(err)
	}
	m, deliveries, _ := h.stored(r.Message)
	if strings.Contains(strings.ToLower(string(m.Header)), "secure]") {
		t.Error("the trigger is still in the subject")
	}
	want := []spool.State{spool.Ready, spool.Held, spool.Failed}
	for i, dl := range deliveries {
		if dl.State != want[i] {
			t.Errorf("%s is %s, want %s", dl.Recipient.Domain(), dl.State, want[i])
		}
		if dl.Plan.Allows(policy.TLS) {
			t.Errorf("%s may still go by TLS", dl.Recipient.Domain())
		}
	}
	if _, err := h.door.Accept(ctx, h.draft(plain, "x@bad.example")); fault.From(err).Reason != "refused_by_policy" {
		t.Errorf("all refused: %v", err)
	}
	preview, err := h.door.Preview(ctx, h.draft(plain, "x@y.example", "x@bad.example"))
	if err != nil || len(preview) != 2 || preview[0].Seal != policy.Portal || preview[1].State != spool.Failed {
		t.Errorf("preview %+v, %v", preview, err)
	}
	if n := h.rows("spool_messages"); n != 1 {
		t.Errorf("%d messages; preview and refusal must store none", n)
	}
}

func TestIdempotency(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := open(t, d)
		ctx := context.Background()
		try := func(key, request string) (submit.Receipt, error) {
			dr := h.draft(plain, "x@y.example")
			dr.IdempotencyKey, dr.RequestHash = private.NewString(key), []byte(request)
			return h.door.Accept(ctx, dr)
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		ids := map[id.ID]int{}
		for range 50 {
			wg.Go(func() {
				r, err := try("k1", "same")
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				ids[r.Message]++
				if len(r.Deliveries) != 1 || r.Deliveries[0].Recipient.Reveal() != "x@y.example" {
					t.Errorf("answer %+v", r)
				}
			})
		}
		wg.Wait()
		if len(ids) != 1 || h.rows("spool_messages") != 1 {
			t.Fatalf("50 racing requests of one key made %d messages, %d rows", len(ids), h.rows("spool_messages"))
		}
		if _, err := try("k1", "other"); fault.From(err).Reason != "idempotency_conflict" {
			t.Errorf("another body: %v", err)
		}
		if r, err := try("k2", "same"); err != nil || ids[r.Message] != 0 {
			t.Errorf("another key: %v", err)
		}
		h.by.Client = id.New()
		if r, err := try("k1", "other"); err != nil || ids[r.Message] != 0 {
			t.Errorf("another client's key: %v", err)
		}
		h.clock.Advance(72*time.Hour + time.Second)
		if r, err := try("k1", "new"); err != nil || ids[r.Message] != 0 {
			t.Errorf("after 72 hours: %v", err)
		}
		h.clock.Advance(73 * time.Hour)
		left := h.rows("submit_answers")
		for _, most := range []int{1, 100} {
			if err := h.DB.Write(ctx, h.Org.ID, func(tx *db.Tx) error {
				n, err := submit.ForgetAnswers(tx, h.clock.Now().Add(-72*time.Hour), most)
				if want := min(left, most); int(n) != want {
					t.Errorf("%d answers forgotten, want %d", n, want)
				}
				left -= int(n)
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		if n := h.rows("submit_answers"); n != 0 {
			t.Errorf("%d answers kept for ever", n)
		}
	})
}

// An answer that was there for the commit and is too old a moment later must
// not become the receipt of a message that does not exist.
func TestAnAnswerThatGoesMeanwhile(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := open(t, d)
		ctx := context.Background()
		try := func() (submit.Receipt, error) {
			dr := h.draft(plain, "x@y.example")
			dr.IdempotencyKey, dr.RequestHash = private.NewString("k"), []byte("same")
			return h.door.Accept(ctx, dr)
		}
		reserve := h.door.Reserve
		h.door.Reserve = func(items []spool.Item) id.ID {
			h.door.Reserve = reserve
			if _, err := try(); err != nil {
				t.Error(err)
			}
			h.clock.Advance(73 * time.Hour)
			return reserve(items)
		}
		if r, err := try(); !fault.Is(err, fault.Unavailable) {
			t.Errorf("the receipt is of message %v, %v", r.Message, err)
		}
		if r, err := try(); err != nil || r.Message.IsZero() {
			t.Errorf("tried again: %v", err)
		}
	})
}

func TestRateLimitAndNewLimits(t *testing.T) {
	h := open(t, dbtest.SQLite(t))
	ctx := context.Background()
	if err := h.Accounts.SetLimits(ctx, h.Org.ID, account.Limits{MessagesPerMinute: 3, Recipients: 2, MessageSize: 1000}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.door.Accept(ctx, h.draft(plain, "a@y.example", "b@y.example", "c@y.example")); fault.From(err).Reason != "too_many_recipients" {
		t.Errorf("three recipients: %v", err)
	}
	h.door.Accept(ctx, h.draft(plain+strings.Repeat("x", 1000), "a@y.example")) // takes one of the rate
	if n := h.rows("spool_messages"); n != 0 {
		t.Errorf("%d messages over the organization's limits", n)
	}
	send := func() error {
		_, err := h.door.Accept(ctx, h.draft(plain, "x@y.example"))
		return err
	}
	for range 2 {
		if err := send(); err != nil {
			t.Fatal(err)
		}
	}
	if err := send(); !fault.Is(err, fault.TooMany) {
		t.Fatalf("fourth within a minute: %v", err)
	}
	h.clock.Advance(time.Minute)
	if err := send(); err != nil {
		t.Fatalf("a minute later: %v", err)
	}
}

// failing breaks off in the middle of a body, as a client that goes away does.
type failing struct{ left int }

var errGone = errors.New("gone")

func (f *failing) Read(p []byte) (int, error) {
	if f.left <= 0 {
		return 0, errGone
	}
	n := min(len(p), f.left)
	f.left -= n
	return copy(p, bytes.Repeat([]byte("x"), n)), nil
}

func TestABrokenUploadStoresNothing(t *testing.T) {
	h := open(t, dbtest.SQLite(t))
	dr := h.draft("", "x@y.example")
	dr.Message = io.MultiReader(strings.NewReader(plain), &failing{left: 700 << 10})
	if _, err := h.door.Accept(context.Background(), dr); !errors.Is(err, errGone) {
		t.Fatalf("Accept = %v", err)
	}
	h.nothingStored("broken upload")
}

func TestScheduledAndSeal(t *testing.T) {
	h := open(t, dbtest.SQLite(t))
	dr := h.draft(plain, "x@y.example")
	dr.SendAt, dr.Seal = h.clock.Now().Add(time.Hour), policy.Portal
	r, err := h.door.Accept(context.Background(), dr)
	if err != nil {
		t.Fatal(err)
	}
	m, deliveries, _ := h.stored(r.Message)
	if dl := deliveries[0]; dl.State != spool.Scheduled || !dl.NextAt.Equal(dr.SendAt) || dl.Plan.Allows(policy.TLS) || dl.Seal != policy.Portal {
		t.Errorf("delivery %+v", dl)
	}
	if !m.ExpiresAt.Equal(dr.SendAt.Add(48 * time.Hour)) {
		t.Errorf("expires at %v", m.ExpiresAt)
	}
}

// A rule for a sender cannot be evaded with another address in the envelope,
// nor with none.
func TestSenderRulesSeeWhatRecipientsSee(t *testing.T) {
	h := open(t, dbtest.SQLite(t))
	ctx := context.Background()
	if _, err := h.Accounts.PublishPolicy(ctx, h.Org.ID, []byte(`{"version":1,"rules":[
		{"name":"chief","when":{"sender":["chief@clinic.test"]},"then":{"refuse":"the chief writes on paper"}}]}`)); err != nil {
		t.Fatal(err)
	}
	chief, ada := addr(t, "chief@clinic.test"), addr(t, "ada@clinic.test")
	for _, c := range []struct {
		envelope mail.Address
		from     string
		refused  bool
	}{
		{ada, "ada@clinic.test", false}, {mail.Address{}, "ada@clinic.test", false}, {chief, "ada@clinic.test", true},
		{ada, "Chief <CHIEF@clinic.test>", true}, {ada, "ada@clinic.test, chief@clinic.test", true}, {mail.Address{}, "chief@clinic.test", true},
	} {
		dr := h.draft("From: "+c.from+"\r\n\r\nx\r\n", "x@y.example")
		dr.Sender = c.envelope
		if _, err := h.door.Accept(ctx, dr); (fault.From(err).Reason == "refused_by_policy") != c.refused || !c.refused && err != nil {
			t.Errorf("envelope %v, From %q: %v", c.envelope, c.from, err)
		}
	}
}
