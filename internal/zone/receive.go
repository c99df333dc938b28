package zone

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/internal/fetch"
)

// returnPath looks at the host that bounces come back to.
func (c *checker) returnPath(ctx context.Context) {
	if c.ReturnPath == nil {
		return
	}
	if c.bounces == "" {
		c.add(Item{Check: ReturnPath, Name: c.domain, Status: Missing,
			Text: "Bounces of the domain's mail do not come back to us, so what fails later is not learned: \"sealpost domain return-path\" sets a host up for them."})
		return
	}
	hosts, err := c.mx(ctx, c.bounces)
	if err != nil {
		c.unknown(ReturnPath, c.bounces, true)
		return
	}
	item := Item{Check: ReturnPath, Name: c.bounces, Status: OK, Needed: true, Text: "Bounces come to us."}
	if !slices.Equal(hosts, []string{c.Hostname}) {
		item.Status, item.Text = Wrong, "Its mail comes elsewhere than to us, so that bounces are lost."
		if len(hosts) == 0 {
			item.Status, item.Text = Missing, "It takes no mail, so that bounces are lost, and hosts refuse mail that bounces cannot answer."
		}
		item.Publish = []Record{{c.bounces, "MX", "10 " + c.Hostname + "."}}
	}
	c.add(item)
	c.spfAt(ctx, ReturnPath, c.bounces)
}

// mx gives the mail hosts of a name.
func (c *checker) mx(ctx context.Context, name string) (hosts []string, err error) {
	a, err := c.Resolver.Ask(ctx, name, dns.TypeMX)
	for _, rr := range a.RRs {
		if mx, ok := rr.(*dns.MX); ok {
			hosts = append(hosts, strings.ToLower(strings.TrimSuffix(mx.Mx, ".")))
		}
	}
	slices.Sort(hosts)
	return hosts, err
}

const whySTS = "MTA-STS makes others send mail to the domain only over proved TLS; without it, somebody on the way can read and divert it."

// mtaSTS looks at the domain's policy: whether it is there and, where it is
// ours, whether others see what we mean (RFC 8461).
func (c *checker) mtaSTS(ctx context.Context) {
	name := "_mta-sts." + c.domain
	found, err := c.texts(ctx, name, "v=STSv1")
	if err != nil {
		c.unknown(MTASTS, name, false)
		return
	}
	item := Item{Check: MTASTS, Name: name, Status: OK, Text: "The policy is published."}
	switch {
	case c.policy != nil:
		c.ownSTS(ctx, item, found)
		return
	case len(found) == 0:
		item.Status, item.Text = Missing, whySTS+" Where mail of the domain comes in here, \"sealpost domain mta-sts "+c.domain+"\" serves the policy; elsewhere its mail host has to."
	case len(found) > 1:
		item.Status, item.Text = Wrong, "There are several records, which counts as none. "+whySTS
	default:
		if _, err := c.fetchSTS(ctx); err != nil {
			item.Status, item.Needed = Wrong, true
			item.Text = "There is a record, but the policy cannot be fetched (" + fetch.Word(err) + "): others may hold mail to the domain back. " + whySTS
		}
	}
	c.add(item)
}

func (c *checker) fetchSTS(ctx context.Context) (string, error) {
	r, err := c.Fetch.Get(ctx, fetch.Request{URL: "https://mta-sts." + c.domain + stsPath, Types: []string{"text/plain"}})
	if err != nil {
		return "", err
	}
	return string(r.Body), nil
}

// stsPath is of RFC 8461 section 3.3.
const stsPath = "/.well-known/mta-sts.txt"

// ownSTS looks at a policy that we serve.
func (c *checker) ownSTS(ctx context.Context, item Item, found []string) {
	item.Needed = true
	switch {
	case len(found) == 0:
		item.Status, item.Text = Missing, "Nobody looks for the policy that is served. "+whySTS
	case len(found) > 1 || compact(found[0]) != compact(c.policy.Record().Value):
		item.Status, item.Text = Wrong, "The record does not name the policy that is served, so that others keep the one they know."
	}
	if item.Status != OK {
		item.Publish = []Record{c.policy.Record()}
	}
	c.add(item)

	host := Item{Check: MTASTS, Name: "mta-sts." + c.domain, Status: OK, Needed: true, Text: "The policy can be fetched."}
	switch text, err := c.fetchSTS(ctx); {
	case err != nil:
		host.Status, host.Text = Wrong, "The policy cannot be fetched ("+fetch.Word(err)+"). The name has to lead to our HTTP listener, and its certificate has to be valid for it."
		host.Publish = []Record{{host.Name, "CNAME", c.Hostname + "."}}
	case text != c.policy.Text():
		host.Status, host.Text = Wrong, "Another policy is served there than ours."
		host.Publish = []Record{{host.Name, "CNAME", c.Hostname + "."}}
	}
	c.add(host)

	hosts, err := c.mx(ctx, c.domain)
	if err != nil {
		c.unknown(MTASTS, c.domain, true)
		return
	}
	for _, h := range hosts {
		if !slices.Contains(c.policy.MX, h) {
			c.add(Item{Check: MTASTS, Name: c.domain, Status: Wrong, Needed: c.policy.Mode == Enforce,
				Text: "The mail host " + h + " is not in the policy: with mode enforce, others do not send to it."})
		}
	}
}

func compact(s string) string {
	return strings.TrimRight(strings.NewReplacer(" ", "", "\t", "").Replace(s), ";")
}

// tlsRPT looks for where reports on TLS go (RFC 8460).
func (c *checker) tlsRPT(ctx context.Context) {
	name := "_smtp._tls." + c.domain
	found, err := c.texts(ctx, name, "v=TLSRPTv1")
	switch {
	case err != nil:
		c.unknown(TLSRPT, name, false)
	case len(found) == 1:
		c.add(Item{Check: TLSRPT, Name: name, Status: OK, Text: "Reports are asked for."})
	default:
		item := Item{Check: TLSRPT, Name: name, Status: Missing, Text: "Nobody is told when others fail to reach the domain over TLS, which shows mistakes and attacks alike."}
		if len(found) > 1 {
			item.Status, item.Text = Wrong, "There are several records, which counts as none. "+item.Text
		}
		to := "postmaster@" + c.domain
		if c.bounces != "" {
			to = "tlsrpt@" + c.bounces
		}
		item.Publish = []Record{{name, "TXT", "v=TLSRPTv1; rua=mailto:" + to}}
		c.add(item)
	}
}

// tlsa compares the TLSA records of our mail host with the certificate it
// shows and the one that comes next (RFC 7672 section 3.1.1, RFC 7671 section
// 8.1: that of the next key has to be there before the key is used).
func (c *checker) tlsa(ctx context.Context) {
	if c.Certificates == nil || !c.receives() {
		return
	}
	certs, err := c.Certificates()
	name := fmt.Sprintf("_%d._tcp.%s", c.SMTPPort, c.Hostname)
	if err != nil || len(certs) == 0 {
		return
	}
	a, err := c.Resolver.Ask(ctx, name, dns.TypeTLSA)
	if err != nil {
		c.unknown(TLSA, name, false)
		return
	}
	item := Item{Check: TLSA, Name: name, Status: OK, Text: "The records match the certificate."}
	for _, cert := range certs {
		item.Publish = append(item.Publish, Record{name, "TLSA", "3 1 1 " + spki(cert)})
	}
	const why = "Hosts that use DANE then know our mail host by its key, and need no authority for it."
	switch {
	case len(a.RRs) == 0:
		item.Status, item.Text = Missing, "There is none. "+why+" It takes a zone signed with DNSSEC."
	case !matches(a.RRs, certs[0]):
		item.Status, item.Needed, item.Text = Wrong, true, "No record matches the certificate that is shown: hosts that use DANE send us nothing."
	case c.Resolver.Trusted() && !a.Secure:
		item.Status, item.Text = Wrong, "The zone is not signed with DNSSEC, so that nobody looks at the records. "+why
	case len(certs) > 1 && !matches(a.RRs, certs[1]):
		item.Status, item.Text = Missing, "There is none of the next key: publish it two TTLs before that key is used."
	default:
		item.Publish = nil
	}
	c.add(item)
}

func spki(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// matches reports whether a record names a certificate. One that names an
// authority (usage 2) is taken to.
func matches(rrs []dns.RR, cert *x509.Certificate) bool {
	return slices.ContainsFunc(rrs, func(rr dns.RR) bool {
		r, ok := rr.(*dns.TLSA)
		return ok && (r.Usage == 2 || r.Usage == 3 && r.Verify(cert) == nil)
	})
}

// ptr looks whether the addresses that mail leaves from have names that lead
// back to them, and whether the name of our EHLO leads to them (RFC 5321
// section 4.1.4, RFC 1912 section 2.1).
func (c *checker) ptr(ctx context.Context) {
	sources, err := c.leaving(ctx)
	if err != nil {
		c.unknown(PTR, c.Hostname, true)
		return
	}
	if len(sources) == 0 {
		c.add(Item{Check: PTR, Name: c.Hostname, Status: Missing, Needed: true,
			Text: "The name that we say in EHLO has no address: many hosts refuse mail from such a name, and it is not known which addresses mail leaves from."})
	}
	for _, from := range sources {
		c.ptrOf(ctx, from)
	}
}

// Hidden reports whether the internet cannot reach an address. Peers see mail
// come from a gateway with another one, so nothing is asked of its name.
func Hidden(a netip.Addr) bool { return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() }

func (c *checker) ptrOf(ctx context.Context, from Source) {
	a := from.Addr
	if Hidden(a) {
		c.add(Item{Check: PTR, Name: from.Helo, Status: Missing,
			Text: fmt.Sprintf("%s leads to %s, which the internet cannot reach. Nothing need be done if a gateway with an address of its own sends for this machine.", from.Helo, a)})
		return
	}
	reverse, err := dns.ReverseAddr(a.String())
	if err != nil {
		return // every address has one
	}
	name := strings.TrimSuffix(reverse, ".")
	names, back, err := c.confirmed(ctx, name, a)
	if err != nil {
		c.unknown(PTR, name, true)
		return
	}
	own, _, err := c.Resolver.Addresses(ctx, from.Helo)
	if err != nil {
		c.unknown(PTR, from.Helo, true)
		return
	}
	item := Item{Check: PTR, Name: name, Status: OK, Needed: true, Text: "The address has a name that leads back to it."}
	const why = "Large hosts refuse mail from addresses without one; whoever the address comes from sets it."
	switch {
	case names == 0:
		item.Status, item.Text = Missing, fmt.Sprintf("%s has no name. %s", a, why)
	case !back:
		item.Status, item.Text = Wrong, fmt.Sprintf("The name of %s does not lead back to it. %s", a, why)
	case !slices.Contains(own, a):
		item.Status, item.Needed = Wrong, false
		item.Text = fmt.Sprintf("%s, as we say in EHLO, does not lead to %s: some hosts count that against us.", from.Helo, a)
		kind := "A"
		if a.Is6() {
			kind = "AAAA"
		}
		item.Publish = []Record{{from.Helo, kind, a.String()}}
	}
	if item.Status != OK && item.Publish == nil {
		item.Publish = []Record{{name, "PTR", from.Helo + "."}}
	}
	c.add(item)
}

// maxNames of one address are looked at.
const maxNames = 5

// confirmed counts the names of an address and tells whether one leads back.
func (c *checker) confirmed(ctx context.Context, reverse string, a netip.Addr) (names int, back bool, err error) {
	answer, err := c.Resolver.Ask(ctx, reverse, dns.TypePTR)
	if err != nil {
		return 0, false, err
	}
	for _, rr := range answer.RRs[:min(len(answer.RRs), maxNames)] {
		ptr, ok := rr.(*dns.PTR)
		if !ok {
			continue
		}
		names++
		addrs, _, err := c.Resolver.Addresses(ctx, ptr.Ptr)
		if err != nil {
			return 0, false, err
		}
		back = back || slices.Contains(addrs, a)
	}
	return names, back, nil
}
