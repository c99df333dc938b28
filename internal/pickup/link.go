package pickup

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/spool"
)

// Link is what a notice says about a delivery.
type Link struct {
	URL       private.String
	ExpiresAt time.Time
}

// EnsureLink gives the link of a delivery, for the transaction that starts an
// attempt at its notice. A retry gives the same link, open for LinkTTL from
// then on; a revoked one stays closed. key is the message's.
func (p *Pickup) EnsureLink(tx *db.Tx, key *custody.DataKey, d spool.Delivery, now time.Time) (Link, error) {
	c := newCredential(tx.Org())
	out := Link{ExpiresAt: now.Add(p.LinkTTL)}
	n, err := tx.Exec(`INSERT INTO pickup_links
		(delivery_id, org_id, message_id, token_sha256, token_sealed, created_at, expires_at)
		VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (delivery_id) DO NOTHING`,
		d.ID, tx.Org(), d.Message, c.sum(), key.Seal(labelToken, d.ID, c.token[:]), clock.Micros(now), clock.Micros(out.ExpiresAt))
	if err != nil {
		return out, fmt.Errorf("insert link: %w", err)
	}
	if n == 0 {
		if c, err = p.renewLink(tx, key, d.ID, out.ExpiresAt); err != nil {
			return out, err
		}
	}
	out.URL = private.NewString(p.PublicURL + "/m/" + c.text())
	return out, nil
}

func (p *Pickup) renewLink(tx *db.Tx, key *custody.DataKey, delivery id.ID, until time.Time) (credential, error) {
	c := credential{org: tx.Org()}
	var sealed []byte
	err := tx.Row(`UPDATE pickup_links SET expires_at = ? WHERE org_id = ? AND delivery_id = ? RETURNING token_sealed`,
		clock.Micros(until), tx.Org(), delivery).Scan(&sealed)
	if err != nil {
		return c, fmt.Errorf("renew link: %w", err)
	}
	token, err := key.Open(labelToken, delivery, sealed)
	if err != nil {
		return c, err
	}
	if len(token) != len(c.token) {
		return c, errors.New("stored link has the wrong length")
	}
	copy(c.token[:], token)
	return c, nil
}

// SenderDomain is the domain that notices about a message come from: that of
// its sender, without the local part.
func SenderDomain(m spool.Message) string {
	if d := m.Envelope.Sender.Domain(); d != "" {
		return d
	}
	h, err := mail.ParseHeader(bufio.NewReader(bytes.NewReader(m.Header)))
	if err != nil {
		return ""
	}
	for _, from := range h.Mailboxes("From") {
		return from.Address.Domain()
	}
	return ""
}

// expired is a link whose time is over.
type expired struct{ org, delivery, message id.ID }

const expirePage = 200

// ExpireLinks closes links whose time is over and lets deliveries that nobody
// read expire. It is run now and then by one node; two at once do no harm.
func (p *Pickup) ExpireLinks(ctx context.Context) error {
	now := p.Clock.Now()
	for after := (id.ID{}); ; {
		page, err := p.expiredLinks(ctx, now, after)
		if err != nil {
			return err
		}
		for _, e := range page {
			if err := p.DB.Write(ctx, e.org, func(tx *db.Tx) error { return closeLink(tx, e, now) }); err != nil {
				return err
			}
		}
		if len(page) < expirePage {
			return nil
		}
		after = page[len(page)-1].delivery
	}
}

// expiredLinks looks across all organizations, as taking work does.
func (p *Pickup) expiredLinks(ctx context.Context, now time.Time, after id.ID) (page []expired, err error) {
	err = p.DB.Read(ctx, db.System, func(tx *db.Tx) error {
		page, err = db.All(tx, func(row db.Row) (e expired, err error) {
			err = row.Scan(&e.org, &e.delivery, &e.message)
			return e, err
		}, `SELECT org_id, delivery_id, message_id FROM pickup_links
			WHERE expires_at <= ? AND revoked_at IS NULL AND delivery_id > ? ORDER BY delivery_id LIMIT ?`,
			clock.Micros(now), after, expirePage)
		return err
	})
	return page, err
}

// closeLink leaves a link alone while its notice is still being sent: the next
// attempt renews it.
func closeLink(tx *db.Tx, e expired, now time.Time) error {
	d, err := spool.LoadDelivery(tx, nil, e.delivery)
	if err != nil || !d.State.Settled() {
		return err
	}
	n, err := tx.Exec(`UPDATE pickup_links SET revoked_at = ? WHERE org_id = ? AND delivery_id = ? AND revoked_at IS NULL AND expires_at <= ?`,
		clock.Micros(now), e.org, e.delivery, clock.Micros(now))
	if err != nil || n == 0 {
		return err
	}
	return spool.ExpireWaiting(tx, e.message, e.delivery, now)
}

// Purge deletes codes that no limit counts any more and sessions that are
// over. What they did is in the ledger.
func (p *Pickup) Purge(ctx context.Context) error {
	now := p.Clock.Now()
	if err := p.DB.Sweep(ctx, "pickup_codes", "id", "created_at <= ? AND expires_at <= ?",
		clock.Micros(now.Add(-24*time.Hour)), clock.Micros(now)); err != nil {
		return err
	}
	return p.DB.Sweep(ctx, "pickup_sessions", "token_sha256", "expires_at <= ?", clock.Micros(now))
}

// MarkIfOpened moves a waiting delivery to read if its link was used while its
// notice was still on its way. The engine calls it in the transaction that
// lets a delivery wait.
func MarkIfOpened(tx *db.Tx, message, delivery id.ID, now time.Time) error {
	var used int
	err := tx.Row("SELECT COUNT(*) FROM pickup_codes WHERE org_id = ? AND delivery_id = ? AND used_at IS NOT NULL", tx.Org(), delivery).Scan(&used)
	if err != nil || used == 0 {
		return err
	}
	return spool.MarkRead(tx, message, delivery, now)
}

// sessionLink finds the link that a session reads by.
func (p *Pickup) sessionLink(tx *db.Tx, c credential, now time.Time) (link, error) {
	var delivery id.ID
	var mac []byte
	var expires int64
	err := tx.Row("SELECT delivery_id, seal_hmac, expires_at FROM pickup_sessions WHERE org_id = ? AND token_sha256 = ?", tx.Org(), c.sum()).
		Scan(&delivery, &mac, &expires)
	if errors.Is(err, sql.ErrNoRows) || err == nil && !now.Before(clock.FromMicros(expires)) {
		return link{}, ErrNoSession
	}
	if err != nil {
		return link{}, err
	}
	if want, err := p.sessionMAC(c, delivery, expires); err != nil || !hmac.Equal(want, mac) {
		return link{}, cmp.Or(err, error(ErrNoSession))
	}
	l, found, err := scanLink(tx.Row(linkColumns+"delivery_id = ?", tx.Org(), delivery))
	if err == nil && !found {
		err = ErrNoSession
	}
	return l, err
}
