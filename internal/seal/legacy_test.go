package seal

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"mime/quotedprintable"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
)

// displayed is the body of one of the letters as an S/MIME program gets it.
func displayed(t *testing.T, name string) string {
	t.Helper()
	body := bodyOf(letters[name])
	switch name {
	case "the letter":
		return "Subject: CANARY-subject of a long letter\r\n\r\n" + body
	case "no MIME", "no body":
		return "Subject: CANARY\r\n\r\n" + body
	case "an attachment":
		const before = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
		if strings.Count(body, before) != 1 {
			t.Fatal("the letter is another one")
		}
		return strings.Replace(body, before, "Content-Type: text/plain; charset=utf-8;\r\n hp-legacy-display=\"1\"\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: CANARY\r\n\r\n", 1)
	}
	return body
}

// laidOut is withDisplay of a whole message.
func laidOut(t testing.TB, text string, eightBit bool) (string, bool) {
	t.Helper()
	h, ahead, rest, err := given(text).partedAhead(background, displayAhead)
	if err != nil {
		t.Fatal(err)
	}
	h, rest, added := withDisplay(h, ahead, rest, eightBit)
	body := contents(t, rest)
	if int64(len(body)) != rest.size {
		t.Errorf("%d octets, said to be %d", len(body), rest.size)
	}
	return string(h.Bytes()) + string(body), added
}

// The pieces of which the table below is made.
const (
	utf  = "Content-Type: text/plain; charset=UTF-8"
	page = "Content-Type: text/html; charset=utf-8"
	mark = ";\r\n hp-legacy-display=\"1\"\r\n"
	pre  = `<div class="header-protection-legacy-display"><pre>Subject: `
	post = "</pre></div>"
	qp   = "Content-Transfer-Encoding: quoted-printable\r\n"
	b64  = "Content-Transfer-Encoding: base64\r\n"
	high = "Content-Transfer-Encoding: 8bit\r\n"
	size = "=?utf-8?q?Gr=C3=B6=C3=9Fe_=3D_1?="
)

func mailOf(fields, subject, body string) string {
	return fields + "From: ada@clinic.example\r\nSubject: " + subject + "\r\n\r\n" + body
}

func inBase64(s string) (out string) {
	for len(s) > 0 {
		n := min(mimeLine, len(s))
		out += base64.StdEncoding.EncodeToString([]byte(s[:n])) + "\r\n"
		s = s[n:]
	}
	return out
}

// laid is a message, and what becomes of it; "" for nothing.
type laid struct{ fields, subject, body, wantFields, wantBody string }

var displays = map[string]laid{
	"no type":                {"", "Hi", "Dear Pat\r\n", "Content-Type: text/plain; hp-legacy-display=\"1\"\r\n", "Subject: Hi\r\n\r\nDear Pat\r\n"},
	"an empty body":          {utf + "\r\n", "Hi", "", utf + mark, "Subject: Hi\r\n\r\n"},
	"a folded subject":       {utf + "\r\n", "Hi\r\n there", "x", utf + mark, "Subject: Hi there\r\n\r\nx"},
	"a body like a field":    {utf + "\r\n", "Hi", "Subject: Hi\r\n\r\nx\r\n", utf + mark, "Subject: Hi\r\n\r\nSubject: Hi\r\n\r\nx\r\n"},
	"a body that is empty":   {utf + "\r\n", "Hi", "\r\n\r\nx\r\n", utf + mark, "Subject: Hi\r\n\r\n\r\n\r\nx\r\n"},
	"flowed":                 {utf + "; format=flowed; delsp=yes;\r\n", "Hi", "one \r\ntwo\r\n", utf + "; format=flowed; delsp=yes" + mark, "Subject: Hi\r\n\r\none \r\ntwo\r\n"},
	"7bit that becomes 8bit": {utf + "\r\nContent-Transfer-Encoding: 7bit\r\n", size, "x\r\n", utf + mark + high, "Subject: Gr\u00f6\u00dfe = 1\r\n\r\nx\r\n"},
	"binary":                 {"Content-Transfer-Encoding: binary\r\n" + utf + "\r\n", "Hi", "\xff\r", "Content-Transfer-Encoding: binary\r\n" + utf + mark, "Subject: Hi\r\n\r\n\xff\r"},
	"quoted-printable":       {qp + utf + "\r\n", size, "a=\r\nb=20\r\n", qp + utf + mark, "Subject: Gr=C3=B6=C3=9Fe =3D 1\r\n\r\na=\r\nb=20\r\n"},
	"base64":                 {b64 + utf + "\r\n", "Hello", "RGVhciBQ\r\nYXQ=\r\n", b64 + utf + mark, inBase64("Subject: Hello\r\n\r\n") + "RGVhciBQ\r\nYXQ=\r\n"},
	"base64, to be filled":   {b64 + utf + "\r\n", "Hey", "RGVhciBQYXQ=", b64 + utf + mark, inBase64("Subject:   Hey\r\n\r\n") + "RGVhciBQYXQ="},
	"base64 that is empty":   {b64 + utf + "\r\n", "Hi", "\r\n", b64 + utf + mark, inBase64("Subject: Hi\r\n\r\n") + "\r\n"},
	"html": {page + "\r\n", "a < b & \"c\"", "<!DOCTYPE html>\r\n<html><head><title>x<body></title>\r\n<style>a>b{}</style></head>\r\n<!-- <body> --><BODY class=\"a>b\">\r\n<p>x</p></BODY></html>",
		page + mark, "<!DOCTYPE html>\r\n<html><head><title>x<body></title>\r\n<style>a>b{}</style></head>\r\n<!-- <body> --><BODY class=\"a>b\">" + pre + "a &#60; b &#38; &#34;c&#34;" + post + "\r\n<p>x</p></BODY></html>"},
	"html without a body tag": {page + "\r\n", "Hi", "<html><head></head>\r\n<p>x", page + mark, "<html><head></head>" + pre + "Hi" + post + "\r\n<p>x"},
	"html that is a text":     {page + "\r\n", "Hi", "x<body>", page + mark, pre + "Hi" + post + "x<body>"},
	"html in 7bit":            {"Content-Type: text/html; charset=us-ascii\r\n", "=?utf-8?q?=C3=B6?=", "<body>x", "Content-Type: text/html; charset=us-ascii" + mark, "<body>" + pre + "&#246;" + post + "x"},
	"html in quoted-printable": {qp + page + "\r\n", "Hi", "<html><body st=\r\nyle=3D\"x\">Dear =\r\nPat", qp + page + mark,
		"<html><body st=\r\nyle=3D\"x\">=\r\n<div class=3D\"header-protection-legacy-display\"><pre>Subject: Hi</pre></div=\r\n>=\r\nDear =\r\nPat"},
	"html in base64, between groups": {b64 + page + "\r\n", "Hi", inBase64("<body>Dear Pat"), b64 + page + mark,
		"PGJvZHk+\r\n" + inBase64(strings.Replace(pre, ": ", ":  ", 1)+"Hi"+post) + inBase64("Dear Pat")},
	"html in base64, inside a group": {b64 + page + "\r\n", "Hi", inBase64("<body >Dear Pat"), b64 + page + mark,
		"PGJvZHkg\r\n" + inBase64(">"+strings.Replace(pre, ": ", ":  ", 1)+"Hi"+post+"De") + inBase64("ar Pat")},
	"files behind": {"Content-Type: multipart/mixed; boundary=b\r\n", "Hi", "--b\r\n\r\nx\r\n--b\r\nContent-Type: text/plain\r\n\r\ny\r\n--b--\r\n",
		"Content-Type: multipart/mixed; boundary=b\r\n", "--b\r\nContent-Type: text/plain; hp-legacy-display=\"1\"\r\n\r\nSubject: Hi\r\n\r\nx\r\n--b\r\nContent-Type: text/plain\r\n\r\ny\r\n--b--\r\n"},
	"all forms": {"Content-Type: multipart/mixed; boundary=a\r\n", "=?utf-8?q?=C3=B6?=",
		"--a\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n" + utf + "\r\n\r\nx\r\n--b\r\nContent-Type: multipart/related; boundary=c\r\n\r\n--c\r\n" + page + "\r\n\r\n<body>x\r\n--c\r\n" + page + "\r\n\r\n<body>\r\n--c--\r\n--b--\r\n--a--\r\n",
		high + "Content-Type: multipart/mixed; boundary=a\r\n",
		"--a\r\n" + high + "Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n" + high + utf + mark + "\r\nSubject: \u00f6\r\n\r\nx\r\n--b\r\nContent-Type: multipart/related; boundary=c\r\n\r\n--c\r\n" + page + mark + "\r\n<body>" + pre + "&#246;" + post + "x\r\n--c\r\n" + page + "\r\n\r\n<body>\r\n--c--\r\n--b--\r\n--a--\r\n"},

	"no subject":                     {utf + "\r\n", "", "x\r\n", "", ""},
	"a huge subject":                 {utf + "\r\n", strings.Repeat("word ", 500), "x\r\n", "", ""},
	"two subjects":                   {utf + "\r\nSubject: Ho\r\n", "Hi", "x\r\n", "", ""},
	"a mark already":                 {utf + mark, "Hi", "Subject: Hi\r\n\r\nx\r\n", "", ""},
	"no charset for the subject":     {"", size, "x\r\n", "", ""},
	"another charset":                {"Content-Type: text/plain; charset=iso-8859-1\r\n", "Hi", "x\r\n", "", ""},
	"a page without a charset":       {"Content-Type: text/html\r\n", "Hi", "<body>x", "", ""},
	"a mark in one of the forms":     {"Content-Type: multipart/alternative; boundary=b\r\n", "Hi", "--b\r\n" + utf + mark + "\r\nSubject: Hi\r\n\r\nx\r\n--b\r\n" + page + "\r\n\r\n<body>x\r\n--b--\r\n", "", ""},
	"a body tag that is cut":         {page + "\r\n", "Hi", strings.Repeat(" \r\n", displayContent/3) + "<body>x", "", ""},
	"an unknown encoding":            {"Content-Transfer-Encoding: x-uue\r\n" + utf + "\r\n", "Hi", "x\r\n", "", ""},
	"damaged base64":                 {b64 + utf + "\r\n", "Hi", "Dear Pat, this is a text\r\n", "", ""},
	"a damaged type":                 {utf + "; \"\r\n", "Hi", "x\r\n", "", ""},
	"two types":                      {utf + "\r\n" + page + "\r\n", "Hi", "x\r\n", "", ""},
	"another type":                   {"Content-Type: text/calendar\r\n", "Hi", "x\r\n", "", ""},
	"armor":                          {utf + "\r\n", "Hi", "-----BEGIN PGP SIGNED MESSAGE-----\r\n", "", ""},
	"a byte order mark":              {utf + "\r\n", "Hi", "\xef\xbb\xbfx\r\n", "", ""},
	"UTF-16 that says UTF-8":         {page + "\r\n", "Hi", "<\x00b\x00", "", ""},
	"a file":                         {utf + "\r\nContent-Disposition: attachment\r\n", "Hi", "x\r\n", "", ""},
	"signed by its sender":           {"Content-Type: multipart/signed; boundary=b\r\n", "Hi", "--b\r\n\r\nx\r\n--b--\r\n", "", ""},
	"a message":                      {"Content-Type: message/rfc822\r\n", "Hi", "Subject: a\r\n\r\nx\r\n", "", ""},
	"a file first":                   {"Content-Type: multipart/mixed; boundary=b\r\n", "Hi", "--b\r\nContent-Type: text/plain; name=x.txt\r\n\r\nx\r\n--b\r\n\r\ny\r\n--b--\r\n", "", ""},
	"a signed part first":            {"Content-Type: multipart/mixed; boundary=b\r\n", "Hi", "--b\r\nContent-Type: multipart/signed; boundary=c\r\n\r\n--c\r\n\r\nx\r\n--c--\r\n--b\r\n\r\ny\r\n--b--\r\n", "", ""},
	"a root that is not first":       {"Content-Type: multipart/related; boundary=b; start=\"<r>\"\r\n", "Hi", "--b\r\n\r\nx\r\n--b\r\nContent-ID: <r>\r\n\r\ny\r\n--b--\r\n", "", ""},
	"no boundary":                    {"Content-Type: multipart/mixed\r\n", "Hi", "--b\r\n\r\nx\r\n--b--\r\n", "", ""},
	"a part that does not parse":     {"Content-Type: multipart/mixed; boundary=b\r\n", "Hi", "--b\r\n\r\nx\r\n--b\r\nno field\r\n\r\ny\r\n--b--\r\n", "", ""},
	"a part without an empty line":   {"Content-Type: multipart/mixed; boundary=b\r\n", "Hi", "--b\r\n\r\n--b--\r\n", "", ""},
	"a body tag that comes late":     {page + "\r\n", "Hi", "<html><head><style>" + strings.Repeat("a{}\r\n", 4000) + "</style></head><body>", "", ""},
	"a style that does not end":      {page + "\r\n", "Hi", "<html><head><style>x", "", ""},
	"no room in the line":            {page + "\r\n", "Hi", strings.Repeat(" ", 930) + "<body>x\r\n", "", ""},
	"no room for a soft line end":    {qp + page + "\r\n", "Hi", strings.Repeat(" ", 70) + "<body>\r\nx", "", ""},
	"a header longer than is looked": {"Content-Type: multipart/mixed; boundary=b\r\n", "Hi", "--b\r\nX: " + strings.Repeat("x\r\n ", 20000) + "\r\n" + utf + "\r\n\r\nx\r\n--b--\r\n", "", ""},
	"one endless line":               {utf + "\r\n", "Hi", strings.Repeat("x", 70000), "", ""},
}

func TestTheSubjectStandsOnTopOfTheText(t *testing.T) {
	for name, tc := range displays {
		text := mailOf(tc.fields, tc.subject, tc.body)
		want := text
		if tc.wantFields != "" {
			want = mailOf(tc.wantFields, tc.subject, tc.wantBody)
		}
		got, added := laidOut(t, text, true)
		if got != want {
			t.Errorf("%s:\n%q, want\n%q", name, got, want)
		}
		if added != (mail.Has8Bit([]byte(got)) && !mail.Has8Bit([]byte(text))) {
			t.Errorf("%s: octets beyond ASCII: %v", name, added)
		}
		if again, _ := laidOut(t, got, true); again != got {
			t.Errorf("%s: a second time gives\n%q", name, again)
		}
		if ascii, added := laidOut(t, text, false); added || mail.Has8Bit([]byte(ascii)) && !mail.Has8Bit([]byte(text)) {
			t.Errorf("%s: octets beyond ASCII where there may be none", name)
		}
	}
}

// TestWhatComesBehindIsOnlyRead: of a large message only the beginning is
// looked at, and every octet behind it stays.
func TestWhatComesBehindIsOnlyRead(t *testing.T) {
	behind := strings.Repeat(strings.Repeat("x", 76)+"\r\n", 3000) + "--b--\r\n"
	head := "--b\r\n" + utf + "\r\n\r\nx\r\n--b\r\nContent-Type: application/pdf\r\n\r\n"
	got, _ := laidOut(t, mailOf("Content-Type: multipart/mixed; boundary=b\r\n", "Hi", head+behind), true)
	want := mailOf("Content-Type: multipart/mixed; boundary=b\r\n", "Hi", "--b\r\n"+utf+mark+"\r\nSubject: Hi\r\n\r\nx\r\n--b\r\nContent-Type: application/pdf\r\n\r\n"+behind)
	if got != want {
		t.Errorf("%d octets, want %d", len(got), len(want))
	}
}

func TestALongSubjectIsFolded(t *testing.T) {
	for _, subject := range []string{strings.Repeat("word ", 300), strings.Repeat("x", 1500), strings.Repeat("\u00f6", 700)} {
		subject = strings.TrimSpace(subject)
		for _, fields := range []string{utf, page, qp + utf, b64 + page} {
			body := "<p>x\r\n"
			if strings.HasPrefix(fields, b64) {
				body = inBase64(body)
			}
			got, _ := laidOut(t, mailOf(fields+"\r\n", subject, body), true)
			got = bodyOf(got)
			for _, line := range strings.Split(got, "\r\n") {
				if len(line) > 998 || len(line) > 76 && fields != utf && fields != page {
					t.Errorf("a line of %d columns", len(line))
				}
			}
			if strings.Count(got, "\r\n\r\n") > 1 || len(got) < len(subject) {
				t.Errorf("%q", got)
			}
		}
	}
}

// sealAndOpen seals to a certificate and opens it again.
func sealAndOpen(t testing.TB, pat person, signer *cms.Signer, text string) *Opened {
	t.Helper()
	b := must[*Batch](t)(SMIMEBatch(background, given(text), cms.AES256GCM, signer, sealedAt))
	a := must[*Artifact](t)(SMIME(b, addr(t, "ada@clinic.example"), addr(t, "pat@home.example"), policy.None, pat.cert, cms.WrapOptions{}))
	return must[*Opened](t)(Open(contents(t, stream{a.Size(), a.Open}), OpenOptions{Secrets: Secrets{SMIME: []cms.Recipient{{Key: pat.key, Certificate: pat.cert}}}, At: sealedAt}))
}

// sameParts compares what is shown and saved of two messages.
func sameParts(got, want []Part) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d parts, were %d", len(got), len(want))
	}
	for i := range got {
		if got[i].Text.Reveal() != want[i].Text.Reveal() || got[i].HTML.Reveal() != want[i].HTML.Reveal() || !bytes.Equal(got[i].Content.Reveal(), want[i].Content.Reveal()) {
			return fmt.Errorf("part %d is\n%q%q, was\n%q%q", i+1, got[i].Text.Reveal(), got[i].HTML.Reveal(), want[i].Text.Reveal(), want[i].HTML.Reveal())
		}
	}
	return nil
}

func TestTheElementIsGoneWhenItIsOpened(t *testing.T) {
	pat, ada := newCertificate(t, "rsa"), newCertificate(t, "p256").signer()
	for name, tc := range displays {
		switch name {
		case "a mark already", "a mark in one of the forms", // the element goes, no matter whose it is
			"signed by its sender", "two types", "a part that does not parse", "no boundary": // opened as files, with their fields
			continue
		}
		text := mailOf(tc.fields, tc.subject, tc.body)
		want := must[*Opened](t)(Open([]byte(text), OpenOptions{At: sealedAt}))
		for _, signer := range []*cms.Signer{nil, ada} {
			if err := sameParts(sealAndOpen(t, pat, signer, text).Parts, want.Parts); err != nil {
				t.Errorf("%s, signed %v: %v", name, signer != nil, err)
			}
		}
	}
}

// TestAnyMessageComesBackWithoutTheElement takes messages of all structures,
// encodings and pages.
func TestAnyMessageComesBackWithoutTheElement(t *testing.T) {
	pat, ada := newCertificate(t, "p256"), newCertificate(t, "p256").signer()
	shown := 0
	rapid.Check(t, func(rt *rapid.T) {
		subject := rapid.SampledFrom([]string{"Hi", "Subject: x", size, strings.Repeat("long ", 250), "<body>", "=?utf-8?b?4oCu8J+YgA==?=", ""}).Draw(rt, "subject")
		fields, body := anyPart(rt, 3)
		text := mailOf(fields, subject, body)
		signer := ada
		if rapid.Bool().Draw(rt, "unsigned") {
			signer = nil
		}
		if got, _ := laidOut(t, text, true); got != text {
			shown++
		}
		want := must[*Opened](t)(Open([]byte(text), OpenOptions{At: sealedAt}))
		if err := sameParts(sealAndOpen(t, pat, signer, text).Parts, want.Parts); err != nil {
			rt.Fatal(err)
		}
	})
	if shown == 0 {
		t.Error("no message had an element")
	}
}

// anyPart draws the fields and the body of a part.
func anyPart(rt *rapid.T, depth int) (fields, body string) {
	if depth > 0 && rapid.IntRange(0, 2).Draw(rt, "multipart") > 0 {
		boundary := fmt.Sprintf("b%d", depth)
		fields = "Content-Type: multipart/" + rapid.SampledFrom([]string{"mixed", "alternative", "related", "report"}).Draw(rt, "kind") + "; boundary=" + boundary + "\r\n"
		body = rapid.SampledFrom([]string{"", "preamble\r\n"}).Draw(rt, "preamble")
		for range rapid.IntRange(1, 3).Draw(rt, "parts") {
			f, b := anyPart(rt, depth-1)
			body += "--" + boundary + "\r\n" + f + "\r\n" + b + "\r\n"
		}
		return fields, body + "--" + boundary + "--\r\n"
	}
	fields = rapid.SampledFrom([]string{"", utf + "\r\n", page + "\r\n", page + "\r\n", utf + "; format=flowed\r\n", "Content-Type: text/html\r\n", "Content-Type: text/plain; charset=latin1\r\n", "Content-Type: image/png\r\n"}).Draw(rt, "type")
	for range rapid.IntRange(0, 8).Draw(rt, "pieces") {
		body += rapid.SampledFrom([]string{"\r\n", "Subject: x", "<html>", "<head>", "<style>", "</style>", "<title>", "</title>", "</head>", "<body>", "<body a='>'>", "<p>", "<!--", "-->", " ", "=", "Gr\u00f6\u00dfe", "\xff", "x", "</body>", "<!doctype html>", strings.Repeat("line \r\n", 500), pre + post}).Draw(rt, "piece")
	}
	switch rapid.IntRange(0, 3).Draw(rt, "encoding") {
	case 0:
		fields = qp + fields
		var out bytes.Buffer
		w := quotedprintable.NewWriter(&out)
		_, _ = w.Write([]byte(body)) // a bytes.Buffer takes everything
		_ = w.Close()
		body = out.String()
	case 1:
		fields, body = b64+fields, inBase64(body)
	case 2:
		fields = high + fields
	}
	return fields, body
}
