package scan_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/scan"
	"github.com/sealpost/sealpost/internal/scan/scantest"
)

var ctx = context.Background()

func message(body string) io.Reader {
	return strings.NewReader("From: ada@example.org\r\nSubject: hello\r\n\r\n" + body + "\r\n")
}

func address(t *testing.T, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestClamAVFindsWhatItKnows(t *testing.T) {
	tcp, unix := scantest.ClamAV(t)
	for _, url := range []string{tcp, unix} {
		c, err := scan.NewClamAV(scan.ClamAVDeps{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Ping(ctx); err != nil {
			t.Fatal(err)
		}
		for body, want := range map[string]string{
			"nothing of note": "",
			scantest.Harm:     scantest.HarmName,
			strings.Repeat("a line that is long enough to need more than one chunk\r\n", 4000) + scantest.Harm: scantest.HarmName,
		} {
			got, err := c.Check(ctx, message(body))
			if err != nil || !strings.HasPrefix(got, want) || (got == "") != (want == "") {
				t.Errorf("%.20q: %q, %v", body, got, err)
			}
		}
		if got, err := c.Check(ctx, message(strings.Repeat("0123456789abcdef", scantest.StreamMax/16+9000))); !fault.Is(err, fault.Unavailable) {
			t.Errorf("more than clamd takes: %q, %v", got, err)
		}
	}
}

func TestRspamdsActions(t *testing.T) {
	r, err := scan.NewRspamd(scan.RspamdDeps{URL: scantest.Rspamd(t)})
	if err != nil {
		t.Fatal(err)
	}
	e := scan.Envelope{IP: netip.MustParseAddr("192.0.2.7"), EHLO: "mx.example.org", From: address(t, "ada@example.org"),
		Rcpt: []mail.Address{address(t, "bob@clinic.example"), address(t, "eve@clinic.example")}, ID: "msg_1"}
	for body, want := range map[string]scan.Action{
		"hello": scan.Pass, scantest.Unwanted: scan.Reject, scantest.Suspicious: scan.Mark,
		strings.Repeat("much that is said\r\n", 20_000): scan.Pass,
	} {
		got, err := r.Check(ctx, e, message(body))
		if err != nil || got.Action != want {
			t.Errorf("%.20q: %+v, %v", body, got, err)
		}
	}
}

// What Rspamd is told, and each action it knows.
func TestWhatRspamdIsTold(t *testing.T) {
	var heard http.Header
	answer := ""
	fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		heard = q.Header
		_, _ = io.Copy(io.Discard, q.Body)
		if q.URL.Path != "/checkv2" {
			http.NotFound(w, q)
			return
		}
		_, _ = io.WriteString(w, answer)
	}))
	defer fake.Close()
	r, err := scan.NewRspamd(scan.RspamdDeps{URL: fake.URL})
	if err != nil {
		t.Fatal(err)
	}
	e := scan.Envelope{IP: netip.MustParseAddr("::ffff:192.0.2.7"), EHLO: "mx.example.org", Rcpt: []mail.Address{address(t, "bob@clinic.example"), address(t, "eve@clinic.example")}, ID: "q1"}
	for word, want := range map[string]scan.Action{
		"no action": scan.Pass, "greylist": scan.Later, "soft reject": scan.Later, "add header": scan.Mark, "rewrite subject": scan.Mark,
		"quarantine": scan.Mark, "reject": scan.Reject, "discard": scan.Reject,
	} {
		answer = fmt.Sprintf(`{"action":%q,"score":7.5,"required_score":15,"symbols":{"SPF_FAIL":{},"A_B":{},"lower case":{}}}`, word)
		got, err := r.Check(ctx, e, message("x"))
		if err != nil || got.Action != want || got.Score != 7.5 || got.Required != 15 || strings.Join(got.Symbols, " ") != "A_B SPF_FAIL" {
			t.Errorf("%s: %+v, %v", word, got, err)
		}
	}
	for name, want := range map[string]string{"Ip": "192.0.2.7", "Helo": "mx.example.org", "From": "", "Queue-Id": "q1"} {
		if got := heard.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := strings.Join(heard.Values("Rcpt"), " "); got != "bob@clinic.example eve@clinic.example" {
		t.Errorf("Rcpt: %q", got)
	}
}

// Whatever a scanner does but answer, the message comes again.
func TestScannersThatFail(t *testing.T) {
	behaviors := map[string]func(net.Conn){
		"hangs up":       func(net.Conn) {},
		"never answers":  func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"never reads":    func(c net.Conn) { time.Sleep(2 * time.Second) },
		"babbles":        func(c net.Conn) { drain(c); _, _ = io.Copy(c, endless{}) },
		"answers else":   func(c net.Conn) { drain(c); _, _ = io.WriteString(c, "stream: MAYBE\x00") },
		"says an error":  func(c net.Conn) { drain(c); _, _ = io.WriteString(c, "stream: Can't allocate memory ERROR\x00") },
		"half an answer": func(c net.Conn) { drain(c); _, _ = io.WriteString(c, "stream: OK") },
		"OK too early":   func(c net.Conn) { _, _ = io.WriteString(c, "stream: OK\x00") },
		"no action":      func(c net.Conn) { http11(c, `{"score":1}`) },
		"unknown action": func(c net.Conn) { http11(c, `{"action":"dance"}`) },
		"not an object":  func(c net.Conn) { http11(c, `[1]`) },
		"a status":       func(c net.Conn) { drain(c); _, _ = io.WriteString(c, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n") },
		"a redirect": func(c net.Conn) {
			drain(c)
			_, _ = io.WriteString(c, "HTTP/1.1 302 No\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
		},
	}
	large := strings.Repeat("0123456789abcdef", 1<<18)
	for name, behave := range behaviors {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := serve(t, behave)
			c, err := scan.NewClamAV(scan.ClamAVDeps{URL: "tcp://" + addr, Timeout: 300 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			r, err := scan.NewRspamd(scan.RspamdDeps{URL: "http://" + addr, Timeout: 300 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			if found, err := c.Check(ctx, message(large)); !fault.Is(err, fault.Unavailable) {
				t.Errorf("ClamAV: %q, %v", found, err)
			}
			if o, err := r.Check(ctx, scan.Envelope{}, message(large)); !fault.Is(err, fault.Unavailable) {
				t.Errorf("Rspamd: %+v, %v", o, err)
			}
			if err := c.Ping(ctx); !fault.Is(err, fault.Unavailable) {
				t.Errorf("ping: %v", err)
			}
		})
	}
	dead, err := scan.NewClamAV(scan.ClamAVDeps{URL: "unix:///nowhere/clamd"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dead.Check(ctx, message("x")); !fault.Is(err, fault.Unavailable) {
		t.Errorf("nobody there: %v", err)
	}
}

// A name that clamd says is shown only if it looks like one.
func TestNamesOfSignatures(t *testing.T) {
	for said, want := range map[string]string{
		"stream: Win.Test.EICAR_HDB-1 FOUND": "Win.Test.EICAR_HDB-1",
		"stream: a b\r\nc FOUND":             "unnamed",
		"else: X FOUND":                      "unnamed",
	} {
		addr := serve(t, func(c net.Conn) { drain(c); _, _ = io.WriteString(c, said+"\x00") })
		c, err := scan.NewClamAV(scan.ClamAVDeps{URL: "tcp://" + addr})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Check(ctx, message("x")); err != nil || got != want {
			t.Errorf("%q: %q, %v", said, got, err)
		}
	}
}

// An error of reading the message is no error of the scanner.
func TestMessagesThatEndEarly(t *testing.T) {
	lost := errors.New("the peer is gone")
	broken := func() io.Reader { return io.MultiReader(message("x"), failing{lost}) }
	addr := serve(t, func(c net.Conn) { drain(c) })
	c, _ := scan.NewClamAV(scan.ClamAVDeps{URL: "tcp://" + addr, Timeout: time.Second})
	r, _ := scan.NewRspamd(scan.RspamdDeps{URL: "http://" + addr, Timeout: time.Second})
	if _, err := c.Check(ctx, broken()); !errors.Is(err, lost) {
		t.Errorf("ClamAV: %v", err)
	}
	if _, err := r.Check(ctx, scan.Envelope{}, broken()); !errors.Is(err, lost) {
		t.Errorf("Rspamd: %v", err)
	}
}

func TestURLs(t *testing.T) {
	for _, url := range []string{"", "tcp://host", "unix://host/x", "http://127.0.0.1:1", "tcp://127.0.0.1:1/x", "%"} {
		if _, err := scan.NewClamAV(scan.ClamAVDeps{URL: url}); err == nil {
			t.Errorf("ClamAV takes %q", url)
		}
	}
	for _, url := range []string{"", "tcp://127.0.0.1:1", "http:///x", "%"} {
		if _, err := scan.NewRspamd(scan.RspamdDeps{URL: url}); err == nil {
			t.Errorf("Rspamd takes %q", url)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func serve(t *testing.T, behave func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { behave(c); _ = c.Close() }()
		}
	}()
	return l.Addr().String()
}

func http11(c net.Conn, body string) {
	drain(c)
	_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// drain reads what either client sends, to the end of it.
func drain(c net.Conn) {
	head := make([]byte, 10)
	if _, err := io.ReadFull(c, head[:6]); err != nil || string(head[:6]) == "zPING\x00" {
		return
	}
	if _, err := io.ReadFull(c, head[6:]); err != nil {
		return
	}
	if !bytes.HasPrefix(head, []byte("zINSTREAM\x00")) {
		q, err := http.ReadRequest(bufio.NewReader(io.MultiReader(bytes.NewReader(head), c)))
		if err == nil {
			_, _ = io.Copy(io.Discard, q.Body)
		}
		return
	}
	for {
		var n uint32
		if err := binary.Read(c, binary.BigEndian, &n); err != nil || n == 0 {
			return
		}
		if _, err := io.CopyN(io.Discard, c, int64(n)); err != nil {
			return
		}
	}
}
