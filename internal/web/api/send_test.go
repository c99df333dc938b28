package api

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
)

const small = `{"from":"ada@clinic.example","to":["pat@good.example"],"text":"hello"}`

func TestSend(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		a := w.send(`{
			"from": "Ada Lövelace <ada@clinic.example>", "to": ["Pat <pat@good.example>", "pat@good.example"], "cc": ["weak@weak.example"],
			"bcc": ["hidden@none.example"], "reply_to": ["desk@clinic.example"], "subject": "Results \u00e9\ud83d\ude00",
			"text": "line one\nline two", "html": "<p>hi</p>", "headers": {"X-Case": "42"},
			"attachments": [{"filename": "r\u00e9sum\u00e9.pdf", "content_type": "application/pdf", "content": "aGVs\u0062G8="}],
			"purpose": "payment", "tags": ["lab"], "metadata": {"case": "A-17"}, "send_at": "2026-03-01T09:00:00+01:00"}`)
		if a.status != http.StatusAccepted || !strings.HasPrefix(a.header.Get("Location"), "/api/v1/messages/msg_") || a.header.Get("Idempotent-Replayed") != "" {
			t.Fatalf("send: %d %v %s", a.status, a.header, a.text)
		}
		got := map[string]string{}
		for _, x := range a.body["deliveries"].([]any) {
			dl := x.(map[string]any)
			if dl["final"] != false || !strings.HasPrefix(dl["id"].(string), "dlv_") || dl["reason"] == "" {
				t.Errorf("delivery: %v", dl)
			}
			got[dl["recipient"].(string)] = fmt.Sprint(dl["seal"], " ", dl["grade"], " ", dl["state"])
		}
		want := map[string]string{"pat@good.example": "tls verified ready", "weak@weak.example": "portal  ready", "hidden@none.example": "  ready"}
		if !maps.Equal(got, want) {
			t.Errorf("deliveries: %v, want %v", got, want)
		}
		m := w.Stored()[0]
		for _, part := range []string{"From: =?utf-8?", "Reply-To: desk@clinic.example\r\n", "X-Case: 42\r\n", "Content-Type: application/pdf", "aGVsbG8=", "with HTTP", "line one\r\nline two\r\n"} {
			if !strings.Contains(m, part) {
				t.Errorf("no %q in\n%s", part, m)
			}
		}
		if strings.Contains(m, "hidden") || strings.Contains(strings.ToLower(m), "bcc") {
			t.Errorf("the blind copy shows in\n%s", m)
		}
		for _, private := range []string{"pat", "hidden", "Results", "case", "lab", w.key} {
			if strings.Contains(w.log.String(), private) {
				t.Errorf("the log holds %q: %s", private, w.log.String())
			}
		}
	})
}

func TestScheduledAndHeld(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	a := w.send(`{"from":"ada@clinic.example","to":["pat@good.example"],"text":"x","send_at":"2026-03-02T08:00:00Z"}`)
	if dl := a.body["deliveries"].([]any)[0].(map[string]any); dl["state"] != "scheduled" || dl["reason_code"] != "send_at" {
		t.Errorf("scheduled: %v", dl)
	}
	// No key of the recipient is known, so pgp leaves no way.
	a = w.send(`{"from":"ada@clinic.example","to":["pat@good.example"],"text":"x","seal":"portal"}`)
	if dl := a.body["deliveries"].([]any)[0].(map[string]any); dl["seal"] != "portal" || dl["state"] != "ready" {
		t.Errorf("portal: %v", dl)
	}
}

func TestPreview(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	a := w.ask("POST", "/api/v1/seal/preview", `{"from":"ada@clinic.example","to":["pat@good.example","x@weak.example"],"text":"hello"}`)
	if a.status != http.StatusOK {
		t.Fatalf("preview: %d %s", a.status, a.text)
	}
	first := a.body["deliveries"].([]any)[0].(map[string]any)
	if first["seal"] != "tls" || first["rule"] != "default" || first["reason"] != "The recipient's domain is known to offer verified TLS." || first["id"] != nil {
		t.Errorf("preview: %v", first)
	}
	if n := len(w.Stored()); n != 0 {
		t.Errorf("a preview stored %d messages", n)
	}
}

// body makes a request with one field changed.
func with(field, value string) string {
	fields := map[string]string{"from": `"ada@clinic.example"`, "to": `["pat@good.example"]`, "text": `"hello"`}
	fields[field] = value
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		if fields[k] != "" {
			parts = append(parts, `"`+k+`":`+fields[k])
		}
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func TestRefusals(t *testing.T) {
	long := strings.Repeat("x", 1001)
	cases := []struct {
		name, body string
		status     int
		mistakes   map[string]string // or the code alone under ""
	}{
		{"empty body", ``, 415, nil},
		{"no JSON", `{`, 400, map[string]string{"": "not_json"}},
		{"two documents", small + small, 400, map[string]string{"": "not_json"}},
		{"trailing comma", `{"from":"a@clinic.example",}`, 400, map[string]string{"": "not_json"}},
		{"a list", `[]`, 400, map[string]string{"": "wrong_type"}},
		{"null", `null`, 400, map[string]string{"": "wrong_type"}},
		{"unknown key", with("form", `"x"`), 400, map[string]string{"/form": "unknown_key"}},
		{"unknown deep key", with("attachments", `[{"filename":"a","content":"","conten_type":{"x":[1,{}]}}]`), 400, map[string]string{"/attachments/0/conten_type": "unknown_key"}},
		{"odd key", with("x/y~\\u0000\\u20ac", `1`), 400, map[string]string{"/x~1y~0?€": "unknown_key"}},
		{"repeated key", `{"from":"ada@clinic.example","to":["pat@good.example"],"text":"a","text":"b"}`, 400, map[string]string{"/text": "repeated_key"}},
		{"repeated header", with("headers", `{"X-A":"1","X-A":"2"}`), 400, map[string]string{"/headers/X-A": "repeated_key"}},
		{"wrong types", with("to", `"pat@good.example"`), 400, map[string]string{"/to": "wrong_type"}},
		{"null value", with("cc", `null`), 400, map[string]string{"/cc": "wrong_type"}},
		{"number for text", with("subject", `12`), 400, map[string]string{"/subject": "wrong_type"}},
		{"missing from", with("from", ``), 400, map[string]string{"/from": "missing"}},
		{"missing content", with("attachments", `[{"filename":"a"}]`), 400, map[string]string{"/attachments/0/content": "missing"}},
		{"invalid UTF-8", with("subject", "\"a\xff\""), 400, map[string]string{"/subject": "not_unicode"}},
		{"half a surrogate", with("subject", `"\ud83d"`), 400, map[string]string{"/subject": "not_unicode"}},
		{"two high surrogates", with("subject", `"\ud83d\ud83d"`), 400, map[string]string{"/subject": "not_unicode"}},
		{"base64", with("attachments", `[{"filename":"a","content":"****"}]`), 400, map[string]string{"/attachments/0/content": "bad_base64"}},
		{"base64 without padding", with("attachments", `[{"filename":"a","content":"aGVsbG8"}]`), 400, map[string]string{"/attachments/0/content": "bad_base64"}},
		{"base64 with lines", with("attachments", `[{"filename":"a","content":"aGVs\r\nbG8="}]`), 400, map[string]string{"/attachments/0/content": "bad_base64"}},
		{"base64 with odd bits", with("attachments", `[{"filename":"a","content":"aGVsbG9="}]`), 400, map[string]string{"/attachments/0/content": "bad_base64"}},
		{"time", with("send_at", `"tomorrow"`), 400, map[string]string{"/send_at": "bad_time"}},
		{"far time", with("send_at", `"2030-01-01T00:00:00Z"`), 400, map[string]string{"/send_at": "send_at_too_far"}},
		{"past expiry", with("expires_at", `"2026-02-01T00:00:00Z"`), 400, map[string]string{"/expires_at": "expires_too_soon"}},
		{"addresses", with("to", `["pat@good.example","nobody",""]`), 400, map[string]string{"/to/1": "bad_address", "/to/2": "bad_address"}},
		{"two in one", with("to", `["a@good.example, b@good.example"]`), 400, map[string]string{"/to/0": "bad_address"}},
		{"no recipient", with("to", ``), 400, map[string]string{"/to": "no_recipient"}},
		{"no content", with("text", ``), 400, map[string]string{"/text": "no_content"}},
		{"stream", with("stream", `"slow"`), 400, map[string]string{"/stream": "unknown_stream"}},
		{"priority", with("priority", `10`), 400, map[string]string{"/priority": "bad_priority"}},
		{"priority as text", with("priority", `"5"`), 400, map[string]string{"/priority": "wrong_type"}},
		{"priority of nothing", with("priority", `null`), 400, map[string]string{"/priority": "wrong_type"}},
		{"words", with("purpose", `"fun"`), 400, map[string]string{"/purpose": "unknown_purpose"}},
		{"seal", with("seal", `"wax"`), 400, map[string]string{"/seal": "unknown_seal"}},
		{"tags", with("tags", `["`+long+`",""]`), 400, map[string]string{"/tags/0": "too_long", "/tags/1": "empty"}},
		{"metadata", with("metadata", `{"a":"`+long+`","":"x"}`), 400, map[string]string{"/metadata/a": "too_long", "/metadata/": "empty"}},
		{"reserved header", with("headers", `{"Bcc":"x@good.example","X-Foo":"fine","DKIM-Signature":"v=1"}`), 400, map[string]string{"/headers/Bcc": "reserved_header", "/headers/DKIM-Signature": "reserved_header"}},
		{"header name", with("headers", `{"X Foo":"x"}`), 400, map[string]string{"/headers/X Foo": "bad_header"}},
		{"not ours", with("from", `"ada@elsewhere.example"`), 403, map[string]string{"/from": "sender_not_verified"}},
		{"another organization's", with("from", `"ada@other.example"`), 403, map[string]string{"/from": "sender_not_verified"}},
		{"too many recipients", with("to", `["pat@good.example"`+strings.Repeat(`,"pat@good.example"`, 20)+`]`), 413, map[string]string{"/to": "too_many_recipients"}},
		{"too large a message", with("text", `"`+strings.Repeat("hello world\\n", 26_000)+`"`), 413, map[string]string{"": "message_too_large"}},
		{"too large a body", with("text", `"`+strings.Repeat("x", 600_000)+`"`), 413, map[string]string{"": "body_too_large"}},
		{"too deep", with("x", strings.Repeat(`[`, 100_000)+strings.Repeat(`]`, 100_000)), 400, nil},
		{"too many values", with("x", `[`+strings.Repeat(`1,`, 60_000)+`1]`), 413, map[string]string{"": "too_many_values"}},
		{"many mistakes", with("cc", `[`+strings.Repeat(`1,`, 500)+`1]`), 400, nil},
	}
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		for _, c := range cases {
			a := w.send(c.body)
			if a.status != c.status || a.header.Get("Content-Type") != "application/problem+json" || a.body["status"] != float64(c.status) {
				t.Errorf("%s: %d %s", c.name, a.status, a.text)
				continue
			}
			if c.mistakes == nil {
				continue
			}
			got := a.mistakes()
			if _, whole := c.mistakes[""]; whole {
				got = map[string]string{"": a.body["code"].(string)}
			}
			if !maps.Equal(got, c.mistakes) {
				t.Errorf("%s: %v, want %v", c.name, got, c.mistakes)
			}
			for _, value := range []string{"tomorrow", "nobody", "wax", "elsewhere", long, "aGVs"} {
				if strings.Contains(c.body, value) && strings.Contains(a.text, value) {
					t.Errorf("%s: the value is repeated: %s", c.name, a.text)
				}
			}
		}
		if n := len(w.Stored()); n != 0 {
			t.Errorf("refusals stored %d messages", n)
		}
	})
}

// TestInjection puts every kind of line break into every field that is not
// text of several lines.
func TestInjection(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	places := map[string]string{
		"/from":                       `{"from":"Ada%s <ada@clinic.example>","to":["pat@good.example"],"text":"x"}`,
		"/to/0":                       `{"from":"ada@clinic.example","to":["Pat%s <pat@good.example>"],"text":"x"}`,
		"/to/1":                       `{"from":"ada@clinic.example","to":["pat@good.example","p%sat@good.example"],"text":"x"}`,
		"/cc/0":                       `{"from":"ada@clinic.example","cc":["\"Pat%s\" <pat@good.example>"],"text":"x"}`,
		"/bcc/0":                      `{"from":"ada@clinic.example","bcc":["pat@good.exam%sple"],"text":"x"}`,
		"/reply_to/0":                 `{"from":"ada@clinic.example","to":["pat@good.example"],"reply_to":["d%s@clinic.example"],"text":"x"}`,
		"/subject":                    `{"from":"ada@clinic.example","to":["pat@good.example"],"subject":"a%s","text":"x"}`,
		"/headers/X-Foo":              `{"from":"ada@clinic.example","to":["pat@good.example"],"headers":{"X-Foo":"a%s"},"text":"x"}`,
		"name":                        `{"from":"ada@clinic.example","to":["pat@good.example"],"headers":{"X-%sFoo":"a"},"text":"x"}`,
		"/attachments/0/filename":     `{"from":"ada@clinic.example","to":["pat@good.example"],"attachments":[{"filename":"a%s.txt","content":""}]}`,
		"/attachments/0/content_type": `{"from":"ada@clinic.example","to":["pat@good.example"],"attachments":[{"filename":"a","content_type":"text/plain%s","content":""}]}`,
		"/tags/0":                     `{"from":"ada@clinic.example","to":["pat@good.example"],"text":"x","tags":["a%s"]}`,
		"/metadata/a":                 `{"from":"ada@clinic.example","to":["pat@good.example"],"text":"x","metadata":{"a":"b%s"}}`,
		"meta name":                   `{"from":"ada@clinic.example","to":["pat@good.example"],"text":"x","metadata":{"a%s":"b"}}`,
		"/purpose":                    `{"from":"ada@clinic.example","to":["pat@good.example"],"text":"x","purpose":"treatment%s"}`,
		"/seal":                       `{"from":"ada@clinic.example","to":["pat@good.example"],"text":"x","seal":"tls%s"}`,
	}
	for place, form := range places {
		for _, bad := range []string{`\r\nBcc: eve@good.example`, `\nBcc: eve@good.example`, `\rBcc: eve@good.example`, `\u0000`, `\r\n\r\nbody`, `\u000b`, `\u007f`} {
			a := w.send(strings.Replace(form, "%s", bad, 1))
			if a.status != http.StatusBadRequest {
				t.Errorf("%s with %s: %d %s", place, bad, a.status, a.text)
				continue
			}
			if got := a.mistakes(); place[0] == '/' && got[place] == "" {
				t.Errorf("%s with %s: mistakes %v", place, bad, got)
			}
		}
	}
	// Encoded words decode to line breaks in names, and are text elsewhere.
	for _, form := range []string{`=?utf-8?q?a=0D=0ABcc=3A_eve=40good.example?=`, `=?utf-8?b?YQ0KQmNjOiBldmVAZ29vZC5leGFtcGxl?=`} {
		if a := w.send(strings.Replace(places["/from"], "%s", " "+form, 1)); a.status != http.StatusBadRequest {
			t.Errorf("encoded word in a name: %d %s", a.status, a.text)
		}
		if a := w.send(strings.Replace(places["/subject"], "%s", form, 1)); a.status != http.StatusAccepted {
			t.Errorf("encoded word in a subject: %d %s", a.status, a.text)
		}
	}
	for _, text := range []string{with("text", `"a\u0000b"`), with("html", `"a\u0000b"`)} {
		if a := w.send(text); a.status != http.StatusBadRequest {
			t.Errorf("NUL in text: %d", a.status)
		}
	}
	for _, m := range w.Stored() {
		header, _, _ := strings.Cut(m, "\r\n\r\n")
		if strings.Contains(strings.ToLower(header), "\r\nbcc:") {
			t.Errorf("a field was injected:\n%s", m)
		}
	}
}

func TestContentType(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	for kind, status := range map[string]int{
		"": 415, "text/plain": 415, "application/x-www-form-urlencoded": 415, "application/json; charset=latin1": 415, "garbage;;": 415,
		"application/json": 202, "application/json; charset=UTF-8": 202, "Application/JSON": 202,
	} {
		if a := w.send(small, "Content-Type", kind); a.status != status {
			t.Errorf("%q: %d", kind, a.status)
		}
	}
	if a := w.send(small, "Content-Encoding", "gzip"); a.status != 415 {
		t.Errorf("gzip: %d", a.status)
	}
}

func TestIdempotency(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		const key = "0190a6e4-7d1c-7c55-9c86-3f0f6f4d2b11"
		var wg sync.WaitGroup
		answers := make([]answer, 50)
		for i := range answers {
			wg.Go(func() { answers[i] = w.send(small, "Idempotency-Key", key) })
		}
		wg.Wait()
		first := 0
		for _, a := range answers {
			if a.status != http.StatusAccepted || a.text != answers[0].text {
				t.Fatalf("racing request: %d %s", a.status, a.text)
			}
			if a.header.Get("Idempotent-Replayed") == "" {
				first++
			}
		}
		if n := len(w.Stored()); n != 1 || first != 1 {
			t.Fatalf("%d messages stored, %d answered as new", n, first)
		}
		if a := w.send(small+" ", "Idempotency-Key", key); a.status != 409 || a.body["code"] != "idempotency_conflict" {
			t.Errorf("another body: %d %s", a.status, a.text)
		}
		if a := w.send(small, "Idempotency-Key", key, "Authorization", "Bearer "+w.scoped["messages:send"]); a.status != 202 || a.text == answers[0].text {
			t.Errorf("another client's key: %d", a.status)
		}
		// A refusal is not remembered.
		if a := w.send(with("to", `[]`), "Idempotency-Key", "second"); a.status != 400 {
			t.Errorf("refused: %d", a.status)
		}
		if a := w.send(small, "Idempotency-Key", "second"); a.status != 202 {
			t.Errorf("after a refusal: %d %s", a.status, a.text)
		}
		w.clock.Advance(72*time.Hour + time.Second)
		if a := w.send(small, "Idempotency-Key", key); a.status != 202 || a.text == answers[0].text {
			t.Errorf("after 72 hours: %d", a.status)
		}
		for _, bad := range []string{" ", "a b", strings.Repeat("x", 256), "k\u00e9y"} {
			if a := w.send(small, "Idempotency-Key", bad); a.status != 400 || a.mistakes()["Idempotency-Key"] != "bad_idempotency_key" {
				t.Errorf("key %q: %d %s", bad, a.status, a.text)
			}
		}
	})
}

func TestAuthentication(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	flipped := w.key[:len(w.key)-2] + "AA"
	for _, header := range []string{"", "Bearer", "Basic " + base64.StdEncoding.EncodeToString([]byte("apikey:"+w.key)), w.key, "Bearer " + flipped, "Bearer " + w.key + "x"} {
		a := w.send(small, "Authorization", header)
		if a.status != 401 || !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer ") || strings.Contains(a.text, "sealpost_") {
			t.Errorf("%.12q: %d %v %s", header, a.status, a.header, a.text)
		}
	}
	if a := w.send(small, "Authorization", "bearer "+w.key); a.status != 202 {
		t.Errorf("bearer in small letters: %d", a.status)
	}
	for _, rt := range w.api.routes {
		for scope, key := range w.scoped {
			a := w.ask(rt.method, strings.Replace(rt.path, "{id}", "msg_00000000000000000000000000", 1), "", "Authorization", "Bearer "+key)
			if denied := a.status == 403; denied != (scope != string(rt.scope)) {
				t.Errorf("%s with %s: %d", rt.name, scope, a.status)
			}
		}
	}
	if n := len(w.scoped); n != len(auth.Scopes()) {
		t.Errorf("%d scopes", n)
	}
}
