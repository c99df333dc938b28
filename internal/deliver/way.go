package deliver

import (
	"context"
	"errors"

	"github.com/sealpost/sealpost/internal/deliver/smtpclient"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/posture"
	"github.com/sealpost/sealpost/internal/spool"
)

// way is how the mail of one organization reaches a domain: what the domain
// can do.
type way struct {
	posture.Posture
}

// way learns what holds today.
func (e *Engine) way(ctx context.Context, it spool.Item) (way, error) {
	known, err := e.Posture.Refresh(ctx, it.Domain)
	return way{known}, err
}

func (w *worker) target(known way, mx posture.MX) smtpclient.Target {
	return smtpclient.Target{Host: mx.Host, Addrs: mx.Addrs, Port: w.e.SMTPPort, Domain: w.q.domain, STS: known.STSFor(mx.Host), DANE: daneOf(mx.DANE)}
}

// daneOf gives the client the records that it may hold a certificate against.
func daneOf(d *posture.DANE) *smtpclient.DANE {
	if d == nil {
		return nil
	}
	out := &smtpclient.DANE{Base: d.Base, Names: d.Names, Failed: d.Error != ""}
	for _, t := range d.Usable() {
		out.Records = append(out.Records, smtpclient.TLSA(t))
	}
	return out
}

func (w *worker) dial(ctx context.Context, known way, mx posture.MX, floor policy.Grade) (*smtpclient.Conn, error) {
	e, t := w.e, w.target(known, mx)
	conn, evidence, err := smtpclient.Dial(ctx, e.SMTP, t, floor)
	var weak *smtpclient.WeakError
	if err == nil || errors.As(err, &weak) && !weak.Temporary {
		e.Posture.Learn(ctx, w.q.domain, evidence.Grade, mx.Host)
	}
	e.tellTLS(ctx, known.Posture, mx, t, evidence, err)
	return conn, err
}
