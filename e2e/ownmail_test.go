package e2e

import (
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/fake"
)

const patientDelivery = `[delivery]
retry_min = "500ms"
retry_max = "1s"
no_tls_after = "1m"
connect_timeout = "3s"
command_timeout = "3s"
final_timeout = "3s"
`

// TestOwnMailIsNotStripped: what the product sends of its own accord, or
// carries inward, is as private as what people send. Reports to senders, the
// archive's copies and mail for members meet hosts from which TLS was taken:
// nothing but EHLO and STARTTLS crosses the wire, and when TLS is back, all of
// it arrives inside.
func TestOwnMailIsNotStripped(t *testing.T) {
	s := newSite(t, "", patientDelivery)
	s.fewerSources(t)
	s.addDomain("ward.test")
	hosts := map[string]string{"mx.clinic.test": "dr.ada@clinic.test", "mx.archive.example": "all@archive.example", "mx.suite.example": "nurse@ward.test"}
	for _, name := range []string{"archive.example", "suite.example"} {
		if err := s.net.AddDomain(fake.Domain{Name: name, Host: &fake.Behavior{}}); err != nil {
			t.Fatal(err)
		}
	}
	s.net.SetMX("ward.test", fake.MX{Preference: 10, Host: "mx.suite.example"})
	startTLS := func(how fake.StartTLS) {
		for host := range hosts {
			if err := s.net.Change(host, func(b *fake.Behavior) { b.StartTLS = how }); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.run("retention", "journal", "all@archive.example")
	s.run("domain", "route", "ward.test", "mx.suite.example")
	wire := tcpdump(t, filepath.Join(s.dir, "smtp.pcap"), "tcp", "port", strconv.Itoa(s.net.SMTPPort))
	s.start()
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}).Dial("tcp", s.relay)
	if err != nil {
		t.Fatal(err)
	}
	outside := newDoor(t, conn)
	if reply := outside.ask(t, "MAIL FROM:<anna@modern.example>"); !strings.HasPrefix(reply, "250 ") {
		t.Fatal(reply)
	}
	// The host is asked for the recipient: inside TLS, or not at all.
	if reply := outside.ask(t, "RCPT TO:<nurse@ward.test>"); !strings.HasPrefix(reply, "250 ") {
		t.Fatal(reply)
	}
	startTLS(fake.StartTLSAbsent)
	if reply := outside.ask(t, "RCPT TO:<other@ward.test>"); !strings.HasPrefix(reply, "451 ") {
		t.Fatal(reply)
	}
	if reply := outside.data(t, "From: anna@modern.example\r\nSubject: private\r\n\r\nprivate\r\n"); !strings.HasPrefix(reply, "250 ") {
		t.Fatal(reply)
	}
	// Whose sender is told.
	door := dialRelay(t, s.relay)
	door.mail(t, "dr.ada@clinic.test", "wilma@unknown-user.example")
	if reply := door.data(t, "From: dr.ada@clinic.test\r\nSubject: private\r\n\r\nprivate\r\n"); !strings.HasPrefix(reply, "250 ") {
		t.Fatal(reply)
	}

	// Each host is tried, by STARTTLS refused too, and tried again.
	for _, how := range []fake.StartTLS{fake.StartTLSAbsent, fake.StartTLSRefused, fake.StartTLSGarbage} {
		startTLS(how)
		before := map[string]fake.Stats{}
		for host := range hosts {
			before[host] = s.net.Stats(host)
		}
		for host := range hosts {
			for end := time.Now().Add(20 * time.Second); s.net.Stats(host).Connections == before[host].Connections; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("nobody came to %s", host)
				}
			}
		}
	}
	if got := s.net.Messages(""); len(got) > 0 {
		t.Errorf("%d messages arrived, the first at %s", len(got), got[0].Host)
	}
	startTLS(fake.StartTLSOffered)
	for host, to := range hosts {
		got, err := s.net.Wait(t.Context(), to, 1)
		if err != nil {
			t.Fatalf("%s: %v", host, err)
		}
		if got[0].TLS == "" || got[0].Host != host {
			t.Errorf("%s got it at %s with %q", to, got[0].Host, got[0].TLS)
		}
	}
	seen := map[string]int{}
	for _, c := range streams(t, wire()) {
		if int(c.to.Port()) == s.net.SMTPPort && len(c.data) > 0 {
			seen[c.to.String()]++
			if _, err := onlyTLS(c.data); err != nil {
				t.Errorf("to %s: %v", c.to, err)
			}
		}
	}
	for host := range hosts {
		if n := seen[s.net.HostAddr(host)]; n < 3 {
			t.Errorf("%d connections to %s were captured", n, host)
		}
	}
}
