package main

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func clientOf(t *testing.T, h http.HandlerFunc) *apiClient {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	c, err := newAPIClient(server.URL+"/", "canary-key", "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The message and the key go to the server that was named and nowhere else.
func TestRedirectsAreNotFollowed(t *testing.T) {
	asked := 0
	c := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		asked++
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	_, err := c.send(t.Context(), wireMessage{Text: "canary-text"}, "")
	if asked != 1 || err == nil || !strings.Contains(err.Error(), "status 307") {
		t.Errorf("asked %d times: %v", asked, err)
	}
}

// When the answer is lost, the key that makes a second try harmless is told:
// the one that was sent.
func TestLostAnswerNamesTheIdempotencyKey(t *testing.T) {
	keys := make(chan string, 10)
	c := clientOf(t, func(_ http.ResponseWriter, r *http.Request) {
		keys <- r.Header.Get("Idempotency-Key")
		panic(http.ErrAbortHandler)
	})
	_, err := c.send(t.Context(), wireMessage{Text: "canary-text"}, "")
	if err == nil {
		t.Fatal("no error")
	}
	sent := <-keys
	told := regexp.MustCompile(`--idempotency-key (\S+),`).FindStringSubmatch(err.Error())
	if told == nil || told[1] != sent || len(sent) < 20 || strings.Contains(err.Error(), "canary") {
		t.Errorf("sent %q: %v", sent, err)
	}
}

func TestAnswersOfSomethingElse(t *testing.T) {
	for status, want := range map[int]string{200: "not that of a Sealpost API", 404: "status 404 and no explanation"} {
		c := clientOf(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte("<html>"))
		})
		if _, err := c.send(t.Context(), wireMessage{}, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v", status, err)
		}
	}
}

func TestAPIURLs(t *testing.T) {
	for url, good := range map[string]bool{
		"https://mail.clinic.example": true, "https://mail.clinic.example:8443/": true, "http://localhost:8080": true, "http://[::1]:80": true,
		"http://mail.clinic.example": false, "http://127.0.0.1.clinic.example": false, "mail.clinic.example": false,
		"https://u:p@mail.clinic.example": false, "ftp://localhost": false, "https://": false, "": false,
	} {
		if _, err := newAPIClient(url, "k", ""); (err == nil) != good {
			t.Errorf("%q: %v", url, err)
		}
	}
}
