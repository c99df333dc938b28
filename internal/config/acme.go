package config

import (
	"net/mail"
	"net/netip"
	"net/url"
	"strings"
)

// ByACME reports whether certificates are obtained from an authority.
func (t TLS) ByACME() bool { return t.ACME != "" && t.CertFile == "" }

// checkACME finds what would keep every attempt from succeeding.
func (l *loader) checkACME(http bool) {
	t := l.config.TLS
	if t.ACME == "" {
		for _, one := range []struct {
			key   string
			given bool
		}{
			{"tls.acme_email", t.ACMEEmail != ""}, {"tls.acme_terms_agreed", t.ACMETermsAgreed},
			{"tls.acme_ca_file", t.ACMECAFile != ""}, {"listen.acme_http", l.config.Listen.ACMEHTTP != ""},
		} {
			if one.given {
				l.wrong(one.key, "means nothing without tls.acme")
			}
		}
		return
	}
	if u, err := url.Parse(t.ACME); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" {
		l.wrong("tls.acme", "must be the directory of an authority, such as https://acme-v02.api.letsencrypt.org/directory")
	}
	if a, err := mail.ParseAddress(t.ACMEEmail); t.ACMEEmail != "" && (err != nil || a.Address != t.ACMEEmail) {
		l.wrong("tls.acme_email", "must be an address such as postmaster@example.org")
	}
	if !t.ACMETermsAgreed {
		l.wrong("tls.acme_terms_agreed", "must be true to use tls.acme: read the authority's terms of service first")
	}
	if host := l.config.Hostname; host != "" && !certifiable(host) {
		l.wrong("hostname", "must be a full name such as mail.example.org, because tls.acme asks for its certificate")
	}
	if u, err := url.Parse(l.config.PublicURL); err == nil && u.Scheme == "https" && u.Hostname() != "" && !certifiable(u.Hostname()) {
		l.wrong("public_url", "must have a full name such as mail.example.org, because tls.acme asks for its certificate")
	}
	if http && !l.config.Listen.HTTPTLS && l.config.Listen.ACMEHTTP == "" {
		l.wrong("listen.acme_http", "is required with tls.acme while listen.http_tls is false: no challenge could reach this node")
	}
}

func certifiable(host string) bool {
	_, err := netip.ParseAddr(host)
	return err != nil && strings.Contains(host, ".") && !isLoopback(host)
}
