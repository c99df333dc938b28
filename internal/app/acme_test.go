package app

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/account/accounttest"
	"github.com/sealpost/sealpost/internal/acme/acmetest"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/doctor"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/zone"
)

// TestCertificatesByACME: a node gets its own certificate, and that of a domain
// whose policy it is told to serve while it runs. OpenSSL believes it on every
// port, and others can read the policy.
func TestCertificatesByACME(t *testing.T) {
	ctx := t.Context()
	n, err := fake.Start(context.Background(), fake.Options{})
	must(t, err)
	t.Cleanup(n.Close)
	cfg := acmeConfig(t)
	ca := acmetest.Pebble(t, n, acmetest.Options{TLSPort: acmetest.Port(t, cfg.Listen.HTTP), HTTPPort: acmetest.Port(t, cfg.Listen.ACMEHTTP)})
	roots := filepath.Join(cfg.DataDir, "roots.pem")
	must(t, os.WriteFile(roots, append(n.CAPEM(), ca.Root...), 0o600))
	own := filepath.Join(cfg.DataDir, "ca.pem")
	must(t, os.WriteFile(own, n.CAPEM(), 0o600))
	cfg.TLS = config.TLS{ACME: ca.Directory, ACMEEmail: "ops@clinic.test", ACMETermsAgreed: true, ACMECAFile: own}
	cfg.Network = config.Network{Resolver: n.ResolverAddr, SMTPPort: n.SMTPPort, HTTPSPort: acmetest.Port(t, cfg.Listen.HTTP), CAFile: roots}
	must(t, cfg.Complete())
	n.SetA("mail.clinic.test", netip.MustParseAddr("127.0.0.1"))

	c, err := Open(ctx, cfg, Options{})
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	ticks := clock.NewFake(time.Now())
	c.ACME.Clock = ticks
	org, err := c.Accounts.CreateOrg(ctx, "clinic", "Clinic")
	must(t, err)
	accounttest.Domain(t, c.Accounts, org.ID, "clinic.test")
	s := NewServer(c)
	must(t, s.Start(ctx))
	t.Cleanup(func() { s.Stop(context.Background()) })

	waitFor(t, ticks, "the node's own certificate", func() bool { return shown(t, ca, s.Addrs.HTTP, "mail.clinic.test") })
	for _, door := range [][]string{{s.Addrs.HTTP}, {s.Addrs.Submissions}, {s.Addrs.Submission, "-starttls", "smtp"}, {s.Addrs.Relay, "-starttls", "smtp"}} {
		openssl(t, roots, door)
	}
	resp, err := http.Get("http://" + s.Addrs.ACMEHTTP + "/")
	must(t, err)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("the door for challenges answers strangers: %s", resp.Status)
	}

	policy, err := c.Zone.SetPolicy(ctx, org.ID, zone.Policy{Domain: "clinic.test", Mode: zone.Enforce, MaxAge: 24 * time.Hour})
	must(t, err)
	n.SetA("mta-sts.clinic.test", netip.MustParseAddr("127.0.0.1"))
	n.SetMX("clinic.test", fake.MX{Preference: 10, Host: "mail.clinic.test"})
	n.SetTXT(policy.Record().Name, policy.Record().Value)
	waitFor(t, ticks, "the certificate of the policy's host", func() bool { return shown(t, ca, s.Addrs.HTTP, "mta-sts.clinic.test") })
	found, err := c.Posture.Refresh(ctx, "clinic.test")
	if err != nil || found.STS.Mode != "enforce" {
		t.Errorf("others read the policy as %+v, %v", found.STS, err)
	}

	if certs, err := c.shownCertificates(); err != nil || len(certs) != 1 || certs[0].VerifyHostname("mail.clinic.test") != nil {
		t.Errorf("what TLSA records are compared with: %v, %v", certs, err)
	}
	metrics, err := http.Get("http://" + s.Addrs.Metrics + "/metrics")
	must(t, err)
	defer metrics.Body.Close()
	var text bytes.Buffer
	_, _ = text.ReadFrom(metrics.Body)
	if got := text.String(); !strings.Contains(got, "\nsealpost_certificates_missing 0\n") || !strings.Contains(got, "\nsealpost_certificate_days_left ") {
		t.Error("the metrics do not tell of certificates")
	}
	for _, f := range examined(t, cfg) {
		if f.Check == "certificate" && f.State != doctor.Good {
			t.Errorf("the doctor: %+v", f)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func acmeConfig(t *testing.T) *config.Config {
	cfg := config.Default()
	cfg.DataDir = t.TempDir()
	cfg.Hostname = "mail.clinic.test"
	cfg.Listen = config.Listen{HTTP: acmetest.FreeAddr(t), HTTPTLS: true, Submission: acmetest.FreeAddr(t), Submissions: acmetest.FreeAddr(t),
		Relay: acmetest.FreeAddr(t), Metrics: acmetest.FreeAddr(t), ACMEHTTP: acmetest.FreeAddr(t)}
	_, port, _ := net.SplitHostPort(cfg.Listen.HTTP)
	cfg.PublicURL = "https://mail.clinic.test:" + port
	cfg.Keys.MasterFile = filepath.Join(cfg.DataDir, "master.key")
	if _, err := custody.InitMaster(cfg.Keys.MasterFile); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func waitFor(t *testing.T, ticks *clock.Fake, what string, there func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !there() {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come", what)
		}
		ticks.Advance(time.Minute)
		time.Sleep(20 * time.Millisecond)
	}
}

// shown reports whether a listener shows a certificate that is good for a name.
func shown(t *testing.T, ca *acmetest.Authority, addr, name string) bool {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{ServerName: name, RootCAs: ca.Pool()})
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

func openssl(t *testing.T, roots string, door []string) {
	t.Helper()
	cmd := exec.Command("openssl", append([]string{"s_client", "-CAfile", roots, "-verify_return_error", "-verify_hostname", "mail.clinic.test",
		"-servername", "mail.clinic.test", "-brief", "-connect"}, door...)...)
	cmd.Stdin = strings.NewReader("QUIT\r\n")
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("Verification: OK")) {
		t.Errorf("openssl at %v: %v\n%s", door, err, out)
	}
}

func examined(t *testing.T, cfg *config.Config) []doctor.Finding {
	t.Helper()
	found, err := Examine(t.Context(), cfg, "")
	must(t, err)
	return found
}

// TestCertificatesInFIPSMode: the same where everything that FIPS 140-3 does not
// approve ends in an error.
func TestCertificatesInFIPSMode(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestCertificatesByACME$", "-test.v")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=only")
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestCertificatesByACME")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestANodeWithoutItsAuthority starts and serves what needs no certificate.
func TestANodeWithoutItsAuthority(t *testing.T) {
	cfg := acmeConfig(t)
	cfg.TLS = config.TLS{ACME: "https://" + acmetest.FreeAddr(t) + "/dir", ACMETermsAgreed: true}
	must(t, cfg.Complete())
	c, err := Open(t.Context(), cfg, Options{Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	defer c.Close()
	s := NewServer(c)
	must(t, s.Start(t.Context()))
	resp, err := http.Get("http://" + s.Addrs.Metrics + "/readyz")
	must(t, err)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("%s", resp.Status)
	}
	if _, err := tls.Dial("tcp", s.Addrs.HTTP, &tls.Config{InsecureSkipVerify: true}); err == nil {
		t.Error("a certificate of nobody is shown")
	}
	found := false
	for _, f := range examined(t, cfg) {
		found = found || f.Check == "certificate" && f.State == doctor.Wrong && strings.Contains(f.Text, "mail.clinic.test")
	}
	if !found {
		t.Error("the doctor does not say that there is none")
	}
	began := time.Now()
	s.Stop(context.Background())
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s to stop", took)
	}
}
