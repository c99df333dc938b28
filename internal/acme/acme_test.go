package acme

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	protocol "github.com/mholt/acmez/v3/acme"
	"go.uber.org/goleak"

	"github.com/sealpost/sealpost/internal/acme/acmetest"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody/custodytest"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/resolve"
)

// No test leaves a goroutine behind: Stop ends what certmagic began.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const contact = "ops.person@clinic.test"

// nodes are nodes of one installation, on an internet with an authority.
type nodes struct {
	*testing.T
	net   *fake.Internet
	host  string // certmagic remembers failures of a name for the whole process, so each test has its own
	clock *clock.Fake
	deps  Deps
	log   bytes.Buffer
}

func newNodes(t *testing.T, d *db.DB) *nodes {
	n := &nodes{T: t, clock: clock.NewFake(time.Now()), host: strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name())) + ".clinic.test"}
	var err error
	n.net, err = fake.Start(context.Background(), fake.Options{})
	must(t, err)
	t.Cleanup(n.net.Close)
	n.net.SetA(n.host, netip.MustParseAddr("127.0.0.1"))
	resolver, err := resolve.New(resolve.Deps{Servers: []string{n.net.ResolverAddr}})
	must(t, err)
	n.deps = Deps{
		DB: d, Custody: custodytest.New(t, d), Clock: n.clock, Log: slog.New(slog.DiscardHandler), Resolver: resolver,
		Contact: private.NewString(contact), Roots: n.net.CAPool(), DNS: n.net.ResolverAddr, Hostname: n.host,
		Names: func(context.Context) ([]string, error) {
			return []string{n.host, strings.ToUpper(n.host) + ".", "192.0.2.1", "localhost"}, nil
		},
		RenewEvery: 200 * time.Millisecond,
	}
	return n
}

func (n *nodes) start(d Deps) *Service {
	n.Helper()
	s := New(d)
	must(n.T, s.Load(n.Context()))
	n.Cleanup(func() {
		began := time.Now()
		s.Stop()
		s.Stop()
		if time.Since(began) >= closeLimit {
			n.Error("it does not stop")
		}
	})
	return s
}

// leaf waits until a node shows a certificate that is wanted.
func (n *nodes) leaf(s *Service, wanted func(*x509.Certificate) bool) *x509.Certificate {
	n.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		n.clock.Advance(lookEvery)
		if c, err := s.Certificate(&tls.ClientHelloInfo{ServerName: "elsewhere.test"}); err == nil && wanted(c.Leaf) {
			return c.Leaf
		}
		time.Sleep(20 * time.Millisecond)
	}
	n.Fatal("no certificate comes")
	return nil
}

// TestNodesShareACertificate: one node asks, the authority comes to another
// one, both show the same certificate, and both show the renewed one, which
// has the same key.
func TestNodesShareACertificate(t *testing.T) {
	t.Run(protocol.ChallengeTypeTLSALPN01, func(t *testing.T) {
		dbtest.Each(t, func(t *testing.T, d *db.DB) {
			t.Parallel()
			share(t, d, protocol.ChallengeTypeTLSALPN01)
		})
	})
	t.Run(protocol.ChallengeTypeHTTP01, func(t *testing.T) {
		t.Parallel()
		share(t, dbtest.SQLite(t), protocol.ChallengeTypeHTTP01)
	})
}

func share(t *testing.T, d *db.DB, challenge string) {
	n := newNodes(t, d)
	other := n.start(n.deps) // asks for nothing
	port := acmetest.Port(t, n.serve(other, challenge))
	ca := acmetest.Pebble(t, n.net, acmetest.Options{TLSPort: port, HTTPPort: port, Validity: 4 * time.Second})
	deps := n.deps
	deps.Directory = ca.Directory
	deps.TLSALPN, deps.HTTP = challenge == protocol.ChallengeTypeTLSALPN01, challenge == protocol.ChallengeTypeHTTP01
	asking := n.start(deps)
	asking.Start(t.Context())
	other.issuer.Directory, other.issuer.key = ca.Directory, asking.issuer.key
	other.Start(t.Context())

	first := n.leaf(asking, func(*x509.Certificate) bool { return true })
	whileGood := x509.VerifyOptions{DNSName: n.host, Roots: ca.Pool(), Intermediates: n.chain(asking), CurrentTime: first.NotBefore.Add(time.Second)}
	if _, err := first.Verify(whileGood); err != nil {
		t.Error(err)
	}
	n.leaf(other, func(c *x509.Certificate) bool {
		return bytes.Equal(c.RawSubjectPublicKeyInfo, first.RawSubjectPublicKeyInfo)
	})
	second := n.leaf(asking, func(c *x509.Certificate) bool { return !c.Equal(first) })
	if !bytes.Equal(second.RawSubjectPublicKeyInfo, first.RawSubjectPublicKeyInfo) {
		t.Error("a renewal changed the key")
	}
	n.leaf(other, func(c *x509.Certificate) bool { return c.NotAfter.After(first.NotAfter) })
	n.isRecorded(first)
	n.namesNobody()
}

// serve has a node answer one kind of challenge.
func (n *nodes) serve(s *Service, challenge string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(n.T, err)
	server := &http.Server{Handler: s.Door(func(host string) string { return "https://" + host }), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	n.Cleanup(func() { _ = server.Close() })
	in := l
	if challenge == protocol.ChallengeTypeTLSALPN01 {
		in = tls.NewListener(l, &tls.Config{GetCertificate: s.Certificate, NextProtos: []string{"http/1.1", Protocol}})
	}
	go func() { _ = server.Serve(in) }()
	return l.Addr().String()
}

func (n *nodes) chain(s *Service) *x509.CertPool {
	n.Helper()
	held, err := s.Held(n.Context())
	must(n.T, err)
	if len(held) != 1 || held[0].Name != n.host || held[0].Leaf == nil {
		n.Fatalf("held: %+v", held)
	}
	pool := x509.NewCertPool()
	for _, c := range held[0].Chain {
		pool.AddCert(c)
	}
	return pool
}

// isRecorded looks for the ledger's entry of a certificate.
func (n *nodes) isRecorded(c *x509.Certificate) {
	n.Helper()
	_, err := ledger.Place(n.Context(), n.deps.DB, 0)
	must(n.T, err)
	events, _, err := ledger.Read(n.Context(), n.deps.DB, db.System, -1, 100)
	must(n.T, err)
	if !slices.ContainsFunc(events, func(e ledger.Event) bool {
		return e.Type == ledger.CertificateObtained && strings.Contains(string(e.Data), c.SerialNumber.Text(16)) && strings.Contains(string(e.Data), n.host)
	}) {
		n.Errorf("the ledger does not tell of %s among %d entries", c.SerialNumber.Text(16), len(events))
	}
}

// namesNobody: no path holds a person's address.
func (n *nodes) namesNobody() {
	n.Helper()
	must(n.T, n.deps.DB.Read(n.Context(), db.System, func(tx *db.Tx) error {
		paths, err := db.All(tx, db.Value[string], "SELECT path FROM acme_values")
		for _, p := range paths {
			if strings.Contains(p, "@") || strings.Contains(p, "person") {
				n.Errorf("a path names somebody: %s", p)
			}
		}
		return err
	}))
}

// TestOnlyOurNames: whatever asks, nothing goes to the authority for another
// name, or for one that was ours before.
func TestOnlyOurNames(t *testing.T) {
	n := newNodes(t, dbtest.SQLite(t))
	asked := false
	ca := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer ca.Close()
	deps := n.deps
	deps.Directory, deps.TLSALPN = ca.URL, true
	names := []string{n.host, "mta-sts.clinic.test"}
	deps.Names = func(context.Context) ([]string, error) { return names, nil }
	s := n.start(deps)
	names = []string{n.host} // between the look and the attempt
	for _, name := range []string{"elsewhere.test", "mta-sts.clinic.test", "x." + n.host} {
		if err := s.magic.ObtainCertSync(t.Context(), name); !errors.Is(err, errNotOurs) {
			t.Errorf("%s: %v", name, err)
		}
	}
	csr := &x509.CertificateRequest{DNSNames: []string{n.host, "elsewhere.test"}}
	if _, err := s.issuer.Issue(t.Context(), csr); !errors.Is(err, errNotOurs) {
		t.Errorf("a request with another name beside ours: %v", err)
	}
	if asked {
		t.Error("the authority was asked")
	}
}

// TestNamesAreBounded: too many are cut, what cannot be certified is left out.
func TestNamesAreBounded(t *testing.T) {
	n := newNodes(t, dbtest.SQLite(t))
	n.deps.Names = func(context.Context) (all []string, err error) {
		for i := range maxNames + 10 {
			all = append(all, fmt.Sprintf("h%d.clinic.test", i))
		}
		return append(all, "*.clinic.test", "::1", "192.0.2.1", "localhost", "a b.test", ""), nil
	}
	names, err := n.deps.ours(t.Context())
	if err != nil || len(names) != maxNames || slices.ContainsFunc(names, func(s string) bool { return !strings.HasPrefix(s, "h") }) {
		t.Errorf("%d names, %v", len(names), err)
	}
}

// TestAnAuthorityThatIsAway: the node runs without a certificate, and asks
// again later each time. A name that leads nowhere is not asked for.
func TestAnAuthorityThatIsAway(t *testing.T) {
	n := newNodes(t, dbtest.SQLite(t))
	ca := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, `{"type":"urn:ietf:params:acme:error:unauthorized","detail":"not for %s"}`, contact)
	}))
	defer ca.Close()
	deps := n.deps
	deps.Log = slog.New(slog.NewTextHandler(&n.log, nil))
	deps.Directory, deps.TLSALPN, deps.Roots = ca.URL, true, x509.NewCertPool()
	deps.Roots.AddCert(ca.Certificate())
	deps.Names = func(context.Context) ([]string, error) { return []string{n.host, "nowhere.clinic.test"}, nil }
	s := n.start(deps)
	for i, wait := range []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, 6 * time.Hour} {
		must(t, s.round(t.Context()))
		must(t, s.round(t.Context()))
		if f := s.failures[n.host]; f.times != i+1 || !f.next.Equal(n.clock.Now().Add(wait)) {
			t.Fatalf("after %d failures: %+v at %s", i+1, f, n.clock.Now())
		}
		n.clock.Advance(wait)
	}
	if _, tried := s.failures["nowhere.clinic.test"]; tried {
		t.Error("a name without an address was asked for")
	}
	if _, err := s.Certificate(&tls.ClientHelloInfo{ServerName: n.host}); !errors.Is(err, errNoCertificate) {
		t.Errorf("without a certificate: %v", err)
	}
	if log := n.log.String(); !strings.Contains(log, "not for the contact") || strings.Contains(log, "ops.person") {
		t.Errorf("the log:\n%s", log)
	}
}

// TestTheAuthoritySaysWhenToRenew (RFC 9773): Pebble of Debian cannot.
func TestTheAuthoritySaysWhenToRenew(t *testing.T) {
	n := newNodes(t, dbtest.SQLite(t))
	start := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	mux := http.NewServeMux()
	ca := httptest.NewTLSServer(mux)
	defer ca.Close()
	mux.HandleFunc("/dir", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"newNonce":%[1]q,"newAccount":%[1]q,"newOrder":%[1]q,"renewalInfo":%[2]q}`, ca.URL+"/none", ca.URL+"/ari")
	})
	mux.HandleFunc("/ari/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Retry-After", "3600")
		_, _ = fmt.Fprintf(w, `{"suggestedWindow":{"start":%q,"end":%q}}`, start.Format(time.RFC3339), start.Add(time.Hour).Format(time.RFC3339))
	})
	n.deps.Directory, n.deps.Roots = ca.URL+"/dir", x509.NewCertPool()
	n.deps.Roots.AddCert(ca.Certificate())
	pair, err := n.net.Issue([]string{n.host}, fake.CertOptions{})
	must(t, err)
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	must(t, err)
	i := newIssuer(n.deps, nil)
	defer i.close()
	pair.Leaf = leaf
	info, err := i.GetRenewalInfo(t.Context(), certmagic.Certificate{Certificate: pair})
	if err != nil || !info.SuggestedWindow.Start.Equal(start) || info.SelectedTime.Before(start) {
		t.Errorf("%+v, %v", info, err)
	}
}

// TestDoor: what is no challenge goes to https at our own names, and strangers
// learn nothing.
func TestDoor(t *testing.T) {
	n := newNodes(t, dbtest.SQLite(t))
	s := n.start(n.deps)
	c := protocol.Challenge{Type: protocol.ChallengeTypeHTTP01, Token: "tok", KeyAuthorization: "tok.print", Identifier: protocol.Identifier{Type: "dns", Value: n.host}}
	must(t, solver{s.store}.Present(t.Context(), c))
	door := s.Door(func(host string) string { return "https://" + host + ":8443" })
	ask := func(method, name, path string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, nil)
		r.Host = name
		w := httptest.NewRecorder()
		door.ServeHTTP(w, r)
		return w
	}
	for _, tc := range []struct {
		method, host, path string
		code               int
		want               string
	}{
		{"GET", n.host, challengePrefix + "tok", 200, "tok.print"},
		{"GET", strings.ToUpper(n.host) + ":80", challengePrefix + "tok", 200, "tok.print"},
		{"GET", n.host, challengePrefix + "other", 404, ""},
		{"GET", n.host, challengePrefix, 404, ""},
		{"GET", "elsewhere.test", challengePrefix + "tok", 404, ""},
		{"GET", "elsewhere.test", "/", 404, ""},
		{"POST", n.host, "/", 405, ""},
		{"GET", n.host, "/p/x?y=z", 301, "https://" + n.host + ":8443/p/x?y=z"},
		{"GET", n.host, "//elsewhere.test/x", 301, "https://" + n.host + ":8443//elsewhere.test/x"},
	} {
		w := ask(tc.method, tc.host, tc.path)
		got := w.Body.String()
		if w.Code == http.StatusMovedPermanently {
			got = w.Header().Get("Location")
		}
		if w.Code != tc.code || tc.want != "" && got != tc.want {
			t.Errorf("%s %s %s: %d %q", tc.method, tc.host, tc.path, w.Code, got)
		}
	}
	must(t, solver{s.store}.CleanUp(t.Context(), c))
	if w := ask("GET", n.host, challengePrefix+"tok"); w.Code != http.StatusNotFound {
		t.Errorf("a challenge that is over: %d", w.Code)
	}
}
