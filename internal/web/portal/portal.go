// Package portal is where a recipient reads a message: a few pages made on the
// server, one style sheet, no script.
//
//	GET  /m/{credential}        a button; nothing is looked up
//	POST /m/{credential}/code   the same answer for every link; then a code is queued
//	POST /m/{credential}/open   code → session cookie → /read
//	GET  /read                  the message
//	GET  /read/html             its HTML, cleaned, in an origin of its own
//	GET  /read/file/{n}         a file, to be saved
//	POST /leave                 the end of the session
//
// Invariants:
//   - Fetching a link does nothing and tells nothing. Pages before the right
//     code are the same for every link, real or not, and name no organization.
//   - A refusal takes the same time whatever its cause.
//   - What a sender wrote is shown as text, or as cleaned HTML under a
//     Content-Security-Policy that gives it no origin, no script and no
//     network. Files are saved, never shown.
//   - Addresses of pages hold no content and, but for the link itself, no
//     secret.
package portal

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/pickup"
	"github.com/sealpost/sealpost/internal/web"
)

//go:embed pages static
var files embed.FS

// Deps are what the pages work with.
type Deps struct {
	Pickup    *pickup.Pickup
	Clock     clock.Clock
	PublicURL string // without a slash at the end

	// Pace is the least time a refused code takes, so that the time tells
	// nothing; 400 ms when zero, none when negative.
	Pace time.Duration
	// FormsPerMinute and PagesPerMinute bound one client address; 60 and 600
	// when zero.
	FormsPerMinute, PagesPerMinute int
}

// Portal serves the pages.
type Portal struct {
	Deps
	origin  string
	cookies web.Cookies
	forms   *web.Limiter
	views   *web.Limiter
	pages   map[string]*template.Template
	assets  map[string]asset // by the name in its address
	hashed  map[string]string
}

type asset struct {
	kind string
	data []byte
}

const (
	cookieBrowser = "sealpost-browser"
	cookieSession = "sealpost-read"
	browserAge    = time.Hour
	sessionAge    = 12 * time.Hour // the session itself ends in the database
	formLimit     = 4 << 10

	pagePolicy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; " +
		"frame-src 'self'; frame-ancestors 'none'"
)

// New parses every page and checks the public URL.
func New(d Deps) (*Portal, error) {
	u, err := url.Parse(d.PublicURL)
	if err != nil || u.Host == "" {
		return nil, errors.New("portal: the public URL is not absolute")
	}
	p := &Portal{Deps: d, origin: u.Scheme + "://" + u.Host, cookies: web.NewCookies(d.PublicURL),
		pages: map[string]*template.Template{}, assets: map[string]asset{}, hashed: map[string]string{}}
	if p.Pace == 0 {
		p.Pace = 400 * time.Millisecond
	}
	if p.FormsPerMinute <= 0 {
		p.FormsPerMinute = 60
	}
	if p.PagesPerMinute <= 0 {
		p.PagesPerMinute = 600
	}
	if p.forms, err = web.NewLimiter(d.Clock, p.FormsPerMinute, p.FormsPerMinute); err != nil {
		return nil, err
	}
	if p.views, err = web.NewLimiter(d.Clock, p.PagesPerMinute, p.PagesPerMinute); err != nil {
		return nil, err
	}
	if err := p.loadAssets(); err != nil {
		return nil, err
	}
	return p, p.loadPages()
}

// Routes mounts the pages, and a page for addresses that nobody else has. The
// mux stands behind web.Wrap.
func (p *Portal) Routes(mux *http.ServeMux) {
	view := func(h http.HandlerFunc) http.Handler { return p.limited(p.views, h) }
	form := func(h http.HandlerFunc) http.Handler { return web.SameOrigin(p.limited(p.forms, h)) }
	mux.Handle("GET /m/{credential}", view(p.ask))
	mux.Handle("POST /m/{credential}/code", form(p.sendCode))
	mux.Handle("POST /m/{credential}/open", form(p.open))
	mux.Handle("GET /read", view(p.read))
	mux.Handle("GET /read/html", view(p.readHTML))
	mux.Handle("GET /read/file/{n}", view(p.readFile))
	mux.Handle("POST /leave", form(p.leave))
	mux.HandleFunc("GET /static/{name}", p.static)
	mux.Handle("GET /{$}", view(p.home))
	mux.Handle("/", view(p.notFound))
}

func (p *Portal) limited(l *web.Limiter, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !l.Allow(r.Context(), web.ClientAddress(r)) {
			w.Header().Set("Retry-After", "60")
			p.problem(w, http.StatusTooManyRequests, "Please wait a minute",
				"Too many pages were opened in a short time. Wait a minute, then try again.")
			return
		}
		next(w, r)
	})
}

// loadAssets gives each file an address that changes with its content, so that
// browsers may keep it for ever.
func (p *Portal) loadAssets() error {
	kinds := map[string]string{".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
	return fs.WalkDir(files, "static", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		ext := path.Ext(name)
		hashed := strings.TrimSuffix(e.Name(), ext) + "-" + hex.EncodeToString(sum[:8]) + ext
		p.assets[hashed] = asset{kinds[ext], data}
		p.hashed[e.Name()] = "/static/" + hashed
		return nil
	})
}

func (p *Portal) loadPages() error {
	funcs := template.FuncMap{"asset": func(name string) string { return p.hashed[name] }}
	list, err := fs.Glob(files, "pages/*.html")
	if err != nil {
		return err
	}
	for _, name := range list {
		base := path.Base(name)
		if base == "layout.html" {
			continue
		}
		t, err := template.New("layout.html").Funcs(funcs).ParseFS(files, "pages/layout.html", name)
		if err != nil {
			return err
		}
		p.pages[strings.TrimSuffix(base, ".html")] = t
	}
	return nil
}

func (p *Portal) static(w http.ResponseWriter, r *http.Request) {
	a, ok := p.assets[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(a.data) // the reader may be gone
}

// show renders a page completely before anything of it is sent.
func (p *Portal) show(w http.ResponseWriter, status int, page string, data any) {
	var out bytes.Buffer
	if err := p.pages[page].Execute(&out, data); err != nil {
		panic(err) // a defect in a page of ours; its data is not in the error's type
	}
	w.Header().Set("Content-Security-Policy", pagePolicy)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes())
}

type problem struct{ Title, Text string }

func (p *Portal) problem(w http.ResponseWriter, status int, title, text string) {
	p.show(w, status, "problem", problem{title, text})
}

// fail shows a fault to somebody who was let in. Other errors go to the log.
func (p *Portal) fail(w http.ResponseWriter, r *http.Request, err error) {
	f := fault.From(err)
	title := "This message cannot be opened"
	switch {
	case errors.Is(err, pickup.ErrNoSession):
		title = "The message is closed"
	case errors.Is(err, pickup.ErrNoFile):
		title = "This file is not here"
	case f.Kind == fault.Internal || f.Kind == fault.Unavailable:
		logFailure(r, err)
		p.problem(w, fault.HTTP(err), "Something went wrong", "We could not open your message just now. It is safe. Please try again in a few minutes.")
		return
	}
	p.problem(w, fault.HTTP(err), title, f.Text)
}

func (p *Portal) home(w http.ResponseWriter, _ *http.Request) {
	p.problem(w, http.StatusOK, "Read a secure message",
		"Did you get an email about a secure message? Open the link in that email. You do not need a password or an account.")
}

func (p *Portal) notFound(w http.ResponseWriter, _ *http.Request) {
	p.problem(w, http.StatusNotFound, "There is no such page",
		"To read a secure message, open the link in your email. If you copied the link, make sure you copied all of it.")
}
