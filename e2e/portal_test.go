package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/mail"
)

// reader is a person with a browser and a mailbox.
type reader struct {
	t       testing.TB
	s       *site
	address string
	client  *http.Client
}

func (s *site) reader(address string) *reader {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return &reader{s.t, s, address, &http.Client{Jar: jar, Timeout: 30 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.net.CAPool()}}}}
}

var (
	linkForm = regexp.MustCompile(`https?://[^\s"<>]+/m/[A-Za-z0-9_-]+`)
	codeForm = regexp.MustCompile(`\b\d{3} ?\d{3}\b`)
)

// mail gives the text of the nth mail, from 1, once it is there.
func (r *reader) mail(n int) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	got, err := r.s.net.Wait(ctx, r.address, n)
	if err != nil {
		r.t.Fatalf("mail %d never came: %v", n, err)
	}
	view, err := mail.Parse(strings.NewReader(string(got[n-1].Raw)), mail.Limits{})
	if err != nil {
		r.t.Fatal(err)
	}
	return view.Text.Reveal()
}

func (r *reader) get(path string) (int, string, http.Header) {
	r.t.Helper()
	resp, err := r.client.Get(path)
	if err != nil {
		r.t.Fatal(err)
	}
	return read(r.t, resp)
}

func (r *reader) post(path string, form url.Values) (int, string, http.Header) {
	r.t.Helper()
	resp, err := r.client.PostForm(path, form)
	if err != nil {
		r.t.Fatal(err)
	}
	return read(r.t, resp)
}

func read(t testing.TB, resp *http.Response) (int, string, http.Header) {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

// open follows the link of the first notice, asks for a code, types it in and
// gives the page with the message.
func (r *reader) open() string {
	r.t.Helper()
	link := linkForm.FindString(r.mail(1))
	if link == "" {
		r.t.Fatalf("the notice has no link")
	}
	before := len(r.s.net.Messages(r.address))
	if code, page, _ := r.get(link); code != http.StatusOK || strings.Contains(page, `name="code"`) {
		r.t.Fatalf("the link's page: %d\n%s", code, page)
	}
	if code, page, _ := r.post(link+"/code", nil); code != http.StatusOK {
		r.t.Fatalf("asking for a code: %d\n%s", code, page)
	}
	digits := codeForm.FindString(r.mail(before + 1))
	code, page, _ := r.post(link+"/open", url.Values{"code": {digits}})
	if code != http.StatusOK {
		r.t.Fatalf("opening with the code: %d\n%s", code, page)
	}
	return page
}

// TestPortal walks from the notice to the message and its attachment.
func TestPortal(t *testing.T) {
	eachSite(t, "", func(t *testing.T, s *site) {
		s.start()
		const secret = "Your hemoglobin is 13.9 g/dl"
		r, err := s.post(map[string]any{"to": []string{"edith@expired.example"}, "subject": "Your blood test",
			"text": secret, "html": "<p><b>" + secret + "</b><script>alert(1)</script></p>",
			"attachments": []map[string]any{{"filename": "report.txt", "content_type": "text/plain", "content": "aGVsbG8="}}})
		if err != nil {
			t.Fatal(err)
		}
		d := s.settles(r.Deliveries[0].ID, "waiting")
		p := s.reader("edith@expired.example")
		notice := p.mail(1)
		for _, private := range []string{secret, "blood", "dr.ada"} {
			if strings.Contains(notice, private) {
				t.Errorf("the notice contains %q", private)
			}
		}
		page := p.open()
		for _, want := range []string{secret, "Your blood test", "report.txt"} {
			if !strings.Contains(page, want) {
				t.Errorf("the page lacks %q:\n%s", want, page)
			}
		}
		if code, body, h := p.get(s.url + "/read/html"); code != http.StatusOK || strings.Contains(body, "<script") ||
			!strings.Contains(h.Get("Content-Security-Policy"), "sandbox") {
			t.Errorf("HTML view: %d %v\n%s", code, h, body)
		}
		if code, body, h := p.get(s.url + "/read/file/0"); code != http.StatusOK || body != "hello" || !strings.HasPrefix(h.Get("Content-Disposition"), "attachment") {
			if code, body, _ = p.get(s.url + "/read/file/1"); code != http.StatusOK || body != "hello" {
				t.Errorf("attachment: %d %v %q", code, h, body)
			}
		}
		if got := s.state(d.ID); got.State != "read" {
			t.Errorf("after reading the delivery is %s", got.State)
		}
		if code, _, _ := s.reader("x").get(s.url + "/read"); code == http.StatusOK {
			t.Error("somebody without a session reads the message")
		}
		// Taken back: nothing opens any more.
		if _, err := s.call(http.MethodPost, fmt.Sprintf("/api/v1/messages/%s/cancel", r.ID), nil, nil); err != nil {
			t.Logf("cancel after reading: %v", err)
		}
	})
}
