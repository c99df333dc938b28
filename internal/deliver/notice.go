package deliver

import (
	"context"
	"errors"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/deliver/smtpclient"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/seal"
	"github.com/sealpost/sealpost/internal/spool"
)

// deliverNotice makes one attempt at a code or DSN.
func (w *worker) deliverNotice(ctx context.Context, work spool.Work) {
	e := w.e
	var n spool.Notice
	var floor policy.Grade
	if err := e.DB.Read(ctx, work.Org, func(tx *db.Tx) (err error) {
		if n, err = spool.LoadNotice(tx, e.Custody, work.ID); err != nil {
			return err
		}
		if n.Kind == spool.KindCode {
			floor, err = spool.NoticeFloor(tx, n.Delivery)
		}
		return err
	}); err != nil {
		e.Log.Warn("a notice could not be read", "notice", work.ID, "error", err)
		n.ID = work.ID
		w.finishNotice(work, n, spool.Outcome{State: spool.Failed, Reason: spool.ReasonContentDestroyed})
		return
	}
	if !e.Clock.Now().Before(n.ExpiresAt) {
		w.finishNotice(work, n, spool.Outcome{State: spool.Expired, Reason: spool.ReasonExpired})
		return
	}
	w.finishNotice(work, n, w.sendNotice(ctx, work, n, floor))
}

// sendNotice gives the outcome of the attempt; an outcome without a state
// means that the notice is no longer ours.
func (w *worker) sendNotice(ctx context.Context, work spool.Work, n spool.Notice, floor policy.Grade) spool.Outcome {
	e := w.e
	later := func(reason string) spool.Outcome {
		return spool.Outcome{State: spool.Deferred, Reason: reason, NextAt: e.noticeBackoff(n)}
	}
	known, err := e.Posture.Refresh(ctx, work.Domain)
	if err != nil {
		return later(spool.ReasonLookup)
	}
	weak, lost := w.connect(ctx, known, max(floor, policy.Encrypted), true)
	switch {
	case weak != nil && !weak.Temporary:
		return spool.Outcome{State: spool.Failed, Reason: spool.ReasonNoPrivateChannel}
	case weak != nil || lost != nil:
		return later(spool.ReasonUnreachable)
	}
	w.wait()
	var ours bool
	if err := e.DB.Write(ctx, work.Org, func(tx *db.Tx) (err error) {
		ours, err = spool.StartNotice(tx, work.Item, e.lease.run())
		return err
	}); err != nil || !ours || !e.lease.good() {
		return spool.Outcome{}
	}
	_, err = w.conn.Send(ctx, seal.Report(n.To, floor, n.Text.Reveal()))
	w.used = true
	evidence := w.conn.Evidence()
	var refused *smtpclient.RefusedError
	switch {
	case err == nil:
		return spool.Outcome{State: spool.Delivered, Grade: evidence.Grade, Attempt: &spool.Attempt{Evidence: proof(evidence)}}
	case errors.As(err, &refused) && refused.Reply.Permanent():
		return spool.Outcome{State: spool.Failed, Reason: spool.ReasonRejected}
	}
	return later(spool.ReasonTemporary)
}

func (w *worker) finishNotice(work spool.Work, n spool.Notice, o spool.Outcome) {
	if o.State == "" {
		return
	}
	o.At = w.e.Clock.Now()
	w.commit(work, func(tx *db.Tx) error {
		_, err := spool.FinishNotice(tx, n, w.e.lease.run(), o)
		return err
	})
}
