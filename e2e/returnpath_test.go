package e2e

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealpost/sealpost/e2e/internal/postfix"
	"github.com/sealpost/sealpost/internal/fake"
)

const returnedLater = "The recipient's mail server took it and returned it later."

// returningMX runs a Postfix that takes everything, and later returns what is
// for some mailboxes, quoting as mail hosts do.
func (s *site) returningMX(t *testing.T) {
	t.Helper()
	_, port, err := net.SplitHostPort(s.relay)
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "refuse")
	if err := os.WriteFile(script, []byte("echo 'no mailbox of "+canaries["reply"]+"'; exit 67\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(script); dir != "/tmp"; dir = filepath.Dir(dir) { // for the user nobody
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.postfixMX(t, postfix.Host{
		Main: "smtp_bind_address = 127.23.250.1\nsmtp_tls_security_level = may\n" +
			"transport_maps = inline:{ { gone@postfix.example = refuse: }, { " + canaries["local part"] + "@postfix.example = refuse: }, " +
			"{ bounce.clinic.test = smtp:[127.0.0.1]:" + port + " } }",
		Master: "smtp unix - - n - - smtp\nrefuse unix - n n - - pipe user=nobody argv=/bin/sh " + script,
	})
}

// TestWhatIsReturnedLater sends to a real Postfix that takes the mail and
// returns it: the bounce comes to the delivery's return path on port 25 and
// settles it, the sender is told, and the address is not sent to again.
func TestWhatIsReturnedLater(t *testing.T) {
	eachSite(t, "", func(t *testing.T, s *site) {
		s.fewerSources(t)
		s.net.SetMX("bounce.clinic.test", fake.MX{Preference: 10, Host: "mail.clinic.test"})
		s.net.SetA("mail.clinic.test", netip.MustParseAddr("127.0.0.1"))
		s.net.SetTXT("bounce.clinic.test", "v=spf1 a:mail.clinic.test -all")
		s.run("domain", "return-path", "clinic.test")
		s.returningMX(t)
		sv := s.start()

		r, err := s.post(map[string]any{"to": []string{"gone@postfix.example", "here@postfix.example"}, "subject": canaries["subject"], "text": "x"})
		if err != nil {
			t.Fatal(err)
		}
		if d := s.settles(r.Deliveries[0].ID, "failed"); d.Reason != returnedLater {
			t.Errorf("reason %q", d.Reason)
		}
		s.settles(r.Deliveries[1].ID, "delivered")
		if r, err = s.post(map[string]any{"to": []string{"gone@postfix.example"}, "subject": "again", "text": "x"}); err != nil {
			t.Fatal(err)
		}
		if d := s.state(r.Deliveries[0].ID); d.State != "suppressed" || !strings.HasSuffix(d.Reason, "there is no such mailbox.") {
			t.Errorf("the next one is %s, %s", d.State, d.Reason)
		}
		if out := string(s.run("suppress", "list", "gone@postfix.example")); !strings.Contains(out, "hard_bounce") {
			t.Errorf("suppress list: %s", out)
		}
		s.poolHeard(t, "postfix.example", 1)
		// The portal's notice of a delivery comes back just so.
		s.run("suppress", "allow", "gone@postfix.example")
		if r, err = s.post(map[string]any{"to": []string{"gone@postfix.example"}, "subject": "once more", "text": "x", "seal": "portal"}); err != nil {
			t.Fatal(err)
		}
		if d := s.settles(r.Deliveries[0].ID, "failed"); d.Reason != returnedLater {
			t.Errorf("a notice: %q", d.Reason)
		}

		// Who handed in by SMTP is told, once and without what was quoted.
		door := dialRelay(t, s.relay)
		door.mail(t, "dr.ada@clinic.test", canaries["local part"]+"@postfix.example")
		if reply := door.data(t, "From: dr.ada@clinic.test\r\nSubject: "+canaries["smtp subject"]+"\r\n\r\n"+canaries["smtp body"]+"\r\n"); !strings.HasPrefix(reply, "250 ") {
			t.Fatal(reply)
		}
		told, err := s.net.Wait(t.Context(), "dr.ada@clinic.test", 1)
		if err != nil {
			t.Fatal(err)
		}
		dsn := string(told[0].Raw)
		if told[0].From != "" || !strings.Contains(dsn, "Status: 5.1.1\r\n") || !strings.Contains(dsn, "Remote-MTA: dns; mx.postfix.example\r\n") ||
			strings.Contains(dsn, canaries["reply"]) || strings.Contains(dsn, canaries["smtp subject"]) {
			t.Errorf("the report from %q:\n%s", told[0].From, dsn)
		}
		s.forgedBounce(t, r.Deliveries[0].ID)
		_ = sv.end(syscall.SIGKILL)
		searchDir(t, s.dir)
	})
}

// fewerSources leaves one address that may relay, so that others are outside.
func (s *site) fewerSources(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(s.config())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.config(), []byte(strings.Replace(string(text), `networks = ["127.0.0.0/8"]`, `networks = ["127.0.0.1/32"]`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// forgedBounce comes from outside with addresses that nobody made.
func (s *site) forgedBounce(t *testing.T, delivery string) {
	t.Helper()
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}).Dial("tcp", s.relay)
	if err != nil {
		t.Fatal(err)
	}
	door := newDoor(t, conn)
	if reply := door.ask(t, "MAIL FROM:<>"); !strings.HasPrefix(reply, "250 ") {
		t.Fatal(reply)
	}
	for _, to := range []string{"b" + strings.Repeat("a", 40), strings.TrimPrefix(delivery, "dlv_"), "gone"} {
		if reply := door.ask(t, "RCPT TO:<%s@bounce.clinic.test>", to); reply != "550 5.1.1 There is no such mailbox here." {
			t.Errorf("%s: %s", to, reply)
		}
	}
	if reply := door.ask(t, "RCPT TO:<dr.ada@clinic.test>"); reply != "550 5.1.1 There is no such mailbox here." {
		t.Errorf("a relay for everybody: %s", reply)
	}
}

// poolHeard waits until the pool that mail left from counts what came back.
func (s *site) poolHeard(t *testing.T, site string, bounced int) {
	t.Helper()
	var got struct {
		Pools []struct {
			Pool  string `json:"pool"`
			Sites []struct {
				Site    string  `json:"site"`
				Bounced int     `json:"bounced"`
				Rate    float64 `json:"bounced_rate"`
			} `json:"sites"`
		} `json:"pools"`
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		s.runJSON(&got, "pool", "show")
		for _, p := range got.Pools {
			for _, to := range p.Sites {
				if p.Pool == "default" && to.Site == site && to.Bounced == bounced && to.Rate > 0 {
					return
				}
			}
		}
	}
	t.Errorf("the pool does not count what came back: %+v", got)
}
