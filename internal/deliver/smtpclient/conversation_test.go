package smtpclient

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/seal"
)

// TestConversations plays the files in testdata/conversations, each against a
// peer that follows the file to the letter. A line is one of
//
//	dial OUTCOME          what Dial must come to; "ok" where there is no such line
//	send MESSAGE OUTCOME  a Send and what it must come to
//	dead                  after the last Send, the connection must be seen not to be good for another
//	sts                   the domain enforces MTA-STS and the host matches
//	never TEXT            must not be received, in clear or inside TLS
//	C: LINE               the peer expects this line
//	S: LINE               the peer sends this line
//	s: "TEXT"             the peer sends exactly this (Go quoting), in a packet of its own
//	repeat N "TEXT"       the peer sends this N times
//	cork, uncork          what the peer sends between them arrives at once, in records of its own
//	drip "TEXT"           the peer sends this octet by octet
//	begin                 stands for all up to the answer to EHLO inside TLS
//	envelope              stands for the three commands of an envelope, read
//	message               stands for the rest of the message "plain", read
//	hello                 the peer reads the ClientHello and does not heed it
//	TLS                   the peer does its side of the handshake
//	bye                   the peer says within TLS that it says no more
//	HANG                  the peer says nothing until the client goes
//	CLOSE                 the peer hangs up; it does so too at the end
//
// In clear the client may say nothing but EHLO and STARTTLS, in any of them. A
// Send may be ok only when the peer has read the final dot, and none may take
// long or much memory.
func TestConversations(t *testing.T) {
	files, err := filepath.Glob("testdata/conversations/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no conversations: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			converse(t, string(text))
		})
	}
}

// peer plays one script to one connection.
type peer struct {
	script    []string
	tls       *tls.Config
	conn      net.Conn
	wire      *corked // under conn
	r         *bufio.Reader
	clear     []byte // everything received
	encrypted []byte
	secure    bool
}

// usual are words of scripts that stand for several lines.
var usual = map[string]string{
	"begin": `S: 220 script.example ESMTP
C: EHLO relay.test
S: 250-script.example
S: 250 STARTTLS
C: STARTTLS
S: 220 go ahead
TLS
C: EHLO relay.test
s: "250-script.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 1000\r\n"
`,
	"envelope": `C: MAIL FROM:<dr.ada@clinic.test> SIZE=21
C: RCPT TO:<pat@script.example>
C: DATA
`,
	"message": `C: Subject: x
C: 
C: hello
C: .
`,
}

const scriptHost = "mx.script.example"

func converse(t *testing.T, text string) {
	cert, err := internet.Issue([]string{scriptHost}, fake.CertOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{tls: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}}
	wantDial, sts := "ok", STS{}
	var sends, never []string
	dead := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "", "#":
		case "dial":
			wantDial = rest
		case "send":
			sends = append(sends, rest)
		case "dead":
			dead = true
		case "sts":
			sts = STS{Enforce: true, Match: true, ID: "1"}
		case "never":
			never = append(never, rest)
		default:
			p.script = append(p.script, strings.Split(strings.TrimSuffix(cmp.Or(usual[line], line), "\n"), "\n")...)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan error, 1)
	go func() { done <- p.serve(ln) }()

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began, taken := time.Now(), 0
	at := ln.Addr().(*net.TCPAddr)
	c, _, err := Dial(t.Context(), deps(), Target{
		Host: scriptHost, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Port: at.Port, Domain: "script.example", STS: sts,
	}, policy.Verified)
	if got := verdict(err); got != wantDial {
		t.Errorf("dial: got %q, want %q (%v)", got, wantDial, err)
	}
	if c != nil {
		for _, s := range sends {
			name, want, _ := strings.Cut(s, " ")
			_, err := c.Send(t.Context(), message(t, name), time.Hour)
			if got := verdict(err); got != want {
				t.Errorf("send %s: got %q, want %q (%v)", name, got, want, err)
			}
			if err == nil {
				taken++
			}
		}
		if dead && c.Alive() {
			t.Error("the connection seems to be good for another message")
		}
		_ = c.Close() // the peer may be gone
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	runtime.ReadMemStats(&after)
	if took, used := time.Since(began), after.TotalAlloc-before.TotalAlloc; took > 5*time.Second || used > 16<<20 {
		t.Errorf("it took %s and %d octets of memory", took, used)
	}
	if dots := strings.Count(string(p.encrypted), "\r\n.\r\n"); taken > dots {
		t.Errorf("%d were taken by a peer that got %d final dots", taken, dots)
	}
	p.check(t, never)
}

// corked is a connection that can hold back what is written to it.
type corked struct {
	net.Conn
	on   bool
	held []byte
}

func (c *corked) Write(b []byte) (int, error) {
	if c.on {
		c.held = append(c.held, b...)
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *corked) cork(on bool) (err error) {
	if c.on = on; !on {
		_ = c.SetWriteDeadline(time.Now().Add(5 * time.Second)) // tls.Conn leaves one that is over
		_, err = c.Conn.Write(c.held)
		c.held = nil
	}
	return err
}

func (p *peer) check(t *testing.T, never []string) {
	for line := range strings.Lines(string(p.clear)) {
		if line != "EHLO relay.test\r\n" && line != "STARTTLS\r\n" {
			t.Errorf("in clear: %q", line)
		}
	}
	for _, text := range never {
		if strings.Contains(string(p.clear)+string(p.encrypted), text) {
			t.Errorf("%q was sent", text)
		}
	}
}

func (p *peer) serve(ln net.Listener) error {
	conn, err := ln.Accept()
	if err != nil {
		return err
	}
	defer func() { _ = p.conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	p.wire = &corked{Conn: conn}
	p.conn, p.r = p.wire, bufio.NewReader(conn)
	for i, line := range p.script {
		if err := p.step(line); err != nil {
			return fmt.Errorf("step %d, %q: %w", i+1, line, err)
		}
	}
	return nil
}

func (p *peer) step(line string) error {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "C:":
		return p.expect(rest)
	case "S:":
		_, err := io.WriteString(p.conn, rest+"\r\n")
		return err
	case "s:":
		text, err := strconv.Unquote(rest)
		if err != nil {
			return err
		}
		_, err = io.WriteString(p.conn, text)
		return err
	case "repeat":
		count, quoted, _ := strings.Cut(rest, " ")
		n, err := strconv.Atoi(count)
		if err != nil {
			return err
		}
		text, err := strconv.Unquote(quoted)
		if err != nil {
			return err
		}
		block := strings.Repeat(text, min(n, 1000))
		for range n / min(n, 1000) {
			if _, err := io.WriteString(p.conn, block); err != nil {
				return nil // the client may have had enough
			}
		}
		return nil
	case "drip":
		text, err := strconv.Unquote(rest)
		for i := 0; i < len(text) && err == nil; i++ {
			_, err = io.WriteString(p.conn, text[i:i+1])
		}
		return err
	case "cork", "uncork":
		return p.wire.cork(word == "cork")
	case "hello":
		p.secure = true                             // what comes from here on is no line
		_, err := io.ReadFull(p.r, make([]byte, 5)) // the head of a record
		return err
	case "bye": // TLS's own
		return p.conn.(*tls.Conn).CloseWrite()
	case "TLS":
		conn := tls.Server(p.conn, p.tls)
		if err := conn.Handshake(); err != nil {
			return err
		}
		p.conn, p.r, p.secure = conn, bufio.NewReader(conn), true
		return nil
	case "HANG":
		for p.expect("") != io.EOF {
		}
		return nil
	case "CLOSE":
		return p.conn.Close()
	}
	return errors.New("not a line of a conversation")
}

// expect reads a line and keeps it; at the end of the connection it gives
// io.EOF.
func (p *peer) expect(want string) error {
	got, err := p.r.ReadString('\n')
	if p.secure {
		p.encrypted = append(p.encrypted, got...)
	} else {
		p.clear = append(p.clear, got...)
	}
	if err != nil {
		return io.EOF
	}
	if got != want+"\r\n" {
		return fmt.Errorf("received %q", got)
	}
	return nil
}

// message gives the artifact that a script calls by name.
func message(t *testing.T, name string) *seal.Artifact {
	t.Helper()
	from, to := addr(t, "dr.ada@clinic.test"), addr(t, "pat@script.example")
	require := false
	b := body("Subject: x\r\n\r\nhello\r\n")
	switch name {
	case "plain":
	case "dots":
		b = body("Subject: x\r\n\r\n.\r\n..\r\n.hidden\r\nend.\r\n")
	case "no-line-end":
		b = body("Subject: x\r\n\r\nhello")
	case "empty":
		b = body("")
	case "8bit":
		b = body("Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n")
	case "8bit-header":
		b = body("Subject: Grüße\r\n\r\nhello\r\n") // not declared as UTF8, cannot be re-encoded
	case "utf8":
		to = addr(t, "pät@script.example")
	case "null-sender":
		return seal.Report(to, policy.Encrypted, []byte("Subject: x\r\n\r\nhello\r\n"))
	case "require-tls":
		require = true
	case "gone":
		b.Open = func(context.Context) (io.ReadCloser, error) { return nil, errors.New("the store is gone") }
	default:
		t.Fatalf("no message %q", name)
	}
	return seal.TLS(from, to, policy.Verified, require, b)
}
