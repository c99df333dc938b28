// Package pickuptest puts messages into the spool and lets their notices be
// sent, so that tests of the portal have something to pick up.
package pickuptest

import (
	"bytes"
	"context"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/blob"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/custody/custodytest"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/pickup"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/spool"
)

// OrgName is the name of the organization that sends.
const OrgName = "Riverside Clinic"

// World is an installation with one organization, up to the spool.
type World struct {
	T       testing.TB
	DB      *db.DB
	Custody *custody.Custody
	Blob    *blob.Store
	Clock   *clock.Fake
	Org     account.Org
	Deps    pickup.Deps
	Pickup  *pickup.Pickup // started; stopped at the end of the test

	run     id.ID
	accepts *account.Accounts
	mu      sync.Mutex
	posted  []spool.Item
	arrived chan struct{}
}

// New makes a world whose portal is at publicURL.
func New(t testing.TB, d *db.DB, publicURL string) *World {
	t.Helper()
	w := &World{T: t, DB: d, Custody: custodytest.New(t, d), Blob: blob.New(d, t.TempDir()), run: id.New(),
		Clock: clock.NewFake(time.Date(2026, 10, 5, 9, 30, 0, 0, time.UTC)), arrived: make(chan struct{}, 1000)}
	w.accepts = account.New(account.Deps{DB: d, Custody: w.Custody, Clock: w.Clock})
	var err error
	if w.Org, err = w.accepts.CreateOrg(context.Background(), "riverside", OrgName); err != nil {
		t.Fatal(err)
	}
	w.Deps = pickup.Deps{DB: d, Custody: w.Custody, Accounts: w.accepts, Blob: w.Blob, Clock: w.Clock, PublicURL: publicURL, Posted: w.post}
	w.Pickup = pickup.New(w.Deps)
	if err := w.Pickup.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Pickup.Stop)
	return w
}

func (w *World) post(it spool.Item) {
	w.mu.Lock()
	w.posted = append(w.posted, it)
	w.mu.Unlock()
	w.arrived <- struct{}{}
}

// Write runs fn for the organization.
func (w *World) Write(fn func(*db.Tx) error) {
	w.T.Helper()
	if err := w.DB.Write(context.Background(), w.Org.ID, fn); err != nil {
		w.T.Fatal(err)
	}
}

// Put accepts a message, given with any line ends, for one recipient.
func (w *World) Put(raw, to string) spool.Delivery {
	w.T.Helper()
	if !strings.Contains(raw, "\r\n") {
		raw = strings.ReplaceAll(raw, "\n", "\r\n")
	}
	at := strings.Index(raw, "\r\n\r\n") + 4
	key, err := w.Custody.NewDataKey(w.Org.ID)
	w.check(err)
	now := w.Clock.Now()
	m := spool.Message{ID: id.New(), Org: w.Org.ID, Source: spool.FromAPI, Purpose: policy.Treatment, Key: key, Blob: id.New(),
		Size: int64(len(raw)), Header: []byte(raw[:at]), Envelope: spool.Envelope{Sender: w.address("dr.lee@clinic.example")},
		Details: spool.Details{Subject: private.NewString("private")}, CreatedAt: now, SendAt: now, ExpiresAt: now.Add(48 * time.Hour)}
	d := spool.Delivery{ID: id.New(), Org: w.Org.ID, Message: m.ID, Recipient: w.address(to), Seal: policy.Portal, State: spool.Ready,
		Plan: policy.Plan{Seals: []policy.Seal{policy.Portal}, NoticeFloor: policy.Encrypted, Rule: policy.RuleDefault}, NextAt: now, CreatedAt: now}
	body, err := w.Blob.Stage(key, m.Blob, bytes.NewReader([]byte(raw[at:])))
	w.check(err)
	defer body.Close()
	p, err := spool.Prepare(m, []spool.Delivery{d}, "", func(a string) ([]byte, error) {
		return w.Custody.Index(w.Org.ID, spool.IndexAddress, a)
	})
	w.check(err)
	w.Write(func(tx *db.Tx) error {
		if err := w.Custody.SaveDataKey(tx, key); err != nil {
			return err
		}
		if err := body.Save(tx); err != nil {
			return err
		}
		return p.Insert(tx, w.run)
	})
	return d
}

// StartSending begins the attempt at the notice and gives its link.
func (w *World) StartSending(d spool.Delivery) pickup.Link {
	w.T.Helper()
	var link pickup.Link
	w.Write(func(tx *db.Tx) error {
		m, err := spool.LoadMessage(tx, w.Custody, d.Message)
		if err != nil {
			return err
		}
		if _, err := spool.Start(tx, item(d), w.run, d.Plan, spool.Sealing{Seal: policy.Portal}, nil, w.Clock.Now()); err != nil {
			return err
		}
		link, err = w.Pickup.EnsureLink(tx, m.Key, d, w.Clock.Now())
		return err
	})
	return link
}

// Accepted records that the notice was taken.
func (w *World) Accepted(d spool.Delivery) {
	w.T.Helper()
	w.Write(func(tx *db.Tx) error {
		_, err := spool.Finish(tx, item(d), w.run, nil, spool.Outcome{State: spool.Waiting, At: w.Clock.Now()})
		return err
	})
}

// Send puts a message in and lets its notice arrive.
func (w *World) Send(raw, to string) (spool.Delivery, pickup.Link) {
	w.T.Helper()
	d := w.Put(raw, to)
	link := w.StartSending(d)
	w.Accepted(d)
	return d, link
}

func item(d spool.Delivery) spool.Item {
	return spool.Item{ID: d.ID, Org: d.Org, Message: d.Message, Domain: d.Recipient.Domain()}
}

// State is where a delivery stands.
func (w *World) State(d spool.Delivery) spool.State {
	w.T.Helper()
	var now spool.Delivery
	w.check(w.DB.Read(context.Background(), w.Org.ID, func(tx *db.Tx) (err error) {
		now, err = spool.LoadDelivery(tx, nil, d.ID)
		return err
	}))
	return now.State
}

// Credential is the last part of a link.
func Credential(l pickup.Link) private.String {
	u := l.URL.Reveal()
	return private.NewString(u[strings.LastIndexByte(u, '/')+1:])
}

// Ask asks for a code and reports whether one was sent, when that is settled.
func (w *World) Ask(credential, browser private.String) bool {
	w.T.Helper()
	before := len(w.Items())
	p := pickup.New(w.Deps)
	w.check(p.Start(context.Background()))
	p.RequestCode(credential, browser)
	p.Stop()
	return len(w.Items()) > before
}

// Items are the code mails posted so far.
func (w *World) Items() []spool.Item {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]spool.Item(nil), w.posted...)
}

// AwaitCode waits for a code mail to be posted.
func (w *World) AwaitCode() private.String {
	w.T.Helper()
	select {
	case <-w.arrived:
	case <-time.After(20 * time.Second):
		w.T.Fatal("no code was sent")
	}
	return w.LastCode()
}

var codeForm = regexp.MustCompile(`Your code is (\d{3}) (\d{3})\r\n`)

// LastCode reads the newest code mail.
func (w *World) LastCode() private.String {
	w.T.Helper()
	found := codeForm.FindSubmatch(w.LastMail())
	if found == nil {
		w.T.Fatal("the mail holds no code")
	}
	return private.NewString(string(found[1]) + string(found[2]))
}

// LastMail is the newest code mail.
func (w *World) LastMail() []byte {
	w.T.Helper()
	items := w.Items()
	if len(items) == 0 {
		w.T.Fatal("no code was sent")
	}
	var n spool.Notice
	w.check(w.DB.Read(context.Background(), w.Org.ID, func(tx *db.Tx) (err error) {
		n, err = spool.LoadNotice(tx, w.Custody, items[len(items)-1].ID)
		return err
	}))
	return n.Text.Reveal()
}

// Facts counts the ledger's entries of a type about a delivery.
func (w *World) Facts(d spool.Delivery, kind ledger.Type) int {
	w.T.Helper()
	n := 0
	w.check(w.DB.Read(context.Background(), w.Org.ID, func(tx *db.Tx) error {
		n = 0
		rows, err := tx.Query("SELECT leaf FROM ledger_entries WHERE org_id = ? AND delivery_id = ?", w.Org.ID, d.ID)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var leaf []byte
			if err := rows.Scan(&leaf); err != nil {
				return err
			}
			if bytes.Contains(leaf, []byte(`"type":"`+string(kind)+`"`)) {
				n++
			}
		}
		return rows.Err()
	}))
	return n
}

func (w *World) address(s string) mail.Address {
	w.T.Helper()
	a, err := mail.ParseAddress(s)
	w.check(err)
	return a
}

func (w *World) check(err error) {
	w.T.Helper()
	if err != nil {
		w.T.Fatal(err)
	}
}
