// Package resolve asks recursive resolvers. Nothing else in the house speaks
// DNS.
//
// Invariants:
//   - What it hears is plain DNS, which proves nothing, except that an answer
//     is Secure when its resolver says that it validated it (RFC 6840 section
//     5.7) and the installation's configuration says that this resolver, and
//     the way to it, are to be believed.
//   - An answer is one to the question that was put, and whole; what else comes is
//     not heard (RFC 5452 section 9.1).
//   - A resolver that fails is not an answer: it is an error, and Missing is
//     said only where a resolver said so.
//   - However many ask, a bounded number of questions is under way at a time.
//   - Answers are bounded: aliases, addresses and the time that is waited.
package resolve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	tries    = 2   // rounds through the resolvers
	aliasMax = 8   // links of a chain of aliases
	maxAddrs = 8   // addresses of one host
	atOnce   = 200 // questions under way; more would only be lost in somebody's buffer

	defaultTimeout = 3 * time.Second
	longest        = 24 * time.Hour // that any answer is believed
)

// Why a question has no answer.
var (
	ErrFailed   = errors.New("the resolver gives no answer")
	ErrTimeout  = fmt.Errorf("%w in time", ErrFailed)
	ErrServFail = fmt.Errorf("%w but a failure", ErrFailed)
)

// Word is the reason of an error of this package, for records: "timeout" or
// "servfail".
func Word(err error) string {
	if errors.Is(err, ErrTimeout) {
		return "timeout"
	}
	return "servfail"
}

// Deps are what a Resolver is made with.
type Deps struct {
	Servers []string      // host:port each; none: those of /etc/resolv.conf
	Timeout time.Duration // of one question to one server; zero: 3 s
	// Dial opens connections to the servers; nil stands for a plain net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Trusted says that the servers validate DNSSEC and that nobody can change
	// their answers on the way, so that their AD bit is believed.
	Trusted bool
}

// Resolver puts questions to recursive resolvers.
type Resolver struct {
	servers []string
	timeout time.Duration
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	trusted bool
	turns   chan struct{} // one for each question under way
}

// New makes a Resolver.
func New(d Deps) (*Resolver, error) {
	r := &Resolver{servers: d.Servers, timeout: d.Timeout, dial: d.Dial, trusted: d.Trusted, turns: make(chan struct{}, atOnce)}
	if len(r.servers) == 0 {
		var err error
		if r.servers, err = ofMachine(); err != nil {
			return nil, err
		}
	}
	if r.timeout == 0 {
		r.timeout = defaultTimeout
	}
	if r.dial == nil {
		r.dial = new(net.Dialer).DialContext
	}
	return r, nil
}

// ofMachine are the resolvers that the machine is told to use.
func ofMachine() ([]string, error) {
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

// Answer is what a question brought.
type Answer struct {
	RRs     []dns.RR // of the asked type, at the end of the chain of aliases
	Name    string   // at the end of that chain: lower case, no final dot
	Missing bool     // NXDOMAIN
	Secure  bool     // validated with DNSSEC by a resolver that is believed, a no included
	TTL     time.Duration
}

// Ask puts one question. The error means that nobody knows, and a later try
// may tell.
func (r *Resolver) Ask(ctx context.Context, name string, qtype uint16) (Answer, error) {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	q.SetEdns0(1232, false)
	// RFC 6840 section 5.7: AD in a query asks for AD in the answer, without
	// the signatures that nobody here would look at.
	q.AuthenticatedData = true
	err := ErrFailed
	for range tries {
		for _, server := range r.servers {
			var resp *dns.Msg
			if resp, err = r.exchange(ctx, q, server); err == nil {
				out := digest(q.Question[0], resp)
				out.Secure = r.trusted && resp.AuthenticatedData
				return out, nil
			}
			if ctx.Err() != nil {
				return Answer{}, ErrTimeout
			}
		}
	}
	return Answer{}, err
}

// exchange asks over UDP and, when the answer was cut short, over TCP.
func (r *Resolver) exchange(ctx context.Context, q *dns.Msg, server string) (*dns.Msg, error) {
	for _, network := range []string{"udp", "tcp"} {
		resp, err := r.once(ctx, q, network, server)
		if err != nil {
			var n net.Error
			if errors.As(err, &n) && n.Timeout() {
				return nil, ErrTimeout
			}
			return nil, fmt.Errorf("%w: %w", ErrFailed, err)
		}
		if resp.Truncated { // and what is cut short over TCP is so for good
			continue
		}
		if resp.Rcode != dns.RcodeSuccess && resp.Rcode != dns.RcodeNameError {
			return nil, ErrServFail
		}
		return resp, nil
	}
	return nil, ErrServFail
}

func (r *Resolver) once(ctx context.Context, q *dns.Msg, network, server string) (*dns.Msg, error) {
	select {
	case r.turns <- struct{}{}:
		defer func() { <-r.turns }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	raw, err := r.dial(ctx, network, server)
	if err != nil {
		return nil, err
	}
	conn := &dns.Conn{Conn: raw, UDPSize: 1232}
	defer conn.Close() // a socket for one question
	until, _ := ctx.Deadline()
	if err := conn.SetDeadline(until); err != nil {
		return nil, err
	}
	m := q.Copy()
	m.Id = dns.Id()
	if err := conn.WriteMsg(m); err != nil {
		return nil, err
	}
	for {
		resp, err := read(conn, m)
		if !errors.Is(err, errOther) || network == "tcp" {
			return resp, err
		}
		// Anybody can have sent it; the answer may still come.
	}
}

var (
	errOther     = errors.New("an answer to another question")
	errMalformed = errors.New("an answer that is not whole")
)

// read takes one message and holds it against the question (RFC 5452 section
// 9.1). A question that comes back, which some devices do, is no answer; it
// would say that nothing exists, and with the AD bit that was asked with.
func read(conn *dns.Conn, q *dns.Msg) (*dns.Msg, error) {
	var head dns.Header
	p, err := conn.ReadMsgHeader(&head)
	if err != nil {
		return nil, err
	}
	if head.Id != q.Id {
		return nil, errOther
	}
	resp := new(dns.Msg)
	if err := resp.Unpack(p); err != nil {
		return nil, err
	}
	switch {
	case !resp.Response, resp.Opcode != q.Opcode:
		return nil, errOther
	case len(resp.Question) != 1:
		return nil, errMalformed
	case !strings.EqualFold(resp.Question[0].Name, q.Question[0].Name), resp.Question[0].Qtype != q.Question[0].Qtype, resp.Question[0].Qclass != q.Question[0].Qclass:
		return nil, errOther
	case !resp.Truncated && !whole(head, resp):
		return nil, errMalformed
	}
	return resp, nil
}

// whole reports whether all records are there that the header counts, and all
// of them say something: the library takes what is cut off between two for all
// there is, and an empty MX record would say that a domain takes no mail.
func whole(head dns.Header, resp *dns.Msg) bool {
	if len(resp.Answer) != int(head.Ancount) || len(resp.Ns) != int(head.Nscount) || len(resp.Extra) != int(head.Arcount) {
		return false
	}
	for _, rr := range resp.Answer {
		mx, ok := rr.(*dns.MX)
		if rr.Header().Rdlength == 0 || ok && mx.Mx == "" { // the root would be "."
			return false
		}
	}
	return true
}

// digest follows the aliases within an answer.
func digest(q dns.Question, resp *dns.Msg) Answer {
	out := Answer{Missing: resp.Rcode == dns.RcodeNameError, TTL: longest}
	seen := func(rr dns.RR) { out.TTL = min(out.TTL, time.Duration(rr.Header().Ttl)*time.Second) }
	name := dns.CanonicalName(q.Name)
	for range aliasMax {
		next := ""
		for _, rr := range resp.Answer {
			if dns.CanonicalName(rr.Header().Name) != name {
				continue
			}
			switch alias, ok := rr.(*dns.CNAME); {
			case rr.Header().Rrtype == q.Qtype:
				out.RRs = append(out.RRs, rr)
				seen(rr)
			case ok:
				next = dns.CanonicalName(alias.Target)
				seen(rr)
			}
		}
		out.Name = strings.TrimSuffix(name, ".")
		if len(out.RRs) > 0 {
			out.Missing = false
			return out
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
			out.TTL = min(out.TTL, time.Duration(soa.Minttl)*time.Second)
		}
	}
	return out
}

// Texts gives the TXT records of name, each with its strings joined.
func (r *Resolver) Texts(ctx context.Context, name string) ([]string, time.Duration, error) {
	a, err := r.Ask(ctx, name, dns.TypeTXT)
	if err != nil {
		return nil, 0, err
	}
	var out []string
	for _, rr := range a.RRs {
		if txt, ok := rr.(*dns.TXT); ok {
			out = append(out, strings.Join(txt.Txt, ""))
		}
	}
	return out, a.TTL, nil
}

// Host is what is known of the place of a host.
type Host struct {
	Addrs  []netip.Addr // IPv4 first
	Name   string       // at the end of its chain of aliases
	Secure bool         // all that was heard of it was validated
	TTL    time.Duration
}

// Locate finds a host. The error tells that some addresses may be missing.
func (r *Resolver) Locate(ctx context.Context, host string) (Host, error) {
	out := Host{TTL: longest, Secure: true, Name: host}
	var problem error
	heard := 0
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		a, err := r.Ask(ctx, host, qtype)
		if err != nil {
			problem = err
			continue
		}
		heard++
		out.TTL = min(out.TTL, a.TTL)
		out.Secure = out.Secure && a.Secure
		if len(a.RRs) > 0 || heard == 1 {
			out.Name = a.Name
		}
		for _, rr := range a.RRs {
			if addr, ok := addressOf(rr); ok && len(out.Addrs) < maxAddrs {
				out.Addrs = append(out.Addrs, addr)
			}
		}
	}
	out.Secure = out.Secure && heard > 0
	return out, problem
}

// Addresses gives the addresses of a host, IPv4 first. The error tells that
// some may be missing.
func (r *Resolver) Addresses(ctx context.Context, host string) (addrs []netip.Addr, ttl time.Duration, err error) {
	h, err := r.Locate(ctx, host)
	return h.Addrs, h.TTL, err
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

// Trusted reports whether an answer can be Secure at all.
func (r *Resolver) Trusted() bool { return r.trusted }
