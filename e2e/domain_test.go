package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/dkim/dkimtest"
	"github.com/sealpost/sealpost/internal/fake"
)

// TestMailProvesItsDomain: what leaves the program is verified by others, and
// what others look for is what it serves.
func TestMailProvesItsDomain(t *testing.T) {
	s := newSite(t, "", "")
	records := dkimtest.Records{}
	for _, args := range [][]string{{"clinic.test"}, {"clinic.test", "--ed25519"}, {"mail.clinic.test", "--org", "system"}} {
		var k struct {
			Name  string `json:"record_name"`
			Value string `json:"record_value"`
		}
		s.runJSON(&k, append([]string{"dkim", "create"}, args...)...)
		records[k.Name] = k.Value
		s.net.SetTXT(k.Name, k.Value)
	}
	s.servesPolicies(t)
	sv := s.start()
	for _, args := range [][]string{{"clinic.test"}, {"mail.clinic.test", "--org", "system"}} {
		s.run(append([]string{"dkim", "activate"}, args...)...)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := s.post(map[string]any{"to": []string{"anna@modern.example"}, "subject": "Größe", "text": "All is well. Größe 8 bit.\n"})
	if err != nil {
		t.Fatal(err)
	}
	s.settles(r.Deliveries[0].ID, "delivered")
	got, err := s.net.Wait(ctx, "anna@modern.example", 1)
	if err != nil {
		t.Fatal(err)
	}
	records.Good(t, string(got[0].Raw), 2)

	// A report to the sender comes from the host's own name.
	door := dialRelay(t, s.relay)
	door.mail(t, "dr.ada@clinic.test", "wilma@unknown-user.example")
	if reply := door.data(t, "From: dr.ada@clinic.test\r\nSubject: x\r\n\r\nHi\r\n"); !strings.HasPrefix(reply, "250 ") {
		t.Fatal(reply)
	}
	if got, err = s.net.Wait(ctx, "dr.ada@clinic.test", 1); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(got[0].Raw), " d=mail.clinic.test;") {
		t.Errorf("the report is not signed:\n%s", got[0].Raw)
	}
	records.Good(t, string(got[0].Raw), 1)

	if out := string(s.run("domain", "posture", "clinic.test", "--refresh")); !strings.Contains(out, "enforce") {
		t.Errorf("others do not read the policy:\n%s", out)
	}
	out, _ := s.command("domain", "check", "clinic.test").CombinedOutput() // SPF and more are missing
	for _, want := range []string{"mta-sts      ok       mta-sts.clinic.test", "mta-sts      ok       _mta-sts.clinic.test", "dkim         ok"} {
		if !strings.Contains(squeezed(out), squeezed([]byte(want))) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	_ = sv.end(syscall.SIGKILL)
}

func squeezed(b []byte) string { return strings.Join(strings.Fields(string(b)), " ") }

// servesPolicies has the HTTP listener serve an MTA-STS policy, and the
// loopback internet look for policies there.
func (s *site) servesPolicies(t *testing.T) {
	t.Helper()
	if _, _, err := s.net.IssueFiles(s.dir, "server", []string{"localhost", "127.0.0.1", "mta-sts.clinic.test"}, fake.CertOptions{}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(s.config())
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(s.http)
	changed := strings.Replace(string(text), fmt.Sprintf("https_port = %d", s.net.HTTPSPort), "https_port = "+port, 1)
	if err := os.WriteFile(s.config(), []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	var policy struct {
		Record struct{ Name, Value string } `json:"record"`
	}
	s.runJSON(&policy, "domain", "mta-sts", "clinic.test", "--mode", "enforce", "--mx", "mx.clinic.test")
	s.net.SetTXT(policy.Record.Name, policy.Record.Value)
	s.net.SetA("mta-sts.clinic.test", netip.MustParseAddr("127.0.0.1"))
}
