package mail

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sealpost/sealpost/internal/fault"
)

func TestParseAddress(t *testing.T) {
	long := strings.Repeat("a", 64)
	label := strings.Repeat("d", 63)
	for _, c := range []struct{ in, full, normal string }{
		{"a@example.org", "a@example.org", "a@example.org"},
		{"Dr.Who+Tardis@EXAMPLE.Org", "Dr.Who+Tardis@example.org", "dr.who+tardis@example.org"},
		{`"a b"@example.org`, `"a b"@example.org`, `"a b"@example.org`},
		{`"A\b"@example.org`, `Ab@example.org`, `ab@example.org`},
		{`"a@b"@example.org`, `"a@b"@example.org`, `"a@b"@example.org`},
		{`"a\"\\"@example.org`, `"a\"\\"@example.org`, `"a\"\\"@example.org`},
		{`""@example.org`, `""@example.org`, `""@example.org`},
		{"JÖRG@Bücher.example", "JÖRG@xn--bcher-kva.example", "jörg@xn--bcher-kva.example"},
		{"jo\u0308rg@example.org", "jo\u0308rg@example.org", "jörg@example.org"},
		{"a@XN--BCHER-KVA.example", "a@xn--bcher-kva.example", "a@xn--bcher-kva.example"},
		{"a@faß.example", "a@xn--fa-hia.example", "a@xn--fa-hia.example"},
		{"a@ab--cd.example", "a@ab--cd.example", "a@ab--cd.example"},
		{"a@localhost", "a@localhost", "a@localhost"},
		{long + "@example.org", long + "@example.org", long + "@example.org"},
		{"a@" + label + "." + label + ".org", "a@" + label + "." + label + ".org", "a@" + label + "." + label + ".org"},
	} {
		a, err := ParseAddress(c.in)
		if err != nil {
			t.Errorf("%q refused: %v", c.in, err)
			continue
		}
		if a.Reveal() != c.full || a.Normal() != c.normal {
			t.Errorf("%q: %q, normal %q; want %q, %q", c.in, a.Reveal(), a.Normal(), c.full, c.normal)
		}
	}
}

func TestParseAddressRefuses(t *testing.T) {
	for _, in := range []string{
		"", "@", "a", "a@", "@example.org", "a b@example.org", "a@b@example.org", ".a@example.org",
		"a.@example.org", "a..b@example.org", "a@example..org", "a@.example.org", "a@example.org.",
		"a@[192.0.2.1]", "a@[IPv6:2001:db8::1]", "a@192.0.2.1", "a@-x.example", "a@x-.example",
		"a@x_y.example", "a@x y.example", "a@example.org ", " a@example.org", "<a@example.org>",
		"a\r@example.org", "a@exam\nple.org", "a\x00@example.org", "\"a\r\nb\"@example.org", "a\x7f@example.org",
		"a\u0085@example.org", "a\u2028@example.org", "a\u202e@example.org", "a\u00a0b@example.org",
		"a\xff@example.org", `"a@example.org`, `"a\`, `"a"b@example.org`, `"a\ü"@example.org`, `a"b"@example.org`,
		strings.Repeat("a", 65) + "@example.org", "a@" + strings.Repeat("d", 64) + ".org",
		"a@" + strings.Repeat("abcdefg.", 32) + "org", "a@xn--a.example", strings.Repeat("a", 5000),
		"a(comment)@example.org", "a@example.org,b@example.org", "a\u200bb@example.org", "a\ufeff@example.org", "a@exam\u00adple.org",
	} {
		a, err := ParseAddress(in)
		if err == nil {
			t.Errorf("%q accepted as %q", in, a.Reveal())
			continue
		}
		if !fault.Is(err, fault.Invalid) || fault.From(err).Reason != "bad_address" {
			t.Errorf("%q: %v", in, err)
		}
		if !a.IsZero() {
			t.Errorf("%q: an address comes with the error", in)
		}
	}
}

func TestAddressShowsOnlyItsDomain(t *testing.T) {
	a, err := ParseAddress("secret@example.org")
	if err != nil {
		t.Fatal(err)
	}
	type hidden struct{ a Address }
	type shown struct {
		A Address
		M Mailbox
	}
	var log strings.Builder
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	logger.Info("x", "a", a, "s", shown{a, NewMailbox("secret", a)}, "h", hidden{a})
	if _, err := json.Marshal(map[string]any{"a": a, "s": shown{a, NewMailbox("secret", a)}, "m": map[Mailbox]int{}}); err == nil {
		t.Error("a map keyed by a mailbox should not marshal")
	}
	js, err := json.Marshal(shown{a, NewMailbox("secret", a)})
	if err != nil || !strings.Contains(string(js), "…@example.org") {
		t.Errorf("JSON %s, %v", js, err)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{a, &a, []Address{a}, map[Address]int{a: 1}, hidden{a}, &hidden{a}, shown{a, NewMailbox("secret", a)}} {
			out := fmt.Sprintf(format, v)
			if strings.Contains(out, "secret") || strings.Contains(out, "736563726574") {
				t.Errorf("%s of %T shows %s", format, v, out)
			}
		}
	}
	if strings.Contains(log.String(), "secret") || strings.Contains(string(js), "secret") {
		t.Errorf("shown in %s or %s", log.String(), js)
	}
	if got := a.String(); got != "…@example.org" {
		t.Errorf("String gives %s", got)
	}
}

func TestZeroAddress(t *testing.T) {
	var a Address
	if !a.IsZero() || a.Reveal() != "" || a.Normal() != "" || a.Local() != "" || a.NeedsSMTPUTF8() {
		t.Error("the zero address is not empty")
	}
}

func TestNeedsSMTPUTF8(t *testing.T) {
	for in, want := range map[string]bool{"a@bücher.example": false, "ü@example.org": true, `"ü "@example.org`: true} {
		a, err := ParseAddress(in)
		if err != nil || a.NeedsSMTPUTF8() != want {
			t.Errorf("%q: %v, %v", in, a.NeedsSMTPUTF8(), err)
		}
	}
}

func TestParseMailbox(t *testing.T) {
	for _, c := range []struct{ in, name, full string }{
		{"a@example.org", "", "a@example.org"},
		{" <a@example.org> ", "", "a@example.org"},
		{`"Who, Dr" <a@example.org>`, "Who, Dr", "a@example.org"},
		{"Dr Who <a@example.org>", "Dr Who", "a@example.org"},
		{"Jürgen <a@example.org>", "Jürgen", "a@example.org"},
		{"=?utf-8?q?J=C3=BCrgen?= <a@example.org>", "Jürgen", "a@example.org"},
		{"=?iso-8859-15?q?=A4?= <a@example.org>", "€", "a@example.org"},
		{`X <"a b"@example.org>`, "X", `"a b"@example.org`},
		{`"A \"B\"" <a@example.org>`, `A "B"`, "a@example.org"},
	} {
		name, a, err := ParseMailbox(c.in)
		if err != nil || name != c.name || a.Reveal() != c.full {
			t.Errorf("%q: %q %q %v", c.in, name, a.Reveal(), err)
		}
	}
	for _, in := range []string{
		"", "x", "g: a@example.org;", "x <a@example.org>, y <b@example.org>", "g: x <a@example.org>",
		"x <a@example.org> y", "=?utf-8?q?a=0D=0Ab?= <a@example.org>", "a\r\nBcc: b@example.org <a@example.org>",
		"x <a@[192.0.2.1]>", "x <>", "x <a@example.org", strings.Repeat("x", 3000) + "<a@example.org>",
		"\x00 <a@example.org>", "\xff <a@example.org>", "=?utf-8?q?=00?= <a@example.org>",
	} {
		if name, a, err := ParseMailbox(in); err == nil {
			t.Errorf("%q accepted: %q %q", in, name, a.Reveal())
		} else if !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// checkAddress holds what is true of everything ParseAddress accepts.
func checkAddress(t reporter, in string) {
	a, err := ParseAddress(in)
	if err != nil {
		return
	}
	full := a.Reveal()
	if strings.ContainsAny(full, "\r\n\x00") || len(full) > maxLocal+1+maxDomain {
		t.Errorf("%q gives %q", in, full)
	}
	again, err := ParseAddress(full)
	if err != nil || again != a {
		t.Errorf("%q reads back as %q, %v", full, again.Reveal(), err)
	}
	if !isASCII(a.Domain()) || a.Domain() != strings.ToLower(a.Domain()) {
		t.Errorf("domain %q", a.Domain())
	}
	if n, err := ParseAddress(a.Normal()); err == nil && n.Normal() != a.Normal() {
		t.Errorf("normal form %q is not stable: %q", a.Normal(), n.Normal())
	}
	if _, m, err := ParseMailbox(full); err != nil || m != a {
		t.Errorf("%q as a mailbox: %q, %v", full, m.Reveal(), err)
	}
}

func TestAddressProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		local := rapid.String().Draw(t, "local")
		quoted := rapid.StringMatching(`"([ !#-\[\]-~]|\\[ -~])*"`).Draw(t, "quoted")
		domain := rapid.StringMatching(`[a-zA-Z0-9äßİ中-]{1,10}(\.[a-zA-Z0-9éñ-]{1,10}){0,3}`).Draw(t, "domain")
		checkAddress(t, local+"@"+domain)
		checkAddress(t, quoted+"@"+domain)
		checkAddress(t, quoted+"@example.org")
		checkAddress(t, rapid.String().Draw(t, "any"))
	})
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"a@example.org", `"a b\""@example.org`, "ü@bücher.example", "İ@xn--bcher-kva.example", "a@[192.0.2.1]", "@", `"\`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { checkAddress(t, s) })
}

func FuzzParseMailbox(f *testing.F) {
	for _, s := range []string{"Dr Who <a@example.org>", `"Who, Dr" <"a b"@example.org>`, "=?utf-8?q?a=0D=0Ab?= <a@example.org>", "g: <a@example.org>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, a, err := ParseMailbox(s)
		if err != nil {
			return
		}
		if strings.ContainsAny(name, "\r\n\x00") {
			t.Errorf("name %q", name)
		}
		checkAddress(t, a.Reveal())
	})
}
