// Package browser looks at what people see with Chromium: the portal, the
// notice, the page of the API and the mailboxes of the demo. It needs Node, the
// packages of this folder and Debian's chromium; `make test` sees to them.
//
// SHOTS=folder keeps a picture of every page.
package browser

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"net/http"
	"net/smtp"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealpost/sealpost/e2e/internal/product"
)

// site is what walk.mjs needs to know.
type site struct {
	Portal    string            `json:"portal"`
	Mailboxes string            `json:"mailboxes"`
	Key       string            `json:"key"`
	Letters   map[string]letter `json:"letters"`
}

type letter struct {
	To      string `json:"to"`
	Message string `json:"message,omitempty"` // id, if it went through the API
}

// ready is the first line of `sealpost demo --json`.
type ready struct {
	Event     string `json:"event"`
	Portal    string `json:"portal_url"`
	Mailboxes string `json:"mailboxes_url"`
	Key       string `json:"api_key"`
	From      string `json:"from"`
	Relay     string `json:"relay_addr"`
}

func TestPages(t *testing.T) {
	requirements(t)
	demo := startDemo(t)
	s := site{Portal: demo.Portal, Mailboxes: demo.Mailboxes, Key: demo.Key, Letters: map[string]letter{}}
	for name, content := range letters(t) {
		s.Letters[name] = letter{To: address(name)}
		head := "From: \"Dr. Lee, Cardiology\" <" + demo.From + ">\nTo: " + address(name) + "\nSubject: Your lab results are ready\n" +
			"Date: Mon, 05 Oct 2026 14:02:00 +0200\nMIME-Version: 1.0\n"
		if err := relay(demo, address(name), strings.ReplaceAll(head+content, "\n", "\r\n")); err != nil {
			t.Fatalf("send %s: %v", name, err)
		}
	}
	s.Letters["takenBack"] = letter{address("takenBack"), send(t, demo, address("takenBack"))}
	for _, l := range s.Letters {
		awaitNotice(t, demo.Mailboxes, l.To)
	}
	walk(t, s)
}

// walk runs the browser; every line it prints is a fault.
func walk(t *testing.T, s site) {
	t.Helper()
	told, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "walk.mjs")
	cmd.Env = append(os.Environ(), "SITE="+string(told))
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	for line := range strings.Lines(string(out)) {
		t.Error(strings.TrimSpace(line))
	}
	if err != nil && (len(out) == 0 || errs.Len() > 0) {
		t.Errorf("walk.mjs: %v\n%s", err, errs.Bytes())
	}
}

// requirements says in one sentence what to do about what is missing.
func requirements(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		t.Fatal("Node is missing: install Debian's package nodejs, or run make test, which does.")
	}
	chromium := os.Getenv("CHROMIUM")
	if chromium == "" {
		chromium = "/usr/bin/chromium"
	}
	if _, err := os.Stat(chromium); err != nil {
		t.Fatal("Chromium is missing: install Debian's package chromium, or name the program in CHROMIUM.")
	}
	for _, name := range []string{"playwright-core", "axe-core"} {
		if _, err := os.Stat(filepath.Join("node_modules", name)); err != nil {
			t.Fatalf("The package %s is missing: run make test, or npm ci in e2e/browser.", name)
		}
	}
}

// startDemo builds the program and runs its demo until the test ends.
func startDemo(t *testing.T) ready {
	t.Helper()
	binary, err := product.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "demo", "--json")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// The demo removes its folder when it is asked to stop.
	stuck := time.AfterFunc(10*time.Minute, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		stuck.Reset(20 * time.Second)
		_ = cmd.Wait()
		stuck.Stop()
	})
	lines := bufio.NewReader(out)
	first, err := lines.ReadBytes('\n')
	var r ready
	if err != nil || json.Unmarshal(first, &r) != nil || r.Event != "ready" {
		t.Fatalf("the demo did not start: %v\n%s%s", err, first, errs.Bytes())
	}
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	return r
}

// address is a mailbox of its own for each letter, where the demo's mail
// servers have no certificate to be trusted, so that the letter waits in the
// portal.
func address(name string) string { return strings.ToLower(name) + "@self-signed.example" }

// relay hands in a mail as a program on the same machine does.
func relay(demo ready, to, mail string) error {
	c, err := smtp.Dial(demo.Relay)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Mail(demo.From); err != nil {
		return err
	}
	if err := c.Rcpt(to); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, mail); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return c.Quit()
}

// send hands in a message through the API and gives its id.
func send(t *testing.T, demo ready, to string) string {
	t.Helper()
	body := fmt.Sprintf(`{"from": %q, "to": [%q], "subject": "Your visit", "text": "Please bring your papers."}`, demo.From, to)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, demo.Portal+"/api/v1/messages", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+demo.Key)
	req.Header.Set("Content-Type", "application/json")
	var made struct {
		ID string `json:"id"`
	}
	do(t, req, &made)
	return made.ID
}

func do(t *testing.T, req *http.Request, into any) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 || json.Unmarshal(body, into) != nil {
		t.Fatalf("%s %s: %s %v\n%s", req.Method, req.URL.Path, resp.Status, err, body)
	}
}

func awaitNotice(t *testing.T, mailboxes, to string) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, mailboxes+"/messages?to="+url.QueryEscape(to), nil)
		if err != nil {
			t.Fatal(err)
		}
		var mails []struct{}
		if do(t, req, &mails); len(mails) > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no notice came to %s", to)
		}
	}
}

const (
	text = "Content-Type: text/plain; charset=utf-8\n\nDear Pat,\n\nYour cholesterol is within the normal range. " +
		"Please keep taking your medication as before.\n\n" +
		"More to read: https://clinic.example/cholesterol/what-the-numbers-mean-and-what-you-can-do-yourself?lang=en\n\n" +
		"Call us if you have questions.\n\nDr. Lee\n"
	designed = `<table width="600" cellpadding="0" cellspacing="0" bgcolor="#f0f4fa" style="font-family:Arial,sans-serif"><tr><td style="padding:24px">` +
		`<img src="cid:logo" width="120" height="40" alt="Riverside Clinic"><h1 style="color:#1d5fb4">Your next visit</h1>` +
		`<p>Please come on <b>12 October at 9:30</b>. <a href="https://clinic.example/map">How to find us</a></p>` +
		`<img src="https://tracker.example/pixel.gif" width="1" height="1"><script>document.title="x"</script></td></tr></table>`
)

// letters are what recipients open, each named after the walk that opens it.
func letters(t *testing.T) map[string]string {
	file := func(name string, size int) string {
		return "--m\nContent-Type: application/pdf\nContent-Disposition: attachment; filename=\"" + name +
			"\"\nContent-Transfer-Encoding: base64\n\n" + wrapped(make([]byte, size)) + "\n"
	}
	withFiles := "Content-Type: multipart/mixed; boundary=m\n\n--m\n" + text + file("results.pdf", 211_700) +
		file("a very long name of a file that somebody's scanner made 2026-10-05 14.01.37 (final) (copy).pdf", 5_242_880) + "--m--\n"
	html := "Content-Type: multipart/related; boundary=r\n\n--r\nContent-Type: text/html; charset=utf-8\n\n" + designed +
		"\n--r\nContent-Type: image/png\nContent-ID: <logo>\nContent-Transfer-Encoding: base64\n\n" + wrapped(picture(t)) + "\n--r--\n"
	return map[string]string{
		"text":   withFiles,
		"plain":  withFiles,
		"html":   html,
		"both":   "Content-Type: multipart/alternative; boundary=a\n\n--a\n" + text + "--a\n" + html + "--a--\n",
		"broken": "Content-Type: multipart/mixed\n\nThere is no boundary.\n",
		"again":  text,
		"notice": text,
	}
}

// picture is a plain blue logo.
func picture(t *testing.T) []byte {
	t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, 120, 40))
	for i := range 120 * 40 {
		m.Set(i%120, i/120, color.RGBA{29, 95, 180, 255})
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// wrapped is base64 in lines that SMTP takes.
func wrapped(b []byte) string {
	s := base64.StdEncoding.EncodeToString(b)
	var out strings.Builder
	for len(s) > 76 {
		out.WriteString(s[:76] + "\n")
		s = s[76:]
	}
	return out.String() + s
}
