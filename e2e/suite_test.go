package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealpost/sealpost/e2e/internal/postfix"
	"github.com/sealpost/sealpost/internal/fake"
)

// swaks hands a message in as a mail host at an address would, and gives what
// was said and whether it was taken.
func swaks(t *testing.T, server, local, from, to, message string) (dialog string, taken bool) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(file, []byte(message), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("swaks", "--server", server, "--local-interface", local, "--ehlo", "mx.stranger.example",
		"--from", from, "--to", to, "--data", "@"+file, "--suppress-data", "--timeout", "30").CombinedOutput()
	if bad := (*exec.ExitError)(nil); err != nil && !errors.As(err, &bad) {
		t.Fatal(err)
	}
	return string(out), err == nil
}

// TestMembersMailboxesAreElsewhere: the organization's mailboxes are at a real
// Postfix, and its MX record leads here. What strangers send arrives there with
// what is known of it, forgeries and unknown recipients are refused while the
// stranger is connected, and an answer to mail that left comes back in.
func TestMembersMailboxesAreElsewhere(t *testing.T) {
	s := newSite(t, "", "")
	conf, err := os.ReadFile(s.config())
	if err != nil {
		t.Fatal(err)
	}
	// 127.0.0.2 is the world.
	text := strings.Replace(string(conf), `"127.0.0.0/8"`, `"127.0.0.1/32"`, 1)
	text = strings.Replace(text, "[[relay.source]]", "[[relay.source]]\nnetworks = [\"192.0.2.9/32\"]\ntenant_header = \"X-Suite-Proof\"\ntenant_value = \"a-secret-of-the-suite\"\norg = \"clinic\"\n\n[[relay.source]]", 1)
	if err := os.WriteFile(s.config(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	mailbox := s.postfixMX(t, postfix.Host{Main: "virtual_mailbox_maps = inline:{ada@postfix.example=mail/}"})
	s.addDomain("postfix.example")
	s.run("domain", "route", "postfix.example", "mx.postfix.example")
	for _, record := range [][2]string{{"stranger.example", "v=spf1 ip4:127.0.0.2 -all"}, {"_dmarc.stranger.example", "v=DMARC1; p=reject"},
		{"bank.example", "v=spf1 -all"}, {"_dmarc.bank.example", "v=DMARC1; p=reject"}} {
		s.net.SetTXT(record[0], record[1])
	}
	s.start()

	forged := "X-Suite-Proof: a-secret-of-the-suite\nAuthentication-Results: mail.clinic.test; dmarc=pass header.from=bank.example\n"
	said, taken := swaks(t, s.relay, "127.0.0.2", "bob@stranger.example", "ada@postfix.example", forged+"X-Number: 0\nFrom: bob@stranger.example\nSubject: first\n\nbody\n")
	if !taken {
		t.Fatal(said)
	}
	for what, c := range map[string]struct{ from, to, header, want string }{
		"a forgery":            {"bob@stranger.example", "ada@postfix.example", "From: help@bank.example\n", "550 5.7.1"},
		"an unknown recipient": {"bob@stranger.example", "nobody@postfix.example", "From: bob@stranger.example\n", "550 5.1.1"},
		"somebody else":        {"bob@stranger.example", "anna@modern.example", "From: bob@stranger.example\n", "550 5.1.1"},
		"a loop": {"bob@stranger.example", "ada@postfix.example", strings.Repeat("Received: from a.example by mail.clinic.test with ESMTP; x\n", 3) +
			"From: bob@stranger.example\n", "554 5.4.6"},
	} {
		if said, taken := swaks(t, s.relay, "127.0.0.2", c.from, c.to, c.header+"X-Number: 9\n\nx\n"); taken || !strings.Contains(said, c.want) {
			t.Errorf("%s is not answered with %s:\n%s", what, c.want, said)
		}
	}

	// The suite hands in mail of a member, and the patient answers.
	if said, taken := swaks(t, s.relay, "127.0.0.1", "ada@postfix.example", "anna@modern.example", "From: ada@postfix.example\nMessage-ID: <q1@postfix.example>\nSubject: question\n\nx\n"); !taken {
		t.Fatal(said)
	}
	for deadline := time.Now().Add(20 * time.Second); len(s.net.Messages("anna@modern.example")) == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the question did not arrive")
		}
	}
	if said, taken := swaks(t, s.relay, "127.0.0.2", "anna@stranger.example", "ada@postfix.example", "X-Number: 1\nFrom: \"ada@postfix.example\" <anna@stranger.example>\nIn-Reply-To: <q1@postfix.example>\nSubject: Re: question\n\nyes\n"); !taken {
		t.Fatal(said)
	}
	got := mailFiles(t, mailbox, 2)
	for i, wants := range map[int][]string{
		0: {"Authentication-Results: mail.clinic.test; spf=pass smtp.mailfrom=stranger.example;", "dmarc=pass header.from=stranger.example", "([127.0.0.2])", "using TLSv1.3"},
		1: {"In-Reply-To: <q1@postfix.example>", "X-Sealpost-Warning: look-alike: the name in From shows an address of postfix.example"},
	} {
		mail := strings.ReplaceAll(got[i], "\n ", " ")
		for _, want := range wants {
			if !strings.Contains(mail, want) {
				t.Errorf("mail %d lacks %q:\n%s", i, want, got[i])
			}
		}
	}
	if strings.Contains(got[0], "bank.example") || strings.Contains(got[0], "a-secret-of-the-suite") {
		t.Errorf("the forged field or the suite's secret arrived:\n%s", got[0])
	}
}

// TestMembersMailIsNeverInClear: somebody on the way to the organization's
// mailboxes strips TLS before and after the first mail. No address and no
// octet of the mail crosses in clear, neither to ask whether the recipient is
// there nor to hand the mail on, and the stranger is told to come again.
func TestMembersMailIsNeverInClear(t *testing.T) {
	s := newSite(t, "", "")
	s.fewerSources(t)
	if err := s.net.AddDomain(fake.Domain{Name: "suite.example", Host: &fake.Behavior{MaxPerConn: 1}}); err != nil {
		t.Fatal(err)
	}
	s.addDomain("suite.example")
	s.run("domain", "route", "suite.example", "mx.suite.example")
	s.net.SetTXT("stranger.example", "v=spf1 ip4:127.0.0.2 -all")
	strip := func(how fake.StartTLS) {
		if err := s.net.Change("mx.suite.example", func(b *fake.Behavior) { b.StartTLS = how }); err != nil {
			t.Fatal(err)
		}
	}
	wire := tcpdump(t, filepath.Join(s.dir, "route.pcap"), "tcp", "port", strconv.Itoa(s.net.SMTPPort))
	node := s.start()
	bring := func(to, want string) {
		t.Helper()
		said, _ := swaks(t, s.relay, "127.0.0.2", "bob@stranger.example", to, "From: bob@stranger.example\nSubject: x\n\nprivate\n")
		if !strings.Contains(said, want) {
			t.Errorf("%s: no %q in\n%s", to, want, said)
		}
	}
	strip(fake.StartTLSAbsent)
	bring("ada@suite.example", "451 4.3.0")
	if err := node.end(syscall.SIGTERM); err != nil { // it would leave the host alone for half a minute
		t.Fatal(err)
	}
	s.start()
	strip(fake.StartTLSOffered)
	bring("ada@suite.example", "250 2.0.0")
	for deadline := time.Now().Add(20 * time.Second); len(s.net.Messages("ada@suite.example")) == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the mail did not arrive")
		}
	}
	strip(fake.StartTLSRefused)
	bring("ada@suite.example", "250 2.0.0") // known, and kept until TLS is back
	bring("bo@suite.example", "451 4.3.0")
	s.triedInVain(t)
	asked := 0
	for _, c := range streams(t, wire()) {
		if int(c.to.Port()) != s.net.SMTPPort {
			continue
		}
		asked++
		if _, err := onlyTLS(c.data); err != nil {
			t.Errorf("to %s: %v", c.to, err)
		}
	}
	if asked < 6 { // two for the first mail, two for each of the others
		t.Errorf("only %d connections were captured", asked)
	}
	if n := len(s.net.Messages("")); n != 1 {
		t.Errorf("%d mails arrived", n)
	}
}

// triedInVain waits until what is left in the queue was tried twice.
func (s *site) triedInVain(t *testing.T) {
	t.Helper()
	var left struct {
		Deliveries []struct {
			Domain   string `json:"recipient_domain"`
			Attempts int    `json:"attempts"`
		} `json:"deliveries"`
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		s.runJSON(&left, "queue", "list")
		if len(left.Deliveries) == 1 && left.Deliveries[0].Domain == "suite.example" && left.Deliveries[0].Attempts >= 2 {
			return
		}
	}
	t.Errorf("what waits for TLS is not tried: %+v", left)
}
