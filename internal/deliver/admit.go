package deliver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/sealpost/sealpost/internal/deliver/smtpclient"
	"github.com/sealpost/sealpost/internal/pool"
	"github.com/sealpost/sealpost/internal/spool"
)

var (
	// errNotYet says that the site allows no connection or no message now.
	errNotYet = errors.New("the site takes nothing more now")
	// errSuspended says that the site is left alone for a while.
	errSuspended = errors.New("the site is left alone")
)

// paceInline is how long a worker waits for its site's rate with the item in
// hand.
const paceInline = time.Second

// admit asks whether the item under way may go now: where it leaves from, and
// what the Governor of its site says. Notices ask for no more than their
// source: a person waits for them, and they are few.
func (w *worker) admit(ctx context.Context, known way, urgent bool) error {
	if err := w.toward(ctx, known); err != nil {
		return err
	}
	if w.conn != nil && w.from != w.source.Pool {
		w.hangUp()
	}
	if urgent {
		return nil
	}
	e, now := w.e, w.e.Clock.Now()
	if until, _ := w.aim.gov.Suspended(now); !until.IsZero() {
		w.hangUp()
		return errSuspended
	}
	if w.site != w.aim {
		w.hangUp()
		w.giveSlot()
		ok, retry := w.aim.gov.Connect(now, e.nodes())
		if !ok {
			return w.notYet(retry)
		}
		e.mu.Lock()
		w.site = w.aim
		w.site.open++
		e.mu.Unlock()
	}
	if most := w.aim.perConnection; most > 0 && w.sent >= most {
		w.hangUp()
	}
	return w.pace(ctx)
}

// toward finds out where the item under way leaves from and which site it goes
// to.
func (w *worker) toward(ctx context.Context, known way) error {
	if w.aim != nil {
		return nil
	}
	e, hosts := w.e, make([]string, 0, len(known.MX))
	for _, mx := range known.MX {
		hosts = append(hosts, mx.Host)
	}
	shape := e.Shape(w.q.domain, hosts)
	w.source = pool.Source{}
	if e.Source != nil {
		var err error
		if w.source, err = e.Source(ctx, w.current.Org, string(w.current.Lane.Stream()), shape.Name); err != nil {
			return err
		}
		w.sourced = true
	}
	w.aim = e.siteOf(w.source.Pool, shape)
	e.mu.Lock()
	w.q.site = w.aim
	e.mu.Unlock()
	return nil
}

// unsource tells the pool that the item under way was not sent after all.
func (w *worker) unsource() {
	if w.sourced && w.aim != nil && w.e.Told != nil {
		w.e.Told(w.aim.key.pool, w.aim.key.site, pool.Unsent)
	}
	w.sourced = false
}

// pace waits for the site's rate, or lets the queue wait where that takes
// long.
func (w *worker) pace(ctx context.Context) error {
	e := w.e
	for !w.paced {
		now := e.Clock.Now()
		ok, retry := w.aim.gov.Send(now, e.nodes())
		if ok {
			w.paced = true
			return nil
		}
		if retry.Sub(now) > paceInline {
			return w.notYet(retry)
		}
		w.letGo()
		select {
		case <-e.Clock.After(retry.Sub(now)):
		case <-e.drain:
			return errStopping
		case <-ctx.Done():
			return errStopping
		}
	}
	return nil
}

// notYet lets the worker's queue wait.
func (w *worker) notYet(retry time.Time) error {
	w.e.mu.Lock()
	defer w.e.mu.Unlock()
	w.e.standBy(w.q, retry)
	return errNotYet
}

func (w *worker) proven() bool {
	w.e.mu.Lock()
	defer w.e.mu.Unlock()
	return w.q.proven
}

// notNow deals with what is no fault of the delivery: its turn has not come.
func (j *job) notNow(err error) bool {
	var full *pool.Full
	switch {
	case errors.Is(err, errNotYet):
		j.w.put = waits
	case errors.Is(err, errSuspended) && j.w.attend:
		j.deferFor(spool.ReasonSuspended, nil)
	case errors.Is(err, errSuspended):
		j.w.put = suspended
	case errors.As(err, &full):
		j.exhausted(full.Until)
	default:
		return false
	}
	return true
}

// exhausted puts a delivery off until the pool it leaves from may send again,
// but not beyond its expiry or the age at which its sender is told.
func (j *job) exhausted(until time.Time) {
	m, end := j.work.Message, j.work.Message.ExpiresAt
	if j.missed {
		if !j.w.e.mayWait(j.work, end) {
			j.w.finish(j.work, spool.Outcome{State: spool.Expired, Reason: spool.ReasonExpired})
			return
		}
		end = j.until
	}
	if told := m.SendAt.Add(j.w.e.DelayAfter); j.w.e.DelayAfter > 0 && told.After(j.w.e.Clock.Now()) && told.Before(until) {
		until = told
	}
	if end.Before(until) {
		until = end
	}
	j.w.finish(j.work, spool.Outcome{State: spool.Deferred, Reason: spool.ReasonSource, NextAt: until})
}

// dialer connects from the source of the item under way. Addresses of another
// family cannot be reached from there.
func (w *worker) dialer(t *smtpclient.Target) smtpclient.Deps {
	d, from := w.e.SMTP, w.source
	if from.Helo != "" {
		d.Name = from.Helo
	}
	if !from.Addr.IsValid() || d.Dial != nil {
		return d
	}
	t.Addrs = slices.DeleteFunc(slices.Clone(t.Addrs), func(a netip.Addr) bool { return a.Unmap().Is4() != from.Addr.Unmap().Is4() })
	local := &net.TCPAddr{IP: from.Addr.AsSlice(), Zone: from.Addr.Zone()}
	d.Dial = (&net.Dialer{LocalAddr: local}).DialContext
	return d
}
