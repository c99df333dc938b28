package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/scan/scantest"
)

// TestScannersStandAtTheDoor: a real Rspamd and a real ClamAV look at what
// strangers bring to members. What they refuse is refused while the stranger is
// connected, what one marks arrives marked, and what clamd does not read to its
// end is put off.
func TestScannersStandAtTheDoor(t *testing.T) {
	s := newSite(t, "", "")
	s.fewerSources(t)
	_, clamav := scantest.ClamAV(t)
	appendTo(t, s.config(), fmt.Sprintf("[inbound]\nrspamd = %q\nclamav = %q\n", scantest.Rspamd(t), clamav))
	if err := s.net.AddDomain(fake.Domain{Name: "suite.example", Host: &fake.Behavior{}}); err != nil {
		t.Fatal(err)
	}
	s.addDomain("suite.example")
	s.run("domain", "route", "suite.example", "mx.suite.example")
	s.net.SetTXT("stranger.example", "v=spf1 ip4:127.0.0.2 -all")
	s.start()
	for body, want := range map[string]string{
		"a harmless line": "250 2.0.0", scantest.Suspicious: "250 2.0.0", scantest.Unwanted: "550 5.7.1", scantest.Harm: "554 5.7.1",
		strings.Repeat(strings.Repeat("x", 70)+"\n", scantest.StreamMax/60): "451 4.7.1",
	} {
		said, _ := swaks(t, s.relay, "127.0.0.2", "bob@stranger.example", "ada@suite.example", "From: bob@stranger.example\nSubject: x\n\n"+body+"\n")
		if !strings.Contains(said, want) {
			t.Errorf("%.30s: no %q in\n%s", body, want, said)
		}
	}
	for deadline := time.Now().Add(20 * time.Second); len(s.net.Messages("")) < 2; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d mails arrived", len(s.net.Messages("")))
		}
	}
	for _, m := range s.net.Messages("") {
		marked, suspicious := strings.Contains(string(m.Raw), "X-Sealpost-Spam: yes;"), strings.Contains(string(m.Raw), scantest.Suspicious)
		if marked != suspicious || strings.Contains(string(m.Raw), scantest.Harm) || strings.Contains(string(m.Raw), scantest.Unwanted) {
			t.Errorf("arrived, marked %v:\n%s", marked, m.Raw)
		}
	}
}
