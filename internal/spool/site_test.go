package spool_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/custody/custodytest"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/spool/spooltest"
)

var ctx = context.Background()

// Nothing that begins with this may stand in the database in clear.
const canary = "canary"

// site is a spool with two organizations and two runs.
type site struct {
	t          testing.TB
	db         *db.DB
	keys       *custody.Custody
	clk        *clock.Fake
	org, other id.ID
	runs       [3]id.ID // the first is nobody
}

func newSite(t testing.TB, d *db.DB) *site {
	s := &site{t: t, db: d, clk: clock.NewFake(time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)), org: id.New(), other: id.New()}
	s.keys = custodytest.New(t, d, s.org, s.other)
	s.runs = [3]id.ID{{}, id.New(), id.New()}
	return s
}

func (s *site) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) write(org id.ID, fn func(*db.Tx) error) {
	s.t.Helper()
	s.check(s.db.Write(ctx, org, fn))
}

func (s *site) read(org id.ID, fn func(*db.Tx) error) {
	s.t.Helper()
	s.check(s.db.Read(ctx, org, fn))
}

func address(t testing.TB, text string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// given are the ways in which an accepted message differs from a plain one.
type given struct {
	org    id.ID
	sender string // canary.sender@clinic.test when empty
	state  spool.State
	owner  id.ID
	nextAt time.Time
	plan   policy.Plan
	lane   spool.Lane
}

func (s *site) accept(g given, recipients ...string) (spool.Message, []spool.Delivery) {
	s.t.Helper()
	if g.org.IsZero() {
		g.org = s.org
	}
	if g.sender == "" {
		g.sender = canary + ".sender@clinic.test"
	}
	if g.state == "" {
		g.state = spool.Ready
	}
	now := s.clk.Now()
	if g.nextAt.IsZero() {
		g.nextAt = now
	}
	if g.plan.Seals == nil {
		g.plan = policy.Plan{Seals: []policy.Seal{policy.TLS, policy.Portal}, Floor: policy.Verified, NoticeFloor: policy.Encrypted, Purpose: policy.Treatment, Rule: policy.RuleDefault}
	}
	key, err := s.keys.NewDataKey(g.org)
	s.check(err)
	m := spool.Message{
		ID: id.New(), Org: g.org, Client: id.New(), Source: spool.FromAPI, Purpose: policy.Treatment, Key: key, Blob: id.New(), Size: 100, Lane: g.lane,
		Header:   []byte("Subject: " + canary + " header\r\n\r\n"),
		Envelope: spool.Envelope{Sender: address(s.t, g.sender), EightBit: true},
		Details: spool.Details{From: private.NewString(canary + " from"), Subject: private.NewString(canary + " subject"),
			Tags:     []private.String{private.NewString(canary + "-tag")},
			Metadata: []spool.Pair{{Name: private.NewString(canary + "-name"), Value: private.NewString(canary + "-value")}}},
		CreatedAt: now, SendAt: now, ExpiresAt: now.Add(48 * time.Hour),
	}
	var all []spool.Delivery
	for _, r := range recipients {
		all = append(all, spool.Delivery{ID: id.New(), Org: g.org, Message: m.ID, Recipient: address(s.t, r), State: g.state,
			Plan: g.plan, Seal: policy.TLS, CreatedAt: now, NextAt: g.nextAt})
	}
	p, err := spool.Prepare(m, all, "", func(a string) ([]byte, error) { return s.keys.Index(g.org, spool.IndexAddress, a) })
	s.check(err)
	s.write(g.org, func(tx *db.Tx) error {
		if err := s.keys.SaveDataKey(tx, key); err != nil {
			return err
		}
		return p.Insert(tx, g.owner)
	})
	return m, all
}

// one accepts a message for one recipient.
func (s *site) one(g given) (spool.Message, spool.Delivery) {
	s.t.Helper()
	m, all := s.accept(g, canary+".rcpt@home.example")
	return m, all[0]
}

func item(d spool.Delivery) spool.Item {
	return spool.Item{ID: d.ID, Org: d.Org, Message: d.Message, Domain: d.Recipient.Domain()}
}

func (s *site) delivery(d spool.Delivery) (now spool.Delivery) {
	s.t.Helper()
	s.read(d.Org, func(tx *db.Tx) (err error) {
		now, err = spool.LoadDelivery(tx, nil, d.ID)
		return err
	})
	return now
}

// owner tells which of the site's runs has the delivery's unsettled row, and
// whether there is one.
func (s *site) owner(d spool.Delivery) (run int, found bool) {
	s.t.Helper()
	s.read(db.System, func(tx *db.Tx) error {
		run, found = 0, false
		rows, err := tx.Query("SELECT owner FROM spool_unsettled WHERE delivery_id = ?", d.ID)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var owner []byte
			if err := rows.Scan(&owner); err != nil {
				return err
			}
			found = true
			for i, r := range s.runs {
				if i > 0 && string(owner) == string(r[:]) {
					run = i
				}
			}
		}
		return rows.Err()
	})
	return run, found
}

func (s *site) told(d spool.Delivery) (types []ledger.Type) {
	s.t.Helper()
	s.read(d.Org, func(tx *db.Tx) error {
		types = nil
		events, err := ledger.ForDelivery(tx, d.Message, d.ID)
		for _, e := range events {
			if e.Delivery == d.ID {
				types = append(types, e.Type)
			}
		}
		return err
	})
	return types
}

// take gives all that is due to a run.
func (s *site) take(run id.ID) (items []spool.Item) {
	s.t.Helper()
	s.check(s.db.WriteAlone(ctx, db.System, func(tx *db.Tx) (err error) {
		items, err = spooltest.TakeAll(tx, run, s.clk.Now())
		return err
	}))
	return items
}

// takeOf gives up to n of each line to a run.
func (s *site) takeOf(run id.ID, n int, lines ...spool.Line) (items []spool.Item) {
	s.t.Helper()
	var wants []spool.Want
	for _, l := range lines {
		wants = append(wants, spool.Want{Line: l, N: n})
	}
	s.check(s.db.WriteAlone(ctx, db.System, func(tx *db.Tx) (err error) {
		items, err = spool.Take(tx, run, s.clk.Now(), wants)
		return err
	}))
	return items
}

func refused(t testing.TB, what string, err error, reason string) {
	t.Helper()
	var f *fault.Fault
	if !errors.As(err, &f) || f.Reason != reason {
		t.Errorf("%s: %v, want %s", what, err, reason)
	}
}
