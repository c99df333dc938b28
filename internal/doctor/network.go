package doctor

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/zone"
)

// resolver asks for the root's name servers: every resolver knows them, and
// the root is signed, so one that validates says so.
func (d Deps) resolver(ctx context.Context) []Finding {
	began := time.Now()
	a, err := d.Resolver.Ask(ctx, ".", dns.TypeNS)
	took := time.Since(began).Round(time.Millisecond)
	switch {
	case err != nil:
		return wrong("Start the resolver, or correct network.resolver.", "The DNS resolver does not answer.")
	case took > time.Second:
		return warning("Run a resolver such as unbound on this machine and name it in network.resolver.", "The DNS resolver took %s for a question.", took)
	case !d.Config.Network.DNSSEC:
		return warning("Run a resolver that validates, such as unbound, on this machine, name it in network.resolver and set network.dnssec = true.",
			"The DNS resolver answers, but network.dnssec is off: DANE and keys in the DNS are not used.")
	case !a.Secure:
		return wrong("Switch validation on in the resolver (for unbound: auto-trust-anchor-file), or set network.dnssec = false.",
			"network.dnssec is on, but the resolver does not validate: it gives the signed root zone without saying so.")
	}
	return good("The DNS resolver answers in %s and validates.", took)
}

// hostname looks whether the name that is said in EHLO leads to an address
// that leads back to it: many large providers refuse mail from others.
func (d Deps) hostname(ctx context.Context) []Finding {
	name := d.Config.Hostname
	addrs, _, err := d.Resolver.Addresses(ctx, name)
	switch {
	case err != nil:
		return warning("Try again when the resolver answers.", "The address of %s cannot be looked up.", name)
	case len(addrs) == 0:
		return wrong("Publish an A or AAAA record of "+name+" with the address that this machine sends from.", "%s has no address in the DNS.", name)
	}
	var found []Finding
	for _, addr := range addrs {
		found = append(found, d.pointsBack(ctx, addr, name)...)
	}
	return found
}

func (d Deps) pointsBack(ctx context.Context, addr netip.Addr, name string) []Finding {
	if zone.Hidden(addr) {
		return warning("Let the name lead to the public address that mail leaves from. If a gateway with a name and an address of its own sends for this machine, leave it.", "%s leads to %s, which the internet cannot reach.", name, addr)
	}
	reverse, err := dns.ReverseAddr(addr.String())
	if err != nil {
		return nil
	}
	a, err := d.Resolver.Ask(ctx, reverse, dns.TypePTR)
	if err != nil {
		return warning("Try again when the resolver answers.", "The name of %s cannot be looked up.", addr)
	}
	if slices.ContainsFunc(a.RRs, func(rr dns.RR) bool {
		ptr, ok := rr.(*dns.PTR)
		return ok && strings.EqualFold(strings.TrimSuffix(ptr.Ptr, "."), name)
	}) {
		return good("%s leads to %s and back.", name, addr)
	}
	return wrong("Ask whoever gave you the address for a PTR record "+name+".", "%s does not lead back to %s: large providers refuse mail from it.", addr, name)
}

const certificateSoon = 14 * 24 * time.Hour

func (d Deps) certificate(ctx context.Context) []Finding {
	files := d.Config.TLS
	if files.ByACME() && d.Obtained != nil {
		return d.obtained(ctx)
	}
	if files.CertFile == "" {
		return warning("Name a certificate in [tls], unless nothing but a proxy on this machine talks to it.", "There is no certificate.")
	}
	pair, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
	if err != nil {
		return wrong("Correct tls.cert_file and tls.key_file.", "The certificate and its key cannot be read.")
	}
	now, leaf := d.Clock.Now(), pair.Leaf
	names := []string{d.Config.Hostname}
	if u, err := url.Parse(d.Config.PublicURL); err == nil && u.Scheme == "https" && d.Config.Listen.HTTPTLS {
		names = append(names, u.Hostname())
	}
	var found []Finding
	for _, name := range slices.Compact(names) {
		if leaf.VerifyHostname(name) != nil {
			found = append(found, wrong("Get a certificate that names "+name+".", "The certificate does not name %s.", name)...)
		}
	}
	opts := x509.VerifyOptions{Roots: d.Roots, Intermediates: x509.NewCertPool(), CurrentTime: now}
	for _, der := range pair.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			opts.Intermediates.AddCert(c)
		}
	}
	_, err = leaf.Verify(opts)
	switch {
	case now.After(leaf.NotAfter):
		found = append(found, wrong("Renew it now.", "The certificate ended on %s.", leaf.NotAfter.UTC().Format(time.DateOnly))...)
	case leaf.NotAfter.Sub(now) < certificateSoon:
		found = append(found, warning("Renew it, and see why that did not happen by itself.", "The certificate ends on %s.", leaf.NotAfter.UTC().Format(time.DateOnly))...)
	case err != nil:
		found = append(found, warning("Put the whole chain into tls.cert_file, or get a certificate of an authority that others trust.", "The certificate does not lead to a trusted authority.")...)
	}
	if found == nil {
		return good("The certificate is trusted, names this host and is good until %s.", leaf.NotAfter.UTC().Format(time.DateOnly))
	}
	return found
}

// listeners connects to what a running node listens on. A node that does not
// run is no mistake.
func (d Deps) listeners(ctx context.Context) []Finding {
	l := d.Config.Listen
	if conn, err := d.Dial(ctx, "tcp", reachable(l.Metrics)); l.Metrics != "" && err != nil {
		return warning("Start it with \"sealpost serve\", or see its log.", "No node runs on this machine: nobody answers at listen.metrics.")
	} else if err == nil {
		_ = conn.Close()
	}
	var found []Finding
	for _, door := range []struct {
		role, setting, addr string
		speaks              bool // a banner of its own accord
	}{
		{config.RoleAPI, "listen.http", l.HTTP, false},
		{config.RoleSMTP, "listen.submission", l.Submission, true},
		{config.RoleSMTP, "listen.submissions", l.Submissions, false},
		{config.RoleSMTP, "listen.relay", l.Relay, true},
	} {
		if door.addr == "" || !d.Config.HasRole(door.role) {
			continue
		}
		if err := d.greets(ctx, reachable(door.addr), door.speaks); err != nil {
			found = append(found, wrong("See the log of the running node; another program may hold the port.", "Nobody answers as Sealpost at %s (%s).", door.setting, door.addr)...)
		}
	}
	if found == nil {
		return good("The running node answers on all its ports.")
	}
	return found
}

// reachable is where a listener can be reached from this machine.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// greets connects and, where the other side speaks first, waits for 220.
func (d Deps) greets(ctx context.Context, addr string, speaks bool) error {
	conn, err := d.Dial(ctx, "tcp", addr)
	if err != nil || !speaks {
		if conn != nil {
			_ = conn.Close()
		}
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	line, err := bufio.NewReaderSize(conn, 512).ReadSlice('\n')
	if err == nil && !strings.HasPrefix(string(line), "220") {
		err = os.ErrInvalid
	}
	return err
}

// outgoing tries to reach a mail host: many networks let nobody out on port 25.
func (d Deps) outgoing(ctx context.Context) []Finding {
	if d.MX == "" || !d.Config.HasRole(config.RoleDeliver) {
		return nil
	}
	a, err := d.Resolver.Ask(ctx, d.MX, dns.TypeMX)
	if err != nil || len(a.RRs) == 0 {
		return warning("Name another domain with --mx.", "The mail hosts of %s cannot be looked up.", d.MX)
	}
	port := strconv.Itoa(d.Config.Network.SMTPPort)
	for _, rr := range a.RRs {
		mx, ok := rr.(*dns.MX)
		if !ok {
			continue
		}
		addrs, _, err := d.Resolver.Addresses(ctx, strings.TrimSuffix(mx.Mx, "."))
		if err != nil {
			continue
		}
		for _, addr := range addrs {
			once, cancel := context.WithTimeout(ctx, 5*time.Second)
			err := d.greets(once, net.JoinHostPort(addr.String(), port), true)
			cancel()
			if err == nil {
				return good("A mail host of %s answers on port %s.", d.MX, port)
			}
		}
	}
	return wrong("Ask the provider of your network to open outgoing port "+port+", or let a gateway send. If only this domain is down, name another with --mx.",
		"No mail host of %s can be reached on port %s.", d.MX, port)
}
