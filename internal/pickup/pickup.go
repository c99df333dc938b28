// Package pickup lets a recipient fetch a message from the portal: the link in
// the notice, the code that proves the mailbox, the session that reads.
//
//	notice ── link ──▶ page ── ask ──▶ code (by mail) ── enter ──▶ session ──▶ read
//	           30 d                      10 min, 5 tries            15 min
//
// Invariants:
//   - A link is a credential and never enough: nothing about the delivery is
//     told, changed or sent because a link was fetched. A person asks for a
//     code and enters it in the browser that asked for it.
//   - Tokens of links and sessions are 256 random bits, stored as SHA-256; the
//     link's also sealed under the message's key, so that every notice about a
//     delivery carries the same one. Codes are stored as an HMAC bound to
//     delivery and code, and a session's row carries one that is bound to its
//     delivery and its end, so that nobody opens a message by writing rows.
//     Each credential carries its organization's id.
//   - Whoever holds no valid code learns nothing: RequestCode does its work
//     after the answer, and Redeem refuses an unknown link, a foreign browser
//     and a wrong code with the same words.
//   - A try is taken before the code is compared, in one statement, so that
//     racing guesses are no more than five. A code redeems once.
//   - At most five codes an hour and ten a day are sent for a delivery. A
//     refused code is a ledger entry, and bounded before it is recorded.
//   - The code, its mail and its ledger entry are one transaction; so are the
//     session, pickup.opened and the delivery's move to read.
//   - What is taken apart to be read at once is bounded, in all and for each
//     delivery. Whoever opens a message closes it.
//   - A link works while its delivery waits, was read, or may have reached the
//     mailbox without our knowing yet; never once it is canceled or expired.
package pickup

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/blob"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/spool"
)

// What a recipient can be told. Only ErrRefused is given to somebody who has
// not entered a valid code.
var (
	ErrRefused = fault.New(fault.Denied, "code_refused",
		"That code does not open the message. Check it, or ask for a new one.")
	ErrNoSession = fault.New(fault.Unauthenticated, "session_over",
		"For your safety, the message was closed. To read it again, open the link in your email.")
	ErrTakenBack = fault.New(fault.NotFound, "message_taken_back",
		"The sender has taken this message back.")
	ErrExpired = fault.New(fault.NotFound, "message_expired",
		"The time to read this message is over.")
	ErrNoFile = fault.New(fault.NotFound, "no_such_file", "There is no such file in this message.")
)

const (
	labelToken   = "pickup.token.v1"
	indexCode    = "pickup.code.v1"
	indexSession = "pickup.session.v1"
	assurance    = "mailbox" // what a mailed code proves
	maxTries     = 5
	maxPerHour   = 5
	maxPerDay    = 10
	doubleClick  = 30 * time.Second
	queueLimit   = 1024
	workers      = 2
)

// Deps are what pickup works with.
type Deps struct {
	DB       *db.DB
	Custody  *custody.Custody
	Accounts *account.Accounts
	Blob     *blob.Store
	Clock    clock.Clock
	Log      *slog.Logger

	PublicURL  string        // without a slash at the end
	LinkTTL    time.Duration // 30 days when zero
	CodeTTL    time.Duration // 10 minutes when zero
	SessionTTL time.Duration // 15 minutes when zero

	// Owner is the run that sends what is posted here; nil or a zero id leaves
	// it to whoever takes it.
	Owner func() id.ID
	// Posted hands a committed code mail to the engine, so that it goes at
	// once. It may be nil.
	Posted func(spool.Item)
}

// Pickup is the portal's side of the spool.
type Pickup struct {
	Deps
	queue   chan request
	stop    chan struct{}
	once    sync.Once
	running sync.WaitGroup
	strays  strays
	room    *room
}

// New gives a Pickup; Start makes it send codes.
func New(d Deps) *Pickup {
	set := func(v *time.Duration, otherwise time.Duration) {
		if *v <= 0 {
			*v = otherwise
		}
	}
	set(&d.LinkTTL, 30*24*time.Hour)
	set(&d.CodeTTL, 10*time.Minute)
	set(&d.SessionTTL, 15*time.Minute)
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	return &Pickup{Deps: d, queue: make(chan request, queueLimit), stop: make(chan struct{}), room: newRoom()}
}

// Start begins to send the codes that RequestCode queues.
func (p *Pickup) Start(context.Context) error {
	for range workers {
		p.running.Go(p.work)
	}
	return nil
}

// Stop sends what is queued and ends. It may be called more than once.
func (p *Pickup) Stop() {
	p.once.Do(func() { close(p.stop) })
	p.running.Wait()
}

func (p *Pickup) owner() id.ID {
	if p.Owner == nil {
		return id.ID{}
	}
	return p.Owner()
}

// credential is an organization's id and 256 random bits. It is how links and
// sessions name what they open without naming any record.
type credential struct {
	org   id.ID
	token [32]byte
}

func newCredential(org id.ID) credential {
	c := credential{org: org}
	_, _ = rand.Read(c.token[:]) // never fails since Go 1.24
	return c
}

func (c credential) text() string {
	return base64.RawURLEncoding.EncodeToString(append(c.org[:], c.token[:]...))
}

func (c credential) sum() []byte {
	s := sha256.Sum256(c.token[:])
	return s[:]
}

func parseCredential(s private.String) (c credential, ok bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s.Reveal())
	if err != nil || len(b) != len(c.org)+len(c.token) {
		return c, false
	}
	copy(c.org[:], b)
	copy(c.token[:], b[len(c.org):])
	return c, true
}

// NewBrowser gives a token by which a browser is known again before it has a
// session.
func NewBrowser() private.String {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return private.NewString(base64.RawURLEncoding.EncodeToString(b[:]))
}

// KnownBrowser reports whether a token has the form NewBrowser gives.
func KnownBrowser(token private.String) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(token.Reveal())
	return err == nil && len(b) == 32
}

func browserSum(token private.String) []byte {
	s := sha256.Sum256([]byte(token.Reveal()))
	return s[:]
}

// link is a row of pickup_links.
type link struct {
	delivery, message id.ID
	expires           time.Time
	revoked           bool
}

const linkColumns = "SELECT delivery_id, message_id, expires_at, revoked_at FROM pickup_links WHERE org_id = ? AND "

func scanLink(row *sql.Row) (l link, found bool, err error) {
	var expires int64
	var revoked sql.NullInt64
	err = row.Scan(&l.delivery, &l.message, &expires, &revoked)
	if errors.Is(err, sql.ErrNoRows) {
		return l, false, nil
	}
	l.expires, l.revoked = clock.FromMicros(expires), revoked.Valid
	return l, err == nil, err
}

// findLink reads a link; lockLink also keeps out everybody else who asks for
// or enters a code of this delivery.
func findLink(tx *db.Tx, c credential) (link, bool, error) {
	return scanLink(tx.Row(linkColumns+"token_sha256 = ?", tx.Org(), c.sum()))
}

func lockLink(tx *db.Tx, c credential) (link, bool, error) {
	return scanLink(tx.Row(tx.Pick(linkColumns+"token_sha256 = ?", linkColumns+"token_sha256 = ? FOR UPDATE"), tx.Org(), c.sum()))
}

// usable says why a delivery cannot be read now, or gives nil.
func usable(tx *db.Tx, l link, now time.Time) (spool.State, error) {
	d, err := spool.LoadDelivery(tx, nil, l.delivery)
	if err != nil {
		return "", err
	}
	switch d.State {
	case spool.Waiting, spool.Read, spool.Sending, spool.Deferred, spool.Ready:
		// A link exists only after a first attempt. Whoever has it got the
		// notice, even if we do not know yet or lost the reply.
	case spool.Expired:
		return d.State, ErrExpired
	default:
		return d.State, ErrTakenBack
	}
	if l.revoked || !now.Before(l.expires) {
		return d.State, ErrExpired
	}
	return d.State, nil
}
