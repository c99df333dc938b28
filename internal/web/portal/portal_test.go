package portal_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/pickup"
	"github.com/sealpost/sealpost/internal/pickup/pickuptest"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/private/privatetest"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/web"
	"github.com/sealpost/sealpost/internal/web/portal"
)

const head = "From: \"Dr. Lee, Cardiology\" <dr.lee@clinic.example>\nTo: pat@home.example\nSubject: Your lab results are ready\n" +
	"Date: Mon, 05 Oct 2026 11:02:00 +0200\nMIME-Version: 1.0\n"

var png = base64.StdEncoding.EncodeToString([]byte("\x89PNG\r\n\x1a\n and more"))

// both has text, HTML with pictures, and files.
var both = head + "Content-Type: multipart/mixed; boundary=m\n\n--m\n" +
	"Content-Type: multipart/related; boundary=r\n\n--r\n" +
	"Content-Type: multipart/alternative; boundary=a\n\n--a\n" +
	"Content-Type: text/plain; charset=utf-8\n\nHello <b>Pat</b>,\n\nsee https://clinic.example/prep?x=1&y=2.\n" +
	"--a\nContent-Type: text/html; charset=utf-8\n\n<p style=\"color:red;background:url(https://evil.example/x)\">Hello</p>" +
	"<script>alert(1)</script><img src=\"cid:logo@clinic\"><img src=\"https://evil.example/t.png\"><a href=\"https://clinic.example/\">us</a>\n" +
	"--a--\n--r\nContent-Type: image/png\nContent-ID: <logo@clinic>\nContent-Transfer-Encoding: base64\n\n" + png + "\n--r--\n" +
	"--m\nContent-Type: application/pdf\nContent-Disposition: attachment; filename=\"=?utf-8?q?Ergebnis_\xc3\x84?= .pdf\"\nContent-Transfer-Encoding: base64\n\nJVBERi0xLjQK\n" +
	"--m\nContent-Type: text/html\nContent-Disposition: attachment; filename=\"../evil\\\".html\"\n\n<script>alert(1)</script>\n--m--\n"

const rich = head + "Content-Type: text/html\n\n<h1>Only HTML</h1>\n"

// site is a portal over HTTP on loopback and what it logs.
type site struct {
	*pickuptest.World
	*httptest.Server
	log *privatetest.Log
}

func newSite(t *testing.T, d *db.DB, change func(*portal.Deps)) *site {
	t.Helper()
	srv := httptest.NewUnstartedServer(nil)
	publicURL := "http://" + srv.Listener.Addr().String()
	s := &site{World: pickuptest.New(t, d, publicURL), Server: srv, log: &privatetest.Log{}}
	deps := portal.Deps{Pickup: s.Pickup, Clock: s.Clock, PublicURL: publicURL, Pace: -1, FormsPerMinute: 100_000, PagesPerMinute: 100_000}
	if change != nil {
		change(&deps)
	}
	p, err := portal.New(deps)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	p.Routes(mux)
	srv.Config.Handler = web.Wrap(web.Deps{Log: slog.New(slog.NewJSONHandler(s.log, nil)), Clock: s.Clock, PublicURL: publicURL}, mux)
	srv.Start()
	t.Cleanup(srv.Close)
	return s
}

// person is a browser: it keeps cookies and does not follow redirects.
func person(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

type answer struct {
	*http.Response
	body string
}

func do(t *testing.T, c *http.Client, method, to string, form url.Values) answer {
	t.Helper()
	r, err := http.NewRequest(method, to, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost { // as Chromium does under Referrer-Policy: no-referrer
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "null")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp, string(b)}
}

func want(t *testing.T, a answer, status int, texts ...string) {
	t.Helper()
	if a.StatusCode != status {
		t.Errorf("%s %s: %d, want %d", a.Request.Method, a.Request.URL.Path[:min(5, len(a.Request.URL.Path))], a.StatusCode, status)
	}
	for _, text := range texts {
		if !strings.Contains(a.body, text) {
			t.Errorf("the page lacks %q:\n%s", text, a.body)
		}
	}
}

// enter goes through the doors and gives the page of the message.
func (s *site) enter(t *testing.T, c *http.Client, link pickup.Link) answer {
	t.Helper()
	want(t, do(t, c, "GET", link.URL.Reveal(), nil), 200, "Send me a code")
	want(t, do(t, c, "POST", link.URL.Reveal()+"/code", nil), 200, `autocomplete="one-time-code"`, `inputmode="numeric"`)
	code := s.AwaitCode().Reveal()
	a := do(t, c, "POST", link.URL.Reveal()+"/open", url.Values{"code": {code[:3] + " " + code[3:]}})
	want(t, a, 303)
	if a.Header.Get("Location") != "/read" {
		t.Fatalf("sent to %q", a.Header.Get("Location"))
	}
	return do(t, c, "GET", s.URL+"/read", nil)
}

func TestReading(t *testing.T) {
	s := newSite(t, dbtest.SQLite(t), nil)
	d, link := s.Send(both, "pat@home.example")
	c := person(t)
	page := s.enter(t, c, link)
	want(t, page, 200, "Your lab results are ready", "Dr. Lee, Cardiology", "October 5, 2026, 11:02 AM (UTC&#43;02:00)", "Riverside Clinic",
		"Hello &lt;b&gt;Pat&lt;/b&gt;", `href="https://clinic.example/prep?x=1&amp;y=2" target="_blank" rel="noopener noreferrer"`, "2 files", "9 bytes")
	if strings.Contains(page.body, "<iframe") || strings.Contains(page.body, "<script") {
		t.Error("the text view has a frame or a script")
	}
	if s.State(d) != spool.Read {
		t.Errorf("the delivery is %s", s.State(d))
	}

	designed := do(t, c, "GET", s.URL+"/read/html", nil)
	want(t, designed, 200, `<p style="color: red">Hello</p>`, `<img src="data:image/png;base64,`+png+`" alt="">`,
		`<a href="https://clinic.example/" target="_blank" rel="noopener noreferrer">`)
	if strings.Contains(designed.body, "evil") || strings.Contains(designed.body, "alert") {
		t.Errorf("not cleaned: %s", designed.body)
	}
	policy := "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors " + s.URL
	if got := designed.Header.Get("Content-Security-Policy"); got != policy {
		t.Errorf("policy of the HTML: %s", got)
	}

	pdf := do(t, c, "GET", s.URL+"/read/file/0", nil)
	want(t, pdf, 200, "%PDF-1.4\n")
	for name, value := range map[string]string{
		"Content-Type": "application/pdf", "X-Content-Type-Options": "nosniff", "Content-Length": "9",
		"Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'", "Cache-Control": "no-store",
	} {
		if got := pdf.Header.Get(name); got != value {
			t.Errorf("%s: %s", name, got)
		}
	}
	if cd := pdf.Header.Get("Content-Disposition"); !strings.HasPrefix(cd, `attachment; filename="`) || !strings.Contains(cd, "%C3%84") {
		t.Errorf("Content-Disposition: %s", cd)
	}
	page2 := do(t, c, "GET", s.URL+"/read/file/1", nil)
	if page2.Header.Get("Content-Type") != "application/octet-stream" || strings.ContainsAny(page2.Header.Get("Content-Disposition"), "/\\") {
		t.Errorf("a file of HTML: %v", page2.Header)
	}
	want(t, do(t, c, "GET", s.URL+"/read/file/99", nil), 404, "This file is not here")
	want(t, do(t, c, "GET", s.URL+"/read/file/x", nil), 404)
	do(t, c, "HEAD", s.URL+"/read/file/0", nil)
	if n := s.Facts(d, ledger.PickupDownloaded); n != 2 {
		t.Errorf("%d entries for downloads", n)
	}

	want(t, do(t, c, "POST", s.URL+"/leave", nil), 200, "The message is closed")
	want(t, do(t, c, "GET", s.URL+"/read", nil), 401, "The message is closed")
}

func TestOnlyHTMLIsFramed(t *testing.T) {
	s := newSite(t, dbtest.SQLite(t), nil)
	_, link := s.Send(rich, "pat@home.example")
	page := s.enter(t, person(t), link)
	want(t, page, 200, `sandbox="allow-popups allow-popups-to-escape-sandbox"`, "Show it full size")
	if !strings.Contains(page.Header.Get("Content-Security-Policy"), "frame-src 'self'") {
		t.Error("the policy forbids the frame")
	}
}

func TestWhatCannotBeShownIsOffered(t *testing.T) {
	s := newSite(t, dbtest.SQLite(t), nil)
	_, broken := s.Send(head+"Content-Type: multipart/mixed\n\nno boundary\n", "pat@home.example")
	c := person(t)
	want(t, s.enter(t, c, broken), 200, "cannot be shown here", "message.eml")
	want(t, do(t, c, "GET", s.URL+"/read/file/0", nil), 200, "no boundary")
	want(t, do(t, c, "GET", s.URL+"/read/html", nil), 404)

	_, long := s.Send(head+"Content-Type: text/html\n\n"+strings.Repeat("<p>long</p>\n", 400_000), "pat@home.example")
	c = person(t)
	want(t, s.enter(t, c, long), 200, "too long to be shown", "message.html")
	want(t, do(t, c, "GET", s.URL+"/read/html", nil), 404)

	big := base64.StdEncoding.EncodeToString(append([]byte("\x89PNG\r\n\x1a\n"), make([]byte, 1<<20)...))
	_, picture := s.Send(head+"Content-Type: multipart/related; boundary=r\n\n--r\nContent-Type: text/html\n\n<img src=\"cid:big\">x\n"+
		"--r\nContent-Type: image/png\nContent-ID: <big>\nContent-Transfer-Encoding: base64\n\n"+big+"\n--r--\n", "pat@home.example")
	c = person(t)
	want(t, s.enter(t, c, picture), 200, "big.png", "1.0 MB")
	if a := do(t, c, "GET", s.URL+"/read/html", nil); strings.Contains(a.body, "data:") {
		t.Error("a picture over 1 MB is in the page")
	}
	if a := do(t, c, "GET", s.URL+"/read/file/0", nil); len(a.body) != 8+1<<20 {
		t.Errorf("the picture has %d octets", len(a.body))
	}
}

func TestScannersChangeNothing(t *testing.T) {
	s := newSite(t, dbtest.SQLite(t), nil)
	d, link := s.Send(both, "pat@home.example")
	before := s.facts(t)
	for i := range 20 {
		a := do(t, &http.Client{}, []string{"GET", "HEAD"}[i%2], link.URL.Reveal(), nil)
		want(t, a, 200)
		if len(a.Cookies()) > 0 {
			t.Error("a scanner gets a cookie")
		}
	}
	if s.facts(t) != before || s.State(d) != spool.Waiting || len(s.Items()) != 0 {
		t.Error("fetching a link does something")
	}
	want(t, s.enter(t, person(t), link), 200, "Your lab results are ready")
}

func (s *site) facts(t *testing.T) (n int) {
	t.Helper()
	err := s.DB.Read(t.Context(), s.Org.ID, func(tx *db.Tx) error {
		return tx.Row("SELECT COUNT(*) FROM ledger_entries").Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestHundredRacingPostsRedeemOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, database *db.DB) {
		s := newSite(t, database, nil)
		d, link := s.Send(both, "pat@home.example")
		c := person(t)
		do(t, c, "POST", link.URL.Reveal()+"/code", nil)
		form := url.Values{"code": {s.AwaitCode().Reveal()}}
		var wg sync.WaitGroup
		var mu sync.Mutex
		opened := 0
		u, _ := url.Parse(s.URL)
		cookies := c.Jar.Cookies(u)
		for range 100 {
			racer := person(t)
			racer.Jar.SetCookies(u, cookies)
			wg.Go(func() {
				a := do(t, racer, "POST", link.URL.Reveal()+"/open", form)
				mu.Lock()
				defer mu.Unlock()
				if a.StatusCode == 303 {
					opened++
				} else if a.StatusCode != 422 {
					t.Errorf("status %d", a.StatusCode)
				}
			})
		}
		wg.Wait()
		if opened != 1 || s.Facts(d, ledger.PickupOpened) != 1 {
			t.Errorf("opened %d times", opened)
		}
	})
}

var credentialForm = regexp.MustCompile(`/m/[^/"]*`)

// uniform is what could differ from link to link.
func uniform(a answer) string {
	h := a.Header.Clone()
	for _, name := range []string{"Date", "X-Request-Id"} {
		h.Del(name)
	}
	cookies := len(h["Set-Cookie"])
	h.Del("Set-Cookie")
	return fmt.Sprint(a.StatusCode, h, cookies, credentialForm.ReplaceAllString(a.body, "/m/…"))
}

func TestEveryLinkGetsTheSamePages(t *testing.T) {
	s := newSite(t, dbtest.SQLite(t), nil)
	_, real := s.Send(both, "pat@home.example")
	gone, goneLink := s.Send(both, "pat@home.example")
	s.Write(func(tx *db.Tx) error {
		_, err := spool.Cancel(tx, gone.ID, spool.ReasonSender, "", s.Clock.Now())
		return err
	})
	links := []string{real.URL.Reveal(), goneLink.URL.Reveal(), s.URL + "/m/" + strings.Repeat("A", 64), s.URL + "/m/" + strings.Repeat("x", 64)}
	var first [3]string
	for i, link := range links {
		c := person(t)
		got := [3]string{uniform(do(t, c, "GET", link, nil)), uniform(do(t, c, "POST", link+"/code", nil)),
			uniform(do(t, c, "POST", link+"/open", url.Values{"code": {"000000"}}))}
		if i == 0 {
			first = got
		}
		for n := range got {
			if got[n] != first[n] {
				t.Errorf("link %d is told apart:\n%s\n%s", i, got[n], first[n])
			}
		}
	}
	s.Pickup.Stop()
	if len(s.Items()) != 1 {
		t.Errorf("%d codes for one real link", len(s.Items()))
	}
}

func TestRefusalsTakeTheirTime(t *testing.T) {
	s := newSite(t, dbtest.SQLite(t), func(d *portal.Deps) { d.Pace = time.Second })
	_, real := s.Send(both, "pat@home.example")
	for _, link := range []string{real.URL.Reveal(), s.URL + "/m/" + strings.Repeat("A", 64)} {
		c, done := person(t), make(chan answer, 1)
		go func() { done <- do(t, c, "POST", link+"/open", url.Values{"code": {"000000"}}) }()
		var a answer
		for waiting := true; waiting; { // the clock moves only here
			select {
			case a = <-done:
				waiting = false
			default:
				s.Clock.Advance(time.Millisecond)
			}
		}
		want(t, a, 422)
	}
}

func TestWrongCodes(t *testing.T) {
	s := newSite(t, dbtest.SQLite(t), nil)
	_, link := s.Send(both, "pat@home.example")
	c := person(t)
	do(t, c, "POST", link.URL.Reveal()+"/code", nil)
	code := s.AwaitCode().Reveal()
	wrong := string('0'+(code[0]-'0'+1)%10) + code[1:]
	for _, typed := range []string{"", "12345", "abcdef", strings.Repeat("1", 5000)} {
		want(t, do(t, c, "POST", link.URL.Reveal()+"/open", url.Values{"code": {typed}}), 422, "has six digits", `aria-invalid="true"`)
	}
	for range 4 {
		want(t, do(t, c, "POST", link.URL.Reveal()+"/open", url.Values{"code": {wrong}}), 422, "That code did not work")
	}
	want(t, do(t, c, "POST", link.URL.Reveal()+"/open", url.Values{"code": {code}}), 303)
}

func TestTakenBackIsToldToWhoeverHasTheCode(t *testing.T) {
	s := newSite(t, dbtest.SQLite(t), nil)
	d, link := s.Send(both, "pat@home.example")
	c := person(t)
	page := s.enter(t, c, link)
	want(t, page, 200)
	_, other := s.Send(both, "pat@home.example")
	do(t, c, "POST", other.URL.Reveal()+"/code", nil)
	code := s.AwaitCode().Reveal()
	s.Clock.Advance(time.Second)
	otherDelivery := s.lastDelivery(t)
	s.Write(func(tx *db.Tx) error {
		_, err := spool.Cancel(tx, otherDelivery.ID, spool.ReasonSender, "", s.Clock.Now())
		return err
	})
	want(t, do(t, c, "POST", other.URL.Reveal()+"/open", url.Values{"code": {code}}), 404, "taken this message back")
	want(t, do(t, c, "GET", s.URL+"/read", nil), 200)
	s.Clock.Advance(16 * time.Minute)
	want(t, do(t, c, "GET", s.URL+"/read", nil), 401, "The message is closed")
	if s.State(d) != spool.Read {
		t.Error("the first message is not read")
	}
}

func (s *site) lastDelivery(t *testing.T) (d spool.Delivery) {
	t.Helper()
	items := s.Items()
	err := s.DB.Read(t.Context(), s.Org.ID, func(tx *db.Tx) error {
		m, err := spool.LoadMessage(tx, s.Custody, items[len(items)-1].Message)
		if err != nil {
			return err
		}
		all, err := spool.Deliveries(tx, m)
		if err == nil {
			d = all[0]
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestTwoMessagesInOneBrowserAreNotMixedUp(t *testing.T) {
	s := newSite(t, dbtest.SQLite(t), nil)
	_, first := s.Send(both, "pat@home.example")
	_, second := s.Send(both, "pat@home.example")
	c := person(t)
	old := s.enter(t, c, first)
	s.enter(t, c, second)
	found := regexp.MustCompile(`href="(/read/file/0\?m=[0-9a-f]{8})"`).FindStringSubmatch(old.body)
	if found == nil {
		t.Fatal("the page has no file")
	}
	want(t, do(t, c, "GET", s.URL+found[1], nil), 409, "another message")
}

func TestLogsHoldNoSecret(t *testing.T) {
	s := newSite(t, dbtest.SQLite(t), nil)
	_, link := s.Send(both, "pat@home.example")
	c := person(t)
	page := s.enter(t, c, link)
	do(t, c, "GET", s.URL+"/read/file/0?q=canary", nil)
	do(t, c, "GET", s.URL+"/canary", nil)
	do(t, c, "CANARY", s.URL+"/", nil)
	log := s.log.String()
	u, _ := url.Parse(s.URL)
	secrets := []string{pickuptest.Credential(link).Reveal(), s.LastCode().Reveal(), "canary", "CANARY", "Ergebnis", "lab results", "pat@"}
	for _, k := range c.Jar.Cookies(u) {
		secrets = append(secrets, k.Value)
	}
	for _, secret := range secrets {
		if strings.Contains(log, secret) {
			t.Errorf("the log contains a secret of %d octets", len(secret))
		}
	}
	for _, route := range []string{"GET /m/{credential}", "POST /m/{credential}/code", "POST /m/{credential}/open", "GET /read", "GET /read/file/{n}"} {
		if !strings.Contains(log, `"route":"`+route+`"`) {
			t.Errorf("the log lacks %s", route)
		}
	}
	if strings.Contains(page.body, s.LastCode().Reveal()) {
		t.Error("the page holds the code")
	}
}

func TestForeignFormsAreRefused(t *testing.T) {
	s := newSite(t, dbtest.SQLite(t), nil)
	_, link := s.Send(both, "pat@home.example")
	for _, tt := range []struct {
		origin, site string
		want         int
	}{
		{"https://evil.example", "cross-site", 403}, {"null", "cross-site", 403}, {"https://evil.example", "", 403},
		{"null", "same-origin", 200}, {"null", "", 200}, {"", "", 200}, {s.URL, "", 200},
	} {
		r, err := http.NewRequest("POST", link.URL.Reveal()+"/code", nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{"Origin": tt.origin, "Sec-Fetch-Site": tt.site} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.want {
			t.Errorf("Origin %q, Sec-Fetch-Site %q: %d", tt.origin, tt.site, resp.StatusCode)
		}
	}
}

func TestLimitsPerClient(t *testing.T) {
	s := newSite(t, dbtest.SQLite(t), func(d *portal.Deps) { d.FormsPerMinute = 5 })
	form := func() int {
		return do(t, person(t), "POST", s.URL+"/m/x/code", nil).StatusCode
	}
	for range 5 {
		if form() != 200 {
			t.Fatal("refused too early")
		}
	}
	if form() != 429 {
		t.Fatal("not refused")
	}
	s.Clock.Advance(12 * time.Second)
	if form() != 200 || form() != 429 {
		t.Error("the limit does not refill as it should")
	}
}

func TestPagesAndHeaders(t *testing.T) {
	s := newSite(t, dbtest.SQLite(t), nil)
	page := do(t, person(t), "GET", s.URL+"/", nil)
	want(t, page, 200, "Read a secure message")
	want(t, do(t, person(t), "GET", s.URL+"/nowhere", nil), 404, "There is no such page")
	for name, value := range map[string]string{
		"Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
		"Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-src 'self'; frame-ancestors 'none'",
	} {
		if got := page.Header.Get(name); got != value {
			t.Errorf("%s: %s", name, got)
		}
	}
	for _, at := range regexp.MustCompile(`/static/[^"]+`).FindAllString(page.body, -1) {
		a := do(t, person(t), "GET", s.URL+at, nil)
		want(t, a, 200)
		if a.Header.Get("Cache-Control") != "public, max-age=31536000, immutable" {
			t.Errorf("%s may not be kept", at)
		}
	}
	want(t, do(t, person(t), "GET", s.URL+"/static/portal.css", nil), 404)
}

func TestCookies(t *testing.T) {
	for publicURL, want := range map[string]string{
		"https://portal.example": "__Host-sealpost-browser=v; Path=/; Max-Age=3600; HttpOnly; Secure; SameSite=Strict",
		"http://localhost:8080":  "sealpost-browser=v; Path=/; Max-Age=3600; HttpOnly; SameSite=Strict",
	} {
		w := httptest.NewRecorder()
		web.NewCookies(publicURL).Set(w, "sealpost-browser", private.NewString("v"), time.Hour)
		if got := w.Header().Get("Set-Cookie"); got != want {
			t.Errorf("%s", got)
		}
	}
}
