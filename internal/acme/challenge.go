package acme

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	protocol "github.com/mholt/acmez/v3/acme"
)

// Protocol is what a TLS listener must offer beside its own, for challenges to
// reach it (RFC 8737 section 4).
const Protocol = acmez.ACMETLS1Protocol

// solver puts the answers to challenges where every node finds them.
type solver struct{ store *storage }

func challengePath(kind, name string) string {
	return "challenges/" + kind + "/" + certmagic.StorageKeys.Safe(name)
}

// Present makes the answer known.
func (s solver) Present(ctx context.Context, c protocol.Challenge) error {
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return s.store.Store(ctx, challengePath(c.Type, c.Identifier.Value), text)
}

// CleanUp forgets it, even for a caller whose time is up.
func (s solver) CleanUp(ctx context.Context, c protocol.Challenge) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLimit)
	defer cancel()
	return s.store.Delete(ctx, challengePath(c.Type, c.Identifier.Value))
}

var errNoChallenge = errors.New("no challenge is under way for this name")

func (s *Service) challenge(ctx context.Context, kind, name string) (c protocol.Challenge, err error) {
	if !s.isOurs(name) {
		return c, errNoChallenge
	}
	text, err := s.store.Load(ctx, challengePath(kind, name))
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	return c, err
}

var errNoCertificate = errors.New("there is no certificate yet")

// Certificate chooses what a client is shown, for tls.Config.
func (s *Service) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := normal(hello.ServerName)
	if slices.Equal(hello.SupportedProtos, []string{Protocol}) {
		c, err := s.challenge(hello.Context(), protocol.ChallengeTypeTLSALPN01, name)
		if err != nil {
			return nil, errNoChallenge
		}
		return acmez.TLSALPN01ChallengeCert(c)
	}
	for _, n := range []string{name, normal(s.Hostname)} {
		if c, held := s.newest(n); held {
			return &c.Certificate, nil
		}
	}
	return nil, errNoCertificate
}

// newest gives the certificate that is shown for a name of ours.
func (s *Service) newest(name string) (best certmagic.Certificate, held bool) {
	if !s.isOurs(name) {
		return best, false
	}
	for _, c := range s.cache.AllMatchingCertificates(name) {
		if !held || c.Leaf.NotAfter.After(best.Leaf.NotAfter) {
			best, held = c, true
		}
	}
	return best, held
}

const challengePrefix = "/.well-known/acme-challenge/"

// Door answers challenges over plain HTTP (RFC 8555 section 8.3) and sends
// everybody else to https, at the host they asked for if it is ours. base gives
// the URL that a host is served at.
func (s *Service) Door(base func(host string) string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		host = normal(host)
		switch token, asked := strings.CutPrefix(r.URL.Path, challengePrefix); {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			http.Error(w, "This port only answers certificate authorities. Use https.", http.StatusMethodNotAllowed)
		case !s.isOurs(host):
			http.Error(w, "There is nothing here by that name.", http.StatusNotFound)
		case asked:
			s.answer(w, r, host, token)
		default:
			w.Header().Set("Connection", "close")
			http.Redirect(w, r, base(host)+r.URL.RequestURI(), http.StatusMovedPermanently)
		}
	})
}

func (s *Service) answer(w http.ResponseWriter, r *http.Request, host, token string) {
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	c, err := s.challenge(ctx, protocol.ChallengeTypeHTTP01, host)
	if err != nil || c.Token != token || token == "" {
		http.Error(w, "No challenge is under way.", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write([]byte(c.KeyAuthorization)) // the authority may be gone
}
