package pickup

import (
	"context"
	"crypto/hmac"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/spool"
)

// refusedFact is the clear part of pickup.code_refused.
type refusedFact struct {
	Reason string `json:"reason"`
	Tries  int    `json:"tries,omitempty"` // of the code, this one included
}

// openedFact is the clear part of pickup.opened.
type openedFact struct {
	Assurance string `json:"assurance"`
}

// CodeDigits takes a code as people type it. ok is false for what cannot be a
// code at all; nothing needs to be asked about that.
func CodeDigits(typed string) (digits private.String, ok bool) {
	s := strings.Map(func(r rune) rune {
		switch r {
		case ' ', '\t', '-', '.', '\u00a0', '\u2009', '\u202f':
			return -1
		}
		return r
	}, typed)
	if len(s) != 6 || strings.Trim(s, "0123456789") != "" {
		return private.String{}, false
	}
	return private.NewString(s), true
}

// Redeem turns a code into a session for one delivery. Whoever has no valid
// code gets ErrRefused, whatever the cause; who has one may also learn that
// the message was taken back, expired or destroyed.
func (p *Pickup) Redeem(ctx context.Context, link, browser, digits private.String) (session private.String, err error) {
	c, ok := parseCredential(link)
	if !ok {
		return session, ErrRefused
	}
	s := newCredential(c.org)
	outcome := error(ErrRefused)
	err = p.DB.Write(ctx, c.org, func(tx *db.Tx) error {
		outcome = ErrRefused
		l, found, err := lockLink(tx, c)
		if err != nil || !found {
			return err
		}
		matched, err := p.try(tx, l, browser, digits)
		if err != nil || !matched {
			return err
		}
		err = p.open(tx, l, s)
		outcome = err
		return unlessExpected(err)
	})
	if err == nil {
		err = outcome
	}
	if err != nil {
		return session, err
	}
	return private.NewString(s.text()), nil
}

// unlessExpected keeps an answer for the recipient from undoing what was
// written: the try was taken.
func unlessExpected(err error) error {
	for _, e := range []error{ErrExpired, ErrTakenBack, custody.ErrDestroyed} {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

// live is a code that could still be right.
type live struct {
	id    id.ID
	hmac  []byte
	tries int
}

// try takes a try of every live code of this browser and only then compares.
// A person who asked twice may enter either code.
func (p *Pickup) try(tx *db.Tx, l link, browser, digits private.String) (bool, error) {
	now := p.Clock.Now()
	codes, err := takeTries(tx, l.delivery, browserSum(browser), now)
	if err != nil {
		return false, err
	}
	matched, most := false, 0
	for _, c := range codes {
		want, err := p.hmac(tx.Org(), l.delivery, c.id, digits)
		if err != nil {
			if errors.Is(err, custody.ErrDestroyed) {
				return false, nil
			}
			return false, err
		}
		matched = hmac.Equal(want, c.hmac) || matched
		most = max(most, c.tries)
	}
	if matched {
		_, err := tx.Exec(`UPDATE pickup_codes SET used_at = ? WHERE org_id = ? AND delivery_id = ? AND browser_sha256 = ? AND used_at IS NULL`,
			clock.Micros(now), tx.Org(), l.delivery, browserSum(browser))
		return err == nil, err
	}
	fact := refusedFact{Reason: "wrong_code", Tries: most}
	if len(codes) == 0 {
		// Nothing in the table bounds these: no code is open in this browser.
		if !p.strays.allow(l.delivery, now) {
			return false, nil
		}
		fact.Reason = "no_code_open"
	}
	return false, ledger.Append(tx, ledger.Fact{Type: ledger.PickupCodeRefused, Message: l.message, Delivery: l.delivery, At: now, Data: fact})
}

func takeTries(tx *db.Tx, delivery id.ID, browser []byte, now time.Time) ([]live, error) {
	return db.All(tx, func(row db.Row) (c live, err error) {
		err = row.Scan(&c.id, &c.hmac, &c.tries)
		return c, err
	}, `UPDATE pickup_codes SET tries = tries + 1
		WHERE org_id = ? AND delivery_id = ? AND browser_sha256 = ? AND used_at IS NULL AND tries < ? AND expires_at > ?
		RETURNING id, code_hmac, tries`, tx.Org(), delivery, browser, maxTries, clock.Micros(now))
}

// open begins a session: from here on the message counts as read.
func (p *Pickup) open(tx *db.Tx, l link, s credential) error {
	now := p.Clock.Now()
	if _, err := usable(tx, l, now); err != nil {
		return err
	}
	if _, err := spool.LoadMessage(tx, p.Custody, l.message); err != nil {
		return err
	}
	expires := clock.Micros(now.Add(p.SessionTTL))
	mac, err := p.sessionMAC(s, l.delivery, expires)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(`INSERT INTO pickup_sessions (token_sha256, org_id, delivery_id, seal_hmac, created_at, expires_at)
		VALUES (?, ?, ?, ?, ?, ?)`, s.sum(), tx.Org(), l.delivery, mac, clock.Micros(now), expires); err != nil {
		return err
	}
	if err := ledger.Append(tx, ledger.Fact{Type: ledger.PickupOpened, Message: l.message, Delivery: l.delivery, At: now,
		Data: openedFact{assurance}}); err != nil {
		return err
	}
	return spool.MarkRead(tx, l.message, l.delivery, now)
}

// sessionMAC seals a session's row, so that writing to the database is not
// enough to make a session or to lead one to another delivery.
func (p *Pickup) sessionMAC(s credential, delivery id.ID, expires int64) ([]byte, error) {
	return p.Custody.Index(s.org, indexSession, string(delivery[:])+string(s.token[:])+strconv.FormatInt(expires, 10))
}

// Leave ends a session.
func (p *Pickup) Leave(ctx context.Context, session private.String) error {
	c, ok := parseCredential(session)
	if !ok {
		return nil
	}
	return p.DB.Write(ctx, c.org, func(tx *db.Tx) error {
		_, err := tx.Exec("DELETE FROM pickup_sessions WHERE org_id = ? AND token_sha256 = ?", tx.Org(), c.sum())
		return err
	})
}

// strays bounds what is recorded of codes entered in browsers that asked for
// none: five per delivery and hour, on this node.
type strays struct {
	mu   sync.Mutex
	seen map[id.ID]stray
}

type stray struct {
	since time.Time
	count int
}

const (
	maxStrays     = 5
	maxStrayLinks = 10_000
)

func (s *strays) allow(delivery id.ID, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[id.ID]stray{}
	}
	e := s.seen[delivery]
	if now.Sub(e.since) >= time.Hour {
		e = stray{since: now}
	}
	if e.count == maxStrays {
		return false
	}
	if _, known := s.seen[delivery]; !known && len(s.seen) >= maxStrayLinks {
		for d, old := range s.seen {
			if now.Sub(old.since) >= time.Hour {
				delete(s.seen, d)
			}
		}
		if len(s.seen) >= maxStrayLinks {
			return false
		}
	}
	e.count++
	s.seen[delivery] = e
	return true
}
