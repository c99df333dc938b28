package deliver

import (
	"context"
	"errors"

	"github.com/sealpost/sealpost/internal/deliver/smtpclient"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/posture"
)

// errNoHost says that a domain has mail hosts but none has an address.
var errNoHost = errors.New("no host of the domain has an address")

// connect sees to it that the worker has a connection to the domain of at
// least floor. It tries all mail hosts in order. It fails either because every
// host that answered is too weak, or because none answered.
func (w *worker) connect(ctx context.Context, known posture.Posture, floor policy.Grade, urgent bool) (*smtpclient.WeakError, error) {
	if w.conn != nil {
		if w.conn.Alive() {
			if _, err := w.conn.Rebind(w.again(known), floor); err == nil {
				return nil, nil
			}
		}
		_ = w.conn.Close()
		w.conn = nil
	}
	if !w.hold(ctx, urgent) {
		return nil, ctx.Err()
	}
	w.used = false
	var weakest *smtpclient.WeakError
	last := errNoHost
	for _, mx := range known.MX {
		if len(mx.Addrs) == 0 {
			continue
		}
		conn, err := w.dial(ctx, known, mx, floor)
		if err == nil {
			w.conn = conn
			return nil, nil
		}
		var weak *smtpclient.WeakError
		if errors.As(err, &weak) {
			weakest = stronger(weakest, weak)
			continue
		}
		last = err
	}
	if weakest != nil {
		return weakest, nil
	}
	return nil, last
}

// again is the connection's target under what the domain asks for today.
func (w *worker) again(known posture.Posture) smtpclient.Target {
	t := w.conn.Target()
	t.STS = known.STSFor(t.Host)
	return t
}

// stronger keeps the better of two weak transports for the record; a
// temporary weakness counts for more, since it asks for another attempt.
func stronger(a, b *smtpclient.WeakError) *smtpclient.WeakError {
	if a == nil || b.Temporary && !a.Temporary || b.Temporary == a.Temporary && b.Proved > a.Proved {
		return b
	}
	return a
}

func (w *worker) dial(ctx context.Context, known posture.Posture, mx posture.MX, floor policy.Grade) (*smtpclient.Conn, error) {
	e := w.e
	target := smtpclient.Target{Host: mx.Host, Addrs: mx.Addrs, Port: e.SMTPPort, Domain: w.q.domain, STS: known.STSFor(mx.Host)}
	conn, evidence, err := smtpclient.Dial(ctx, e.SMTP, target, floor)
	var weak *smtpclient.WeakError
	if err == nil || errors.As(err, &weak) && !weak.Temporary {
		e.Posture.Learn(ctx, w.q.domain, evidence.Grade, mx.Host)
	}
	return conn, err
}
