package e2e

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/fake"
)

const postfixMain = `compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = %[1]s/log
maillog_file_prefixes = %[1]s
myhostname = mx.postfix.example
mydestination =
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtpd_peername_lookup = no
smtpd_relay_restrictions = reject_unauth_destination
smtpd_tls_security_level = encrypt
smtpd_tls_cert_file = %[1]s/mx.crt
smtpd_tls_key_file = %[1]s/mx.key
smtpd_tls_received_header = yes
virtual_mailbox_domains = postfix.example
virtual_mailbox_base = %[1]s
virtual_mailbox_maps = static:mail/
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
`

const postfixMaster = `%s:%d inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
virtual unix - n n - - virtual
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
`

// postfixMX runs Debian's Postfix as the mail host of postfix.example, in a
// folder of its own, and gives the folder that mail is put into.
//
// more are lines for its two configuration files; %s in them is the folder.
func (s *site) postfixMX(t *testing.T, more ...[2]string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sealpost-postfix-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	owner, err := user.Lookup("postfix")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(owner.Uid)
	const nobody, addr = 65534, "127.23.250.1"
	for name, belongs := range map[string]int{"": 0, "config": 0, "queue": 0, "data": uid, "mail": nobody} {
		path := filepath.Join(dir, name)
		_ = os.MkdirAll(path, 0o755)
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, belongs, -1); err != nil {
			t.Fatalf("Postfix takes root to start: %v", err)
		}
	}
	if _, _, err := s.net.IssueFiles(dir, "mx", []string{"mx.postfix.example"}, fake.CertOptions{}); err != nil {
		t.Fatal(err)
	}
	s.net.SetMX("postfix.example", fake.MX{Preference: 10, Host: "mx.postfix.example"})
	s.net.SetA("mx.postfix.example", netip.MustParseAddr(addr))
	config := filepath.Join(dir, "config")
	files := map[string]string{"main.cf": fmt.Sprintf(postfixMain, dir), "master.cf": fmt.Sprintf(postfixMaster, addr, s.net.SMTPPort)}
	for _, m := range more {
		files[m[0]] += strings.ReplaceAll(m[1], "%s", dir) + "\n"
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(config, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("/usr/sbin/postfix", "-c", config, "start").CombinedOutput(); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		t.Fatalf("start Postfix: %v\n%s%s", err, out, log)
	}
	t.Cleanup(func() { _ = exec.Command("/usr/sbin/postfix", "-c", config, "stop").Run() })
	return filepath.Join(dir, "mail", "new")
}

// TestPostfixReceives sends to a real Postfix: it takes over TLS what we send,
// in pieces and whole, and writes into its mailbox the bytes that were handed
// in.
func TestPostfixReceives(t *testing.T) {
	s := newSite(t, "", "")
	mailbox := s.postfixMX(t)
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
