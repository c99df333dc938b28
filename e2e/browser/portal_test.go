//go:build browser

// Package browser looks at pages with Chromium. It needs Node, `npm ci` in
// this folder and Debian's chromium:
//
//	go test -tags browser ./e2e/browser
//
// SHOTS=folder also keeps a picture of every page.
package browser

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/pickup/pickuptest"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/web"
	"github.com/sealpost/sealpost/internal/web/portal"
)

const (
	reader = "pat@home.example"
	head   = "From: \"Dr. Lee, Cardiology\" <dr.lee@clinic.example>\nTo: pat@home.example\nSubject: Your lab results are ready\n" +
		"Date: Mon, 05 Oct 2026 14:02:00 +0200\nMIME-Version: 1.0\n"
	page = `<table width="600" cellpadding="0" cellspacing="0" bgcolor="#f0f4fa" style="font-family:Arial,sans-serif"><tr><td style="padding:24px">` +
		`<img src="cid:logo" width="120" height="40" alt="Riverside Clinic"><h1 style="color:#1d5fb4">Your next visit</h1>` +
		`<p>Please come on <b>12 October at 9:30</b>. <a href="https://clinic.example/map">How to find us</a></p>` +
		`<img src="https://tracker.example/pixel.gif" width="1" height="1"><script>document.title="x"</script></td></tr></table>`
)

func picture(t *testing.T) string {
	t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, 120, 40))
	for i := range 120 * 40 {
		m.Set(i%120, i/120, color.RGBA{29, 95, 180, 255})
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

func messages(t *testing.T) []string {
	file := func(name string, size int) string {
		return "--m\nContent-Type: application/pdf\nContent-Disposition: attachment; filename=\"" + name +
			"\"\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString(make([]byte, size)) + "\n"
	}
	html := "--r\nContent-Type: text/html; charset=utf-8\n\n" + page + "\n--r\nContent-Type: image/png\nContent-ID: <logo>\n" +
		"Content-Transfer-Encoding: base64\n\n" + picture(t) + "\n--r--\n"
	text := "Dear Pat,\n\nyour cholesterol is within the normal range. Please keep taking your medication as before.\n\n" +
		"More to read: https://clinic.example/cholesterol/what-the-numbers-mean-and-what-you-can-do-yourself?lang=en\n\nCall us if you have questions.\n\nDr. Lee\n"
	return []string{
		head + "Content-Type: multipart/mixed; boundary=m\n\n--m\nContent-Type: text/plain; charset=utf-8\n\n" + text +
			file("results.pdf", 211_700) + file("a very long name of a file that somebody's scanner made 2026-10-05 14.01.37 (final) (copy).pdf", 5_242_880) + "--m--\n",
		head + "Content-Type: multipart/related; boundary=r\n\n" + html,
		head + "Content-Type: multipart/alternative; boundary=a\n\n--a\nContent-Type: text/plain; charset=utf-8\n\n" + text +
			"--a\nContent-Type: multipart/related; boundary=r\n\n" + html + "--a--\n",
	}
}

func TestPortal(t *testing.T) {
	srv := httptest.NewUnstartedServer(nil)
	publicURL := strings.Replace("http://"+srv.Listener.Addr().String(), "127.0.0.1", "localhost", 1)
	w := pickuptest.New(t, dbtest.SQLite(t), publicURL)
	p, err := portal.New(portal.Deps{Pickup: w.Pickup, Clock: w.Clock, PublicURL: publicURL, Pace: -1, FormsPerMinute: 10_000, PagesPerMinute: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	p.Routes(mux)
	srv.Config.Handler = web.Wrap(web.Deps{Log: slog.New(slog.DiscardHandler), Clock: w.Clock, PublicURL: publicURL}, mux)
	srv.Start()
	defer srv.Close()
	mailboxes := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) { codeMails(t, w, out, r) }))
	defer mailboxes.Close()

	var links []string
	for _, m := range messages(t) {
		_, link := w.Send(m, reader)
		links = append(links, link.URL.Reveal())
	}
	cmd := exec.Command("node", "portal.mjs")
	cmd.Env = append(os.Environ(), "PORTAL_LINKS="+strings.Join(links, " "), "PORTAL_TO="+reader, "MAILBOXES_URL="+mailboxes.URL)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

// codeMails gives the code mails in the form the demo's mailboxes have.
func codeMails(t *testing.T, w *pickuptest.World, out http.ResponseWriter, r *http.Request) {
	type arrived struct {
		To  string `json:"to"`
		Raw string `json:"raw"`
	}
	all := []arrived{}
	for _, it := range w.Items() {
		err := w.DB.Read(r.Context(), it.Org, func(tx *db.Tx) error {
			n, err := spool.LoadNotice(tx, w.Custody, it.ID)
			all = append(all, arrived{reader, string(n.Text.Reveal())})
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if err := json.NewEncoder(out).Encode(all); err != nil {
		t.Error(err)
	}
}
