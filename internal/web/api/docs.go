package api

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sealpost/sealpost/internal/auth"
)

//go:embed pages/docs.html
var pageText string

//go:embed pages/style.css
var styleText []byte

const pagePolicy = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// page is what the template shows.
type page struct {
	Title, Description string
	Operations         []pageOperation
	Problem            []pageField
	States, Scopes     []pageWord
}

type pageWord struct{ Word, Text string }

type pageOperation struct {
	Name, Method, Path, Summary, Description, Scope string
	Params                                          []pageField
	Request, Answer                                 []pageField
	Status                                          int
	Errors                                          []pageWord
	Curl, AnswerExample                             string
}

type pageField struct {
	Name, Kind, Doc, Example string
	Required                 bool
	Depth                    int
}

// renderPage shows the document to people. It is made once and asks no other
// host for anything.
func renderPage(doc *huma.OpenAPI, routes []route) ([]byte, error) {
	tmpl, err := template.New("docs").Parse(pageText)
	if err != nil {
		return nil, fmt.Errorf("API page: %w", err)
	}
	schemas := doc.Components.Schemas
	p := page{Title: doc.Info.Title, Description: doc.Info.Description,
		Problem: flatten(schemas, &huma.Schema{Ref: problemSchema}, 0)}
	for _, s := range stateOrder {
		p.States = append(p.States, pageWord{string(s), states[s]})
	}
	for _, s := range auth.Scopes() {
		p.Scopes = append(p.Scopes, pageWord{string(s), scopeTexts[s]})
	}
	for _, rt := range routes {
		p.Operations = append(p.Operations, pageOf(doc, schemas, rt))
	}
	var out bytes.Buffer
	if err := tmpl.Execute(&out, p); err != nil {
		return nil, fmt.Errorf("API page: %w", err)
	}
	return out.Bytes(), nil
}

func pageOf(doc *huma.OpenAPI, schemas huma.Registry, rt route) pageOperation {
	item := doc.Paths[rt.path]
	op := map[string]*huma.Operation{http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodDelete: item.Delete}[rt.method]
	out := pageOperation{Name: rt.name, Method: rt.method, Path: rt.path, Summary: op.Summary, Description: rt.description,
		Scope: string(rt.scope), Status: rt.status, Curl: curl(rt), AnswerExample: rt.answer}
	for _, q := range op.Parameters {
		out.Params = append(out.Params, pageField{Name: q.Name, Kind: q.In + " " + q.Schema.Type, Doc: q.Description, Required: q.Required})
	}
	if op.RequestBody != nil {
		out.Request = flatten(schemas, op.RequestBody.Content["application/json"].Schema, 0)
	}
	out.Answer = flatten(schemas, op.Responses[fmt.Sprint(rt.status)].Content["application/json"].Schema, 0)
	for _, status := range errorsOf(rt) {
		out.Errors = append(out.Errors, pageWord{fmt.Sprint(status), http.StatusText(status)})
	}
	return out
}

func curl(rt route) string {
	var b strings.Builder
	path := strings.Replace(rt.path, "{id}", "$ID", 1)
	fmt.Fprintf(&b, "curl \"$SEALPOST%s\" \\\n  -H \"Authorization: Bearer $KEY\"", path)
	switch {
	case rt.example != "":
		fmt.Fprintf(&b, " \\\n  -H \"Content-Type: application/json\" \\\n  -d '%s'", rt.example)
	case rt.method != http.MethodGet:
		b.WriteString(" \\\n  -X " + rt.method)
	}
	return b.String()
}

// flatten lists the fields of a schema in the order of its type, those of
// objects within it indented behind it.
func flatten(schemas huma.Registry, s *huma.Schema, depth int) []pageField {
	if s == nil || depth > 3 {
		return nil
	}
	if s.Type == huma.TypeArray {
		return flatten(schemas, s.Items, depth)
	}
	if s.Ref == "" {
		return nil
	}
	object := schemas.SchemaFromRef(s.Ref)
	var all []pageField
	for _, name := range namesOf(schemas.TypeFromRef(s.Ref)) {
		field := object.Properties[name]
		all = append(all, pageField{Name: name, Kind: kindOf(schemas, field), Doc: field.Description,
			Required: slices.Contains(object.Required, name), Depth: depth})
		all = append(all, flatten(schemas, field, depth+1)...)
	}
	return all
}

// namesOf gives the names of a struct's fields in JSON.
func namesOf(t reflect.Type) (names []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			names = append(names, namesOf(f.Type)...)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

func resolve(schemas huma.Registry, s *huma.Schema) *huma.Schema {
	if s != nil && s.Ref != "" {
		return schemas.SchemaFromRef(s.Ref)
	}
	return s
}

func kindOf(schemas huma.Registry, s *huma.Schema) string {
	kind := ""
	if r := resolve(schemas, s); r != nil {
		kind = r.Type
		switch {
		case r.Type == huma.TypeArray:
			kind = "list of " + kindOf(schemas, r.Items)
		case r.Format == "date-time":
			kind = "time"
		case r.ContentEncoding != "":
			kind = r.ContentEncoding
		case len(r.Enum) > 0:
			words := make([]string, len(r.Enum))
			for i, w := range r.Enum {
				words[i] = fmt.Sprint(w)
			}
			kind = strings.Join(words, ", ")
		case r.Type == "":
			kind = "object"
		}
	}
	return kind
}

func (a *API) servePage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", pagePolicy)
	_, _ = w.Write(a.page)
}

func serveStyle(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	_, _ = w.Write(styleText)
}
