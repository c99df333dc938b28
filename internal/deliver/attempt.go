package deliver

import (
	"context"
	"errors"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/deliver/smtpclient"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/keyring"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/pickup"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/seal"
	"github.com/sealpost/sealpost/internal/spool"
)

// deliver makes one attempt at an item and records its outcome.
func (w *worker) deliver(item *spool.Work) {
	ctx := w.e.ctx
	if item.Notice {
		w.deliverNotice(ctx, *item)
		return
	}
	ctx = w.follow(ctx, *item)
	defer w.unfollow()
	if !w.introduce(ctx) {
		w.giveBack(*item)
		return
	}
	defer w.known()
	seen, err := w.load(ctx, item)
	work := *item
	if err != nil {
		w.unloadable(work, seen, err)
		return
	}
	j := &job{w: w, work: work, plan: work.Delivery.Plan, began: w.e.Clock.Now(), until: work.Message.ExpiresAt}
	if !j.began.Before(j.until) {
		if j.missed = w.e.missed(work); !j.missed {
			w.finish(work, spool.Outcome{State: spool.Expired, Reason: spool.ReasonExpired})
			return
		}
		j.until = j.began.Add(w.e.ExpireAfter)
	}
	if done := j.suppressed(ctx) || j.refresh(ctx); done {
		return
	}
	j.attempt(ctx)
}

// missed reports whether a delivery was due before it expired and was not tried
// since: this node was off, or the clock was set forward. It is tried once
// more, since to give up is to have tried for some days (RFC 5321 section
// 4.5.4.1). What is put off without a try stays missed: only that gets a time
// beyond its expiry. A limit that the sender set is kept.
func (e *Engine) missed(work spool.Work) bool {
	m := work.Message
	return e.unlimited(*m) && !work.Delivery.NextAt.Equal(m.ExpiresAt)
}

// unlimited reports whether the sender set no limit of its own.
func (e *Engine) unlimited(m spool.Message) bool {
	return m.ExpiresAt.Equal(m.SendAt.Add(e.ExpireAfter))
}

// mayWait reports whether a delivery whose time is up, and that cannot be tried
// now, may wait: as long as messages live, from when it was first put off for
// that.
func (e *Engine) mayWait(work spool.Work, after time.Time) bool {
	var since time.Time
	err := e.DB.Read(e.ctx, work.Org, func(tx *db.Tx) (err error) {
		since, err = spool.PutOff(tx, work.Item.Message, work.ID, after)
		return err
	})
	return err != nil || since.IsZero() || e.Clock.Now().Sub(since) < e.ExpireAfter
}

// load reads what did not come in memory, and sees to it that the keys are
// still there for what did. Beside an error it leaves what could be read of the
// message.
func (w *worker) load(ctx context.Context, work *spool.Work) (seen spool.Message, err error) {
	if work.Message != nil {
		return *work.Message, w.e.Custody.Living(work.Org)
	}
	err = w.e.DB.Read(ctx, work.Org, func(tx *db.Tx) (err error) {
		if seen, err = spool.LoadMessage(tx, w.e.Custody, work.Item.Message); err != nil {
			return err
		}
		d, err := spool.LoadDelivery(tx, seen.Key, work.ID)
		if err != nil {
			return err
		}
		work.Message, work.Delivery = &seen, &d
		return nil
	})
	return seen, err
}

// unloadable settles what can never be read again; anything else is tried
// later.
func (w *worker) unloadable(work spool.Work, seen spool.Message, err error) {
	switch {
	case w.e.ctx.Err() != nil:
		w.giveBack(work)
	case fault.Is(err, fault.NotFound): // the content is destroyed
		w.finish(work, spool.Outcome{State: spool.Failed, Reason: spool.ReasonContentDestroyed})
	case w.e.lapsed(work, seen):
		w.e.Log.Error("a delivery could not be read until it expired", "delivery", work.ID, "error", err)
		w.finish(work, spool.Outcome{State: spool.Expired, Reason: spool.ReasonExpired})
	default:
		w.e.Log.Warn("a delivery could not be read; it is tried again", "delivery", work.ID, "error", err)
		w.finish(work, spool.Outcome{State: spool.Deferred, Reason: spool.ReasonTemporary, NextAt: w.e.Clock.Now().Add(w.e.RetryMin)})
	}
}

// lapsed reports whether the time of a delivery that cannot be read is up, of
// whose message no more may be known than that there is one.
func (e *Engine) lapsed(work spool.Work, seen spool.Message) bool {
	switch {
	case seen.ExpiresAt.IsZero():
	case e.Clock.Now().Before(seen.ExpiresAt):
		return false
	case !e.unlimited(seen):
		return true
	}
	return !e.mayWait(work, time.Time{})
}

// job is one attempt at one delivery.
type job struct {
	w      *worker
	work   spool.Work
	plan   policy.Plan
	known  way
	began  time.Time
	until  time.Time             // the peer must have the message
	missed bool                  // it is beyond its expiry
	weak   *smtpclient.WeakError // why the last seal could not be used
	first  *smtpclient.WeakError // why the first could not

	doc        policy.Document   // of today
	found      keyring.Found     // keys of the recipient, if the plan has a use for them
	passedOver []string          // why some could not be used
	protection *spool.Protection // of the attempt, by one of them
}

// refresh learns what the domain can do today and decides again within the
// plan. It reports whether the delivery is done with already.
func (j *job) refresh(ctx context.Context) (done bool) {
	e := j.w.e
	known, err := e.way(ctx, j.work.Org, j.work.Domain)
	if err != nil {
		j.deferFor(spool.ReasonLookup, nil)
		return true
	}
	j.known = known
	if j.outside() {
		return j.nowhere()
	}
	switch {
	case known.NullMX:
		j.w.finish(j.work, spool.Outcome{State: spool.Failed, Reason: spool.ReasonNullMX})
		return true
	case known.Missing:
		j.w.finish(j.work, spool.Outcome{State: spool.Failed, Reason: spool.ReasonNoDomain})
		return true
	}
	doc, version, err := e.Policy(ctx, j.work.Org)
	if err != nil {
		j.deferFor(spool.ReasonTemporary, nil)
		return true
	}
	j.doc = doc
	wanted := j.wantsKey()
	keys, err := j.findKeys(ctx)
	switch {
	case err != nil:
		j.deferFor(spool.ReasonTemporary, nil)
		return true
	case version != j.work.Message.PolicyVersion:
		j.plan = policy.Narrow(j.plan, doc, j.facts(doc, keys))
	case wanted:
		j.plan = policy.NarrowKeys(j.plan, doc, keys)
	}
	switch {
	case j.plan.Refuse != "":
		j.w.finish(j.work, spool.Outcome{State: spool.Failed, Reason: spool.ReasonPolicyRefused})
		return true
	case j.plan.Hold == policy.HoldNoSeal && wanted:
		j.noKey()
		return true
	case j.plan.Hold != "":
		j.w.finish(j.work, spool.Outcome{State: spool.Held, Reason: spool.ReasonHeld})
		return true
	}
	return false
}

// outside reports whether strangers brought the message for a member. Its plan
// was never one of policy.
func (j *job) outside() bool { return j.work.Message.Source == spool.FromOutside }

// nowhere keeps back mail from outside whose domain has no route: its public
// mail hosts are most likely ourselves.
func (j *job) nowhere() (done bool) {
	if j.known.routed {
		return false
	}
	j.deferUntil(spool.ReasonNoRoute, spool.ReasonNoRoute, nil)
	return true
}

// facts are what policy may look at again.
func (j *job) facts(doc policy.Document, keys policy.Keys) policy.Facts {
	m, d := j.work.Message, j.work.Delivery
	// The credential's default is not kept. Treatment in its place lets more
	// rules match than the default would, never fewer.
	base := policy.Treatment
	if m.Purpose == policy.Generic {
		base = policy.Generic
	}
	f := policy.Facts{Sender: m.Envelope.Sender, Recipient: d.Recipient, Purpose: m.Purpose, DefaultPurpose: base,
		Subject: m.Details.Subject, Size: m.Size, RequireTLS: m.Envelope.RequireTLS, Posture: j.known.Facts(), Keys: keys}
	h, err := mail.ParseHeader(reader(m.Header))
	if err != nil {
		return f // it parsed when it was accepted
	}
	for _, from := range h.Mailboxes("From") {
		f.From = append(f.From, from.Address)
	}
	f.Headers = doc.Headers(h.Values)
	return f
}

// attempt tries the plan's seals in order until one can be used.
func (j *job) attempt(ctx context.Context) {
	for _, s := range j.plan.Seals {
		var used bool
		switch s {
		case policy.PGP, policy.SMIME:
			used = j.tryKey(ctx, s)
		case policy.TLS:
			used = j.tryTLS(ctx)
		case policy.Portal:
			used = j.tryPortal(ctx)
		}
		if used {
			return
		}
	}
	j.noSeal(ctx)
}

// noSeal ends or defers a delivery none of whose seals could be used today.
func (j *job) noSeal(ctx context.Context) {
	verdict := spool.ReasonNoPrivateChannel
	if j.plan.RequireTLS {
		verdict = spool.ReasonRequireTLS
	}
	patient, err := j.patient(ctx)
	switch {
	case err != nil:
		j.deferFor(spool.ReasonTemporary, nil)
	case j.weak != nil && j.weak.Temporary:
		j.deferFor(weakReason(j.weak), j.weakAttempt())
	case patient:
		j.deferUntil(spool.ReasonTLSUnavailable, verdict, j.weakAttempt())
	default:
		j.w.finish(j.work, spool.Outcome{State: spool.Failed, Reason: verdict, Attempt: j.weakAttempt()})
	}
}

// patient reports whether it is too early to say that there is no transport
// that is good enough: whoever stands in the way can strip TLS from one attempt
// and from those that follow soon. What the domain's own MTA-STS policy says is
// certain at once, unless there is a newer one (RFC 8461 section 5.1).
func (j *job) patient(ctx context.Context) (bool, error) {
	if byPolicy(j.weak) {
		return !j.w.e.Posture.PolicyStands(ctx, j.w.q.domain), nil
	}
	var times int
	var first time.Time
	err := j.w.e.DB.Read(ctx, j.work.Org, func(tx *db.Tx) (err error) {
		times, first, err = spool.Weak(tx, j.work.Item.Message, j.work.ID)
		return err
	})
	return times+1 < noTLSTimes || j.began.Sub(first) < j.w.e.NoTLSAfter, err
}

// weakReason names what a temporary weakness is about.
func weakReason(w *smtpclient.WeakError) string {
	switch w.Reason {
	case smtpclient.WeakDANELookup, smtpclient.WeakDANEFailed:
		return spool.ReasonDANE
	case smtpclient.WeakPinFailed, smtpclient.WeakPinHost, smtpclient.WeakNoClientCert:
		return spool.ReasonPartner
	}
	if silent(w) {
		return spool.ReasonTimeout
	}
	return spool.ReasonTLSUnavailable
}

// byPolicy reports whether MTA-STS alone stood in the way.
func byPolicy(w *smtpclient.WeakError) bool {
	return w != nil && (w.Reason == smtpclient.WeakSTSMismatch || w.Reason == smtpclient.WeakSTSFailed)
}

// tryTLS sends the message itself over nothing less than the floor.
func (j *job) tryTLS(ctx context.Context) (used bool) {
	floor := j.plan.Floor
	if j.plan.RequireTLS {
		floor = max(floor, policy.Authenticated)
	}
	if !j.connect(ctx, floor) {
		return j.weak == nil
	}
	body, err := j.tlsBody(ctx)
	if err != nil {
		if j.w.e.ctx.Err() == nil {
			j.w.e.Log.Error("a message could not be signed", "delivery", j.work.ID, "error", err)
		}
		j.deferFor(spool.ReasonTemporary, nil)
		return true
	}
	from, err := j.from(ctx)
	if err != nil {
		j.deferFor(spool.ReasonTemporary, nil)
		return true
	}
	j.send(ctx, policy.TLS, spool.Delivered, seal.TLS(from, j.work.Delivery.Recipient, floor, j.plan.RequireTLS, body))
	return true
}

// tryPortal sends the notice; the message waits in the portal.
func (j *job) tryPortal(ctx context.Context) (used bool) {
	e := j.w.e
	if !j.connect(ctx, j.plan.NoticeFloor) {
		return j.weak == nil
	}
	name, err := e.OrgName(ctx, j.work.Org)
	from, bad := j.noticeFrom(ctx)
	if err = errors.Join(err, bad); err != nil {
		j.deferFor(spool.ReasonTemporary, nil)
		return true
	}
	var link pickup.Link
	if err := e.DB.Write(ctx, j.work.Org, func(tx *db.Tx) (err error) {
		link, err = e.Link(tx, j.work.Message.Key, *j.work.Delivery, e.Clock.Now())
		return err
	}); err != nil {
		j.deferFor(spool.ReasonTemporary, nil)
		return true
	}
	notice, err := seal.PortalNotice(seal.PortalText{
		Sender: from, To: j.work.Delivery.Recipient, OrgName: name, FromDomain: pickup.SenderDomain(*j.work.Message), Link: link.URL,
		ExpiresAt: link.ExpiresAt, Date: e.Clock.Now(),
	}, j.plan.NoticeFloor)
	if err == nil {
		notice, err = e.signedForDomain(ctx, j.work.Org, notice, []string{pickup.SenderDomain(*j.work.Message)})
	}
	if err != nil {
		e.Log.Error("a notice could not be written", "delivery", j.work.ID, "error", err)
		j.deferFor(spool.ReasonTemporary, nil)
		return true
	}
	j.send(ctx, policy.Portal, spool.Waiting, notice)
	return true
}

// connect gets a connection to the domain of at least floor. When there is
// none it either leaves j.weak, and another seal may serve, or has deferred
// the delivery.
func (j *job) connect(ctx context.Context, floor policy.Grade) bool {
	j.weak = nil
	weak, lost := j.w.connect(ctx, j.known, floor, false)
	switch {
	case weak != nil:
		j.weak = weak
		if j.first == nil {
			j.first = weak
		}
		return false
	case errors.Is(lost, errStopping):
		j.w.giveBack(j.work)
		return false
	case lost != nil && j.notNow(lost):
		return false
	case lost != nil:
		j.deferFor(unreachable(lost), j.attemptBy(lost))
		return false
	}
	return true
}

// send starts the attempt, hands the artifact over and records what came of
// it. taken is the state of success.
func (j *job) send(ctx context.Context, s policy.Seal, taken spool.State, a *seal.Artifact) {
	w := j.w
	ours, err := w.start(j.work, func(tx *db.Tx) (bool, error) {
		return spool.Start(tx, j.work.Item, j.work.Run, j.plan, spool.Sealing{Seal: s, Weaker: j.weaker(),
			Protection: j.protection, PassedOver: j.passedOver}, j.work.Message.Key, w.e.Clock.Now())
	})
	switch {
	case err != nil && !fault.Is(err, fault.Unavailable):
		w.e.Log.Error("an attempt could not be begun", "delivery", j.work.ID, "error", err)
		j.deferFor(spool.ReasonTemporary, nil)
		return
	case err != nil:
		w.giveBack(j.work)
		return
	case !ours:
		return
	}
	reply, err := w.hand(ctx, j.known, a, j.until, false)
	j.record(s, taken, reply, err)
}

// start begins an attempt: no row, no attempt. false means that the item is
// somebody else's, or was given back because this run's lease is in doubt.
func (w *worker) start(work spool.Work, begin func(*db.Tx) (bool, error)) (ours bool, err error) {
	e := w.e
	fit := func() bool { return e.lease.good() && e.lease.run() == work.Run }
	if !fit() {
		w.giveBack(work)
		return false, nil
	}
	err = e.DB.Write(e.settle, work.Org, func(tx *db.Tx) (err error) {
		ours, err = begin(tx)
		return err
	})
	w.wait() // the outcome before this; the two mostly shared a transaction
	if err != nil {
		return false, err
	}
	w.begun = ours
	if ours && !fit() {
		w.giveBack(work)
		return false, nil
	}
	return ours, nil
}
