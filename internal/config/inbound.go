package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/sealpost/sealpost/internal/private"
)

// Relay is the section of that name.
type Relay struct {
	CAFile string        `toml:"ca_file" example:"/etc/sealpost/relay-ca.pem" doc:"Authorities to trust for the certificates of relay sources in place of the system's, in PEM."`
	Source []RelaySource `toml:"source" doc:"Where mail of one organization comes from. The sender must be in one of its verified domains."`
}

// RelaySource ties networks, certificates or both to an organization.
type RelaySource struct {
	Networks         []netip.Prefix `toml:"networks" example:"10.20.0.0/16,2001:db8:20::/48" doc:"Networks whose hosts may relay."`
	CertificateNames []string       `toml:"certificate_names" example:"mail.protection.outlook.com" doc:"Names, of which the client's certificate must be valid for one. Beside networks both are asked for."`
	TenantHeader     string         `toml:"tenant_header" example:"X-Sealpost-Tenant" doc:"Header field that proves whose mail it is, where others send from the same networks or under the same certificate. Required for those of Microsoft and Google. The field is taken out of all mail. See docs/mail-suites.md."`
	TenantValue      private.String `toml:"tenant_value" example:"a-long-random-text" doc:"What the field must say: a secret of 16 characters or more. When not given, it must name a verified domain of the organization, which is only good for a field that nobody but the provider can write."`
	Org              string         `toml:"org" example:"clinic" doc:"Short name of the organization the mail belongs to."`
}

// TenantFields are the header fields that prove whose mail it is.
func (r Relay) TenantFields() (all []string) {
	for _, s := range r.Source {
		if s.TenantHeader != "" {
			all = append(all, s.TenantHeader)
		}
	}
	return all
}

// Inbound is the section of that name.
type Inbound struct {
	Rspamd    string `toml:"rspamd" example:"http://127.0.0.1:11333" doc:"Rspamd that is asked about each message for members. When it gives no answer the message is deferred. Without TLS on loopback only. None when not given."`
	ClamAV    string `toml:"clamav" example:"unix:///run/clamav/clamd.ctl" doc:"clamd that looks into each message for members, as unix:///path or, on loopback, tcp://host:port. When it gives no answer the message is deferred. None when not given."`
	Lookalike string `toml:"lookalike" default:"mark" set:"mark,reject" doc:"What is done with mail whose sender's domain or name imitates the organization. A member's name before an address elsewhere is marked in any case."`
}

// shared are networks that mail of very many organizations leaves from. To
// come from there proves nothing of whose mail it is.
var shared = []struct {
	provider string
	networks []netip.Prefix
}{
	{"Microsoft 365", prefixes("40.92.0.0/15", "40.107.0.0/16", "52.100.0.0/14", "52.238.78.88/32", "104.47.0.0/17", "2a01:111:f400::/46")},
	{"Google", prefixes("35.190.247.0/24", "64.233.160.0/19", "66.102.0.0/20", "66.249.80.0/20", "72.14.192.0/18", "74.125.0.0/16", "108.177.0.0/17",
		"142.250.0.0/15", "172.217.0.0/16", "172.253.0.0/16", "173.194.0.0/16", "192.178.0.0/15", "209.85.128.0/17", "216.58.192.0/19", "216.239.32.0/19",
		"2001:4860:4000::/36", "2404:6800:4000::/36", "2607:f8b0:4000::/36", "2800:3f0:4000::/36", "2a00:1450:4000::/36", "2c0f:fb50:4000::/36")},
}

// sharedNames end the names of certificates of such providers.
var sharedNames = []string{"outlook.com", "office365.com", "google.com", "googlemail.com", "gmail.com"}

func prefixes(all ...string) (out []netip.Prefix) {
	for _, s := range all {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

const (
	tenantValueMin = 16
	tenantFieldMax = 70
)

// others says who else may come under a source's networks and names, if very
// many do.
func (s RelaySource) others() (who string) {
	for _, p := range shared {
		for _, n := range s.Networks {
			if n.Bits() > 0 && slices.ContainsFunc(p.networks, n.Overlaps) {
				return p.provider
			}
		}
	}
	for _, name := range s.CertificateNames {
		for _, end := range sharedNames {
			if name == end || strings.HasSuffix(name, "."+end) {
				return name
			}
		}
	}
	return ""
}

func (l *loader) checkSources() {
	c := l.config
	var before []RelaySource
	for i, s := range c.Relay.Source {
		key := fmt.Sprintf("relay.source[%d]", i)
		if !slugForm.MatchString(s.Org) {
			l.at(key, ".org", "must be the short name of an organization: small letters, digits and -")
		}
		if len(s.Networks) == 0 && len(s.CertificateNames) == 0 {
			l.at(key, ".networks", "must name at least one network, or certificate_names a name")
		}
		for _, name := range s.CertificateNames {
			if !hostForm.MatchString(name) || !strings.Contains(name, ".") {
				l.at(key, ".certificate_names", "must be names of hosts such as mail.protection.outlook.com")
			}
		}
		l.checkTenant(key, s)
		for _, network := range s.Networks {
			if network.Bits() == 0 {
				l.at(key, ".networks", "must not be the whole internet: everybody could relay")
			}
		}
		if slices.ContainsFunc(before, s.confusedWith) {
			if len(s.CertificateNames) > 0 {
				l.at(key, ".certificate_names", "names a certificate that stands for another organization, too")
			} else {
				l.at(key, ".networks", "overlaps with a network of another organization")
			}
		}
		before = append(before, s)
	}
}

// confusedWith reports whether a peer could be both, and nothing tells whose
// mail it brings. Where one asks for a certificate and the other for none, the
// certificate does: see smtpin.
func (s RelaySource) confusedWith(other RelaySource) bool {
	if s.Org == other.Org || s.TenantHeader != "" && other.TenantHeader != "" {
		return false
	}
	if len(s.CertificateNames) > 0 || len(other.CertificateNames) > 0 {
		same := slices.ContainsFunc(s.CertificateNames, func(name string) bool {
			return slices.ContainsFunc(other.CertificateNames, func(o string) bool { return strings.EqualFold(name, o) })
		})
		if !same || len(s.Networks) == 0 || len(other.Networks) == 0 {
			return same
		}
	}
	return slices.ContainsFunc(s.Networks, func(n netip.Prefix) bool { return slices.ContainsFunc(other.Networks, n.Overlaps) })
}

func (l *loader) checkTenant(key string, s RelaySource) {
	switch value := s.TenantValue.Reveal(); {
	case s.TenantHeader == "" && value != "":
		l.at(key, ".tenant_header", "is required beside tenant_value")
	case s.TenantHeader == "":
		if who := s.others(); who != "" {
			l.at(key, ".tenant_header", "is required, because everybody who uses "+who+" comes from there and under that name")
		}
	case len(s.TenantHeader) > tenantFieldMax || !slugForm.MatchString(strings.ToLower(s.TenantHeader)) || !strings.HasPrefix(strings.ToUpper(s.TenantHeader), "X-"):
		l.at(key, ".tenant_header", "must be the name of a header field that begins with X-, such as X-Sealpost-Tenant")
	case value != "" && len(value) < tenantValueMin:
		l.at(key, ".tenant_value", fmt.Sprintf("must have at least %d characters: who guesses it can send in the organization's name", tenantValueMin))
	}
}

func (l *loader) checkInbound() {
	in := l.config.Inbound
	if in.Rspamd != "" {
		u, err := url.Parse(in.Rspamd)
		switch {
		case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
			l.wrong("inbound.rspamd", "must be a URL such as http://127.0.0.1:11333")
		case u.Scheme == "http" && !isLoopback(u.Hostname()):
			l.wrong("inbound.rspamd", "must be https, except on loopback: mail would cross the network in clear")
		}
	}
	if in.ClamAV != "" {
		u, err := url.Parse(in.ClamAV)
		switch {
		case err != nil || !(u.Scheme == "unix" && u.Host == "" && u.Path != "" || u.Scheme == "tcp" && u.Port() != "" && u.Path == ""):
			l.wrong("inbound.clamav", "must be a URL such as unix:///run/clamav/clamd.ctl or tcp://127.0.0.1:3310")
		case u.Scheme == "tcp" && !isLoopback(u.Hostname()):
			l.wrong("inbound.clamav", "must be on loopback or a socket: mail would cross the network in clear")
		}
	}
}
