package deliver

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sealpost/sealpost/internal/deliver/smtpclient"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/posture"
	"github.com/sealpost/sealpost/internal/seal"
)

// errNoHost says that a domain has mail hosts but none has an address.
var errNoHost = errors.New("no host of the domain has an address")

// connect sees to it that the worker has a connection to the domain of at
// least floor. It tries all mail hosts in order. It fails either because every
// host that answered is too weak, or because none answered. Where some are too
// weak and others did not answer, the weakness may be gone with the next
// attempt.
func (w *worker) connect(ctx context.Context, known way, floor policy.Grade, urgent bool) (*smtpclient.WeakError, error) {
	if err := w.admit(ctx, known, urgent); err != nil {
		return nil, err
	}
	if w.reuse(known, floor) {
		return nil, w.hold(ctx, urgent)
	}
	w.hangUp()
	w.used, w.sent = false, 0
	var weak *smtpclient.WeakError
	var lost error
	if err := w.patiently(ctx, urgent, !w.proven(), func() {
		w.during(ctx, "connect", func(ctx context.Context) error {
			weak, lost = w.dialAll(ctx, known, floor)
			return worse(weak, lost)
		})
	}); err != nil {
		return nil, err
	}
	switch {
	case weak == nil && lost == nil:
		return nil, w.hold(ctx, urgent)
	case ctx.Err() != nil:
	case weak != nil:
		w.heard(weak)
	default:
		w.heard(lost)
	}
	return weak, lost
}

// dialLimit bounds the search for a host that takes the mail: hosts that
// answer just in time, each step of each address, would hold it up for days.
const dialLimit = 10 * time.Minute

func (w *worker) dialAll(ctx context.Context, known way, floor policy.Grade) (*smtpclient.WeakError, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	var weakest *smtpclient.WeakError
	var lost error
	for _, mx := range known.MX {
		if len(mx.Addrs) == 0 {
			continue
		}
		conn, err := w.dial(ctx, known, mx, floor)
		if err == nil {
			w.conn, w.from = conn, w.source.Pool
			return nil, nil
		}
		var weak *smtpclient.WeakError
		if errors.As(err, &weak) {
			weakest = stronger(weakest, weak)
			continue
		}
		lost = err
	}
	switch {
	case weakest != nil && lost != nil:
		again := *weakest
		again.Temporary = true
		return &again, nil
	case weakest != nil:
		return weakest, nil
	case lost != nil:
		return nil, lost
	}
	return nil, errNoHost
}

// reuse reports whether the worker's connection serves: it leads to what is a
// mail host of the domain today, and reaches floor under the policy of today.
func (w *worker) reuse(known way, floor policy.Grade) bool {
	if w.conn == nil || !w.conn.Alive() {
		return false
	}
	host := w.conn.Target().Host
	i := slices.IndexFunc(known.MX, func(mx posture.MX) bool { return mx.Host == host })
	if i < 0 {
		return false
	}
	_, err := w.conn.Rebind(w.target(known, known.MX[i]), floor)
	return err == nil
}

// hand sends an artifact over the worker's connection. What a peer says over a
// connection that was used before may mean only that it wants a new one (it
// hung up while idle, or takes so many messages and no more: 421). Nothing was
// taken then, and it is asked once more over a new one. What has not arrived
// by until is broken off before the final dot.
func (w *worker) hand(ctx context.Context, known way, a *seal.Artifact, until time.Time, urgent bool) (smtpclient.Reply, error) {
	reply, err := w.say(ctx, a, until, urgent)
	again := w.used && wornOut(err)
	w.used = true
	if again && ctx.Err() == nil && w.e.lease.good() {
		if weak, lost := w.connect(ctx, known, a.Floor(), urgent); weak == nil && lost == nil {
			w.used = true
			reply, err = w.say(ctx, a, until, urgent)
		}
	}
	if ctx.Err() == nil {
		w.heard(err)
	}
	return reply, err
}

// say sends an artifact once, if the peer can have it before it expires.
func (w *worker) say(ctx context.Context, a *seal.Artifact, until time.Time, urgent bool) (reply smtpclient.Reply, err error) {
	w.sent++
	w.during(ctx, "send", func(ctx context.Context) error {
		send := func() { reply, err = w.conn.Send(ctx, a, until.Sub(w.e.Clock.Now())) }
		if stopping := w.patiently(ctx, urgent, false, send); stopping != nil {
			send() // begun already: it may finish without a place
		}
		return err
	})
	return reply, err
}

// wornOut reports whether the fault may lie with the connection alone.
func wornOut(err error) bool {
	var lost *smtpclient.ConnError
	var refused *smtpclient.RefusedError
	switch {
	case errors.As(err, &lost):
		return lost.Word != smtpclient.ConnTimeout && lost.Word != smtpclient.ConnCanceled
	case errors.As(err, &refused): // RFC 5321 section 3.8
		return refused.Reply.Code == 421 && !refused.Local && refused.Stage != smtpclient.StageDot
	}
	return false
}

// stronger keeps the better of two weak transports for the record; a
// temporary weakness counts for more, since it asks for another attempt.
func stronger(a, b *smtpclient.WeakError) *smtpclient.WeakError {
	if a == nil || b.Temporary && !a.Temporary || b.Temporary == a.Temporary && b.Proved > a.Proved {
		return b
	}
	return a
}
