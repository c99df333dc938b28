package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const smallLimits = "[limits]\nmessage_size = \"1MiB\"\napi_body = \"2MiB\"\nrecipients = 5\n"

// TestBadInput hands in what is wrong through every door. Each gets a clear
// refusal, and nothing of it is stored.
func TestBadInput(t *testing.T) {
	s := newSite(t, "", "")
	appendTo(t, s.config(), smallLimits)
	s.start()
	before := len(events(t, s))
	t.Run("API", func(t *testing.T) { badRequests(t, s) })
	t.Run("Relay", func(t *testing.T) {
		badMail(t, func(t *testing.T) *smtpDoor { return dialRelay(t, s.relay) })
	})
	t.Run("Submission", func(t *testing.T) {
		badMail(t, func(t *testing.T) *smtpDoor { return dialSubmission(t, s) })
	})
	if n := len(events(t, s)) - before; n != 0 {
		t.Errorf("%d events were recorded", n)
	}
	staged, err := os.ReadDir(filepath.Join(s.data, "staging"))
	if err != nil || len(staged) != 0 {
		t.Errorf("%d files were left in the staging folder, %v", len(staged), err)
	}
	if got := s.net.Messages(""); len(got) != 0 {
		t.Errorf("%d messages were sent", len(got))
	}
}

func appendTo(t *testing.T, file, text string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, append(b, text...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// refusal is a problem of RFC 9457 as the API answers it.
type refusal struct {
	Status int    `json:"status"`
	Code   string `json:"code"`
	Errors []struct {
		Code    string `json:"code"`
		Pointer string `json:"pointer"`
	} `json:"errors"`
}

func (r refusal) names(code, pointer string) bool {
	for _, e := range r.Errors {
		if e.Code == code && e.Pointer == pointer {
			return true
		}
	}
	return r.Code == code && pointer == ""
}

// refused posts a body that must be refused, and gives the answer.
func (s *site) refused(t *testing.T, body []byte) (r refusal, text string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, s.url+"/api/v1/messages", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	status, text, h := read(t, resp)
	if err := json.Unmarshal([]byte(text), &r); err != nil || r.Status != status || h.Get("Content-Type") != "application/problem+json" {
		t.Errorf("the answer is no problem: %d %s %.200s", status, h.Get("Content-Type"), text)
	}
	return r, text
}

const good = `"from":"dr.ada@clinic.test","to":["mira@modern.example"],"text":"x"`

func badRequests(t *testing.T, s *site) {
	type want struct {
		status        int
		code, pointer string
	}
	for body, w := range map[string]want{
		`{` + good: {400, "not_json", ""},
		`{"from":"dr.ada@clinic.test","to":["mira@modern.example"],"text":"` + "\xff\xfe" + `"}`: {400, "not_unicode", "/text"},
		`{"from":"dr.ada@clinic.test","to":["mira@modern.example"],"text":"\ud800"}`:             {400, "not_unicode", "/text"},
		`{` + good + `,"sbject":"x"}`: {400, "unknown_key", "/sbject"},
		`{` + good + `,"attachments":[{"filename":"a.txt","content":"aGk=","size":2}]}`: {400, "unknown_key", "/attachments/0/size"},
		`{` + good + `,"text":"y"}`: {400, "repeated_key", "/text"},
		`{` + good + `,"attachments":[{"filename":"a.txt","content":"aGVsbG8"}]}`:                                  {400, "bad_base64", "/attachments/0/content"},
		`{` + good + `,"attachments":[{"filename":"a.txt","content":"a*Vs"}]}`:                                     {400, "bad_base64", "/attachments/0/content"},
		`{"from":"eve@elsewhere.example","to":["mira@modern.example"],"text":"x"}`:                                 {403, "sender_not_verified", "/from"},
		`{"from":"dr.ada@clinic.test","to":[` + strings.Repeat(`"a@b.example",`, 5) + `"c@d.example"],"text":"x"}`: {413, "too_many_recipients", "/to"},
		`{"from":"dr.ada@clinic.test","to":[],"text":"x"}`:                                                         {400, "no_recipient", "/to"},
		`{"from":"dr.ada@clinic.test","to":["mira@modern.example"],"text":"` + strings.Repeat("y", 1<<20) + `"}`:   {413, "message_too_large", ""},
		`{"from":"dr.ada@clinic.test","to":["mira@modern.example"],"text":"` + strings.Repeat("y", 2<<20) + `"}`:   {413, "body_too_large", ""},
		`{` + good + `,"metadata":{"a":` + strings.Repeat(`[`, 200) + strings.Repeat(`]`, 200) + `}}`:              {400, "too_deep", ""},
	} {
		r, text := s.refused(t, []byte(body))
		if r.Status != w.status || !r.names(w.code, w.pointer) {
			t.Errorf("%.150s: %.400s, want %+v", body, text, w)
		}
	}
	injections(t, s)
}

// injections puts line ends, NUL and encoded words that hide them into every
// field that becomes part of a header or an envelope.
func injections(t *testing.T, s *site) {
	attachment := func(name, kind string) any {
		return []any{map[string]any{"filename": name, "content_type": kind, "content": "aGk="}}
	}
	fields := map[string]func(bad string) map[string]any{
		"/from": func(bad string) map[string]any { return map[string]any{"from": "Ada" + bad + " <dr.ada@clinic.test>"} },
		"/to/0": func(bad string) map[string]any { return map[string]any{"to": []string{"mira@modern.example" + bad}} },
		"/cc/0": func(bad string) map[string]any {
			return map[string]any{"cc": []string{"M" + bad + " <mira@modern.example>"}}
		},
		"/bcc/0": func(bad string) map[string]any {
			return map[string]any{"bcc": []string{"mira" + bad + "@modern.example"}}
		},
		"/reply_to/0": func(bad string) map[string]any { return map[string]any{"reply_to": []string{bad + "x@clinic.test"}} },
		"/subject":    func(bad string) map[string]any { return map[string]any{"subject": "x" + bad + "y"} },
		"/headers/X-Visit": func(bad string) map[string]any {
			return map[string]any{"headers": map[string]string{"X-Visit": "1" + bad}}
		},
		"/attachments/0/filename": func(bad string) map[string]any {
			return map[string]any{"attachments": attachment("a"+bad+".txt", "text/plain")}
		},
		"/attachments/0/content_type": func(bad string) map[string]any {
			return map[string]any{"attachments": attachment("a.txt", "text/plain"+bad)}
		},
		"/tags/0":         func(bad string) map[string]any { return map[string]any{"tags": []string{"x" + bad}} },
		"/metadata/visit": func(bad string) map[string]any { return map[string]any{"metadata": map[string]string{"visit": bad}} },
	}
	for pointer, with := range fields {
		for _, bad := range []string{"\r\nBcc: eve@evil.example", "\nBcc: eve@evil.example", "\rX: y", "\x00"} {
			if pointer == "/metadata/visit" && strings.HasPrefix(bad, "\n") {
				continue // never part of a message; a line feed may stand there
			}
			message := map[string]any{"from": "dr.ada@clinic.test", "to": []string{"mira@modern.example"}, "text": "x"}
			maps.Copy(message, with(bad))
			body, err := json.Marshal(message)
			if err != nil {
				t.Fatal(err)
			}
			r, text := s.refused(t, body)
			if r.Status != http.StatusBadRequest || !slices.ContainsFunc(r.Errors, func(e struct {
				Code    string `json:"code"`
				Pointer string `json:"pointer"`
			}) bool {
				return e.Pointer == pointer
			}) {
				t.Errorf("%s with %q: %s", pointer, bad, text)
			}
			if strings.Contains(text, "evil") {
				t.Errorf("%s: the answer repeats the value: %s", pointer, text)
			}
		}
	}
}

// dialSubmission gives a session inside TLS that has authenticated.
func dialSubmission(t *testing.T, s *site) *smtpDoor {
	t.Helper()
	conn, err := tls.Dial("tcp", s.submissions, &tls.Config{RootCAs: s.net.CAPool(), ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	d := newDoor(t, conn)
	plain := base64.StdEncoding.EncodeToString([]byte("\x00apikey\x00" + s.key))
	if reply := d.ask(t, "AUTH PLAIN %s", plain); !strings.HasPrefix(reply, "235 ") {
		t.Fatal(reply)
	}
	return d
}

const from = "From: dr.ada@clinic.test\r\n"

func badMail(t *testing.T, dial func(t *testing.T) *smtpDoor) {
	envelopes := []struct{ lines, want string }{
		{"MAIL FROM:<dr.ada@clinic.test> SIZE=2000000", "552 5.3.4 "},
		{"MAIL FROM:<eve@elsewhere.example>", "550 5.7.1 "},
		{"MAIL FROM:<dr.ada@clinic.test> X=Y", "555 5.5.4 "},
		{"MAIL FROM:<dr.ada@clinic.test\xff>", "501 5.5.4 "},
		{"MAIL FROM:<dr.ada@clinic.test>\nRCPT TO:<a@b.example>", "500 5.5.2 "},
		{"MAIL FROM:<dr.ada@clinic.test>\rRCPT TO:<a@b.example>", "500 5.5.2 "},
		{"NOOP \x00", "500 5.5.2 "},
		{"NOOP " + strings.Repeat("x", 20_000), "500 5.5.2 "},
		{"MAIL FROM:<dr.ada@clinic.test>|RCPT TO:<mira>", "553 5.1.3 "},
		{"MAIL FROM:<dr.ada@clinic.test>|RCPT TO:<jörg@modern.example>", "553 5.6.7 "},
		{"MAIL FROM:<dr.ada@clinic.test>|" + strings.Repeat("RCPT TO:<mira@modern.example>|", 5) + "RCPT TO:<a@b.example>", "452 4.5.3 "},
	}
	for _, e := range envelopes {
		d := dial(t)
		var reply string
		for line := range strings.SplitSeq(e.lines, "|") {
			reply = d.ask(t, "%s", line)
		}
		if !strings.HasPrefix(reply, e.want) {
			t.Errorf("%.80q: %s, want %s", e.lines, reply, e.want)
		}
	}
	d := dial(t)
	for message, want := range map[string]string{
		from + "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("y", 998)+"\r\n", 1100): "552 5.3.4 ",
		from + "this is no field\r\n\r\nx\r\n":                                              "554 5.6.0 ",
		" " + from + "\r\nx\r\n":                                                            "554 5.6.0 ",
		from + "Sub ject: x\r\n\r\nx\r\n":                                                   "554 5.6.0 ",
		from + from + "\r\nx\r\n":                                                           "554 5.6.0 ",
		"Subject: x\r\n\r\nx\r\n":                                                           "554 5.6.0 ",
		"From: nobody at all\r\n\r\nx\r\n":                                                  "554 5.6.0 ",
		"From: eve@elsewhere.example\r\n\r\nx\r\n":                                          "550 5.7.1 ",
		"From: dr.ada@clinic.test, eve@elsewhere.example\r\n\r\nx\r\n":                      "550 5.7.1 ",
		from + "Subject: x\nBcc: eve@evil.example\r\n\r\nx\r\n":                             "554 5.6.0 ",
		from + "Subject: x\rBcc: eve@evil.example\r\n\r\nx\r\n":                             "554 5.6.0 ",
		from + "\r\nx\n.\nMAIL FROM:<eve@evil.example>\r\n":                                 "554 5.6.0 ",
		from + "\r\nx\r.\r\n":                                                               "554 5.6.0 ",
		from + "\r\n\x00\r\n":                                                               "554 5.6.0 ",
		from + "\r\n" + strings.Repeat("y", 9000) + "\r\n":                                  "554 5.6.0 ",
		from + strings.Repeat("Received: by a\r\n", 50) + "\r\nx\r\n":                       "554 5.4.6 ",
		from + strings.Repeat("X-A: "+strings.Repeat("y", 70)+"\r\n", 1001) + "\r\nx\r\n":   "552 5.3.4 ",
	} {
		d.mail(t, "dr.ada@clinic.test", "mira@modern.example")
		if reply := d.data(t, message); !strings.HasPrefix(reply, want) {
			t.Errorf("%.80q: %s, want %s", message, reply, want)
		}
	}
}
