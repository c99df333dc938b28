// Package fetch gets small things from hosts outside that nobody here chose: a
// mail policy, a key, a revocation list.
//
// Invariants:
//   - Redirects are not followed, and no address inside the own network is
//     ever asked: nobody outside can have our network asked in our name.
//   - Size, time and the number of fetches at once are bounded; what is larger
//     is not read.
//   - The hosts of one registered domain, which may all hang, take a few of all
//     turns only. A host has its time from its turn on: that somebody waited
//     too long for one, or that the caller's own time was over first, is Busy
//     and never Timeout, because it says nothing of the host.
//   - TLS is 1.2 or better and verified, except for URLs that may be plain by
//     their own standard, because what they give is signed (RFC 5280 section
//     8, RFC 6960 appendix A).
//   - Errors hold a word, never a URL: the path may name a person.
package fetch

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
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/resolve"
)

// Why something could not be had.
const (
	DNS         = "dns"
	Connect     = "connect"
	Timeout     = "timeout"
	Certificate = "certificate"
	Address     = "private_address"
	Status      = "status" // not 200; a redirect too
	Type        = "type"
	TooLarge    = "too_large"
	Busy        = "busy" // no turn, or no time of the caller left: the host is not to blame
	BadURL      = "url"
)

// Error says by a word why something could not be had. It names no URL.
type Error struct {
	Word   string
	Status int // of HTTP, where Word is Status
}

func (e *Error) Error() string {
	if e.Status != 0 {
		return "fetch: " + e.Word + " " + strconv.Itoa(e.Status)
	}
	return "fetch: " + e.Word
}

// Word is the word of an error of this package.
func Word(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Word
	}
	return Connect
}

// Code is the HTTP status of an error of this package, zero for none.
func Code(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// Deps are what a Client is made with.
type Deps struct {
	Resolver *resolve.Resolver
	// Dial opens connections; nil stands for a plain net.Dialer.
	Dial  func(ctx context.Context, network, addr string) (net.Conn, error)
	Roots *x509.CertPool // nil: the system's
	Clock clock.Clock
	// AnyAddress lets hosts be on this machine and in its network, and plain
	// HTTP on any port: for the internet on loopback.
	AnyAddress bool
	HTTPSPort  int // where an https URL names none; zero: 443
	AtOnce     int // fetches; zero: 64
	PerDomain  int // fetches from hosts of one registered domain at once; zero: 4
}

// Request is what to fetch.
type Request struct {
	URL       string
	Max       int64         // octets of the body; zero: 64 KiB
	Types     []string      // media types that are taken; none: any
	Timeout   time.Duration // of everything from its turn on, for which it waits 3 s at most; zero: 7 s
	PlainHTTP bool          // http URLs are taken too: what comes proves itself
	Body      []byte        // not nil: it is posted
	BodyType  string
}

// Response is what a host gave.
type Response struct {
	Body    []byte
	Type    string    // media type, without parameters
	Expires time.Time // of the header fields of RFC 9111; zero: they do not say
}

const (
	defaultMax     = 64 << 10
	defaultTimeout = 7 * time.Second
	maxWait        = 3 * time.Second // for a turn
)

// Client fetches.
type Client struct {
	resolver *resolve.Resolver
	dial     func(ctx context.Context, network, addr string) (net.Conn, error)
	roots    *x509.CertPool
	clock    clock.Clock
	any      bool
	port     int
	turns    *Turns
}

// New makes a Client.
func New(d Deps) *Client {
	c := &Client{
		resolver: d.Resolver, dial: d.Dial, roots: d.Roots, clock: d.Clock, any: d.AnyAddress, port: d.HTTPSPort,
		turns: NewTurns(orElse(d.AtOnce, 64), orElse(d.PerDomain, 4)),
	}
	if c.dial == nil {
		c.dial = new(net.Dialer).DialContext
	}
	if c.clock == nil {
		c.clock = clock.System{}
	}
	c.port = orElse(c.port, 443)
	return c
}

func orElse(n, otherwise int) int {
	if n > 0 {
		return n
	}
	return otherwise
}

// Get fetches what req says. The error is always an *Error.
func (c *Client) Get(ctx context.Context, req Request) (*Response, error) {
	u, port, err := c.target(req)
	if err != nil {
		return nil, err
	}
	host := strings.ToLower(u.Hostname())
	limit := time.Duration(orElse(int(req.Timeout), int(defaultTimeout)))
	done, ok := c.turn(ctx, host, limit)
	if !ok {
		return nil, &Error{Word: Busy}
	}
	defer done()
	until, bounded := ctx.Deadline()
	bounded = bounded && time.Until(until) < limit
	work, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	resp, err := c.from(work, req, u, host, port)
	if err != nil && (ctx.Err() != nil || bounded && Word(err) == Timeout) {
		return nil, &Error{Word: Busy} // the host did not have its time
	}
	return resp, err
}

// turn waits for a turn as long as the whole time of the fetch is left to the
// caller.
func (c *Client) turn(ctx context.Context, host string, limit time.Duration) (done func(), ok bool) {
	last := time.Now().Add(min(maxWait, limit))
	if until, bounded := ctx.Deadline(); bounded && until.Add(-limit).Before(last) {
		last = until.Add(-limit)
	}
	ctx, cancel := context.WithDeadline(ctx, last)
	defer cancel()
	return c.turns.Take(ctx, host)
}

func (c *Client) from(ctx context.Context, req Request, u *url.URL, host string, port int) (*Response, error) {
	addrs, err := c.addresses(ctx, host)
	if err != nil {
		return nil, err
	}
	return c.do(ctx, req, u, c.transport(ctx, addrs, port))
}

// target reads the URL. Names and passwords in it are refused, and so are
// ports that a fetch could be used to knock at.
func (c *Client) target(req Request) (*url.URL, int, error) {
	u, err := url.Parse(req.URL)
	if err != nil || u.User != nil || u.Hostname() == "" || u.Opaque != "" {
		return nil, 0, &Error{Word: BadURL}
	}
	standard, used := 443, c.port
	switch {
	case u.Scheme == "https":
	case u.Scheme == "http" && req.PlainHTTP:
		standard, used = 80, 80
	default:
		return nil, 0, &Error{Word: BadURL}
	}
	if u.Port() != "" {
		n, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil || n == 0 || int(n) != standard && !c.any {
			return nil, 0, &Error{Word: BadURL}
		}
		used = int(n)
	}
	return u, used, nil
}

func (c *Client) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	addrs := []netip.Addr{}
	if literal, err := netip.ParseAddr(host); err == nil {
		addrs = append(addrs, literal.Unmap())
	} else if addrs, _, _ = c.resolver.Addresses(ctx, host); len(addrs) == 0 {
		if over(ctx) {
			return nil, &Error{Word: Timeout}
		}
		return nil, &Error{Word: DNS}
	}
	for _, a := range addrs {
		if !c.usable(a) {
			return nil, &Error{Word: Address}
		}
	}
	return addrs, nil
}

func (c *Client) usable(a netip.Addr) bool {
	if c.any {
		return !a.IsUnspecified() && !a.IsMulticast()
	}
	return Public(a)
}

// Public refuses addresses at which somebody could have our own network asked
// in our name, and those that nobody on the internet has.
func Public(a netip.Addr) bool {
	a = a.Unmap().WithZone("") // no prefix holds an address with a zone
	return a.IsGlobalUnicast() && !a.IsPrivate() && !slices.ContainsFunc(notPublic, func(p netip.Prefix) bool { return p.Contains(a) })
}

// notPublic are the prefixes of the IANA registries of special addresses that
// package netip does not know of, and those that hold an IPv4 address within
// an IPv6 one: a gateway may lead from there to any of them.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),       // this network (RFC 791)
	netip.MustParsePrefix("100.64.0.0/10"),   // carriers' own networks (RFC 6598)
	netip.MustParsePrefix("192.0.0.0/24"),    // protocols (RFC 6890)
	netip.MustParsePrefix("192.0.2.0/24"),    // documentation (RFC 5737)
	netip.MustParsePrefix("192.88.99.0/24"),  // relays of 6to4 (RFC 7526)
	netip.MustParsePrefix("198.18.0.0/15"),   // measurements (RFC 2544)
	netip.MustParsePrefix("198.51.100.0/24"), // documentation (RFC 5737)
	netip.MustParsePrefix("203.0.113.0/24"),  // documentation (RFC 5737)
	netip.MustParsePrefix("240.0.0.0/4"),     // reserved, and broadcast (RFC 1112)

	netip.MustParsePrefix("::/96"),          // with IPv4 inside, outdated (RFC 4291)
	netip.MustParsePrefix("64:ff9b::/96"),   // NAT64 (RFC 6052)
	netip.MustParsePrefix("64:ff9b:1::/48"), // NAT64 of one's own (RFC 8215)
	netip.MustParsePrefix("100::/64"),       // discarded (RFC 6666)
	netip.MustParsePrefix("2001::/32"),      // Teredo (RFC 4380)
	netip.MustParsePrefix("2001:db8::/32"),  // documentation (RFC 3849)
	netip.MustParsePrefix("2002::/16"),      // 6to4 (RFC 3056)
	netip.MustParsePrefix("3fff::/20"),      // documentation (RFC 9637)
	netip.MustParsePrefix("fec0::/10"),      // site-local, outdated (RFC 3879)
}

// transport connects under ctx and not under what http.Transport gives, which
// is detached from the request: a host that takes a connection and then says
// nothing would keep it for ever. Everything ends when the fetch does.
func (c *Client) transport(ctx context.Context, addrs []netip.Addr, port int) *http.Transport {
	return &http.Transport{
		DialContext: func(_ context.Context, network, _ string) (net.Conn, error) {
			var err error
			for _, a := range addrs {
				var conn net.Conn
				if conn, err = c.dial(ctx, network, net.JoinHostPort(a.String(), strconv.Itoa(port))); err == nil {
					context.AfterFunc(ctx, func() { _ = conn.Close() }) // it may be closed already
					return conn, nil
				}
			}
			return nil, err
		},
		TLSClientConfig:        &tls.Config{RootCAs: c.roots, MinVersion: tls.VersionTLS12, Time: c.clock.Now},
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 16 << 10,
	}
}

func (c *Client) do(ctx context.Context, req Request, u *url.URL, t *http.Transport) (*Response, error) {
	r := (&http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}).WithContext(ctx)
	if req.Body != nil {
		r.Method, r.ContentLength = http.MethodPost, int64(len(req.Body))
		r.Body = io.NopCloser(strings.NewReader(string(req.Body)))
		r.Header.Set("Content-Type", req.BodyType)
	}
	r.Header.Set("User-Agent", "sealpost")
	resp, err := t.RoundTrip(r) // not a Client: it follows no redirect and keeps no cookie
	if err != nil {
		return nil, &Error{Word: wordOf(ctx, err)}
	}
	defer resp.Body.Close() // it was only read
	return c.read(ctx, req, resp)
}

func (c *Client) read(ctx context.Context, req Request, resp *http.Response) (*Response, error) {
	if resp.StatusCode != http.StatusOK {
		return nil, &Error{Word: Status, Status: resp.StatusCode}
	}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if len(req.Types) > 0 && (err != nil || !slices.Contains(req.Types, kind)) {
		return nil, &Error{Word: Type}
	}
	limit := req.Max
	if limit <= 0 {
		limit = defaultMax
	}
	if resp.ContentLength > limit {
		return nil, &Error{Word: TooLarge}
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, &Error{Word: wordOf(ctx, err)}
	}
	if int64(len(b)) > limit {
		return nil, &Error{Word: TooLarge}
	}
	return &Response{Body: b, Type: kind, Expires: expires(resp.Header, c.clock.Now())}, nil
}

// expires reads what RFC 9111 sections 5.2 and 5.3 say of freshness.
func expires(h http.Header, now time.Time) time.Time {
	for _, part := range strings.Split(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(part)), "=")
		switch name {
		case "no-store", "no-cache":
			return now
		case "max-age":
			if n, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil {
				return now.Add(time.Duration(n) * time.Second)
			}
		}
	}
	if at, err := http.ParseTime(h.Get("Expires")); err == nil {
		return at.UTC()
	}
	return time.Time{}
}

func wordOf(ctx context.Context, err error) string {
	var cert *tls.CertificateVerificationError
	var n net.Error
	switch {
	case errors.As(err, &cert):
		return Certificate
	case over(ctx), errors.As(err, &n) && n.Timeout():
		return Timeout
	}
	return Connect
}

// over reports whether the time is. What has a deadline of its own, as
// connections have, may end a moment before ctx does.
func over(ctx context.Context) bool {
	until, bounded := ctx.Deadline()
	return ctx.Err() != nil || bounded && !time.Now().Before(until)
}
