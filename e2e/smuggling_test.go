package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/e2e/internal/postfix"
	"github.com/sealpost/sealpost/internal/fake"
)

const eximConf = `primary_hostname = mx.exim.example
spool_directory = %[1]s/spool
log_file_path = %[1]s/log/%%slog
pid_file_path = %[1]s/spool/pid
local_interfaces = <; [%[2]s]:%[3]d
host_lookup =
rfc1413_hosts =
keep_environment =
never_users =
deliver_drop_privilege = true
smtp_accept_queue_per_connection = 0
tls_advertise_hosts = *
tls_certificate = %[1]s/mx.crt
tls_privatekey = %[1]s/mx.key
acl_smtp_rcpt = rcpt
acl_smtp_data = accept
begin acl
rcpt:
  accept domains = exim.example
         encrypted = *
begin routers
all:
  driver = accept
  transport = maildir
begin transports
maildir:
  driver = appendfile
  directory = %[1]s/mail
  maildir_format
`

// eximMX runs Debian's Exim as the mail host of exim.example, from where
// scripts/test-exim.sh unpacked it, and gives the folder that mail is put into.
func (s *site) eximMX(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	owner, err := user.Lookup("Debian-exim")
	if err != nil {
		t.Fatalf("run scripts/test-deps.sh: %v", err)
	}
	uid, _ := strconv.Atoi(owner.Uid)
	gid, _ := strconv.Atoi(owner.Gid)
	dir, err := os.MkdirTemp("", "sealpost-exim-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if _, _, err := s.net.IssueFiles(dir, "mx", []string{"mx.exim.example"}, fake.CertOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "spool", "log", "mail", "mx.key"} {
		path := filepath.Join(dir, name)
		if name != "mx.key" {
			_ = os.MkdirAll(path, 0o755)
		}
		if err := os.Chown(path, uid, gid); err != nil {
			t.Fatalf("Exim takes root to start: %v", err)
		}
	}
	const addr = "127.23.250.2"
	s.net.SetMX("exim.example", fake.MX{Preference: 10, Host: "mx.exim.example"})
	s.net.SetA("mx.exim.example", netip.MustParseAddr(addr))
	config := filepath.Join(dir, "config")
	if err := os.WriteFile(config, fmt.Appendf(nil, eximConf, dir, addr, s.net.SMTPPort), 0o644); err != nil {
		t.Fatal(err)
	}
	exim := exec.Command(filepath.Join(cache, "sealpost-tests/exim/usr/sbin/exim4"), "-C", config, "-bdf")
	if err := exim.Start(); err != nil {
		t.Fatalf("run scripts/test-deps.sh: %v", err)
	}
	t.Cleanup(func() { _ = exim.Process.Kill(); _ = exim.Wait() })
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log", "mainlog"))
			t.Logf("Exim's log:\n%s", log)
		}
	})
	return filepath.Join(dir, "mail", "new")
}

// endings are octets that one or the other mail host may take for the end of
// a message, and whether a message may hold them.
var endings = map[string]bool{
	"\r\n.\r\n": true, "\r\n..\r\n": true, "\r\n...\r\n": true, "\r\n. \r\n": true, "\r\n.\t\r\n": true, "\r\n .\r\n": true, "\r\n.\v\r\n": true,
	"\r\n.\u0085": true, "\u2028.\u2028": true, "\r\n=2E\r\n": true, "\r\n.": true, "\r\n.QUIT\r\n": true,
	"\n.\n": false, "\r\n.\n": false, "\n.\r\n": false, "\r.\r": false, "\r.\r\n": false, "\r\n.\r": false, "\r\r\n.\r\r\n": false,
	"\r\n\x00.\r\n": false, "\r\n.\x00\r\n": false, "\n\r.\n\r": false, "\n..\n": false,
}

const hidden = "MAIL FROM:<eve@evil.example>\r\nRCPT TO:<mira@%s>\r\nDATA\r\nFrom: eve@evil.example\r\n\r\ntwo\r\n"

// TestOneMessageOutIsOneMessage hands in messages that hide another behind
// everything that some mail host takes for an end, through every door, for a
// real Postfix and a real Exim. Each arrives as one message, as it was, or is
// refused at our door.
func TestOneMessageOutIsOneMessage(t *testing.T) {
	s := newSite(t, "", "")
	boxes := map[string]string{"postfix.example": s.postfixMX(t, postfix.Host{}), "exim.example": s.eximMX(t)}
	s.start()
	relay, submission := dialRelay(t, s.relay), dialSubmission(t, s)
	for domain, box := range boxes {
		sent := map[int]string{} // bodies, by their number
		for end, allowed := range endings {
			body := "one" + end + fmt.Sprintf(hidden, domain)
			for _, door := range []*smtpDoor{relay, submission} {
				message := fmt.Sprintf("From: dr.ada@clinic.test\r\nX-Number: %d\r\n\r\n%s", len(sent), body)
				door.mail(t, "dr.ada@clinic.test", "mira@"+domain)
				reply := door.bdat(t, message)
				if strings.HasPrefix(reply, "250 ") != allowed || !allowed && !strings.HasPrefix(reply, "554 5.6.0 ") {
					t.Errorf("%q: %s", end, reply)
				}
				if allowed {
					sent[len(sent)] = strings.ReplaceAll(body, "\r\n", "\n")
				}
			}
			n := len(sent)
			_, err := s.post(map[string]any{"to": []string{"mira@" + domain}, "text": body, "headers": map[string]string{"X-Number": strconv.Itoa(n)}})
			if err != nil && !strings.Contains(err.Error(), "400 Bad Request") {
				t.Errorf("%q: %v", end, err)
			}
			if err == nil {
				sent[n] = "" // the text is encoded
			}
		}
		got := mailFiles(t, box, len(sent))
		for i, body := range sent {
			header, rest, _ := strings.Cut(got[i], "\n\n")
			if strings.Contains(header, "evil") || body != "" && rest != body {
				t.Errorf("message %d at %s, want %q:\n%q", i, domain, body, got[i])
			}
		}
		// What was not to come would be there before another one.
		if _, err := s.post(map[string]any{"to": []string{"mira@" + domain}, "text": "x", "headers": map[string]string{"X-Number": strconv.Itoa(len(sent))}}); err != nil {
			t.Fatal(err)
		}
		mailFiles(t, box, len(sent)+1)
	}
	if got := s.net.Messages(""); len(got) > 0 {
		t.Errorf("%d messages went elsewhere", len(got))
	}
}

// bdat sends a message as chunks that end where lines do not: nothing in them
// ends it but their sizes (RFC 3030).
func (d *smtpDoor) bdat(t *testing.T, message string) string {
	t.Helper()
	half := len(message) / 2
	var reply string
	for i, chunk := range []string{message[:half], message[half:]} {
		if _, err := fmt.Fprintf(d.c.W, "BDAT %d%s\r\n%s", len(chunk), []string{"", " LAST"}[i], chunk); err != nil {
			t.Fatal(err)
		}
		if err := d.c.W.Flush(); err != nil {
			t.Fatal(err)
		}
		if reply = d.reply(t); !strings.HasPrefix(reply, "250 ") && i == 0 {
			// Refused already; the rest is not in any transaction.
			if _, err := fmt.Fprintf(d.c.W, "BDAT %d LAST\r\n%s", len(message)-half, message[half:]); err != nil {
				t.Fatal(err)
			}
			if err := d.c.W.Flush(); err != nil {
				t.Fatal(err)
			}
			if next := d.reply(t); !strings.HasPrefix(next, "503 ") {
				t.Errorf("a chunk behind a refusal: %s", next)
			}
			break
		}
	}
	return reply
}
