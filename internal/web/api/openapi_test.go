package api

import (
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/spool"
)

// TestDocument checks the document against the table it is made of and
// against what the API really answers.
func TestDocument(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	a := w.ask("GET", "/api/openapi.json", "", "Authorization", "")
	if a.status != 200 || a.header.Get("Content-Type") != "application/json" || a.body["openapi"] != "3.1.0" {
		t.Fatalf("document: %d %.200s", a.status, a.text)
	}
	doc := document{t, a.body}
	for _, rt := range w.api.routes {
		op := doc.at("paths", rt.path, strings.ToLower(rt.method))
		if op == nil || op["operationId"] != rt.name || op["summary"] == "" || op["x-scope"] != string(rt.scope) {
			t.Errorf("%s: %v", rt.name, op)
			continue
		}
		if (op["requestBody"] != nil) != (rt.in != nil) {
			t.Errorf("%s: request body %v", rt.name, op["requestBody"])
		}
		// The mux knows the route.
		_, pattern := w.mux.Handler(must(http.NewRequest(rt.method, strings.Replace(rt.path, "{id}", "x", 1), nil)))
		if pattern != rt.method+" "+rt.path {
			t.Errorf("%s is served by %q", rt.name, pattern)
		}
	}
	paths := map[string]bool{}
	for _, rt := range w.api.routes {
		paths[rt.path] = true
	}
	if n := len(doc.at("paths")); n != len(paths) {
		t.Errorf("%d paths for %d in the table", n, len(paths))
	}
	doc.refs(a.body)
	for name, s := range doc.at("components", "schemas") {
		doc.schema(name, s.(map[string]any))
	}
}

type document struct {
	t    *testing.T
	body map[string]any
}

func (d document) at(path ...string) map[string]any {
	v := d.body
	for _, p := range path {
		v, _ = v[p].(map[string]any)
	}
	return v
}

// refs checks that every reference leads to a schema.
func (d document) refs(v any) {
	switch v := v.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			name, found := strings.CutPrefix(ref, "#/components/schemas/")
			if !found || d.at("components", "schemas", name) == nil {
				d.t.Errorf("reference to nothing: %s", ref)
			}
		}
		for _, x := range v {
			d.refs(x)
		}
	case []any:
		for _, x := range v {
			d.refs(x)
		}
	}
}

func (d document) schema(name string, s map[string]any) {
	if s["type"] != "object" {
		d.t.Errorf("%s is no object: %v", name, s)
	}
	properties, _ := s["properties"].(map[string]any)
	required, _ := s["required"].([]any)
	for _, r := range required {
		if properties[r.(string)] == nil {
			d.t.Errorf("%s requires %v, which it has not", name, r)
		}
	}
	for key, p := range properties {
		if text, _ := p.(map[string]any)["description"].(string); text == "" && name != "Evidence" {
			d.t.Errorf("%s.%s has no description", name, key)
		}
	}
	strict := slices.Contains([]string{"DraftRequest", "SearchRequest", "CancelRequest", "Attachment", "SuppressionRequest", "SuppressionSearch"}, name)
	if strict != (s["additionalProperties"] == false) && len(properties) > 0 {
		d.t.Errorf("%s: additionalProperties %v", name, s["additionalProperties"])
	}
}

// fits checks an answer against a schema: every key is described, everything
// required is there, and the types agree.
func (d document) fits(where string, v any, s map[string]any) {
	if ref, ok := s["$ref"].(string); ok {
		s = d.at("components", "schemas", strings.TrimPrefix(ref, "#/components/schemas/"))
	}
	kinds := map[reflect.Kind]string{reflect.String: "string", reflect.Bool: "boolean", reflect.Slice: "array", reflect.Map: "object"}
	if want, ok := s["type"].(string); ok && v != nil {
		got := kinds[reflect.TypeOf(v).Kind()]
		if f, number := v.(float64); number {
			if got = "number"; f == float64(int64(f)) {
				got = "integer"
			}
		}
		if got != want {
			d.t.Errorf("%s is %s, described as %s", where, got, want)
		}
	}
	switch v := v.(type) {
	case map[string]any:
		properties, described := s["properties"].(map[string]any)
		required, _ := s["required"].([]any)
		for _, r := range required {
			if _, ok := v[r.(string)]; !ok {
				d.t.Errorf("%s has no %v", where, r)
			}
		}
		for key, x := range v {
			p, ok := properties[key].(map[string]any)
			if !ok && described {
				d.t.Errorf("%s.%s is not described", where, key)
			} else if ok {
				d.fits(where+"."+key, x, p)
			}
		}
	case []any:
		items, _ := s["items"].(map[string]any)
		for _, x := range v {
			d.fits(where+"[]", x, items)
		}
	}
}

func TestAnswersFitDocument(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	doc := document{t, w.ask("GET", "/api/openapi.json", "").body}
	msg, dlv := w.accepted(`{"from":"ada@clinic.example","to":["pat@good.example"],"text":"x","metadata":{"a":"b"}}`)
	w.attempt(msg, dlv[0])
	for _, one := range []struct{ method, route, id, body string }{
		{"POST", "/api/v1/messages", "", small},
		{"POST", "/api/v1/messages", "", `{"form":1}`},
		{"POST", "/api/v1/seal/preview", "", small},
		{"GET", "/api/v1/messages/{id}", msg, ""},
		{"GET", "/api/v1/messages/{id}", "msg_x", ""},
		{"GET", "/api/v1/deliveries/{id}", dlv[0], ""},
		{"POST", "/api/v1/messages/search", "", "{}"},
		{"POST", "/api/v1/messages/{id}/cancel", msg, ""},
		{"GET", "/api/v1/events", "", ""},
		{"POST", "/api/v1/suppressions", "", `{"address":"ada@example.org","expires_at":"2030-01-01T00:00:00Z","note":"x"}`},
		{"POST", "/api/v1/suppressions", "", `{"address":"ada@example.org","scope":"none"}`},
		{"GET", "/api/v1/suppressions", "", ""},
		{"POST", "/api/v1/suppressions/search", "", `{"address":"ada@example.org"}`},
		{"DELETE", "/api/v1/suppressions/{id}", "sup_x", ""},
	} {
		a := w.ask(one.method, strings.Replace(one.route, "{id}", one.id, 1), one.body)
		kind := a.header.Get("Content-Type")
		status := must(json.Marshal(a.status))
		schema := doc.at("paths", one.route, strings.ToLower(one.method), "responses", string(status), "content", kind, "schema")
		if schema == nil {
			t.Errorf("%s %s: %d with %s is not described", one.method, one.route, a.status, kind)
			continue
		}
		doc.fits(one.route, a.body, schema)
	}
}

// TestEveryWordIsExplained: a state or a reason that the spool gains must be
// told to people too.
func TestEveryWordIsExplained(t *testing.T) {
	if len(states) != len(stateOrder) {
		t.Errorf("%d states, %d listed", len(states), len(stateOrder))
	}
	enum := reflect.TypeFor[searchRequest]()
	f, _ := enum.FieldByName("State")
	for _, s := range strings.Split(f.Tag.Get("enum"), ",") {
		if states[spool.State(s)] == "" {
			t.Errorf("state %s is not explained", s)
		}
	}
	for word, text := range sentences {
		if !strings.HasSuffix(text, ".") || word == "" {
			t.Errorf("%s: %q is no sentence", word, text)
		}
	}
}

var elsewhere = regexp.MustCompile(`(?i)(src|href|action|url)\s*[=(]\s*["']?\s*(https?:)?//`)

// TestPage: the page asks no other host for anything and runs no script.
func TestPage(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	a := w.ask("GET", "/api/docs", "", "Authorization", "")
	policy := a.header.Get("Content-Security-Policy")
	if a.status != 200 || a.header.Get("Content-Type") != "text/html; charset=utf-8" || !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
		t.Fatalf("page: %d %v", a.status, a.header)
	}
	if elsewhere.MatchString(a.text) || strings.Contains(a.text, "<script") || strings.Contains(a.text, "style=") {
		t.Errorf("the page asks for something: %s", elsewhere.FindString(a.text))
	}
	for _, rt := range w.api.routes {
		for _, part := range []string{`id="` + rt.name + `"`, rt.summary, "<code>" + rt.path + "</code>", string(rt.scope)} {
			if !strings.Contains(a.text, part) {
				t.Errorf("the page lacks %q", part)
			}
		}
	}
	if css := w.ask("GET", "/api/docs/style.css", "", "Authorization", ""); css.status != 200 || elsewhere.MatchString(css.text) || strings.Contains(css.text, "@import") {
		t.Errorf("style: %d", css.status)
	}
	for _, m := range regexp.MustCompile(`href="([^"#]*)(#[^"]*)?"`).FindAllStringSubmatch(a.text, -1) {
		if m[1] != "" && w.ask("GET", m[1], "").status != 200 {
			t.Errorf("a link leads to nothing: %s", m[1])
		}
		if m[2] != "" && !strings.Contains(a.text, `id="`+m[2][1:]+`"`) {
			t.Errorf("a link leads to nothing: %s", m[2])
		}
	}
}
