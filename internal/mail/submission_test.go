package mail

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sealpost/sealpost/internal/fault"
)

var given = Given{Domain: "mail.example.org", Now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}

func TestSubmission(t *testing.T) {
	const in = "Return-Path: <x@example.org>\r\nReceived: a\r\nReceived: b\r\n" +
		"From: =?utf-8?q?Dr_W=C3=BC?= <Dr.W@Example.org>,\r\n other@example.org\r\n" +
		"Bcc: hidden@example.org,\r\n\thidden2@example.org\r\nbcc : hidden3@example.org\r\nResent-Bcc: hidden4@example.org\r\n" +
		"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nX-Odd:  kept \r\n\r\n"
	const body = "Bcc: in the body stays\r\n\xff\x00\r\n"
	s, err := Submission(strings.NewReader(in+body), given)
	if err != nil {
		t.Fatal(err)
	}
	raw := string(s.Header.Bytes())
	if strings.Contains(raw, "hidden") || s.Header.Has("Return-Path") {
		t.Errorf("left in: %q", raw)
	}
	if !strings.HasPrefix(raw, "Received: a\r\nReceived: b\r\nFrom: =?utf-8?q?Dr_W=C3=BC?= <Dr.W@Example.org>,\r\n other@example.org\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nX-Odd:  kept \r\n") {
		t.Errorf("changed: %q", raw)
	}
	if s.Header.Get("Date") != "Sun, 01 Mar 2026 12:00:00 +0000" {
		t.Errorf("date %q", s.Header.Get("Date"))
	}
	if checkMessageID(s.MessageID) != nil || !strings.HasSuffix(s.MessageID, "@mail.example.org>") || s.Header.Get("Message-ID") != s.MessageID {
		t.Errorf("id %q", s.MessageID)
	}
	if len(s.From) != 2 || s.From[0].Name.Reveal() != "Dr Wü" || s.From[0].Address.Reveal() != "Dr.W@example.org" {
		t.Errorf("from %v", s.From)
	}
	if s.Subject.Reveal() != "Grüße" || s.Received != 2 {
		t.Errorf("subject %q, received %d", s.Subject.Reveal(), s.Received)
	}
	if got, _ := io.ReadAll(s.Body); string(got) != body {
		t.Errorf("body %q", got)
	}
}

func TestSubmissionKeepsWhatIsThere(t *testing.T) {
	const in = "Message-ID: <1@example.org>\r\nDate: yesterday\r\nFrom: a@example.org\r\n\r\n"
	s, err := Submission(strings.NewReader(in), given)
	if err != nil || string(s.Header.Bytes()) != in {
		t.Errorf("%q, %v", s.Header.Bytes(), err)
	}
	s, err = Submission(strings.NewReader("Message-ID:\r\nDate: \r\nFrom: a@example.org\r\n\r\n"), given)
	if err != nil || len(s.Header.Values("Message-ID")) != 1 || s.Header.Get("Message-ID") == "" || s.Header.Get("Date") == "" {
		t.Errorf("empty fields: %q, %v", s.Header.Bytes(), err)
	}
}

func TestSubmissionAuthors(t *testing.T) {
	if _, err := Submission(strings.NewReader("From: a@example.org\r\nFROM : b@example.org\r\n\r\n"), given); !fault.Is(err, fault.Invalid) {
		t.Errorf("two From fields: %v", err)
	}
	if _, err := Submission(strings.NewReader("From: a@example.org\r\nSubject: x\r\nSUBJECT: [secure] x\r\n\r\n"), given); !fault.Is(err, fault.Invalid) {
		t.Errorf("two Subject fields: %v", err)
	}
	for _, in := range []string{
		"Subject: x\r\n\r\n", "From:\r\n\r\n", "From: nobody\r\n\r\n", "From: a@example.org, b@[192.0.2.1]\r\n\r\n",
		"From: a@example.org b@example.org\r\n\r\n", "From: a@example.org, <\r\n\r\n",
	} {
		s, err := Submission(strings.NewReader(in), given)
		if err != nil || len(s.From) != 0 {
			t.Errorf("%q: %d authors, %v", in, len(s.From), err)
		}
	}
}

func TestRemoveTrigger(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"Subject: [secure] Lab results\r\n", "Subject: Lab results\r\n"},
		{"Subject: Lab [secure] results\r\n", "Subject: Lab results\r\n"},
		{"Subject: Lab results [SECURE]\r\n", "Subject: Lab results\r\n"},
		{"Subject: Re: [Secure]x\r\n", "Subject: Re: x\r\n"},
		{"Subject:[secure]\r\n", "Subject: \r\n"},
		{"Subject: [sec[secure]ure]\r\n", "Subject: \r\n"},
		{"Subject: a\r\n [secure]\r\n b\r\n", "Subject: a b\r\n"},
		{"Subject: \xfc [secure] \xe9\r\n", "Subject: \xfc \xe9\r\n"},
		{"Subject: =?utf-8?q?[secure]_Gr=C3=BC=C3=9Fe?=\r\n", "Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\n"},
		{"Subject: =?utf-8?b?W3NlY3VyZV0geA==?=\r\n", "Subject: x\r\n"},
		{"Subject: =?utf-8?q?[sec?= =?utf-8?q?ure]_x?=\r\n", "Subject: x\r\n"},
		{"Subject: =?x-unknown?q?x?= [secure] y\r\n", "Subject: =?x-unknown?q?x?= y\r\n"},
		{"Subject: =?utf-8?q?=C3=BC?= [secure] =?x-unknown?q?x?=\r\n", "Subject: =?utf-8?b?w7wg?= =?x-unknown?q?x?=\r\n"},
		{"Subject: =?utf-8?q?[secure]_a=0D=0ABcc:_x@example.org?=\r\n", "Subject: a  Bcc: x@example.org\r\n"},
		{"Subject: =?utf[secure]-8?q?=5Bsecure=5D_x?=\r\n", "Subject: x\r\n"},
		{"Subject: [secure] a\r\nSubject: [secure] b\r\n", "Subject: a\r\nSubject: b\r\n"},
		{"SUBJECT: [secure] a\r\nX: [secure]\r\n", "SUBJECT: a\r\nX: [secure]\r\n"},
	} {
		h := parse(t, c.in+"\r\n")
		found, err := RemoveTrigger(&h, "[secure]")
		if got := string(h.Bytes()); err != nil || !found || got != c.want+"\r\n" {
			t.Errorf("%q gives %q, %v, %v", c.in, got, found, err)
		}
	}
	for _, in := range []string{
		"Subject:   [sec ure]\r\n  x \r\n\r\n", "X: [secure]\r\n\r\n", "Subject: =?utf-8?q?=C3=BC?=\r\n =?utf-8?q?x?=\r\n\r\n", "Subject:\r\n\r\n",
	} {
		h := parse(t, in)
		if found, err := RemoveTrigger(&h, "[secure]"); found || err != nil || string(h.Bytes()) != in {
			t.Errorf("%q gives %q, %v, %v", in, h.Bytes(), found, err)
		}
		if found, _ := RemoveTrigger(&h, " "); found {
			t.Error("an empty literal is found")
		}
	}
}

func checkTrigger(t reporter, subject, literal string) {
	h, _, err := splitHeader([]byte("A: b\r\nSubject: " + subject + "\r\nZ: z\r\n\r\n"))
	if err != nil || h.Len() != 3 || h.Get("Z") != "z" {
		return
	}
	text := DecodeText(h.Get("Subject"))
	before := string(h.Bytes())
	found, err := RemoveTrigger(&h, literal)
	if err != nil {
		t.Fatalf("%q: %v", subject, err)
	}
	if !found && string(h.Bytes()) != before {
		t.Errorf("%q changed", subject)
	}
	if found && !strings.Contains(literal, " ") && HasTrigger(DecodeText(h.Get("Subject")), literal) {
		t.Errorf("%q still in %q", literal, h.Get("Subject"))
	}
	// Spaces in the text may stand for control characters.
	if !found && !strings.Contains(literal, " ") && HasTrigger(text, literal) {
		t.Errorf("%q not found in %q", literal, text)
	}
	again, _, err := splitHeader(h.Bytes())
	if err != nil || again.Len() != 3 || again.Get("A") != "b" || again.Get("Z") != "z" {
		t.Fatalf("%q became %q, %v", subject, h.Bytes(), err)
	}
}

func TestRemoveTriggerProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Text around the literal, encoded in every way a client may choose.
		a := strings.Join(strings.Fields(showable(rapid.StringOf(rapid.RuneFrom([]rune("ab \u00fc\u4e2d.,"))).Draw(t, "a"))), " ")
		b := strings.Join(strings.Fields(showable(rapid.StringOf(rapid.RuneFrom([]rune("xy \u00df\U0001f512!"))).Draw(t, "b"))), " ")
		whole := strings.TrimSpace(a + " [secure] " + b)
		var h Header
		if err := h.Set("Subject", whole); err != nil {
			t.Fatal(err)
		}
		if rapid.Bool().Draw(t, "force") {
			h.fields[0].raw = foldField("Subject", encodeWord(whole))
		}
		found, err := RemoveTrigger(&h, "[secure]")
		want := strings.TrimSpace(strings.TrimSpace(a) + " " + strings.TrimSpace(b))
		if got := DecodeText(h.Get("Subject")); err != nil || !found || got != want {
			t.Errorf("%q gives %q, want %q (%v)", whole, got, want, err)
		}
		checkTrigger(t, rapid.String().Draw(t, "subject"), rapid.StringN(1, 10, -1).Draw(t, "literal"))
	})
}

func FuzzRemoveTrigger(f *testing.F) {
	for _, s := range []string{"[secure] x", "=?utf-8?q?[secure]_=C3=BC?=", "=?utf-8?q?[sec?= =?utf-8?q?ure]?=", "[sec[secure]ure]", "=?x-unknown?q?x?= [secure] \u00fc"} {
		f.Add(s, "[secure]")
	}
	f.Fuzz(func(t *testing.T, subject, literal string) { checkTrigger(t, subject, literal) })
}

func TestReceived(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		in   Trace
		want string
	}{
		{Trace{EHLO: "Laptop.example.org", By: "mail.example.org", Protocol: "ESMTPSA", ID: "msg_1", At: at}, "from laptop.example.org by mail.example.org with ESMTPSA id msg_1; Sun, 01 Mar 2026 12:00:00 +0000"},
		{Trace{EHLO: "[192.0.2.1]", By: "mail.example.org", Protocol: "ESMTPSA", ID: "", At: at}, "by mail.example.org with ESMTPSA; Sun, 01 Mar 2026 12:00:00 +0000"},
		{Trace{EHLO: "WARD7-PC", By: "mail.example.org", Protocol: "ESMTPSA", ID: "", At: at}, "by mail.example.org with ESMTPSA; Sun, 01 Mar 2026 12:00:00 +0000"},
		{Trace{EHLO: "192.0.2.1", By: "mail.example.org", Protocol: "", ID: "", At: at}, "by mail.example.org; Sun, 01 Mar 2026 12:00:00 +0000"},
		{Trace{EHLO: "x\r\nBcc: y", By: "mail.\r\nexample.org", Protocol: "A B", ID: "1;2", At: at}, "by mail.example.org with AB id 12; Sun, 01 Mar 2026 12:00:00 +0000"},
	} {
		got := Received(c.in)
		if got != c.want {
			t.Errorf("%q", got)
		}
		var h Header
		if err := h.Prepend("Received", got); err != nil {
			t.Error(err)
		}
	}
}

func TestNewMessageID(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := NewMessageID("example.org")
		if seen[id] || checkMessageID(id) != nil || len(id) != 32+len("<@example.org>") {
			t.Fatalf("%q", id)
		}
		seen[id] = true
	}
	for _, bad := range []string{"", "a@b", "<a>", "<@b>", "<a@>", "<a b@c>", "<a@b>\r\nX: y", "<a@b><c@d>", "<ü@b>", "<" + strings.Repeat("a", 300) + "@b>"} {
		if checkMessageID(bad) == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func ExampleFormatDate() {
	fmt.Println(FormatDate(time.Date(2026, 3, 1, 13, 0, 0, 0, time.FixedZone("", 3600))))
	// Output: Sun, 01 Mar 2026 12:00:00 +0000
}
