package inboundtest

import (
	"context"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
	"github.com/sealpost/sealpost/internal/submit/submittest"
)

// Sent accepts a message by SMTP for one recipient and leaves its delivery in a
// state: a settled one, sending, or ready.
func Sent(t testing.TB, h *submittest.House, org id.ID, sender, recipient string, state spool.State) spool.Item {
	t.Helper()
	ctx, run := context.Background(), id.New()
	door := h.Door(func(d *submit.Deps) { d.Reserve = func([]spool.Item) id.ID { return run } })
	from, to := Sender(t, sender), Sender(t, recipient)
	r, err := door.Accept(ctx, submit.Draft{
		Principal: auth.Principal{Org: org, Scopes: []auth.Scope{auth.Send}}, Source: spool.FromSMTP, Sender: from,
		Recipients: []mail.Address{to}, Message: strings.NewReader("From: " + sender + "\r\nSubject: canary-subject\r\n\r\ncanary-body\r\n"),
	})
	if err != nil {
		t.Fatal(err)
	}
	it := spool.Item{ID: r.Deliveries[0].Delivery, Org: org, Message: r.Message, Domain: to.Domain()}
	if state == spool.Ready {
		return it
	}
	if err := h.DB.Write(ctx, org, func(tx *db.Tx) error {
		if ok, err := spool.Start(tx, it, run, policy.Plan{}, spool.Sealing{Seal: policy.TLS}, nil, h.Clock.Now()); err != nil || !ok || state == spool.Sending {
			return err
		}
		_, err := spool.Finish(tx, it, run, nil, spool.Outcome{State: state, At: h.Clock.Now()})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return it
}

// State is where a delivery stands.
func State(t testing.TB, h *submittest.House, it spool.Item) (s spool.State) {
	t.Helper()
	if err := h.DB.Read(context.Background(), it.Org, func(tx *db.Tx) error {
		st, err := spool.StandingOf(tx, it.ID)
		s = st.State
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

// Bounce is a report of the kind that Postfix writes.
func Bounce(recipient, action, status, diagnostic string) string {
	return strings.ReplaceAll(`Date: Wed, 4 Mar 2026 05:06:07 +0000
From: MAILER-DAEMON@mx.example.org (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="=_b"

--=_b
Content-Type: text/plain; charset=us-ascii

This is the mail system at host mx.example.org.

<`+recipient+`>: `+diagnostic+`

--=_b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.org
Arrival-Date: Wed, 4 Mar 2026 05:06:06 +0000

Final-Recipient: rfc822; `+recipient+`
Action: `+action+`
Status: `+status+`
Diagnostic-Code: smtp; `+diagnostic+`

--=_b
Content-Type: text/rfc822-headers

Subject: canary-subject

--=_b--
`, "\n", "\r\n")
}

// Complaint is a feedback report (RFC 5965).
func Complaint(returnPath, feedback string) string {
	return strings.ReplaceAll(`From: feedback@mx.example.org
Subject: complaint
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="=_c"

--=_c
Content-Type: text/plain; charset=us-ascii

This is a complaint.

--=_c
Content-Type: message/feedback-report

Feedback-Type: `+feedback+`
User-Agent: Example/1.0
Version: 1
Original-Mail-From: <`+returnPath+`>

--=_c
Content-Type: message/rfc822

Return-Path: <`+returnPath+`>
From: ada@clinic.example
Subject: canary-subject

canary-body

--=_c--
`, "\n", "\r\n")
}

// Principal may send for the organization.
func Principal(org id.ID) auth.Principal {
	return auth.Principal{Org: org, Scopes: []auth.Scope{auth.Send}}
}
