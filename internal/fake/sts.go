package fake

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// STSFault is a way for the policy host of a domain to misbehave.
type STSFault int

// The faults of a policy host.
const (
	NoSTSFault   STSFault = iota
	STSBadCert            // its certificate is signed by nobody we trust
	STSHangs              // it takes the request and never answers
	STSRedirects          // it answers 301 to a good policy (RFC 8461 section 3.3 forbids following)
	STSOversized          // its policy is larger than 1 MiB
	STSMissing            // it answers 404
)

// STS is the MTA-STS record and policy of a domain.
type STS struct {
	ID     string
	Policy string // lines may end in LF; they are served with CRLF
	Fault  STSFault
	Serve  http.HandlerFunc // in place of the policy; nil: none
}

// STSPolicy writes a policy of RFC 8461 section 3.2.
func STSPolicy(mode string, maxAge time.Duration, mx ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: STSv1\nmode: %s\n", mode)
	for _, m := range mx {
		fmt.Fprintf(&b, "mx: %s\n", m)
	}
	fmt.Fprintf(&b, "max_age: %d\n", int(maxAge.Seconds()))
	return b.String()
}

// stsHosts answers for every mta-sts host on one address and port.
type stsHosts struct {
	mu      sync.RWMutex
	byHost  map[string]*stsHost
	fetches map[string]int
}

type stsHost struct {
	STS
	cert tls.Certificate
}

var stsAddr = netip.AddrFrom4([4]byte{127, 23, 1, 1})

// SetSTS publishes a policy for domain: the TXT record, the address of
// mta-sts.DOMAIN and the text at its well-known place. An empty id removes
// everything.
func (n *Internet) SetSTS(domain, id, policy string) error {
	return n.PutSTS(domain, STS{ID: id, Policy: policy})
}

// PutSTS is SetSTS with a fault.
func (n *Internet) PutSTS(domain string, s STS) error {
	host := "mta-sts." + domain
	if s.ID == "" {
		n.SetTXT("_mta-sts." + domain)
		n.SetA(host)
		n.sts.mu.Lock()
		defer n.sts.mu.Unlock()
		delete(n.sts.byHost, host)
		return nil
	}
	cert, err := n.ca.issue([]string{host}, CertOptions{SelfSigned: s.Fault == STSBadCert})
	if err != nil {
		return err
	}
	n.sts.mu.Lock()
	n.sts.byHost[host] = &stsHost{s, cert}
	n.sts.mu.Unlock()
	n.SetA(host, stsAddr)
	n.SetTXT("_mta-sts."+domain, "v=STSv1; id="+s.ID+";")
	return nil
}

// STSFetches counts the requests for the policy of domain.
func (n *Internet) STSFetches(domain string) int {
	n.sts.mu.RLock()
	defer n.sts.mu.RUnlock()
	return n.sts.fetches["mta-sts."+domain]
}

func (s *stsHosts) find(host string) *stsHost {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byHost[strings.ToLower(host)]
}

func (s *stsHosts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host := hostOf(r)
	h := s.find(host)
	if h == nil {
		http.NotFound(w, r)
		return
	}
	s.mu.Lock()
	s.fetches[host]++
	s.mu.Unlock()
	const place = "/.well-known/mta-sts.txt"
	switch {
	case h.Serve != nil && r.URL.Path == place:
		h.Serve(w, r)
		return
	case r.URL.Path != place && r.URL.Path != "/moved.txt", h.Fault == STSMissing:
		http.NotFound(w, r)
		return
	case h.Fault == STSHangs:
		<-r.Context().Done()
		return
	case h.Fault == STSRedirects && r.URL.Path == place:
		http.Redirect(w, r, "/moved.txt", http.StatusMovedPermanently)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, strings.ReplaceAll(h.Policy, "\n", "\r\n"))
	if h.Fault == STSOversized {
		for range 1100 {
			_, _ = io.WriteString(w, "x-filler: "+strings.Repeat("x", 1012)+"\r\n")
		}
	}
}

// startWeb serves all web hosts, those of MTA-STS included.
func (n *Internet) startWeb() error {
	secure, err := net.Listen("tcp", net.JoinHostPort(stsAddr.String(), "0"))
	if err != nil {
		return fmt.Errorf("listen for HTTPS: %w", err)
	}
	n.HTTPSPort = secure.Addr().(*net.TCPAddr).Port
	if err := n.serveHTTP(&http.Server{
		Handler:   http.HandlerFunc(n.serveWeb),
		TLSConfig: &tls.Config{GetCertificate: n.certificate, MinVersion: tls.VersionTLS12},
	}, secure); err != nil {
		return err
	}
	plain, err := net.Listen("tcp", net.JoinHostPort(stsAddr.String(), "0"))
	if err != nil {
		return fmt.Errorf("listen for HTTP: %w", err)
	}
	n.HTTPPort = plain.Addr().(*net.TCPAddr).Port
	return n.serveHTTP(&http.Server{Handler: http.HandlerFunc(n.serveWeb)}, plain)
}

// serveHTTP runs srv until Close. What clients do wrong is not logged: doing
// wrong is what some of them are tested for.
func (n *Internet) serveHTTP(srv *http.Server, ln net.Listener) error {
	srv.ReadHeaderTimeout = 30 * time.Second
	srv.ErrorLog = log.New(io.Discard, "", 0)
	n.onClose(func() { _ = srv.Close() })
	n.work.Go(func() {
		if srv.TLSConfig != nil {
			_ = srv.ServeTLS(ln, "", "") // ends by Close
			return
		}
		_ = srv.Serve(ln) // ends by Close
	})
	return nil
}

// port is the decimal text of a port.
func port(p int) string { return strconv.Itoa(p) }
