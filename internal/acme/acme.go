// Package acme gets the certificates of our own host names from an authority
// by ACME (RFC 8555), renews them, and hands them to the listeners.
//
// certmagic decides when to renew and keeps its values in our database; what is
// said to the authority goes through acmez. So all nodes share one account and
// one certificate for each name, and any of them answers a challenge that
// another one asked for.
//
// Invariants:
//   - A certificate is asked for only for names that Names gives at that
//     moment, whoever connects and whatever the name in the handshake.
//   - Keys, the account and answers to challenges stand sealed in the database,
//     and each new certificate is a ledger entry in the same transaction.
//   - One node at a time asks for a name: it holds a row whose lease it renews,
//     and whose lease ends with it.
//   - A renewal keeps the private key, so that TLSA records 3 1 1 stay true.
//   - No failure stops the node: listeners wait without a certificate, never
//     with one that we made ourselves, and the next attempt comes later each time.
//   - Everything is bounded: names, attempts at once, their time, sizes.
package acme

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/resolve"
)

// Bounds.
const (
	maxNames     = 1000
	atOnce       = 4 // attempts
	lookEvery    = time.Minute
	renewEvery   = 10 * time.Minute // how often certmagic looks what ends soon
	attemptLimit = 5 * time.Minute
	closeLimit   = 10 * time.Second // to give back what is held
)

// Deps are what the service works with.
type Deps struct {
	DB       *db.DB
	Custody  *custody.Custody
	Clock    clock.Clock
	Log      *slog.Logger
	Resolver *resolve.Resolver

	Directory string         // of the authority
	Contact   private.String // address for the account, or empty
	Roots     *x509.CertPool // of the authority's own certificate; nil: the system's
	DNS       string         // resolver that finds the authority, as address:port; empty: the system's
	Hostname  string         // whose certificate is shown where no other fits

	// TLSALPN and HTTP tell which challenges reach nodes of this kind: those
	// of RFC 8737 and of RFC 8555 section 8.3. A node without any asks for
	// nothing and uses what the others obtained.
	TLSALPN, HTTP bool

	// Names gives all names that are ours.
	Names func(ctx context.Context) ([]string, error)

	// RenewEvery is how often it is looked what ends soon. Zero stands for ten
	// minutes.
	RenewEvery time.Duration
}

// Service is safe for concurrent use. Load comes before the listeners, Start
// once they answer.
type Service struct {
	Deps
	store  *storage
	issuer *issuer

	magic *certmagic.Config
	cache *certmagic.Cache
	names atomic.Pointer[[]string] // sorted

	stop  context.CancelFunc
	work  sync.WaitGroup
	ended sync.Once

	mu       sync.Mutex
	failures map[string]failure // by name
}

// New makes the service. It asks nobody anything.
func New(d Deps) *Service {
	if d.RenewEvery == 0 {
		d.RenewEvery = renewEvery
	}
	s := &Service{Deps: d, failures: map[string]failure{}}
	s.store = newStorage(d)
	s.issuer = newIssuer(d, s.store)
	s.names.Store(&[]string{})
	return s
}

// Load takes the certificates that are stored.
func (s *Service) Load(ctx context.Context) error {
	s.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   s.maintained,
		RenewCheckInterval: s.RenewEvery, Logger: zap.NewNop(),
	})
	// certmagic's own log quotes the account's contact; what people must know
	// comes through event.
	s.magic = certmagic.New(s.cache, certmagic.Config{
		Storage: s.store, Issuers: []certmagic.Issuer{s.issuer}, ReusePrivateKeys: true,
		KeySource: certmagic.StandardKeyGenerator{KeyType: certmagic.P256},
		OCSP:      certmagic.OCSPConfig{DisableStapling: true}, // a request to others for each certificate, which none must have
		OnEvent:   s.event, DisableStorageCheck: true, Logger: zap.NewNop(),
	})
	if err := s.look(ctx); err != nil {
		return err
	}
	for _, name := range *s.names.Load() {
		if _, err := s.magic.CacheManagedCertificate(ctx, name); err != nil && !errors.Is(err, errNotStored) {
			s.Log.Error("a stored certificate could not be read", "host", name, "error", err)
		}
	}
	return nil
}

var errAsksNothing = errors.New("no challenge reaches this node; it takes what others obtain")

// maintained has certmagic renew certificates on nodes that can.
func (s *Service) maintained(certmagic.Certificate) (*certmagic.Config, error) {
	if !s.asks() {
		return nil, errAsksNothing
	}
	return s.magic, nil
}

func (s *Service) asks() bool { return s.TLSALPN || s.HTTP }

// Start begins to obtain what is missing.
func (s *Service) Start(ctx context.Context) {
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.work.Go(func() {
		// What ended while no node ran is not left to certmagic's next look.
		if err := s.cache.RenewManagedCertificates(ctx); err != nil {
			s.Log.Error("certificates could not be renewed", "error", err)
		}
		for {
			if err := s.round(ctx); err != nil && ctx.Err() == nil {
				s.Log.Error("certificates could not be looked after; it is tried again", "error", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-s.Clock.After(lookEvery):
			}
		}
	})
}

// Stop ends what is under way and gives back what it held. It is bounded:
// certmagic does not let go of an answer it waits for.
func (s *Service) Stop() {
	if s.stop != nil {
		s.stop()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.work.Wait()
		if s.cache != nil {
			s.ended.Do(s.cache.Stop)
		}
		s.store.wait()
		s.issuer.close()
	}()
	select {
	case <-done:
	case <-time.After(closeLimit):
		s.Log.Error("what was under way with the certificate authority did not end in time")
	}
}

// look learns the names that are ours now.
func (s *Service) look(ctx context.Context) error {
	names, err := s.ours(ctx)
	if err != nil {
		return err
	}
	for _, gone := range *s.names.Load() {
		if _, still := slices.BinarySearch(names, gone); !still {
			s.cache.RemoveManaged([]certmagic.SubjectIssuer{{Subject: gone}})
		}
	}
	s.names.Store(&names)
	return nil
}

// ours gives the names, sorted, as far as they can be in a certificate.
func (d Deps) ours(ctx context.Context) ([]string, error) {
	all, err := d.Names(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, n := range all {
		if n = normal(n); Certifiable(n) {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) > maxNames {
		d.Log.Error("there are more host names than certificates are kept for", "names", len(names), "most", maxNames)
		names = names[:maxNames]
	}
	return names, nil
}

// Certifiable reports whether authorities certify names like this one: of at
// least two labels, and no address.
func Certifiable(name string) bool {
	_, err := netip.ParseAddr(name)
	return err != nil && strings.Contains(strings.Trim(name, "."), ".") && certmagic.SubjectQualifiesForCert(name) && !strings.Contains(name, "*")
}

func normal(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

func (s *Service) isOurs(name string) bool {
	_, ours := slices.BinarySearch(*s.names.Load(), name)
	return ours
}

// newHTTP is a client for the authority alone.
func newHTTP(d Deps) *http.Client {
	dialer := &net.Dialer{Timeout: 30 * time.Second}
	if d.DNS != "" {
		dialer.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, d.DNS)
		}}
	}
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSClientConfig: tlsFor(d.Roots),
		TLSHandshakeTimeout: 30 * time.Second, ResponseHeaderTimeout: 30 * time.Second, ForceAttemptHTTP2: true,
	}}
}
