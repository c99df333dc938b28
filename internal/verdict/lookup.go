package verdict

import (
	"context"
	"errors"
	"net"
	"strings"

	"blitiri.com.ar/go/spf"
	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/internal/resolve"
)

// lookups asks our resolver in the forms that the libraries know. Their errors
// are *net.DNSError and say whether a name is missing or nobody knows.
type lookups struct {
	resolver *resolve.Resolver
	ctx      context.Context // of the message: the DKIM library hands none on
}

// ask puts a question. A name that cannot be one is missing: it came out of
// what a stranger wrote.
func (l lookups) ask(name string, qtype uint16) ([]dns.RR, error) {
	if _, ok := dns.IsDomainName(name); !ok || name == "" || strings.ContainsAny(name, "\\\x00") {
		return nil, &net.DNSError{Err: "not a domain name", IsNotFound: true}
	}
	a, err := l.resolver.Ask(l.ctx, name, qtype)
	switch {
	case err != nil:
		return nil, &net.DNSError{Err: resolve.Word(err), IsTemporary: true, IsTimeout: errors.Is(err, resolve.ErrTimeout)}
	case a.Missing:
		return nil, &net.DNSError{Err: "no such name", IsNotFound: true}
	}
	return a.RRs, nil
}

// LookupTXT gives texts.
func (l lookups) LookupTXT(_ context.Context, name string) (out []string, err error) {
	rrs, err := l.ask(name, dns.TypeTXT)
	for _, rr := range rrs {
		if txt, ok := rr.(*dns.TXT); ok {
			out = append(out, strings.Join(txt.Txt, ""))
		}
	}
	return out, err
}

// LookupMX gives mail hosts.
func (l lookups) LookupMX(_ context.Context, name string) (out []*net.MX, err error) {
	rrs, err := l.ask(name, dns.TypeMX)
	for _, rr := range rrs {
		if mx, ok := rr.(*dns.MX); ok {
			out = append(out, &net.MX{Host: mx.Mx, Pref: mx.Preference})
		}
	}
	return out, err
}

// LookupIPAddr gives addresses.
func (l lookups) LookupIPAddr(_ context.Context, host string) (out []net.IPAddr, err error) {
	v4, err := l.ask(host, dns.TypeA)
	if err != nil {
		return nil, err
	}
	v6, err := l.ask(host, dns.TypeAAAA)
	if err != nil {
		return nil, err
	}
	for _, rr := range append(v4, v6...) {
		switch rr := rr.(type) {
		case *dns.A:
			out = append(out, net.IPAddr{IP: rr.A})
		case *dns.AAAA:
			out = append(out, net.IPAddr{IP: rr.AAAA})
		}
	}
	return out, nil
}

// LookupAddr gives names of an address.
func (l lookups) LookupAddr(_ context.Context, addr string) (out []string, err error) {
	name, err := dns.ReverseAddr(addr)
	if err != nil {
		return nil, &net.DNSError{Err: "not an address", IsNotFound: true}
	}
	rrs, err := l.ask(name, dns.TypePTR)
	for _, rr := range rrs {
		if ptr, ok := rr.(*dns.PTR); ok {
			out = append(out, ptr.Ptr)
		}
	}
	return out, err
}

// Lookups gives a resolver in the form in which the SPF library asks. Where
// the context ends, so do all questions.
func Lookups(ctx context.Context, r *resolve.Resolver) spf.DNSResolver { return lookups{r, ctx} }
