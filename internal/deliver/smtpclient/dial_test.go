package smtpclient

import (
	"context"
	"crypto/fips140"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/seal"
)

// internet is shared by the tests of this package: it takes a while to start.
var internet *fake.Internet

func TestMain(m *testing.M) {
	var err error
	if internet, err = fake.Start(context.Background(), fake.Options{SlowBy: 20 * time.Millisecond}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	internet.Close()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func deps() Deps {
	short := 300 * time.Millisecond
	return Deps{
		RootCAs: internet.CAPool(), Name: "relay.test", Clock: clock.System{},
		Timeouts: Timeouts{
			Connect: short, Banner: short, EHLO: short, StartTLS: short, TLS: short, Mail: short,
			Rcpt: short, Data: short, Block: short, Dot: short, Quit: short,
		},
	}
}

func target(t testing.TB, host, domain string) Target {
	t.Helper()
	ap, err := netip.ParseAddrPort(internet.HostAddr(host))
	if err != nil {
		t.Fatalf("%s: %v", host, err)
	}
	return Target{Host: host, Addrs: []netip.Addr{ap.Addr()}, Port: int(ap.Port()), Domain: domain}
}

// verdict is an outcome in words that a test can compare.
func verdict(err error) string {
	var (
		weak    *WeakError
		refused *RefusedError
		conn    *ConnError
		unknown *UnknownError
		source  *SourceError
	)
	lasting := map[bool]string{true: "temporary", false: "lasting"}
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &weak):
		return fmt.Sprintf("weak %s %s %s", weak.Proved, weak.Reason, lasting[weak.Temporary])
	case errors.As(err, &refused):
		where := ""
		if refused.Local {
			where = "locally "
		}
		return fmt.Sprintf("refused %sat %s %s %s", where, refused.Stage, refused.Reply.Status(), lasting[refused.Reply.Temporary()])
	case errors.As(err, &conn):
		return fmt.Sprintf("failed at %s %s", conn.Stage, conn.Word)
	case errors.As(err, &unknown):
		return "unknown " + unknown.Word
	case errors.As(err, &source):
		return "source"
	}
	return "other: " + err.Error()
}

func addr(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestGradesOfEveryPosture(t *testing.T) {
	weakSuite := "weak encrypted suite lasting"
	if fips140.Enabled() {
		weakSuite = "weak none tls_parameters lasting"
	}
	for _, tc := range []struct {
		domain string
		floor  policy.Grade
		want   string
		grade  policy.Grade
		cert   string
	}{
		{"modern.example", policy.Verified, "ok", policy.Verified, ""},
		{"tls12.example", policy.Verified, "ok", policy.Verified, ""},
		{"modern.example", policy.Authenticated, "weak verified mx_not_proved lasting", policy.Verified, ""},
		{"tls12-cbc.example", policy.Verified, weakSuite, policy.Encrypted, ""},
		{"tls12-chacha.example", policy.Verified, weakSuite, policy.Encrypted, ""},
		{"expired.example", policy.Verified, "weak encrypted certificate lasting", policy.Encrypted, CertExpired},
		{"expired.example", policy.Encrypted, "ok", policy.Encrypted, CertExpired},
		{"wrong-name.example", policy.Verified, "weak encrypted certificate lasting", policy.Encrypted, CertWrongName},
		{"self-signed.example", policy.Verified, "weak encrypted certificate lasting", policy.Encrypted, CertUnknownAuthority},
		{"tls10.example", policy.Encrypted, "weak none tls_version lasting", policy.None, ""},
		{"no-starttls.example", policy.None, "weak none starttls_not_offered lasting", policy.None, ""},
		{"starttls-454.example", policy.Encrypted, "weak none starttls_refused temporary", policy.None, ""},
		{"starttls-garbage.example", policy.Encrypted, "weak none not_tls lasting", policy.None, ""},
		{"hang-banner.example", policy.Encrypted, "failed at banner timeout", policy.None, ""},
		{"hang-ehlo.example", policy.Encrypted, "failed at ehlo timeout", policy.None, ""},
		{"hang-starttls.example", policy.Encrypted, "failed at starttls timeout", policy.None, ""},
		{"hang-tls.example", policy.Encrypted, "weak none handshake_failed temporary", policy.None, ""},
	} {
		t.Run(tc.domain+"/"+tc.floor.String(), func(t *testing.T) {
			host := "mx." + tc.domain
			c, ev, err := Dial(t.Context(), deps(), target(t, host, tc.domain), tc.floor)
			if got := verdict(err); got != tc.want {
				t.Fatalf("got %q, want %q", got, tc.want)
			}
			if weakSuite == tc.want && fips140.Enabled() {
				return
			}
			if ev.Grade != tc.grade || ev.VerifyError != tc.cert || ev.MX != host || !strings.HasPrefix(ev.Addr, "127.23.") {
				t.Errorf("evidence %+v", ev)
			}
			if tc.grade > policy.None && (ev.TLSVersion == "" || ev.Suite == "" || ev.KeyExchange == "" || len(ev.PeerFingerprint) != 64) {
				t.Errorf("evidence is incomplete: %+v", ev)
			}
			if c != nil {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			}
			onlyGreetings(t, tc.domain)
		})
	}
}

// onlyGreetings fails when anything but EHLO and STARTTLS came in clear.
func onlyGreetings(t *testing.T, domain string) {
	t.Helper()
	for _, line := range internet.Transcript(domain) {
		if line != "EHLO relay.test" && line != "STARTTLS" {
			t.Errorf("in clear: %q", line)
		}
	}
}

func TestChaCha20OfTLS13IsNotVerified(t *testing.T) {
	cs := tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_CHACHA20_POLY1305_SHA256}
	if approvedSuite(cs) {
		t.Error("ChaCha20 passes")
	}
	for _, suite := range []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256} {
		if approvedSuite(tls.ConnectionState{Version: tls.VersionTLS12, CipherSuite: suite}) {
			t.Errorf("%s passes", tls.CipherSuiteName(suite))
		}
	}
}

func TestMTASTS(t *testing.T) {
	enforced := STS{Enforce: true, Match: true, ID: "20260101"}
	for _, tc := range []struct {
		domain string
		sts    STS
		floor  policy.Grade
		want   string
		by     string
	}{
		{"sts-enforce.example", enforced, policy.Authenticated, "ok", BySTS},
		{"sts-enforce.example", STS{Match: true, ID: "20260101"}, policy.Authenticated, "weak verified mx_not_proved lasting", ByPKIX},
		{"sts-wrong-cert.example", enforced, policy.Encrypted, "weak encrypted sts_certificate lasting", ByNone},
		{"sts-unlisted-mx.example", STS{Enforce: true, ID: "20260101"}, policy.Encrypted, "weak none sts_mx_mismatch lasting", ""},
	} {
		t.Run(tc.domain, func(t *testing.T) {
			tg := target(t, "mx."+tc.domain, tc.domain)
			tg.STS = tc.sts
			c, ev, err := Dial(t.Context(), deps(), tg, tc.floor)
			if got := verdict(err); got != tc.want || ev.VerifiedBy != tc.by {
				t.Fatalf("got %q verified by %q, want %q by %q", got, ev.VerifiedBy, tc.want, tc.by)
			}
			if c == nil {
				return
			}
			defer c.Close()
			if ev.STSPolicyID != "20260101" || c.Grade() != policy.Authenticated {
				t.Errorf("evidence %+v", ev)
			}
		})
	}
	if n := internet.Stats("mx.sts-unlisted-mx.example").Connections; n != 0 {
		t.Errorf("a host outside the policy was connected to %d times", n)
	}
}

func TestCertificateIsCheckedAgainstTheClock(t *testing.T) {
	d := deps()
	d.Clock = clock.NewFake(time.Date(2019, 1, 1, 0, 0, 0, 0, time.UTC))
	_, ev, err := Dial(t.Context(), d, target(t, "mx.modern.example", "modern.example"), policy.Verified)
	if verdict(err) != "weak encrypted certificate lasting" || ev.VerifyError != CertNotYetValid {
		t.Errorf("%v, %+v", err, ev)
	}
}

func TestSharedHostIsGradedPerDomain(t *testing.T) {
	tg := target(t, "mx.hoster.example", "shared-a.example")
	c, _, err := Dial(t.Context(), deps(), tg, policy.Verified)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	forC := artifact(t, "lucia@shared-c.example", policy.Verified, "Subject: c\r\n\r\nhello\r\n")
	if _, err := c.Send(t.Context(), forC, time.Hour); err == nil {
		t.Fatal("a connection for shared-a took mail for shared-c")
	}
	tg.Domain, tg.STS = "shared-c.example", STS{Enforce: true, Match: true, ID: "1"}
	ev, err := c.Rebind(tg, policy.Authenticated)
	if err != nil || ev.Grade != policy.Authenticated || ev.STSPolicyID != "1" {
		t.Fatalf("%v, %+v", err, ev)
	}
	if _, err := c.Send(t.Context(), forC, time.Hour); err != nil {
		t.Fatal(err)
	}
	tg.STS.Match = false
	if _, err := c.Rebind(tg, policy.Encrypted); verdict(err) != "weak verified sts_mx_mismatch lasting" {
		t.Fatal(err)
	}
	if _, err := c.Send(t.Context(), forC, time.Hour); err == nil {
		t.Fatal("mail passed after a refused Rebind")
	}
	tg.Domain, tg.STS = "shared-b.example", STS{}
	if ev, err = c.Rebind(tg, policy.Verified); err != nil || ev.Grade != policy.Verified || ev.STSPolicyID != "" {
		t.Fatalf("%v, %+v", err, ev)
	}
}

func TestNextAddressIsTried(t *testing.T) {
	tg := target(t, "mx.modern.example", "modern.example")
	tg.Addrs = append([]netip.Addr{netip.MustParseAddr("127.23.0.1")}, tg.Addrs...)
	c, ev, err := Dial(t.Context(), deps(), tg, policy.Verified)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if ev.Addr != tg.Addrs[1].String() {
		t.Errorf("connected to %s", ev.Addr)
	}
	tg.Addrs = tg.Addrs[:1]
	if _, _, err := Dial(t.Context(), deps(), tg, policy.Verified); verdict(err) != "failed at connect connection_refused" {
		t.Error(err)
	}
}

func TestCancelEndsDial(t *testing.T) {
	d := deps()
	d.Timeouts = Timeouts{}
	ctx, cancel := context.WithCancel(t.Context())
	d.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		cancel()
		return conn, err
	}
	_, _, err := Dial(ctx, d, target(t, "mx.hang-banner.example", "hang-banner.example"), policy.Verified)
	if got := verdict(err); got != "failed at banner canceled" && got != "failed at connect canceled" {
		t.Errorf("got %q", got)
	}
}

func TestEvidenceAsJSON(t *testing.T) {
	ev := Evidence{Grade: policy.Authenticated, TLSVersion: "TLS 1.3", Suite: "TLS_AES_128_GCM_SHA256", KeyExchange: "P256",
		PeerFingerprint: "ab", VerifiedBy: BySTS, MX: "mx.a.example", Addr: "192.0.2.1", STSPolicyID: "1"}
	b, err := json.Marshal(ev)
	want := `{"grade":"authenticated","tls_version":"TLS 1.3","suite":"TLS_AES_128_GCM_SHA256","key_exchange":"P256",` +
		`"peer_fingerprint":"ab","verified_by":"mta-sts+pkix","mx":"mx.a.example","addr":"192.0.2.1","sts_policy_id":"1"}`
	if err != nil || string(b) != want {
		t.Errorf("%s, %v", b, err)
	}
}

func artifact(t testing.TB, to string, floor policy.Grade, text string) *seal.Artifact {
	t.Helper()
	return seal.TLS(addr(t, "dr.ada@clinic.test"), addr(t, to), floor, false, body(text))
}
