package e2e

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"

	otlp "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// spans is a collector that speaks OTLP.
type spans struct {
	mu  sync.Mutex
	raw bytes.Buffer
	all []*trace.Span
}

func (c *spans) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var m otlp.ExportTraceServiceRequest
	err := proto.Unmarshal(body, &m)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw.Write(body)
	for _, r := range m.ResourceSpans {
		for _, s := range r.ScopeSpans {
			c.all = append(c.all, s.Spans...)
		}
	}
	if err != nil {
		c.raw.WriteString(err.Error())
	}
}

// attributes of a span, as name=value.
func attributes(s *trace.Span) string {
	var out strings.Builder
	for _, a := range s.Attributes {
		out.WriteString(a.Key + "=" + a.Value.GetStringValue() + " ")
	}
	return out.String()
}

// TestSpans: a collector learns of each attempt, its connection and its
// transmission, and of what came in from outside, and nothing of what anybody
// wrote.
func TestSpans(t *testing.T) {
	var c spans
	server := httptest.NewServer(&c)
	defer server.Close()
	s := newSite(t, "", "[telemetry]\ntraces = \""+server.URL+"/v1/traces\"\npercent = 100\n")
	s.refuseWith("no such person as " + canaries["reply"])
	s.fewerSources(t)
	sv := s.start()
	r, err := s.post(map[string]any{"to": []string{canaries["local part"] + "@modern.example", "edith@expired.example"}, "subject": canaries["subject"], "text": "x"})
	if err != nil {
		t.Fatal(err)
	}
	s.settles(r.Deliveries[0].ID, "delivered")
	s.settles(r.Deliveries[1].ID, "waiting")
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}).Dial("tcp", s.relay)
	if err != nil {
		t.Fatal(err)
	}
	outside := newDoor(t, conn)
	outside.mail(t, canaries["local part"]+"@else.example", "postmaster@mail.clinic.test")
	outside.data(t, "From: x@else.example\r\nSubject: "+canaries["smtp subject"]+"\r\n\r\nx\r\n")
	if err := sv.end(syscall.SIGTERM); err != nil { // it sends what is left
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	attempts := map[string]*trace.Span{} // by their own id
	parts := map[string]int{}
	for _, span := range c.all {
		if span.Name == "attempt" {
			attempts[string(span.SpanId)] = span
		}
		parts[span.Name]++
	}
	if parts["accept"] != 1 || len(attempts) != 2 || parts["inbound"] != 1 {
		t.Errorf("spans: %v", parts)
	}
	under := map[string]map[string]int{}
	for _, span := range c.all {
		if a := attempts[string(span.ParentSpanId)]; a != nil {
			text := attributes(a)
			if under[text] == nil {
				under[text] = map[string]int{}
			}
			under[text][span.Name]++
			if !strings.Contains(attributes(span), "sealpost.host=") {
				t.Errorf("%s names no host: %s", span.Name, attributes(span))
			}
		}
	}
	for text, children := range under {
		if children["connect"] == 0 || children["send"] != 1 {
			t.Errorf("%s: %v", text, children)
		}
	}
	var told string
	for _, a := range attempts {
		told += attributes(a) + "\n"
	}
	for _, want := range []string{"sealpost.delivery=" + r.Deliveries[0].ID, "sealpost.domain=modern.example", "sealpost.seal=tls", "sealpost.seal=portal", "sealpost.result=delivered"} {
		if !strings.Contains(told, want) {
			t.Errorf("no attempt says %s:\n%s", want, told)
		}
	}
	for name, canary := range canaries {
		if bytes.Contains(c.raw.Bytes(), []byte(canary)) {
			t.Errorf("the collector got the %s", name)
		}
	}
}
