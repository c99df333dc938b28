package seal

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

var noticeDate = time.Date(2026, 10, 5, 9, 30, 0, 0, time.UTC)

const noticeLink = "https://portal.example/m/ABCdef0123456789_-ABCdef0123456789_-ABCdef0123456789_-ABCdef0123"

func portalText(t *testing.T, org, to string) PortalText {
	t.Helper()
	a, err := mail.ParseAddress(to)
	if err != nil {
		t.Fatal(err)
	}
	return PortalText{To: a, OrgName: org, FromDomain: "clinic.example", Link: private.NewString(noticeLink),
		ExpiresAt: noticeDate.Add(30 * 24 * time.Hour), Date: noticeDate}
}

func opened(t *testing.T, a *Artifact) (raw string, v *mail.View) {
	t.Helper()
	r, err := a.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(b)) != a.Size() {
		t.Errorf("%d octets, said to be %d", len(b), a.Size())
	}
	if v, err = mail.Parse(strings.NewReader(string(b)), mail.Limits{}); err != nil || v.Broken {
		t.Fatalf("the notice does not parse: %v", err)
	}
	return string(b), v
}

func TestPortalNotice(t *testing.T) {
	a, err := PortalNotice(portalText(t, "Riverside Clinic", "pat@home.example"), policy.None)
	if err != nil {
		t.Fatal(err)
	}
	if !a.From().IsZero() || a.To().Reveal() != "pat@home.example" || a.Floor() != policy.Encrypted || a.EightBit() || a.UTF8() {
		t.Error("the envelope is not that of a notice")
	}
	raw, v := opened(t, a)
	if v.Subject.Reveal() != "Riverside Clinic sent you a secure message" || v.From.Reveal() != "Riverside Clinic" {
		t.Errorf("subject or sender: %s", raw[:400])
	}
	for _, part := range []string{v.Text.Reveal(), v.HTML.Reveal()} {
		for _, want := range []string{noticeLink, "November 4, 2026", "not need a password", "do not reply"} {
			if !strings.Contains(part, want) {
				t.Errorf("a part lacks %q", want)
			}
		}
	}
	for _, want := range []string{"\r\nAuto-Submitted: auto-generated\r\n", "<secure-message@clinic.example>", "multipart/alternative"} {
		if !strings.Contains(raw, want) {
			t.Errorf("the notice lacks %q", want)
		}
	}
	if strings.Contains(raw, "<img") || strings.Contains(raw, "url(") {
		t.Error("the notice fetches something when it is shown")
	}
}

func TestPortalNoticeFloorOnlyRises(t *testing.T) {
	a, err := PortalNotice(portalText(t, "Clinic", "pat@home.example"), policy.Authenticated)
	if err != nil || a.Floor() != policy.Authenticated {
		t.Errorf("floor %v, %v", a.Floor(), err)
	}
}

func TestNoticeTakesEveryName(t *testing.T) {
	for _, org := range []string{`A "quoted" <b>&amp; clinic</b>`, "Praxis Dr. Größe", "病院", "x\r\nBcc: evil@example.org", "=?utf-8?q?x?="} {
		a, err := PortalNotice(portalText(t, org, "pát@home.example"), policy.Encrypted)
		if strings.ContainsAny(org, "\r\n") {
			if err == nil {
				t.Error("a name with a line break is taken")
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", org, err)
			continue
		}
		_, v := opened(t, a)
		if v.From.Reveal() != org || v.Subject.Reveal() != org+" sent you a secure message" {
			t.Errorf("%q is changed", org)
		}
		if !a.UTF8() {
			t.Error("the address needs SMTPUTF8")
		}
		z := html.NewTokenizer(strings.NewReader(v.HTML.Reveal()))
		for kind := z.Next(); kind != html.ErrorToken; kind = z.Next() {
			if kind == html.StartTagToken && z.Token().Data == "b" {
				t.Error("a name becomes HTML")
			}
		}
	}
}

func TestNoticeSaysTheHourWhenTimeIsShort(t *testing.T) {
	p := portalText(t, "Clinic", "pat@home.example")
	p.ExpiresAt = noticeDate.Add(time.Hour)
	a, err := PortalNotice(p, policy.Encrypted)
	if err != nil {
		t.Fatal(err)
	}
	if _, v := opened(t, a); !strings.Contains(v.Text.Reveal(), "October 5, 2026, 10:30 AM UTC") {
		t.Error("the notice does not say until when")
	}
}

func TestCodeMail(t *testing.T) {
	to := portalText(t, "", "pat@home.example").To
	text, err := CodeText(CodeMail{To: to, OrgName: "Riverside Clinic", FromDomain: "clinic.example",
		Code: private.NewString("012345"), ValidFor: 10 * time.Minute, Date: noticeDate})
	if err != nil {
		t.Fatal(err)
	}
	a := Report(to, policy.Verified, text)
	if !a.From().IsZero() || a.Floor() != policy.Verified {
		t.Error("the envelope is not that of a notice")
	}
	raw, v := opened(t, a)
	want := "Your code is 012 345\n\nIt works for ten minutes, in the browser where you asked for it.\n"
	if !strings.HasPrefix(v.Text.Reveal(), want) || !strings.Contains(v.Text.Reveal(), "If you did not ask for it, ignore this email.") {
		t.Error("the text is not the expected one")
	}
	if strings.Contains(v.Subject.Reveal(), "012") || !strings.Contains(raw, "Auto-Submitted: auto-generated") {
		t.Error("the header is not the expected one")
	}
}
