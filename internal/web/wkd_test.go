package web_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/web"
)

const adaHash = "iy9q119eutrkn8s1mk4r39qejnbu3n5q" // of the draft's example, Joe.Doe

type directory struct {
	http.Handler
	log bytes.Buffer
}

func newDirectory(t *testing.T) *directory {
	t.Helper()
	c := clock.NewFake(begin)
	limit, err := web.NewLimiter(c, 60, 40)
	if err != nil {
		t.Fatal(err)
	}
	d := &directory{}
	mux := http.NewServeMux()
	web.Directory{
		Keys: func(_ context.Context, domain, hash string) ([]byte, error) {
			switch {
			case domain == "broken.example":
				return nil, errors.New("canary")
			case domain == "clinic.example" && hash == adaHash:
				return []byte("\x99key"), nil
			}
			return nil, fault.New(fault.NotFound, "no_key", "None.")
		},
		Serves: func(_ context.Context, domain string) (bool, error) { return domain == "clinic.example", nil },
		Limit:  limit,
	}.Routes(mux)
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	d.Handler = web.Wrap(web.Deps{Log: slog.New(slog.NewJSONHandler(&d.log, nil)), Clock: c, PublicURL: "https://portal.example"}, mux)
	return d
}

func (d *directory) ask(method, host, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "https://"+host+path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w
}

func TestDirectory(t *testing.T) {
	d := newDirectory(t)
	const root = "/.well-known/openpgpkey/"
	for _, tt := range []struct {
		method, host, path string
		status             int
		body               string
	}{
		{"GET", "openpgpkey.clinic.example", root + "clinic.example/hu/" + adaHash + "?l=canary", 200, "\x99key"},
		{"GET", "openpgpkey.clinic.example", root + "Clinic.Example/hu/" + adaHash + "?l=canary", 200, "\x99key"},
		{"HEAD", "openpgpkey.clinic.example", root + "clinic.example/hu/" + adaHash + "?l=canary", 200, ""},
		{"GET", "clinic.example", root + "hu/" + adaHash + "?l=canary", 200, "\x99key"},
		{"GET", "CLINIC.example:8443", root + "hu/" + adaHash, 200, "\x99key"},
		{"GET", "clinic.example.", root + "hu/" + adaHash, 200, "\x99key"},
		{"GET", "clinic.example", root + "policy", 200, ""},
		{"GET", "openpgpkey.clinic.example", root + "clinic.example/policy", 200, ""},
		{"GET", "elsewhere.example", root + "policy", 404, ""},
		{"GET", "elsewhere.example", root + "hu/" + adaHash, 404, ""},
		{"GET", "clinic.example", root + "elsewhere.example/hu/" + adaHash, 404, ""},
		{"GET", "clinic.example", root + "hu/canary", 404, ""},
		{"GET", "clinic.example", root + "hu/" + strings.ToUpper(adaHash), 404, ""},
		{"GET", "clinic.example", root + "hu/" + adaHash + "/canary", 404, ""},
		{"GET", "clinic.example", root + "clinic.example", 404, ""},
		{"GET", "clinic.example", root, 404, ""},
		{"GET", "192.0.2.1", root + "hu/" + adaHash, 404, ""},
		{"GET", "broken.example", root + "hu/" + adaHash, 503, ""},
		{"POST", "clinic.example", root + "hu/" + adaHash, 405, ""},
	} {
		w := d.ask(tt.method, tt.host, tt.path)
		if w.Code != tt.status || tt.status == 200 && w.Body.String() != tt.body {
			t.Errorf("%s %s %s: %d %q", tt.method, tt.host, tt.path, w.Code, w.Body)
		}
		if tt.method != "POST" && w.Header().Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: web clients may not read it", tt.path)
		}
		if cached := strings.HasPrefix(w.Header().Get("Cache-Control"), "public"); cached != (tt.status == 200) {
			t.Errorf("%s: %d and Cache-Control %q", tt.path, tt.status, w.Header().Get("Cache-Control"))
		}
	}
	for _, secret := range []string{"canary", adaHash, "l="} {
		if strings.Contains(d.log.String(), secret) {
			t.Errorf("the log names %q: %s", secret, d.log.String())
		}
	}
	if !strings.Contains(d.log.String(), `"route":"GET /.well-known/openpgpkey/{path...}"`) {
		t.Errorf("the log lacks the route: %s", d.log.String())
	}
}

func TestDirectoryHeaders(t *testing.T) {
	d := newDirectory(t)
	const path = "/.well-known/openpgpkey/hu/" + adaHash
	w := d.ask("HEAD", "clinic.example", path)
	for name, want := range map[string]string{
		"Content-Type": "application/octet-stream", "Content-Length": "4", "Cross-Origin-Resource-Policy": "cross-origin",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	tag := w.Header().Get("ETag")
	if again := d.ask("GET", "clinic.example", path, "If-None-Match", tag); again.Code != 304 || again.Body.Len() != 0 {
		t.Errorf("what the client has is sent again: %d", again.Code)
	}
	if w := d.ask("GET", "clinic.example", path, "If-None-Match", `"other"`); w.Code != 200 {
		t.Errorf("another tag: %d", w.Code)
	}
}

func TestDirectoryIsNotASearch(t *testing.T) {
	d := newDirectory(t)
	for range 40 {
		if w := d.ask("GET", "clinic.example", "/.well-known/openpgpkey/policy"); w.Code != 200 {
			t.Fatalf("refused too early: %d", w.Code)
		}
	}
	w := d.ask("GET", "clinic.example", "/.well-known/openpgpkey/hu/"+adaHash)
	if w.Code != 429 || w.Header().Get("Retry-After") == "" || w.Body.String() == "\x99key" {
		t.Errorf("guesses are not counted: %d", w.Code)
	}
}
