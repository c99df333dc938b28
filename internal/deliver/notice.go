package deliver

import (
	"context"
	"errors"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/deliver/smtpclient"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/seal"
	"github.com/sealpost/sealpost/internal/spool"
)

// deliverNotice makes one attempt at a code or DSN.
func (w *worker) deliverNotice(ctx context.Context, work spool.Work) {
	e := w.e
	var n spool.Notice
	var floor policy.Grade
	var require bool
	err := e.DB.Read(ctx, work.Org, func(tx *db.Tx) (err error) {
		if n, err = spool.LoadNotice(tx, e.Custody, work.ID); err != nil {
			return err
		}
		floor, require, err = spool.NoticeFloor(tx, n.Delivery)
		return err
	})
	n.ID = work.ID // also where nothing could be read
	switch expired := !n.ExpiresAt.IsZero() && !e.Clock.Now().Before(n.ExpiresAt); {
	case err != nil && ctx.Err() != nil:
		w.giveBack(work)
	case fault.Is(err, fault.NotFound): // the content is destroyed
		w.finishNotice(work, n, spool.Outcome{State: spool.Failed, Reason: spool.ReasonContentDestroyed})
	case expired:
		w.finishNotice(work, n, spool.Outcome{State: spool.Expired, Reason: spool.ReasonExpired})
	case err != nil:
		e.Log.Warn("a notice could not be read; it is tried again", "notice", work.ID, "error", err)
		w.noticeLater(work, n, spool.ReasonTemporary)
	default:
		require = require && (n.Kind == spool.KindDSN || n.Kind == spool.KindDelay)
		w.sendNotice(ctx, work, n, floor, require)
	}
}

func (w *worker) sendNotice(ctx context.Context, work spool.Work, n spool.Notice, floor policy.Grade, require bool) {
	known, err := w.e.way(ctx, work.Org, work.Domain)
	switch {
	case err != nil:
		w.noticeLater(work, n, spool.ReasonLookup)
		return
	case known.NullMX:
		w.finishNotice(work, n, spool.Outcome{State: spool.Failed, Reason: spool.ReasonNullMX})
		return
	case known.Missing:
		w.finishNotice(work, n, spool.Outcome{State: spool.Failed, Reason: spool.ReasonNoDomain})
		return
	}
	weak, lost := w.connect(ctx, known, max(floor, policy.Encrypted), true)
	switch {
	case errors.Is(lost, errStopping):
		w.giveBack(work)
		return
	case weak != nil && !weak.Temporary && (byPolicy(weak) || w.e.noticeDone(n)):
		w.finishNotice(work, n, spool.Outcome{State: spool.Failed, Reason: spool.ReasonNoPrivateChannel})
		return
	case weak != nil || lost != nil:
		w.noticeLater(work, n, spool.ReasonUnreachable)
		return
	}
	text := n.Text.Reveal()
	report := seal.Report(n.To, floor, text)
	if require {
		report = report.Protected()
	}
	a, err := w.e.signedForDomain(ctx, work.Org, report, fromDomains(text))
	if err != nil {
		w.e.Log.Warn("a notice could not be signed; it is tried again", "notice", work.ID, "error", err)
		w.noticeLater(work, n, spool.ReasonTemporary)
		return
	}
	ours, err := w.start(work, func(tx *db.Tx) (bool, error) { return spool.StartNotice(tx, work.Item, work.Run) })
	switch {
	case err != nil:
		w.giveBack(work)
	case ours:
		w.handNotice(ctx, work, n, known, a)
	}
}

// noticeDone reports whether a notice has looked for a private transport for
// long enough; see job.patient.
func (e *Engine) noticeDone(n spool.Notice) bool {
	return n.Attempts+1 >= noTLSTimes && e.Clock.Now().Sub(n.CreatedAt) >= e.NoTLSAfter
}

func (w *worker) handNotice(ctx context.Context, work spool.Work, n spool.Notice, known way, a *seal.Artifact) {
	_, err := w.hand(ctx, known, a, n.ExpiresAt, true)
	var refused *smtpclient.RefusedError
	switch {
	case err == nil:
		evidence := w.conn.Evidence()
		w.finishNotice(work, n, spool.Outcome{State: spool.Delivered, Grade: evidence.Grade, Attempt: &spool.Attempt{Evidence: proof(evidence)}})
	case errors.As(err, &refused) && refused.Reply.Permanent():
		w.finishNotice(work, n, spool.Outcome{State: spool.Failed, Reason: spool.ReasonRejected})
	default:
		w.noticeLater(work, n, spool.ReasonTemporary)
	}
}

// noticeBroke defers a notice whose attempt met a defect of ours, by what is in
// clear of it.
func (w *worker) noticeBroke(work spool.Work) {
	var n spool.Notice
	err := w.e.DB.Read(w.e.ctx, work.Org, func(tx *db.Tx) (err error) {
		n, err = spool.PlainNotice(tx, work.ID)
		return err
	})
	n.ID = work.ID
	if err == nil && !w.e.Clock.Now().Before(n.ExpiresAt) {
		w.finishNotice(work, n, spool.Outcome{State: spool.Expired, Reason: spool.ReasonExpired})
		return
	}
	w.noticeLater(work, n, spool.ReasonTemporary)
}

// noticeLater defers a notice, unless it is this node that stops.
func (w *worker) noticeLater(work spool.Work, n spool.Notice, reason string) {
	if w.e.ctx.Err() != nil {
		w.giveBack(work)
		return
	}
	w.finishNotice(work, n, spool.Outcome{State: spool.Deferred, Reason: reason, NextAt: w.e.noticeBackoff(n)})
}

func (w *worker) finishNotice(work spool.Work, n spool.Notice, o spool.Outcome) {
	o.At = w.e.Clock.Now()
	w.commit(work, func(tx *db.Tx) error {
		_, err := spool.FinishNotice(tx, n, work.Run, o)
		return err
	}, func(tx *db.Tx) error {
		_, err := spool.FinishNotice(tx, n, work.Run, plain(o))
		return err
	})
}
