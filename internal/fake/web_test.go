package fake

import (
	"crypto/fips140"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/internal/clock"
)

func fetch(t *testing.T, method, url, host string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestMailboxesOverHTTP(t *testing.T) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	n := start(t, Options{Clock: clock.NewFake(noon)})
	s := talkTLS(t, n, "mx.tls12.example")
	const raw = "Subject: one\r\n\r\n\xfcber\r\n"
	s.message("bruno@tls12.example", raw)

	resp, body := fetch(t, "GET", n.MailboxesURL+"/messages?to=Bruno@tls12.example", "")
	var got []map[string]string
	if err := json.Unmarshal([]byte(body), &got); err != nil || resp.StatusCode != 200 || len(got) != 1 {
		t.Fatalf("%d %v %s", resp.StatusCode, err, body)
	}
	m := got[0]
	if m["to"] != "bruno@tls12.example" || m["from"] != "" || m["received_at"] != "2026-03-01T12:00:00Z" ||
		!strings.HasPrefix(m["tls"], "TLS 1.2 TLS_ECDHE_ECDSA_WITH_AES_") {
		t.Errorf("message %v", m)
	}
	if exact, err := base64.StdEncoding.DecodeString(m["raw_base64"]); err != nil || string(exact) != raw {
		t.Errorf("raw bytes are lost: %q", m["raw_base64"])
	}
	if _, body := fetch(t, "GET", n.MailboxesURL+"/messages?to=nobody@tls12.example", ""); strings.TrimSpace(body) != "[]" {
		t.Errorf("an empty mailbox is %q", body)
	}
	if resp, _ := fetch(t, "GET", n.MailboxesURL+"/messages", "rebound.example"); resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("a foreign name gets %d", resp.StatusCode)
	}
	if resp, _ := fetch(t, "DELETE", n.MailboxesURL+"/messages", ""); resp.StatusCode != 204 || len(n.Messages("")) != 0 {
		t.Errorf("DELETE gives %d and leaves %d", resp.StatusCode, len(n.Messages("")))
	}
}

const notice = "From: =?utf-8?q?Clinic_=C3=9Cbersee?= <a@clinic.test>\r\nSubject: A message <b>waits</b>\r\n" +
	"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n" +
	"--x\r\nContent-Type: multipart/alternative; boundary=y\r\n\r\n" +
	"--y\r\nContent-Type: text/html\r\n\r\n<script>alert(1)</script>\r\n" +
	"--y\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" +
	"Code 123456, <i>see</i> http://localhost:8080/p/abc=\r\ndef?x=3D1.\r\n" +
	"--y--\r\n--x\r\nContent-Disposition: attachment; filename=a.pdf\r\n\r\nzzz\r\n--x--\r\n"

func TestPages(t *testing.T) {
	n := start(t, Options{})
	if _, body := fetch(t, "GET", n.MailboxesURL+"/", ""); !strings.Contains(body, "Nothing has arrived yet") {
		t.Error("an empty list does not say so")
	}
	s := talkTLS(t, n, "mx.modern.example")
	s.message("anna@modern.example", notice)
	resp, list := fetch(t, "GET", n.MailboxesURL+"/", "")
	if !strings.Contains(list, `<a href="/mail/1">`) || !strings.Contains(list, "A message &lt;b&gt;waits") {
		t.Errorf("list: %s", list)
	}
	if csp := resp.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'") {
		t.Errorf("CSP %q", csp)
	}
	_, page := fetch(t, "GET", n.MailboxesURL+"/mail/1", "")
	for _, want := range []string{
		"Code 123456, &lt;i&gt;see", "Clinic Übersee", "a.pdf", "over TLS 1.3",
		`<a href="http://localhost:8080/p/abcdef?x=1" rel="noreferrer">`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q: %s", want, page)
		}
	}
	if strings.Contains(page, "<script>") {
		t.Error("a mail's markup reaches the page")
	}
	resp, html := fetch(t, "GET", n.MailboxesURL+"/mail/1/html", "")
	if csp := resp.Header.Get("Content-Security-Policy"); html != "<script>alert(1)</script>" || !strings.HasPrefix(csp, "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'") {
		t.Errorf("the HTML %q comes with the CSP %q", html, csp)
	}
	if _, source := fetch(t, "GET", n.MailboxesURL+"/mail/1/source", ""); source != notice {
		t.Errorf("source %q", source)
	}
	for _, path := range []string{"/mail/2", "/mail/2/html"} {
		if resp, _ := fetch(t, "GET", n.MailboxesURL+path, ""); resp.StatusCode != 404 {
			t.Errorf("an unknown mail gives %d", resp.StatusCode)
		}
	}
}

func TestOldestMailIsDropped(t *testing.T) {
	b := newMailboxes(10, false)
	for range 3 {
		b.add(Message{To: "a@b.test", Raw: make([]byte, 4)})
	}
	if got := b.messages(""); len(got) != 2 || got[0].N != 2 || b.total != 3 {
		t.Errorf("%d kept, of %d", len(got), b.total)
	}
}

func TestPolicyChangesAtRuntime(t *testing.T) {
	n := start(t, Options{})
	s := &sender{n: n, t: t, timeout: 10 * time.Second}
	const domain = "modern.example"
	if err := n.SetSTS(domain, "1", STSPolicy("enforce", time.Hour, "mx."+domain)); err != nil {
		t.Fatal(err)
	}
	if got := s.fetchSTS(domain); !got.enforce || len(got.mx) != 1 {
		t.Fatalf("%+v", got)
	}
	if err := n.SetSTS(domain, "2", STSPolicy("testing", time.Hour, "mx."+domain)); err != nil {
		t.Fatal(err)
	}
	resp, err := s.ask("_mta-sts."+domain, dns.TypeTXT)
	if err != nil || resp.Answer[0].(*dns.TXT).Txt[0] != "v=STSv1; id=2;" || s.fetchSTS(domain).enforce {
		t.Errorf("the second policy is not served: %v %v", resp, err)
	}
	if n.STSFetches(domain) != 2 {
		t.Errorf("%d fetches counted", n.STSFetches(domain))
	}
	if err := n.SetSTS(domain, "", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := s.fetchPolicy(domain); err == nil {
		t.Error("a removed policy is still served")
	}
}

func TestFaultyPoliciesFailAsAnnounced(t *testing.T) {
	n := start(t, Options{})
	s := &sender{n: n, t: t, timeout: 10 * time.Second}
	for domain, part := range map[string]string{
		"sts-bad-cert.example":  "unknown authority",
		"sts-redirect.example":  "status 301",
		"sts-oversized.example": "status 200 with 65537 bytes",
		"sts-missing.example":   "status 404",
		"sts-hangs.example":     "Client.Timeout",
		"modern.example":        "no address",
	} {
		if _, err := s.fetchPolicy(domain); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v", domain, err)
		}
	}
}

func TestRecordsAtRuntime(t *testing.T) {
	n := start(t, Options{})
	n.SetA("host.example", netip.MustParseAddr("127.0.0.9"))
	n.SetMX("moved.example", MX{5, "host.example"})
	if got := ask(t, n, "udp", "moved.example", dns.TypeMX); len(got.Answer) != 1 {
		t.Errorf("%v", got)
	}
	n.SetDNSFault("moved.example", ServFail)
	if got := ask(t, n, "udp", "moved.example", dns.TypeMX); got.Rcode != dns.RcodeServerFailure {
		t.Errorf("%v", got)
	}
	n.SetDNSFault("moved.example", NoDNSFault)
	n.SetMX("moved.example")
	if got := ask(t, n, "udp", "moved.example", dns.TypeMX); got.Rcode != dns.RcodeNameError {
		t.Errorf("%v", got)
	}
}

// TestOpenSSLAgrees asks another implementation of TLS, with the CA file and
// with certificates issued to files.
func TestOpenSSLAgrees(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatal("the tests need Debian's package openssl")
	}
	dir := t.TempDir()
	n := start(t, Options{Dir: dir})
	connect := func(host string) string {
		cmd := exec.CommandContext(t.Context(), openssl, "s_client", "-starttls", "smtp", "-crlf", "-brief",
			"-connect", n.HostAddr(host), "-servername", host, "-verify_hostname", host, "-CAfile", n.CAFile)
		cmd.Stdin = strings.NewReader("QUIT\n")
		out, _ := cmd.CombinedOutput() // its exit code says nothing about the certificate
		return string(out)
	}
	hosts := map[string][]string{
		"mx.modern.example":       {"Verification: OK", "TLSv1.3"},
		"mx.tls12.example":        {"Verification: OK", "TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256"},
		"mx.tls12-cbc.example":    {"Verification: OK", "ECDHE-ECDSA-AES128-SHA"},
		"mx.tls12-chacha.example": {"Verification: OK", "ECDHE-ECDSA-CHACHA20-POLY1305"},
		"mx.expired.example":      {"certificate has expired"},
		"mx.wrong-name.example":   {"ostname mismatch"},
		"mx.self-signed.example":  {"self-signed certificate"},
	}
	if fips140.Enabled() {
		hosts["mx.tls12-cbc.example"] = []string{"handshake failure"}
		hosts["mx.tls12-chacha.example"] = []string{"handshake failure"}
	}
	for host, want := range hosts {
		out := connect(host)
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%s: no %q in\n%s", host, w, out)
			}
		}
	}
	certFile, keyFile, err := n.IssueFiles(dir, "api", []string{"localhost", "127.0.0.1"}, CertOptions{})
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), openssl, "verify", "-CAfile", n.CAFile, "-verify_ip", "127.0.0.1", certFile).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), openssl, "pkey", "-check", "-noout", "-in", keyFile).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// FuzzReadable checks that no mail stops the page.
func FuzzReadable(f *testing.F) {
	f.Add([]byte(notice))
	f.Add([]byte("Content-Type: multipart/mixed; boundary=\"\"\r\n\r\n--\r\n\r\n--\r\n"))
	f.Add([]byte("Subject: =?utf-8?b?w7w=?=\r\nContent-Transfer-Encoding: base64\r\n\r\nw7w="))
	f.Fuzz(func(t *testing.T, raw []byte) {
		read := walk(raw)
		text := read.text
		if !read.found && text != "" {
			t.Fatalf("text without a part: %q", text)
		}
		var joined strings.Builder
		for _, p := range linked(text) {
			joined.WriteString(p.Text)
		}
		if joined.String() != text {
			t.Fatalf("linking changes %q to %q", text, joined.String())
		}
		subject(raw)
	})
}
