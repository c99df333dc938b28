package fake

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/smtp"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, o Options) *Internet {
	t.Helper()
	n, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// dial opens a session as net/smtp sees it, with a deadline so that no test
// hangs.
func dial(t *testing.T, n *Internet, host string) *smtp.Client {
	t.Helper()
	conn, err := n.Dial(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	c, err := smtp.NewClient(conn, host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func dialTLS(t *testing.T, n *Internet, host string) *smtp.Client {
	t.Helper()
	c := dial(t, n, host)
	if err := c.StartTLS(&tls.Config{RootCAs: n.CAPool(), ServerName: host}); err != nil {
		t.Fatal(err)
	}
	return c
}

func send(c *smtp.Client, to, body string) error {
	if err := c.Mail("dr.ada@clinic.test"); err != nil {
		return err
	}
	if err := c.Rcpt(to); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write([]byte(body)); err != nil {
		return err
	}
	return w.Close()
}

func TestGoodHostTakesMail(t *testing.T) {
	n := start(t, Options{Dir: t.TempDir()})
	c := dialTLS(t, n, "mx.modern.example")
	const body = "Subject: hello\r\n\r\n.dot at the start\r\nend\r\n"
	for range 2 {
		if err := send(c, "anna@modern.example", body); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	got, err := n.Wait(ctx, "Anna@modern.example", 2)
	if err != nil {
		t.Fatal(err)
	}
	m := got[0]
	if string(m.Raw) != body || m.From != "dr.ada@clinic.test" || !strings.HasPrefix(m.TLS, "TLS 1.3 TLS_") {
		t.Fatalf("stored %q from %q over %q", m.Raw, m.From, m.TLS)
	}
	if s := n.Stats("mx.modern.example"); s != (Stats{Connections: 1, Handshakes: 1, Messages: 2, Open: s.Open}) {
		t.Fatalf("stats %+v", s)
	}
	for _, line := range n.Transcript("modern.example") {
		if !strings.HasPrefix(line, "EHLO ") && line != "STARTTLS" {
			t.Errorf("transcript has %q", line)
		}
	}
	pem, err := os.ReadFile(n.CAFile)
	if err != nil || !x509.NewCertPool().AppendCertsFromPEM(pem) {
		t.Fatalf("CA file: %v", err)
	}
}

func ask(t *testing.T, n *Internet, network, name string, qtype uint16) *dns.Msg {
	t.Helper()
	c := &dns.Client{Net: network, Timeout: 5 * time.Second}
	resp, _, err := c.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype), n.ResolverAddr)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestDNS(t *testing.T) {
	n := start(t, Options{})
	for _, network := range []string{"udp", "tcp"} {
		mx := ask(t, n, network, "Modern.example", dns.TypeMX)
		if len(mx.Answer) != 1 || mx.Answer[0].(*dns.MX).Mx != "mx.modern.example." {
			t.Fatalf("%s: MX %v", network, mx.Answer)
		}
	}
	n.SetTXT("_sealpost."+SenderDomain, "proof", strings.Repeat("x", 2000))
	long := ask(t, n, "udp", "_sealpost.clinic.test", dns.TypeTXT)
	if !long.Truncated {
		t.Error("a long answer over UDP is not truncated")
	}
	long = ask(t, n, "tcp", "_sealpost.clinic.test", dns.TypeTXT)
	if len(long.Answer) != 2 || strings.Join(long.Answer[1].(*dns.TXT).Txt, "") != strings.Repeat("x", 2000) {
		t.Errorf("TXT over TCP: %v", long.Answer)
	}
	n.SetTXT("_sealpost." + SenderDomain)
	for name, rcode := range map[string]int{
		"_sealpost.clinic.test":   dns.RcodeNameError,
		"nxdomain.example":        dns.RcodeNameError,
		"servfail.example":        dns.RcodeServerFailure,
		"no-mx.example":           dns.RcodeSuccess,
		"example":                 dns.RcodeSuccess, // names below it exist
		"elsewhere.invalid":       dns.RcodeNameError,
		"mx2.many-mx.example":     dns.RcodeNameError,
		"_mta-sts.modern.example": dns.RcodeNameError,
	} {
		resp := ask(t, n, "udp", name, dns.TypeTXT)
		if resp.Rcode != rcode || len(resp.Answer) != 0 {
			t.Errorf("%s: %s with %v", name, dns.RcodeToString[resp.Rcode], resp.Answer)
		}
		if rcode != dns.RcodeServerFailure && len(resp.Ns) != 1 {
			t.Errorf("%s: no SOA in a negative answer", name)
		}
	}
	null := ask(t, n, "udp", "null-mx.example", dns.TypeMX)
	if mx := null.Answer[0].(*dns.MX); mx.Mx != "." || mx.Preference != 0 {
		t.Errorf("null MX: %v", mx)
	}
	alias := ask(t, n, "udp", "alias.example", dns.TypeMX)
	if len(alias.Answer) != 2 || alias.Answer[0].Header().Rrtype != dns.TypeCNAME {
		t.Errorf("alias: %v", alias.Answer)
	}
	c := &dns.Client{Timeout: 200 * time.Millisecond}
	if _, _, err := c.Exchange(new(dns.Msg).SetQuestion("dns-timeout.example.", dns.TypeMX), n.ResolverAddr); err == nil {
		t.Error("dns-timeout.example answers")
	}
	if n.Queries("alias.example") != 1 {
		t.Errorf("counted %d queries", n.Queries("alias.example"))
	}
}
