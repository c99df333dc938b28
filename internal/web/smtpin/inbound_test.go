package smtpin

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/inbound"
	"github.com/sealpost/sealpost/internal/inbound/inboundtest"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/web"
)

// bring sends a message to one recipient and gives the reply to its end.
func (p *peer) bring(to, message string) string {
	p.t.Helper()
	p.talk("MAIL FROM:<>", "250 ")
	p.talk("RCPT TO:<"+to+">", "250 ")
	p.talk("DATA", "354 ")
	p.send(message + "\r\n.\r\n")
	lines := p.reply()
	return lines[len(lines)-1]
}

// TestBombsFromOutside: what is made to be large, deep or many is read within
// bounds, settles nothing, and a bounce behind it is heard.
func TestBombsFromOutside(t *testing.T) {
	const size = 8 << 20
	w := newWorld(t, dbtest.SQLite(t), func(deps *Deps) { deps.MaxSize = size })
	w.returnPaths()
	p := w.dial(t, "stranger")
	p.expect("220 ")
	p.talk("EHLO mx.example.org", "250 ")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	line := strings.Repeat("x", 76) + "\r\n"
	parts := "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\nx\r\n", 15_000)
	deep := ""
	for i := range 2000 {
		deep += fmt.Sprintf("Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	for _, bomb := range []string{
		"Subject: x\r\n\r\n" + strings.Repeat(line, 2000), parts, deep,
		strings.Repeat("X-Field: "+line, 1800),
		"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n" +
			strings.Repeat("\r\nFinal-Recipient: rfc822; a@b.example\r\nAction: delayed\r\n", 2500),
	} {
		if reply := p.bring(w.words["VERP"], bomb); !strings.HasPrefix(reply, "250 ") && !strings.HasPrefix(reply, "552 ") {
			t.Errorf("%d octets beginning with %.20q: %s", len(bomb), bomb, reply)
		}
	}
	if s := inboundtest.State(t, w.House, w.sent[0]); s != spool.Delivered {
		t.Errorf("a bomb made the delivery %s", s)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("%d octets of memory are kept", grown)
	}
	if reply := p.bring(w.words["VERP"], inboundtest.Bounce("patient@example.org", "failed", "5.1.1", "550 5.1.1 no")); !strings.HasPrefix(reply, "250 ") {
		t.Errorf("a bounce behind it: %s", reply)
	}
	if s := inboundtest.State(t, w.House, w.sent[0]); s != spool.Failed {
		t.Errorf("the bounce made the delivery %s", s)
	}
}

// Who guesses has few guesses, and one address brings so many messages a
// minute; sources are not held to that.
func TestStrangersAreBounded(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t), func(deps *Deps) {
		deps.Strangers = must(web.NewLimiter(clock.NewFake(clock.System{}.Now()), 5, 5))
	})
	p := w.dial(t, "stranger")
	p.expect("220 ")
	p.talk("EHLO mx.example.org", "250 ")
	p.talk("MAIL FROM:<>", "250 ")
	for i := range maxErrors {
		p.talk(fmt.Sprintf("RCPT TO:<guess%d@bounce.clinic.example>", i), "550 5.1.1")
	}
	p.talk("RCPT TO:<guess@bounce.clinic.example>", "550 5.1.1")
	p.expect("421 4.7.0")
	p.end()

	p = w.dial(t, "stranger")
	p.expect("220 ")
	p.talk("EHLO mx.example.org", "250 ")
	for range 4 {
		p.talk("MAIL FROM:<>", "250 ")
		p.talk("RSET", "250 ")
	}
	p.talk("MAIL FROM:<>", "451 4.7.1")
	p = w.dial(t, "relay")
	p.open()
}

// While a route's host is away who asks on and on is sent away, and the log
// does not hear of each recipient.
func TestRecipientsThatCannotBeVerifiedAreBounded(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t), func(deps *Deps) {
		deps.Inbound.Relay = &inbound.Relay{Knows: func(context.Context, netip.Prefix, mail.Address) (id.ID, error) {
			return id.ID{}, inbound.ErrUnverified
		}}
	})
	p := w.dial(t, "stranger")
	p.expect("220 ")
	p.talk("EHLO mx.example.org", "250 ")
	p.talk("MAIL FROM:<>", "250 ")
	for i := range maxErrors {
		p.talk(fmt.Sprintf("RCPT TO:<canary%d@clinic.example>", i), "451 4.3.0")
	}
	p.talk("RCPT TO:<canary@clinic.example>", "451 4.3.0")
	p.expect("421 4.7.0")
	p.end()
	if text := w.log.String(); strings.Contains(text, "SMTP command failed") {
		t.Errorf("the log:\n%s", text)
	}
}

// TestNoAnswerBeforeTheCommit: a message that cannot be recorded now is to come
// again, and is then recorded once.
func TestNoAnswerBeforeTheCommit(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t), nil)
	w.returnPaths()
	ctx, cancel := context.WithCancel(context.Background())
	ticket := must(w.incoming.Recipient(ctx, netip.Prefix{}, inboundtest.Sender(t, w.words["VERP"])))
	cancel()
	report := inboundtest.Bounce("patient@example.org", "failed", "5.1.1", "550 5.1.1 no")
	if err := w.incoming.Accept(ctx, inbound.Arrival{Tickets: []inbound.Ticket{ticket}}, strings.NewReader(report)); err == nil {
		t.Error("it is taken though nothing can be read")
	}
	if s := inboundtest.State(t, w.House, w.sent[0]); s != spool.Delivered {
		t.Errorf("the delivery is %s", s)
	}
	p := w.dial(t, "stranger")
	p.expect("220 ")
	p.talk("EHLO mx.example.org", "250 ")
	if reply := p.bring(w.words["VERP"], report); !strings.HasPrefix(reply, "250 ") {
		t.Error(reply)
	}
	if s := inboundtest.State(t, w.House, w.sent[0]); s != spool.Failed {
		t.Errorf("the delivery is %s", s)
	}
}
