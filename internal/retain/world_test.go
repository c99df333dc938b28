package retain_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/retain"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/spool/spooltest"
	"github.com/sealpost/sealpost/internal/submit"
	"github.com/sealpost/sealpost/internal/submit/submittest"
)

var ctx = context.Background()

const day = 24 * time.Hour

// world is an installation with retention, one organization and a fake clock.
type world struct {
	*submittest.House
	clock  *clock.Fake
	door   *submit.Door
	retain *retain.Service
	notary *ledger.Notary
	check  note.Verifier
}

func open(t testing.TB, d *db.DB) *world {
	t.Helper()
	fake := clock.NewFake(time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC))
	w := &world{House: submittest.New(t, d, fake, "clinic.test"), clock: fake}
	w.retain = retain.New(retain.Deps{DB: d, Custody: w.Custody, Blob: w.Blob, Accounts: w.Accounts, Clock: fake, Log: slog.New(slog.DiscardHandler), Answers: 72 * time.Hour})
	w.Accounts.MayDestroy = retain.RefuseHeld
	w.door = w.Door(func(deps *submit.Deps) { deps.Journal = w.retain.Journal })
	skey, vkey, err := note.GenerateKey(rand.Reader, "clinic.test")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	if w.check, err = note.NewVerifier(vkey); err != nil {
		t.Fatal(err)
	}
	if w.notary, err = ledger.New(ledger.Deps{DB: d, Clock: fake, Origin: "clinic.test/ledger", Signer: signer, VKey: vkey}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) pass(d time.Duration) { w.clock.Advance(d) }

func (w *world) address(s string) mail.Address {
	w.T.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		w.T.Fatal(err)
	}
	return a
}

// accept hands a message in for the organization.
func (w *world) accept(org id.ID, from string, purpose policy.Purpose, to ...string) id.ID {
	w.T.Helper()
	draft := submit.Draft{Principal: auth.Principal{Org: org, Client: id.New(), Scopes: auth.Scopes()}, Source: spool.FromAPI, Protocol: "HTTP",
		Sender: w.address(from), Purpose: purpose,
		Message: strings.NewReader("From: " + from + "\r\nSubject: Results\r\n\r\nAll is well.\r\n")}
	for _, a := range to {
		draft.Recipients = append(draft.Recipients, w.address(a))
	}
	r, err := w.door.Accept(ctx, draft)
	if err != nil {
		w.T.Fatal(err)
	}
	return r.Message
}

// send is accept for the clinic, and lets all that is ready arrive.
func (w *world) send(purpose policy.Purpose, to ...string) id.ID {
	w.T.Helper()
	m := w.accept(w.Org.ID, "ada@clinic.test", purpose, to...)
	w.settle(spool.Delivered)
	return m
}

// settle lets everything that is ready end in a state.
func (w *world) settle(state spool.State) {
	w.T.Helper()
	run := id.New()
	var items []spool.Item
	w.write(db.System, func(tx *db.Tx) (err error) {
		items, err = spooltest.TakeAll(tx, run, w.clock.Now())
		return err
	})
	for _, it := range items {
		w.write(it.Org, func(tx *db.Tx) error {
			_, err := spool.Finish(tx, it, run, nil, spool.Outcome{State: state, At: w.clock.Now()})
			return err
		})
	}
}

func (w *world) write(org id.ID, fn func(*db.Tx) error) {
	w.T.Helper()
	if err := w.DB.WriteAlone(ctx, org, fn); err != nil {
		w.T.Fatal(err)
	}
}

func (w *world) read(org id.ID, fn func(*db.Tx) error) {
	w.T.Helper()
	if err := w.DB.Read(ctx, org, fn); err != nil {
		w.T.Fatal(err)
	}
}

func (w *world) purge(org id.ID) retain.Result {
	w.T.Helper()
	r, err := w.retain.Purge(ctx, org)
	if err != nil {
		w.T.Fatal(err)
	}
	return r
}

func (w *world) hold(org id.ID, h retain.Hold) retain.Hold {
	w.T.Helper()
	h.Matter, h.Reason, h.By = private.NewString("Doe v. Clinic"), private.NewString("subpoena of May"), private.NewString("m.jones")
	h, err := w.retain.Place(ctx, org, h)
	if err != nil {
		w.T.Fatal(err)
	}
	return h
}

func (w *world) lift(org, hold id.ID) {
	w.T.Helper()
	if err := w.retain.Lift(ctx, org, hold, private.NewString("settled"), private.NewString("m.jones")); err != nil {
		w.T.Fatal(err)
	}
}

// What is there of a message.
const (
	whole    = "whole"
	noBody   = "no body"
	recorded = "record only"
	gone     = "gone"
)

func (w *world) stateOf(org, message id.ID) (state string) {
	w.T.Helper()
	var m spool.Message
	w.read(org, func(tx *db.Tx) (err error) {
		m, err = spool.LoadMessage(tx, w.Custody, message)
		switch {
		case errors.Is(err, spool.ErrNoMessage):
			state, err = gone, nil
		case errors.Is(err, custody.ErrDestroyed):
			state, err = recorded, nil
		}
		return err
	})
	if state != "" {
		return state
	}
	body, err := io.ReadAll(w.Blob.Open(ctx, m.Key, m.Blob))
	if err == nil && string(body) == "All is well.\r\n" {
		return whole
	}
	if !errors.Is(err, custody.ErrDestroyed) {
		w.T.Fatalf("body: %v", err)
	}
	return noBody
}

func (w *world) is(message id.ID, want string) {
	w.T.Helper()
	if got := w.stateOf(w.Org.ID, message); got != want {
		w.T.Errorf("the message is %q, want %q", got, want)
	}
}

func (w *world) events(org id.ID, of ledger.Type) (found []ledger.Event) {
	w.T.Helper()
	if _, err := ledger.Place(ctx, w.DB, 0); err != nil {
		w.T.Fatal(err)
	}
	for after := ledger.Start; ; {
		events, next, err := ledger.Read(ctx, w.DB, org, after, 1000)
		if err != nil {
			w.T.Fatal(err)
		}
		for _, e := range events {
			if e.Type == of {
				found = append(found, e)
			}
		}
		if len(events) == 0 {
			return found
		}
		after = next
	}
}

// vacuumInto copies an SQLite database as a backup does.
func vacuumInto(from, to string) error {
	raw, err := sql.Open("sqlite", "file:"+from)
	if err != nil {
		return err
	}
	_, err = raw.Exec("VACUUM INTO ?", to)
	return errors.Join(err, raw.Close())
}
