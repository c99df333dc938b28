package dnssec

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/e2e/internal/await"
)

// mailHost is where all mail hosts of the zones are.
const mailHost = "127.23.251.1"

func sum(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

// zonesFor are the domains of the test. Each has mail at one or two hosts,
// which are the same Postfix.
func zonesFor(port int, leaf, ca *x509.Certificate) []zone {
	ee, ta := "3 1 1 "+sum(leaf.RawSubjectPublicKeyInfo), "2 1 1 "+sum(ca.RawSubjectPublicKeyInfo)
	const wrong = "3 1 1 0000000000000000000000000000000000000000000000000000000000000000"
	tlsa := func(host, record string) string { return fmt.Sprintf("_%d._tcp.%s. TLSA %s", port, host, record) }
	one := func(name string, s signing, record string) zone {
		return zone{name, s, []string{name + ". MX 10 mx." + name + ".", "mx." + name + ". A " + mailHost, tlsa("mx."+name, record)}}
	}
	return []zone{
		one("ee.example", signed, ee),
		one("ta.example", signed, ta),
		one("wrong.example", signed, wrong),
		one("unusable.example", signed, "0 0 1 "+sum(ca.Raw)),
		one("expired.example", expired, ee),
		one("forged.example", forged, ee),
		one("plain.example", unsigned, wrong),
		one("partner.example", unsigned, wrong),
		// RFC 7672 section 2.2.2: aliases to a signed and to an unsigned zone.
		{"alias.example", signed, []string{"alias.example. MX 10 mx.alias.example.", "mx.alias.example. CNAME mx.ee.example."}},
		{"out.example", signed, []string{"out.example. MX 10 mx.out.example.", "mx.out.example. CNAME mx.plain.example.", tlsa("mx.out.example", ee)}},
		// The records of the first host are forged, those of the second are not.
		{"half.example", signed, []string{"half.example. MX 10 mx1.half.example.", "half.example. MX 20 mx2.half.example.",
			"mx1.half.example. A " + mailHost, "mx2.half.example. A " + mailHost, tlsa("mx2.half.example", ee)}},
		{"_tcp.mx1.half.example", forged, []string{tlsa("mx1.half.example", ee)}},
		// The only host's are.
		{"bogus.example", signed, []string{"bogus.example. MX 10 mx.bogus.example.", "mx.bogus.example. A " + mailHost}},
		{"_tcp.mx.bogus.example", forged, []string{tlsa("mx.bogus.example", ee)}},
	}
}

// TestMailGoesWhereDNSSECProves sends to a domain of every kind and looks at
// what became of each and what is recorded as proof.
func TestMailGoesWhereDNSSECProves(t *testing.T) {
	port := freePort(t)
	certs := issue(t, "mx.ta.example", "mx.plain.example", "mx.unusable.example", "mx.partner.example")
	n := serve(t, zonesFor(port, certs.leaf, certs.ca))
	folder, mailbox := mailHostOfAll(t, port, certs)
	s := newSite(t, n.resolver, port)
	ours := issue(t, "riverside-clinic")
	s.run("partner", "add", "partner.example", "--pin-ca", s.file("ca.pem", certs.caPEM()), "--host", "*.partner.example", "--client", s.file("client.pem", ours.pem, ours.key))
	s.start()

	type want struct{ state, seal, grade, by, host, reason string }
	cases := map[string]want{
		"ee.example":       {"delivered", "tls", "authenticated", "dane-ee", "mx.ee.example", ""},
		"ta.example":       {"delivered", "tls", "authenticated", "dane-ta", "mx.ta.example", ""},
		"wrong.example":    {state: "deferred", reason: "dane_failed"},
		"unusable.example": {"waiting", "portal", "encrypted", "none", "mx.unusable.example", "certificate_untrusted"},
		"expired.example":  {state: "deferred", reason: "dns_failure"},
		"forged.example":   {state: "deferred", reason: "dns_failure"},
		"plain.example":    {"waiting", "portal", "encrypted", "none", "mx.plain.example", "certificate_untrusted"},
		"partner.example":  {"delivered", "tls", "authenticated", "pin", "mx.partner.example", ""},
		"alias.example":    {"delivered", "tls", "authenticated", "dane-ee", "mx.alias.example", ""},
		"out.example":      {"delivered", "tls", "authenticated", "dane-ee", "mx.out.example", ""},
		"half.example":     {"delivered", "tls", "authenticated", "dane-ee", "mx2.half.example", ""},
		"bogus.example":    {state: "deferred", reason: "dane_failed"},
	}
	sent := map[string]string{}
	for domain := range cases {
		sent[domain] = s.send("pat@" + domain)
	}
	for domain, w := range cases {
		var got delivery
		await.Until(t, func() string {
			if got = s.delivery(sent[domain]); got.State == w.state && (w.reason == "" || got.Reason == w.reason) {
				return ""
			}
			return fmt.Sprintf("%s: %s, %q, want %s, %q", domain, got.State, got.Reason, w.state, w.reason)
		})
		if w.state == "deferred" {
			continue
		}
		last := got.Attempts[len(got.Attempts)-1].Evidence
		if got.Seal != w.seal || got.Grade != w.grade || last.VerifiedBy != w.by || last.MX != w.host {
			t.Errorf("%s: %s at %s, %+v", domain, got.Seal, got.Grade, last)
		}
		if (w.by == "pin") != (last.Client != "") {
			t.Errorf("%s: showed %q", domain, last.Client)
		}
		if strings.HasPrefix(w.by, "dane") && !strings.HasPrefix(last.TLSA, map[string]string{"dane-ee": "3 1 1 ", "dane-ta": "2 1 1 "}[w.by]) {
			t.Errorf("%s: proved by %q", domain, last.TLSA)
		}
	}
	arrived := mailbox()
	for domain, w := range cases {
		if got := arrived["pat@"+domain]; got != (w.state != "deferred") {
			t.Errorf("%s: mail arrived: %v", domain, got)
		}
	}
	if got := shown(t, folder); len(got) != 1 || got["pat@partner.example"] != "riverside-clinic" {
		t.Errorf("Postfix was shown certificates for %q", got)
	}
	s.showsPosture(t)
}

// shown tells for whose mail Postfix was shown which certificate.
func shown(t *testing.T, folder string) map[string]string {
	t.Helper()
	out := map[string]string{}
	files, _ := filepath.Glob(filepath.Join(folder, "*"))
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		to := regexp.MustCompile(`(?m)^X-Original-To: (.*)$`).FindSubmatch(text)
		if cn := regexp.MustCompile(`Client CN "([^"]*)"`).FindSubmatch(text); cn != nil && to != nil {
			out[string(to[1])] = string(cn[1])
		}
	}
	return out
}

func (s *site) showsPosture(t *testing.T) {
	t.Helper()
	for domain, want := range map[string]string{
		"ee.example":    "TLSA of mx.ee.example: 3 1 1 ",
		"bogus.example": "TLSA records of mx.bogus.example cannot be had now (servfail)",
		"plain.example": "the domain is not signed",
	} {
		if out := string(s.run("domain", "posture", domain, "--refresh")); !strings.Contains(out, want) {
			t.Errorf("%s: %s", domain, out)
		}
	}
}

// TestTheseNamesAreWhatTheySeem holds the DNS of the test itself to what it is
// made to be.
func TestTheseNamesAreWhatTheySeem(t *testing.T) {
	certs := issue(t, "mx.ta.example", "mx.plain.example", "mx.unusable.example", "mx.partner.example")
	n := serve(t, zonesFor(2525, certs.leaf, certs.ca))
	client := &dns.Client{Timeout: 5 * time.Second}
	for name, want := range map[string]string{
		"_2525._tcp.mx.ee.example.": "NOERROR secure", "_2525._tcp.mx.plain.example.": "NOERROR insecure",
		"_2525._tcp.mx.expired.example.": "SERVFAIL insecure", "_2525._tcp.mx.forged.example.": "SERVFAIL insecure",
		"_2525._tcp.mx1.half.example.": "SERVFAIL insecure", "_2525._tcp.mx2.half.example.": "NOERROR secure", "nothing.ee.example.": "NXDOMAIN secure",
	} {
		q := new(dns.Msg).SetQuestion(name, dns.TypeTLSA)
		q.AuthenticatedData = true
		m, _, err := client.Exchange(q, n.resolver)
		if err != nil {
			t.Fatal(err)
		}
		got := dns.RcodeToString[m.Rcode] + map[bool]string{true: " secure", false: " insecure"}[m.AuthenticatedData]
		if got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
