// Package api is the native JSON API: messages handed in, looked at, searched
// and canceled, the event stream, and what would happen to a message that is
// not sent.
//
// Invariants:
//   - Handlers decode, call and encode. They see no database.
//   - 202 is written only after submit.Door.Accept returned.
//   - A request is refused as a whole and with all its mistakes; a problem (RFC
//     9457) points to them and never repeats a value.
//   - An id that does not exist, one of another organization and one that is no
//     id get the same answer.
//   - Sizes, depth and number of values are bounded before anything is done
//     with them; unknown and repeated keys are refused. Large bodies are read a
//     few at a time, in all and for each organization.
//   - The routes, their scopes and the OpenAPI document come from one table.
package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
	"github.com/sealpost/sealpost/internal/suppress"
	"github.com/sealpost/sealpost/internal/web"
)

// Deps are what the handlers call.
type Deps struct {
	Door     *submit.Door
	Desk     *spool.Desk
	Clients  *auth.Clients
	Suppress *suppress.Service
	// Events reads an organization's ledger behind a position.
	Events func(ctx context.Context, org id.ID, after int64, limit int) (events []ledger.Event, next int64, err error)
	Clock  clock.Clock
	Log    *slog.Logger

	PublicURL string // without a slash at the end; named in the OpenAPI document
	MaxBody   int64  // octets of a request; 35 MiB when zero
}

// API serves the routes.
type API struct {
	Deps
	routes   []route
	document []byte
	page     []byte
	intake   *intake
}

// New makes the OpenAPI document and the page that shows it.
func New(d Deps) (*API, error) {
	if d.MaxBody == 0 {
		d.MaxBody = 35 << 20
	}
	a := &API{Deps: d, routes: append(routes(), suppressionRoutes()...), intake: newIntake(d.MaxBody)}
	doc := a.describe()
	var err error
	if a.document, err = doc.MarshalJSON(); err != nil {
		return nil, err
	}
	a.page, err = renderPage(doc, a.routes)
	return a, err
}

// Routes mounts the API under /api/. The mux stands behind web.Wrap.
func (a *API) Routes(mux *http.ServeMux) {
	methods := map[string][]string{}
	for _, rt := range a.routes {
		mux.Handle(rt.method+" "+rt.path, a.serve(rt))
		methods[rt.path] = append(methods[rt.path], rt.method)
	}
	get := func(path string, h http.HandlerFunc) {
		mux.HandleFunc("GET "+path, h)
		methods[path] = []string{http.MethodGet}
	}
	get("/api/openapi.json", a.serveDocument)
	get("/api/docs", a.servePage)
	get("/api/docs/style.css", serveStyle)
	for path, allowed := range methods {
		// Method by method: a pattern for all would conflict with paths that
		// differ in how exact they are.
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			if !slices.Contains(allowed, method) {
				mux.HandleFunc(method+" "+path, a.otherMethod(allowed))
			}
		}
	}
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		a.refuse(w, r, http.StatusNotFound, fault.New(fault.NotFound, "no_route", "There is nothing at this address. /api/docs lists what there is."))
	})
}

func (a *API) otherMethod(allowed []string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		a.refuse(w, r, http.StatusMethodNotAllowed, fault.New(fault.Invalid, "method_not_allowed", "This address does not know that method; the header Allow lists those it knows."))
	}
}

// route is one operation.
type route struct {
	method, path         string
	name                 string // operationId
	scope                auth.Scope
	summary, description string
	query                []param
	headers              []param
	in, out              reflect.Type
	bodyOptional         bool
	status               int
	errors               []int // beyond 400, 401, 403 and 503
	example, answer      string
	act                  func(c *call) (any, error)
}

// param is a parameter in the query or a header.
type param struct{ name, kind, doc, example string }

// call is one request that passed authentication.
type call struct {
	*API
	w         http.ResponseWriter
	r         *http.Request
	principal auth.Principal
	query     url.Values
	raw       []byte
	in        any    // pointer to a value of route.in
	leave     func() // gives back the room of the body
}

// body gives what the caller sent.
func body[T any](c *call) *T { return c.in.(*T) }

func (a *API) serve(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{API: a, w: w, r: r, leave: func() {}}
		defer func() { c.leave() }()
		out, err := c.run(rt)
		if err != nil {
			a.fail(w, r, err)
			return
		}
		writeJSON(w, rt.status, "application/json", out)
	})
}

func (c *call) run(rt route) (any, error) {
	if err := c.authenticate(rt.scope); err != nil {
		return nil, err
	}
	if err := c.readQuery(rt.query); err != nil {
		return nil, err
	}
	if rt.in != nil {
		if err := c.readBody(rt); err != nil {
			return nil, err
		}
	}
	return rt.act(c)
}

var noKey = fault.New(fault.Unauthenticated, "no_key", "Send your API key in the header Authorization, behind the word Bearer.")

func (c *call) authenticate(scope auth.Scope) error {
	challenge := `Bearer realm="sealpost"`
	scheme, token, _ := strings.Cut(c.r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || len(c.r.Header.Values("Authorization")) != 1 {
		c.w.Header().Set("WWW-Authenticate", challenge)
		return noKey
	}
	p, err := c.Clients.Authenticate(c.r.Context(), private.NewString(strings.Trim(token, " ")))
	if err != nil {
		if fault.Is(err, fault.Unauthenticated) { // RFC 6750 section 3.1
			c.w.Header().Set("WWW-Authenticate", challenge+`, error="invalid_token"`)
		}
		return err
	}
	web.Add(c.r.Context(), slog.String("org", p.Org.Text(id.Org)), slog.String("key", p.Client.Text(id.Client)))
	if !p.May(scope) {
		c.w.Header().Set("WWW-Authenticate", challenge+`, error="insufficient_scope", scope="`+string(scope)+`"`)
		return fault.Newf(fault.Denied, "scope_missing", "This needs a key with the scope %s.", scope)
	}
	c.principal = p
	return nil
}

// readQuery refuses parameters that nobody reads.
func (c *call) readQuery(known []param) error {
	var err error
	if c.query, err = url.ParseQuery(c.r.URL.RawQuery); err != nil {
		return fault.New(fault.Invalid, "bad_query", "The query of the address cannot be read.")
	}
	for name, values := range c.query {
		if !slices.ContainsFunc(known, func(p param) bool { return p.name == name }) {
			return fault.New(fault.Invalid, "unknown_parameter", "The query holds a parameter that is not known here.")
		}
		if len(values) != 1 {
			return fault.New(fault.Invalid, "repeated_parameter", "The query holds a parameter twice.").At(inQuery + name)
		}
	}
	return nil
}

// inQuery and inHeader mark pointers that are no pointers into the body.
const (
	inQuery  = "query:"
	inHeader = "header:"
)

func (c *call) readBody(rt route) error {
	c.in = reflect.New(rt.in).Interface()
	if c.r.ContentLength > c.MaxBody {
		return c.tooLarge()
	}
	data, err := c.readAll()
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return c.tooLarge()
	case err == busy: //nolint:errorlint // ours, never wrapped
		return err
	case err != nil:
		return fault.New(fault.Invalid, "body_cut_short", "The request ended before its body was complete.").Because(err)
	}
	c.raw = data
	if len(data) == 0 && rt.bodyOptional {
		return nil
	}
	media, params, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	charset := params["charset"]
	if err != nil || media != "application/json" || charset != "" && !strings.EqualFold(charset, "utf-8") || c.r.Header.Get("Content-Encoding") != "" {
		return notJSON
	}
	return decodeJSON(data, c.in)
}

// readAll reads the body: its beginning at once, and the rest when there is
// room for all of it.
func (c *call) readAll() ([]byte, error) {
	in := http.MaxBytesReader(c.w, c.r.Body, c.MaxBody)
	start, err := io.ReadAll(io.LimitReader(in, smallBody))
	if err != nil || len(start) < smallBody {
		return start, err
	}
	size := c.r.ContentLength
	if size < 0 {
		size = c.MaxBody // it may come to that
	}
	leave, err := c.intake.enter(c.r.Context(), c.principal.Org, size)
	if err != nil {
		return nil, err
	}
	c.leave = leave
	whole := bytes.NewBuffer(append(make([]byte, 0, size+bytes.MinRead), start...))
	_, err = whole.ReadFrom(in)
	return whole.Bytes(), err
}

// notJSON is answered with a status of its own.
var notJSON = fault.New(fault.Invalid, "unsupported_media_type", "Send JSON in UTF-8, with the header Content-Type: application/json and without Content-Encoding.")

func (c *call) tooLarge() error {
	return fault.Newf(fault.TooLarge, "body_too_large", "A request can have at most %d octets.", c.MaxBody)
}

// requestHash is of everything that makes two requests the same.
func (c *call) requestHash() []byte {
	h := sha256.New()
	_, _ = io.WriteString(h, c.r.Method+" "+c.r.URL.EscapedPath()+"\n")
	_, _ = h.Write(c.raw)
	return h.Sum(nil)
}
