package posture

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/fault"
)

var (
	anyTLSA = fake.TLSA{Usage: 3, Selector: 1, Matching: 1, Data: make([]byte, 32)}
	somehow = netip.MustParseAddr("127.23.9.1")
)

// signed publishes a domain in a signed zone with one mail host and a TLSA
// record.
func (w *world) signed(domain string) (host string) {
	host = "mx." + domain
	w.net.SetSecure(domain, true)
	w.net.SetMX(domain, fake.MX{Preference: 10, Host: host})
	w.net.SetA(host, somehow)
	w.net.PutTLSA(host, anyTLSA)
	return host
}

func validating(t *testing.T) *world {
	w := start(t, dbtest.SQLite(t))
	w.dnssec = true
	w.restart(t)
	return w
}

func daneOf(p Posture) string {
	if len(p.MX) == 0 {
		return "no host"
	}
	switch d := p.MX[0].DANE; {
	case d == nil:
		return "none"
	case d.failed():
		return d.Base + " " + d.Error
	default:
		return d.Base
	}
}

func TestDANENeedsAllOfItValidated(t *testing.T) {
	w := validating(t)
	for _, host := range []string{"mx.hoster.example", "mx.bare-hoster.example", "mx.plain.example"} {
		w.net.SetA(host, somehow)
		if host != "mx.bare-hoster.example" {
			w.net.PutTLSA(host, anyTLSA)
		}
	}
	w.net.SetSecure("hoster.example", true)
	w.net.SetSecure("bare-hoster.example", true)
	w.signed("good.example") // which others lead to
	alias := func(host, target string) {
		w.net.SetA(host)
		w.net.SetCNAME(host, target)
	}
	to := func(domain, host string) { w.net.SetMX(domain, fake.MX{Preference: 10, Host: host}) }
	for domain, tc := range map[string]struct {
		set  func(domain, host string)
		want string
	}{
		"good.example":     {nil, "mx.good.example"},
		"unsigned.example": {func(d, _ string) { w.net.SetSecure(d, false); to(d, "mx.hoster.example") }, "none"},
		"hosted.example":   {func(d, _ string) { to(d, "mx.hoster.example") }, "mx.hoster.example"},
		// RFC 7672 section 2.2.2: what is not signed is not even asked for.
		"host-unsigned.example":    {func(d, _ string) { to(d, "mx.plain.example") }, "none"},
		"records-unsigned.example": {func(_, h string) { w.net.SetSecure(w.net.TLSAName(h), false) }, "none"},
		"denied.example":           {func(_, h string) { w.net.PutTLSA(h) }, "none"},
		"silent.example":           {func(_, h string) { w.net.SetDNSFault(w.net.TLSAName(h), fake.NoAnswer) }, "mx.silent.example timeout"},
		"bogus.example":            {func(_, h string) { w.net.SetDNSFault(w.net.TLSAName(h), fake.ServFail) }, "mx.bogus.example servfail"},
		// Section 2.2.3: the end of a signed chain of aliases first, then its beginning.
		"alias.example":      {func(_, h string) { alias(h, "mx.hoster.example") }, "mx.hoster.example"},
		"alias-bare.example": {func(_, h string) { alias(h, "mx.bare-hoster.example") }, "mx.alias-bare.example"},
		// Of a chain that is not signed to its end only the beginning counts.
		"alias-out.example":      {func(_, h string) { alias(h, "mx.plain.example") }, "mx.alias-out.example"},
		"alias-unsigned.example": {func(_, h string) { w.net.SetSecure(h, false); alias(h, "mx.plain.example") }, "none"},
		"implicit.example": {func(d, _ string) {
			w.net.SetMX(d)
			w.net.SetA(d, somehow)
			w.net.PutTLSA(d, anyTLSA)
		}, "implicit.example"},
		"cname.example": {func(d, _ string) {
			w.net.SetMX(d)
			w.net.SetCNAME(d, "good.example")
		}, "mx.good.example"},
	} {
		host := w.signed(domain)
		if tc.set != nil {
			tc.set(domain, host)
		}
		p := w.refresh(t, domain)
		if got := daneOf(p); got != tc.want {
			t.Errorf("%s: %s, want %s", domain, got, tc.want)
		}
		if p.Facts().DANE != (tc.want != "none" && !strings.Contains(tc.want, " ")) || p.Secure != (domain != "unsigned.example") {
			t.Errorf("%s: %+v, secure %v", domain, p.Facts(), p.Secure)
		}
		if domain == "cname.example" && !reflect.DeepEqual(p.MX[0].DANE.Names, []string{"mx.good.example", "cname.example", "good.example"}) {
			t.Errorf("names %q", p.MX[0].DANE.Names)
		}
	}
	if n := w.net.Queries(w.net.TLSAName("mx.plain.example")); n != 0 {
		t.Errorf("TLSA of an unsigned host was asked for %d times", n)
	}
}

// TestDANENeedsATrustedResolver: the AD bit of any other is nobody's word, and
// what was kept under another setting does not count.
func TestDANENeedsATrustedResolver(t *testing.T) {
	w := start(t, dbtest.SQLite(t))
	w.signed("signed.example")
	for _, trusted := range []bool{false, true, false} {
		w.dnssec = trusted
		w.restart(t)
		p := w.refresh(t, "signed.example")
		if (daneOf(p) != "none") != trusted || p.Secure != trusted || p.DNSSEC != trusted {
			t.Errorf("trusted %v: %s", trusted, p)
		}
	}
}

// TestDANEFollowsTheDNS: records live as long as their TTL, through restarts,
// and today's answer counts: another one, none, or none that can be had.
func TestDANEFollowsTheDNS(t *testing.T) {
	w := validating(t)
	host := w.signed("signed.example")
	expect := func(what, want string) {
		t.Helper()
		if got := daneOf(w.refresh(t, "signed.example")); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	expect("first", host)
	w.net.PutTLSA(host)
	w.restart(t)
	expect("within the TTL", host)
	w.clock.Advance(2 * time.Minute)
	expect("taken away", "none")
	w.net.PutTLSA(host, anyTLSA)
	w.clock.Advance(2 * time.Minute)
	expect("there again", host)
	w.net.SetDNSFault(w.net.TLSAName(host), fake.ServFail)
	w.clock.Advance(2 * time.Minute)
	expect("cannot be had", host+" servfail")
	w.net.SetDNSFault(w.net.TLSAName(host), fake.NoDNSFault)
	w.net.SetSecure("signed.example", false)
	w.clock.Advance(2 * time.Minute)
	expect("not signed any more", "none")
}

// TestAProvedAnswerHasNoGrace: while the DNS of a signed domain fails nobody
// keeps it to hosts and records that may be withdrawn.
func TestAProvedAnswerHasNoGrace(t *testing.T) {
	w := validating(t)
	w.signed("signed.example")
	for domain, grace := range map[string]bool{"signed.example": false, "modern.example": true} {
		w.refresh(t, domain)
		w.net.SetDNSFault(domain, fake.ServFail)
		w.clock.Advance(2 * time.Minute)
		if _, err := w.Refresh(t.Context(), domain); (err == nil) != grace || err != nil && !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s: %v", domain, err)
		}
	}
}

func TestUsableRecords(t *testing.T) {
	w := validating(t)
	host := w.signed("signed.example")
	cert := w.net.Certificate("mx.modern.example")
	of := func(u, s, m uint8) fake.TLSA { return fake.TLSAOf(u, s, m, cert) }
	for name, tc := range map[string]struct {
		put  []fake.TLSA
		want string // numbers of those that are usable
	}{
		"all kinds":                {[]fake.TLSA{of(2, 0, 0), of(2, 1, 1), of(3, 0, 2), of(3, 1, 0)}, "200 211 302 310"},
		"public authorities":       {[]fake.TLSA{of(0, 0, 1), of(1, 1, 1)}, ""},
		"unknown":                  {[]fake.TLSA{of(4, 1, 1), {Usage: 3, Selector: 2, Matching: 1, Data: make([]byte, 32)}, {Usage: 3, Selector: 1, Matching: 3, Data: make([]byte, 32)}, {Usage: 255, Selector: 255, Matching: 255, Data: []byte{1}}}, ""},
		"malformed":                {[]fake.TLSA{{Usage: 3, Selector: 1, Matching: 1, Data: make([]byte, 31)}, {Usage: 3, Selector: 1, Matching: 2, Data: make([]byte, 32)}, {Usage: 2, Data: []byte("no certificate")}, {Usage: 2, Selector: 1, Data: []byte("no key")}}, ""},
		"the strongest digest":     {[]fake.TLSA{of(3, 1, 1), of(3, 1, 2), of(3, 1, 0), of(3, 0, 1), of(2, 1, 1)}, "211 301 310 312"},
		"a stronger that is wrong": {[]fake.TLSA{of(3, 1, 1), {Usage: 3, Selector: 1, Matching: 2, Data: make([]byte, 10)}}, "311"},
	} {
		w.net.PutTLSA(host, tc.put...)
		w.clock.Advance(2 * time.Minute)
		d := w.refresh(t, "signed.example").MX[0].DANE
		var got []string
		for _, r := range d.Usable() {
			got = append(got, string([]byte{'0' + r.Usage, '0' + r.Selector, '0' + r.Matching}))
		}
		if strings.Join(got, " ") != tc.want || len(d.Records) != len(tc.put) {
			t.Errorf("%s: %q of %d records", name, got, len(d.Records))
		}
		text, err := json.Marshal(d)
		var back DANE
		if err != nil || json.Unmarshal(text, &back) != nil || !reflect.DeepEqual(back, *d) {
			t.Errorf("%s: %s, %v", name, text, err)
		}
	}
	w.net.PutTLSA(host, of(3, 1, 1))
	w.clock.Advance(2 * time.Minute)
	if text := w.refresh(t, "signed.example").String(); !strings.Contains(text, "proves where the mail goes") || !strings.Contains(text, "TLSA of "+host+": 3 1 1 ") {
		t.Errorf("%s", text)
	}
}

func FuzzTLSA(f *testing.F) {
	f.Add([]byte("3 1 1 00ff"))
	f.Add([]byte("3 1 1 "))
	f.Add([]byte("256 1 1 00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var r, back TLSA
		if r.UnmarshalText(text) != nil {
			return
		}
		again, err := r.MarshalText()
		if err != nil || back.UnmarshalText(again) != nil || r.String() != back.String() || !bytes.Equal(r.Data, back.Data) {
			t.Errorf("%q comes back as %q, %v", text, again, err)
		}
	})
}
