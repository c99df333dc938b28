package posture

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
)

// Why a policy could not be had.
const (
	STSDNS         = "dns"
	STSRecord      = "record" // several TXT records, or one that is not valid
	STSConnect     = "connect"
	STSTimeout     = "timeout"
	STSCertificate = "certificate"
	STSAddress     = "private_address"
	STSStatus      = "status" // not 200; a redirect too
	STSType        = "content_type"
	STSTooLarge    = "too_large"
	STSSyntax      = "syntax"
)

// fetcher gets policies over HTTPS (RFC 8461 section 3.3). The host is always
// mta-sts.DOMAIN, the path always the same.
type fetcher struct {
	resolver *resolver
	dial     func(ctx context.Context, network, addr string) (net.Conn, error)
	roots    *x509.CertPool
	clock    clock.Clock
	port     int
	timeout  time.Duration
	usable   func(netip.Addr) bool
}

// fetch gives the policy, or the word that says why there is none.
func (f *fetcher) fetch(ctx context.Context, domain string) (stsPolicy, string) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	host := "mta-sts." + domain
	addrs, word := f.addresses(ctx, host)
	if word != "" {
		return stsPolicy{}, word
	}
	client := &http.Client{
		Transport: f.transport(addrs),
		// RFC 8461 section 3.3: redirects must not be followed.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/.well-known/mta-sts.txt", nil)
	if err != nil {
		return stsPolicy{}, STSConnect
	}
	resp, err := client.Do(req)
	if err != nil {
		return stsPolicy{}, fetchWord(ctx, err)
	}
	defer resp.Body.Close() // it was only read
	return read(ctx, resp)
}

func (f *fetcher) addresses(ctx context.Context, host string) ([]netip.Addr, string) {
	addrs, _, err := f.resolver.addresses(ctx, host)
	if err != nil && len(addrs) == 0 || err == nil && len(addrs) == 0 {
		return nil, STSDNS
	}
	for _, a := range addrs {
		if !f.usable(a) {
			return nil, STSAddress
		}
	}
	return addrs, ""
}

func (f *fetcher) transport(addrs []netip.Addr) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var err error
			for _, a := range addrs {
				var conn net.Conn
				if conn, err = f.dial(ctx, network, net.JoinHostPort(a.String(), strconv.Itoa(f.port))); err == nil {
					return conn, nil
				}
			}
			return nil, err
		},
		TLSClientConfig:        &tls.Config{RootCAs: f.roots, MinVersion: tls.VersionTLS12, Time: f.clock.Now},
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 16 << 10,
	}
}

func read(ctx context.Context, resp *http.Response) (stsPolicy, string) {
	if resp.StatusCode != http.StatusOK {
		return stsPolicy{}, STSStatus
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != "text/plain" {
		return stsPolicy{}, STSType
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxPolicy+1))
	if err != nil {
		return stsPolicy{}, fetchWord(ctx, err)
	}
	if len(b) > maxPolicy {
		return stsPolicy{}, STSTooLarge
	}
	p, err := parsePolicy(string(b))
	if err != nil {
		return stsPolicy{}, STSSyntax
	}
	return p, ""
}

func fetchWord(ctx context.Context, err error) string {
	var cert *tls.CertificateVerificationError
	var n net.Error
	switch {
	case errors.As(err, &cert):
		return STSCertificate
	case ctx.Err() != nil, errors.As(err, &n) && n.Timeout():
		return STSTimeout
	}
	return STSConnect
}

// public refuses addresses at which somebody could have our own network asked
// in our name.
func public(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsPrivate() && !sharedSpace.Contains(a)
}

// sharedSpace is for carriers' own networks (RFC 6598).
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// mailable refuses addresses that can only be this machine, or none. Mail
// hosts inside the own network are usual.
func mailable(a netip.Addr) bool { return a.IsGlobalUnicast() }
