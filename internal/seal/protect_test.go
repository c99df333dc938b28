package seal

import (
	"bytes"
	"context"
	"mime"
	"net/mail"
	"net/textproto"
	"slices"
	"strings"
	"testing"
)

// letter is a message full of what must not be seen: every CANARY word.
const letter = "Return-Path: <canary-return@clinic.example>\r\n" +
	"Received: from ws.clinic.example by relay.clinic.example for <CANARY@home.example>; Mon, 5 Oct 2026 09:30:00 +0000\r\n" +
	"DKIM-Signature: v=1; a=rsa-sha256; d=clinic.example; b=abc\r\n" +
	"ARC-Seal: i=1; a=rsa-sha256\r\n" +
	"From: \"Dr. Ada Lane\" <ada@clinic.example>\r\n" +
	"Reply-To: Front desk for CANARY <desk@clinic.example>\r\n" +
	"To: \"CANARY-Pat Jones\" <pat@home.example>,\r\n kim@home.example (CANARY-Kim)\r\n" +
	"Cc: CANARY-group: \"CANARY-Lee\" <lee@home.example>;\r\n" +
	"Bcc: blind@home.example\r\n" +
	"Subject: CANARY-subject of\r\n a long letter\r\n" +
	"Date: Mon, 05 Oct 2026 11:30:00 +0200\r\n" +
	"Message-ID: <m1@clinic.example>\r\n" +
	"In-Reply-To: Your CANARY-phrase of Monday <q1@home.example>\r\n" +
	"References: <q0@home.example>\r\n <q1@home.example>\r\n" +
	"List-Unsubscribe: <https://clinic.example/u>\r\n" +
	"Auto-Submitted: auto-generated\r\n" +
	"Comments: CANARY-comments\r\n" +
	"Keywords: CANARY-keywords\r\n" +
	"X-Patient: CANARY-patient\r\n" +
	"HP-Outer: Subject: CANARY-outer\r\n" +
	"MIME-Version: 1.0\r\n" +
	"Content-Type: text/plain;\r\n charset=utf-8\r\n" +
	"Content-Transfer-Encoding: 8bit\r\n" +
	"Content-Language: en\r\n" +
	"\r\n" +
	"Dear CANARY-body,\r\n\r\nGr\u00f6\u00dfe: 1\r\n"

// given is a stored message.
func given(text string) Body {
	n := 0
	b := body(text, &n)
	b.EightBit = strings.ContainsFunc(text, func(r rune) bool { return r > 127 })
	return b
}

// section parses a header as a program other than ours does.
func section(t *testing.T, text []byte) (mail.Header, []byte) {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("the header does not parse: %v", err)
	}
	_, rest, found := bytes.Cut(text, []byte("\r\n\r\n"))
	if !found {
		t.Fatal("no empty line")
	}
	return m.Header, rest
}

// protectedLetter gives the header outside and the payload of the letter.
func protectedLetter(t *testing.T, text string) (outer, inner mail.Header, content []byte) {
	t.Helper()
	h, rest, err := given(text).parted(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	outside, record := envelopeHeader(h)
	outer, _ = section(t, append(outside, "\r\n"...))
	inner, content = section(t, contents(t, rest.between(payloadHeader(h, hpCipher, record), nil)))
	return outer, inner, content
}

func TestTheOuterHeaderSaysLittle(t *testing.T) {
	outer, _, _ := protectedLetter(t, letter)
	want := mail.Header{
		"Received":         {"from ws.clinic.example by relay.clinic.example; Mon, 5 Oct 2026 09:30:00 +0000"},
		"From":             {`"Dr. Ada Lane" <ada@clinic.example>`},
		"Reply-To":         {"desk@clinic.example"},
		"To":               {"pat@home.example, kim@home.example"},
		"Cc":               {"lee@home.example"},
		"Subject":          {"[...]"},
		"Date":             {"Mon, 05 Oct 2026 11:30:00 +0200"},
		"Message-Id":       {"<m1@clinic.example>"},
		"In-Reply-To":      {"<q1@home.example>"},
		"References":       {"<q0@home.example> <q1@home.example>"},
		"List-Unsubscribe": {"<https://clinic.example/u>"},
		"Auto-Submitted":   {"auto-generated"},
		"Mime-Version":     {"1.0"},
	}
	for name := range outer {
		if want[name] == nil {
			t.Errorf("%s stands outside", name)
		}
	}
	for name, values := range want {
		if !slices.Equal(outer[name], values) {
			t.Errorf("%s: %q outside, want %q", name, outer[name], values)
		}
	}
}

func TestThePayloadHasTheWholeHeader(t *testing.T) {
	outer, inner, content := protectedLetter(t, letter)
	original, originalContent := section(t, []byte(letter))
	if !bytes.Equal(content, originalContent) {
		t.Error("the body is changed")
	}
	for _, gone := range []string{"Received", "Return-Path", "Dkim-Signature", "Arc-Seal", "Bcc"} {
		if inner[gone] != nil {
			t.Errorf("%s stands inside", gone)
		}
		delete(original, gone)
	}
	delete(original, "Hp-Outer")
	for name, values := range original {
		if name != "Content-Type" && !slices.Equal(inner[name], values) {
			t.Errorf("%s: %q inside, was %q", name, inner[name], values)
		}
	}
	media, params, err := mime.ParseMediaType(inner.Get("Content-Type"))
	if err != nil || media != "text/plain" || params["charset"] != "utf-8" || params["hp"] != "cipher" || params["protected-headers"] != "v1" {
		t.Errorf("Content-Type %q: %v", inner.Get("Content-Type"), err)
	}
	// RFC 9788 section 2.2: one HP-Outer for every field outside that is not
	// structural; none that was not written by us.
	var recorded []string
	for _, v := range inner["Hp-Outer"] {
		name, value, _ := strings.Cut(v, ":")
		if got := outer[textproto.CanonicalMIMEHeaderKey(name)]; len(got) != 1 || got[0] != strings.TrimSpace(value) {
			t.Errorf("HP-Outer %q, outside stands %q", v, got)
		}
		recorded = append(recorded, textproto.CanonicalMIMEHeaderKey(name))
	}
	for name := range outer {
		if name != "Received" && name != "Mime-Version" && !slices.Contains(recorded, name) {
			t.Errorf("no HP-Outer of %s", name)
		}
	}
}

func TestOuterFieldsThatAreOddOrNotASCII(t *testing.T) {
	for name, tc := range map[string]struct{ field, want string }{
		"raw UTF-8 name of the sender":      {"From: Gr\u00f6\u00dfe <g@clinic.example>", "From: =?utf-8?b?R3LDtsOfZQ==?= <g@clinic.example>\r\n"},
		"address beyond ASCII":              {"To: P\u00e4t <p\u00e4t@home.example>", "To: p\u00e4t@home.example\r\n"},
		"a list that does not parse":        {"To: CANARY, <<pat@home.example", "To: undisclosed-recipients:;\r\n"},
		"an empty group":                    {"To: CANARY patients:;", "To: undisclosed-recipients:;\r\n"},
		"copies that do not parse":          {"Cc: CANARY <", ""},
		"an unknown field":                  {"X-Anything: CANARY", ""},
		"a resent field":                    {"Resent-To: CANARY@home.example", ""},
		"a reply to a phrase":               {"In-Reply-To: your CANARY letter", ""},
		"references with damage":            {"References: <a@b.example> CANARY <c d@e> <f@g.example>", "References: <a@b.example> <f@g.example>\r\n"},
		"space before the colon":            {"Subject : CANARY", outerSubject},
		"a list name beyond ASCII":          {"List-Id: Gr\u00f6\u00dfe CANARY <l.clinic.example>", "List-Id: <l.clinic.example>"},
		"an encoded name of a recipient":    {"To: =?utf-8?q?CANARY?= <pat@home.example>", "To: pat@home.example\r\n"},
		"a sender who is not in a mailbox":  {"From: nobody", "From: nobody\r\n"},
		"a broken sender beyond ASCII":      {"From: Gr\u00f6\u00dfe", "From: =?utf-8?"},
		"a broken sender that is not UTF-8": {"From: Gr\xf6\xdfe <x", "From: =?utf-8?"},
	} {
		got := string(newField([]byte(tc.field + "\r\n")).outside())
		if tc.want == "" && got != "" || !strings.HasPrefix(got, tc.want) || strings.Contains(got, "CANARY") {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func TestContentTypesKeepWhatTheySay(t *testing.T) {
	const mark = ";\r\n hp=\"cipher\"; protected-headers=\"v1\"\r\n"
	for given, want := range map[string]string{
		"Content-Type: text/html; charset=\"x y\"\r\n":   "Content-Type: text/html; charset=\"x y\"" + mark,
		"Content-type: multipart/mixed; boundary=b;\r\n": "Content-type: multipart/mixed; boundary=b" + mark,
		"Content-Type:\r\n":                              "Content-Type: text/plain" + mark,
		"Content-Type: nonsense\r\n":                     "Content-Type: nonsense" + mark,
		"Content-Type: multipart/mixed; hp=clear; protected-headers=v1; boundary=\"B=\"\r\n": "Content-Type: multipart/mixed; boundary=\"B=\"" + mark,
	} {
		if got := string(withProtection(newField([]byte(given)), hpCipher)); got != want {
			t.Errorf("%q becomes %q, want %q", given, got, want)
		}
	}
	_, inner, _ := protectedLetter(t, "From: a@clinic.example\r\n\r\nx\r\n")
	if inner.Get("Content-Type") != `text/plain; hp="cipher"; protected-headers="v1"` {
		t.Errorf("a message without a type becomes %q", inner.Get("Content-Type"))
	}
}

func TestPartedKeepsEveryOctet(t *testing.T) {
	for name, text := range map[string]string{
		"a letter": letter, "no body": "From: a@b.example\r\n\r\n", "no empty line": "From: a@b.example\r\n",
		"line feeds": "From: a@b.example\nX: y\n\nbody\n", "cut in a field": "From: a@b.example",
	} {
		_, rest, err := given(text).parted(context.Background())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_, want, _ := strings.Cut(strings.ReplaceAll(text, "\r\n", "\n"), "\n\n")
		if got := string(contents(t, rest)); strings.ReplaceAll(got, "\r\n", "\n") != want || int64(len(got)) != rest.size {
			t.Errorf("%s: the body is %q", name, got)
		}
	}
}
