package smtpin

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db/dbtest"
)

// ends are octets that some server somewhere takes for the end of DATA, or
// that some client does not stuff. Only CRLF.CRLF is it (RFC 5321 section
// 4.1.1.4). What is true is a message and not refused.
var ends = map[string]bool{
	"\n.\n": false, "\r\n.\n": false, "\n.\r\n": false, "\r.\r": false, "\r.\r\n": false, "\r\n.\r": false, "\n.\r": false, "\r.\n": false,
	"\r\r\n.\r\r\n": false, "\r\n.\r\r\n": false, "\r\n\r.\r\n": false, "\r\n\n.\r\n": false,
	"\r\n\x00.\r\n": false, "\r\n.\x00\r\n": false, "\x00\r\n.\x00": false, "\r\x00\n.\r\n": false, "\n\r.\n\r": false,
	"\r\n..\r\n": true, "\r\n..": true, "\r\n..\n": false, "\n..\r\n": false, "\r\n. \r\n": true, "\r\n.\t\r\n": true, "\r\n .\r\n": true,
	"\r\n.\u0085": true, "\u2028.\u2028": true, "\v.\v": true, "\f.\f": true, "\r\n.\r\x00\n": false, "\r\n=2E\r\n": true,
}

// TestOneMessageInIsOneMessage hides a message behind everything that could
// end another, on every door, in pieces and across the borders of buffers and
// TLS records. It is one message or one refusal, and the session is in step.
func TestOneMessageInIsOneMessage(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t), nil)
	w.returnPaths()
	before := len(w.Stored())
	for door, to := range map[string]string{"relay": "patient@example.org", "relay-tls": "patient@example.org", "submission": "patient@example.org", "stranger": w.words["VERP"]} {
		t.Run(door, func(t *testing.T) {
			p := w.dial(t, strings.TrimSuffix(door, "-tls"))
			switch door {
			case "submission":
				p.login()
			case "relay-tls":
				p.expect("220 ")
				p.talk("EHLO client.example", "250 ")
				p.talk("STARTTLS", "220 ")
				p.secure()
				p.talk("EHLO client.example", "250 ")
			default:
				p.expect("220 ")
				p.talk("EHLO client.example", "250 ")
			}
			_ = p.conn.SetDeadline(time.Now().Add(60 * time.Second))
			want := map[string]int{} // messages by how they end
			for end, message := range ends {
				for _, cut := range cuts(end) {
					p.smuggle(to, end, message, cut)
					if message && door != "stranger" {
						want[strings.ReplaceAll(end, "\r\n.", "\r\n")+smuggled+"\r\n"]++
					}
				}
			}
			stored := w.Stored() // the newest first
			checkStored(t, stored[:len(stored)-before], want)
			before = len(stored)
		})
	}
}

// cut says how octets are sent: after so many of them that fill lines, and in
// pieces that end behind these places of the ending.
type cut struct {
	fill   int // where the ending starts, in octets of the message; 0: at once
	pieces []int
}

func cuts(end string) []cut {
	all := []cut{{}, {pieces: []int{1}}, {pieces: []int{len(end) - 1}}}
	every := cut{}
	for i := range len(end) {
		every.pieces = append(every.pieces, i)
	}
	all = append(all, every)
	for _, size := range []int{writeBuffer, readBuffer} {
		for i := range len(end) + 1 {
			all = append(all, cut{fill: size - i})
		}
	}
	return all
}

const smuggled = "MAIL FROM:<admin@clinic.example>\r\nRCPT TO:<patient@example.org>\r\nDATA\r\nFrom: admin@clinic.example\r\n\r\ntwo"

func (p *peer) smuggle(to, end string, message bool, c cut) {
	p.t.Helper()
	p.send("MAIL FROM:<ada@clinic.example>\r\nRCPT TO:<" + to + ">\r\nDATA\r\n")
	p.expect("250 ")
	p.expect("250 ")
	p.expect("354 ")
	head := "From: ada@clinic.example\r\nSubject: one\r\n\r\n"
	left := max(0, c.fill-len(head)-1)
	head += strings.Repeat(strings.Repeat("x", 70)+"\r\n", left/72) + strings.Repeat("x", left%72) + "$"
	at := 0
	for _, i := range c.pieces {
		p.send((head + end)[at : len(head)+i])
		at = len(head) + i
	}
	p.send((head + end)[at:] + smuggled + "\r\n.\r\nNOOP\r\n")
	got := p.reply()[0]
	want := "554 5.6.0 "
	if message {
		want = "250 2.0.0 "
	}
	where := fmt.Sprintf("%q, %+v", end, c)
	if !strings.HasPrefix(got, want) {
		p.t.Fatalf("%s: %s", where, got)
	}
	if next := p.reply()[0]; next != "250 2.0.0 Still here." {
		p.t.Fatalf("%s: the session is out of step: %s", where, next)
	}
}

// checkStored finds each message whole, and no other.
func checkStored(t *testing.T, stored []string, want map[string]int) {
	t.Helper()
	for _, m := range stored {
		_, end, _ := strings.Cut(m, "$")
		if want[end]--; want[end] < 0 {
			t.Errorf("a message ends in %q", end)
		}
	}
	for end, n := range want {
		if n != 0 {
			t.Errorf("%d messages that end in %q are missing", n, end)
		}
	}
}
