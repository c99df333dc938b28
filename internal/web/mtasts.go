package web

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/mail"
)

// MTASTS serves the MTA-STS policies of our own domains (RFC 8461 section
// 3.3), each at the host mta-sts.DOMAIN and nowhere else.
type MTASTS struct {
	// Policy gives the policy of a domain, and a fault.NotFound where there is
	// none.
	Policy func(ctx context.Context, domain string) (string, error)
	Limit  *Limiter
}

// Routes adds the policies to a mux.
func (m MTASTS) Routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /.well-known/mta-sts.txt", m.serve)
}

func (m MTASTS) serve(w http.ResponseWriter, r *http.Request) {
	if !m.Limit.Allow(r.Context(), ClientAddress(r)) {
		w.Header().Set("Retry-After", "60")
		http.Error(w, "Too many requests. Try again in a minute.", http.StatusTooManyRequests)
		return
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	name, found := strings.CutPrefix(strings.ToLower(strings.TrimSuffix(host, ".")), "mta-sts.")
	domain, err := mail.ParseDomain(name)
	if !found || err != nil {
		noEntry(w)
		return
	}
	switch text, err := m.Policy(r.Context(), domain); {
	case fault.Is(err, fault.NotFound):
		noEntry(w)
	case err != nil:
		http.Error(w, "The policy cannot be given now. Try again later.", http.StatusServiceUnavailable)
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", keyFreshFor)
		_, _ = io.WriteString(w, text) // the client may be gone
	}
}
