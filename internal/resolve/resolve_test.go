package resolve

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/sealpost/sealpost/internal/fake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, trusted bool) (*fake.Internet, *Resolver) {
	t.Helper()
	n, err := fake.Start(t.Context(), fake.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	r, err := New(Deps{Servers: []string{n.ResolverAddr}, Timeout: 200 * time.Millisecond, Trusted: trusted})
	if err != nil {
		t.Fatal(err)
	}
	return n, r
}

// TestSecureNeedsTrustAndProof: an answer is secure only when the resolver
// validated it and is believed, a no as well as a yes.
func TestSecureNeedsTrustAndProof(t *testing.T) {
	for _, trusted := range []bool{true, false} {
		n, r := start(t, trusted)
		n.SetSecure("signed.example", true)
		n.SetTXT("a.signed.example", "x")
		n.SetTXT("long.signed.example", strings.Repeat("x", 4000)) // over TCP
		n.SetCNAME("out.signed.example", "a.plain.example")
		n.SetTXT("a.plain.example", "x")
		for name, want := range map[string]bool{
			"a.signed.example": true, "long.signed.example": true, "none.signed.example": true,
			"a.plain.example": false, "out.signed.example": false, "none.plain.example": false,
		} {
			a, err := r.Ask(t.Context(), name, dns.TypeTXT)
			if err != nil || a.Secure != (want && trusted) {
				t.Errorf("%s by a resolver trusted %v: secure %v, %v", name, trusted, a.Secure, err)
			}
			if missing := strings.HasPrefix(name, "none"); a.Missing != missing || (len(a.RRs) == 0) != missing {
				t.Errorf("%s: missing %v with %d records", name, a.Missing, len(a.RRs))
			}
		}
		if r.Trusted() != trusted {
			t.Error("Trusted")
		}
	}
}

func TestFailuresAreNoAnswers(t *testing.T) {
	n, r := start(t, true)
	n.SetSecure("example", true)
	for name, want := range map[string]string{"servfail.example": "servfail", "dns-timeout.example": "timeout"} {
		a, err := r.Ask(t.Context(), name, dns.TypeTXT)
		if !errors.Is(err, ErrFailed) || Word(err) != want || a.Missing || a.Secure {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Ask(ctx, "modern.example", dns.TypeMX); Word(err) != "timeout" {
		t.Errorf("after the caller went: %v", err)
	}
	var none net.Listener
	none, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	none.Close()
	dead, err := New(Deps{Servers: []string{none.Addr().String(), n.ResolverAddr}, Timeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if a, err := dead.Ask(t.Context(), "modern.example", dns.TypeMX); err != nil || len(a.RRs) != 1 {
		t.Errorf("the second server is not asked: %v", err)
	}
}

func TestTextsAndAddresses(t *testing.T) {
	n, r := start(t, false)
	n.SetTXT("t.example", "one", strings.Repeat("y", 300))
	texts, ttl, err := r.Texts(t.Context(), "t.example")
	if err != nil || len(texts) != 2 || texts[1] != strings.Repeat("y", 300) || ttl != time.Minute {
		t.Errorf("%q %s %v", texts, ttl, err)
	}
	var many []netip.Addr
	for i := range 20 {
		many = append(many, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	n.SetA("many.example", many...)
	n.SetCNAME("alias.of.many.example", "many.example")
	addrs, ttl, err := r.Addresses(t.Context(), "alias.of.many.example")
	if err != nil || len(addrs) != maxAddrs || addrs[0] != many[0] || ttl != time.Minute {
		t.Errorf("%v %s %v", addrs, ttl, err)
	}
	if addrs, _, err := r.Addresses(t.Context(), "nowhere.example"); err != nil || len(addrs) != 0 {
		t.Errorf("%v %v", addrs, err)
	}
	if _, _, err := r.Addresses(t.Context(), "servfail.example"); err == nil {
		t.Error("no error where no answer came")
	}
}

// TestAliasLoopsEnd: a chain of aliases that bites its tail ends.
func TestAliasLoopsEnd(t *testing.T) {
	q := dns.Question{Name: "a.example.", Qtype: dns.TypeA, Qclass: dns.ClassINET}
	resp := new(dns.Msg)
	for _, pair := range [][2]string{{"a.example.", "b.example."}, {"b.example.", "a.example."}} {
		resp.Answer = append(resp.Answer, &dns.CNAME{Hdr: dns.RR_Header{Name: pair[0], Rrtype: dns.TypeCNAME, Ttl: 7}, Target: pair[1]})
	}
	if a := digest(q, resp); len(a.RRs) != 0 || a.TTL != 7*time.Second {
		t.Errorf("%+v", a)
	}
}
