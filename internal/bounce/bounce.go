// Package bounce tells a sender who submitted by SMTP that a delivery failed,
// expired or is late: delivery status notifications (RFC 3464) in a
// multipart/report (RFC 6522), with the address types of RFC 6533.
//
//	delivery.failed, .expired, .suppressed ─▶ one notice of kind dsn
//	delivery.deferred, old enough ──────────▶ one notice of kind delay
//
// Invariants:
//   - A notice is posted in the transaction that moves the cursor "bounce"
//     over the event it answers, under a name made of its kind and delivery:
//     exactly one per delivery and kind, however many nodes run and wherever
//     one dies.
//   - Only mail that came in by SMTP, from a sender that is not null, is
//     answered (RFC 5321 section 6.1); the answer itself has the null sender,
//     so nothing can bounce in a circle. Of mail from outside only a failure is
//     told, and only to a sender whose domain vouched for it: others may never
//     have heard of the message.
//   - A notice names the recipient, what happened and our ids. It holds no
//     content, no subject, no header field of the message, and of what a peer
//     replied only the numbers: peers quote addresses and content.
//   - A notice is sealed under the message's own data key and is destroyed
//     with it. A message whose content is destroyed is passed over.
//   - Every line of a notice is CRLF-ended and seven-bit, but for the local
//     part in To of a sender who needs SMTPUTF8.
package bounce

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/spool"
)

// cursor names this reader of the ledger.
const cursor = "bounce"

const (
	defaultDelay = 4 * time.Hour
	// keepTrying is how long a notice of failure is tried, as RFC 5321 section
	// 4.5.4.1 has it for mail in general: the sender's own host is away.
	keepTrying = 5 * 24 * time.Hour
)

// What one transaction handles. Reading past what needs no answer is cheap,
// so many events share one move of the cursor.
const (
	pageEvents = 500
	batchPages = 20
	batchPosts = 50
	passOrgs   = 10_000
)

// Deps are what a Writer needs.
type Deps struct {
	DB       *db.DB
	Custody  *custody.Custody
	Clock    clock.Clock
	Log      *slog.Logger
	Hostname string // of this mail system, as its reports name it
	// DelayAfter is how late a delivery is when its sender is told; 0 stands
	// for four hours.
	DelayAfter time.Duration
	// Posted is called with notices once they are committed, so that somebody
	// sends them at once. It may be nil.
	Posted func([]spool.Item)
}

// Writer posts what senders are to be told. It keeps nothing in memory, so any
// number may run at once.
type Writer struct{ Deps }

// New gives a Writer.
func New(d Deps) *Writer {
	if d.DelayAfter == 0 {
		d.DelayAfter = defaultDelay
	}
	return &Writer{d}
}

// Run reads every organization's ledger to its end, one batch of each in turn,
// so that a busy one does not keep the others waiting. What fails for one is
// reported after the others are done.
func (w *Writer) Run(ctx context.Context) error {
	orgs, err := ledger.OrgsBehind(ctx, w.DB, cursor, passOrgs)
	if err != nil {
		return fmt.Errorf("find events to answer: %w", err)
	}
	var bad []error
	for len(orgs) > 0 {
		var rest []id.ID
		for _, org := range orgs {
			if err := ctx.Err(); err != nil {
				return errors.Join(append(bad, err)...)
			}
			more, err := w.step(ctx, org)
			if err != nil {
				bad = append(bad, fmt.Errorf("delivery reports of %s: %w", org.Text(id.Org), err))
			} else if more {
				rest = append(rest, org)
			}
		}
		orgs = rest
	}
	return errors.Join(bad...)
}

// step handles one batch of one organization and reports whether there may be
// more. Loading and writing texts happens outside the transaction that others
// wait for; the cursor proves that nobody else has done it meanwhile.
func (w *Writer) step(ctx context.Context, org id.ID) (more bool, err error) {
	var b *batch
	if err := w.DB.Read(ctx, org, func(tx *db.Tx) error {
		b = &batch{w: w, tx: tx, now: w.Clock.Now()}
		return b.fill()
	}); err != nil {
		return false, err
	}
	if b.to == b.from {
		return false, nil
	}
	moved, posted := false, []spool.Item(nil)
	if err := w.DB.Write(ctx, org, func(tx *db.Tx) error {
		moved, posted = false, nil
		err := ledger.Advance(tx, cursor, b.from, b.to)
		if errors.Is(err, ledger.ErrCursorMoved) {
			moved = true // nothing is written yet, so others in this transaction may go on
			return nil
		}
		if err != nil {
			return err
		}
		posted, err = b.post(tx)
		return err
	}); err != nil {
		return false, err
	}
	if len(posted) > 0 && w.Posted != nil {
		w.Posted(posted)
	}
	return b.more && !moved, nil
}

func (b *batch) post(tx *db.Tx) (posted []spool.Item, err error) {
	for _, n := range b.notices {
		ok, err := spool.PostNotice(tx, n, id.ID{})
		if err != nil {
			return nil, fmt.Errorf("post %s of %s: %w", n.Kind, n.Delivery.Text(id.Delivery), err)
		}
		if ok {
			posted = append(posted, spool.Item{ID: n.ID, Org: n.Org, Message: n.Message, Notice: true, Domain: n.To.Domain()})
		}
	}
	return posted, nil
}
