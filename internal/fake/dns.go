package fake

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// DNSFault is a way for a name to have no useful answer.
type DNSFault int

// The faults of a name.
const (
	NoDNSFault DNSFault = iota
	ServFail            // the answer is SERVFAIL
	NoAnswer            // there is no answer at all
	NameError           // the answer is NXDOMAIN although records exist
)

// MX is one mail exchanger of a domain.
type MX struct {
	Preference uint16
	Host       string // "." is a null MX (RFC 7505)
}

// zone holds every record of the fake internet: whatever is not in it does
// not exist, and no query is ever sent on.
type zone struct {
	mu      sync.RWMutex
	ttl     uint32
	records map[string]map[uint16][]dns.RR
	below   map[string]int // how many names with records are at a name or below it
	faults  map[string]DNSFault
	queries map[string]int
	secure  map[string]bool // zones that are signed, and those below them that are not
}

func newZone(ttl uint32) *zone {
	// The root is signed, as the real one is, and no zone below it.
	root := &dns.NS{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: ttl}, Ns: "a.root.example."}
	return &zone{
		ttl:     ttl,
		records: map[string]map[uint16][]dns.RR{".": {dns.TypeNS: {root}}},
		below:   map[string]int{".": 1},
		faults:  map[string]DNSFault{},
		queries: map[string]int{},
		secure:  map[string]bool{".": true},
	}
}

func canonical(name string) string { return dns.CanonicalName(name) }

func (z *zone) set(name string, qtype uint16, rrs []dns.RR) {
	z.mu.Lock()
	defer z.mu.Unlock()
	name = canonical(name)
	if len(rrs) == 0 {
		delete(z.records[name], qtype)
		if z.records[name] != nil && len(z.records[name]) == 0 {
			delete(z.records, name)
			z.count(name, -1)
		}
		return
	}
	if z.records[name] == nil {
		z.records[name] = map[uint16][]dns.RR{}
		z.count(name, 1)
	}
	z.records[name][qtype] = rrs
}

func (z *zone) has(name string, qtype uint16) bool {
	z.mu.RLock()
	defer z.mu.RUnlock()
	return len(z.records[canonical(name)][qtype]) > 0
}

func (z *zone) header(name string, qtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: canonical(name), Rrtype: qtype, Class: dns.ClassINET, Ttl: z.ttl}
}

// SetTXT replaces the TXT records of name; with no values it removes them.
func (n *Internet) SetTXT(name string, values ...string) {
	var rrs []dns.RR
	for _, v := range values {
		// RFC 1035 section 3.3.14: a string has at most 255 octets.
		var parts []string
		for len(v) > 255 {
			parts, v = append(parts, v[:255]), v[255:]
		}
		rrs = append(rrs, &dns.TXT{Hdr: n.zone.header(name, dns.TypeTXT), Txt: append(parts, v)})
	}
	n.zone.set(name, dns.TypeTXT, rrs)
}

// SetMX replaces the MX records of name; with none it removes them.
func (n *Internet) SetMX(name string, mxs ...MX) {
	var rrs []dns.RR
	for _, mx := range mxs {
		rrs = append(rrs, &dns.MX{Hdr: n.zone.header(name, dns.TypeMX), Preference: mx.Preference, Mx: canonical(mx.Host)})
	}
	n.zone.set(name, dns.TypeMX, rrs)
}

// SetA replaces the A and AAAA records of name; with none it removes them.
func (n *Internet) SetA(name string, addrs ...netip.Addr) {
	var four, six []dns.RR
	for _, a := range addrs {
		if a.Is4() {
			four = append(four, &dns.A{Hdr: n.zone.header(name, dns.TypeA), A: net.IP(a.AsSlice())})
			continue
		}
		six = append(six, &dns.AAAA{Hdr: n.zone.header(name, dns.TypeAAAA), AAAA: net.IP(a.AsSlice())})
	}
	n.zone.set(name, dns.TypeA, four)
	n.zone.set(name, dns.TypeAAAA, six)
}

// SetPTR makes name the name of an address; an empty name removes it.
func (n *Internet) SetPTR(addr netip.Addr, name string) {
	reverse, err := dns.ReverseAddr(addr.String())
	if err != nil {
		return // there is no such address
	}
	var rrs []dns.RR
	if name != "" {
		rrs = append(rrs, &dns.PTR{Hdr: n.zone.header(reverse, dns.TypePTR), Ptr: canonical(name)})
	}
	n.zone.set(reverse, dns.TypePTR, rrs)
}

// SetCNAME makes name an alias of target; an empty target removes it.
func (n *Internet) SetCNAME(name, target string) {
	if target == "" {
		n.zone.set(name, dns.TypeCNAME, nil)
		return
	}
	n.zone.set(name, dns.TypeCNAME, []dns.RR{
		&dns.CNAME{Hdr: n.zone.header(name, dns.TypeCNAME), Target: canonical(target)},
	})
}

// SetDNSFault makes every query for name fail, or heals it with NoDNSFault.
func (n *Internet) SetDNSFault(name string, f DNSFault) {
	n.zone.mu.Lock()
	defer n.zone.mu.Unlock()
	n.zone.faults[canonical(name)] = f
}

// Queries counts the queries that arrived for name, of any type.
func (n *Internet) Queries(name string) int {
	n.zone.mu.RLock()
	defer n.zone.mu.RUnlock()
	return n.zone.queries[canonical(name)]
}

// answer collects the records for a question, following aliases.
func (z *zone) answer(q dns.Question) (rrs []dns.RR, rcode int, silent bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	name := canonical(q.Name)
	z.queries[name]++
	for range 8 {
		switch z.faults[name] {
		case ServFail:
			return nil, dns.RcodeServerFailure, false
		case NoAnswer:
			return nil, 0, true
		case NameError:
			return rrs, dns.RcodeNameError, false
		}
		if found := z.records[name][q.Qtype]; len(found) > 0 {
			return append(rrs, found...), dns.RcodeSuccess, false
		}
		alias := z.records[name][dns.TypeCNAME]
		if len(alias) == 0 {
			if !z.exists(name) {
				return rrs, dns.RcodeNameError, false
			}
			return rrs, dns.RcodeSuccess, false
		}
		rrs = append(rrs, alias...)
		name = alias[0].(*dns.CNAME).Target
	}
	return nil, dns.RcodeServerFailure, false
}

// exists tells NXDOMAIN from an empty answer: a name with names below it
// exists (RFC 8020).
func (z *zone) exists(name string) bool { return z.below[name] > 0 }

// count counts a name that has records, or has none any more, at itself and at
// all that it is below.
func (z *zone) count(name string, by int) {
	for _, at := range dns.Split(name) {
		z.below[name[at:]] += by
	}
}

// routes reports whether mail for domain belongs on host.
func (z *zone) routes(domain, host string) bool {
	z.mu.RLock()
	defer z.mu.RUnlock()
	domain, host = canonical(domain), canonical(host)
	for range 8 {
		alias := z.records[domain][dns.TypeCNAME]
		if len(alias) == 0 {
			break
		}
		domain = alias[0].(*dns.CNAME).Target
	}
	mxs := z.records[domain][dns.TypeMX]
	if len(mxs) == 0 {
		return domain == host
	}
	return slices.ContainsFunc(mxs, func(rr dns.RR) bool { return rr.(*dns.MX).Mx == host })
}

// hosts lists the MX hosts of domain.
func (z *zone) hosts(domain string) []string {
	z.mu.RLock()
	defer z.mu.RUnlock()
	domain = canonical(domain)
	if alias := z.records[domain][dns.TypeCNAME]; len(alias) > 0 {
		domain = alias[0].(*dns.CNAME).Target
	}
	out := []string{strings.TrimSuffix(domain, ".")}
	for _, rr := range z.records[domain][dns.TypeMX] {
		out = append(out, strings.TrimSuffix(rr.(*dns.MX).Mx, "."))
	}
	return out
}

// ServeDNS answers like a resolver that knows only this zone.
func (z *zone) ServeDNS(w dns.ResponseWriter, req *dns.Msg) {
	resp := new(dns.Msg).SetReply(req)
	resp.RecursionAvailable = true
	if len(req.Question) != 1 || req.Opcode != dns.OpcodeQuery {
		resp.Rcode = dns.RcodeRefused
		_ = w.WriteMsg(resp) // the peer may be gone; it asks again
		return
	}
	rrs, rcode, silent := z.answer(req.Question[0])
	if silent {
		return
	}
	resp.Answer, resp.Rcode = rrs, rcode
	opt := req.IsEdns0()
	// RFC 6840 section 5.7: who wants to know sets AD, or DO.
	resp.AuthenticatedData = (req.AuthenticatedData || opt != nil && opt.Do()) &&
		rcode != dns.RcodeServerFailure && z.signed(req.Question[0], rrs)
	if len(rrs) == 0 && rcode != dns.RcodeServerFailure {
		// RFC 2308 section 3: negative answers carry the SOA that bounds their caching.
		resp.Ns = []dns.RR{&dns.SOA{
			Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: z.ttl},
			Ns:  "ns.fake.test.", Mbox: "nobody.fake.test.",
			Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: z.ttl,
		}}
	}
	size := dns.MinMsgSize
	if opt != nil {
		resp.SetEdns0(1232, opt.Do())
		size = max(size, int(opt.UDPSize()))
	}
	if w.RemoteAddr().Network() == "udp" {
		resp.Truncate(size)
	}
	_ = w.WriteMsg(resp) // the peer may be gone; it asks again
}

// startDNS serves the zone over UDP and TCP on one port of 127.0.0.1.
func (n *Internet) startDNS() error {
	var tcp net.Listener
	var udp net.PacketConn
	var err error
	for range 20 {
		if tcp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return fmt.Errorf("listen for DNS: %w", err)
		}
		if udp, err = net.ListenPacket("udp", tcp.Addr().String()); err == nil {
			break
		}
		tcp.Close()
	}
	if err != nil {
		return fmt.Errorf("listen for DNS: %w", err)
	}
	n.ResolverAddr = tcp.Addr().String()
	for _, srv := range []*dns.Server{{Listener: tcp, Handler: n.zone}, {PacketConn: udp, Handler: n.zone}} {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		n.work.Go(func() { _ = srv.ActivateAndServe() }) // ends by Shutdown
		<-started
		n.onClose(func() { _ = srv.Shutdown() })
	}
	return nil
}
