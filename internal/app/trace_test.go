package app

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
	"github.com/sealpost/sealpost/internal/submit/submittest"
)

// A collector that speaks OTLP gets a span for each message accepted or
// refused, and nothing that a message says.
func TestTracesReachACollectorWithoutContent(t *testing.T) {
	var mu sync.Mutex
	var raw bytes.Buffer
	spans := map[string]int{}
	c := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, _ := io.ReadAll(r.Body)
		raw.Write(body)
		var m collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(body, &m); err != nil {
			t.Errorf("the collector cannot read what it gets: %v", err)
		}
		for _, r := range m.ResourceSpans {
			for _, s := range r.ScopeSpans {
				for _, span := range s.Spans {
					spans[span.Name+" "+span.Status.GetMessage()]++
				}
			}
		}
	}))
	defer c.Close()
	ctx := context.Background()
	tr, err := startTracing(ctx, config.Telemetry{Traces: c.URL + "/v1/traces", Percent: 100}, "test")
	if err != nil {
		t.Fatal(err)
	}
	h := submittest.New(t, dbtest.SQLite(t), clock.System{}, "clinic.test")
	door := h.Door(func(d *submit.Deps) { d.Tracer = tr })
	for _, from := range []string{"canary.sender@clinic.test", "canary.sender@canary.example"} {
		sender, _ := mail.ParseAddress(from)
		to, _ := mail.ParseAddress("canary.recipient@modern.example")
		_, err := door.Accept(ctx, submit.Draft{
			Principal: auth.Principal{Org: h.Org.ID, Client: id.New(), Scopes: auth.Scopes()}, Source: spool.FromSMTP, Sender: sender,
			Recipients: []mail.Address{to}, Message: strings.NewReader("From: " + from + "\r\nSubject: canary\r\n\r\ncanary\r\n"),
		})
		if (err == nil) != strings.HasSuffix(from, "clinic.test") {
			t.Fatal(err)
		}
	}
	tr.stop(ctx)
	mu.Lock()
	defer mu.Unlock()
	if spans["accept "] != 1 || len(spans) != 2 {
		t.Errorf("spans: %v", spans)
	}
	if bytes.Contains(raw.Bytes(), []byte("canary")) {
		t.Error("the collector got content")
	}
}
