package zone_test

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/account/accounttest"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/custody/custodytest"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/dkim"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/fetch"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/posture"
	"github.com/sealpost/sealpost/internal/resolve"
	"github.com/sealpost/sealpost/internal/zone"
)

var ctx = context.Background()

const (
	domain   = "sender.example"
	hostname = "out.sender.example"
	bounces  = "bounce.sender.example"
)

var source = netip.MustParseAddr("198.51.100.7")

// site is an installation with one organization, on an internet of its own.
type site struct {
	*testing.T
	net          *fake.Internet
	db           *db.DB
	clock        *clock.Fake
	accounts     *account.Accounts
	custody      *custody.Custody
	org          id.ID
	keys         []dkim.Key
	bounces      string
	certificates []*x509.Certificate
	*zone.Service
}

func open(t *testing.T, d *db.DB) *site {
	n, err := fake.Start(ctx, fake.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	s := &site{T: t, net: n, db: d, clock: clock.NewFake(time.Now()), custody: custodytest.New(t, d)}
	s.accounts = account.New(account.Deps{DB: d, Custody: s.custody, Clock: s.clock})
	s.org = accounttest.Org(t, s.accounts, "sender")
	resolver, err := resolve.New(resolve.Deps{Servers: []string{n.ResolverAddr}, Trusted: true, Timeout: 500 * time.Millisecond})
	s.must(err)
	s.Service = zone.New(zone.Deps{DB: d, Clock: s.clock, Log: slog.New(slog.DiscardHandler), Accounts: s.accounts, Resolver: resolver,
		Fetch:    fetch.New(fetch.Deps{Resolver: resolver, Roots: n.CAPool(), Clock: clock.System{}, AnyAddress: true, HTTPSPort: n.HTTPSPort}),
		Hostname: hostname, SMTPPort: n.SMTPPort,
		Keys:         func(context.Context, id.ID, string) ([]dkim.Key, error) { return s.keys, nil },
		ReturnPath:   func(context.Context, id.ID, string) (string, error) { return s.bounces, nil },
		Certificates: func() ([]*x509.Certificate, error) { return s.certificates, nil },
	})
	return s
}

func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// good publishes everything that the check asks for.
func (s *site) good() {
	s.keys = []dkim.Key{{Domain: domain, Selector: "sp1r", Algorithm: dkim.RSA, State: dkim.Active, Value: "v=DKIM1; k=rsa; p=AAAA"}}
	s.bounces = bounces
	s.certificates = []*x509.Certificate{s.certificate(hostname)}
	p, err := s.SetPolicy(ctx, s.org, zone.Policy{Domain: domain, Mode: zone.Enforce, MaxAge: 7 * 24 * time.Hour})
	s.must(err)
	s.net.SetA(hostname, source)
	s.net.SetPTR(source, hostname)
	s.net.SetTXT(domain, "unrelated", "v=spf1 a:"+hostname+" -all")
	s.net.SetTXT("sp1r._domainkey."+domain, "v=DKIM1; k=rsa; p=AAAA")
	s.net.SetTXT("_dmarc."+domain, "v=DMARC1; p=reject; rua=mailto:dmarc@"+bounces)
	s.net.SetMX(bounces, fake.MX{Preference: 10, Host: hostname})
	s.net.SetTXT(bounces, "v=spf1 a:"+hostname+" -all")
	s.net.SetMX(domain, fake.MX{Preference: 10, Host: hostname})
	s.must(s.net.SetSTS(domain, "x", strings.ReplaceAll(p.Text(), "\r", "")))
	s.net.SetTXT(p.Record().Name, p.Record().Value)
	s.net.SetTXT("_smtp._tls."+domain, "v=TLSRPTv1; rua=mailto:tlsrpt@"+bounces)
	s.net.SetSecure(domain, true)
	s.net.PutTLSA(hostname, fake.TLSAOf(3, 1, 1, s.certificates[0]))
}

func (s *site) certificate(name string) *x509.Certificate {
	s.Helper()
	c, err := s.net.Issue([]string{name}, fake.CertOptions{})
	s.must(err)
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	s.must(err)
	return leaf
}

func (s *site) check() zone.Report {
	s.Helper()
	r, err := s.Check(ctx, s.org, domain)
	s.must(err)
	return r
}

func TestAllIsGood(t *testing.T) {
	s := open(t, dbtest.SQLite(t))
	s.good()
	r := s.check()
	if r.State != zone.Good {
		t.Errorf("%s", r.State)
	}
	seen := map[string]bool{}
	for _, i := range r.Items {
		seen[i.Check] = true
		if i.Status != zone.OK || len(i.Publish) > 0 {
			t.Errorf("%+v", i)
		}
	}
	for _, check := range []string{zone.SPF, zone.DKIM, zone.DMARC, zone.ReturnPath, zone.MTASTS, zone.TLSRPT, zone.TLSA, zone.PTR} {
		if !seen[check] {
			t.Errorf("%s was not looked at", check)
		}
	}
}

// Each way to be wrong is found, weighed, and answered with the record.
func TestWhatIsWrongIsFound(t *testing.T) {
	const include = "v=spf1 include:a.big.example include:b.big.example -all"
	for name, tc := range map[string]struct {
		change  func(*site)
		check   string
		status  zone.Status
		state   zone.State
		publish string // a line of the zone file, or nothing
	}{
		"no SPF":          {func(s *site) { s.net.SetTXT(domain) }, zone.SPF, zone.Missing, zone.Bad, `sender.example. 3600 IN TXT "v=spf1 a:out.sender.example ~all"`},
		"two SPF records": {func(s *site) { s.net.SetTXT(domain, "v=spf1 -all", "v=spf1 mx -all") }, zone.SPF, zone.Wrong, zone.Bad, ""},
		"SPF without us": {func(s *site) { s.net.SetTXT(domain, "v=spf1 ip4:203.0.113.0/24 -all") }, zone.SPF, zone.Wrong, zone.Bad,
			`sender.example. 3600 IN TXT "v=spf1 a:out.sender.example ip4:203.0.113.0/24 -all"`},
		"SPF for everybody": {func(s *site) { s.net.SetTXT(domain, "v=spf1 a:out.sender.example +all") }, zone.SPF, zone.Wrong, zone.Bad,
			`sender.example. 3600 IN TXT "v=spf1 a:out.sender.example ~all"`},
		"SPF for everybody by an include": {func(s *site) {
			s.net.SetTXT(domain, "v=spf1 include:a.big.example -all")
			s.net.SetTXT("a.big.example", "v=spf1 ip4:0.0.0.0/0 -all")
		}, zone.SPF, zone.Wrong, zone.Bad, `sender.example. 3600 IN TXT "v=spf1 a:out.sender.example ~all"`},
		"SPF with a mistake": {func(s *site) { s.net.SetTXT(domain, "v=spf1 ip4:nothing -all") }, zone.SPF, zone.Wrong, zone.Bad, `sender.example. 3600 IN TXT "v=spf1 a:out.sender.example ~all"`},
		"SPF with too many questions": {func(s *site) {
			s.net.SetTXT(domain, "v=spf1 a:"+hostname+" include:a.big.example include:b.big.example -all")
			five := strings.Repeat("a:"+hostname+" ", 5) + "-all"
			s.net.SetTXT("a.big.example", "v=spf1 "+five)
			s.net.SetTXT("b.big.example", "v=spf1 "+five)
		}, zone.SPF, zone.Wrong, zone.Bad, ""},
		"SPF that includes what fails": {func(s *site) {
			s.net.SetTXT(domain, include)
			s.net.SetDNSFault("a.big.example", fake.ServFail)
		}, zone.SPF, zone.Unknown, zone.Bad, ""},
		"DNS that fails": {func(s *site) { s.net.SetDNSFault(domain, fake.ServFail) }, zone.SPF, zone.Unknown, zone.Bad, ""},

		"no DKIM key": {func(s *site) { s.keys = nil }, zone.DKIM, zone.Missing, zone.Bad, ""},
		"no DKIM record": {func(s *site) { s.net.SetTXT("sp1r._domainkey." + domain) }, zone.DKIM, zone.Missing, zone.Bad,
			`sp1r._domainkey.sender.example. 3600 IN TXT "v=DKIM1; k=rsa; p=AAAA"`},
		"another DKIM record":  {func(s *site) { s.net.SetTXT("sp1r._domainkey."+domain, "v=DKIM1; p=BBBB") }, zone.DKIM, zone.Wrong, zone.Bad, `sp1r._domainkey.sender.example. 3600 IN TXT "v=DKIM1; k=rsa; p=AAAA"`},
		"a new DKIM key waits": {func(s *site) { s.addKey(dkim.New) }, zone.DKIM, zone.Missing, zone.Warning, `sp2r._domainkey.sender.example. 3600 IN TXT "v=DKIM1; k=rsa; p=CCCC"`},
		"an old DKIM record is gone": {func(s *site) { s.addKey(dkim.Retiring) }, zone.DKIM, zone.Missing, zone.Warning,
			`sp2r._domainkey.sender.example. 3600 IN TXT "v=DKIM1; k=rsa; p=CCCC"`},

		"no DMARC": {func(s *site) { s.net.SetTXT("_dmarc." + domain) }, zone.DMARC, zone.Missing, zone.Bad,
			`_dmarc.sender.example. 3600 IN TXT "v=DMARC1; p=none; rua=mailto:dmarc@bounce.sender.example"`},
		"DMARC that does nothing": {func(s *site) { s.net.SetTXT("_dmarc."+domain, "v=DMARC1; p=none; rua=mailto:x@"+domain) }, zone.DMARC, zone.Wrong, zone.Warning,
			`_dmarc.sender.example. 3600 IN TXT "v=DMARC1; p=quarantine; rua=mailto:x@sender.example"`},
		"DMARC without reports": {func(s *site) { s.net.SetTXT("_dmarc."+domain, "v=DMARC1; p=reject;") }, zone.DMARC, zone.Wrong, zone.Warning,
			`_dmarc.sender.example. 3600 IN TXT "v=DMARC1; p=reject; rua=mailto:dmarc@bounce.sender.example"`},
		"DMARC with a mistake": {func(s *site) { s.net.SetTXT("_dmarc."+domain, "v=DMARC1; p=maybe") }, zone.DMARC, zone.Wrong, zone.Bad,
			`_dmarc.sender.example. 3600 IN TXT "v=DMARC1; p=none; rua=mailto:dmarc@bounce.sender.example"`},
		"DMARC that nothing of ours can pass": {func(s *site) {
			s.keys = nil
			s.net.SetTXT("_dmarc."+domain, "v=DMARC1; p=reject; aspf=s; rua=mailto:x@"+domain)
		}, zone.DMARC, zone.Wrong, zone.Bad, ""},

		"no return path":         {func(s *site) { s.bounces = "" }, zone.ReturnPath, zone.Missing, zone.Warning, ""},
		"bounces come elsewhere": {func(s *site) { s.net.SetMX(bounces, fake.MX{Preference: 1, Host: "mx.example"}) }, zone.ReturnPath, zone.Wrong, zone.Bad, `bounce.sender.example. 3600 IN MX 10 out.sender.example.`},
		"bounces come nowhere":   {func(s *site) { s.net.SetMX(bounces) }, zone.ReturnPath, zone.Missing, zone.Bad, `bounce.sender.example. 3600 IN MX 10 out.sender.example.`},
		"no SPF of the return path": {func(s *site) { s.net.SetTXT(bounces) }, zone.ReturnPath, zone.Missing, zone.Bad,
			`bounce.sender.example. 3600 IN TXT "v=spf1 a:out.sender.example ~all"`},

		"MTA-STS not announced":   {func(s *site) { s.net.SetTXT("_mta-sts." + domain) }, zone.MTASTS, zone.Missing, zone.Bad, "_mta-sts.sender.example. 3600 IN TXT \"v=STSv1; id="},
		"MTA-STS of another id":   {func(s *site) { s.net.SetTXT("_mta-sts."+domain, "v=STSv1; id=1;") }, zone.MTASTS, zone.Wrong, zone.Bad, "_mta-sts.sender.example. 3600 IN TXT \"v=STSv1; id="},
		"MTA-STS not to be had":   {func(s *site) { s.sts(fake.STSMissing) }, zone.MTASTS, zone.Wrong, zone.Bad, "mta-sts.sender.example. 3600 IN CNAME out.sender.example."},
		"MTA-STS certificate bad": {func(s *site) { s.sts(fake.STSBadCert) }, zone.MTASTS, zone.Wrong, zone.Bad, "mta-sts.sender.example. 3600 IN CNAME out.sender.example."},
		"MTA-STS forgets a host": {func(s *site) {
			s.net.SetMX(domain, fake.MX{Preference: 10, Host: hostname}, fake.MX{Preference: 20, Host: "other.example"})
		}, zone.MTASTS, zone.Wrong, zone.Bad, ""},

		"no TLS-RPT": {func(s *site) { s.net.SetTXT("_smtp._tls." + domain) }, zone.TLSRPT, zone.Missing, zone.Warning, `_smtp._tls.sender.example. 3600 IN TXT "v=TLSRPTv1; rua=mailto:tlsrpt@bounce.sender.example"`},
		"two TLS-RPT records": {func(s *site) {
			s.net.SetTXT("_smtp._tls."+domain, "v=TLSRPTv1; rua=mailto:a@b", "v=TLSRPTv1;rua=mailto:c@d")
		}, zone.TLSRPT, zone.Wrong, zone.Warning, `_smtp._tls.sender.example. 3600 IN TXT "v=TLSRPTv1; rua=mailto:tlsrpt@bounce.sender.example"`},

		"no TLSA":                 {func(s *site) { s.net.PutTLSA(hostname) }, zone.TLSA, zone.Missing, zone.Warning, "_tcp.out.sender.example. 3600 IN TLSA 3 1 1 "},
		"TLSA of another key":     {func(s *site) { s.certificates[0] = s.certificate(hostname) }, zone.TLSA, zone.Wrong, zone.Bad, "_tcp.out.sender.example. 3600 IN TLSA 3 1 1 "},
		"no TLSA of the next":     {func(s *site) { s.certificates = append(s.certificates, s.certificate(hostname)) }, zone.TLSA, zone.Missing, zone.Warning, "_tcp.out.sender.example. 3600 IN TLSA 3 1 1 "},
		"TLSA in a zone unsigned": {func(s *site) { s.net.SetSecure(domain, false) }, zone.TLSA, zone.Wrong, zone.Warning, "_tcp.out.sender.example. 3600 IN TLSA 3 1 1 "},

		"no address at all":        {func(s *site) { s.net.SetA(hostname) }, zone.PTR, zone.Missing, zone.Bad, ""},
		"no PTR":                   {func(s *site) { s.net.SetPTR(source, "") }, zone.PTR, zone.Missing, zone.Bad, "7.100.51.198.in-addr.arpa. 3600 IN PTR out.sender.example."},
		"behind a gateway":         {func(s *site) { s.net.SetA(hostname, netip.MustParseAddr("127.0.0.1")) }, zone.PTR, zone.Missing, zone.Warning, ""},
		"on a private network":     {func(s *site) { s.net.SetA(hostname, netip.MustParseAddr("10.0.0.9")) }, zone.PTR, zone.Missing, zone.Warning, ""},
		"PTR that leads elsewhere": {func(s *site) { s.net.SetPTR(source, "x.example") }, zone.PTR, zone.Wrong, zone.Bad, "7.100.51.198.in-addr.arpa. 3600 IN PTR out.sender.example."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, dbtest.SQLite(t))
			s.good()
			tc.change(s)
			r := s.check()
			var zoneFile []string
			found := false
			for _, i := range r.Items {
				found = found || i.Check == tc.check && i.Status == tc.status && i.Text != ""
				for _, p := range i.Publish {
					zoneFile = append(zoneFile, p.Zone())
				}
			}
			if !found || r.State != tc.state {
				t.Errorf("%s, %+v", r.State, r.Items)
			}
			if tc.publish != "" && !slices.ContainsFunc(zoneFile, func(l string) bool { return strings.Contains(l, tc.publish) }) {
				t.Errorf("%q is not among %q", tc.publish, zoneFile)
			}
		})
	}
}

// sts serves the policy with a fault.
func (s *site) sts(f fake.STSFault) {
	p, err := s.Policy(ctx, s.org, domain)
	s.must(err)
	s.must(s.net.PutSTS(domain, fake.STS{ID: "x", Policy: strings.ReplaceAll(p.Text(), "\r", ""), Fault: f}))
	s.net.SetTXT(p.Record().Name, p.Record().Value)
}

func (s *site) addKey(state dkim.State) {
	s.keys = append(s.keys, dkim.Key{Domain: domain, Selector: "sp2r", Algorithm: dkim.RSA, State: state, Value: "v=DKIM1; k=rsa; p=CCCC"})
}

// An installation that says which addresses mail leaves from is asked for them.
func TestSourcesThatAreGiven(t *testing.T) {
	s := open(t, dbtest.SQLite(t))
	s.good()
	s.Sources = func(context.Context, id.ID) ([]zone.Source, error) {
		return []zone.Source{{netip.MustParseAddr("203.0.113.9"), hostname}, {netip.MustParseAddr("2001:db8::9"), "other." + domain}, {Helo: hostname}}, nil
	}
	var got []string
	for _, i := range s.check().Items {
		for _, p := range i.Publish {
			got = append(got, p.Zone())
		}
	}
	for _, want := range []string{
		`sender.example. 3600 IN TXT "v=spf1 ip4:203.0.113.9 ip6:2001:db8::9 a:out.sender.example -all"`,
		"9.113.0.203.in-addr.arpa. 3600 IN PTR out.sender.example.",
		"9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 3600 IN PTR other.sender.example.",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("no %s in %q", want, got)
		}
	}
}

// What others read is what we mean: our own reader of policies, asked as for
// any other domain, over the listener's handler.
func TestOthersReadThePolicyThatIsServed(t *testing.T) {
	s := open(t, dbtest.SQLite(t))
	s.good()
	s.must(s.net.PutSTS(domain, fake.STS{}))
	s.must(s.net.PutHandler("mta-sts."+domain, "/.well-known/mta-sts.txt", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := s.Served(r.Context(), domain)
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write([]byte(text))
	})))
	read := func(mode zone.Mode, mx ...string) posture.Posture {
		t.Helper()
		p, err := s.SetPolicy(ctx, s.org, zone.Policy{Domain: domain, Mode: mode, MX: mx, MaxAge: 24 * time.Hour})
		s.must(err)
		s.net.SetTXT(p.Record().Name, p.Record().Value)
		known, err := posture.New(posture.Deps{DB: dbtest.SQLite(t), Clock: clock.System{}, Log: slog.New(slog.DiscardHandler), Resolver: s.net.ResolverAddr,
			HTTPSPort: s.net.HTTPSPort, RootCAs: s.net.CAPool(), AllowLoopback: true})
		s.must(err)
		got, err := known.Refresh(ctx, domain)
		s.must(err)
		return got
	}
	if got := read(zone.Enforce); !got.STSFor(hostname).Match {
		t.Errorf("%+v", got)
	}
	if got := read(zone.Enforce, "mx.other.example"); got.STS.Mode != "enforce" || got.STSFor(hostname).Match {
		t.Errorf("%+v", got)
	}
}

func TestPolicyChangesItsID(t *testing.T) {
	s := open(t, dbtest.SQLite(t))
	set := func(p zone.Policy) string {
		t.Helper()
		p.Domain = domain
		got, err := s.SetPolicy(ctx, s.org, p)
		s.must(err)
		return got.Record().Value
	}
	a := set(zone.Policy{Mode: zone.Testing, MaxAge: 24 * time.Hour})
	b := set(zone.Policy{Mode: zone.Enforce, MaxAge: 24 * time.Hour})
	if c := set(zone.Policy{Mode: zone.Testing, MaxAge: 24 * time.Hour}); a == b || a != c {
		t.Errorf("%s, %s, %s", a, b, c)
	}
	text, err := s.Served(ctx, domain)
	s.must(err)
	if want := "version: STSv1\r\nmode: testing\r\nmx: out.sender.example\r\nmax_age: 86400\r\n"; text != want {
		t.Errorf("%q", text)
	}
}

func TestWhatIsNoPolicy(t *testing.T) {
	s := open(t, dbtest.SQLite(t))
	for reason, p := range map[string]zone.Policy{
		"bad_mode":            {Domain: domain, Mode: "maybe", MaxAge: time.Hour},
		"bad_max_age":         {Domain: domain, Mode: zone.Enforce, MaxAge: time.Minute},
		"domain_not_verified": {Domain: "other.example", Mode: zone.Enforce, MaxAge: time.Hour},
		"too_many_hosts":      {Domain: domain, Mode: zone.Enforce, MaxAge: time.Hour, MX: slices.Repeat([]string{"a.example"}, 21)},
	} {
		_, err := s.SetPolicy(ctx, s.org, p)
		var f *fault.Fault
		if !errors.As(err, &f) || f.Reason != reason {
			t.Errorf("%v, want %s", err, reason)
		}
	}
	if _, err := s.Served(ctx, domain); !fault.Is(err, fault.NotFound) {
		t.Errorf("served without being set: %v", err)
	}
	s.good()
	s.must(s.accounts.RemoveDomain(ctx, s.org, domain))
	if _, err := s.Served(ctx, domain); !fault.Is(err, fault.NotFound) {
		t.Errorf("served for a domain that is gone: %v", err)
	}
}

// facts are the states that the ledger tells of.
func (s *site) facts() (all []string) {
	s.Helper()
	_, err := ledger.Place(ctx, s.db, 0)
	s.must(err)
	events, _, err := ledger.Read(ctx, s.db, s.org, -1, 1000)
	s.must(err)
	for _, e := range events {
		if e.Type == ledger.ZoneChanged {
			all = append(all, string(e.Data))
		}
	}
	return all
}

func TestTheDailyCheckKeepsChanges(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := open(t, d)
		s.good()
		after := func(d time.Duration, want ...string) {
			t.Helper()
			s.clock.Advance(d)
			s.must(s.CheckDue(ctx))
			if got := s.facts(); !slices.Equal(got, want) {
				t.Fatalf("the ledger tells %q, want %q", got, want)
			}
		}
		good := `{"domain":"sender.example","state":"ok"}`
		bad := `{"domain":"sender.example","state":"wrong","failing":["spf"]}`
		after(0, good)
		s.net.SetTXT(domain)
		after(23*time.Hour, good) // not due yet
		after(time.Hour, good, bad)
		after(24*time.Hour, good, bad)
		// What is not known changes nothing.
		s.net.SetDNSFault(domain, fake.ServFail)
		after(24*time.Hour, good, bad)
		s.net.SetDNSFault(domain, fake.NoDNSFault)
		s.good()
		after(time.Hour, good, bad, good)
		count := func() map[zone.State]int {
			var n map[zone.State]int
			s.must(d.Read(ctx, db.System, func(tx *db.Tx) (err error) {
				n, err = zone.Count(tx)
				return err
			}))
			return n
		}
		if n := count(); n[zone.Good] != 1 || n[zone.Bad] != 0 {
			t.Errorf("%v", n)
		}
		reports, err := s.Stored(ctx, s.org)
		s.must(err)
		if len(reports) != 1 || reports[0].State != zone.Good || len(reports[0].Items) < 8 {
			t.Errorf("%+v", reports)
		}
		s.must(s.accounts.RemoveDomain(ctx, s.org, domain))
		after(time.Hour, good, bad, good)
		if n := count(); n[zone.Good] != 0 {
			t.Errorf("a domain that is gone is counted: %v", n)
		}
	})
}
