package verdict

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"
	"go.uber.org/goleak"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/dmarc"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/resolve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const host = "mail.clinic.test"

func outside(t *testing.T) (*fake.Internet, *Judge) {
	t.Helper()
	n, err := fake.Start(t.Context(), fake.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	r, err := resolve.New(resolve.Deps{Servers: []string{n.ResolverAddr}, Timeout: 60 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return n, New(Deps{Resolver: r, Clock: clock.System{}, Hostname: host, Timeout: 2 * time.Second})
}

func address(t *testing.T, s string) mail.Address {
	t.Helper()
	if s == "" {
		return mail.Address{}
	}
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (j *Judge) judge(t *testing.T, ip, ehlo, from, message string) Verdict {
	t.Helper()
	h, body, err := Split(strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	v, err := j.Check(t.Context(), Arrival{IP: netip.MustParseAddr(ip), EHLO: ehlo, MailFrom: address(t, from), Header: h, Body: body})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// The signed message of RFC 8463 appendix A.3, with its keys of A.2.
const (
	rfc8463 = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n" +
		" d=football.example.com; i=@football.example.com;\r\n" +
		" q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n" +
		" subject : date : message-id : from : subject : date;\r\n" +
		" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n" +
		" b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r\n" +
		" Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r\n" +
		"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n" +
		" d=football.example.com; i=@football.example.com;\r\n" +
		" q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n" +
		" date : message-id : from : subject : date;\r\n" +
		" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n" +
		" b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3\r\n" +
		" DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\r\n" +
		" dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=\r\n" +
		"From: Joe SixPack <joe@football.example.com>\r\n" +
		"To: Suzie Q <suzie@shopping.example.net>\r\n" +
		"Subject: Is dinner ready?\r\n" +
		"Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n" +
		"Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n" +
		"\r\nHi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n"
	brisbane = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
	test     = "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/b" +
		"yYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
)

// TestStandardsOwnMessage: the example of RFC 8463 passes by both keys, from
// whatever address it comes, and an octet changed makes it fail.
func TestStandardsOwnMessage(t *testing.T) {
	n, j := outside(t)
	n.SetTXT("brisbane._domainkey.football.example.com", brisbane)
	n.SetTXT("test._domainkey.football.example.com", test)
	n.SetTXT("_dmarc.example.com", "v=DMARC1; p=reject")
	v := j.judge(t, "192.0.2.1", "relay.example.org", "list@example.org", rfc8463)
	want := host + "; spf=none smtp.mailfrom=example.org; dkim=pass header.d=football.example.com; " +
		"dkim=pass header.d=football.example.com; dmarc=pass header.from=football.example.com"
	if got := j.Field(v); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	v = j.judge(t, "192.0.2.1", "relay.example.org", "list@example.org", strings.Replace(rfc8463, "We lost", "We won", 1))
	want = host + "; spf=none smtp.mailfrom=example.org; dkim=fail header.d=football.example.com; " +
		"dkim=fail header.d=football.example.com; dmarc=fail header.from=football.example.com policy.dmarc=reject"
	if got := j.Field(v); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// Nobody knows the key now, so nobody can say that it fails.
	n.SetDNSFault("brisbane._domainkey.football.example.com", fake.ServFail)
	n.SetDNSFault("test._domainkey.football.example.com", fake.NoAnswer)
	v = j.judge(t, "192.0.2.1", "relay.example.org", "", rfc8463)
	if v.DMARC.Word != dmarc.TempError || !v.Temporary() || v.DKIM[0].Result != TempError || v.DKIM[1].Result != TempError {
		t.Errorf("with a DNS out of order: %+v", v)
	}
}

const plain = "From: A <a@clinic.example>\r\nSubject: x\r\n\r\nbody\r\n"

func TestSPF(t *testing.T) {
	n, j := outside(t)
	for name, text := range map[string]string{
		"clinic.example":        "v=spf1 ip4:192.0.2.0/24 include:inner.example -all",
		"inner.example":         "v=spf1 ip6:2001:db8::/32 ?all",
		"soft.example":          "v=spf1 ~all",
		"loop.example":          "v=spf1 include:loop.example -all",
		"bad.example":           "v=spf1 ipv4:nonsense -all",
		"sick.example":          "v=spf1 include:servfail.example -all",
		"deep.example":          "v=spf1 include:d1.example -all",
		"relay.clinic.example":  "v=spf1 ip4:192.0.2.7 -all",
		"l.macro.example":       "v=spf1 exists:%{l}.users.macro.example -all",
		"evil.example":          "v=spf1 +all",
		"victim.example":        "v=spf1 -all",
		"void.example":          "v=spf1 a:v1.test a:v2.test a:v3.test ip4:192.0.2.0/24 -all",
		"_dmarc.clinic.example": "v=DMARC1; p=quarantine",
	} {
		n.SetTXT(name, text)
	}
	for i := range 12 {
		n.SetTXT(fmt.Sprintf("d%d.example", i), fmt.Sprintf("v=spf1 include:d%d.example -all", i+1))
	}
	n.SetA("mike.users.macro.example", netip.MustParseAddr("127.0.0.2"))
	for _, c := range []struct {
		ip, ehlo, from string
		want           Word
		dmarc          dmarc.Word
	}{
		{"192.0.2.9", "x.example", "a@clinic.example", Pass, dmarc.Pass},
		{"::ffff:192.0.2.9", "x.example", "a@clinic.example", Pass, dmarc.Pass},
		{"2001:db8::1", "x.example", "a@clinic.example", Pass, dmarc.Pass},
		{"198.51.100.1", "x.example", "a@clinic.example", Fail, dmarc.Fail},
		{"192.0.2.7", "relay.clinic.example", "", Pass, dmarc.Pass}, // RFC 7208 section 2.4
		{"192.0.2.7", "[192.0.2.7]", "", None, dmarc.Fail},
		{"192.0.2.7", "localhost", "", None, dmarc.Fail},
		{"192.0.2.1", "x.example", "a@soft.example", SoftFail, dmarc.Fail},
		{"192.0.2.1", "x.example", "a@nothing.test", None, dmarc.Fail},
		{"192.0.2.1", "x.example", "a@loop.example", PermError, dmarc.Fail},
		{"192.0.2.1", "x.example", "a@deep.example", PermError, dmarc.Fail},
		{"192.0.2.1", "x.example", "a@bad.example", PermError, dmarc.Fail},
		{"192.0.2.1", "x.example", "a@void.example", PermError, dmarc.Fail},
		{"192.0.2.1", "x.example", "a@sick.example", TempError, dmarc.TempError},
		{"192.0.2.1", "x.example", "a@dns-timeout.example", TempError, dmarc.TempError},
		{"192.0.2.1", "x.example", "mike@l.macro.example", Pass, dmarc.Fail},
		{"192.0.2.1", "x.example", "zoe@l.macro.example", Fail, dmarc.Fail},
		// A quoted local part does not choose another domain to ask.
		{"192.0.2.1", "x.example", `"a@evil.example"@victim.example`, Fail, dmarc.Fail},
	} {
		v := j.judge(t, c.ip, c.ehlo, c.from, plain)
		if v.SPF.Result != c.want || v.DMARC.Word != c.dmarc {
			t.Errorf("%s as %q from a sender at %q: spf %s, dmarc %s; want %s, %s", c.ip, c.ehlo, address(t, c.from).Domain(), v.SPF.Result, v.DMARC.Word, c.want, c.dmarc)
		}
	}
}

// TestAuthor: what programs could read differently has no author, and so no
// pass.
func TestAuthor(t *testing.T) {
	n, j := outside(t)
	n.SetTXT("clinic.example", "v=spf1 +all")
	n.SetTXT("_dmarc.clinic.example", "v=DMARC1; p=reject")
	for header, want := range map[string]dmarc.Word{
		"From: a@clinic.example\r\n":                                     dmarc.Pass,
		"From: \"b@other.example\" <a@Clinic.Example>\r\n":               dmarc.Pass,
		"From: a@clinic.example, b@clinic.example\r\n":                   dmarc.Pass,
		"From: a@clinic.example, b@bank.example\r\n":                     dmarc.PermError,
		"From: a@clinic.example\r\nFrom: b@bank.example\r\n":             dmarc.PermError,
		"From: a@clinic.example\r\nFROM : a@clinic.example\r\n":          dmarc.PermError,
		"From: <a@clinic.example\r\n":                                    dmarc.PermError,
		"From: Friends: ;\r\n":                                           dmarc.PermError,
		"Sender: a@clinic.example\r\n":                                   dmarc.PermError,
		"From: a@clinic.example <b@bank.example> <c@clinic.example>\r\n": dmarc.PermError,
	} {
		if v := j.judge(t, "192.0.2.1", "x.example", "a@clinic.example", header+"\r\nx\r\n"); v.DMARC.Word != want {
			t.Errorf("%q: %s", header, v.DMARC.Word)
		}
	}
}

// sign signs a message with a key that it publishes.
func sign(t *testing.T, n *fake.Internet, key crypto.Signer, domain, selector, message string, o dkim.SignOptions) string {
	t.Helper()
	record := "v=DKIM1; k=ed25519; p="
	switch k := key.(type) {
	case ed25519.PrivateKey:
		record += base64.StdEncoding.EncodeToString(k.Public().(ed25519.PublicKey))
	case *rsa.PrivateKey:
		der, err := x509.MarshalPKIXPublicKey(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		record = "v=DKIM1; p=" + base64.StdEncoding.EncodeToString(der)
	}
	n.SetTXT(selector+"._domainkey."+domain, record)
	o.Domain, o.Selector, o.Signer = domain, selector, key
	var out bytes.Buffer
	if err := dkim.Sign(&out, strings.NewReader(message), &o); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestSignatures(t *testing.T) {
	n, j := outside(t)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := sign(t, n, ed, "clinic.example", "one", plain, dkim.SignOptions{})
	expired := sign(t, n, ed, "clinic.example", "two", plain, dkim.SignOptions{Expiration: time.Now().Add(-time.Hour)})
	n.SetTXT("gone._domainkey.clinic.example", "v=DKIM1; p=")
	weak := "v=DKIM1; p=" + weakKey(t)
	n.SetTXT("weak._domainkey.clinic.example", weak)
	with := func(tags string) string { return "DKIM-Signature: " + tags + "\r\n" + plain }
	const rest = "; h=from; bh=eA==; b=eA=="
	for name, c := range map[string]struct {
		message string
		want    []Signature
	}{
		"good":     {good, []Signature{{Pass, "clinic.example"}}},
		"expired":  {expired, []Signature{{PermError, "clinic.example"}}},
		"longer":   {strings.Replace(good, "body", "body and more", 1), []Signature{{Fail, "clinic.example"}}},
		"none":     {plain, []Signature{}},
		"revoked":  {with("v=1; a=rsa-sha256; d=clinic.example; s=gone" + rest), []Signature{{PermError, "clinic.example"}}},
		"no key":   {with("v=1; a=rsa-sha256; d=clinic.example; s=none" + rest), []Signature{{PermError, "clinic.example"}}},
		"512 bits": {with("v=1; a=rsa-sha256; d=clinic.example; s=weak" + rest), []Signature{{PermError, "clinic.example"}}},
		"SHA-1":    {with("v=1; a=rsa-sha1; d=clinic.example; s=one" + rest), []Signature{{PermError, "clinic.example"}}},
		"no DNS":   {with("v=1; a=rsa-sha256; d=servfail.example; s=x" + rest), []Signature{{PermError, "servfail.example"}}},
		"length":   {strings.Replace(good, "v=1;", "v=1; l=6;", 1), []Signature{{Fail, "clinic.example"}}},
		"garbage":  {with("@@@@"), []Signature{{PermError, ""}}},
		"no name":  {with("v=1; a=rsa-sha256; d=a..b; s=" + strings.Repeat("x", 400) + rest), []Signature{{PermError, ""}}},
		"injected": {with("v=1; a=rsa-sha256; d=x;y=clinic.example; s=one" + rest), nil},
	} {
		v := j.judge(t, "192.0.2.1", "x.example", "", c.message)
		if c.want != nil && fmt.Sprint(v.DKIM) != fmt.Sprint(c.want) {
			t.Errorf("%s: %+v", name, v.DKIM)
		}
		if strings.ContainsAny(j.Field(v), "\r\n") {
			t.Errorf("%s: %q", name, j.Field(v))
		}
	}
	many := strings.Repeat(good[:len(good)-len(plain)], 50)
	v := j.judge(t, "192.0.2.1", "x.example", "", many+plain)
	if len(v.DKIM) != maxSignatures || n.Queries("one._domainkey.clinic.example") > 2*maxSignatures {
		t.Errorf("%d signatures, %d questions", len(v.DKIM), n.Queries("one._domainkey.clinic.example"))
	}
}

// weakKey is the public part of an RSA key of 512 bits, which crypto/rsa does
// not make.
func weakKey(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	key.N.Rsh(key.N, 512).SetBit(key.N, 0, 1)
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

// TestBodyThatFails: reading that fails is the caller's error, and nothing
// waits behind.
func TestBodyThatFails(t *testing.T) {
	n, j := outside(t)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signed := sign(t, n, ed, "clinic.example", "one", plain, dkim.SignOptions{})
	twice := signed[:len(signed)-len(plain)] + signed
	h, _, err := Split(strings.NewReader(twice))
	if err != nil {
		t.Fatal(err)
	}
	lost := errors.New("lost")
	_, err = j.Check(t.Context(), Arrival{IP: netip.MustParseAddr("192.0.2.1"), Header: h, Body: io.MultiReader(strings.NewReader("bo"), broken{lost})})
	if !errors.Is(err, lost) {
		t.Errorf("%v", err)
	}
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

// TestMark: of the fields that came with the message those stay that cannot be
// taken for ours (RFC 8601 section 5).
func TestMark(t *testing.T) {
	j := New(Deps{Hostname: host, Clock: clock.System{}})
	gone := []string{
		host + "; dmarc=pass header.from=bank.example",
		"  MAIL.clinic.TEST 1; none",
		"(a comment (nested) \\) here) " + host + " (x); spf=pass",
		`"mail.clinic.test"; spf=pass`,
		`"mail\.clinic.test"; spf=pass`,
		host + ".; spf=pass",
		host + "/1; spf=pass",
		"inner." + host + "; spf=pass",
		"", "(never closed", `"never closed`, `mail"x; spf=pass`,
	}
	stay := []string{"other.example; spf=pass", "clinic.test; none", "x" + host + "; none", `"other.example" 1; none`}
	var message strings.Builder
	for i := range max(len(gone), len(stay)) {
		if i < len(gone) {
			message.WriteString("authentication-RESULTS: " + gone[i] + "\r\n")
		}
		if i < len(stay) {
			message.WriteString("Authentication-Results: " + stay[i] + "\r\n")
		}
		message.WriteString("X-Keep: 1\r\n")
	}
	h, _, err := Split(strings.NewReader(message.String() + "\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	v := Verdict{SPF: SPF{Result: None}, DMARC: dmarc.Result{Word: dmarc.Absent}}
	out, err := j.Mark(h, v)
	if err != nil {
		t.Fatal(err)
	}
	want := append([]string{host + "; spf=none; dkim=none; dmarc=none"}, stay...)
	if got := out.Values(fieldName); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("left: %q", got)
	}
	if len(out.Values("X-Keep")) != len(gone) || !strings.HasPrefix(string(out.Bytes()), "Authentication-Results: "+host) {
		t.Errorf("other fields: %s", out.Bytes())
	}
}

// FuzzAuthservID: a field whose first word is our name, as another reader finds
// it, does not stay.
func FuzzAuthservID(f *testing.F) {
	f.Add("", "; spf=pass")
	f.Add("(x(y)\\)) ", " 1; none")
	f.Add("\t ", "(c);dkim=pass")
	f.Fuzz(func(t *testing.T, before, after string) {
		if _, ok := skipComments(before + "x"); !ok || strings.Trim(before, " \t") != "" && !strings.HasSuffix(strings.TrimRight(before, " \t"), ")") {
			return
		}
		if rest, _ := skipComments(before + "x"); rest != "x" || after != "" && !strings.ContainsRune(" \t;(/", rune(after[0])) {
			return
		}
		j := New(Deps{Hostname: host})
		if !j.ours(before + host + after) {
			t.Fatalf("%q stays", before+host+after)
		}
	})
}
