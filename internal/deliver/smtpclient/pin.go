package smtpclient

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"strings"
	"time"
)

// Pin is what the sender's organization itself knows of a domain's mail hosts.
// It goes before whatever the domain publishes.
type Pin struct {
	Hosts        []string            // names, or "*." and a parent; none: any host
	Certificates [][]byte            // SHA-256 of certificates
	Keys         [][]byte            // SHA-256 of public keys (SubjectPublicKeyInfo)
	CAs          []*x509.Certificate // authorities; they prove only hosts that Hosts name
}

// allows reports whether mail may go to this host at all.
func (p *Pin) allows(host string) bool {
	return len(p.Hosts) == 0 || p.names(host)
}

func (p *Pin) names(host string) bool {
	return slices.ContainsFunc(p.Hosts, func(pattern string) bool {
		parent, wildcard := strings.CutPrefix(pattern, "*.")
		if !wildcard {
			return pattern == host
		}
		_, rest, ok := strings.Cut(host, ".")
		return ok && rest == parent
	})
}

// proves reports whether there is anything that a certificate is held against.
func (p *Pin) proves() bool {
	return p != nil && len(p.Certificates)+len(p.Keys)+len(p.CAs) > 0
}

// prove holds a chain against the pin, and gives a Cert word where it fails. A
// certificate or key that is pinned vouches for itself: its names and dates do
// not count. An authority vouches for names.
func (p *Pin) prove(host string, chain []*x509.Certificate, now time.Time) string {
	if len(chain) == 0 {
		return CertMissing
	}
	cert, key := sha256.Sum256(chain[0].Raw), sha256.Sum256(chain[0].RawSubjectPublicKeyInfo)
	has := func(all [][]byte, sum [32]byte) bool {
		return slices.ContainsFunc(all, func(one []byte) bool { return bytes.Equal(one, sum[:]) })
	}
	if has(p.Certificates, cert) || has(p.Keys, key) {
		return ""
	}
	word := CertNotPinned
	if !p.names(host) {
		return word // an authority says nothing of a host that nobody named
	}
	for _, ca := range p.CAs {
		failed := verify(chain, ca, []string{host}, now)
		if failed == "" {
			return ""
		}
		if failed != CertUnknownAuthority {
			word = failed
		}
	}
	return word
}
