package smtpin

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"net/smtp"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/submit"
)

const small = "From: ada@clinic.example\r\n\r\nhello\r\n.\r\n"

// open brings a relay session to the middle of a message.
func (p *peer) open() {
	p.t.Helper()
	p.expect("220 ")
	p.talk("EHLO relay.example", "250 ")
	p.talk("MAIL FROM:<ada@clinic.example>", "250 ")
	p.talk("RCPT TO:<patient@example.org>", "250 ")
	p.talk("DATA", "354 ")
}

func TestConnectionLostInMessage(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t), nil)
	for _, part := range []string{"", "From: ada@clinic.example\r\n", "From: ada@clinic.example\r\n\r\nhello\r\n", "From: ada@clinic.example\r\n\r\nhello\r\n.\r", "."} {
		p := w.dial(t, "relay")
		p.open()
		p.send(part)
		_ = p.conn.(*net.TCPConn).CloseWrite()
		if rest, _ := io.ReadAll(p.r); len(rest) > 0 {
			t.Errorf("%q: the server said %q", part, rest)
		}
	}
	p := w.dial(t, "relay")
	p.expect("220 ")
	p.send("EHLO x.example\r\nMAIL FROM:<ada@clinic.example>\r\nRCPT TO:<a@example.org>\r\nBDAT 40 LAST\r\nFrom: ada@clinic.example\r\n\r\n")
	_ = p.conn.(*net.TCPConn).CloseWrite()
	if rest, _ := io.ReadAll(p.r); strings.Contains(string(rest), "Accepted") {
		t.Errorf("half a chunk was accepted: %q", rest)
	}
	if n := len(w.Stored()); n != 0 {
		t.Errorf("%d messages stored", n)
	}
}

func TestSilenceEndsSession(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t), func(d *Deps) { d.IdleTimeout = 200 * time.Millisecond })
	p := w.dial(t, "relay")
	p.expect("220 ")
	p.expect("421 4.4.2")
	p.end()

	p = w.dial(t, "relay")
	p.open()
	p.send("From: ada@clinic.example\r\n\r\nhel")
	p.expect("421 4.4.2")
	p.end()

	p = w.dial(t, "submission")
	p.expect("220 ")
	p.talk("EHLO x.example", "250 ")
	p.talk("STARTTLS", "220 ")
	p.end() // no handshake comes, and nothing is said in clear

	p = w.dial(t, "submissions")
	p.end()
	if n := len(w.Stored()); n != 0 {
		t.Errorf("%d messages stored", n)
	}
}

func TestDrain(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t), nil)
	idle, sending, chunks, secure := w.dial(t, "relay"), w.dial(t, "relay"), w.dial(t, "relay"), w.dial(t, "submission")
	idle.expect("220 ")
	idle.talk("EHLO x.example", "250 ")
	sending.open()
	chunks.expect("220 ")
	chunks.talk("EHLO x.example", "250 ")
	chunks.talk("MAIL FROM:<ada@clinic.example>", "250 ")
	secure.login()
	down := make(chan error, 1)
	go func() { down <- w.server.Shutdown(context.Background()) }()

	idle.expect("421 4.3.2")
	idle.end()
	secure.expect("421 4.3.2")
	secure.end()
	sending.send(small)
	sending.expect("250 2.0.0 Accepted as msg_")
	sending.expect("421 4.3.2")
	sending.end()
	chunks.talk("RCPT TO:<patient@example.org>", "250 ")
	chunks.send("BDAT 28\r\n" + small[:28])
	chunks.expect("250 ")
	select {
	case err := <-down:
		t.Fatalf("Shutdown did not wait for a transaction: %v", err)
	default:
	}
	chunks.send("BDAT 0 LAST\r\n")
	chunks.expect("250 2.0.0 Accepted as msg_")
	chunks.expect("421 4.3.2")
	if err := <-down; err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", w.addrs["relay"]); err == nil {
		t.Error("the listener is still open")
	}
	if n := len(w.Stored()); n != 2 {
		t.Errorf("%d messages stored, want 2", n)
	}
}

// TestDrainStartsNothing: MAIL that was being obeyed when draining began.
func TestDrainStartsNothing(t *testing.T) {
	l := newLine(&fed{}, time.Minute)
	l.drain()
	if l.begin() || !l.stopped() {
		t.Error("a transaction begins while the server drains")
	}
}

func TestDrainEndsByForce(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t), nil)
	p := w.dial(t, "relay")
	p.open()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := w.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Shutdown: %v", err)
	}
	if n := len(w.Stored()); n != 0 {
		t.Errorf("%d messages stored", n)
	}
}

func TestCrowd(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t), func(d *Deps) { d.MaxConnections = 1 })
	first := w.dial(t, "relay")
	first.expect("220 ")
	second := w.dial(t, "relay")
	second.expect("421 4.3.2")
	second.end()
	w.dial(t, "submissions").end()
	first.talk("QUIT", "221 ")
}

func TestFailedAuthTakesItsTime(t *testing.T) {
	now := clock.NewFake(time.Now())
	w := newWorld(t, dbtest.SQLite(t), func(d *Deps) { d.AuthDelay, d.Clock = time.Minute, now })
	p := w.dial(t, "submissions")
	p.secure()
	p.expect("220 ")
	p.talk("EHLO x.example", "250 ")
	p.send("AUTH PLAIN " + w.words["PLAIN_WRONG"] + "\r\n")
	answer := make(chan string, 1)
	go func() { l, _ := p.r.ReadString('\n'); answer <- l }()
	start := now.Now()
	for {
		select {
		case got := <-answer:
			if waited := now.Now().Sub(start); !strings.HasPrefix(got, "535 5.7.8") || waited < time.Minute {
				t.Fatalf("%q after %v", got, waited)
			}
			return
		case <-time.After(time.Millisecond):
			now.Advance(10 * time.Second)
		}
	}
}

func TestRevokedKeyEndsWithinSession(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t), nil)
	p := w.dial(t, "submission")
	p.login()
	p.talk("MAIL FROM:<ada@clinic.example>", "250 ")
	p.talk("RSET", "250 ")
	if err := w.Clients.Revoke(context.Background(), w.Org.ID, w.client.ID); err != nil {
		t.Fatal(err)
	}
	for range 200 { // a key is trusted for a second
		p.send("MAIL FROM:<ada@clinic.example>\r\n")
		if strings.HasPrefix(p.reply()[0], "535 5.7.8") {
			return
		}
		p.talk("RSET", "250 ")
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("a revoked key goes on working")
}

func TestFloods(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t), nil)
	p := w.dial(t, "relay")
	p.open()
	go func() { _, _ = io.WriteString(p.conn, strings.Repeat(strings.Repeat("x", 998)+"\r\n", 2000)) }()
	p.expect("552 5.3.4")
	_, _ = io.ReadAll(p.r) // closed, with or without a reset

	p = w.dial(t, "relay")
	p.expect("220 ")
	for range maxErrors {
		p.talk("XYZZY", "500 ")
	}
	p.talk("XYZZY", "500 ")
	p.expect("421 4.7.0")
	p.end()
	if n := len(w.Stored()); n != 0 {
		t.Errorf("%d messages stored", n)
	}
}

func TestSessionRecord(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t), nil)
	p := w.dial(t, "submission")
	p.login()
	p.talk("MAIL FROM:<ada@clinic.example> REQUIRETLS", "250 ")
	p.talk("RCPT TO:<patient@example.org>", "250 ")
	p.talk("DATA", "354 ")
	p.talk(strings.TrimSuffix(small, "\r\n"), "250 ")
	p.talk("QUIT", "221 ")
	p.end()
	if err := w.server.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	line := w.log.String()
	for _, want := range []string{"listener=submission", "ended=quit", "accepted=1", "refused=0", "recipients=1", "requiretls=1", `tls="TLS 1.3"`, "org=org_", "client=cli_", "commands=8"} {
		if !strings.Contains(line, want) {
			t.Errorf("no %s in %s", want, line)
		}
	}
	if strings.Count(line, "\n") != 1 || strings.Contains(line, "127.0.0.1") || strings.Contains(line, "example") {
		t.Errorf("not one record without addresses: %s", line)
	}
}

// TestOtherClient lets a client that is not ours submit.
func TestOtherClient(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t), nil)
	key := must(decode(w.words["KEY"]))
	c := must(smtp.Dial(w.addrs["submission"]))
	for _, step := range []func() error{
		func() error { return c.StartTLS(&tls.Config{ServerName: host, RootCAs: w.pool}) },
		func() error { return c.Auth(smtp.PlainAuth("", "apikey", key, "127.0.0.1")) },
		func() error { return c.Mail("ada@clinic.example") },
		func() error { return c.Rcpt("patient@example.org") },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	data := must(c.Data())
	_, _ = io.WriteString(data, "From: ada@clinic.example\nSubject: x\n\n.\nhello\n")
	if err := errors.Join(data.Close(), c.Quit()); err != nil {
		t.Fatal(err)
	}
	if all := w.Stored(); len(all) != 1 || !strings.HasSuffix(all[0], "\r\n\r\n.\r\nhello\r\n") {
		t.Fatalf("stored: %q", all)
	}
}

// from is a connection whose peer seems to be elsewhere.
type from struct {
	net.Conn
	peer string
}

func (f from) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(f.peer)) }

// TestStrangersDoNotKeepOutOthers: nobody who has not authenticated gets more
// than a few connections, nor all of them together.
func TestStrangersDoNotKeepOutOthers(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t), func(d *Deps) {
		d.MaxConnections, d.MaxPerAddress = 9, 2
		d.Sources = append(d.Sources, Source{Networks: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}, Org: d.Sources[0].Org},
			Source{Networks: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, Org: d.Sources[0].Org, Tenant: &submit.Tenant{Field: "X-Tenant"}})
	})
	connect := func(peer string, role Role) (banner string) {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { _ = ours.Close() })
		w.server.start(from{theirs, peer}, role)
		banner, _ = bufio.NewReader(ours).ReadString('\n')
		return banner[:min(4, len(banner))]
	}
	there := 0
	for _, step := range []struct {
		peer string
		role Role
		want string
	}{
		{"192.0.2.1:1", Submission, "220 "}, {"192.0.2.1:2", Submission, "220 "}, {"192.0.2.1:3", Submission, "421 "},
		{"[::ffff:192.0.2.1]:4", Submission, "421 "}, {"192.0.2.1:5", Relay, "421 "},
		{"[2001:db8::1]:1", Submission, "220 "}, {"[2001:db8::2]:1", Submission, "220 "}, {"[2001:db8::3]:1", Submission, "421 "},
		{"192.0.2.2:1", Submission, "220 "}, {"192.0.2.2:2", Submission, "220 "}, {"192.0.2.3:1", Submission, "421 "},
		{"203.0.113.1:1", Relay, "220 "}, {"203.0.113.2:1", Relay, "421 "}, // customers of a suite
		{"198.51.100.7:1", Relay, "220 "},
	} {
		got := connect(step.peer, step.role)
		if got != step.want {
			t.Errorf("%s from %s is greeted with %q", step.role, step.peer, got)
		}
		if got == "220 " {
			there++
		}
		for ended := false; !ended; time.Sleep(time.Millisecond) { // who was sent away still goes
			w.server.mu.Lock()
			ended = len(w.server.sessions) == there
			w.server.mu.Unlock()
		}
	}
}

// TestStrangersGoInTime: talking does not prolong the time of who has not
// authenticated, and who has keeps his connection.
func TestStrangersGoInTime(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t), func(d *Deps) { d.StrangerTime = 3 * time.Second })
	friend := w.dial(t, "submission")
	friend.login()
	stranger := w.dial(t, "submission")
	stranger.expect("220 ")
	for {
		stranger.send("NOOP\r\n")
		line, err := stranger.r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(line, "421 4.4.2") {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	friend.talk("MAIL FROM:<ada@clinic.example>", "250 ")
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	if n := w.server.strange; n > 1 || len(w.server.strangers) > 1 { // the one that just ended may linger
		t.Errorf("%d strangers are counted", n)
	}
}
