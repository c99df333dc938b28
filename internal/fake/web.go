package fake

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// web is every host that answers over HTTPS or plain HTTP and is no policy
// host of MTA-STS. All share one address, one port of each kind.
type web struct {
	mu      sync.RWMutex
	certs   map[string]*tls.Certificate
	pages   map[string]http.Handler // by host and path
	fetches map[string]int          // by host, and by host and path
}

func newWeb() *web {
	return &web{certs: map[string]*tls.Certificate{}, pages: map[string]http.Handler{}, fetches: map[string]int{}}
}

// PutPage serves body at a path of a host, over HTTPS and plain HTTP, to GET
// and POST. The host gets an address where it has none.
func (n *Internet) PutPage(host, path string, body []byte, kind string) error {
	body = append([]byte(nil), body...)
	return n.PutHandler(host, path, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(body) // the reader may be gone
	}))
}

// PutHandler is PutPage with an answer of the caller's making. A path that
// ends in a slash stands for all below it.
func (n *Internet) PutHandler(host, path string, h http.Handler) error {
	host = strings.ToLower(host)
	if err := n.certify(host, CertOptions{}); err != nil {
		return err
	}
	if !n.zone.has(host, dns.TypeA) {
		n.SetA(host, stsAddr)
	}
	n.web.mu.Lock()
	defer n.web.mu.Unlock()
	n.web.pages[host+path] = h
	return nil
}

// RemovePage takes back what PutPage and PutHandler put there.
func (n *Internet) RemovePage(host, path string) {
	n.web.mu.Lock()
	defer n.web.mu.Unlock()
	delete(n.web.pages, strings.ToLower(host)+path)
}

// PutWebCert gives a host another certificate than a good one.
func (n *Internet) PutWebCert(host string, o CertOptions) error {
	host = strings.ToLower(host)
	n.web.mu.Lock()
	delete(n.web.certs, host)
	n.web.mu.Unlock()
	return n.certify(host, o)
}

// Fetches counts the requests to a host ("keys.example") or to one of its
// paths ("keys.example/a/b").
func (n *Internet) Fetches(place string) int {
	n.web.mu.RLock()
	defer n.web.mu.RUnlock()
	return n.web.fetches[place]
}

// certify gives host a certificate where it has none.
func (n *Internet) certify(host string, o CertOptions) error {
	n.web.mu.RLock()
	known := n.web.certs[host] != nil
	n.web.mu.RUnlock()
	if known {
		return nil
	}
	cert, err := n.ca.issue([]string{host}, o)
	if err != nil {
		return err
	}
	n.web.mu.Lock()
	defer n.web.mu.Unlock()
	n.web.certs[host] = &cert
	return nil
}

// certificate finds the certificate of any host on the HTTPS port.
func (n *Internet) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if h := n.sts.find(hello.ServerName); h != nil {
		return &h.cert, nil
	}
	n.web.mu.RLock()
	defer n.web.mu.RUnlock()
	if cert := n.web.certs[strings.ToLower(hello.ServerName)]; cert != nil {
		return cert, nil
	}
	return nil, errors.New("no host of this name")
}

// serveWeb answers for every host.
func (n *Internet) serveWeb(w http.ResponseWriter, r *http.Request) {
	host := hostOf(r)
	if r.TLS != nil && n.sts.find(host) != nil {
		n.sts.ServeHTTP(w, r)
		return
	}
	n.web.count(host, host+r.URL.Path)
	if h := n.web.find(host, r.URL.Path); h != nil {
		h.ServeHTTP(w, r)
		return
	}
	http.NotFound(w, r)
}

func hostOf(r *http.Request) string {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(host)
}

func (b *web) count(places ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range places {
		b.fetches[p]++
	}
}

// find gives the page at a path, or what stands for all below a longer and
// longer way up.
func (b *web) find(host, path string) http.Handler {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if h := b.pages[host+path]; h != nil {
		return h
	}
	for {
		i := strings.LastIndexByte(strings.TrimSuffix(path, "/"), '/')
		if i < 0 {
			return nil
		}
		path = path[:i+1]
		if h := b.pages[host+path]; h != nil {
			return h
		}
	}
}

// WebFault is a way for a page that holds a key to misbehave.
type WebFault int

// The faults of a page.
const (
	NoWebFault    WebFault = iota
	PageRedirects          // it answers 301 to the key at another place
	PageHangs              // it takes the request and never answers
	PageHuge               // it gives octets until the client has enough
	PageNotFound           // it answers 404
	PageGarbage            // it answers with something that is no key
	PageFails              // it answers 503
)

// keyPage serves a key, or does what the fault says.
func keyPage(key []byte, fault WebFault) http.Handler {
	key = append([]byte(nil), key...)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		switch fault {
		case PageRedirects:
			if r.URL.Query().Get("moved") == "" {
				http.Redirect(w, r, r.URL.Path+"?moved=1", http.StatusMovedPermanently)
				return
			}
		case PageHangs:
			<-r.Context().Done()
			return
		case PageHuge:
			pour(w)
			return
		case PageNotFound:
			http.NotFound(w, r)
			return
		case PageGarbage:
			_, _ = io.WriteString(w, "<html>This domain is for sale.</html>")
			return
		case PageFails:
			http.Error(w, "out of order", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(key) // the reader may be gone
	})
}

// pour writes until nobody reads any more, eight gigabytes at most.
func pour(w io.Writer) {
	piece := make([]byte, 1<<20)
	for range 8 << 10 {
		if _, err := w.Write(piece); err != nil {
			return
		}
	}
}
