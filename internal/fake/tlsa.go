package fake

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

// TLSA is one record of RFC 6698.
type TLSA struct {
	Usage, Selector, Matching uint8
	Data                      []byte
}

// TLSAOf is the record that matches a certificate.
func TLSAOf(usage, selector, matching uint8, cert *x509.Certificate) TLSA {
	data := cert.Raw
	if selector == 1 {
		data = cert.RawSubjectPublicKeyInfo
	}
	switch matching {
	case 1:
		sum := sha256.Sum256(data)
		data = sum[:]
	case 2:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	return TLSA{usage, selector, matching, data}
}

// PutTLSA replaces the TLSA records of a mail host, at the port that all mail
// hosts share; with none it removes them.
func (n *Internet) PutTLSA(host string, records ...TLSA) {
	name := n.TLSAName(host)
	var rrs []dns.RR
	for _, r := range records {
		rrs = append(rrs, &dns.TLSA{Hdr: n.zone.header(name, dns.TypeTLSA), Usage: r.Usage, Selector: r.Selector,
			MatchingType: r.Matching, Certificate: hex.EncodeToString(r.Data)})
	}
	n.zone.set(name, dns.TypeTLSA, rrs)
}

// TLSAName is where the TLSA records of a mail host stand.
func (n *Internet) TLSAName(host string) string { return fmt.Sprintf("_%d._tcp.%s", n.SMTPPort, host) }

// Authority is the certificate of the authority that everything trusts.
func (n *Internet) Authority() *x509.Certificate { return n.ca.cert }

// Certificate is what a mail host shows.
func (n *Internet) Certificate(host string) *x509.Certificate {
	h := n.host(host)
	if h == nil {
		return nil
	}
	return h.posture.Load().tls.Certificates[0].Leaf
}

// Hello is what a client said of itself in a TLS handshake.
type Hello struct {
	Name   string            // SNI
	Client *x509.Certificate // nil: it showed none
}

// LastHello is what the last handshake told a mail host.
func (n *Internet) LastHello(host string) Hello {
	h := n.host(host)
	if h == nil {
		return Hello{}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hello
}

func (h *host) shake(state tls.ConnectionState) {
	hello := Hello{Name: strings.ToLower(state.ServerName)}
	if len(state.PeerCertificates) > 0 {
		hello.Client = state.PeerCertificates[0]
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hello = hello
}
