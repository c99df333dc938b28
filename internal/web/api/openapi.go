package api

import (
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sealpost/sealpost/internal/auth"
)

const problemSchema = "#/components/schemas/Problem"

// describe makes the OpenAPI 3.1 document from the routes and the types they
// read and write.
func (a *API) describe() *huma.OpenAPI {
	registry := huma.NewMapRegistry("#/components/schemas/", schemaName)
	registry.Schema(reflect.TypeFor[problem](), true, "")
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "Sealpost API", Version: "v1",
			Description: "Hand in messages, and follow what becomes of them. Every request carries an API key: Authorization: Bearer sealpost_… " +
				"Unknown keys in a body are refused; in answers, ignore what you do not know.",
			License: &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
		},
		Components: &huma.Components{
			Schemas: registry,
			SecuritySchemes: map[string]*huma.SecurityScheme{
				"key": {Type: "http", Scheme: "bearer", Description: "An API key, made by \"sealpost apikey create\"."},
			},
		},
	}
	if a.PublicURL != "" {
		doc.Servers = []*huma.Server{{URL: a.PublicURL}}
	}
	for _, rt := range a.routes {
		doc.AddOperation(operation(rt, registry))
	}
	strict := map[string]bool{}
	for _, rt := range a.routes {
		if rt.in != nil {
			strict[schemaName(rt.in, "")] = true
		}
	}
	strict[schemaName(reflect.TypeFor[attachment](), "")] = true
	for name, s := range registry.Map() {
		tidy(s, strict[name])
	}
	return doc
}

// schemaName names a schema like its type, with a capital.
func schemaName(t reflect.Type, _ string) string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Name() == "" {
		return ""
	}
	return strings.ToUpper(t.Name()[:1]) + t.Name()[1:]
}

// tidy keeps to what the decoder and the encoder do: lists are never null,
// requests take no unknown keys, answers may gain some.
func tidy(s *huma.Schema, strict bool) {
	if s.Type == huma.TypeArray {
		s.Nullable = false
	}
	if s.Type == huma.TypeObject && s.Properties != nil {
		s.AdditionalProperties = nil
		if strict {
			s.AdditionalProperties = false
		}
	}
	for _, p := range s.Properties {
		tidy(p, strict)
	}
	if s.Items != nil {
		tidy(s.Items, strict)
	}
}

func operation(rt route, registry huma.Registry) *huma.Operation {
	op := &huma.Operation{
		OperationID: rt.name, Method: rt.method, Path: rt.path, Summary: rt.summary,
		Description: rt.description + " Needs the scope " + string(rt.scope) + ".",
		Security:    []map[string][]string{{"key": {}}}, Extensions: map[string]any{"x-scope": string(rt.scope)},
		Responses: map[string]*huma.Response{},
	}
	if strings.Contains(rt.path, "{id}") {
		op.Parameters = append(op.Parameters, &huma.Param{Name: "id", In: "path", Required: true, Description: "The id.",
			Schema: &huma.Schema{Type: huma.TypeString}})
	}
	for where, all := range map[string][]param{"query": rt.query, "header": rt.headers} {
		for _, p := range all {
			op.Parameters = append(op.Parameters, &huma.Param{Name: p.name, In: where, Description: p.doc, Example: p.example,
				Schema: &huma.Schema{Type: p.kind}})
		}
	}
	if rt.in != nil {
		op.RequestBody = &huma.RequestBody{Required: !rt.bodyOptional,
			Content: map[string]*huma.MediaType{"application/json": {Schema: registry.Schema(rt.in, true, ""), Example: exampleOf(rt.example)}}}
	}
	op.Responses[strconv.Itoa(rt.status)] = &huma.Response{Description: http.StatusText(rt.status),
		Content: map[string]*huma.MediaType{"application/json": {Schema: registry.Schema(rt.out, true, ""), Example: exampleOf(rt.answer)}}}
	for _, status := range errorsOf(rt) {
		op.Responses[strconv.Itoa(status)] = &huma.Response{Description: http.StatusText(status),
			Content: map[string]*huma.MediaType{"application/problem+json": {Schema: &huma.Schema{Ref: problemSchema}}}}
	}
	return op
}

func errorsOf(rt route) []int {
	all := append([]int{400, 401, 403, 500, 503}, rt.errors...)
	slices.Sort(all)
	return slices.Compact(all)
}

func exampleOf(text string) any {
	if text == "" {
		return nil
	}
	return json.RawMessage(text)
}

func (a *API) serveDocument(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(a.document)
}

// scopeTexts says what each scope is for.
var scopeTexts = map[auth.Scope]string{
	auth.Send:   "Hand in messages, here or by SMTP, and preview their seals.",
	auth.Read:   "Read and search messages and deliveries.",
	auth.Cancel: "Cancel what is not sent yet.",
	auth.Events: "Read the event stream.",

	auth.ReadSuppressions:  "See which addresses are suppressed, and why.",
	auth.WriteSuppressions: "Suppress addresses, and take that back.",
}
