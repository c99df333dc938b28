package deliver

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"

	"github.com/sealpost/sealpost/internal/deliver/smtpclient"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/spool"
)

// Spans name deliveries, domains, hosts, codes and words: what the ledger has
// in clear, and never what a peer said.

// follow begins the span of an attempt at a delivery.
func (w *worker) follow(ctx context.Context, work spool.Work) context.Context {
	ctx, w.span = w.e.Tracer.Start(ctx, "attempt")
	if w.span.IsRecording() {
		w.span.SetAttributes(attribute.String("sealpost.delivery", work.ID.Text(id.Delivery)), attribute.String("sealpost.org", work.Org.Text(id.Org)),
			attribute.String("sealpost.message", work.Item.Message.Text(id.Message)), attribute.String("sealpost.domain", work.Domain))
	}
	return ctx
}

// came tells the span what came of the attempt.
func (w *worker) came(o spool.Outcome) {
	if w.span == nil || !w.span.IsRecording() {
		return
	}
	w.span.SetAttributes(attribute.String("sealpost.state", string(o.State)), attribute.String("sealpost.reason", o.Reason))
	if a := o.Attempt; a != nil {
		w.span.SetAttributes(attribute.String("sealpost.result", a.Result), attribute.String("sealpost.seal", string(a.Seal)),
			attribute.String("sealpost.host", a.Host), attribute.Int("sealpost.code", a.Code), attribute.String("sealpost.class", a.Class))
	}
	if o.State == spool.Failed || o.State == spool.Expired {
		w.span.SetStatus(codes.Error, o.Reason)
	}
}

// unfollow ends the span. What came of the attempt may be recorded a little
// later.
func (w *worker) unfollow() {
	if w.span != nil {
		w.span.End()
		w.span = nil
	}
}

// during is a part of an attempt with a span of its own, which tells the host,
// and of an error its kind alone.
func (w *worker) during(ctx context.Context, name string, do func(context.Context) error) {
	ctx, span := w.e.Tracer.Start(ctx, name)
	err := do(ctx)
	if span.IsRecording() {
		var weak *smtpclient.WeakError
		if errors.As(err, &weak) {
			span.SetAttributes(attribute.String("sealpost.host", weak.Evidence.MX))
		} else if w.conn != nil {
			span.SetAttributes(attribute.String("sealpost.host", w.conn.Target().Host))
		}
		if event, told := eventOf(err); err != nil && told {
			span.SetAttributes(attribute.Int("sealpost.code", event.Code))
			span.SetStatus(codes.Error, kindWords[event.Kind])
		} else if err != nil {
			span.SetStatus(codes.Error, "other")
		}
	}
	span.End()
}

// worse is the one error of a connection that could not be had.
func worse(weak *smtpclient.WeakError, lost error) error {
	if weak != nil {
		return weak
	}
	return lost
}
