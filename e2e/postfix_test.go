package e2e

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/e2e/internal/postfix"
	"github.com/sealpost/sealpost/internal/fake"
)

// postfixMX runs Debian's Postfix as the mail host of postfix.example, and
// gives the folder that mail is put into. more are lines of its configuration.
func (s *site) postfixMX(t *testing.T, more postfix.Host) string {
	t.Helper()
	more.Addr, more.Port = "127.23.250.1", s.net.SMTPPort
	more.Main = "myhostname = mx.postfix.example\nvirtual_mailbox_domains = postfix.example\n" + more.Main
	dir := postfix.Dir(t)
	if _, _, err := s.net.IssueFiles(dir, "mx", []string{"mx.postfix.example"}, fake.CertOptions{}); err != nil {
		t.Fatal(err)
	}
	s.net.SetMX("postfix.example", fake.MX{Preference: 10, Host: "mx.postfix.example"})
	s.net.SetA("mx.postfix.example", netip.MustParseAddr(more.Addr))
	return postfix.Start(t, dir, more)
}

// TestPostfixReceives sends to a real Postfix: it takes over TLS what we send,
// in pieces and whole, and writes into its mailbox the bytes that were handed
// in.
func TestPostfixReceives(t *testing.T) {
	s := newSite(t, "", "")
	mailbox := s.postfixMX(t, postfix.Host{})
	s.start()
	door := dialRelay(t, s.relay)
	bodies := []string{
		"plain\r\n", "", "\r\n", ".\r\n..\r\n.hidden\r\nend.\r\n", "Gr\xc3\xbc\xc3\x9fe, 8-bit\r\n", "From the start of a line\r\n \t \r\n",
		"\xff\xfe raw \x01\x80\x7f\r\n", strings.Repeat("x", 998) + "\r\n", strings.Repeat(strings.Repeat("0123456789", 7)+"\r\n", 40_000),
	}
	for i, body := range bodies {
		door.mail(t, "dr.ada@clinic.test", "mira@postfix.example")
		message := fmt.Sprintf("From: dr.ada@clinic.test\r\nX-Number: %d\r\n\r\n%s", i, body)
		if reply := door.data(t, message); !strings.HasPrefix(reply, "250 ") {
			t.Fatalf("message %d: %s", i, reply)
		}
	}
	got := mailFiles(t, mailbox, len(bodies))
	for i, body := range bodies {
		header, rest, found := strings.Cut(got[i], "\n\n")
		if !found || rest != strings.ReplaceAll(body, "\r\n", "\n") {
			t.Errorf("message %d: the body of %d octets arrived with %d, or others", i, len(body), len(rest))
		}
		if !strings.Contains(header, "using TLSv1.3 with cipher TLS_AES_") {
			t.Errorf("message %d did not come over TLS:\n%s", i, header)
		}
	}
	r, err := s.post(map[string]any{"to": []string{"jörg@postfix.example"}, "subject": "Grüße", "text": "x"})
	if err != nil {
		t.Fatal(err)
	}
	s.settles(r.Deliveries[0].ID, "delivered")
	var evidence outcome
	if _, err := s.call("GET", "/api/v1/deliveries/"+r.Deliveries[0].ID, nil, &evidence); err != nil || evidence.Grade != fake.Verified {
		t.Errorf("%+v, %v", evidence, err)
	}
}

// mailFiles waits for n mails in a maildir, and gives them by their number.
func mailFiles(t *testing.T, dir string, n int) map[int]string {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		files, _ := filepath.Glob(filepath.Join(dir, "*"))
		if len(files) < n && time.Now().Before(deadline) {
			continue
		}
		all := map[int]string{}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, rest, _ := bytes.Cut(b, []byte("\nX-Number: "))
			number, _, _ := bytes.Cut(rest, []byte("\n"))
			i, err := strconv.Atoi(string(number))
			if err != nil {
				t.Fatalf("a mail without a number: %v", err)
			}
			all[i] = string(b)
		}
		if len(all) != n || len(files) != n {
			t.Fatalf("%d mails, %d different ones, want %d", len(files), len(all), n)
		}
		return all
	}
}
