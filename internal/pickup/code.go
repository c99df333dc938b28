package pickup

import (
	"context"
	"crypto/rand"
	"fmt"
	"math/big"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/seal"
	"github.com/sealpost/sealpost/internal/spool"
)

// request is a wish for a code that was answered already.
type request struct {
	link    credential
	browser private.String
}

// RequestCode queues a code for whoever this link belongs to and returns at
// once, whether there is such a link or not. Call it after the answer to the
// browser is written.
func (p *Pickup) RequestCode(link, browser private.String) {
	c, ok := parseCredential(link)
	if !ok {
		return
	}
	select {
	case <-p.stop:
		return
	default:
	}
	select {
	case p.queue <- request{c, browser}:
	default:
		p.Log.Warn("portal code not queued: too many requests for codes at once")
	}
}

func (p *Pickup) work() {
	for {
		select {
		case r := <-p.queue:
			p.serve(r)
		case <-p.stop:
			for {
				select {
				case r := <-p.queue:
					p.serve(r)
				default:
					return
				}
			}
		}
	}
}

// serve sends one code. A panic is a defect of ours and takes nothing down.
func (p *Pickup) serve(r request) {
	defer func() {
		if v := recover(); v != nil {
			p.Log.Error("portal code: panic", "panic", private.Panic(v))
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := p.sendCode(ctx, r); err != nil {
		p.Log.Error("portal code not sent", "err", err)
	}
}

// code is one code before it is stored.
type code struct {
	id     id.ID
	notice id.ID
	digits private.String
}

// newCode draws six digits, each of the million equally likely.
func newCode() (code, error) {
	n, err := rand.Int(rand.Reader, big.NewInt(1_000_000))
	if err != nil {
		return code{}, err
	}
	return code{id.New(), id.New(), private.NewString(fmt.Sprintf("%06d", n))}, nil
}

// hmac binds a code to its delivery and its row.
func (p *Pickup) hmac(org, delivery, codeID id.ID, digits private.String) ([]byte, error) {
	return p.Custody.Index(org, indexCode, string(delivery[:])+string(codeID[:])+digits.Reveal())
}

// sendCode does what was asked for, if there is such a link and the limits
// allow it. It reports whether a code is on its way.
func (p *Pickup) sendCode(ctx context.Context, r request) (sent bool, err error) {
	err = p.DB.Read(ctx, r.link.org, func(tx *db.Tx) error {
		_, sent, err = findLink(tx, r.link)
		return err
	})
	if err != nil || !sent {
		return false, err
	}
	org, err := p.Accounts.Org(ctx, r.link.org)
	if err != nil {
		return false, err
	}
	c, err := newCode()
	if err != nil {
		return false, err
	}
	var item spool.Item
	err = p.DB.Write(ctx, r.link.org, func(tx *db.Tx) (err error) {
		item, err = p.postCode(tx, r, c, org.Name)
		return err
	})
	if err != nil || item.ID.IsZero() {
		return false, err
	}
	if p.Posted != nil {
		p.Posted(item)
	}
	return true, nil
}

// postCode writes the code, its mail and its ledger entry. It gives a zero
// item when there is nothing to send.
func (p *Pickup) postCode(tx *db.Tx, r request, c code, orgName string) (spool.Item, error) {
	now := p.Clock.Now()
	l, found, err := lockLink(tx, r.link)
	if err != nil || !found {
		return spool.Item{}, err
	}
	if _, err := usable(tx, l, now); err != nil {
		return spool.Item{}, unlessExpected(err)
	}
	if free, err := p.withinLimits(tx, l, r.browser, now); err != nil || !free {
		return spool.Item{}, err
	}
	m, err := spool.LoadMessage(tx, p.Custody, l.message)
	if err != nil {
		return spool.Item{}, unlessExpected(err)
	}
	d, err := spool.LoadDelivery(tx, m.Key, l.delivery)
	if err != nil {
		return spool.Item{}, err
	}
	text, err := seal.CodeText(seal.CodeMail{To: d.Recipient, OrgName: orgName, FromDomain: SenderDomain(m),
		Code: c.digits, ValidFor: p.CodeTTL, Date: now})
	if err != nil {
		return spool.Item{}, err
	}
	sum, err := p.hmac(tx.Org(), l.delivery, c.id, c.digits)
	if err != nil {
		return spool.Item{}, err
	}
	expires := now.Add(p.CodeTTL)
	if _, err := tx.Exec(`INSERT INTO pickup_codes
		(id, org_id, delivery_id, browser_sha256, code_hmac, tries, created_at, expires_at) VALUES (?, ?, ?, ?, ?, 0, ?, ?)`,
		c.id, tx.Org(), l.delivery, browserSum(r.browser), sum, clock.Micros(now), clock.Micros(expires)); err != nil {
		return spool.Item{}, fmt.Errorf("insert code: %w", err)
	}
	posted, err := spool.PostNotice(tx, spool.Notice{ID: c.notice, Org: tx.Org(), Message: l.message, Delivery: l.delivery,
		Kind: spool.KindCode, Once: fmt.Sprintf("code:%x", c.id[:]), Key: m.Key, To: d.Recipient, Text: private.NewBytes(text),
		CreatedAt: now, ExpiresAt: expires}, p.owner())
	if err != nil || !posted {
		return spool.Item{}, err
	}
	item := spool.Item{ID: c.notice, Org: tx.Org(), Message: l.message, Notice: true, Domain: d.Recipient.Domain()}
	return item, ledger.Append(tx, ledger.Fact{Type: ledger.PickupCodeSent, Message: l.message, Delivery: l.delivery, At: now,
		Data: codeSentFact{Notice: c.notice.Text(id.Notice), Domain: d.Recipient.Domain()}})
}

// codeSentFact is the clear part of pickup.code_sent.
type codeSentFact struct {
	Notice string `json:"notice"`
	Domain string `json:"domain"`
}

// withinLimits reports whether one more code may be sent. A second wish of one
// browser within moments is a double click, and the first code serves it.
func (p *Pickup) withinLimits(tx *db.Tx, l link, browser private.String, now time.Time) (bool, error) {
	var hour, day, fresh int
	ago := func(d time.Duration) int64 { return clock.Micros(now.Add(-d)) }
	err := tx.Row(`SELECT
		COALESCE(SUM(CASE WHEN created_at > ? THEN 1 ELSE 0 END), 0), COUNT(*),
		COALESCE(SUM(CASE WHEN created_at > ? AND browser_sha256 = ? AND used_at IS NULL AND tries < ? THEN 1 ELSE 0 END), 0)
		FROM pickup_codes WHERE org_id = ? AND delivery_id = ? AND created_at > ?`,
		ago(time.Hour), ago(doubleClick), browserSum(browser), maxTries, tx.Org(), l.delivery, ago(24*time.Hour)).
		Scan(&hour, &day, &fresh)
	return err == nil && hour < maxPerHour && day < maxPerDay && fresh == 0, err
}
