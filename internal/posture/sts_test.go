package posture

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fake"
)

func TestPolicies(t *testing.T) {
	w := start(t, dbtest.SQLite(t))
	for _, tc := range []struct {
		domain, mode, word string
		enforce, match     bool
	}{
		{"sts-enforce.example", modeEnforce, "", true, true},
		{"sts-wildcard.example", modeEnforce, "", true, true},
		{"sts-unlisted-mx.example", modeEnforce, "", true, false},
		{"sts-testing.example", modeTesting, "", false, false},
		{"sts-none.example", modeNone, "", false, false},
		{"modern.example", "", "", false, false},
		{"sts-bad-cert.example", "", STSCertificate, false, false},
		{"sts-redirect.example", "", STSStatus, false, false},
		{"sts-oversized.example", "", STSTooLarge, false, false},
		{"sts-missing.example", "", STSStatus, false, false},
		{"sts-hangs.example", "", STSTimeout, false, false},
	} {
		p := w.refresh(t, tc.domain)
		b := p.STSFor("mx." + tc.domain)
		if p.STS.Mode != tc.mode || p.STS.LastError != tc.word || b.Enforce != tc.enforce || b.Match != tc.match {
			t.Errorf("%s%+v", p, b)
		}
		if p.Facts().STSEnforce != tc.enforce {
			t.Errorf("%s: facts %+v", tc.domain, p.Facts())
		}
		if hostsOf(p) == "" {
			t.Errorf("%s has no mail hosts", tc.domain)
		}
	}
}

// TestTwoPoliciesAreTheFirst: what is repeated is not heard, but for more mail
// hosts (RFC 8461 section 3.2).
func TestTwoPoliciesAreTheFirst(t *testing.T) {
	one, two := fake.STSPolicy("enforce", time.Hour, "mx.a.example"), fake.STSPolicy("none", 2*time.Hour, "mx.b.example")
	p, err := parsePolicy(one + two)
	if err != nil || p.mode != modeEnforce || p.maxAge != 3600 || strings.Join(p.mx, " ") != "mx.a.example mx.b.example" {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestHostilePolicyHosts: whatever a policy host does, the policy that is held
// stays in force, and it takes little time and memory.
func TestHostilePolicyHosts(t *testing.T) {
	w := start(t, dbtest.SQLite(t))
	const domain, host = "sts-enforce.example", "mx.sts-enforce.example"
	none := fake.STSPolicy("none", time.Hour)
	w.refresh(t, domain)
	head := func(w http.ResponseWriter, kind string) { w.Header().Set("Content-Type", kind) }
	bomb := pack(40 << 20) // packed beforehand: it takes longer than a fetch may
	if len(bomb) >= maxPolicy {
		t.Fatalf("the bomb has %d octets, which are refused unopened", len(bomb))
	}
	for i, tc := range []struct {
		what, word string
		serve      http.HandlerFunc
	}{
		{"10 MB in pieces", STSTooLarge, func(w http.ResponseWriter, _ *http.Request) {
			head(w, "text/plain")
			piece := []byte(strings.Repeat("x-filler: x\n", 1<<10))
			for range 10 << 20 / len(piece) {
				if _, err := w.Write(piece); err != nil {
					return
				}
			}
		}},
		{"a bomb", STSSyntax, func(w http.ResponseWriter, _ *http.Request) {
			head(w, "text/plain")
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb)
		}},
		{"compressed though nobody asked", STSSyntax, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "" {
				t.Error("something compressed is asked for")
			}
			head(w, "text/plain")
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, none)
			_ = z.Close()
		}},
		{"trickles", STSTimeout, func(w http.ResponseWriter, r *http.Request) {
			head(w, "text/plain")
			for i := 0; r.Context().Err() == nil; i++ {
				_, _ = io.WriteString(w, none[i%len(none):i%len(none)+1])
				_ = http.NewResponseController(w).Flush()
				time.Sleep(5 * time.Millisecond)
			}
		}},
		{"HTML", STSType, func(w http.ResponseWriter, _ *http.Request) {
			head(w, "text/html; charset=utf-8")
			_, _ = io.WriteString(w, none)
		}},
		{"two types", STSType, func(w http.ResponseWriter, _ *http.Request) {
			head(w, "text/html, text/plain")
			_, _ = io.WriteString(w, none)
		}},
		{"no type", STSType, func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			_, _ = io.WriteString(w, none)
		}},
		{"moved for now", STSStatus, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://mta-sts."+domain+"/moved.txt", http.StatusTemporaryRedirect)
		}},
		{"a part", STSStatus, func(w http.ResponseWriter, _ *http.Request) {
			head(w, "text/plain")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, none)
		}},
		{"cut off", STSConnect, func(w http.ResponseWriter, _ *http.Request) {
			head(w, "text/plain")
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, none)
		}},
		{"nothing", STSSyntax, func(w http.ResponseWriter, _ *http.Request) { head(w, "text/plain") }},
	} {
		if err := w.net.PutSTS(domain, fake.STS{ID: strconv.Itoa(i + 2), Serve: tc.serve}); err != nil {
			t.Fatal(err)
		}
		w.clock.Advance(6 * time.Minute)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began, fetches := time.Now(), w.net.STSFetches(domain)
		p := w.refresh(t, domain)
		runtime.ReadMemStats(&after)
		b := p.STSFor(host)
		if !b.Enforce || !b.Match || b.ID != "20260101" || p.STS.LastError != tc.word {
			t.Errorf("%s: %s", tc.what, p)
		}
		if n := w.net.STSFetches(domain) - fetches; n != 1 {
			t.Errorf("%s: %d fetches", tc.what, n)
		}
		// The host itself, which is of this process, pours.
		if took, used := time.Since(began), after.TotalAlloc-before.TotalAlloc; took > 2*time.Second || used > 16<<20 {
			t.Errorf("%s took %s and %d octets", tc.what, took, used)
		}
	}
}

// pack gives a number of zeros, compressed.
func pack(n int) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(make([]byte, n))
	_ = z.Close()
	return b.Bytes()
}

// TestPolicyOutlivesFailures: a policy holds for its max_age whatever happens
// to its host and its record, over a restart too (RFC 8461 section 5.1).
func TestPolicyOutlivesFailures(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := start(t, d)
		const domain, host = "sts-enforce.example", "mx.sts-enforce.example"
		text := fake.STSPolicy("enforce", 7*24*time.Hour, host)
		w.refresh(t, domain)
		step := func(what, word string) {
			t.Helper()
			w.clock.Advance(6 * time.Minute)
			w.restart(t)
			p := w.refresh(t, domain)
			if b := p.STSFor(host); !b.Enforce || !b.Match || b.ID != "20260101" || p.STS.LastError != word {
				t.Errorf("%s: %s", what, p)
			}
		}
		put := func(s fake.STS) {
			t.Helper()
			if err := w.net.PutSTS(domain, s); err != nil {
				t.Fatal(err)
			}
		}
		put(fake.STS{ID: "2", Policy: text, Fault: fake.STSBadCert})
		step("a new id, and a bad certificate", STSCertificate)
		put(fake.STS{ID: "2", Policy: "version: STSv1\nmode: nonsense\n"})
		step("a new id, and nonsense", STSSyntax)
		w.net.SetTXT("_mta-sts."+domain, "v=STSv1; id=3;", "v=STSv1; id=4;")
		step("two records", STSRecord)
		w.net.SetTXT("_mta-sts." + domain)
		step("no record", "")
		w.net.SetDNSFault("_mta-sts."+domain, fake.ServFail)
		step("no answer", STSDNS)
		w.clock.Advance(7 * 24 * time.Hour)
		if p, _ := w.Cached(t.Context(), domain); p.Facts().STSEnforce {
			t.Errorf("enforced after max_age: %s", p)
		}
		if p := w.refresh(t, domain); p.STS.Mode != "" {
			t.Errorf("holds after max_age: %s", p)
		}
	})
}

func TestPolicyIsFetchedAgain(t *testing.T) {
	w := start(t, dbtest.SQLite(t))
	const domain, host = "sts-enforce.example", "mx.sts-enforce.example"
	w.refresh(t, domain)
	w.clock.Advance(6 * time.Minute)
	w.refresh(t, domain)
	if n := w.net.STSFetches(domain); n != 1 {
		t.Errorf("%d fetches under the same id", n)
	}
	if err := w.net.SetSTS(domain, "2", fake.STSPolicy("testing", time.Hour, host)); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(6 * time.Minute)
	if p := w.refresh(t, domain); p.STS.Mode != modeTesting || p.STS.ID != "2" || p.STSFor(host).Enforce {
		t.Errorf("the new policy does not hold: %s", p)
	}
	// Before a policy runs out it is fetched again under the same id.
	w.clock.Advance(40 * time.Minute)
	before := w.net.STSFetches(domain)
	p := w.refresh(t, domain)
	if w.net.STSFetches(domain) != before+1 || !p.STS.ExpiresAt.Equal(w.clock.Now().Add(time.Hour)) {
		t.Errorf("not renewed: %s", p)
	}
}

func TestMatch(t *testing.T) {
	p := Posture{STS: STS{MX: []string{"mail.example.com", "*.example.net"}}}
	for host, want := range map[string]bool{
		"mail.example.com": true, "MAIL.example.com": true, "mail.example.com.": true, "www.mail.example.com": false,
		"a.example.net": true, "a.b.example.net": false, "example.net": false, ".example.net": false, "aexample.net": false, "": false,
	} {
		if p.STSMatch(host) != want {
			t.Errorf("match of %q is not %v", host, want)
		}
	}
}

func TestParsePolicy(t *testing.T) {
	const good = "version: STSv1\r\nmode: enforce\r\nmx: MX.Example.com\r\nmx: *.example.net\r\nmax_age: 86400\r\n"
	p, err := parsePolicy(good)
	if err != nil || p.mode != modeEnforce || strings.Join(p.mx, " ") != "mx.example.com *.example.net" || p.maxAge != 86400 {
		t.Fatalf("%+v, %v", p, err)
	}
	for _, ok := range []string{
		strings.ReplaceAll(good, "\r\n", "\n"),
		good + "mode: none\r\nfuture_field: anything\r\n\r\n",
		"max_age:0\nversion:STSv1\nmode:none",
		strings.Replace(good, "86400", "31557600", 1),
		strings.ReplaceAll(good, "\r\n", "\r\r\n"),
		strings.ReplaceAll(good, "\r\n", "\n\n"),
		strings.Replace(good, "\r\n", "\n", 2),
	} {
		if _, err := parsePolicy(ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range []string{
		"", good[16:], "version: STSv2\r\n" + good, "version: STSv1\nmode: none\n", "version: STSv1\nmax_age: 1\n",
		"version: STSv1\nmode: enforce\nmax_age: 1\n", "version: STSv1\nmode: testing\nmax_age: 1\n",
		strings.Replace(good, "86400", "31557601", 1), strings.Replace(good, "86400", "-1", 1),
		strings.Replace(good, "86400", "+1", 1), strings.Replace(good, "86400", "", 1), strings.Replace(good, "86400", "1e3", 1),
		strings.Replace(good, "enforce", "Enforce", 1), strings.Replace(good, "MX.", "*.*.", 1), strings.Replace(good, "MX.", "m x.", 1),
		strings.ReplaceAll(good, "\r\n", "\r"), strings.ReplaceAll(good, "\r\n", "\n\r"), strings.ReplaceAll(good, "\r\n", "\v"),
		strings.ReplaceAll(good, "\r\n", "\u2028"), strings.ReplaceAll(good, "\r\n", " "), "\ufeff" + good, "\r" + good, " " + good,
		strings.Replace(good, "STSv1", "STSv1\rmode: none", 1), strings.Replace(good, "MX.Example.com", "mx.example.com\rmx: evil.example", 1),
		strings.Replace(good, "MX.Example.com", "192.0.2.1", 1), good + "no colon\n", good + "bad key: x\n", good + "\x00: x\n",
		good + strings.Repeat("mx: a.example\n", maxMX), good + strings.Repeat(" \n", maxPolicy),
	} {
		if p, err := parsePolicy(bad); err == nil {
			t.Errorf("%.80q is taken: %+v", bad, p)
		}
	}
}

func TestPolicyID(t *testing.T) {
	for _, tc := range []struct {
		id      string
		records []string
	}{
		{"20160831085700Z", []string{"v=STSv1; id=20160831085700Z;"}},
		{"1", []string{"v=spf1 -all", "v=STSv1;id=1"}},
		{"1", []string{"v=STSv1 ; id=1 ; other=x"}},
		{"", []string{"v=STSv1; id=1;", "v=STSv1; id=1;"}},
		{"", []string{"v=STSv1; id=1;", "v=STSv1"}},
		{"", nil},
		{"", []string{"v=STSv1"}},
		{"", []string{"v=STSv1; id=;"}},
		{"", []string{"v=STSv1; id=a-b;"}},
		{"", []string{"v=STSv1; id=" + strings.Repeat("1", 33)}},
		{"", []string{"v=STSv1; nonsense; id=1"}},
		{"", []string{"v=STSv10; id=1"}},
		{"", []string{" v=STSv1; id=1"}},
		{"", []string{"id=1; v=STSv1"}},
	} {
		id, ok := policyID(tc.records)
		if ok != (tc.id != "") || ok && id != tc.id {
			t.Errorf("%q gives %q, %v", tc.records, id, ok)
		}
	}
}

// FuzzPolicy: what is taken says the same when it is written out again.
func FuzzPolicy(f *testing.F) {
	f.Add("version: STSv1\r\nmode: enforce\r\nmx: mx.example.com\r\nmx: *.example.net\r\nmax_age: 86400\r\n")
	f.Add("version: STSv1\nmode: none\nmax_age: 0\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePolicy(text)
		if err != nil {
			return
		}
		again := fake.STSPolicy(p.mode, time.Duration(p.maxAge)*time.Second, p.mx...)
		q, err := parsePolicy(again)
		if err != nil || q.mode != p.mode || q.maxAge != p.maxAge || strings.Join(q.mx, " ") != strings.Join(p.mx, " ") {
			t.Errorf("%q became %+v, then %+v, %v", text, p, q, err)
		}
		if p.maxAge < 0 || p.maxAge > maxAge || len(p.mx) > maxMX || p.mode == modeEnforce && len(p.mx) == 0 {
			t.Errorf("%+v", p)
		}
		for _, pattern := range p.mx {
			if strings.HasPrefix(pattern, "*.") && matchMX(pattern, pattern[2:]) {
				t.Errorf("%q matches its own parent", pattern)
			}
		}
	})
}

// FuzzPolicyID: an id that is taken is one of RFC 8461 section 3.1, and two
// records never give one.
func FuzzPolicyID(f *testing.F) {
	f.Add("v=STSv1; id=20160831085700Z;")
	f.Add("v=STSv1;id=1;x=y")
	f.Fuzz(func(t *testing.T, record string) {
		id, ok := policyID([]string{record})
		if ok && (!isID(id) || !strings.HasPrefix(record, "v=STSv1")) {
			t.Errorf("%q gives %q", record, id)
		}
		if _, two := policyID([]string{record, "v=STSv1; id=1"}); two && strings.HasPrefix(record, "v=STSv1;") {
			t.Errorf("two records give an id: %q", record)
		}
	})
}
