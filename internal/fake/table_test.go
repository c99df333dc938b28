package fake

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/smtp"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// sender is a small mail server that follows the rules of the default policy.
// It shares no code with the product and shows that the table is true of the
// servers.
type sender struct {
	n       *Internet
	t       *testing.T
	timeout time.Duration
	sts     stsSeen
}

type stsSeen struct {
	enforce bool
	mx      []string
}

var errNoTLS = errors.New("no usable TLS")

func TestTableIsTrue(t *testing.T) {
	n := start(t, Options{SlowBy: 20 * time.Millisecond})
	// The group ends before Close, which would otherwise free those that hang.
	t.Run("entries", func(t *testing.T) {
		for _, e := range Table() {
			t.Run(e.Address, func(t *testing.T) {
				t.Parallel()
				s := &sender{n: n, t: t, timeout: 20 * time.Second}
				if e.Late {
					s.timeout = 300 * time.Millisecond
				}
				want := outcome{e.EndState, e.Seal, e.Grade, e.Reason, e.Late}
				got := s.deliver(e)
				got.late = e.Late
				if got != want {
					t.Errorf("%s: %+v, the table says %+v", e.Posture, got, want)
				}
				s.mailboxAgrees(e)
			})
		}
	})
}

func (s *sender) mailboxAgrees(e Entry) {
	got, want := len(s.n.Messages(e.Address)), 0
	if e.EndState == Delivered || e.EndState == Waiting {
		want = 1
	}
	if e.Domain == "drops.example" {
		want = 2
	}
	if got != want {
		s.t.Errorf("%d messages in the mailbox, want %d", got, want)
	}
	for _, line := range s.n.Transcript(e.Domain) {
		if !strings.HasPrefix(line, "EHLO ") && line != "STARTTLS" {
			s.t.Errorf("%q crossed in clear", line)
		}
	}
}

func (s *sender) ask(name string, qtype uint16) (*dns.Msg, error) {
	c := &dns.Client{Timeout: s.timeout}
	resp, _, err := c.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype), s.n.ResolverAddr)
	return resp, err
}

func (s *sender) deliver(e Entry) outcome {
	resp, err := s.ask(e.Domain, dns.TypeMX)
	if err != nil || resp.Rcode == dns.RcodeServerFailure {
		return deferred(DNSFailure)
	}
	if resp.Rcode == dns.RcodeNameError {
		return failed(TLS, NoSuchDomain)
	}
	var mxs []*dns.MX
	for _, rr := range resp.Answer {
		if mx, ok := rr.(*dns.MX); ok {
			mxs = append(mxs, mx)
		}
	}
	if len(mxs) == 0 {
		mxs = []*dns.MX{{Mx: dns.Fqdn(e.Domain)}}
	}
	if mxs[0].Mx == "." {
		return failed(TLS, NoMail)
	}
	slices.SortFunc(mxs, func(a, b *dns.MX) int { return int(a.Preference) - int(b.Preference) })
	s.sts = s.fetchSTS(e.Domain)
	for _, seal := range []string{TLS, Portal} {
		out, again := outcome{}, true
		for try := 0; again && try < 3; try++ {
			out, again = s.attempt(e.Address, seal, mxs)
		}
		if out.state != "" {
			return out
		}
	}
	return noChannel()
}

// attempt tries the hosts in order. An empty state says that the transport is
// too weak for the seal.
func (s *sender) attempt(to, seal string, mxs []*dns.MX) (out outcome, again bool) {
	for _, mx := range mxs {
		host := strings.TrimSuffix(mx.Mx, ".")
		grade, err := s.send(to, seal, host)
		var reply *textproto.Error
		var op *net.OpError
		switch {
		case err == nil:
			return outcome{state: Delivered, seal: seal, grade: grade}.asNotice(), false
		case errors.Is(err, os.ErrDeadlineExceeded):
			return deferred(PeerTimeout), false
		case errors.As(err, &reply):
			return fromReply(seal, reply), reply.Code < 500
		case errors.Is(err, errNoTLS):
			out, again = outcome{}, false
		case errors.As(err, &op) && op.Op == "dial", errors.Is(err, errNoHost):
			out, again = deferred("unreachable"), true
		default:
			out, again = deferred(err.Error()), true
		}
	}
	return out, again
}

func (o outcome) asNotice() outcome {
	if o.seal == Portal {
		o.state = Waiting
	}
	return o
}

func fromReply(seal string, r *textproto.Error) outcome {
	reason := r.Msg
	switch status, _, _ := strings.Cut(r.Msg, " "); {
	case r.Code == 454:
		return deferred(TLSUnavailable)
	case status == "5.1.1":
		reason = UserUnknown
	case strings.HasSuffix(status, ".2.2"):
		reason = MailboxFull
	case status == "5.6.7":
		reason = NeedsSMTPUTF8
	}
	if r.Code < 500 {
		return deferred(reason)
	}
	return failed(seal, reason)
}

var errNoHost = errors.New("host has no address")

func (s *sender) send(to, seal, host string) (grade string, err error) {
	if s.sts.enforce && !slices.ContainsFunc(s.sts.mx, func(p string) bool { return matches(p, host) }) {
		return "", errNoTLS
	}
	resp, err := s.ask(host, dns.TypeA)
	if err != nil {
		return "", err
	}
	if len(resp.Answer) == 0 {
		return "", errNoHost
	}
	ip := resp.Answer[0].(*dns.A).A.String()
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(ip, port(s.n.SMTPPort)), s.timeout)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(s.timeout))
	c, err := smtp.NewClient(conn, host)
	if err != nil {
		return "", err
	}
	if err := c.Hello("mail.clinic.test"); err != nil {
		return "", err
	}
	if ok, _ := c.Extension("STARTTLS"); !ok {
		return "", errNoTLS
	}
	conf := &tls.Config{ServerName: host, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	conf.VerifyConnection = func(state tls.ConnectionState) error {
		grade = s.grade(host, state)
		if grade == Encrypted && (seal == TLS || s.sts.enforce) {
			return errNoTLS
		}
		return nil
	}
	if err := c.StartTLS(conf); err != nil {
		var reply *textproto.Error
		if errors.As(err, &reply) || errors.Is(err, os.ErrDeadlineExceeded) {
			return "", err
		}
		return "", fmt.Errorf("%w: %v", errNoTLS, err)
	}
	return grade, send(c, to, "Subject: x\r\n\r\nplain\r\n")
}

func (s *sender) grade(host string, state tls.ConnectionState) string {
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: host, Roots: s.n.CAPool()})
	gcm := strings.Contains(tls.CipherSuiteName(state.CipherSuite), "_GCM_")
	switch {
	case err != nil || !gcm:
		return Encrypted
	case s.sts.enforce:
		return Authenticated
	}
	return Verified
}

func matches(pattern, host string) bool {
	if rest, ok := strings.CutPrefix(pattern, "*"); ok {
		_, parent, _ := strings.Cut(host, ".")
		return "."+parent == rest
	}
	return pattern == host
}

func (s *sender) fetchSTS(domain string) (seen stsSeen) {
	record, err := s.ask("_mta-sts."+domain, dns.TypeTXT)
	if err != nil || len(record.Answer) == 0 {
		return seen
	}
	text, err := s.fetchPolicy(domain)
	if err != nil {
		return seen
	}
	for line := range strings.SplitSeq(text, "\r\n") {
		switch key, value, _ := strings.Cut(line, ": "); key {
		case "mode":
			seen.enforce = value == "enforce"
		case "mx":
			seen.mx = append(seen.mx, value)
		}
	}
	return seen
}

func (s *sender) fetchPolicy(domain string) (string, error) {
	host := "mta-sts." + domain
	timeout := s.timeout
	if domain == "sts-hangs.example" {
		timeout = 300 * time.Millisecond
	}
	resp, err := s.ask(host, dns.TypeA)
	if err != nil || len(resp.Answer) == 0 {
		return "", errNoHost
	}
	addr := netip.MustParseAddr(resp.Answer[0].(*dns.A).A.String())
	client := &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{RootCAs: s.n.CAPool(), ServerName: host},
		},
	}
	req, err := http.NewRequest("GET", "https://"+netip.AddrPortFrom(addr, uint16(s.n.HTTPSPort)).String()+"/.well-known/mta-sts.txt", nil)
	if err != nil {
		return "", err
	}
	req.Host = host
	answer, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10+1))
	if err != nil {
		return "", err
	}
	if answer.StatusCode != http.StatusOK || len(text) > 64<<10 {
		return "", fmt.Errorf("status %d with %d bytes", answer.StatusCode, len(text))
	}
	return string(text), nil
}

func TestTableIsWellFormed(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range Table() {
		if seen[e.Address] {
			t.Errorf("%s stands twice", e.Address)
		}
		seen[e.Address] = true
		if !strings.HasSuffix(e.Domain, ".test") && !strings.HasSuffix(e.Domain, ".example") {
			t.Errorf("%s is under a name that may be real", e.Domain)
		}
		settled := e.EndState == Delivered || e.EndState == Waiting
		if settled != (e.Grade != "") || settled != (e.Reason == "") || e.Posture == "" || e.Seal == "" {
			t.Errorf("odd entry %+v", e)
		}
	}
	if e, ok := Find("edith@expired.example"); !ok || e.Posture != "certificate expired in 2020" {
		t.Errorf("Find: %+v, %v", e, ok)
	}
}
