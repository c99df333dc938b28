package dmarc

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/resolve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// outside is an internet and a resolver that asks it.
func outside(t *testing.T) (*fake.Internet, *resolve.Resolver) {
	t.Helper()
	n, err := fake.Start(t.Context(), fake.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	r, err := resolve.New(resolve.Deps{Servers: []string{n.ResolverAddr}, Timeout: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return n, r
}

func publish(n *fake.Internet, records map[string]string) {
	for name, text := range records {
		n.SetTXT("_dmarc."+name, strings.Split(text, "|")...)
	}
}

// TestSteps: at most eight questions whatever the name is (RFC 9989 section
// 4.10).
func TestSteps(t *testing.T) {
	for domain, want := range map[string]string{
		"example":           "example",
		"mail.example":      "mail.example example",
		"a.b.c.d.e.f.g":     "a.b.c.d.e.f.g b.c.d.e.f.g c.d.e.f.g d.e.f.g e.f.g f.g g",
		"a.b.c.d.e.f.g.h":   "a.b.c.d.e.f.g.h b.c.d.e.f.g.h c.d.e.f.g.h d.e.f.g.h e.f.g.h f.g.h g.h h",
		"z.a.b.c.d.e.f.g.h": "z.a.b.c.d.e.f.g.h b.c.d.e.f.g.h c.d.e.f.g.h d.e.f.g.h e.f.g.h f.g.h g.h h",
		strings.Repeat("x.", 100) + "mail.b.c.d.e.f.g.h": strings.Repeat("x.", 100) + "mail.b.c.d.e.f.g.h b.c.d.e.f.g.h c.d.e.f.g.h d.e.f.g.h e.f.g.h f.g.h g.h h",
	} {
		got := names(domain)
		if strings.Join(got, " ") != want || len(got) > walkMax {
			t.Errorf("%s: %v", domain, got)
		}
	}
}

func TestOrganizational(t *testing.T) {
	n, r := outside(t)
	publish(n, map[string]string{
		"clinic.example":      "v=DMARC1; p=reject",
		"mail.clinic.example": "v=DMARC1; p=none",
		"bank":                "v=DMARC1; p=reject; psd=y",
		"branch.one.bank":     "v=DMARC1; p=none",
		"uni.example":         "v=DMARC1; p=none",
		"med.uni.example":     "v=DMARC1; p=reject; psd=n",
		"two.example":         "v=DMARC1; p=none|v=DMARC1; p=reject",
		"unusable.example":    "v=DMARC1; p=nonsense",
	})
	for domain, want := range map[string]string{
		"clinic.example":                   "clinic.example",
		"a.mail.clinic.example":            "clinic.example", // the fewest labels
		"Mail.Clinic.Example.":             "clinic.example",
		"none.at.all.test":                 "none.at.all.test",
		"one.bank":                         "one.bank", // one label below the public suffix
		"a.branch.one.bank":                "one.bank",
		"two.labels.bank":                  "labels.bank",
		"bank":                             "bank", // where the walk starts it is no suffix
		"med.uni.example":                  "med.uni.example",
		"ward.med.uni.example":             "med.uni.example", // psd=n ends the walk
		"www.uni.example":                  "uni.example",
		"a.two.example":                    "a.two.example", // several records are none
		"mail.unusable.example":            "mail.unusable.example",
		"z.y.x.w.v.u.t.s.r.clinic.example": "clinic.example",
	} {
		got, err := NewWalker(r).Organizational(t.Context(), domain)
		if err != nil || got != want {
			t.Errorf("%s: %q, want %q, %v", domain, got, want, err)
		}
	}
	if n.Queries("_dmarc.y.x.w.v.u.t.s.r.clinic.example") != 0 {
		t.Error("a name of more than seven labels was asked that is not the first")
	}
	n.SetDNSFault("_dmarc.clinic.example", fake.ServFail)
	if got, err := NewWalker(r).Organizational(t.Context(), "mail.clinic.example"); err == nil {
		t.Errorf("with a DNS out of order: %q", got)
	}
}

func TestPolicy(t *testing.T) {
	n, r := outside(t)
	publish(n, map[string]string{
		"clinic.example":      "v=DMARC1; p=reject; sp=quarantine; np=reject; t=y",
		"own.clinic.example":  "v=DMARC1; p=none",
		"bank":                "v=DMARC1; p=none; sp=quarantine; np=reject; psd=y",
		"bad.clinic.example":  "v=DMARC1; p=nonsense",
		"many.clinic.example": "v=DMARC1; p=none|v=DMARC1; p=none",
		"other.example":       "v=spf1 -all",
	})
	n.SetTXT("there.clinic.example", "x")
	n.SetTXT("www.there.bank", "x")
	type want struct {
		at    string
		asked Disposition
	}
	for author, w := range map[string]want{
		"clinic.example":       {"clinic.example", Reject},
		"own.clinic.example":   {"own.clinic.example", None},
		"there.clinic.example": {"clinic.example", Quarantine},
		"not.clinic.example":   {"clinic.example", Reject},
		"many.clinic.example":  {"clinic.example", Quarantine}, // _dmarc below it makes the name exist (RFC 8020)
		"there.bank":           {"bank", Quarantine},
		"deep.not.bank":        {"bank", Reject},
		"other.example":        {"", ""},
		"bad.clinic.example":   {"", ""},
	} {
		p, err := NewWalker(r).Policy(t.Context(), author)
		if err != nil || p.Domain != w.at || p.Asked != w.asked || (p.BadRecord != nil) != (author == "bad.clinic.example") {
			t.Errorf("%s: at %q %q, bad %v, %v; want %+v", author, p.Domain, p.Asked, p.BadRecord, err, w)
		}
	}
	for _, fault := range []fake.DNSFault{fake.ServFail, fake.NoAnswer} {
		n.SetDNSFault("_dmarc.clinic.example", fault)
		if p, err := NewWalker(r).Policy(t.Context(), "there.clinic.example"); !errors.Is(err, resolve.ErrFailed) {
			t.Errorf("with fault %v: %+v, %v", fault, p, err)
		}
	}
}

func TestEvaluate(t *testing.T) {
	n, r := outside(t)
	publish(n, map[string]string{
		"clinic.example":  "v=DMARC1; p=reject",
		"strict.example":  "v=DMARC1; p=quarantine; adkim=s; aspf=s",
		"testing.example": "v=DMARC1; p=reject; t=y",
		"trying.example":  "v=DMARC1; p=quarantine; t=y",
		"broken.example":  "v=DMARC1; p=nonsense",
	})
	n.SetDNSFault("_dmarc.down.example", fake.ServFail)
	for _, c := range []struct {
		author string
		a      Authenticated
		word   Word
		what   Disposition
	}{
		{"clinic.example", Authenticated{SPF: "bounce.clinic.example"}, Pass, None},
		{"clinic.example", Authenticated{DKIM: []string{"other.example", "clinic.example"}}, Pass, None},
		{"www.clinic.example", Authenticated{DKIM: []string{"mail.clinic.example"}}, Pass, None},
		{"clinic.example", Authenticated{SPF: "clinic.example.evil.example", DKIM: []string{"evil.example"}}, Fail, Reject},
		{"clinic.example", Authenticated{}, Fail, Reject},
		{"clinic.example", Authenticated{DKIMUnsure: true}, TempError, None},
		{"clinic.example", Authenticated{SPF: "clinic.example", DKIMUnsure: true}, Pass, None},
		{"clinic.example", Authenticated{SPF: "down.example"}, TempError, None},
		{"strict.example", Authenticated{SPF: "www.strict.example", DKIM: []string{"www.strict.example"}}, Fail, Quarantine},
		{"strict.example", Authenticated{DKIM: []string{"STRICT.example"}}, Pass, None},
		{"testing.example", Authenticated{}, Fail, Quarantine},
		{"trying.example", Authenticated{}, Fail, None},
		{"nothing.test", Authenticated{SPF: "nothing.test"}, Absent, None},
		{"broken.example", Authenticated{SPF: "broken.example"}, PermError, None},
		{"down.example", Authenticated{SPF: "down.example"}, TempError, None},
	} {
		got := NewWalker(r).Evaluate(t.Context(), c.author, c.a)
		if got.Word != c.word || got.Disposition != c.what {
			t.Errorf("%s with %+v: %s %s, want %s %s", c.author, c.a, got.Word, got.Disposition, c.word, c.what)
		}
	}
}
