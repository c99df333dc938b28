package bounce

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	netmail "net/mail"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// dsn is a notice as a strict reader sees it.
type dsn struct {
	header  netmail.Header
	human   string
	media   string            // of the machine part
	message map[string]string // fields about the message
	rcpt    map[string]string // fields about the recipient
}

// The fields we write, in the order of RFC 3464's grammar, and their forms.
var (
	messageFields = []string{"Original-Envelope-Id", "Reporting-MTA", "Arrival-Date"}
	rcptFields    = []string{"Final-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code",
		"Last-Attempt-Date", "Will-Retry-Until", "X-Sealpost-Delivery"}
	forms = map[string]*regexp.Regexp{
		"Original-Envelope-Id": regexp.MustCompile(`^msg_[0-9a-z]{26}$`),
		"Reporting-MTA":        regexp.MustCompile(`^dns; [a-z0-9.-]+$`),
		"Final-Recipient":      regexp.MustCompile(`^(rfc822|utf-8); \S.*@[a-z0-9.-]+$`),
		"Action":               regexp.MustCompile(`^(failed|delayed)$`),
		"Status":               regexp.MustCompile(`^[45]\.[0-9]{1,3}\.[0-9]{1,3}$`),
		"Remote-MTA":           regexp.MustCompile(`^dns; [A-Za-z0-9._-]+$`),
		"Diagnostic-Code":      regexp.MustCompile(`^smtp; [45][0-9][0-9]( [45]\.[0-9]{1,3}\.[0-9]{1,3})?$`),
		"X-Sealpost-Delivery":  regexp.MustCompile(`^dlv_[0-9a-z]{26}$`),
	}
)

func readStrictly(t testing.TB, raw []byte) dsn {
	t.Helper()
	checkBytes(t, raw)
	m, err := netmail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatalf("the notice does not parse: %v", err)
	}
	d := dsn{header: m.Header}
	checkHeader(t, m.Header)
	media, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || media != "multipart/report" || params["report-type"] != "delivery-status" || len(params) != 2 {
		t.Fatalf("content type %q %v: %v", media, params, err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	d.readHuman(t, nextPart(t, parts))
	d.readMachine(t, nextPart(t, parts))
	if p, err := parts.NextRawPart(); err != io.EOF {
		t.Fatalf("a third part: %v %v", p, err)
	}
	return d
}

// checkBytes looks for what a host on the way might stumble over.
func checkBytes(t testing.TB, raw []byte) {
	t.Helper()
	if !bytes.HasSuffix(raw, []byte("\r\n")) {
		t.Fatal("the last line has no end")
	}
	head, _, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
	for at, line := range bytes.Split(bytes.TrimSuffix(raw, []byte("\r\n")), []byte("\r\n")) {
		if len(line) > 998 || bytes.ContainsAny(line, "\r\n\x00") {
			t.Fatalf("line %d: %d octets, or a bare line end", at, len(line))
		}
		plain := !bytes.ContainsFunc(line, func(c rune) bool { return c >= utf8.RuneSelf })
		if !plain && !(bytes.Contains(head, line) && bytes.HasPrefix(line, []byte("To: "))) {
			t.Fatalf("line %d is not seven-bit", at)
		}
	}
}

func checkHeader(t testing.TB, h netmail.Header) {
	t.Helper()
	for _, name := range []string{"From", "To", "Subject", "Date", "Message-Id", "Auto-Submitted", "X-Auto-Response-Suppress", "Mime-Version", "Content-Type"} {
		if len(h[name]) != 1 {
			t.Fatalf("%d fields %s", len(h[name]), name)
		}
	}
	if len(h) != 9 {
		t.Fatalf("unexpected fields: %v", h)
	}
	if _, err := h.Date(); err != nil {
		t.Fatal(err)
	}
	if from, err := h.AddressList("From"); err != nil || len(from) != 1 || from[0].Name != "Mail delivery" || !strings.HasPrefix(from[0].Address, "mailer-daemon@") {
		t.Fatalf("From %v: %v", from, err)
	}
	if to, err := h.AddressList("To"); err != nil || len(to) != 1 {
		t.Fatalf("To %v: %v", to, err)
	}
	if h.Get("Auto-Submitted") != "auto-replied" || h.Get("Mime-Version") != "1.0" {
		t.Fatalf("header %v", h)
	}
}

func nextPart(t testing.TB, r *multipart.Reader) *multipart.Part {
	t.Helper()
	p, err := r.NextRawPart()
	if err != nil {
		t.Fatalf("a part is missing: %v", err)
	}
	return p
}

func (d *dsn) readHuman(t testing.TB, p *multipart.Part) {
	t.Helper()
	if p.Header.Get("Content-Type") != "text/plain; charset=utf-8" || p.Header.Get("Content-Transfer-Encoding") != "quoted-printable" {
		t.Fatalf("first part %v", p.Header)
	}
	text, err := io.ReadAll(quotedprintable.NewReader(p))
	if err != nil || !utf8.Valid(text) {
		t.Fatalf("first part: %v", err)
	}
	d.human = string(text)
}

func (d *dsn) readMachine(t testing.TB, p *multipart.Part) {
	t.Helper()
	var r io.Reader = p
	d.media = p.Header.Get("Content-Type")
	switch enc := p.Header.Get("Content-Transfer-Encoding"); {
	case d.media == "message/delivery-status" && enc == "7bit": // RFC 3464 section 2.1
	case d.media == "message/global-delivery-status" && enc == "quoted-printable":
		r = quotedprintable.NewReader(p)
	default:
		t.Fatalf("second part %v", p.Header)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	groups := strings.Split(string(text), "\r\n\r\n")
	if len(groups) != 2 {
		t.Fatalf("%d groups of fields in %q", len(groups), text)
	}
	d.message, d.rcpt = readFields(t, groups[0]+"\r\n", messageFields), readFields(t, groups[1], rcptFields)
	for _, must := range []string{d.message["Reporting-MTA"], d.rcpt["Final-Recipient"], d.rcpt["Action"], d.rcpt["Status"]} {
		if must == "" {
			t.Fatalf("a required field is missing in %q", text)
		}
	}
	if delayed := d.rcpt["Action"] == "delayed"; delayed && d.rcpt["Status"][0] != '4' || delayed != (d.rcpt["Will-Retry-Until"] != "") {
		t.Fatalf("action, status and retries do not fit: %v", d.rcpt)
	}
}

// readFields wants known fields, each at most once, unfolded and in order.
func readFields(t testing.TB, group string, known []string) map[string]string {
	t.Helper()
	out, last := map[string]string{}, -1
	for line := range strings.SplitSeq(strings.TrimSuffix(group, "\r\n"), "\r\n") {
		name, value, ok := strings.Cut(line, ": ")
		at := slices.Index(known, name)
		if !ok || at <= last {
			t.Fatalf("field %q is unknown, out of order or there twice", line)
		}
		out[name], last = value, at
		if f := forms[name]; f != nil && !f.MatchString(value) {
			t.Fatalf("field %q has another form", line)
		}
		if strings.HasSuffix(name, "-Date") || name == "Will-Retry-Until" {
			if _, err := netmail.ParseDate(value); err != nil {
				t.Fatalf("field %q: %v", line, err)
			}
		}
	}
	return out
}

var embedded = regexp.MustCompile(`\\x\{([0-9A-F]{2,6})\}`)

// recipient decodes Final-Recipient.
func (d dsn) recipient(t testing.TB) string {
	t.Helper()
	kind, text, _ := strings.Cut(d.rcpt["Final-Recipient"], "; ")
	if kind == "rfc822" || d.media == "message/global-delivery-status" {
		return text
	}
	if strings.ContainsAny(embedded.ReplaceAllString(text, ""), `\ =+`) {
		t.Fatalf("not utf-8-addr-xtext: %q", text)
	}
	return embedded.ReplaceAllStringFunc(text, func(s string) string {
		n, err := strconv.ParseUint(s[3:len(s)-1], 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		return string(rune(n))
	})
}
