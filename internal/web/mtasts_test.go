package web_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/web"
)

func TestPoliciesAreServedAtTheirOwnHost(t *testing.T) {
	limit, err := web.NewLimiter(clock.NewFake(time.Now()), 60, 20)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	web.MTASTS{Limit: limit, Policy: func(_ context.Context, domain string) (string, error) {
		switch domain {
		case "clinic.example":
			return "version: STSv1\r\n", nil
		case "broken.example":
			return "", errors.New("no database")
		}
		return "", fault.New(fault.NotFound, "no_policy", "None.")
	}}.Routes(mux)
	ask := func(host, path string) *httptest.ResponseRecorder {
		r, w := httptest.NewRequest("GET", path, nil), httptest.NewRecorder()
		r.Host = host
		mux.ServeHTTP(w, r)
		return w
	}
	const path = "/.well-known/mta-sts.txt"
	for host, want := range map[string]int{
		"mta-sts.clinic.example": 200, "MTA-STS.Clinic.Example": 200, "mta-sts.clinic.example:443": 200, "mta-sts.clinic.example.": 200,
		"clinic.example": 404, "mail.clinic.example": 404, "mta-sts.other.example": 404, "mta-sts.": 404, "mta-sts.a b": 404, "": 404,
		"mta-sts.broken.example": 503,
	} {
		w := ask(host, path)
		if w.Code != want {
			t.Errorf("%q: %d, want %d", host, w.Code, want)
		}
		if want == 200 && (w.Body.String() != "version: STSv1\r\n" || w.Header().Get("Content-Type") != "text/plain; charset=utf-8") {
			t.Errorf("%q: %q, %v", host, w.Body, w.Header())
		}
	}
	if w := ask("mta-sts.clinic.example", "/.well-known/mta-sts.txt/x"); w.Code != 404 {
		t.Errorf("another path: %d", w.Code)
	}
	limited := false
	for range 30 {
		limited = limited || ask("mta-sts.clinic.example", path).Code == http.StatusTooManyRequests
	}
	if !limited {
		t.Error("nothing limits a client")
	}
}
