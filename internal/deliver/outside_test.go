package deliver_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/deliver"
	"github.com/sealpost/sealpost/internal/dkim"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/resolve"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
	"github.com/sealpost/sealpost/internal/verdict"
)

// receive brings mail from outside in the name of a member, as a forger would.
func (h *node) receive(to string) id.ID {
	h.T.Helper()
	header, body, err := verdict.Split(strings.NewReader("From: ada@clinic.test\r\nSubject: hello\r\nX-Kept:  as  it is\r\n\r\nbody\r\n"))
	if err != nil {
		h.T.Fatal(err)
	}
	message := id.New()
	if err := h.door.Receive(context.Background(), submit.Incoming{Org: h.Org.ID, Message: message, Sender: mailAddress(h.T, "ada@clinic.test"),
		Recipients: []mail.Address{mailAddress(h.T, to)}, Header: header, Body: body, EHLO: "mx.stranger.example", Protocol: "ESMTPS",
		Judge: func(body func() io.Reader) (submit.Judged, error) {
			if text, err := io.ReadAll(body()); err != nil || !bytes.Equal(text, []byte("body\r\n")) {
				h.T.Errorf("the body is read again as %q, %v", text, err)
			}
			return submit.Judged{Header: header, Fact: struct {
				Action string `json:"action"`
			}{"relayed"}}, nil
		}}); err != nil {
		h.T.Fatal(err)
	}
	return message
}

func (h *node) only(message id.ID) spool.Delivery {
	h.T.Helper()
	desk := spool.Desk{DB: h.DB, Custody: h.Custody}
	s, err := desk.Message(context.Background(), h.Org.ID, message)
	if err != nil || len(s.Deliveries) != 1 {
		h.T.Fatalf("%d deliveries, %v", len(s.Deliveries), err)
	}
	return s.Deliveries[0]
}

// What strangers bring goes on as it came, to the route's host and to no other,
// and nothing of ours is put on it.
func TestMailFromOutsideIsNotOurs(t *testing.T) {
	t.Parallel()
	n := internet(t)
	resolver, err := resolve.New(resolve.Deps{Servers: []string{n.ResolverAddr}})
	if err != nil {
		t.Fatal(err)
	}
	var routed atomic.Bool
	var signed, returned, listed atomic.Int32
	h := start(t, dbtest.SQLite(t), n, func(deps *deliver.Deps) {
		deps.Log, deps.Clock = quiet, clock.System{}
		deps.DKIM = func(context.Context, id.ID, string) ([]dkim.Signer, error) { signed.Add(1); return nil, nil }
		deps.ReturnPath = func(_ context.Context, _ id.ID, sender mail.Address, _ id.ID) (mail.Address, error) {
			returned.Add(1)
			return sender, nil
		}
		deps.Suppressed = func(context.Context, id.ID, mail.Address, bool) (string, error) {
			listed.Add(1)
			return spool.ReasonSuppressedManual, nil
		}
		deps.Route = func(ctx context.Context, domain string) (deliver.Route, bool, error) {
			if domain == "hoster.example" || domain == "requiretls.example" && !routed.Load() {
				return deliver.Route{}, false, nil
			}
			host := "mx." + domain
			addrs, _, err := resolver.Addresses(ctx, host)
			return deliver.Route{Host: host, Addrs: addrs}, true, err
		}
	})
	good := h.receive("anna@modern.example")
	h.until("it is delivered", func() bool { return h.only(good).State == spool.Delivered })
	if d := h.only(good); d.Grade != policy.Authenticated || d.Seal != policy.TLS {
		t.Errorf("seal %s, grade %s", d.Seal, d.Grade)
	}
	tried := h.attempts(h.only(good).ID)
	if e := tried[len(tried)-1].Evidence; e == nil || e.VerifiedBy != "route+pkix" {
		t.Errorf("evidence %+v", e)
	}
	if raw := h.raw("anna@modern.example"); !strings.HasSuffix(raw, "From: ada@clinic.test\r\nSubject: hello\r\nX-Kept:  as  it is\r\n\r\nbody\r\n") {
		t.Errorf("it was changed:\n%s", raw)
	}

	// A host that does not show a certificate for its name gets nothing, and is
	// tried again: whoever put the route there can put it right.
	bad := h.receive("greta@self-signed.example")
	h.until("a wrong certificate defers", func() bool { d := h.only(bad); return d.State == spool.Deferred && d.Attempts > 2 })
	tried = h.attempts(h.only(bad).ID)
	if e := tried[len(tried)-1].Evidence; e == nil || e.Weak != "route_certificate" {
		t.Errorf("evidence %+v, reason %s", e, tried[len(tried)-1].Reason)
	}
	if mails := n.Messages("greta@self-signed.example"); len(mails) != 0 {
		t.Errorf("%d mails went to a host that is not proved", len(mails))
	}
	// Without its route mail waits, though the public mail host would take it.
	lost := h.receive("rita@requiretls.example")
	h.until("no route defers", func() bool { d := h.only(lost); return d.State == spool.Deferred && d.Reason == spool.ReasonNoRoute })
	routed.Store(true)
	h.until("it has a route again", func() bool { return h.only(lost).State == spool.Delivered })
	if signed.Load()+returned.Load()+listed.Load() != 0 {
		t.Errorf("%d times signed, %d return paths, %d times looked up in the list", signed.Load(), returned.Load(), listed.Load())
	}
}

func mailAddress(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
