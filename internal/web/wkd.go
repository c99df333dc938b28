package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/mail"
)

// Directory serves the Web Key Directory of our own domains
// (draft-koch-openpgp-webkey-service): by the advanced method, where the path
// names the domain, and by the direct one, where the host does.
type Directory struct {
	// Keys gives what is published under a hash, and a fault.NotFound where
	// there is nothing.
	Keys func(ctx context.Context, domain, hash string) ([]byte, error)
	// Serves reports whether a domain is ours.
	Serves func(ctx context.Context, domain string) (bool, error)
	Limit  *Limiter // of one client; the names of entries can be guessed
}

// keyFreshFor is how long others may keep a key: a revocation should be seen
// soon.
const keyFreshFor = "public, max-age=300"

// Routes adds the directory to a mux. One pattern stands for all of it, and so
// the record of a request holds neither the hash nor the local part that
// clients put into the query.
func (d Directory) Routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /.well-known/openpgpkey/{path...}", d.serve)
}

var wkdHash = regexp.MustCompile(`^[ybndrfg8ejkmcpqxot1uwisza345h769]{32}$`)

func (d Directory) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin")
	if !d.Limit.Allow(r.Context(), ClientAddress(r)) {
		w.Header().Set("Retry-After", "60")
		http.Error(w, "Too many requests. Try again in a minute.", http.StatusTooManyRequests)
		return
	}
	domain, rest := wkdDomain(r)
	hash, entry := strings.CutPrefix(rest, "hu/")
	switch {
	case domain == "":
		noEntry(w)
	case entry && wkdHash.MatchString(hash):
		d.key(w, r, domain, hash)
	case rest == "policy":
		d.policy(w, r, domain)
	default:
		noEntry(w)
	}
}

// wkdDomain tells which domain is asked for, and what of it.
func wkdDomain(r *http.Request) (domain, rest string) {
	rest = r.PathValue("path")
	name := r.Host
	if host, _, err := net.SplitHostPort(r.Host); err == nil {
		name = host
	}
	if rest != "policy" && !strings.HasPrefix(rest, "hu/") {
		name, rest, _ = strings.Cut(rest, "/")
	}
	domain, err := mail.ParseDomain(strings.TrimSuffix(name, "."))
	if err != nil {
		return "", ""
	}
	return domain, rest
}

func (d Directory) key(w http.ResponseWriter, r *http.Request, domain, hash string) {
	keys, err := d.Keys(r.Context(), domain, hash)
	if err != nil {
		d.failed(w, err)
		return
	}
	sum := sha256.Sum256(keys)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", keyFreshFor)
	w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(keys))
}

// policy answers with an empty file, which says that no flag is set
// (section 4.5 of the draft).
func (d Directory) policy(w http.ResponseWriter, r *http.Request, domain string) {
	ours, err := d.Serves(r.Context(), domain)
	switch {
	case err != nil:
		d.failed(w, err)
	case !ours:
		noEntry(w)
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", keyFreshFor)
		w.WriteHeader(http.StatusOK)
	}
}

func (d Directory) failed(w http.ResponseWriter, err error) {
	if fault.Is(err, fault.NotFound) {
		noEntry(w)
		return
	}
	http.Error(w, "The key cannot be given now. Try again later.", http.StatusServiceUnavailable)
}

func noEntry(w http.ResponseWriter) { http.Error(w, "There is no such entry.", http.StatusNotFound) }
