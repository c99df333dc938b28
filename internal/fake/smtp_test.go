package fake

import (
	"bufio"
	"bytes"
	"context"
	"crypto/fips140"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

// talk is a session held line by line.
type talk struct {
	t *testing.T
	c *textproto.Conn
}

func talkClear(t *testing.T, n *Internet, host string) *talk {
	t.Helper()
	conn, err := n.Dial(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	t.Cleanup(func() { conn.Close() })
	return &talk{t, textproto.NewConn(conn)}
}

func talkTLS(t *testing.T, n *Internet, host string) *talk {
	t.Helper()
	conn, err := n.Dial(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	t.Cleanup(func() { conn.Close() })
	plain := &talk{t, textproto.NewConn(conn)}
	plain.want("220")
	plain.say("EHLO me.test", "250")
	plain.say("STARTTLS", "220")
	inside := tls.Client(conn, &tls.Config{RootCAs: n.CAPool(), ServerName: host})
	if err := inside.Handshake(); err != nil {
		t.Fatal(err)
	}
	s := &talk{t, textproto.NewConn(inside)}
	s.say("EHLO me.test", "250")
	return s
}

// want reads one reply and checks how it begins.
func (s *talk) want(begin string) string {
	s.t.Helper()
	code, msg, err := s.c.ReadResponse(0)
	var reply *textproto.Error
	if err != nil && !errors.As(err, &reply) {
		s.t.Fatalf("waiting for %s: %v", begin, err)
	}
	got := fmt.Sprintf("%d %s", code, msg)
	if !strings.HasPrefix(got, begin) {
		s.t.Errorf("got %q, want %q", got, begin)
	}
	return got
}

func (s *talk) say(line, begin string) string {
	s.t.Helper()
	s.write(line + "\r\n")
	return s.want(begin)
}

func (s *talk) write(raw string) {
	s.t.Helper()
	s.c.W.WriteString(raw)
	if err := s.c.W.Flush(); err != nil {
		s.t.Fatal(err)
	}
}

func TestExtensionsOffered(t *testing.T) {
	n := start(t, Options{})
	for host, want := range map[string]string{
		"mx.tls12.example":        "PIPELINING 8BITMIME SIZE 52428800 SMTPUTF8 ENHANCEDSTATUSCODES",
		"mx.modern.example":       "PIPELINING 8BITMIME SIZE 52428800 SMTPUTF8 CHUNKING ENHANCEDSTATUSCODES",
		"mx.requiretls.example":   "PIPELINING 8BITMIME SIZE 52428800 SMTPUTF8 ENHANCEDSTATUSCODES REQUIRETLS",
		"mx.no-8bitmime.example":  "PIPELINING SIZE 52428800 SMTPUTF8 ENHANCEDSTATUSCODES",
		"mx.no-smtputf8.example":  "PIPELINING 8BITMIME SIZE 52428800 ENHANCEDSTATUSCODES",
		"mx.small-size.example":   "PIPELINING 8BITMIME SIZE 65536 SMTPUTF8 ENHANCEDSTATUSCODES",
		"mx.no-starttls.example":  "PIPELINING 8BITMIME SIZE 52428800 SMTPUTF8 ENHANCEDSTATUSCODES",
		"mx.starttls-454.example": "PIPELINING 8BITMIME SIZE 52428800 SMTPUTF8 ENHANCEDSTATUSCODES STARTTLS",
	} {
		var s *talk
		if strings.Contains(host, "starttls-") || host == "mx.no-starttls.example" {
			s = talkClear(t, n, host)
			s.want("220")
		} else {
			s = talkTLS(t, n, host)
		}
		got := strings.Fields(s.say("EHLO me.test", "250 "+host))
		if list := strings.Join(got[2:], " "); list != want {
			t.Errorf("%s offers %s, want %s", host, list, want)
		}
	}
	s := talkTLS(t, n, "mx.no-extensions.example")
	if got := s.say("EHLO me.test", "250"); got != "250 mx.no-extensions.example\nSIZE 52428800" {
		t.Errorf("no-extensions offers %q", got)
	}
}

func TestRepliesToBadInput(t *testing.T) {
	n := start(t, Options{})
	s := talkTLS(t, n, "mx.tls12.example")
	s.say("MAIL <a@clinic.test>", "501 5.5.4")
	s.say("RCPT TO:<bruno@tls12.example>", "503 5.5.1")
	s.say("MAIL FROM:<a@clinic.test> REQUIRETLS", "555 5.5.4")
	s.say("MAIL FROM:<a@clinic.test> SIZE=99999999", "552 5.3.4")
	s.say("MAIL FROM:<jörg@clinic.test>", "553 5.6.7")
	s.say("MAIL FROM:<a@clinic.test> SIZE=10 BODY=8BITMIME SMTPUTF8", "250 2.1.0")
	s.say("DATA", "503 5.5.1")
	s.say("RCPT TO:<anna@modern.example>", "550 5.7.1") // this host is not its MX
	s.say("RCPT TO:<bruno@tls12.example>", "250 2.1.5")
	s.say("BDAT 3 LAST", "500 5.5.1")

	for name, body := range map[string]string{
		"554 5.6.0 bare LF": "a\nb\r\n.\r\n",
		"554 5.6.0 bare CR": "a\rb\r\n.\r\n",
		"554 5.6.0 NUL":     "a\x00b\r\n.\r\n",
		"250 2.0.0":         "\n.\r\nstill the same mail is refused only for its bare LF\r\n.\r\n",
	} {
		s := talkTLS(t, n, "mx.tls12.example")
		s.say("MAIL FROM:<>", "250")
		s.say("RCPT TO:<bruno@tls12.example>", "250")
		s.say("DATA", "354")
		s.write(body)
		if name == "250 2.0.0" {
			name = "554 5.6.0 bare LF"
		}
		s.want(name)
		s.say("NOOP", "250")
	}
	if got := n.Messages(""); len(got) != 0 {
		t.Errorf("%d broken messages were stored", len(got))
	}
}

func TestLimitsOfHosts(t *testing.T) {
	n := start(t, Options{})
	s := talkTLS(t, n, "mx.no-8bitmime.example")
	s.say("MAIL FROM:<> BODY=8BITMIME", "555")
	s.say("MAIL FROM:<>", "250")
	s.say("RCPT TO:<abel@no-8bitmime.example>", "250")
	s.say("DATA", "354")
	s.write("Subject: x\r\n\r\nGrüße\r\n.\r\n")
	s.want("554 5.6.3")

	s = talkTLS(t, n, "mx.no-smtputf8.example")
	s.say("MAIL FROM:<> SMTPUTF8", "555")
	s.say("MAIL FROM:<>", "250")
	s.say("RCPT TO:<zoë@no-smtputf8.example>", "553 5.6.7")

	s = talkTLS(t, n, "mx.small-size.example")
	s.say("MAIL FROM:<> SIZE=65537", "552 5.3.4")
	s.say("MAIL FROM:<>", "250")
	s.say("RCPT TO:<cleo@small-size.example>", "250")
	s.say("DATA", "354")
	s.write(strings.Repeat(strings.Repeat("x", 998)+"\r\n", 70) + ".\r\n")
	s.want("552 5.3.4")

	s = talkTLS(t, n, "mx.one-per-connection.example")
	s.message("dora@one-per-connection.example", "Subject: 1\r\n\r\n1\r\n")
	s.say("MAIL FROM:<>", "421 4.7.0")
}

func (s *talk) message(to, body string) {
	s.t.Helper()
	s.say("MAIL FROM:<> BODY=7BIT", "250")
	s.say("RCPT TO:<"+to+">", "250")
	s.say("DATA", "354")
	s.write(body + ".\r\n")
	s.want("250 2.0.0")
}

func TestPipeliningChunkingAndLongLines(t *testing.T) {
	n := start(t, Options{})
	s := talkTLS(t, n, "mx.modern.example")
	long := strings.Repeat("x", 3*lineLimit-1) + "\r\n.\r\n"
	s.write("MAIL FROM:<>\r\nRCPT TO:<anna@modern.example>\r\nRCPT TO:<jörg@modern.example>\r\nDATA\r\n")
	for _, reply := range []string{"250 2.1.0", "250 2.1.5", "553 5.6.7", "354"} {
		s.want(reply)
	}
	s.write("..\r\n" + long)
	s.want("250 2.0.0")

	s.write("MAIL FROM:<>\r\nRCPT TO:<anna@modern.example>\r\nBDAT 5\r\nA: b\rBDAT 9 LAST\r\n\n\r\n.\r\nc\r\n")
	for _, reply := range []string{"250 2.1.0", "250 2.1.5", "250 2.0.0", "250 2.0.0"} {
		s.want(reply)
	}
	got := n.Messages("anna@modern.example")
	if len(got) != 2 || string(got[0].Raw) != ".\r\n"+strings.TrimSuffix(long, ".\r\n") || string(got[1].Raw) != "A: b\r\n\r\n.\r\nc\r\n" {
		t.Fatalf("stored %d messages, not the two that were sent", len(got))
	}
}

func TestMailInClearIsSeen(t *testing.T) {
	n := start(t, Options{})
	s := talkClear(t, n, "mx.no-starttls.example")
	s.want("220")
	s.say("STARTTLS", "502")
	s.say("EHLO me.test", "250")
	s.message("ida@no-starttls.example", "Subject: x\r\n\r\nx\r\n")
	if m := n.Messages("ida@no-starttls.example"); len(m) != 1 || m[0].TLS != "" {
		t.Fatalf("messages %+v", m)
	}
	got := strings.Join(n.Transcript("no-starttls.example"), "\n")
	if !strings.Contains(got, "\nMAIL FROM:<> BODY=7BIT\nRCPT TO:<ida@no-starttls.example>\nDATA") {
		t.Errorf("transcript %q", got)
	}

	s = talkClear(t, n, "mx.modern.example")
	s.want("220")
	s.say("EHLO me.test", "250")
	s.write("STARTTLS\r\nRSET\r\n")
	s.want("503")
	if got := n.Transcript("modern.example"); len(got) < 3 || got[2] != "RSET\r\n" {
		t.Errorf("what was pipelined behind STARTTLS is not in the transcript: %q", got)
	}
}

func TestInjection(t *testing.T) {
	n := start(t, Options{})
	if err := n.Change("mx.modern.example", func(b *Behavior) { b.Inject = "250 injected\r\n" }); err != nil {
		t.Fatal(err)
	}
	s := talkClear(t, n, "mx.modern.example")
	s.want("220")
	s.say("EHLO me.test", "250")
	s.say("STARTTLS", "220")
	s.want("250 injected")
}

func TestHandshakeErrorsAreTheAnnouncedOnes(t *testing.T) {
	n := start(t, Options{})
	handshake := func(host string, conf *tls.Config) error {
		c := dial(t, n, host)
		conf.RootCAs, conf.ServerName = n.CAPool(), host
		return c.StartTLS(conf)
	}
	for host, part := range map[string]string{
		"mx.expired.example":          "expired",
		"mx.wrong-name.example":       "not mx.wrong-name.example",
		"mx.self-signed.example":      "unknown authority",
		"mx.tls10.example":            "protocol version",
		"mx.starttls-garbage.example": "first record does not look like a TLS handshake",
		"mx.starttls-454.example":     "4.7.0 TLS not available",
	} {
		err := handshake(host, &tls.Config{})
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v", host, err)
		}
	}
	// Where FIPS 140-3 is on, both sides refuse to speak TLS 1.0 at all.
	err := handshake("mx.tls10.example", &tls.Config{MinVersion: tls.VersionTLS10})
	if (err != nil) != fips140.Enabled() {
		t.Errorf("TLS 1.0: %v", err)
	}
	if err := handshake("mx.modern.example", &tls.Config{MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("modern.example speaks TLS 1.2")
	}
}

func TestCountOnlyAndSlow(t *testing.T) {
	n := start(t, Options{DiscardBodies: true, SlowBy: 30 * time.Millisecond})
	s := talkTLS(t, n, "mx.modern.example")
	s.message("anna@modern.example", "Subject: x\r\n\r\nx\r\n")
	s.message("anna@modern.example", "Subject: x\r\n\r\nx\r\n")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := n.WaitReceived(ctx, 2); err != nil || len(n.Messages("")) != 0 {
		t.Fatalf("%v, %d kept", err, len(n.Messages("")))
	}
	begin := time.Now()
	talkTLS(t, n, "mx.slow.example")
	if took := time.Since(begin); took < 4*30*time.Millisecond {
		t.Errorf("slow.example greets, says hello twice and starts TLS in %v", took)
	}
}

func TestCloseFreesWhoHangs(t *testing.T) {
	n, err := Start(t.Context(), Options{SlowBy: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	for _, host := range []string{"mx.hang-banner.example", "mx.slow.example", "mx.modern.example"} {
		conn, err := n.Dial(t.Context(), host)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	n.Close()
	n.Close()
	for _, c := range conns {
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.Copy(io.Discard, c); errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a connection outlives Close: %v", err)
		}
	}
	if _, err := net.Dial("tcp", n.ResolverAddr); err == nil {
		t.Error("the resolver outlives Close")
	}
}

func TestContextEndsIt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	n, err := Start(ctx, Options{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	<-n.done
	n.Close() // waits for what the end of ctx began
}

func TestAddDomainAndTwoInternetsAtOnce(t *testing.T) {
	a, b := start(t, Options{}), start(t, Options{})
	for _, n := range []*Internet{a, b} {
		if err := n.AddDomain(Domain{Name: "New.example", Host: &Behavior{}}); err != nil {
			t.Fatal(err)
		}
		s := talkTLS(t, n, "mx.new.example")
		s.message("x@new.example", "Subject: x\r\n\r\nx\r\n")
	}
	if err := a.AddHost("mx.new.example", Behavior{}); err == nil {
		t.Error("a host can be added twice")
	}
	if len(a.Messages("")) != 1 || len(b.Messages("")) != 1 {
		t.Error("two internets share mailboxes")
	}
}

// FuzzData checks readData against the plain statement of RFC 5321: the text
// ends at the first CRLF.CRLF, and a dot at the start of a line is removed.
func FuzzData(f *testing.F) {
	f.Add([]byte("a\r\n..b\r\n.c\r\n"))
	f.Add([]byte("\n.\r\nx"))
	f.Add([]byte(strings.Repeat("y", 70) + "\r"))
	n := &Internet{}
	f.Fuzz(func(t *testing.T, body []byte) {
		body = append(body, "\r\n.\r\nQUIT\r\n"...)
		in := append([]byte("\r\n"), body...)
		end := bytes.Index(in, []byte("\r\n.\r\n")) + 2
		want := bytes.ReplaceAll(in[:end], []byte("\r\n."), []byte("\r\n"))[2:]
		bare := bytes.ReplaceAll(want, []byte("\r\n"), nil)
		ok := !bytes.ContainsAny(bare, "\r\n\x00")

		// A reader of the smallest size meets every way of splitting lines.
		s := &session{n: n, b: &Behavior{}, r: bufio.NewReaderSize(bytes.NewReader(body), 16)}
		raw, problem, err := s.readData()
		if err != nil || (problem == "") != ok {
			t.Fatalf("problem %q, error %v, sound %v", problem, err, ok)
		}
		if !bytes.Equal(raw, want) {
			t.Fatalf("read %q, want %q", raw, want)
		}
	})
}

// FuzzSession checks that no input stops a host from ending its session.
func FuzzSession(f *testing.F) {
	f.Add([]byte("EHLO a\r\nMAIL FROM:<a@b> SIZE=3\r\nRCPT TO:<anna@modern.example>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n"))
	f.Add([]byte("EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<anna@modern.example>\r\nBDAT 3\r\nabcBDAT 2 LAST\r\nde"))
	f.Add([]byte("EHLO a\r\nSTARTTLS\r\nx"))
	f.Add([]byte("BDAT -1 LAST\r\nBDAT 99999999999999 LAST\r\n"))
	n, err := Start(context.Background(), Options{MaxBytes: 1 << 20})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(n.Close)
	h := n.host("mx.modern.example")
	f.Fuzz(func(t *testing.T, in []byte) {
		here, there := net.Pipe()
		done := make(chan struct{})
		go func() { n.serveSMTP(h, there); close(done) }()
		go func() { _, _ = io.Copy(io.Discard, here) }()
		_, _ = here.Write(in)
		_ = here.Close()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatal("the session does not end")
		}
	})
}
