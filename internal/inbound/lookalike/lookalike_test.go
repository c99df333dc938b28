package lookalike_test

import (
	"bufio"
	"strings"
	"testing"

	"golang.org/x/net/idna"

	"github.com/sealpost/sealpost/internal/inbound/lookalike"
	"github.com/sealpost/sealpost/internal/mail"
)

func ascii(t testing.TB, domain string) string {
	t.Helper()
	a, err := idna.Punycode.ToASCII(domain)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestDomains(t *testing.T) {
	const own = "northclinic.com"
	for domain, want := range map[string]bool{
		// The same to the eye.
		"northc1inic.com": true, "northciinic.com": true, "n0rthclinic.com": true, "north-clinic.com": true, "northdinic.com": true,
		"nоrthclinic.com": true, "nörthclinic.com": true, "nοrthсlinіс.com": true, "ոorthclinic.com": true,
		// Nearly.
		"northclnic.com": true, "northcliinic.com": true, "nortclinic.com": true, "northclinics.com": true, "nrothclinic.com": true, "northclinik.com": true,
		// Elsewhere.
		"northclinic.net": true, "northclinic.org.uk": true, "northclinic.co": true, "northc1inic.net": true,
		// Ours hidden in theirs.
		"northclinic.com.evil.example": true, "mail.northclinic.com.evil.example": true, "northclinic-com.evil.example": true,
		"northcliniccom.net": true, "northclinic-com.net": true, "login.northcliniccom.net": true,
		// Others.
		"southclinic.com": false, "clinic.com": false, "north.com": false, "example.org": false, "northern-clinic.com": false,
		"northclinic.com": false, "mail.northclinic.com": false, "a.b.northclinic.com": false, "com": false, "northclimbing.com": false,
		"mail.example.com": false, "northwestclinic.com": false, "evil.example": false,
	} {
		if got := lookalike.Similar(ascii(t, domain), own); got != want {
			t.Errorf("%s: %v", domain, got)
		}
	}
	for _, c := range []struct {
		domain, own string
		want        bool
	}{
		{"rnedical.org", "medical.org", true}, {"medica1.org", "medical.org", true}, {"vvest.org", "west.org", true}, {"wesst.org", "west.org", false},
		{"nhs.com", "nhs.uk", false}, {"nh5.org", "nhs.org", true}, {"nhx.org", "nhs.org", false}, {"ab.org", "abc.org", false},
		{"clinic.example.evil.test", "clinic.example", true}, {"clinics.nhs.uk", "clinic.nhs.uk", true}, {"surgery.nhs.uk", "clinic.nhs.uk", false},
		{"mail.clinic.example", "post.clinic.example", false}, // one registered both
		{"xn--bad-\xff", "clinic.example", false},
	} {
		if got := lookalike.Similar(c.domain, c.own); got != c.want {
			t.Errorf("%s for %s: %v", c.domain, c.own, got)
		}
	}
}

func header(t testing.TB, text string) mail.Header {
	t.Helper()
	h, err := mail.ParseHeader(bufio.NewReader(strings.NewReader(strings.ReplaceAll(text, "\n", "\r\n") + "\r\n\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestHeaders(t *testing.T) {
	ada := lookalike.NameKey("Ada Lovelace")
	own := lookalike.Own{Domains: []string{"northclinic.com", "clinic.example"}, Name: func(key string) bool { return key == ada }}
	for text, want := range map[string]string{
		"From: Ada Lovelace <ada@northclinic.com>":                                    "",
		"From: Ada Lovelace <ada@mail.northclinic.com>":                               "",
		"From: Bob <bob@example.org>":                                                 "",
		"From: Bob <bob@n0rthclinic.com>":                                             "domain From northclinic.com",
		"From: Bob <bob@example.org>\nReply-To: <x@northclinic.co>":                   "domain Reply-To northclinic.com",
		"From: Bob <bob@clinic.example.evil.test>":                                    "domain From clinic.example",
		"From: Ada Lovelace <ada1815@example.org>":                                    "name From ",
		"From: \"LOVELACE, Ada (Dr.)\" <x@example.org>":                               "name From ",
		"From: =?utf-8?q?Ad=D0=B0_Lovelac=D0=B5?= <x@example.org>":                    "name From ",
		"From: Ada <x@example.org>":                                                   "",
		"From: \"ada@northclinic.com\" <x@example.org>":                               "address From northclinic.com",
		"From: \"Ada (ada@Mail.NorthClinic.com)\" <x@example.org>":                    "address From northclinic.com",
		"From: \"bob@example.org\" <bob@example.org>":                                 "",
		"From: \"ada@northclinic.com\" <ada@northclinic.com>":                         "",
		"From: Bob <bob@example.org>\nSender: \"ada@clinic.example\" <x@example.org>": "address Sender clinic.example",
		"From: a@n0rthclinic.com, b@northclinic.net":                                  "domain From northclinic.com",
		"From: not an address":                                                        "",
		"Subject: nobody":                                                             "",
	} {
		var got []string
		for _, f := range lookalike.Look(header(t, text), own) {
			got = append(got, string(f.Kind)+" "+f.Field+" "+f.Like)
			if s := f.Sentence(); strings.ContainsAny(s, "@<>") || strings.Contains(s, "ovelace") {
				t.Errorf("the sentence says too much: %s", s)
			}
		}
		if s := strings.Join(got, "; "); s != want {
			t.Errorf("%s: %q", text, s)
		}
	}
}

func TestNames(t *testing.T) {
	for _, same := range [][]string{
		{"Ada Lovelace", "ada lovelace", "Lovelace, Ada", "Dr. Ada Lovelace, MD", "Ada K. Lovelace", "Аdа Lоvelace", "Ada  Love1ace", "Ádà Lövelace"},
		{"José Núñez", "Jose Nunez"},
	} {
		for _, name := range same {
			if lookalike.NameKey(name) != lookalike.NameKey(same[0]) {
				t.Errorf("%s is not %s", name, same[0])
			}
		}
	}
	for _, none := range []string{"", "Reception", "Dr. Ada", "A. B.", strings.Repeat("a b", 200)} {
		if key := lookalike.NameKey(none); key != "" {
			t.Errorf("%.20q has the key %q", none, key)
		}
	}
	if lookalike.NameKey("Ada Lovelace") == lookalike.NameKey("Ada Byron") {
		t.Error("two people are one")
	}
}

// FuzzOwn: whatever an organization is called, its own domains and what lies
// below them are never found, and looking never fails.
func FuzzOwn(f *testing.F) {
	f.Add("northclinic.com", "mail", "Ada Lovelace")
	f.Add("xn--nrthclinic-27a.com", "xn--a", "ada@northclinic.com")
	f.Add("rn.co.uk", "1", "0")
	f.Add("clinic.example", "clinic.example", "clinic.example@clinic.example")
	f.Fuzz(func(t *testing.T, domain, label, name string) {
		own, err := mail.ParseDomain(domain)
		if err != nil {
			return
		}
		if lookalike.Similar(own, own) {
			t.Fatalf("%s is found to be like itself", own)
		}
		below, err := mail.ParseDomain(label + "." + own)
		if err == nil && lookalike.Similar(below, own) {
			t.Fatalf("%s is found to be like %s", below, own)
		}
		h := mail.Header{}
		a, err := mail.ParseAddress("a@" + own)
		if err != nil || h.SetMailboxes("From", []mail.Mailbox{mail.NewMailbox(name, a)}) != nil {
			return
		}
		everybody := func(string) bool { return true }
		if got := lookalike.Look(h, lookalike.Own{Domains: []string{own}, Name: everybody}); len(got) > 0 {
			t.Fatalf("%v in mail of %s itself", got, own)
		}
	})
}

// Whoever changes one letter of a long name, or writes one that looks like it,
// is found.
func TestEachChangeOfOneLetterIsFound(t *testing.T) {
	const own = "lakesidehospital.org"
	label := strings.TrimSuffix(own, ".org")
	for i := range label {
		for _, changed := range []string{label[:i] + label[i+1:], label[:i] + "q" + label[i:], label[:i] + "q" + label[i+1:], label[:i] + "-" + label[i:]} {
			if strings.HasPrefix(changed, "-") || changed == label {
				continue
			}
			if !lookalike.Similar(changed+".org", own) {
				t.Errorf("%s is not found", changed)
			}
		}
	}
}
