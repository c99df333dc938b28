package posture

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	maxHosts = 20 // mail hosts that are looked at
	maxAddrs = 8  // addresses of one host

	dnsTries = 2 // rounds through the resolvers
	aliasMax = 8 // links of a chain of aliases
)

var (
	errDNS        = errors.New("the resolver gives no answer")
	errDNSTimeout = fmt.Errorf("%w in time", errDNS)
	errServFail   = fmt.Errorf("%w but a failure", errDNS)
)

func dnsWord(err error) string {
	if errors.Is(err, errDNSTimeout) {
		return "timeout"
	}
	return "servfail"
}

// resolver asks recursive resolvers. What it hears is plain DNS: nothing
// proves it.
type resolver struct {
	servers []string // host:port
	timeout time.Duration
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
}

// systemResolvers are those of the machine.
func systemResolvers() ([]string, error) {
	conf, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		return nil, fmt.Errorf("find the resolver: %w", err)
	}
	var out []string
	for _, s := range conf.Servers {
		out = append(out, net.JoinHostPort(s, conf.Port))
	}
	if len(out) == 0 {
		return nil, errors.New("find the resolver: /etc/resolv.conf names none")
	}
	return out, nil
}

// answer is what a question brought: the records of the asked type at the end
// of the chain of aliases.
type answer struct {
	rrs     []dns.RR
	missing bool // NXDOMAIN
	ttl     time.Duration
}

// ask puts one question. The error means that nobody knows, and a later try
// may tell.
func (r *resolver) ask(ctx context.Context, name string, qtype uint16) (answer, error) {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	q.SetEdns0(1232, false)
	err := errDNS
	for range dnsTries {
		for _, server := range r.servers {
			var resp *dns.Msg
			if resp, err = r.exchange(ctx, q, server); err == nil {
				return digest(q.Question[0], resp)
			}
			if ctx.Err() != nil {
				return answer{}, errDNSTimeout
			}
		}
	}
	return answer{}, err
}

// exchange asks over UDP and, when the answer was cut short, over TCP.
func (r *resolver) exchange(ctx context.Context, q *dns.Msg, server string) (*dns.Msg, error) {
	for _, network := range []string{"udp", "tcp"} {
		resp, err := r.once(ctx, q, network, server)
		if err != nil {
			var n net.Error
			if errors.As(err, &n) && n.Timeout() {
				return nil, errDNSTimeout
			}
			return nil, fmt.Errorf("%w: %w", errDNS, err)
		}
		if resp.Truncated && network == "udp" {
			continue
		}
		if resp.Rcode != dns.RcodeSuccess && resp.Rcode != dns.RcodeNameError {
			return nil, errServFail
		}
		return resp, nil
	}
	return nil, errServFail
}

func (r *resolver) once(ctx context.Context, q *dns.Msg, network, server string) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	raw, err := r.dial(ctx, network, server)
	if err != nil {
		return nil, err
	}
	conn := &dns.Conn{Conn: raw, UDPSize: 1232}
	defer conn.Close() // a socket for one question
	m := q.Copy()
	m.Id = dns.Id()
	client := &dns.Client{Net: network, Timeout: r.timeout, UDPSize: 1232}
	resp, _, err := client.ExchangeWithConnContext(ctx, m, conn)
	if err != nil {
		return nil, err
	}
	if len(resp.Question) != 1 || !strings.EqualFold(resp.Question[0].Name, m.Question[0].Name) || resp.Question[0].Qtype != m.Question[0].Qtype {
		return nil, errors.New("an answer to another question")
	}
	return resp, nil
}

// digest follows the aliases within an answer.
func digest(q dns.Question, resp *dns.Msg) (answer, error) {
	out := answer{missing: resp.Rcode == dns.RcodeNameError, ttl: 24 * time.Hour}
	seen := func(rr dns.RR) { out.ttl = min(out.ttl, time.Duration(rr.Header().Ttl)*time.Second) }
	name := dns.CanonicalName(q.Name)
	for range aliasMax {
		next := ""
		for _, rr := range resp.Answer {
			if dns.CanonicalName(rr.Header().Name) != name {
				continue
			}
			switch alias, ok := rr.(*dns.CNAME); {
			case rr.Header().Rrtype == q.Qtype:
				out.rrs = append(out.rrs, rr)
				seen(rr)
			case ok:
				next = dns.CanonicalName(alias.Target)
				seen(rr)
			}
		}
		if len(out.rrs) > 0 {
			out.missing = false
			return out, nil
		}
		if next == "" {
			break
		}
		name = next
	}
	// RFC 2308 section 5: the SOA bounds how long a no may be kept.
	for _, rr := range resp.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			seen(rr)
			out.ttl = min(out.ttl, time.Duration(soa.Minttl)*time.Second)
		}
	}
	return out, nil
}

// texts gives the TXT records of name, each with its strings joined.
func (r *resolver) texts(ctx context.Context, name string) ([]string, time.Duration, error) {
	a, err := r.ask(ctx, name, dns.TypeTXT)
	if err != nil {
		return nil, 0, err
	}
	var out []string
	for _, rr := range a.rrs {
		out = append(out, strings.Join(rr.(*dns.TXT).Txt, ""))
	}
	return out, a.ttl, nil
}

// addresses gives the addresses of a host, IPv4 first. The error tells that
// some may be missing.
func (r *resolver) addresses(ctx context.Context, host string) (addrs []netip.Addr, ttl time.Duration, err error) {
	ttl = 24 * time.Hour
	var problem error
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		a, err := r.ask(ctx, host, qtype)
		if err != nil {
			problem = err
			continue
		}
		ttl = min(ttl, a.ttl)
		for _, rr := range a.rrs {
			if addr, ok := addressOf(rr); ok && len(addrs) < maxAddrs {
				addrs = append(addrs, addr)
			}
		}
	}
	return addrs, ttl, problem
}

func addressOf(rr dns.RR) (netip.Addr, bool) {
	var ip net.IP
	switch rr := rr.(type) {
	case *dns.A:
		ip = rr.A
	case *dns.AAAA:
		ip = rr.AAAA
	}
	addr, ok := netip.AddrFromSlice(ip)
	return addr.Unmap(), ok
}

// route is where the mail of a domain goes.
type route struct {
	mx                      []MX
	null, implicit, missing bool
	ttl                     time.Duration
	incomplete              bool // some host could not be looked up now
}

// route finds the mail hosts of a domain (RFC 5321 section 5.1). usable says
// which addresses may be connected to.
func (r *resolver) route(ctx context.Context, domain string, usable func(netip.Addr) bool) (route, error) {
	a, err := r.ask(ctx, domain, dns.TypeMX)
	if err != nil {
		return route{}, err
	}
	out := route{missing: a.missing, ttl: a.ttl}
	if a.missing {
		return out, nil
	}
	out.mx, out.null = hosts(a.rrs)
	if len(a.rrs) == 0 {
		out.implicit = true
		out.mx = []MX{{Host: domain}}
	}
	if out.null {
		return out, nil
	}
	return r.locate(ctx, out, usable)
}

// hosts sorts the MX records and drops what cannot be a host.
func hosts(rrs []dns.RR) (mxs []MX, null bool) {
	for _, rr := range rrs {
		mx := rr.(*dns.MX)
		host := strings.ToLower(strings.TrimSuffix(mx.Mx, "."))
		if host == "" {
			null = len(rrs) == 1 // RFC 7505 section 3: it stands alone
			continue
		}
		if _, err := netip.ParseAddr(host); err == nil || !isHost(host) {
			continue
		}
		if !slices.ContainsFunc(mxs, func(m MX) bool { return m.Host == host }) {
			mxs = append(mxs, MX{Host: host, Preference: mx.Preference})
		}
	}
	slices.SortStableFunc(mxs, func(a, b MX) int { return cmp.Compare(a.Preference, b.Preference) })
	return mxs[:min(len(mxs), maxHosts)], null
}

func isHost(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return len(s) <= 253
}

// locate looks up the addresses of all hosts, some at a time.
func (r *resolver) locate(ctx context.Context, out route, usable func(netip.Addr) bool) (route, error) {
	type found struct {
		ttl time.Duration
		err error
	}
	results := make([]found, len(out.mx))
	turn := make(chan struct{}, 4)
	var all sync.WaitGroup
	for i := range out.mx {
		all.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			addrs, ttl, err := r.addresses(ctx, out.mx[i].Host)
			out.mx[i].Addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool { return !usable(a) })
			results[i] = found{ttl, err}
		})
	}
	all.Wait()
	any, problem := false, error(nil)
	for i, f := range results {
		any = any || len(out.mx[i].Addrs) > 0
		if f.err != nil {
			problem, out.incomplete = f.err, true
			continue
		}
		out.ttl = min(out.ttl, f.ttl)
	}
	switch {
	case any:
	case problem != nil:
		return route{}, problem
	case out.implicit:
		// Neither MX nor address: nobody takes mail here (RFC 5321 section 5.1).
		out.mx, out.implicit, out.missing = nil, false, true
	}
	return out, nil
}
