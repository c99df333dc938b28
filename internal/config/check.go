package config

import (
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

var (
	hostForm = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$`)
	slugForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
)

// fill sets what follows from other keys where it is not given.
func (c *Config) fill() {
	c.PublicURL = strings.TrimSuffix(c.PublicURL, "/")
	if c.Hostname == "" {
		if u, err := url.Parse(c.PublicURL); err == nil {
			c.Hostname = u.Hostname()
		}
	}
	if c.Keys.Dir == "" {
		c.Keys.Dir = filepath.Join(c.DataDir, "keys")
	}
	if c.Keys.MasterFile == "" {
		c.Keys.MasterFile = filepath.Join(c.DataDir, "master.key")
	}
}

// check finds what is wrong between keys, or cannot be said by a tag.
func (l *loader) check() {
	c := l.config
	if !filepath.IsAbs(c.DataDir) {
		l.wrong("data_dir", "must be an absolute path")
	}
	if !filepath.IsAbs(c.Keys.Dir) && filepath.IsAbs(c.DataDir) {
		l.wrong("keys.dir", "must be an absolute path")
	}
	l.checkURL()
	if !hostForm.MatchString(c.Hostname) || len(c.Hostname) > 253 {
		if c.Hostname != "" {
			l.wrong("hostname", "must be a host name such as mail.example.org; it can be given when public_url has none")
		}
	}
	if len(c.Roles) == 0 {
		l.wrong("roles", "must name at least one role")
	}
	if u := c.Database.URL.Reveal(); u != "" && !strings.HasPrefix(u, "postgres://") && !strings.HasPrefix(u, "postgresql://") {
		l.wrong("database.url", "must begin with postgres://, or be left out for SQLite")
	}
	l.checkListeners()
	l.checkSources()
	l.checkInbound()
	l.checkPools()
	l.checkReports()
	l.checkRest()
}

// wrong adds a mistake, unless the key has one already.
func (l *loader) wrong(key, text string) {
	if !l.failed[key] {
		l.mistake(key, text)
	}
}

func (l *loader) checkURL() {
	const key = "public_url"
	if l.config.PublicURL == "" {
		l.wrong(key, "is required, for example https://mail.example.org")
		return
	}
	u, err := url.Parse(l.config.PublicURL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		l.wrong(key, "must be a URL such as https://mail.example.org")
	case u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		l.wrong(key, "must end behind the host and port")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		l.wrong(key, "must begin with https:// except on loopback")
	}
}

func (l *loader) checkListeners() {
	listen, roles := l.config.Listen, l.config
	taken := map[string]string{}
	for _, one := range []struct{ key, address string }{
		{"listen.http", listen.HTTP}, {"listen.submission", listen.Submission}, {"listen.submissions", listen.Submissions},
		{"listen.relay", listen.Relay}, {"listen.metrics", listen.Metrics}, {"listen.acme_http", listen.ACMEHTTP},
	} {
		if one.address == "" {
			continue
		}
		if !isListen(one.address) {
			l.wrong(one.key, "must be host:port or :port, or empty to turn it off")
			continue
		}
		if other := taken[one.address]; other != "" && !strings.HasSuffix(one.address, ":0") {
			l.wrong(one.key, "is the same as "+other)
		}
		taken[one.address] = one.key
	}
	http := listen.HTTP != "" && (roles.HasRole(RoleAPI) || roles.HasRole(RolePortal))
	if http && !listen.HTTPTLS && isListen(listen.HTTP) && !isLoopbackListen(listen.HTTP) {
		l.wrong("listen.http_tls", "can be false only while listen.http is on loopback")
	}
	l.checkCertificate(http)
}

func (l *loader) checkCertificate(http bool) {
	c := l.config
	needs := ""
	smtp := c.HasRole(RoleSMTP)
	switch {
	case http && c.Listen.HTTPTLS:
		needs = "listen.http"
	case smtp && c.Listen.Submission != "":
		needs = "listen.submission"
	case smtp && c.Listen.Submissions != "":
		needs = "listen.submissions"
	case smtp && c.Listen.Relay != "" && !isLoopbackListen(c.Listen.Relay):
		needs = "listen.relay"
	}
	switch {
	case c.TLS.CertFile == "" && c.TLS.KeyFile != "":
		l.wrong("tls.cert_file", "is required beside tls.key_file")
	case c.TLS.CertFile != "" && c.TLS.KeyFile == "":
		l.wrong("tls.key_file", "is required beside tls.cert_file")
	case c.TLS.CertFile == "" && c.TLS.ACME == "" && needs != "":
		l.wrong("tls.cert_file", "is required, with tls.key_file, because "+needs+" speaks TLS")
	}
	l.checkACME(http)
}

// at is wrong for a key of a table in an array, which may be missing: then the
// line is that of the table.
func (l *loader) at(table, key, text string) {
	if _, ok := l.places[table+key]; !ok {
		l.places[table+key] = l.places[table]
	}
	l.wrong(table+key, text)
}

func (l *loader) checkRest() {
	c := l.config
	if c.Limits.APIBody < c.Limits.MessageSize {
		l.wrong("limits.api_body", "must not be smaller than limits.message_size")
	}
	if r := c.Network.Resolver; r != "" {
		if at, err := netip.ParseAddrPort(r); err != nil || at.Port() == 0 {
			l.wrong("network.resolver", "must be an address and a port such as 127.0.0.1:53")
		}
	}
	if c.Delivery.PerDestination > c.Delivery.Concurrency {
		l.wrong("delivery.per_destination", "must not be larger than delivery.concurrency")
	}
	if c.Delivery.RetryMin > c.Delivery.RetryMax {
		l.wrong("delivery.retry_min", "must not be longer than delivery.retry_max")
	}
	if c.Delivery.DelayNoticeAfter >= c.Delivery.ExpireAfter {
		l.wrong("delivery.delay_notice_after", "must be shorter than delivery.expire_after")
	}
}

func isLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true // RFC 6761 section 6.3
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

func isListen(address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != port {
		return false
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host == "" || hostForm.MatchString(host)
}

func isLoopbackListen(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && isLoopback(host)
}
