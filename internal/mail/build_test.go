package mail

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/private"
)

func draft(t testing.TB) Draft {
	return Draft{
		From: NewMailbox("Dr. Wü", must(t, "dr@example.org")),
		To:   []Mailbox{NewMailbox("", must(t, "a@example.com")), NewMailbox("B, C", must(t, "b@example.com"))},
		Date: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
	}
}

// reporter is a testing.T or a rapid.T.
type reporter interface {
	Helper()
	Error(...any)
	Errorf(string, ...any)
	Fatal(...any)
	Fatalf(string, ...any)
}

func str(s string) private.String { return private.NewString(s) }

func build(t testing.TB, d Draft) (*View, []byte) {
	t.Helper()
	raw, err := Build(d)
	if err != nil {
		t.Fatal(err)
	}
	checkWire(t, raw)
	v, err := Parse(bytes.NewReader(raw), Limits{})
	if err != nil || v.Broken {
		t.Fatalf("what Build wrote does not parse: %v\n%q", err, raw)
	}
	return v, raw
}

// checkWire holds what is true of all that Build writes.
func checkWire(t reporter, raw []byte) {
	t.Helper()
	if Has8Bit(raw) {
		t.Errorf("not seven-bit: %q", raw)
	}
	if _, err := io.Copy(io.Discard, NewStrictReader(bytes.NewReader(raw))); err != nil {
		t.Errorf("line ends: %v", err)
	}
	for line := range bytes.SplitSeq(raw, []byte("\r\n")) {
		if len(line) > 998 {
			t.Errorf("a line of %d octets", len(line))
		}
	}
	if !bytes.HasSuffix(raw, []byte("\r\n")) {
		t.Error("the last line is not ended")
	}
}

func TestBuildReadsBack(t *testing.T) {
	d := draft(t)
	d.ReplyTo = []Mailbox{NewMailbox("", must(t, "reply@example.org"))}
	d.Cc = []Mailbox{NewMailbox("", must(t, "c@example.com"))}
	d.Subject = str("Größe =?utf-8?q?literal?=")
	d.Text = str("Hallo Jürgen,\nFrom here\n.\ntrailing \n")
	d.HTML = str("<p>Hallo Jürgen</p>")
	d.Headers = []Field{{"X-Case", str("Fall 7 ü"), "/headers/X-Case"}}
	d.Attachments = []File{
		{str("Befund ü \"x\".pdf"), "application/pdf", private.NewBytes([]byte{0, 1, 255, '\r', '\n'})},
		{str(strings.Repeat("名", 60) + ".txt"), "text/plain; charset=utf-8", private.NewBytes([]byte("ü"))},
		{str(""), "", private.NewBytes(nil)},
		{str("mail.eml"), "message/rfc822", private.NewBytes([]byte("A: ü\r\n\r\n"))},
	}
	v, raw := build(t, d)
	if v.Subject.Reveal() != d.Subject.Reveal() || v.From.Reveal() != "Dr. Wü" || !v.Date.Equal(d.Date) {
		t.Errorf("%q %q %v", v.Subject.Reveal(), v.From.Reveal(), v.Date)
	}
	if v.Text.Reveal() != d.Text.Reveal() || v.HTML.Reveal() != d.HTML.Reveal()+"\n" {
		t.Errorf("text %q html %q", v.Text.Reveal(), v.HTML.Reveal())
	}
	if len(v.To) != 2 || len(v.Cc) != 1 || v.To[1].Name.Reveal() != "B, C" {
		t.Errorf("to %d cc %d", len(v.To), len(v.Cc))
	}
	names := []string{"Befund ü _x_.pdf", strings.Repeat("名", 60) + ".txt", "attachment-3", "mail.eml"}
	types := []string{"application/pdf", "text/plain", "application/octet-stream", "application/octet-stream"}
	if len(v.Attachments) != 4 {
		t.Fatalf("%d attachments\n%s", len(v.Attachments), raw)
	}
	for i, a := range v.Attachments {
		r, err := v.OpenAttachment(i)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(r)
		want := d.Attachments[i].Content.Reveal()
		if !bytes.Equal(got, want) || a.Size != int64(len(want)) || a.Filename.Reveal() != names[i] || a.ContentType != types[i] || a.Index != i {
			t.Errorf("%d: %q %q %d %q", i, a.Filename.Reveal(), a.ContentType, a.Size, got)
		}
	}
	h := parse(t, string(raw))
	if h.Get("MIME-Version") != "1.0" || DecodeText(h.Get("X-Case")) != "Fall 7 ü" || h.Get("Reply-To") != "reply@example.org" || checkMessageID(h.Get("Message-ID")) != nil {
		t.Errorf("header %q", h.Bytes())
	}
}

func TestBuildStructure(t *testing.T) {
	for _, c := range []struct {
		text, html string
		file       bool
		want       string
	}{
		{"", "", false, "text/plain"}, {"x", "", false, "text/plain"}, {"", "x", false, "text/html"},
		{"x", "x", false, "multipart/alternative"}, {"x", "x", true, "multipart/mixed"}, {"", "", true, "multipart/mixed"},
	} {
		d := draft(t)
		d.Text, d.HTML = str(c.text), str(c.html)
		if c.file {
			d.Attachments = []File{{Filename: str("x"), Content: private.NewBytes([]byte("x"))}}
		}
		_, raw := build(t, d)
		if media, _ := parse(t, string(raw)).contentType(""); media != c.want {
			t.Errorf("%+v gives %s", c, media)
		}
	}
	d := draft(t)
	d.To = nil
	_, raw := build(t, d)
	if !bytes.Contains(raw, []byte("To: undisclosed-recipients:;\r\n")) || bytes.Contains(raw, []byte("Bcc")) {
		t.Errorf("%q", raw)
	}
}

// TestBuildCannotInject tries line breaks in every field. A draft that is
// accepted must give exactly the fields of the same draft without them.
func TestBuildCannotInject(t *testing.T) {
	for _, bad := range []string{"\r\nBcc: x@example.org\r\n", "\nBcc: x@example.org", "\rBcc: x", "a\r\n\r\nbody", "\x00", "a\x00b", "\x0b", "\x7f", "\xff", "\xed\xa0\x80"} {
		for pointer, change := range map[string]func(d *Draft){
			"/from":                       func(d *Draft) { d.From.Name = str(bad) },
			"/to":                         func(d *Draft) { d.To[1].Name = str(bad) },
			"/cc":                         func(d *Draft) { d.Cc = []Mailbox{NewMailbox(bad, d.From.Address)} },
			"/reply_to":                   func(d *Draft) { d.ReplyTo = []Mailbox{NewMailbox(bad, d.From.Address)} },
			"/subject":                    func(d *Draft) { d.Subject = str(bad) },
			"/message_id":                 func(d *Draft) { d.MessageID = "<a" + bad + "@b>" },
			"/headers/name":               func(d *Draft) { d.Headers = []Field{{"X" + bad, str("x"), "/headers/name"}} },
			"/headers/value":              func(d *Draft) { d.Headers = []Field{{"X-Y", str("x" + bad), "/headers/value"}} },
			"/attachments/0/filename":     func(d *Draft) { d.Attachments = []File{{Filename: str(bad)}} },
			"/attachments/0/content_type": func(d *Draft) { d.Attachments = []File{{ContentType: "text/plain; x=" + bad}} },
		} {
			d := draft(t)
			change(&d)
			raw, err := Build(d)
			if !fault.Is(err, fault.Invalid) || fault.From(err).Pointer != pointer || raw != nil {
				t.Errorf("%s with %q: %v", pointer, bad, err)
			}
			if err != nil && strings.Contains(err.Error(), "example.org\r") {
				t.Errorf("the error shows the value: %v", err)
			}
		}
	}
	// The value of a field of the caller's may be encoded words, so those that
	// hide line ends are refused there.
	for _, bad := range []string{"=?utf-8?q?a=0D=0ABcc:_x@example.org?=", "a =?x?q?b?= =?utf-8?b?DQpCY2M6IHg=?=", "=?utf-8?q?=00?="} {
		d := draft(t)
		d.Headers = []Field{{"X-Y", str(bad), "/headers/value"}}
		if _, err := Build(d); !fault.Is(err, fault.Invalid) || fault.From(err).Pointer != "/headers/value" {
			t.Errorf("%q: %v", bad, err)
		}
	}
	// Harmless once encoded: Unicode line ends, and elsewhere encoded words that
	// decode to line breaks.
	for _, odd := range []string{"a\u2028Bcc: x@example.org", "a\u2029b", "a\u0085b", "=?utf-8?q?a=0D=0ABcc:_x@example.org?=", "=?utf-8?b?DQpCY2M6IHg=?="} {
		d := draft(t)
		d.From.Name, d.Subject, d.To[0].Name = str(odd), str(odd), str(odd)
		d.Headers = []Field{{"X-Y", str(strings.ReplaceAll(odd, "=?", "")), ""}}
		d.Attachments = []File{{Filename: str(odd)}}
		_, raw := build(t, d)
		h := parse(t, string(raw))
		if h.Len() != 8 || h.Has("Bcc") {
			t.Errorf("%q gives %q", odd, h.Bytes())
		}
		if got := decodeWords(h.Get("Subject")); got != odd {
			t.Errorf("subject %q came back as %q", odd, got)
		}
	}
}

func TestBuildRefusesReservedHeaders(t *testing.T) {
	for _, name := range []string{
		"From", "TO", "cc", "Bcc", "Subject", "Date", "Message-ID", "Content-Type", "content-anything", "MIME-Version",
		"Received", "Return-Path", "DKIM-Signature", "Sender", "Reply-To", "ARC-Seal", "Authentication-Results", "Resent-Bcc",
		"From ", " From",
	} {
		d := draft(t)
		d.Headers = []Field{{"X-Fine", str("x"), "/headers/X-Fine"}, {name, str("x"), "/headers/1"}}
		_, err := Build(d)
		if !fault.Is(err, fault.Invalid) || fault.From(err).Reason != "reserved_header" || fault.From(err).Pointer != "/headers/1" {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestBuildReportsAllMistakes(t *testing.T) {
	d := draft(t)
	d.Subject, d.Text, d.HTML = str("\n"), str("\xff"), str("\xff")
	d.Headers = []Field{{"From", str(""), "/headers/From"}}
	d.Attachments = []File{{ContentType: "x"}, {Filename: str(strings.Repeat("x", 300))}}
	_, err := Build(d)
	var pointers []string
	f := fault.From(err)
	for _, one := range append([]*fault.Fault{f}, f.Also...) {
		pointers = append(pointers, one.Pointer)
	}
	want := "/subject /headers/From /attachments/0/content_type /attachments/1/filename /text /html"
	if got := strings.Join(pointers, " "); got != want {
		t.Errorf("pointers %s", got)
	}
	d = draft(t)
	d.Date = time.Time{}
	if _, err := Build(d); err == nil || errors.As(err, new(*fault.Fault)) {
		t.Errorf("no date: %v", err)
	}
	d = draft(t)
	d.From = Mailbox{}
	if _, err := Build(d); fault.From(err).Pointer != "/from" {
		t.Errorf("no from: %v", err)
	}
	d = draft(t)
	for range 600 {
		d.Headers = append(d.Headers, Field{"X", str("y"), ""})
	}
	if _, err := Build(d); !fault.Is(err, fault.TooLarge) {
		t.Errorf("600 headers: %v", err)
	}
}

func TestBuildWithUTF8LocalPart(t *testing.T) {
	d := draft(t)
	d.To = []Mailbox{NewMailbox("", must(t, "ü@bücher.example"))}
	raw, err := Build(d)
	if err != nil {
		t.Fatal(err)
	}
	h, err := ParseHeader(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil || !NeedsSMTPUTF8(h) || h.Get("To") != "ü@xn--bcher-kva.example" {
		t.Errorf("%q, %v", h.Get("To"), err)
	}
}

func checkBuild(t reporter, subject, name, text, html, filename string, content []byte) {
	a := must(t, "a@example.org")
	d := Draft{
		From: NewMailbox(name, a), Subject: str(subject), Text: str(text), HTML: str(html), Date: time.Unix(1, 0),
		Attachments: []File{{Filename: str(filename), Content: private.NewBytes(content)}},
	}
	raw, err := Build(d)
	if err != nil {
		if !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.TooLarge) {
			t.Fatalf("unexpected %v", err)
		}
		return
	}
	checkWire(t, raw)
	v, err := Parse(bytes.NewReader(raw), Limits{})
	if err != nil || v.Broken || len(v.Attachments) != 1 || len(v.FromList) != 1 || v.FromList[0].Address != a {
		t.Fatalf("does not read back: %v\n%q", err, raw)
	}
	if got, want := v.Subject.Reveal(), showable(strings.Trim(subject, " \t")); got != want {
		t.Errorf("subject %q came back as %q", want, got)
	}
	same := func(got, want string) bool {
		want = strings.ReplaceAll(strings.ReplaceAll(crlf(want), "\r\n", "\n"), "\x00", "\uFFFD")
		return strings.TrimSuffix(got, "\n") == strings.TrimSuffix(want, "\n")
	}
	if !same(v.Text.Reveal(), text) || !same(v.HTML.Reveal(), html) {
		t.Errorf("text %q html %q from\n%q", v.Text.Reveal(), v.HTML.Reveal(), raw)
	}
	r, err := v.OpenAttachment(0)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(r); !bytes.Equal(got, content) {
		t.Errorf("content %q came back as %q", content, got)
	}
	if want := SafeFilename(DecodeText(filename)); want != "" && v.Attachments[0].Filename.Reveal() != want {
		t.Errorf("file name %q came back as %q", want, v.Attachments[0].Filename.Reveal())
	}
}

func TestBuildProperties(t *testing.T) {
	body := rapid.StringOf(rapid.OneOf(rapid.RuneFrom([]rune("ab \n\r\t=-_.From ü\u4e2d\x00")), rapid.Rune()))
	rapid.Check(t, func(rt *rapid.T) {
		checkBuild(rt, lineText.Draw(rt, "subject"), lineText.Draw(rt, "name"), body.Draw(rt, "text"), body.Draw(rt, "html"),
			lineText.Draw(rt, "filename"), rapid.SliceOf(rapid.Byte()).Draw(rt, "content"))
	})
}

func FuzzBuild(f *testing.F) {
	f.Add("Größe", "Dr Wü", "text\n.\n", "<p>", "ü.pdf", []byte{0, 255})
	f.Add("=?utf-8?q?a=0D=0A?=", "a\r\nBcc: x", "--=_x--", "", "../\"x", []byte("--=_"))
	f.Add("a\u2028b", "\"<>", "From x\r\n ", "\r", "=?utf-8?q?x?=", []byte(nil))
	f.Fuzz(func(t *testing.T, subject, name, text, html, filename string, content []byte) {
		checkBuild(t, subject, name, text, html, filename, content)
	})
}
