package web_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/web"
)

var begin = time.Date(2026, 10, 5, 9, 30, 0, 0, time.UTC)

func serve(mux *http.ServeMux, publicURL, target string) (*httptest.ResponseRecorder, string) {
	var log bytes.Buffer
	h := web.Wrap(web.Deps{Log: slog.New(slog.NewJSONHandler(&log, nil)), Clock: clock.NewFake(begin), PublicURL: publicURL}, mux)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", target, nil))
	return w, log.String()
}

func TestPanicsAreAnsweredAndShowNothing(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /text", func(http.ResponseWriter, *http.Request) { panic("canary") })
	mux.HandleFunc("GET /error", func(http.ResponseWriter, *http.Request) { panic(errors.New("canary")) })
	mux.HandleFunc("GET /late", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("half")); panic("canary") })
	for target, status := range map[string]int{"/text": 500, "/error": 500, "/late": 200} {
		w, log := serve(mux, "https://portal.example", target)
		if w.Code != status || strings.Contains(w.Body.String()+log, "canary") {
			t.Errorf("%s: %d %s %s", target, w.Code, w.Body, log)
		}
		id := w.Header().Get("X-Request-Id")
		if strings.Count(log, id) != 2 || !strings.Contains(log, "web_test.go") {
			t.Errorf("%s: the log does not tell where: %s", target, log)
		}
	}
}

func TestAbortedAnswersStayAborted(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	defer func() {
		if recover() != http.ErrAbortHandler {
			t.Error("the server does not learn of it")
		}
	}()
	serve(mux, "https://portal.example", "/")
}

func TestOneRecordPerRequest(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /m/{secret}", func(w http.ResponseWriter, r *http.Request) {
		web.Add(r.Context(), slog.Int("deliveries", 3))
		if web.RequestID(r.Context()) != w.Header().Get("X-Request-Id") {
			t.Error("the ids differ")
		}
		http.Error(w, "no", http.StatusTeapot)
	})
	w, log := serve(mux, "https://portal.example", "/m/canary?q=canary")
	if strings.Count(log, "\n") != 1 || strings.Contains(log, "canary") {
		t.Errorf("the log: %s", log)
	}
	for _, want := range []string{`"route":"GET /m/{secret}"`, `"status":418`, `"deliveries":3`, `"bytes":3`, `"client":"192.0.2.1"`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s: %s", want, log)
		}
	}
	if w.Header().Get("Strict-Transport-Security") == "" {
		t.Error("browsers are not told to insist on HTTPS")
	}
	if w, _ := serve(mux, "http://localhost:80", "/m/x"); w.Header().Get("Strict-Transport-Security") != "" {
		t.Error("browsers are told to insist on HTTPS where there is none")
	}
}

func TestClientAddress(t *testing.T) {
	for _, tt := range []struct{ peer, forwarded, want string }{
		{"198.51.100.7:5", "", "198.51.100.7"},
		{"198.51.100.7:5", "203.0.113.1", "198.51.100.7"}, // not a proxy of ours
		{"127.0.0.1:5", "", "127.0.0.1"},
		{"127.0.0.1:5", "203.0.113.1, 198.51.100.9", "198.51.100.9"},
		{"[::1]:5", "2001:db8::1", "2001:db8::1"},
		{"127.0.0.1:5", "nonsense", "127.0.0.1"},
		{"[::ffff:198.51.100.7]:5", "", "198.51.100.7"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = tt.peer
		if tt.forwarded != "" {
			r.Header.Set("X-Forwarded-For", tt.forwarded)
		}
		if got := web.ClientAddress(r).String(); got != tt.want {
			t.Errorf("%s for %q: %s", tt.peer, tt.forwarded, got)
		}
	}
}

func TestLimiter(t *testing.T) {
	c := clock.NewFake(begin)
	l, err := web.NewLimiter(c, 60, 3)
	if err != nil {
		t.Fatal(err)
	}
	allow := func(a string) bool { return l.Allow(t.Context(), netip.MustParseAddr(a)) }
	for range 3 {
		if !allow("2001:db8::1") {
			t.Fatal("refused too early")
		}
	}
	if allow("2001:db8::2") {
		t.Error("a household has as many doors as addresses")
	}
	if !allow("2001:db8:0:1::1") || !allow("198.51.100.7") {
		t.Error("others pay for it")
	}
	c.Advance(time.Second)
	if !allow("2001:db8::1") || allow("2001:db8::1") {
		t.Error("one a second is allowed")
	}
}

func TestLimiterIsBounded(t *testing.T) {
	c := clock.NewFake(begin)
	l, err := web.NewLimiter(c, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	from := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}) }
	for n := range 100_000 {
		if !l.Allow(t.Context(), from(n)) {
			t.Fatal("refused too early")
		}
	}
	if !l.Allow(t.Context(), from(100_000)) || l.Allow(t.Context(), from(100_001)) {
		t.Error("newcomers do not share one mark")
	}
	c.Advance(2 * time.Minute)
	if !l.Allow(t.Context(), from(100_002)) || !l.Allow(t.Context(), from(100_003)) {
		t.Error("room is not made")
	}
}
