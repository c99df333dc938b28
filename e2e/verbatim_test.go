package e2e

import (
	"bytes"
	"fmt"
	"mime"
	netmail "net/mail"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestVerbatim relays what is hard to parse: the bytes of the body arrive as
// they were sent, through either door.
func TestVerbatim(t *testing.T) {
	s := newSite(t, "", "")
	s.start()
	viaRelay, viaSubmission := dialRelay(t, s.relay), dialSubmission(t, s)
	messages := malformed(t)
	for i, message := range messages {
		door := viaRelay
		if i%2 == 0 {
			door = viaSubmission
		}
		to := fmt.Sprintf("m%03d@modern.example", i)
		door.mail(t, "dr.ada@clinic.test", to)
		if reply := door.data(t, message); !strings.HasPrefix(reply, "250 ") {
			t.Errorf("message %d: %s", i, reply)
			continue
		}
		s.arrivesAs(t, to, message)
	}
}

// arrivesAs waits for a message and compares: the header may have gained
// fields, the rest is the same.
func (s *site) arrivesAs(t *testing.T, to, message string) {
	t.Helper()
	got, err := s.net.Wait(t.Context(), to, 1)
	if err != nil {
		t.Fatal(err)
	}
	header, body, _ := strings.Cut(message, "\r\n\r\n")
	gotHeader, gotBody, _ := bytes.Cut(got[0].Raw, []byte("\r\n\r\n"))
	if string(gotBody) != body {
		t.Errorf("%s: the body of %d octets arrived with %d, or others", to, len(body), len(gotBody))
	}
	if !strings.Contains("\r\n"+string(gotHeader)+"\r\n", "\r\n"+header+"\r\n") {
		t.Errorf("%s: the header was changed", to)
	}
}

var mimeField = regexp.MustCompile(`(?im)^(?:content-[a-z-]+|mime-version):.*(?:\r\n[ \t].*)*`)

// malformed gives the samples of the corpus, each with its own body and
// description of it under a sender of ours.
func malformed(t *testing.T) (all []string) {
	t.Helper()
	files, err := filepath.Glob("../internal/mail/testdata/corpus/*/*.eml")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d samples, %v", len(files), err)
	}
	ends := strings.NewReplacer("\r\n", "\r\n", "\n", "\r\n", "\r", "", "\x00", "")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		header, body, _ := strings.Cut(ends.Replace(string(b)), "\r\n\r\n")
		m := "From: dr.ada@clinic.test\r\nSubject: sample\r\n"
		for _, field := range mimeField.FindAllString(header, -1) {
			m += strings.TrimRight(field, "\r\n") + "\r\n"
		}
		all = append(all, m+"\r\n"+strings.TrimRight(body, "\r\n")+"\r\n")
	}
	return all
}

// deep is a message of 200 parts, each within the one before it.
func deep() string {
	m := strings.Builder{}
	m.WriteString("From: dr.ada@clinic.test\r\nSubject: deep\r\nMIME-Version: 1.0\r\n")
	for i := range 200 {
		fmt.Fprintf(&m, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	m.WriteString("Content-Type: text/plain\r\n\r\nthe innermost part\r\n")
	for i := 199; i >= 0; i-- {
		fmt.Fprintf(&m, "--b%d--\r\n", i)
	}
	return m.String()
}

// TestDeepMultipart relays 200 parts within each other in less than a second,
// the best of three, and shows them in the portal.
func TestDeepMultipart(t *testing.T) {
	s := newSite(t, "", "")
	s.start()
	message := deep()
	for _, door := range []*smtpDoor{dialRelay(t, s.relay), dialSubmission(t, s)} {
		best := time.Hour
		for i := range 3 {
			to := fmt.Sprintf("d%d-%d@modern.example", i, door.port)
			began := time.Now()
			door.mail(t, "dr.ada@clinic.test", to)
			if reply := door.data(t, message); !strings.HasPrefix(reply, "250 ") {
				t.Fatal(reply)
			}
			s.arrivesAs(t, to, message)
			best = min(best, time.Since(began))
		}
		if best > time.Second {
			t.Errorf("it took %v", best)
		}
	}
	door := dialRelay(t, s.relay)
	door.mail(t, "dr.ada@clinic.test", "edith@expired.example")
	if reply := door.data(t, message); !strings.HasPrefix(reply, "250 ") {
		t.Fatal(reply)
	}
	if page := s.reader("edith@expired.example").open(); !strings.Contains(page, "message.eml") && !strings.Contains(page, "the innermost part") {
		t.Errorf("the portal shows neither the text nor a file:\n%s", page)
	}
}

// TestEncodedWords hides line ends in encoded words (RFC 2047). They arrive as
// the text they were handed in as, or are refused; no reader of the mail finds
// a field that was smuggled in.
func TestEncodedWords(t *testing.T) {
	s := newSite(t, "", "")
	s.start()
	const trick = "=?utf-8?q?x=0D=0ABcc:_eve@evil.example?="
	r, err := s.post(map[string]any{"to": []string{"mira@modern.example"}, "subject": trick, "text": "x"})
	if err != nil {
		t.Fatal(err)
	}
	s.settles(r.Deliveries[0].ID, "delivered")
	got, err := netmail.ReadMessage(bytes.NewReader(s.net.Messages("mira@modern.example")[0].Raw))
	if err != nil {
		t.Fatal(err)
	}
	if subject, err := new(mime.WordDecoder).DecodeHeader(got.Header.Get("Subject")); err != nil || subject != trick {
		t.Errorf("the subject arrives as %q, %v", subject, err)
	}
	for field, message := range map[string]map[string]any{
		"headers":  {"headers": map[string]string{"X-Visit": trick}},
		"from":     {"from": trick + " <dr.ada@clinic.test>"},
		"to":       {"to": []string{trick + " <mira@modern.example>"}},
		"filename": {"attachments": []any{map[string]any{"filename": trick, "content": "aGk="}}},
	} {
		to := field + "@modern.example"
		message["text"] = "x"
		if message["to"] == nil {
			message["to"] = []string{to}
		}
		r, err := s.post(message)
		if err != nil {
			continue // refused
		}
		if field == "headers" {
			t.Error("a header field of the caller's hides a line end and was taken")
		}
		s.settles(r.Deliveries[0].ID, "delivered")
		all := s.net.Messages("")
		raw := all[len(all)-1].Raw
		if found := regexp.MustCompile(`(?im)^bcc:`).Find(raw); found != nil {
			t.Errorf("%s: a field was smuggled in:\n%s", field, raw)
		}
		parsed, err := netmail.ReadMessage(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		for name, values := range parsed.Header {
			for _, v := range values {
				if text, err := new(mime.WordDecoder).DecodeHeader(v); err == nil && strings.ContainsAny(text, "\r\n\x00") {
					t.Errorf("%s: the field %s decodes to a line end:\n%s", field, name, raw)
				}
			}
		}
	}
}
