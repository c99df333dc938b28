package deliver

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/deliver/smtpclient"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/pickup"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/seal"
	"github.com/sealpost/sealpost/internal/spool"
)

// record turns the end of an attempt into an outcome.
func (j *job) record(s policy.Seal, taken spool.State, reply smtpclient.Reply, err error) {
	a := j.attemptBy(err)
	a.Seal = s
	o := spool.Outcome{Attempt: a}
	var source *smtpclient.SourceError
	var lost *smtpclient.ConnError
	switch {
	case errors.As(err, &lost) && j.w.e.ctx.Err() != nil: // by ourselves, before the final dot
		j.w.giveBack(j.work)
		return
	case err == nil:
		ev := j.w.conn.Evidence()
		a.Result, a.Code, a.Enhanced, a.Reply, a.Host, a.Evidence = spool.ResultDelivered, reply.Code, enhanced(reply), excerpt(reply), ev.MX, proof(ev)
		o.State, o.Grade = taken, ev.Grade
		if taken == spool.Waiting {
			o.Reason = j.whyPortal()
		}
	case errors.As(err, &source):
		j.w.e.Log.Error("stored mail could not be read while sending", "delivery", j.work.ID, "error", err)
		o.State, o.Reason, o.NextAt = j.retry(spool.ReasonTemporary, true)
	case a.Result == spool.ResultPermanent:
		o.State, o.Reason = spool.Failed, refusal(a)
	case a.Result == spool.ResultUnknown:
		o.State, o.Reason, o.NextAt = j.retry(spool.ReasonUnknown, true)
	case a.Code != 0:
		o.State, o.Reason, o.NextAt = j.retry(mailbox(a.Enhanced, spool.ReasonTemporary), true)
	default:
		o.State, o.Reason, o.NextAt = j.retry(unreachable(err), true)
	}
	j.w.finish(j.work, o)
}

// refusal names what a permanent refusal was about.
func refusal(a *spool.Attempt) string {
	switch a.Enhanced {
	case "5.7.30": // RFC 8689 section 4.2.1
		return spool.ReasonRequireTLS
	case "5.6.7": // RFC 6531 section 4.6
		return spool.ReasonUTF8
	case "5.3.4":
		return spool.ReasonTooLarge
	}
	return mailbox(a.Enhanced, spool.ReasonRejected)
}

// mailbox names what a reply says of the mailbox (RFC 3463 section 3.3), or
// gives the general reason.
func mailbox(enhanced, general string) string {
	switch {
	case strings.HasSuffix(enhanced, ".1.1"):
		return spool.ReasonUserUnknown
	case strings.HasSuffix(enhanced, ".2.2"):
		return spool.ReasonMailboxFull
	}
	return general
}

// unreachable tells silence from absence.
func unreachable(err error) string {
	if silent(err) {
		return spool.ReasonTimeout
	}
	return spool.ReasonUnreachable
}

func silent(err error) bool {
	var lost *smtpclient.ConnError
	return errors.As(err, &lost) && lost.Word == smtpclient.ConnTimeout
}

// attemptBy describes an attempt that ended with err.
func (j *job) attemptBy(err error) *spool.Attempt {
	a := &spool.Attempt{Number: j.work.Delivery.Attempts + 1, Began: j.began, Result: spool.ResultTemporary}
	a.Pool, a.Site = j.w.left()
	describe(a, err)
	if c := j.w.conn; c != nil && a.Evidence == nil {
		a.Evidence, a.Host = proof(c.Evidence()), c.Evidence().MX
	}
	return a
}

// replyMost is what is kept of a reply, in octets. A ledger entry has a bound,
// and an outcome that does not fit could never be recorded.
const replyMost = 4 << 10

func excerpt(r smtpclient.Reply) private.String {
	text := r.Text.Reveal()
	return private.NewString(strings.ToValidUTF8(text[:min(len(text), replyMost)], ""))
}

func describe(a *spool.Attempt, err error) {
	var refused *smtpclient.RefusedError
	var unknown *smtpclient.UnknownError
	switch {
	case errors.As(err, &refused):
		a.Code, a.Enhanced, a.Reply = refused.Reply.Code, enhanced(refused.Reply), excerpt(refused.Reply)
		explain(a)
		if refused.Reply.Permanent() {
			a.Result = spool.ResultPermanent
		}
	case errors.As(err, &unknown):
		a.Result = spool.ResultUnknown
	}
}

func enhanced(r smtpclient.Reply) string {
	if r.Enhanced[0] == 0 {
		return ""
	}
	return fmt.Sprintf("%d.%d.%d", r.Enhanced[0], r.Enhanced[1], r.Enhanced[2])
}

// weakAttempt describes an attempt that ended before anything was sent.
func (j *job) weakAttempt() *spool.Attempt {
	a := &spool.Attempt{Number: j.work.Delivery.Attempts + 1, Began: j.began, Result: spool.ResultWeak}
	a.Pool, a.Site = j.w.left()
	if j.weak != nil {
		a.Host, a.Evidence = j.weak.Evidence.MX, weakness(j.weak)
	}
	return a
}

// weaker is what the transport showed when the first seal could not be used.
func (j *job) weaker() *spool.Evidence {
	if j.first == nil {
		return nil
	}
	return weakness(j.first)
}

func weakness(w *smtpclient.WeakError) *spool.Evidence {
	e := proof(w.Evidence)
	e.Wanted, e.Weak = w.Wanted, w.Reason
	return e
}

var certReasons = map[string]string{
	smtpclient.CertExpired: spool.ReasonCertExpired, smtpclient.CertNotYetValid: spool.ReasonCertExpired,
	smtpclient.CertWrongName: spool.ReasonCertWrongName, smtpclient.CertUnknownAuthority: spool.ReasonCertUntrusted,
}

// whyPortal names why the message itself did not go by TLS.
func (j *job) whyPortal() string {
	switch {
	case j.first == nil:
		return spool.ReasonByPolicy
	case j.first.Reason == smtpclient.WeakCertificate, j.first.Reason == smtpclient.WeakSTSFailed:
		if word, ok := certReasons[j.first.Evidence.VerifyError]; ok {
			return word
		}
		return spool.ReasonCertInvalid
	case j.first.Reason == smtpclient.WeakUnproved:
		return spool.ReasonServerNotProved
	}
	return spool.ReasonWeakSuite
}

// proof is the transport's evidence as the spool records it.
func proof(e smtpclient.Evidence) *spool.Evidence {
	return &spool.Evidence{
		Grade: e.Grade, TLSVersion: e.TLSVersion, Suite: e.Suite, KeyExchange: e.KeyExchange, PeerFingerprint: e.PeerFingerprint,
		VerifiedBy: e.VerifiedBy, VerifyError: e.VerifyError, MX: e.MX, Addr: e.Addr, STSPolicyID: e.STSPolicyID, TLSA: e.TLSA, ClientCert: e.ClientCert, RequireTLS: e.RequireTLS,
	}
}

// deferFor records a temporary failure, unless it is this node that stops.
func (j *job) deferFor(reason string, a *spool.Attempt) {
	verdict := ""
	if reason == spool.ReasonDANE || reason == spool.ReasonPartner {
		verdict = reason // it says more than that time was up
	}
	j.deferUntil(reason, verdict, a)
}

// deferUntil is deferFor with what the delivery fails by, if anything, when its
// time is up.
func (j *job) deferUntil(reason, verdict string, a *spool.Attempt) {
	if j.w.e.ctx.Err() != nil {
		j.w.giveBack(j.work)
		return
	}
	o := spool.Outcome{Attempt: a}
	if o.State, o.Reason, o.NextAt = j.retry(reason, a != nil); o.State == spool.Expired && verdict != "" {
		o.State, o.Reason = spool.Failed, verdict
	}
	j.w.finish(j.work, o)
}

// retry gives the next attempt's time, or the end when that is too late. What
// was missed has its one more try only by trying.
func (j *job) retry(reason string, tried bool) (spool.State, string, time.Time) {
	next := j.w.e.backoff(j.work.Delivery.Attempts)
	told := j.work.Message.SendAt.Add(j.w.e.DelayAfter)
	if j.w.e.DelayAfter > 0 && told.After(j.w.e.Clock.Now()) && told.Before(next) {
		next = told
	}
	if end := j.work.Message.ExpiresAt; !next.Before(end) && (tried || !j.missed || !j.w.e.mayWait(j.work, end)) {
		return spool.Expired, spool.ReasonExpired, time.Time{}
	}
	return spool.Deferred, reason, next
}

// backoff doubles the wait from one attempt to the next, with a fifth of
// jitter so that what failed together is not tried together.
func (e *Engine) backoff(attempts int) time.Time {
	wait := e.RetryMin
	for range attempts {
		if wait *= 2; wait >= e.RetryMax {
			wait = e.RetryMax
			break
		}
	}
	jitter := time.Duration((rand.Float64()*0.4 - 0.2) * float64(wait))
	return e.Clock.Now().Add(wait + jitter)
}

// noticeBackoff is short: codes live ten minutes, and a peer that greylists
// lets the second attempt pass after a minute or so.
func (e *Engine) noticeBackoff(n spool.Notice) time.Time {
	if n.Kind == spool.KindCode {
		return e.Clock.Now().Add(min(e.RetryMin, 15*time.Second<<min(n.Attempts, 4)))
	}
	return e.backoff(n.Attempts)
}

// finish commits an outcome while the worker goes on to the next item; the
// worker waits for it before it sends anything more.
func (w *worker) finish(work spool.Work, o spool.Outcome) {
	o.At = w.e.Clock.Now()
	w.e.Figures.count(o)
	w.came(o)
	var key *custody.DataKey
	if work.Message != nil {
		key = work.Message.Key
	}
	w.commit(work, func(tx *db.Tx) error {
		ours, err := settle(tx, work, key, o)
		if err != nil || !ours {
			return err
		}
		return w.e.refused(tx, work, o)
	}, func(tx *db.Tx) error {
		_, err := settle(tx, work, nil, plain(o))
		return err
	})
}

// settle writes an outcome down. An earlier notice of the portal whose outcome
// was unknown may have been used by now.
func settle(tx *db.Tx, work spool.Work, key *custody.DataKey, o spool.Outcome) (ours bool, err error) {
	ours, err = spool.Finish(tx, work.Item, work.Run, key, o)
	if err == nil && ours && o.State == spool.Waiting {
		err = pickup.MarkIfOpened(tx, work.Item.Message, work.ID, o.At)
	}
	return ours, err
}

// plain is an outcome without anything that a peer said or that others are
// told of it. What was taken stays taken: to send it again would be worse.
func plain(o spool.Outcome) spool.Outcome {
	o.PassedOver = nil
	if a := o.Attempt; a != nil {
		o.Attempt = &spool.Attempt{Number: a.Number, Seal: a.Seal, Result: a.Result, Code: a.Code, Began: a.Began}
	}
	return o
}

// giveBack lets go of an item of which nothing was sent.
func (w *worker) giveBack(work spool.Work) {
	w.commit(work, func(tx *db.Tx) error { return spool.GiveBack(tx, work.Item, work.Run) })
}

// commit records an outcome in the first form that can be recorded. What can
// be in none stays as begun and is taken over, as unknown, when this run ends;
// what was not begun is found by reconcile.
func (w *worker) commit(work spool.Work, forms ...func(*db.Tx) error) {
	w.wait()
	settled := make(chan struct{})
	w.settled = settled
	go func() {
		defer close(settled)
		w.e.record(work, forms)
	}()
}

const (
	// recordTries is how often in a row an outcome may fail for another reason
	// than that the database is away before the next form of it is tried. An
	// error of another kind comes again, mostly.
	recordTries = 6
	// recordFor is how long the last form may: to send again what was taken is
	// worse than a worker that waits.
	recordFor = 5 * time.Minute
)

// record keeps trying while the database is away: the mail may be with the
// peer, and an outcome that is lost is a duplicate. A doubtful lease is no
// reason to give up: what a form writes is fenced by the run that owns the
// item, and nobody else settles it while that run's row is there. Only Stop
// ends it.
func (e *Engine) record(work spool.Work, forms []func(*db.Tx) error) {
	tries, since := 0, e.Clock.Now()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := e.DB.Write(e.settle, work.Org, forms[0])
		if err == nil {
			return
		}
		if tries++; fault.Is(err, fault.Unavailable) {
			tries, since = 0, e.Clock.Now()
		}
		e.Log.Error("an outcome could not be recorded yet", "item", work.ID, "error", err)
		switch last := len(forms) == 1; {
		case last && e.Clock.Now().Sub(since) >= recordFor:
			e.Figures.abandoned()
			e.Log.Error("an outcome can never be recorded; its attempt counts as unknown when this node stops", "item", work.ID)
			return
		case !last && tries == recordTries:
			forms, tries, since, pause = forms[1:], 0, e.Clock.Now(), 25*time.Millisecond
		}
		select {
		case <-e.settle.Done():
			return // what is left as sending is taken over, as unknown
		case <-time.After(pause):
		}
	}
}

// body opens the stored message as a stream.
func (e *Engine) body(work spool.Work) seal.Body {
	m := work.Message
	return seal.Body{
		Size: m.Size, EightBit: m.Envelope.EightBit, UTF8: m.Envelope.UTF8,
		Open: func(ctx context.Context) (io.ReadCloser, error) {
			if work.Body != nil {
				return io.NopCloser(io.MultiReader(bytes.NewReader(m.Header), bytes.NewReader(work.Body))), nil
			}
			stored := e.Blob.Open(ctx, m.Key, m.Blob)
			return struct {
				io.Reader
				io.Closer
			}{io.MultiReader(bytes.NewReader(m.Header), stored), stored}, nil
		},
	}
}

func reader(b []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(b)) }
