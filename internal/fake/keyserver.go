package fake

import (
	"crypto/fips140"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"

	"github.com/miekg/dns"
)

// WKDOptions say how a key stands in a Web Key Directory.
type WKDOptions struct {
	Direct bool // at DOMAIN itself; otherwise at openpgpkey.DOMAIN
	Fault  WebFault
}

// zBase32 is the alphabet of RFC 6189 section 5.1.6.
var zBase32 = base32.NewEncoding("ybndrfg8ejkmcpqxot1uwisza345h769").WithPadding(base32.NoPadding)

// WKDPath is where the key of a local part stands
// (draft-koch-openpgp-webkey-service section 3.1).
func WKDPath(domain, local string, direct bool) string {
	var sum [sha1.Size]byte
	// SHA-1 gives the page its name; it protects nothing.
	fips140.WithoutEnforcement(func() { sum = sha1.Sum([]byte(asciiLower(local))) })
	path := "/.well-known/openpgpkey/"
	if !direct {
		path += domain + "/"
	}
	return path + "hu/" + zBase32.EncodeToString(sum[:])
}

func asciiLower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// WKDHost is the host of a Web Key Directory.
func WKDHost(domain string, direct bool) string {
	if direct {
		return domain
	}
	return "openpgpkey." + domain
}

// PutWKD publishes a key of local@domain in the domain's Web Key Directory. A
// request must name the local part as the draft says, or the key is not found.
func (n *Internet) PutWKD(domain, local string, key []byte, o WKDOptions) error {
	host, path := WKDHost(domain, o.Direct), WKDPath(domain, local, o.Direct)
	page := keyPage(key, o.Fault)
	err := n.PutHandler(host, path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked := r.URL.Query()
		if r.TLS == nil || asked.Get("moved") == "" && asciiLower(asked.Get("l")) != asciiLower(local) {
			http.NotFound(w, r)
			return
		}
		page.ServeHTTP(w, r)
	}))
	if err != nil {
		return err
	}
	policy := path[:strings.Index(path, "hu/")] + "policy"
	return n.PutPage(host, policy, nil, "text/plain")
}

// PutHKPS publishes a key on a key server of the keys.openpgp.org kind.
func (n *Internet) PutHKPS(host, address string, key []byte, fault WebFault) error {
	place := &url.URL{Path: "/vks/v1/by-email/" + address}
	return n.PutHandler(host, place.Path, keyPage(key, fault))
}

// AddKeyServer brings up a key server that has no keys yet.
func (n *Internet) AddKeyServer(host string) error {
	return n.PutHandler(host, "/vks/v1/by-email/", http.NotFoundHandler())
}

// personal is the name under which DNS keeps what belongs to an address (RFC
// 7929 section 3, RFC 8162 section 3).
func personal(address, below string) string {
	local, domain, _ := cutLast(address, '@')
	sum := sha256.Sum256([]byte(local))
	return hex.EncodeToString(sum[:28]) + "." + below + "." + domain
}

// SetOPENPGPKEY replaces the OPENPGPKEY records of an address; with no keys it
// removes them.
func (n *Internet) SetOPENPGPKEY(address string, keys ...[]byte) {
	name := personal(address, "_openpgpkey")
	var rrs []dns.RR
	for _, key := range keys {
		rrs = append(rrs, &dns.OPENPGPKEY{Hdr: n.zone.header(name, dns.TypeOPENPGPKEY), PublicKey: base64.StdEncoding.EncodeToString(key)})
	}
	n.zone.set(name, dns.TypeOPENPGPKEY, rrs)
}

// SMIMEA is one record of RFC 8162.
type SMIMEA struct {
	Usage, Selector, Matching uint8
	Data                      []byte
}

// SetSMIMEA publishes a whole certificate of an address with a usage.
func (n *Internet) SetSMIMEA(address string, der []byte, usage uint8) {
	n.PutSMIMEA(address, SMIMEA{Usage: usage, Data: der})
}

// PutSMIMEA replaces the SMIMEA records of an address; with none it removes
// them.
func (n *Internet) PutSMIMEA(address string, records ...SMIMEA) {
	name := personal(address, "_smimecert")
	var rrs []dns.RR
	for _, r := range records {
		rrs = append(rrs, &dns.SMIMEA{Hdr: n.zone.header(name, dns.TypeSMIMEA), Usage: r.Usage, Selector: r.Selector,
			MatchingType: r.Matching, Certificate: hex.EncodeToString(r.Data)})
	}
	n.zone.set(name, dns.TypeSMIMEA, rrs)
}

// SetSecure makes the resolver say that it validated with DNSSEC what stands
// at domain and below, or that it does not exist.
func (n *Internet) SetSecure(domain string, secure bool) {
	n.zone.mu.Lock()
	defer n.zone.mu.Unlock()
	n.zone.secure[canonical(domain)] = secure
}

// signed reports whether every name of an answer lies in a zone that is
// signed.
func (z *zone) signed(question dns.Question, rrs []dns.RR) bool {
	z.mu.RLock()
	defer z.mu.RUnlock()
	names := []string{canonical(question.Name)}
	for _, rr := range rrs {
		names = append(names, canonical(rr.Header().Name))
		if alias, ok := rr.(*dns.CNAME); ok && question.Qtype != dns.TypeCNAME {
			names = append(names, canonical(alias.Target))
		}
	}
	for _, name := range names {
		if !z.signedName(name) {
			return false
		}
	}
	return true
}

func (z *zone) signedName(name string) bool {
	for {
		if secure, said := z.secure[name]; said {
			return secure
		}
		i, end := dns.NextLabel(name, 0)
		if end {
			return false
		}
		name = name[i:]
	}
}

// QueriesUnder counts the queries that arrived for domain and everything below
// it.
func (n *Internet) QueriesUnder(domain string) int {
	n.zone.mu.RLock()
	defer n.zone.mu.RUnlock()
	total := 0
	for name, count := range n.zone.queries {
		if dns.IsSubDomain(canonical(domain), name) {
			total += count
		}
	}
	return total
}
