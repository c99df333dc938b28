package discover

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/fetch"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/resolve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a fake internet with Sources that ask in it, under a clock that
// stands still.
type world struct {
	*Sources
	net   *fake.Internet
	clock *clock.Fake
}

func start(t *testing.T, change func(*fake.Internet, *Deps)) *world {
	t.Helper()
	n, err := fake.Start(t.Context(), fake.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	w := &world{net: n, clock: clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))}
	w.Sources = w.sources(t, true, change)
	return w
}

func (w *world) sources(t *testing.T, trusted bool, change func(*fake.Internet, *Deps)) *Sources {
	t.Helper()
	r, err := resolve.New(resolve.Deps{Servers: []string{w.net.ResolverAddr}, Timeout: 150 * time.Millisecond, Trusted: trusted})
	if err != nil {
		t.Fatal(err)
	}
	d := Deps{
		Resolver: r, Clock: w.clock, Limit: time.Second,
		Fetch: fetch.New(fetch.Deps{Resolver: r, Roots: w.net.CAPool(), Clock: w.clock, AnyAddress: true, HTTPSPort: w.net.HTTPSPort}),
	}
	if change != nil {
		change(w.net, &d)
	}
	s, err := New(d)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func address(t *testing.T, text string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// from asks and gives the answer of one source.
func (w *world) from(t *testing.T, source, to string) Answer {
	t.Helper()
	for _, a := range w.Ask(t.Context(), address(t, to)) {
		if a.Source == source {
			return a
		}
	}
	t.Fatalf("%s is not asked", source)
	return Answer{}
}

// check wants one finding with these octets.
func (w *world) check(t *testing.T, a Answer, kind policy.Seal, proof policy.Tier, data []byte) {
	t.Helper()
	if len(a.Findings) != 1 || a.Absent || a.Word != "" || !a.Until.After(w.clock.Now()) {
		t.Fatalf("%s: %+v", a.Source, a)
	}
	f := a.Findings[0]
	if f.Kind != kind || f.Proof != proof || f.Source != a.Source || !bytes.Equal(f.Data, data) {
		t.Errorf("%s: %s %s %d octets", f.Source, f.Kind, f.Proof, len(f.Data))
	}
}

func TestWKDHash(t *testing.T) {
	// The draft's own example.
	if h := wkdHash("Joe.Doe"); h != "iy9q119eutrkn8s1mk4r39qejnbu3n5q" {
		t.Error(h)
	}
	if wkdHash("JÖRG") != wkdHash("jÖrg") || wkdHash("JÖRG") == wkdHash("jörg") {
		t.Error("more than ASCII is lowered")
	}
	if personal(address(t, "hugh@example.com"), "_openpgpkey") != "c93f1e400f26708f98cb19d936620da35eec8f72e57f9eec01c1afd6._openpgpkey.example.com" {
		t.Error("RFC 7929 section 3 has another name")
	}
}

func TestWKD(t *testing.T) {
	w := start(t, nil)
	key := w.net.PGPKey("cora@pgp-curve.example")
	put := func(domain, local string, o fake.WKDOptions) {
		t.Helper()
		if err := w.net.PutWKD(domain, local, key, o); err != nil {
			t.Fatal(err)
		}
	}
	put("umlaut.example", "jörg+x", fake.WKDOptions{})
	put("both.example", "direct", fake.WKDOptions{Direct: true})
	put("both.example", "advanced", fake.WKDOptions{})
	for _, to := range []string{"cora@pgp-curve.example", "Cora@PGP-curve.example", "jörg+x@umlaut.example", "advanced@both.example"} {
		w.check(t, w.from(t, WKD, to), policy.PGP, policy.Confirmed, key)
	}
	w.check(t, w.from(t, WKD, "rita@pgp-rsa.example"), policy.PGP, policy.Confirmed, w.net.PGPKey("rita@pgp-rsa.example"))
	// Whoever has the sub-domain is asked there alone.
	for _, to := range []string{"nobody@pgp-curve.example", "nobody@pgp-rsa.example", "direct@both.example", "a@nxdomain.example", "a@modern.example"} {
		if a := w.from(t, WKD, to); !a.Absent || a.Word != "" || len(a.Findings) != 0 || !a.Until.After(w.clock.Now()) {
			t.Errorf("%s: %+v", to, a)
		}
	}
	if n := w.net.Fetches("both.example"); n != 0 {
		t.Errorf("the direct method was tried although there is a sub-domain: %d", n)
	}
}

// TestWhoProvesThatThereIsNothing: where only plain DNS says so, somebody on
// the way may have said it.
func TestWhoProvesThatThereIsNothing(t *testing.T) {
	w := start(t, func(n *fake.Internet, d *Deps) {
		for domain, o := range map[string]fake.WKDOptions{"advanced.example": {}, "direct.example": {Direct: true}} {
			if err := n.PutWKD(domain, "a", n.PGPKey("cora@pgp-curve.example"), o); err != nil {
				t.Fatal(err)
			}
		}
		n.SetSecure("signed.example", true)
		n.SetOPENPGPKEY("a@signed.example", n.PGPKey("cora@pgp-curve.example"))
		for _, host := range []string{"keys.example", "more-keys.example"} {
			if err := n.AddKeyServer(host); err != nil {
				t.Fatal(err)
			}
		}
		if err := n.PutHKPS("more-keys.example", "fails@modern.example", nil, fake.PageFails); err != nil {
			t.Fatal(err)
		}
		d.KeyServers = []string{"keys.example", "more-keys.example"}
	})
	for _, tc := range []struct {
		source, to string
		certain    bool
	}{
		{WKD, "b@advanced.example", true}, {WKD, "b@direct.example", false}, {WKD, "b@modern.example", false},
		{OPENPGPKEY, "b@signed.example", true}, {OPENPGPKEY, "b@modern.example", false},
		{SMIMEA, "b@signed.example", true}, {SMIMEA, "b@modern.example", false},
		{HKPS, "b@modern.example", true},
	} {
		if a := w.from(t, tc.source, tc.to); !a.Absent || a.Certain != tc.certain {
			t.Errorf("%s of %s: %+v", tc.source, tc.to, a)
		}
	}
	if a := w.from(t, HKPS, "fails@modern.example"); a.Absent || a.Certain {
		t.Errorf("one key server of two says no: %+v", a)
	}
	for source, to := range map[string]string{WKD: "a@advanced.example", OPENPGPKEY: "a@signed.example"} {
		if a := w.from(t, source, to); len(a.Findings) != 1 || a.Absent || a.Certain {
			t.Errorf("%s of %s: %+v", source, to, a)
		}
	}
}

func TestWKDMisbehaves(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	begin := time.Now()
	for i, tc := range []struct {
		fault  fake.WebFault
		word   string
		absent bool
	}{
		{fake.PageRedirects, fetch.Status, false}, {fake.PageHuge, fetch.TooLarge, false}, {fake.PageNotFound, "", true},
		{fake.PageGarbage, Malformed, false}, {fake.PageFails, fetch.Status, false}, {fake.PageHangs, fetch.Timeout, false},
	} {
		for _, direct := range []bool{false, true} {
			domain := fmt.Sprintf("fault-%d-%v.example", i, direct)
			if err := w.net.PutWKD(domain, "a", []byte("\x99key"), fake.WKDOptions{Direct: direct, Fault: tc.fault}); err != nil {
				t.Fatal(err)
			}
			if a := w.from(t, WKD, "a@"+domain); a.Word != tc.word || a.Absent != tc.absent || len(a.Findings) != 0 {
				t.Errorf("fault %d, direct %v: %+v", tc.fault, direct, a)
			}
		}
	}
	if err := w.net.PutWebCert("openpgpkey.badcert.example", fake.CertOptions{SelfSigned: true}); err != nil {
		t.Fatal(err)
	}
	w.net.SetA("openpgpkey.dead.example", netip.MustParseAddr("127.23.0.1"))
	w.net.SetA("openpgpkey.badcert.example", netip.MustParseAddr("127.23.1.1"))
	w.net.SetDNSFault("openpgpkey.broken.example", fake.ServFail)
	w.net.SetDNSFault("openpgpkey.silent.example", fake.NoAnswer)
	for domain, word := range map[string]string{"badcert": fetch.Certificate, "dead": fetch.Connect, "broken": fetch.DNS, "silent": fetch.Timeout} {
		if a := w.from(t, WKD, "a@"+domain+".example"); a.Word != word || a.Absent || len(a.Findings) != 0 {
			t.Errorf("%s: %+v", domain, a)
		}
	}
	if took := time.Since(begin); took > 8*time.Second {
		t.Errorf("took %s", took)
	}
}

// TestADomainWithoutAnythingCostsLittle: what a domain lacks is not asked for
// each of its addresses.
func TestADomainWithoutAnythingCostsLittle(t *testing.T) {
	for _, together := range []bool{false, true} {
		t.Run(fmt.Sprintf("together %v", together), func(t *testing.T) {
			w := start(t, nil)
			site := func(domain string, h http.HandlerFunc) {
				if err := w.net.PutHandler(domain, "/", h); err != nil {
					t.Fatal(err)
				}
			}
			site("web.example", http.NotFound)
			site("softpage.example", func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write([]byte("<!doctype html><title>Welcome</title>"))
			})
			site("elsewhere.example", func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "https://www.elsewhere.example/", http.StatusMovedPermanently)
			})
			w.net.SetSecure("signed-web.example", true)
			site("signed-web.example", http.NotFound)
			w.net.SetOPENPGPKEY("somebody@unsigned.example", []byte("\x99key"))
			w.net.SetSMIMEA("somebody@unsigned.example", []byte("0000"), 3)
			for domain, most := range map[string]struct{ questions, fetches int }{
				"nothing.example": {6, 0}, "unsigned.example": {6, 0}, "web.example": {14, 4}, "softpage.example": {10, 2}, "elsewhere.example": {10, 2},
				"signed-web.example": {14, 4},
			} {
				var all sync.WaitGroup
				for i := range 1000 {
					a := address(t, fmt.Sprintf("person%d@%s", i, domain))
					ask := func() {
						for _, got := range w.Ask(t.Context(), a) {
							if len(got.Findings) != 0 || !got.Absent && got.Word != Busy && i > maxMisses && !together {
								t.Errorf("%s: %+v", domain, got)
							}
						}
					}
					if together {
						all.Go(ask)
					} else {
						ask()
					}
				}
				all.Wait()
				questions, fetches := w.net.QueriesUnder(domain), w.net.Fetches(domain)
				t.Logf("%s: %d questions, %d fetches for 1000 addresses", domain, questions, fetches)
				if questions > most.questions || fetches > most.fetches {
					t.Errorf("%s: %d questions, %d fetches", domain, questions, fetches)
				}
				before := w.net.QueriesUnder(domain)
				w.clock.Advance(25 * time.Hour)
				w.Ask(t.Context(), address(t, "later@"+domain))
				if w.net.QueriesUnder(domain) == before {
					t.Errorf("%s is never asked again", domain)
				}
			}
		})
	}
}

// TestAHostThatHangsIsLeftAlone for ten minutes, and longer each time, and
// then is heard again.
func TestAHostThatHangsIsLeftAlone(t *testing.T) {
	w := start(t, func(_ *fake.Internet, d *Deps) { d.Limit = 200 * time.Millisecond })
	const domain, host = "pgp-hangs.example", "openpgpkey.pgp-hangs.example"
	want := 0
	for _, quiet := range []time.Duration{10 * time.Minute, 20 * time.Minute, 40 * time.Minute} {
		want++
		until := w.clock.Now().Add(quiet)
		for i := range 20 {
			to := "hanna@" + domain
			if i > 0 {
				to = fmt.Sprintf("hanna%d@%s", i, domain)
			}
			if a := w.from(t, WKD, to); a.Word != fetch.Timeout || a.Absent || !a.Until.Equal(until) {
				t.Fatalf("%d: %+v, until %s", i, a, until)
			}
		}
		if n := w.net.Fetches(host); n != want {
			t.Fatalf("%d fetches after %d times, for %s", n, want, quiet)
		}
		w.clock.Advance(quiet)
	}
	key := w.net.PGPKey("hanna@" + domain)
	if err := w.net.PutWKD(domain, "hanna", key, fake.WKDOptions{}); err != nil {
		t.Fatal(err)
	}
	w.check(t, w.from(t, WKD, "hanna@"+domain), policy.PGP, policy.Confirmed, key)
	if f, _ := w.facts.get(WKD + " " + domain); f.fails != 0 {
		t.Errorf("%+v", f)
	}
}

// TestADirectoryThatIsKnownIsNotForgotten: a domain that gave a key is not
// taken for one without a directory, however many of its people have none.
func TestADirectoryThatIsKnownIsNotForgotten(t *testing.T) {
	w := start(t, nil)
	const domain = "pgp-rsa.example"
	w.net.RemovePage(domain, "/.well-known/openpgpkey/policy") // as some have it
	w.from(t, WKD, "rita@"+domain)
	for i := range 5 {
		if a := w.from(t, WKD, fmt.Sprintf("nobody%d@%s", i, domain)); !a.Absent {
			t.Errorf("%+v", a)
		}
	}
	w.check(t, w.from(t, WKD, "rita@"+domain), policy.PGP, policy.Confirmed, w.net.PGPKey("rita@"+domain))
}

func TestSecureDNS(t *testing.T) {
	w := start(t, nil)
	key, der := w.net.PGPKey("rita@pgp-rsa.example"), w.net.MailCertificate("simon@smime-rsa.example").Raw
	w.net.SetOPENPGPKEY("a@plain.example", key)
	w.net.SetSMIMEA("a@plain.example", der, 3)
	w.net.SetSecure("signed.example", true)
	w.net.SetOPENPGPKEY("a@signed.example", key) // larger than UDP
	w.net.SetOPENPGPKEY("garbage@signed.example", []byte("no key"))
	for usage := range uint8(5) {
		w.net.SetSMIMEA(fmt.Sprintf("usage%d@signed.example", usage), der, usage)
	}
	w.net.PutSMIMEA("digest@signed.example", fake.SMIMEA{Usage: 3, Selector: 0, Matching: 1, Data: bytes.Repeat([]byte{1}, 32)})
	w.net.PutSMIMEA("spki@signed.example", fake.SMIMEA{Usage: 3, Selector: 1, Matching: 0, Data: der})
	w.net.PutSMIMEA("two@signed.example", fake.SMIMEA{Usage: 3, Matching: 1, Data: bytes.Repeat([]byte{1}, 32)}, fake.SMIMEA{Usage: 1, Data: der})
	// An island in the signed zone that is not signed itself.
	w.net.SetSecure("_openpgpkey.island.example", false)
	w.net.SetSecure("island.example", true)
	w.net.SetOPENPGPKEY("a@island.example", key)

	// A signed name that is an alias of one that is not.
	w.net.SetCNAME(personal(address(t, "alias@signed.example"), "_openpgpkey"), personal(address(t, "a@plain.example"), "_openpgpkey"))

	w.check(t, w.from(t, OPENPGPKEY, "a@signed.example"), policy.PGP, policy.Confirmed, key)
	w.check(t, w.from(t, OPENPGPKEY, "cora@pgp-curve.example"), policy.PGP, policy.Confirmed, w.net.PGPKey("cora@pgp-curve.example"))
	for _, usage := range []int{1, 3} {
		a := w.from(t, SMIMEA, fmt.Sprintf("usage%d@signed.example", usage))
		w.check(t, a, policy.SMIME, policy.Confirmed, der)
		if a.Findings[0].Usage != usage {
			t.Errorf("usage %d", a.Findings[0].Usage)
		}
	}
	w.check(t, w.from(t, SMIMEA, "two@signed.example"), policy.SMIME, policy.Confirmed, der)
	for to, source := range map[string]string{
		"a@plain.example": OPENPGPKEY, "garbage@signed.example": OPENPGPKEY,
		"alias@signed.example": OPENPGPKEY, "a@island.example": OPENPGPKEY,
		"digest@signed.example": SMIMEA, "spki@signed.example": SMIMEA, "usage0@signed.example": SMIMEA, "usage2@signed.example": SMIMEA,
		"usage4@signed.example": SMIMEA, "nobody@signed.example": SMIMEA,
	} {
		if a := w.from(t, source, to); !a.Absent || len(a.Findings) != 0 || a.Word != "" {
			t.Errorf("%s: %+v", to, a)
		}
	}
	if a := w.from(t, SMIMEA, "a@plain.example"); !a.Absent {
		t.Errorf("not signed, but %+v", a)
	}
	w.net.SetDNSFault(personal(address(t, "bogus@signed.example"), "_openpgpkey"), fake.ServFail)
	if a := w.from(t, OPENPGPKEY, "bogus@signed.example"); a.Word != fetch.DNS || a.Absent {
		t.Errorf("a record that does not validate: %+v", a)
	}
	w.check(t, w.from(t, OPENPGPKEY, "a@signed.example"), policy.PGP, policy.Confirmed, key)
	// Where nothing validates, DNS is not asked at all.
	if names := w.sources(t, false, nil).Names(); slices.Contains(names, OPENPGPKEY) || slices.Contains(names, SMIMEA) {
		t.Errorf("%v", names)
	}
}

func TestKeyServers(t *testing.T) {
	w := start(t, func(n *fake.Internet, d *Deps) {
		for _, host := range []string{"keys.example", "slow-keys.example"} {
			if err := n.AddKeyServer(host); err != nil {
				t.Fatal(err)
			}
		}
		d.KeyServers = []string{"keys.example", "slow-keys.example"}
	})
	key := w.net.PGPKey("cora@pgp-curve.example")
	put := func(host, to string, fault fake.WebFault) {
		t.Helper()
		if err := w.net.PutHKPS(host, to, key, fault); err != nil {
			t.Fatal(err)
		}
	}
	put("keys.example", "a+b@modern.example", fake.NoWebFault)
	put("slow-keys.example", "second@modern.example", fake.NoWebFault)
	put("keys.example", "down@modern.example", fake.PageFails)
	w.check(t, w.from(t, HKPS, "a+b@modern.example"), policy.PGP, policy.Discovered, key)
	w.check(t, w.from(t, HKPS, "second@modern.example"), policy.PGP, policy.Discovered, key)
	if a := w.from(t, HKPS, "nobody@modern.example"); !a.Absent || a.Word != "" {
		t.Errorf("%+v", a)
	}
	if a := w.from(t, HKPS, "down@modern.example"); a.Absent || a.Word != fetch.Status {
		t.Errorf("one server fails and the other has nothing: %+v", a)
	}
	w.clock.Advance(time.Hour)
	put("slow-keys.example", "hang@modern.example", fake.PageHangs)
	if a := w.from(t, HKPS, "hang@modern.example"); a.Absent || a.Word != fetch.Timeout {
		t.Errorf("%+v", a)
	}
	// Off unless it is configured: it tells a third party who is written to.
	if names := w.sources(t, true, nil).Names(); strings.Join(names, " ") != "wkd openpgpkey smimea" {
		t.Errorf("%v", names)
	}
}

// TestNothingHangs with the limits as they are: everything outside is silent.
func TestNothingHangs(t *testing.T) {
	t.Parallel()
	w := start(t, func(n *fake.Internet, d *Deps) {
		d.Limit = 0
		if err := n.PutHKPS("keys.example", "hanna@pgp-hangs.example", nil, fake.PageHangs); err != nil {
			t.Fatal(err)
		}
		silent := silence(t)
		d.KeyServers, d.Directories = []string{"keys.example"}, []string{"ldaps://" + silent + "/", "ldap://" + silent + "/dc=x"}
		n.SetDNSFault("_openpgpkey.pgp-hangs.example", fake.NoAnswer)
		n.SetDNSFault("_smimecert.pgp-hangs.example", fake.NoAnswer)
	})
	begin := time.Now()
	answers := w.Ask(t.Context(), address(t, "hanna@pgp-hangs.example"))
	if took := time.Since(begin); took > totalLimit {
		t.Errorf("took %s", took)
	}
	for _, a := range answers {
		if a.Word != fetch.Timeout || a.Absent {
			t.Errorf("%+v", a)
		}
	}
	if len(answers) != 5 {
		t.Errorf("%d answers", len(answers))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, a := range w.Ask(ctx, address(t, "a@modern.example")) {
		if a.Absent || a.Word == "" {
			t.Errorf("after the caller went: %+v", a)
		}
	}
}

// TestAMistakeOfOursIsOneAnswer: a panic ends with the source it came from.
func TestAMistakeOfOursIsOneAnswer(t *testing.T) {
	w := start(t, nil)
	w.all = append(w.all, source{"broken", func(context.Context, mail.Address) Answer { panic("dr.who@modern.example") }})
	if a := w.from(t, "broken", "a@modern.example"); a.Word != Defect || a.Absent {
		t.Errorf("%+v", a)
	}
}

func TestFactsAreBounded(t *testing.T) {
	f := newFacts(3)
	for _, key := range []string{"a", "b", "c", "a", "d"} {
		f.update(key, func(f *fact) { f.fails++ })
	}
	if len(f.by) != 3 || f.order.Len() != 3 {
		t.Errorf("%d places", len(f.by))
	}
	if a, _ := f.get("a"); a.fails != 2 {
		t.Error("the one used last was forgotten")
	}
	if b, _ := f.get("b"); b.fails != 0 {
		t.Error("the oldest is remembered")
	}
}

func TestWrongConfiguration(t *testing.T) {
	r, err := resolve.New(resolve.Deps{Servers: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []Deps{
		{KeyServers: []string{"https://keys.example"}}, {KeyServers: []string{""}},
		{Directories: []string{"keys.example"}}, {Directories: []string{"https://keys.example/"}}, {Directories: []string{"ldaps:///dc=x"}},
		{Directories: []string{"ldaps://user:pw@host/dc=x"}}, {Directories: []string{"ldaps://host/dc=x?mail"}}, {Directories: []string{"ldaps://host/not a dn"}},
	} {
		d.Resolver = r
		if _, err := New(d); err == nil {
			t.Errorf("taken: %v %v", d.KeyServers, d.Directories)
		}
	}
}

// TestEverySpellingOfAMailbox: the keyring tells mailboxes apart by their
// normal form, so how somebody writes an address must not decide about the key
// that all others use.
func TestEverySpellingOfAMailbox(t *testing.T) {
	w := start(t, func(n *fake.Internet, d *Deps) {
		key, der := n.PGPKey("cora@pgp-curve.example"), n.MailCertificate("simon@smime-rsa.example").Raw
		n.SetSecure("signed.example", true)
		for _, local := range []string{"jane", "Hugh", "jörg", "ÖZ"} {
			n.SetOPENPGPKEY(local+"@signed.example", key)
			n.SetSMIMEA(local+"@signed.example", der, 3)
			if err := n.PutWKD("signed.example", local, key, fake.WKDOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := n.PutHKPS("keys.example", local+"@signed.example", key, fake.NoWebFault); err != nil {
				t.Fatal(err)
			}
		}
		n.SetDNSFault(personal(address(t, "Bogus@signed.example"), "_openpgpkey"), fake.ServFail)
		if err := n.PutHandler("keys.example", "/vks/v1/by-email/", http.NotFoundHandler()); err != nil {
			t.Fatal(err)
		}
		// The page of one spelling is broken, that of the other says no.
		if err := n.PutWKD("signed.example", "ÄNNE", nil, fake.WKDOptions{Fault: fake.PageFails}); err != nil {
			t.Fatal(err)
		}
		d.KeyServers = []string{"keys.example"}
	})
	decomposed := "jo\u0308rg"
	for _, source := range []string{WKD, OPENPGPKEY, SMIMEA, HKPS} {
		for _, local := range []string{"jane", "Jane", "JANE", "Hugh", "jörg", "JÖRG", "Jörg", decomposed, "ÖZ"} {
			if a := w.from(t, source, local+"@signed.example"); len(a.Findings) != 1 || a.Absent || a.Certain || a.Word != "" {
				t.Errorf("%s of %s: %+v", source, local, a)
			}
		}
		for _, local := range []string{"nobody", "Nobody", "NÖBODY"} {
			if a := w.from(t, source, local+"@signed.example"); len(a.Findings) != 0 || !a.Absent || !a.Certain || a.Word != "" {
				t.Errorf("%s of %s: %+v", source, local, a)
			}
		}
	}
	if a := w.from(t, OPENPGPKEY, "Bogus@signed.example"); a.Absent || a.Certain || a.Word != fetch.DNS {
		t.Errorf("one spelling does not validate: %+v", a)
	}
	if a := w.from(t, WKD, "ÄNNE@signed.example"); a.Absent || a.Certain || a.Word != fetch.Status {
		t.Errorf("the page of one spelling fails: %+v", a)
	}
	// Some letters are longer when small: that is no address then.
	long := strings.Repeat("Ⱥ", 30) // two octets each, three when small
	if a := w.from(t, OPENPGPKEY, long+"@signed.example"); !a.Absent || a.Certain {
		t.Errorf("a spelling that could not be asked for: %+v", a)
	}
}

// TestWhatStandsForADomain: asked once, it answers for all its addresses.
func TestWhatStandsForADomain(t *testing.T) {
	w := start(t, nil)
	if got, ok := w.Standing(address(t, "a@modern.example")); ok {
		t.Errorf("nobody has asked, and it says %+v", got)
	}
	w.Ask(t.Context(), address(t, "a@modern.example"))
	questions := w.net.QueriesUnder("modern.example")
	got, ok := w.Standing(address(t, "b@modern.example"))
	if !ok || len(got) != len(w.Names()) {
		t.Fatalf("%v, %+v", ok, got)
	}
	for _, a := range got {
		if !a.Absent || a.Certain || a.Source == "" || !a.Until.After(w.clock.Now()) {
			t.Errorf("%+v", a)
		}
	}
	if n := w.net.QueriesUnder("modern.example"); n != questions {
		t.Errorf("%d questions for it", n-questions)
	}
	w.clock.Advance(25 * time.Hour)
	if _, ok := w.Standing(address(t, "b@modern.example")); ok {
		t.Error("it stands for ever")
	}
	w.Ask(t.Context(), address(t, "cora@pgp-curve.example"))
	if got, ok := w.Standing(address(t, "cora@pgp-curve.example")); ok {
		t.Errorf("a domain with keys says %+v", got)
	}
}
