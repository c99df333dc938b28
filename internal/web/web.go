// Package web is what all pages and APIs share: security headers, one record
// per request, cookies, rate limits at the door.
//
// Invariants:
//   - A record names the route's pattern, never the path or the query: paths
//     hold credentials.
//   - A panic ends one request with a generic answer and is logged with the
//     request's id.
//   - Nothing is cached, framed or sniffed unless a handler says otherwise.
//   - Cookies are HttpOnly and SameSite=Strict. Over HTTPS they are Secure and
//     named __Host-, so that no other host can set them (RFC 6265bis section
//     4.1.3.2).
package web

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/private"
)

// Deps are what the middleware works with.
type Deps struct {
	Log       *slog.Logger
	Clock     clock.Clock
	PublicURL string // decides whether browsers are told to insist on HTTPS
}

// Wrap puts a mux behind the middleware. It must be the mux itself, or pass
// the request on unchanged: the record takes the pattern from the request.
func Wrap(d Deps, next http.Handler) http.Handler {
	secure := IsSecure(d.PublicURL)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &record{id: newRequestID()}
		r = r.WithContext(context.WithValue(r.Context(), recordKey{}, rec))
		out := &response{ResponseWriter: w}
		began := d.Clock.Now()
		defer func() { d.finish(out, r, rec, began, recover()) }()
		secureHeaders(w.Header(), secure)
		w.Header().Set("X-Request-Id", rec.id)
		next.ServeHTTP(out, r)
	})
}

// IsSecure reports whether a public URL is HTTPS.
func IsSecure(publicURL string) bool { return strings.HasPrefix(publicURL, "https://") }

func secureHeaders(h http.Header, secure bool) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	if secure {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// finish answers after a panic and writes the record.
func (d Deps) finish(out *response, r *http.Request, rec *record, began time.Time, panicked any) {
	aborted := panicked == http.ErrAbortHandler //nolint:errorlint // a sentinel, never wrapped
	if panicked != nil && !aborted {
		d.Log.Error("panic", "request", rec.id, "panic", private.Panic(panicked), "stack", string(debug.Stack()))
		if out.status == 0 {
			http.Error(out, "Something went wrong on our side. Please try again.", http.StatusInternalServerError)
		}
	}
	if out.status == 0 {
		out.status = http.StatusOK
	}
	level := slog.LevelInfo
	if out.status >= 500 {
		level = slog.LevelError
	}
	attrs := []slog.Attr{
		slog.String("id", rec.id), slog.String("method", method(r.Method)), slog.String("route", route(r)),
		slog.Int("status", out.status), slog.Int64("bytes", out.written),
		slog.Duration("took", d.Clock.Now().Sub(began)), slog.String("client", ClientAddress(r).String()),
	}
	d.Log.LogAttrs(context.WithoutCancel(r.Context()), level, "request", append(attrs, rec.more()...)...)
	if aborted {
		panic(panicked)
	}
}

// route is the pattern that matched; "none" when no route did.
func route(r *http.Request) string {
	if r.Pattern == "" {
		return "none"
	}
	return r.Pattern
}

// method keeps what a client may write there out of the log.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}

type recordKey struct{}

// record is what is said about one request, once.
type record struct {
	id    string
	mu    sync.Mutex
	attrs []slog.Attr
}

func (r *record) more() []slog.Attr {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.attrs
}

// Add puts attributes into the record of the request of ctx. They hold no
// content and no secret.
func Add(ctx context.Context, attrs ...slog.Attr) {
	if rec, ok := ctx.Value(recordKey{}).(*record); ok {
		rec.mu.Lock()
		rec.attrs = append(rec.attrs, attrs...)
		rec.mu.Unlock()
	}
}

// RequestID is the id of the request of ctx, which people can quote.
func RequestID(ctx context.Context) string {
	if rec, ok := ctx.Value(recordKey{}).(*record); ok {
		return rec.id
	}
	return ""
}

func newRequestID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return hex.EncodeToString(b[:])
}

// response remembers what was answered.
type response struct {
	http.ResponseWriter
	status  int
	written int64
}

// WriteHeader remembers the final status.
func (w *response) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write counts.
func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.written += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// ClientAddress is where a request comes from. A peer on loopback is a proxy
// on this machine and is believed about the client it speaks for: the last
// element of X-Forwarded-For is the one that the proxy itself wrote.
func ClientAddress(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	peer, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	peer = peer.Unmap().WithZone("")
	if all := r.Header.Values("X-Forwarded-For"); peer.IsLoopback() && len(all) > 0 {
		last := all[len(all)-1]
		last = strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:])
		if a, err := netip.ParseAddr(last); err == nil {
			return a.Unmap().WithZone("")
		}
	}
	return peer
}

// Cookies reads and writes the cookies of one public URL.
type Cookies struct{ secure bool }

// NewCookies gives the cookies of a public URL. Browsers refuse __Host- names
// over plain HTTP, which only loopback has.
func NewCookies(publicURL string) Cookies { return Cookies{IsSecure(publicURL)} }

func (c Cookies) name(name string) string {
	if c.secure {
		return "__Host-" + name
	}
	return name
}

// Set writes a cookie that lives for age. SameSite=Strict does no harm to
// people who come by a link in their mail: what that link opens needs no
// cookie, and the forms behind it are posted from our own page.
func (c Cookies) Set(w http.ResponseWriter, name string, value private.String, age time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: c.name(name), Value: value.Reveal(), Path: "/", MaxAge: max(1, int(age/time.Second)),
		Secure: c.secure, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
}

// Clear removes a cookie.
func (c Cookies) Clear(w http.ResponseWriter, name string) {
	http.SetCookie(w, &http.Cookie{
		Name: c.name(name), Path: "/", MaxAge: -1, Secure: c.secure, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
}

// Get reads a cookie.
func (c Cookies) Get(r *http.Request, name string) (private.String, bool) {
	k, err := r.Cookie(c.name(name))
	if err != nil || k.Value == "" {
		return private.String{}, false
	}
	return private.NewString(k.Value), true
}
