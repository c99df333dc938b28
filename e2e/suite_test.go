package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
	if err := os.WriteFile(s.config(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	mailbox := s.postfixMX(t, [2]string{"main.cf", "virtual_mailbox_maps = inline:{ada@postfix.example=mail/}"})
	s.addDomain("postfix.example")
	s.run("domain", "route", "postfix.example", "mx.postfix.example")
	for _, record := range [][2]string{{"stranger.example", "v=spf1 ip4:127.0.0.2 -all"}, {"_dmarc.stranger.example", "v=DMARC1; p=reject"},
		{"bank.example", "v=spf1 -all"}, {"_dmarc.bank.example", "v=DMARC1; p=reject"}} {
		s.net.SetTXT(record[0], record[1])
	}
	s.start()

	forged := "Authentication-Results: mail.clinic.test; dmarc=pass header.from=bank.example\n"
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
	if strings.Contains(got[0], "bank.example") {
		t.Errorf("the forged field arrived:\n%s", got[0])
	}
}
