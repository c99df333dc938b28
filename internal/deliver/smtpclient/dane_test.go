package smtpclient

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/policy"
)

// maker issues certificates: a root, an intermediate and leaves.
type maker struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

var year = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func (m *maker) make(t testing.TB, name string, ca bool, names ...string) *maker {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<60))
	tmpl := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: year, NotAfter: year.AddDate(1, 0, 0),
		IsCA: ca, BasicConstraintsValid: true, DNSNames: names, KeyUsage: x509.KeyUsageDigitalSignature}
	if ca {
		tmpl.KeyUsage = x509.KeyUsageCertSign
	} else {
		tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	parent, signer := tmpl, key
	if m != nil {
		parent, signer = m.cert, m.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &maker{cert, key}
}

// shows is what a host with this key shows, with the chain above it.
func (m *maker) shows(chain ...*maker) *tls.Certificate {
	c := &tls.Certificate{Certificate: [][]byte{m.cert.Raw}, PrivateKey: m.key, Leaf: m.cert}
	for _, up := range chain {
		c.Certificate = append(c.Certificate, up.cert.Raw)
	}
	return c
}

func (m *maker) tlsa(u, s, match uint8) TLSA { return TLSA(fake.TLSAOf(u, s, match, m.cert)) }

const proved = "mx.proved.example"

var provedHost sync.Once

// proving makes the host of proved.example show a certificate and gives the
// target.
func proving(t *testing.T, show *tls.Certificate, change func(*fake.Behavior)) Target {
	t.Helper()
	provedHost.Do(func() {
		if err := internet.AddDomain(fake.Domain{Name: "proved.example", Host: &fake.Behavior{}}); err != nil {
			t.Fatal(err)
		}
	})
	if err := internet.Change(proved, func(b *fake.Behavior) {
		*b = fake.Behavior{Own: show}
		if change != nil {
			change(b)
		}
	}); err != nil {
		t.Fatal(err)
	}
	return target(t, proved, "proved.example")
}

func inYear(days int) Deps {
	d := deps()
	d.Clock = clock.NewFake(year.AddDate(0, 0, days))
	return d
}

func TestDANE(t *testing.T) {
	root := (*maker)(nil).make(t, "root", true)
	middle := root.make(t, "middle", true)
	leaf := middle.make(t, "leaf", false, proved)
	foreign := middle.make(t, "foreign", false, "mx.else.example")
	stranger := (*maker)(nil).make(t, "stranger", true)
	names := []string{proved, "proved.example"}
	full := leaf.shows(middle, root)
	const mismatch = "weak encrypted dane_mismatch temporary"
	for what, tc := range map[string]struct {
		show    *tls.Certificate
		names   []string
		records []TLSA
		day     int
		want    string
		by      string
		word    string
	}{
		"its own key":                      {leaf.shows(), names, []TLSA{leaf.tlsa(3, 1, 1)}, 1, "ok", ByDANEEE, ""},
		"its own certificate":              {leaf.shows(), names, []TLSA{leaf.tlsa(3, 0, 2)}, 1, "ok", ByDANEEE, ""},
		"its own certificate, whole":       {leaf.shows(), names, []TLSA{leaf.tlsa(3, 0, 0)}, 1, "ok", ByDANEEE, ""},
		"its own key, whole":               {leaf.shows(), names, []TLSA{leaf.tlsa(3, 1, 0)}, 1, "ok", ByDANEEE, ""},
		"its own, for another name":        {foreign.shows(), names, []TLSA{foreign.tlsa(3, 1, 1)}, 1, "ok", ByDANEEE, ""},
		"its own, long expired":            {leaf.shows(), names, []TLSA{leaf.tlsa(3, 1, 1)}, 700, "ok", ByDANEEE, ""},
		"one of two":                       {leaf.shows(), names, []TLSA{foreign.tlsa(3, 1, 1), leaf.tlsa(3, 1, 1)}, 1, "ok", ByDANEEE, ""},
		"another's":                        {leaf.shows(), names, []TLSA{foreign.tlsa(3, 1, 1)}, 1, mismatch, ByNone, CertNoTLSA},
		"an issuer under usage 3":          {full, names, []TLSA{middle.tlsa(3, 1, 1)}, 1, mismatch, ByNone, CertNoTLSA},
		"its issuer":                       {leaf.shows(middle), names, []TLSA{middle.tlsa(2, 1, 1)}, 1, "ok", ByDANETA, ""},
		"its root":                         {full, names, []TLSA{root.tlsa(2, 0, 1)}, 1, "ok", ByDANETA, ""},
		"its root, which is not shown":     {leaf.shows(middle), names, []TLSA{root.tlsa(2, 0, 1)}, 1, mismatch, ByNone, CertNoTLSA},
		"its root, whole in the record":    {leaf.shows(middle), names, []TLSA{root.tlsa(2, 0, 0)}, 1, "ok", ByDANETA, ""},
		"the root's key in the record":     {leaf.shows(middle), names, []TLSA{root.tlsa(2, 1, 0)}, 1, "ok", ByDANETA, ""},
		"the issuer's key in the record":   {leaf.shows(), names, []TLSA{middle.tlsa(2, 1, 0)}, 1, "ok", ByDANETA, ""},
		"a stranger's key in the record":   {full, names, []TLSA{stranger.tlsa(2, 1, 0)}, 1, mismatch, ByNone, CertNoTLSA},
		"a stranger shown beside":          {leaf.shows(stranger), names, []TLSA{stranger.tlsa(2, 1, 1)}, 1, mismatch, ByNone, CertUnknownAuthority},
		"its issuer, expired":              {leaf.shows(middle), names, []TLSA{middle.tlsa(2, 1, 1)}, 700, mismatch, ByNone, CertExpired},
		"its issuer, for another name":     {foreign.shows(middle), names, []TLSA{middle.tlsa(2, 1, 1)}, 1, mismatch, ByNone, CertWrongName},
		"its issuer, for the alias's name": {foreign.shows(middle), []string{proved, "mx.else.example"}, []TLSA{middle.tlsa(2, 1, 1)}, 1, "ok", ByDANETA, ""},
		"itself under usage 2":             {leaf.shows(), names, []TLSA{leaf.tlsa(2, 1, 1)}, 1, mismatch, ByNone, CertNoTLSA},
	} {
		t.Run(what, func(t *testing.T) {
			tg := proving(t, tc.show, nil)
			tg.DANE = &DANE{Base: "base.example", Names: tc.names, Records: tc.records}
			// An enforced policy that the host breaks, and one that it keeps, change nothing (RFC 8461 section 2).
			tg.STS = STS{Enforce: true, Match: len(what)%2 == 0}
			c, ev, err := Dial(t.Context(), inYear(tc.day), tg, policy.Encrypted)
			if got := verdict(err); got != tc.want || ev.VerifiedBy != tc.by || ev.VerifyError != tc.word {
				t.Fatalf("got %q by %q %q, want %q by %q %q", got, ev.VerifiedBy, ev.VerifyError, tc.want, tc.by, tc.word)
			}
			if c == nil {
				return
			}
			defer c.Close()
			if ev.Grade != policy.Authenticated || ev.TLSA != tc.records[len(tc.records)-1].String() || internet.LastHello(proved).Name != "base.example" {
				t.Errorf("%+v, asked for %q", ev, internet.LastHello(proved).Name)
			}
		})
	}
	onlyGreetings(t, "proved.example")
}

// TestDANEWithoutUsableRecords: TLS is mandatory, and proves nobody (RFC 7672
// section 2.2); MTA-STS counts then.
func TestDANEWithoutUsableRecords(t *testing.T) {
	leaf := (*maker)(nil).make(t, "own", false, proved)
	tg := proving(t, leaf.shows(), nil)
	tg.DANE = &DANE{Base: proved}
	c, ev, err := Dial(t.Context(), inYear(1), tg, policy.Encrypted)
	if err != nil || ev.Grade != policy.Encrypted || ev.TLSA != TLSAUnusable || ev.VerifiedBy != ByNone {
		t.Fatalf("%v, %+v", err, ev)
	}
	_ = c.Close()
	tg.STS = STS{Enforce: true, Match: true}
	if _, _, err := Dial(t.Context(), inYear(1), tg, policy.Encrypted); verdict(err) != "weak encrypted sts_certificate lasting" {
		t.Error(err)
	}
}

// TestDANEIsNeverStripped: what looks like a host without TLS is tried again,
// and a host of which nobody can tell is not even asked (RFC 7672 section
// 2.1.2).
func TestDANEIsNeverStripped(t *testing.T) {
	leaf := (*maker)(nil).make(t, "own", false, proved)
	tg := proving(t, leaf.shows(), func(b *fake.Behavior) { b.StartTLS = fake.StartTLSAbsent })
	for _, records := range [][]TLSA{nil, {leaf.tlsa(3, 1, 1)}} {
		tg.DANE = &DANE{Base: proved, Records: records}
		if _, _, err := Dial(t.Context(), inYear(1), tg, policy.Encrypted); verdict(err) != "weak none starttls_not_offered temporary" {
			t.Error(err)
		}
	}
	before := internet.Stats(proved).Connections
	tg.DANE = &DANE{Base: proved, Failed: true}
	if _, _, err := Dial(t.Context(), inYear(1), tg, policy.Encrypted); verdict(err) != "weak none dane_lookup temporary" {
		t.Error(err)
	}
	if internet.Stats(proved).Connections != before {
		t.Error("the host was connected to")
	}
	onlyGreetings(t, "proved.example")
}

func sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}

func TestPin(t *testing.T) {
	root := (*maker)(nil).make(t, "root", true)
	leaf := root.make(t, "leaf", false, proved)
	other := root.make(t, "other", false, "mx.else.example")
	stranger := (*maker)(nil).make(t, "stranger", true)
	const mismatch = "weak encrypted pin_mismatch temporary"
	hosts := []string{proved}
	for what, tc := range map[string]struct {
		pin  Pin
		show *maker
		day  int
		want string
		word string
	}{
		"its certificate":                 {Pin{Certificates: [][]byte{sum(leaf.cert.Raw)}}, leaf, 1, "ok", ""},
		"its key":                         {Pin{Keys: [][]byte{sum(leaf.cert.RawSubjectPublicKeyInfo)}}, leaf, 1, "ok", ""},
		"its key, expired":                {Pin{Keys: [][]byte{sum(leaf.cert.RawSubjectPublicKeyInfo)}}, leaf, 700, "ok", ""},
		"the key before or the next":      {Pin{Keys: [][]byte{sum(other.cert.RawSubjectPublicKeyInfo), sum(leaf.cert.RawSubjectPublicKeyInfo)}}, leaf, 1, "ok", ""},
		"its authority":                   {Pin{CAs: []*x509.Certificate{root.cert}, Hosts: hosts}, leaf, 1, "ok", ""},
		"its authority, by a wildcard":    {Pin{CAs: []*x509.Certificate{root.cert}, Hosts: []string{"*.proved.example"}}, leaf, 1, "ok", ""},
		"another's certificate":           {Pin{Certificates: [][]byte{sum(other.cert.Raw)}}, leaf, 1, mismatch, CertNotPinned},
		"a key where a certificate is":    {Pin{Certificates: [][]byte{sum(leaf.cert.RawSubjectPublicKeyInfo)}}, leaf, 1, mismatch, CertNotPinned},
		"another authority":               {Pin{CAs: []*x509.Certificate{stranger.cert}, Hosts: hosts}, leaf, 1, mismatch, CertNotPinned},
		"its authority, expired":          {Pin{CAs: []*x509.Certificate{root.cert}, Hosts: hosts}, leaf, 700, mismatch, CertExpired},
		"its authority, for another name": {Pin{CAs: []*x509.Certificate{root.cert}, Hosts: hosts}, other, 1, mismatch, CertWrongName},
		"its authority, no host named":    {Pin{CAs: []*x509.Certificate{root.cert}}, leaf, 1, mismatch, CertNotPinned},
		"another host":                    {Pin{Keys: [][]byte{sum(leaf.cert.RawSubjectPublicKeyInfo)}, Hosts: []string{"mx2.proved.example", "*.deep.proved.example"}}, leaf, 1, "weak none pin_host temporary", ""},
	} {
		t.Run(what, func(t *testing.T) {
			tg := proving(t, tc.show.shows(root), nil)
			tg.Pin = &tc.pin
			// What the domain publishes counts for nothing beside a pin.
			tg.STS = STS{Enforce: true}
			tg.DANE = &DANE{Base: proved, Records: []TLSA{tc.show.tlsa(3, 1, 1)}, Failed: len(what)%2 == 0}
			c, ev, err := Dial(t.Context(), inYear(tc.day), tg, policy.Encrypted)
			if got := verdict(err); got != tc.want || ev.VerifyError != tc.word {
				t.Fatalf("got %q %q, want %q %q", got, ev.VerifyError, tc.want, tc.word)
			}
			if c == nil {
				return
			}
			defer c.Close()
			if ev.Grade != policy.Authenticated || ev.VerifiedBy != ByPin {
				t.Errorf("%+v", ev)
			}
		})
	}
}

// TestClientCertificate: it is shown to a host that asks, and one that does
// not ask gets no mail.
func TestClientCertificate(t *testing.T) {
	leaf := (*maker)(nil).make(t, "own", false, proved)
	us := (*maker)(nil).make(t, "us", false)
	tg := proving(t, leaf.shows(), func(b *fake.Behavior) { b.AskClient = true })
	if c, _, err := Dial(t.Context(), inYear(1), tg, policy.Encrypted); err != nil || internet.LastHello(proved).Client != nil {
		t.Fatalf("without one: %v, %v", err, internet.LastHello(proved).Client)
	} else {
		_ = c.Close()
	}
	tg.Client = us.shows()
	c, ev, err := Dial(t.Context(), inYear(1), tg, policy.Encrypted)
	if err != nil || !internet.LastHello(proved).Client.Equal(us.cert) || len(ev.ClientCert) != 64 {
		t.Fatalf("%v, %+v", err, ev)
	}
	_ = c.Close()
	tg = proving(t, leaf.shows(), nil)
	tg.Client = us.shows()
	if _, _, err := Dial(t.Context(), inYear(1), tg, policy.Encrypted); verdict(err) != "weak encrypted client_certificate_not_asked temporary" {
		t.Error(err)
	}
}

// TestAConnectionIsNotSharedAcrossArrangements: pins, client certificates, TLSA
// base names and floors are part of what a connection may serve.
func TestAConnectionIsNotSharedAcrossArrangements(t *testing.T) {
	leaf := (*maker)(nil).make(t, "own", false, proved)
	us, them := (*maker)(nil).make(t, "us", false), (*maker)(nil).make(t, "them", false)
	key := sum(leaf.cert.RawSubjectPublicKeyInfo)
	first := proving(t, leaf.shows(), func(b *fake.Behavior) { b.AskClient = true })
	first.Client, first.Pin = us.shows(), &Pin{Keys: [][]byte{key}}
	c, _, err := Dial(t.Context(), inYear(1), first, policy.Encrypted)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for what, tc := range map[string]struct {
		change func(*Target)
		want   string
	}{
		"the same":                  {func(*Target) {}, "ok"},
		"another domain":            {func(t *Target) { t.Domain = "other.example" }, "ok"},
		"another pin":               {func(t *Target) { t.Pin = &Pin{Keys: [][]byte{make([]byte, 32)}} }, "weak encrypted pin_mismatch temporary"},
		"other hosts":               {func(t *Target) { t.Pin = &Pin{Keys: [][]byte{key}, Hosts: []string{"mx.other.example"}} }, "weak authenticated pin_host temporary"},
		"no pin":                    {func(t *Target) { t.Pin = nil }, "ok"},
		"no pin, but a floor":       {func(t *Target) { t.Pin, t.Floor = nil, policy.Authenticated }, "weak encrypted certificate lasting"},
		"another client":            {func(t *Target) { t.Client = them.shows() }, "other: smtpclient: the connection shows another client certificate"},
		"no client":                 {func(t *Target) { t.Client = nil }, "other: smtpclient: the connection shows another client certificate"},
		"another TLSA base":         {func(t *Target) { t.DANE = &DANE{Base: "x.example"} }, "other: smtpclient: the connection was opened to another name"},
		"records that do not match": {func(tg *Target) { tg.Pin, tg.DANE = nil, &DANE{Base: proved, Records: []TLSA{us.tlsa(3, 1, 1)}} }, "weak encrypted dane_mismatch temporary"},
		"records that match":        {func(tg *Target) { tg.Pin, tg.DANE = nil, &DANE{Base: proved, Records: []TLSA{leaf.tlsa(3, 1, 1)}} }, "ok"},
	} {
		tg := first
		tc.change(&tg)
		_, err := c.Rebind(tg, policy.Encrypted)
		if got := verdict(err); got != tc.want {
			t.Errorf("%s: %q, want %q", what, got, tc.want)
		}
		if _, err := c.Send(t.Context(), artifact(t, "a@"+tg.Domain, policy.Encrypted, "Subject: x\r\n\r\nx\r\n"), time.Hour); err == nil && tc.want != "ok" {
			t.Errorf("%s: mail passed after a refused Rebind", what)
		}
	}
}
