package deliver

import (
	"context"

	"github.com/sealpost/sealpost/internal/bounce/classify"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/spool"
)

// from is the envelope sender of an attempt: the message's own, or in its place
// the return path of the delivery. What has the null sender keeps it (RFC 5321
// section 4.5.5).
func (j *job) from(ctx context.Context) (mail.Address, error) {
	sender := j.work.Message.Envelope.Sender
	if sender.IsZero() || j.w.e.ReturnPath == nil || j.outside() {
		return sender, nil
	}
	return j.w.e.ReturnPath(ctx, j.work.Org, sender, j.work.ID)
}

// noticeFrom is that of a notice: a bounce of it must tell us, and must not go
// to the person who wrote the message.
func (j *job) noticeFrom(ctx context.Context) (mail.Address, error) {
	from, err := j.from(ctx)
	if err != nil || from == j.work.Message.Envelope.Sender {
		return mail.Address{}, err
	}
	return from, nil
}

// suppressed ends a delivery to an address that became suppressed since it was
// accepted. It reports whether the delivery is done with.
func (j *job) suppressed(ctx context.Context) (done bool) {
	d := j.work.Delivery
	if j.w.e.Suppressed == nil || d.Journal || j.outside() { // an archive gets everything
		return false
	}
	reason, err := j.w.e.Suppressed(ctx, j.work.Org, d.Recipient, j.work.Message.Lane.Stream() == spool.Bulk)
	switch {
	case err != nil:
		j.deferFor(spool.ReasonTemporary, nil)
		return true
	case reason != "":
		j.w.finish(j.work, spool.Outcome{State: spool.Suppressed, Reason: reason})
		return true
	}
	return false
}

// explain names why a peer said no.
func explain(a *spool.Attempt) {
	class, _ := classify.Reply(a.Code, a.Enhanced, a.Reply.Reveal())
	a.Class, a.Hard = string(class), classify.Hard(a.Code, a.Enhanced, a.Reply.Reveal())
}

// refused tells whoever keeps suppressions that a mailbox did not take a
// delivery in the end.
func (e *Engine) refused(tx *db.Tx, work spool.Work, o spool.Outcome) error {
	if e.Refused == nil || work.Delivery == nil || o.Attempt == nil || o.Attempt.Class == "" || o.State != spool.Failed && o.State != spool.Expired {
		return nil
	}
	if work.Delivery.Journal || work.Message.Source == spool.FromOutside { // what they say is nothing to keep mail back by
		return nil
	}
	return e.Refused(tx, work.Delivery.Recipient, work.ID, classify.Class(o.Attempt.Class), o.Attempt.Hard)
}
