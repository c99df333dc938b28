package fetch

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/resolve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, change func(*Deps)) (*fake.Internet, *Client) {
	t.Helper()
	n, err := fake.Start(t.Context(), fake.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	r, err := resolve.New(resolve.Deps{Servers: []string{n.ResolverAddr}, Timeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	d := Deps{Resolver: r, Roots: n.CAPool(), Clock: clock.System{}, AnyAddress: true, HTTPSPort: n.HTTPSPort}
	if change != nil {
		change(&d)
	}
	return n, New(d)
}

func put(t *testing.T, n *fake.Internet, path string, h http.HandlerFunc) {
	t.Helper()
	if err := n.PutHandler("pages.example", path, h); err != nil {
		t.Fatal(err)
	}
}

func TestGetAndPost(t *testing.T) {
	n, c := start(t, nil)
	put(t, n, "/echo", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, r.Method+" "+r.URL.RawQuery+" "+r.Header.Get("Content-Type")+" "+string(b))
	})
	got, err := c.Get(t.Context(), Request{URL: "https://Pages.example/echo?a=b%20c", Types: []string{"text/plain"}})
	if err != nil || string(got.Body) != "GET a=b%20c  " || got.Type != "text/plain" || !got.Expires.IsZero() {
		t.Errorf("%+v %v", got, err)
	}
	got, err = c.Get(t.Context(), Request{URL: "http://pages.example:" + portOf(n) + "/echo", PlainHTTP: true, Body: []byte("q"), BodyType: "application/ocsp-request"})
	if err != nil || string(got.Body) != "POST  application/ocsp-request q" {
		t.Errorf("%+v %v", got, err)
	}
}

func portOf(n *fake.Internet) string {
	_, port, _ := strings.Cut(strings.TrimPrefix(n.MailCRLURL(), "http://"), ":")
	port, _, _ = strings.Cut(port, "/")
	return port
}

// TestWords: everything that goes wrong has its word, and the error names
// nothing of the URL.
func TestWords(t *testing.T) {
	n, c := start(t, nil)
	if err := n.PutWebCert("expired.pages.example", fake.CertOptions{NotAfter: time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC)}); err != nil {
		t.Fatal(err)
	}
	if err := n.PutPage("expired.pages.example", "/p", []byte("x"), "text/plain"); err != nil {
		t.Fatal(err)
	}
	if err := n.PutPage("pages.example", "/p", bytes.Repeat([]byte("x"), 1000), "text/plain"); err != nil {
		t.Fatal(err)
	}
	put(t, n, "/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/p", http.StatusFound) })
	put(t, n, "/hangs", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	put(t, n, "/drips", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	})
	var poured atomic.Int64
	put(t, n, "/pours", func(w http.ResponseWriter, _ *http.Request) {
		piece := make([]byte, 64<<10)
		for range 1 << 16 { // four gigabytes
			if _, err := w.Write(piece); err != nil {
				return
			}
			poured.Add(int64(len(piece)))
		}
	})
	put(t, n, "/headers", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 64<<10)) })
	put(t, n, "/cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "short")
	})
	n.SetA("dead.pages.example", netip.MustParseAddr("127.23.0.1"))
	n.SetA("multi.pages.example", netip.MustParseAddr("224.0.0.1"))
	for url, want := range map[string]string{
		"https://pages.example/p?secret":                       TooLarge,
		"https://pages.example/pours?secret":                   TooLarge,
		"https://pages.example/moved?secret":                   Status,
		"https://pages.example/secret":                         Status,
		"https://pages.example/hangs?secret":                   Timeout,
		"https://pages.example/drips?secret":                   Timeout,
		"https://pages.example/headers?secret":                 Connect,
		"https://pages.example/cut?secret":                     Connect,
		"https://expired.pages.example/p?secret":               Certificate,
		"https://nowhere.pages.example/secret":                 DNS,
		"https://servfail.example/secret":                      DNS,
		"https://dead.pages.example/secret":                    Connect,
		"https://multi.pages.example/secret":                   Address,
		"http://pages.example/secret":                          BadURL,
		"ftp://pages.example/secret":                           BadURL,
		"https://user:secret@pages.example/p":                  BadURL,
		"https:///secret":                                      BadURL,
		"https://pages.example:0/secret":                       BadURL,
		"https://pages.example:99999/secret":                   BadURL,
		"https://pages.example/\x00secret":                     BadURL,
		"file:///etc/secret":                                   BadURL,
		"https://[fe80::1%25secret]:" + portOf(n) + "/":        Connect,
		"https://" + strings.Repeat("secret", 60) + ".example": DNS,
	} {
		begin := time.Now()
		_, err := c.Get(t.Context(), Request{URL: url, Max: 999, Timeout: 300 * time.Millisecond})
		if Word(err) != want || err == nil {
			t.Errorf("%s: %v, want %s", url, err, want)
		}
		var e *Error
		if !errors.As(err, &e) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "example") {
			t.Errorf("%s: the error tells too much: %v", url, err)
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("%s took %s", url, took)
		}
	}
	if n := poured.Load(); n > 32<<20 {
		t.Errorf("%d octets were taken of a page that is bounded at 999", n)
	}
	if _, err := c.Get(t.Context(), Request{URL: "https://pages.example/p", Types: []string{"application/pkix-crl"}}); Word(err) != Type {
		t.Errorf("another type is taken: %v", err)
	}
	if _, err := c.Get(t.Context(), Request{URL: "https://pages.example/moved"}); Code(err) != 302 {
		t.Errorf("status %d", Code(err))
	}
	if n.Fetches("pages.example/p") != 2 {
		t.Errorf("%d fetches of the page: a redirect was followed", n.Fetches("pages.example/p"))
	}
}

func TestPublic(t *testing.T) {
	for a, want := range map[string]bool{
		"127.0.0.1": false, "10.1.2.3": false, "192.168.0.1": false, "169.254.169.254": false, "100.64.1.1": false,
		"0.0.0.0": false, "::1": false, "fd00::1": false, "fe80::1": false, "::ffff:127.0.0.1": false,
		"255.255.255.255": false, "224.0.0.1": false, "ff02::1": false, "fe80::1%eth0": false,

		"0.1.2.3": false, "192.0.0.8": false, "192.0.2.1": false, "192.88.99.1": false, "198.18.0.1": false, "198.19.255.255": false,
		"198.51.100.7": false, "203.0.113.7": false, "240.0.0.1": false, "255.0.0.1": false,
		"::7f00:1": false, "::10.0.0.1": false, "::ffff:10.0.0.1": false, "::ffff:192.0.2.1": false,
		"64:ff9b::a00:1": false, "64:ff9b::7f00:1": false, "64:ff9b:1::1": false, "64:ff9b:1:ffff::1": false,
		"2002:7f00:1::": false, "2002:a00:1::1": false, "2001::1": false, "2001:0:a00:1::1": false, "2001:db8::1": false,
		"100::1": false, "3fff::1": false, "fec0::1": false, "feff::1": false, "fec0::1%eth0": false, "2002:a00:1::1%1": false,

		"1.0.0.1": true, "100.128.0.1": true, "192.0.1.1": true, "192.0.3.1": true, "198.17.255.255": true, "198.20.0.1": true,
		"203.0.112.1": true, "223.255.255.1": true, "::ffff:9.9.9.9": true, "64:ff9b:2::1": true, "100:0:0:1::1": true,
		"2001:1::1": true, "2001:4860::1": true, "2001:db7::1": true, "2003::1": true, "2600::1": true, "2a00:1450::1": true,
	} {
		if got := Public(netip.MustParseAddr(a)); got != want {
			t.Errorf("Public(%s) is %v", a, got)
		}
	}
}

// TestOldTLSIsRefused: a host that speaks TLS 1.1 at most gives nothing.
func TestOldTLSIsRefused(t *testing.T) {
	n, c := start(t, nil)
	cert, err := n.Issue([]string{"127.0.0.1"}, fake.CertOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for version, word := range map[uint16]string{tls.VersionTLS11: Connect, tls.VersionTLS12: ""} {
		ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
			Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10, MaxVersion: version,
		})
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
		var done sync.WaitGroup
		done.Go(func() { _ = srv.Serve(ln) })
		_, err = c.Get(t.Context(), Request{URL: "https://" + ln.Addr().String() + "/"})
		srv.Close()
		done.Wait()
		if (err == nil) != (word == "") || err != nil && Word(err) != word {
			t.Errorf("version %x: %v", version, err)
		}
	}
}

// TestOwnNetworkIsNotAsked: neither by name nor by number, and at no port that
// somebody outside chose.
func TestOwnNetworkIsNotAsked(t *testing.T) {
	n, c := start(t, func(d *Deps) { d.AnyAddress = false })
	if err := n.PutPage("pages.example", "/p", []byte("x"), "text/plain"); err != nil {
		t.Fatal(err)
	}
	// One private address among public ones is enough: a name could be made to
	// change between the look and the connection.
	n.SetA("both.example", netip.MustParseAddr("9.9.9.9"), netip.MustParseAddr("127.23.1.1"))
	for url, want := range map[string]string{
		"https://pages.example/p": Address, "https://both.example/p": Address,
		"https://127.0.0.1/": Address, "https://[::1]/": Address, "https://[::ffff:10.0.0.1]/": Address,
		"http://169.254.169.254/latest/meta-data": Address,
		"https://pages.example:8443/p":            BadURL, "http://pages.example:25/": BadURL,
	} {
		if _, err := c.Get(t.Context(), Request{URL: url, PlainHTTP: true}); Word(err) != want {
			t.Errorf("%s: %v, want %s", url, err, want)
		}
	}
	if n.Fetches("pages.example") != 0 {
		t.Error("it was asked")
	}
}

// TestAtOnce: no more fetches than allowed run at once, in all and from one
// host, and who gets no turn is told that nobody outside is to blame.
func TestAtOnce(t *testing.T) {
	n, c := start(t, func(d *Deps) { d.AtOnce, d.PerDomain = 3, 2 })
	var now, most, fromA atomic.Int64
	release := make(chan struct{})
	slow := func(_ http.ResponseWriter, r *http.Request) {
		defer now.Add(-1)
		if v := now.Add(1); v > most.Load() {
			most.Store(v)
		}
		if strings.HasPrefix(r.Host, "a.") {
			fromA.Add(1)
		}
		<-release
	}
	for _, host := range []string{"a.example", "b.example"} {
		if err := n.PutHandler(host, "/", http.HandlerFunc(slow)); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	get := func(url string) {
		all.Go(func() {
			if _, err := c.Get(t.Context(), Request{URL: url}); err != nil {
				t.Errorf("%v", err)
			}
		})
	}
	until := func(what string, ok func() bool) {
		for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	for range 3 {
		get("https://a.example/")
	}
	until("two fetches from one host", func() bool { return now.Load() == 2 })
	if _, err := c.Get(t.Context(), Request{URL: "https://a.example/", Timeout: 50 * time.Millisecond}); Word(err) != Busy {
		t.Errorf("a third fetch from one host: %v", err)
	}
	if n := fromA.Load(); n != 2 {
		t.Errorf("%d fetches from one host at once", n)
	}
	get("https://b.example/")
	until("three fetches in all", func() bool { return now.Load() == 3 })
	if _, err := c.Get(t.Context(), Request{URL: "https://b.example/", Timeout: 50 * time.Millisecond}); Word(err) != Busy {
		t.Errorf("a fourth fetch in all: %v", err)
	}
	close(release)
	all.Wait()
	if most.Load() != 3 {
		t.Errorf("%d at once", most.Load())
	}
	if len(c.turns.domains) != 0 {
		t.Error("hosts are remembered for ever")
	}
}

func TestExpires(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		h    http.Header
		want time.Time
	}{
		{http.Header{}, time.Time{}},
		{http.Header{"Cache-Control": {"public, max-age=60"}}, now.Add(time.Minute)},
		{http.Header{"Cache-Control": {"public", `Max-Age="60"`}, "Expires": {"Sun, 01 Mar 2026 14:00:00 GMT"}}, now.Add(time.Minute)},
		{http.Header{"Expires": {"Sun, 01 Mar 2026 14:00:00 GMT"}}, now.Add(2 * time.Hour)},
		{http.Header{"Cache-Control": {"no-store"}}, now},
		{http.Header{"Cache-Control": {"max-age=-1"}, "Expires": {"0"}}, time.Time{}},
		{http.Header{"Cache-Control": {"max-age=99999999999999"}}, time.Time{}},
	} {
		if got := expires(tc.h, now); !got.Equal(tc.want) {
			t.Errorf("%v: %s, want %s", tc.h, got, tc.want)
		}
	}
}
