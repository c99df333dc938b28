package discover

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/fetch"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
)

const (
	maxEntries   = 10      // of one search
	maxDirectory = 2 << 20 // octets that a directory may send
	perDirectory = 8       // connections
)

// attributes that hold keys and certificates, with what is in them. With and
// without ";binary" is the same attribute (RFC 4523 section 2.1).
var attributes = map[string]policy.Seal{
	"usercertificate":      policy.SMIME,
	"usersmimecertificate": policy.SMIME, // a PKCS#7 bundle (RFC 2798 section 2.8)
	"pgpkey":               policy.PGP,
	"pgpkeyv2":             policy.PGP,
}

var askedFor = []string{"userCertificate;binary", "userCertificate", "userSMIMECertificate;binary", "userSMIMECertificate", "pgpKey", "pgpKeyV2"}

// directory is one LDAP server with the place below which is searched.
type directory struct {
	host, port string
	start      bool // StartTLS; otherwise TLS from the first octet
	base       string

	turns *fetch.Turns
	dial  func(ctx context.Context, network, addr string) (net.Conn, error)
	roots *x509.CertPool
	now   func() time.Time
}

// parseDirectory reads ldaps://host:port/base and ldap://host:port/base (RFC
// 4516). What such a URL could say more is not for here.
func parseDirectory(text string) (directory, error) {
	bad := fault.New(fault.Invalid, "bad_directory",
		"A directory is written ldaps://host/base, or ldap://host/base for one with StartTLS, without a name, a password or a query.")
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "ldap" && u.Scheme != "ldaps" {
		return directory{}, bad
	}
	d := directory{host: u.Hostname(), port: u.Port(), start: u.Scheme == "ldap", base: strings.TrimPrefix(u.Path, "/"), turns: fetch.NewTurns(perDirectory, perDirectory)}
	if _, err := ldap.ParseDN(d.base); err != nil {
		return directory{}, bad
	}
	if d.port == "" {
		d.port = map[bool]string{true: "389", false: "636"}[d.start]
	}
	return d, nil
}

// askDirectories asks all directories.
func (s *Sources) askDirectories(ctx context.Context, a mail.Address) Answer {
	answers := make([]Answer, len(s.directories))
	var all sync.WaitGroup
	for i, d := range s.directories {
		all.Go(func() {
			answers[i] = s.guarded(LDAP, a.Domain(), func() Answer { return s.askDirectory(ctx, d, a) })
		})
	}
	all.Wait()
	return combine(answers)
}

func (s *Sources) askDirectory(ctx context.Context, d directory, a mail.Address) Answer {
	key := LDAP + " " + net.JoinHostPort(d.host, d.port) + " " + d.base
	return s.about(ctx, key, func(fact) Answer {
		wait, cancel := s.waiting(ctx)
		defer cancel()
		done, ok := d.turns.Take(wait, d.host)
		if !ok {
			return Answer{Word: Busy}
		}
		defer done()
		work, cancel := context.WithTimeout(ctx, s.limit)
		defer cancel()
		entries, whole, err := d.search(work, a)
		if word := ldapWord(work, err); word != "" {
			if word == fetch.TooLarge || word == Failed {
				return Answer{Word: word}
			}
			return s.fails(ctx, key, word)
		}
		s.answered(key)
		out := s.denied(believeAbsent)
		for _, e := range entries {
			out.Findings = append(out.Findings, findingsOf(e)...)
		}
		out.Absent = len(out.Findings) == 0
		out.Certain = out.Absent && whole
		return out
	})
}

func findingsOf(e *ldap.Entry) (out []Finding) {
	for _, attr := range e.Attributes {
		name, _, _ := strings.Cut(strings.ToLower(attr.Name), ";")
		kind, known := attributes[name]
		if !known {
			continue
		}
		for _, value := range attr.ByteValues {
			if len(value) > maxKey || len(value) == 0 || len(out) == maxFindings || kind == policy.PGP && !looksLikeKey(value) {
				continue
			}
			out = append(out, Finding{Kind: kind, Data: value, Proof: policy.Discovered})
		}
	}
	return out
}

// search puts one question over a connection of its own, which is TLS before
// anything of it is said. The result is not whole where the directory has more
// than it gives, names another one, or lacks the place to search.
func (d directory) search(ctx context.Context, a mail.Address) (entries []*ldap.Entry, whole bool, err error) {
	conn, err := d.connect(ctx)
	if err != nil {
		return nil, false, err
	}
	defer conn.Close() // it was only asked
	limit := 1
	if until, ok := ctx.Deadline(); ok {
		limit = max(1, int(time.Until(until).Seconds()))
	}
	found, err := conn.Search(ldap.NewSearchRequest(d.base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases,
		maxEntries, limit, false, "(mail="+ldap.EscapeFilter(a.Reveal())+")", askedFor, nil))
	if ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject) {
		return nil, false, nil
	}
	if found != nil && ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) {
		return found.Entries, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	return found.Entries, len(found.Referrals) == 0, nil
}

// connect gives a connection that ends with ctx and gives no more than so many
// octets.
func (d directory) connect(ctx context.Context) (*ldap.Conn, error) {
	raw, err := d.dial(ctx, "tcp", net.JoinHostPort(d.host, d.port))
	if err != nil {
		return nil, err
	}
	if until, ok := ctx.Deadline(); ok {
		_ = raw.SetDeadline(until) // a connection that takes none fails at once
	}
	bounded := &boundedConn{Conn: raw, left: maxDirectory}
	conf := &tls.Config{ServerName: d.host, RootCAs: d.roots, MinVersion: tls.VersionTLS12, Time: d.now}
	if d.start {
		conn := ldap.NewConn(bounded, false)
		conn.Start()
		if err := conn.StartTLS(conf); err != nil {
			conn.Close()
			return nil, err
		}
		return conn, nil
	}
	secure := tls.Client(bounded, conf)
	if err := secure.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	conn := ldap.NewConn(secure, true)
	conn.Start()
	return conn, nil
}

var errTooMuch = errors.New("the directory sends too much")

// boundedConn reads a bounded number of octets. Its reader is one goroutine.
type boundedConn struct {
	net.Conn
	left int
}

func (c *boundedConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errTooMuch
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// ldapWord tells why a directory could not be asked; empty for no error.
func ldapWord(ctx context.Context, err error) string {
	var cert *tls.CertificateVerificationError
	var n net.Error
	var l *ldap.Error
	switch {
	case err == nil:
		return ""
	// The library keeps only the text of what its connection says.
	case errors.As(err, &cert), strings.Contains(err.Error(), "tls: failed to verify certificate"):
		return fetch.Certificate
	case errors.Is(err, errTooMuch), strings.Contains(err.Error(), errTooMuch.Error()):
		return fetch.TooLarge
	case ctx.Err() != nil, errors.As(err, &n) && n.Timeout(), strings.Contains(err.Error(), "i/o timeout"):
		return fetch.Timeout
	case errors.As(err, &l) && l.ResultCode != ldap.ErrorNetwork && !errors.Is(err, io.EOF):
		return Failed
	}
	return fetch.Connect
}
