package inbound_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/inbound"
	"github.com/sealpost/sealpost/internal/inbound/inboundtest"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/resolve"
	"github.com/sealpost/sealpost/internal/scan"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
	"github.com/sealpost/sealpost/internal/submit/submittest"
	"github.com/sealpost/sealpost/internal/verdict"
)

const ourHost = "mail.clinic.test" // of submittest's door

// suite is an organization whose members have their mailboxes at another host.
type suite struct {
	*submittest.House
	clock    *clock.Fake
	zone     *inboundtest.Zone
	routes   *inbound.Routes
	relay    *inbound.Relay
	door     *submit.Door
	asked    int
	answer   func(to mail.Address) (bool, error) // of the route's host
	harvests []string
	deps     inbound.MembersDeps // the relay's
}

func newSuite(t *testing.T, d *db.DB, change func(*inbound.MembersDeps)) *suite {
	t.Helper()
	s := &suite{clock: clock.NewFake(time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC))}
	s.House = submittest.New(t, d, s.clock, "northclinic.example")
	s.zone = inboundtest.NewZone(t,
		`good.example. TXT "v=spf1 ip4:192.0.2.1 -all"`, `_dmarc.good.example. TXT "v=DMARC1; p=reject"`,
		`bank.example. TXT "v=spf1 -all"`, `_dmarc.bank.example. TXT "v=DMARC1; p=reject"`,
		`shop.example. TXT "v=spf1 -all"`, `_dmarc.shop.example. TXT "v=DMARC1; p=quarantine"`,
	)
	r, err := resolve.New(resolve.Deps{Servers: []string{s.zone.Addr}, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	s.routes = inbound.NewRoutes(inbound.RoutesDeps{DB: d, Clock: s.clock, Resolver: r, Hostname: ourHost})
	if err := s.routes.Set(ctx, s.Org.ID, "northclinic.example", "mx.suite.example", 0); err != nil {
		t.Fatal(err)
	}
	names := &inbound.Names{DB: d, Custody: s.Custody, Clock: s.clock, Routes: s.routes}
	s.door = s.Door(func(deps *submit.Deps) {
		deps.TenantFields = []string{"X-Suite-Proof"}
		deps.MaxSize = 4 << 20
		deps.Sent = func(ctx context.Context, org id.ID, from []mail.Mailbox) {
			if err := names.Saw(ctx, org, from); err != nil {
				t.Error(err)
			}
		}
		deps.Routed = func(ctx context.Context, org id.ID, domain string) (bool, error) {
			r, found, err := s.routes.Of(ctx, domain)
			return found && r.Org == org, err
		}
	})
	s.answer = func(to mail.Address) (bool, error) { return to.Local() == "ada", nil }
	deps := inbound.MembersDeps{Accounts: s.Accounts, Log: slog.New(slog.DiscardHandler), Routes: s.routes, Names: names,
		Callout: inbound.NewCallout(inbound.CalloutDeps{Clock: s.clock, Log: slog.New(slog.DiscardHandler), Ask: func(_ context.Context, _ inbound.Route, to mail.Address) (bool, error) {
			s.asked++
			return s.answer(to)
		}}),
		Judge:   verdict.New(verdict.Deps{Resolver: r, Clock: s.clock, Hostname: ourHost}),
		Receive: s.door.Receive,
		Harvest: func(_ context.Context, _ id.ID, from mail.Address, kind policy.Seal, _ []byte, _ ...string) error {
			s.harvests = append(s.harvests, from.Reveal()+" "+string(kind))
			return nil
		}}
	if change != nil {
		change(&deps)
	}
	s.deps, s.relay = deps, inbound.NewMembers(deps).Relay()
	return s
}

func (s *suite) bring(sender, text string) error {
	s.T.Helper()
	to := inboundtest.Sender(s.T, "ada@northclinic.example")
	org, err := s.relay.Knows(ctx, netip.Prefix{}, to)
	if err != nil {
		return err
	}
	a := inbound.Arrival{Peer: netip.MustParseAddr("192.0.2.1"), EHLO: "mx.good.example", Protocol: "ESMTPS",
		Tickets: []inbound.Ticket{{Kind: inbound.Member, Org: org, To: to}}}
	if sender != "" {
		a.Sender = inboundtest.Sender(s.T, sender)
	}
	return s.relay.Accept(ctx, a, strings.NewReader(strings.ReplaceAll(text, "\n", "\r\n")))
}

// arrived brings what must be taken, and gives it as it goes on.
func (s *suite) arrived(sender, text string) string {
	s.T.Helper()
	before := len(s.Stored())
	if err := s.bring(sender, text); err != nil {
		s.T.Fatal(err)
	}
	all := s.Stored()
	if len(all) != before+1 {
		s.T.Fatal("it was not stored")
	}
	return all[0]
}

func (s *suite) refused(sender, text, reason string, code int) {
	s.T.Helper()
	before := len(s.Stored())
	err := s.bring(sender, text)
	if f := fault.From(err); err == nil || f.Reason != reason || fault.SMTP(err).Code != code {
		s.T.Errorf("want %s: %v", reason, err)
	}
	if len(s.Stored()) != before {
		s.T.Errorf("%s: it was stored", reason)
	}
}

func mailFrom(from string) string { return "From: " + from + "\nSubject: hello\n\nbody\n" }

func TestMailForMembersGoesOnAsItCame(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSuite(t, d, nil)
		forged := "Authentication-Results: " + ourHost + "; dmarc=pass\nX-Sealpost-Warning: none\nX-Sealpost-Priority: 0\nx-suite-proof: a-secret\n"
		kept := "Received: from a.example by b.example; Wed, 4 Mar 2026 05:06:07 +0000\nDKIM-Signature: v=1; x\nfrom:Bob   <bob@good.example>\nSubject: =?utf-8?q?hi?=\nBcc: x@good.example\n\nbody\n..\n"
		got := s.arrived("bounce@good.example", forged+kept)
		head, rest, _ := strings.Cut(got, "Received: from a.example")
		if "Received: from a.example"+rest != strings.ReplaceAll(kept, "\n", "\r\n") {
			t.Errorf("it was changed:\n%s", got)
		}
		for _, want := range []string{"Received: from mx.good.example ([192.0.2.1])", "by " + ourHost, "spf=pass smtp.mailfrom=good.example", "dmarc=pass header.from=good.example"} {
			if !strings.Contains(strings.ReplaceAll(head, "\r\n ", " "), want) {
				t.Errorf("%q is missing in\n%s", want, head)
			}
		}
		if strings.Contains(got, "X-Sealpost") || strings.Contains(got, "a-secret") || strings.Count(got, "Authentication-Results") != 1 {
			t.Errorf("what speaks in our name stands:\n%s", got)
		}
		s.records(t)
	})
}

// records: the message is one from outside, and the ledger has the verdicts
// and nobody's name.
func (s *suite) records(t *testing.T) {
	t.Helper()
	var facts []string
	if err := s.DB.Read(ctx, s.Org.ID, func(tx *db.Tx) error {
		ids, err := spool.Find(tx, spool.Search{Limit: 1})
		if err != nil {
			return err
		}
		m, err := spool.LoadMessage(tx, s.Custody, ids[0])
		if err != nil {
			return err
		}
		if m.Source != spool.FromOutside || !m.Envelope.Proved {
			t.Errorf("source %s, proved %v", m.Source, m.Envelope.Proved)
		}
		ds, err := spool.Deliveries(tx, m)
		if err != nil || len(ds) != 1 || ds[0].State != spool.Ready || !slices.Equal(ds[0].Plan.Seals, []policy.Seal{policy.TLS}) {
			t.Errorf("%+v, %v", ds, err)
		}
		all, err := ledger.ForMessage(tx, m.ID)
		for _, e := range all {
			facts = append(facts, string(e.Type)+" "+string(e.Data))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(facts, "\n")
	var fact map[string]any
	_, data, _ := strings.Cut(facts[0], " ")
	if err := json.Unmarshal([]byte(data), &fact); err != nil || !strings.HasPrefix(facts[0], "inbound.received ") || fact["action"] != "relayed" || fact["spf"] != "pass" || fact["dmarc"] != "pass" {
		t.Errorf("%v\n%s", err, text)
	}
	if strings.Contains(text, "@") || strings.Contains(text, "bob") || !strings.Contains(text, `"source":"inbound"`) {
		t.Errorf("facts:\n%s", text)
	}
}

func TestForgeriesAreRefusedOrMarked(t *testing.T) {
	s := newSuite(t, dbtest.SQLite(t), nil)
	s.refused("x@bank.example", mailFrom("Bank <help@bank.example>"), "dmarc", 550)
	for text, want := range map[string]string{
		mailFrom("Shop <help@shop.example>"):                     "dmarc: the author's domain asks for quarantine",
		mailFrom("Ada <ada@northclinic.example>"):                "unproved: it says it is from your own organization",
		mailFrom("Ada <ada@n0rthclinic.example>"):                "look-alike: the domain in From looks like northclinic.example",
		mailFrom("\"ada@northclinic.example\" <x@else.example>"): "look-alike: the name in From shows an address of northclinic.example",
		"Subject: nobody\n\nx\n":                                 "author: the From field does not name one author",
		"From: \nSubject: x\n\nx\n":                              "author: the From field does not name one author",
	} {
		got := strings.ReplaceAll(s.arrived("x@else.example", text), "\r\n ", " ")
		if !strings.HasPrefix(strings.SplitN(got, "\r\n", 2)[1], "X-Sealpost-Warning: "+want) {
			t.Errorf("%q is missing:\n%s", want, got)
		}
		if !strings.Contains(got, "Subject: hello") && strings.Contains(text, "hello") {
			t.Errorf("the subject was touched:\n%s", got)
		}
	}
	for _, text := range []string{
		"From: a@else.example\nFrom: b@bank.example\nSubject: x\n\nx\n",
		"From: \nFrom: b@bank.example\nSubject: x\n\nx\n",
		mailFrom("a@else.example, Bank <help@bank.example>"),
		mailFrom("Bank <help@bank.example"),
		mailFrom("Bank <help@bank.example> <a@else.example>"),
		mailFrom(strings.Repeat("x", 70_000) + " <help@bank.example>"),
	} {
		s.refused("x@else.example", text, "bad_from", 554)
	}
	s.zone.Fail()
	s.refused("x@else.example", mailFrom("Bank <help@bank.example>"), "dmarc_unavailable", 451)
	s.refused("x@else.example", "Received: by "+ourHost+"; x\n"+"Received: from a by "+ourHost+" with ESMTP; x\nReceived: by\n "+ourHost+"; x\n"+mailFrom("b@else.example"), "loop", 554)
}

func TestMembersNamesAreKnownFromTheirMail(t *testing.T) {
	s := newSuite(t, dbtest.SQLite(t), nil)
	imitation := mailFrom("\"Lovelace, Ada\" <boss@mailbox.example>")
	if got := s.arrived("x@else.example", imitation); strings.Contains(got, "X-Sealpost-Warning") {
		t.Errorf("nobody has this name yet:\n%s", got)
	}
	inboundtest.Sent(t, s.House, s.Org.ID, "ada@northclinic.example", "p@else.example", spool.Ready) // through another door
	h := submit.Draft{Principal: inboundtest.Principal(s.Org.ID), Source: spool.FromSMTP, Sender: inboundtest.Sender(t, "ada@northclinic.example"),
		Recipients: []mail.Address{inboundtest.Sender(t, "p@else.example")}, Message: strings.NewReader("From: Dr. Ada Lovelace <ada@northclinic.example>\r\n\r\nx\r\n")}
	if _, err := s.door.Accept(ctx, h); err != nil {
		t.Fatal(err)
	}
	if got := s.arrived("x@else.example", imitation); !strings.Contains(got, "X-Sealpost-Warning: look-alike: the name in From is that of a member") {
		t.Errorf("it is not marked:\n%s", got)
	}
	other := s.NewOrg("other", "other.example")
	var n int
	if err := s.DB.Read(ctx, other.ID, func(tx *db.Tx) error {
		return tx.Row("SELECT count(*) FROM inbound_names WHERE org_id <> ?", s.Org.ID).Scan(&n)
	}); err != nil || n != 0 {
		t.Errorf("names of others: %d, %v", n, err)
	}
}

func TestLookalikesCanBeRefused(t *testing.T) {
	s := newSuite(t, dbtest.SQLite(t), func(d *inbound.MembersDeps) { d.RejectLookalikes = true })
	s.refused("x@else.example", mailFrom("Ada <ada@north-clinic.example>"), "lookalike", 550)
	s.arrived("x@else.example", mailFrom("Ada <ada@southclinic.example>"))
}

func TestRecipientsAreAskedFor(t *testing.T) {
	s := newSuite(t, dbtest.SQLite(t), nil)
	knows := func(local string) error {
		_, err := s.relay.Knows(ctx, netip.Prefix{}, inboundtest.Sender(t, local+"@northclinic.example"))
		return err
	}
	if err := knows("ada"); err != nil {
		t.Fatal(err)
	}
	for _, unknown := range []string{"bob", "bob"} {
		if err := knows(unknown); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", unknown, err)
		}
	}
	if err := knows("ada"); err != nil || s.asked != 2 {
		t.Errorf("%v; asked %d times", err, s.asked)
	}
	if _, err := s.relay.Knows(ctx, netip.Prefix{}, inboundtest.Sender(t, "ada@elsewhere.example")); !fault.Is(err, fault.NotFound) || s.asked != 2 {
		t.Errorf("a domain without a route: %v", err)
	}
	// The host is away: whom it knew comes in, others come again.
	s.answer = func(mail.Address) (bool, error) { return false, errors.New("away") }
	s.clock.Advance(2 * time.Hour)
	if err := knows("ada"); err != nil {
		t.Error(err)
	}
	for _, who := range []string{"bob", "new"} {
		if err := knows(who); !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s: %v", who, err)
		}
	}
	if s.asked != 3 {
		t.Errorf("a host that is away was asked %d times", s.asked-2)
	}
	s.clock.Advance(31 * time.Second)
	s.answer = func(mail.Address) (bool, error) { return true, nil }
	if err := knows("new"); err != nil {
		t.Errorf("once it is back: %v", err)
	}
	s.answer = func(mail.Address) (bool, error) { return false, errors.New("away") }
	s.clock.Advance(8 * 24 * time.Hour)
	if err := knows("ada"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("after a week: %v", err)
	}
	if err := s.routes.Off(ctx, s.Org.ID, "northclinic.example"); err != nil {
		t.Fatal(err)
	}
	if err := knows("ada"); !fault.Is(err, fault.NotFound) {
		t.Errorf("without its route: %v", err)
	}
}

// A host that hangs takes nobody's turn but its own, is left alone once it has
// failed, and fills no log.
func TestADeadRouteHoldsUpNoOther(t *testing.T) { synctest.Test(t, deadRoute) }

// stranger gives the network of one of many.
func stranger(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), 32)
}

func deadRoute(t *testing.T) {
	c := clock.NewFake(time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC))
	dead := inbound.Route{Org: id.New(), Domain: "a.example", Host: "dead.example"}
	var log strings.Builder
	hung, release := make(chan struct{}, 100), make(chan struct{})
	failure := errors.New("timeout")
	callout := inbound.NewCallout(inbound.CalloutDeps{Clock: c, Log: slog.New(slog.NewTextHandler(&log, nil)),
		Ask: func(_ context.Context, r inbound.Route, _ mail.Address) (bool, error) {
			if r != dead {
				return true, nil
			}
			hung <- struct{}{}
			<-release
			return false, failure
		}})
	takes := func(r inbound.Route, n int) error {
		_, err := callout.Takes(ctx, r, stranger(n), inboundtest.Sender(t, fmt.Sprintf("canary%d@a.example", n)))
		return err
	}
	all := make(chan error)
	for n := range 60 {
		go func() { all <- takes(dead, n) }()
	}
	synctest.Wait()
	if n := len(hung); n != 5 {
		t.Errorf("%d ask at once", n)
	}
	for _, other := range []inbound.Route{{Org: dead.Org, Host: "alive.example"}, {Org: id.New(), Host: dead.Host}} {
		if err := takes(other, 70); err != nil {
			t.Errorf("another host: %v", err)
		}
	}
	close(release)
	for range 60 {
		if err := <-all; !errors.Is(err, inbound.ErrUnverified) {
			t.Error(err)
		}
	}
	if err := takes(dead, 61); !errors.Is(err, inbound.ErrUnverified) || len(hung) != 5 {
		t.Errorf("%v; asked %d times", err, len(hung))
	}
	c.Advance(31 * time.Second)
	failure = inbound.ErrUndecided // a host that answers is asked on
	for n := range 2 {
		if err := takes(dead, 62+n); !errors.Is(err, inbound.ErrUnverified) || len(hung) != 6+n {
			t.Errorf("%v; asked %d times", err, len(hung))
		}
	}
	if strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "dead.example") || strings.Contains(log.String(), "canary") {
		t.Errorf("the log:\n%s", log.String())
	}
	c.Advance(time.Minute)
	if _ = takes(dead, 64); strings.Count(log.String(), "\n") != 2 {
		t.Errorf("the log a minute later:\n%s", log.String())
	}
}

func TestScannersDecide(t *testing.T) {
	action := ""
	rspamd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		if !strings.Contains(string(b), "X-Sealpost-Priority") || !strings.HasSuffix(string(b), "body\r\n") || q.Header.Get("Ip") != "192.0.2.1" {
			t.Errorf("Rspamd did not get the mail as it came:\n%s", b)
		}
		_, _ = io.WriteString(w, `{"action":"`+action+`","score":7,"required_score":15}`)
	}))
	defer rspamd.Close()
	clamd := "stream: OK"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 1<<16)
			var all []byte
			for !strings.HasSuffix(string(all), "\x00\x00\x00\x00") {
				n, err := c.Read(b)
				if err != nil {
					break
				}
				all = append(all, b[:n]...)
			}
			_, _ = io.WriteString(c, clamd+"\x00")
			_ = c.Close()
		}
	}()
	s := newSuite(t, dbtest.SQLite(t), func(d *inbound.MembersDeps) {
		var bad error
		d.Rspamd, err = scan.NewRspamd(scan.RspamdDeps{URL: rspamd.URL})
		d.ClamAV, bad = scan.NewClamAV(scan.ClamAVDeps{URL: "tcp://" + l.Addr().String(), Timeout: time.Second})
		if err = errors.Join(err, bad); err != nil {
			t.Fatal(err)
		}
	})
	text := "X-Sealpost-Priority: 1\n" + mailFrom("b@good.example")
	action = "no action"
	if got := s.arrived("b@good.example", text); strings.Contains(got, "X-Sealpost-Spam") {
		t.Errorf("marked:\n%s", got)
	}
	action = "add header"
	if got := s.arrived("b@good.example", text); !strings.Contains(got, "X-Sealpost-Spam: yes; score=7.00; required=15.00") {
		t.Errorf("not marked:\n%s", got)
	}
	action = "reject"
	s.refused("b@good.example", text, "spam", 550)
	action = "greylist"
	s.refused("b@good.example", text, "come_again", 451)
	clamd = "stream: Win.Test FOUND"
	s.refused("b@good.example", text, "virus_found", 554)
	action, clamd = "no action", "stream: ERROR"
	s.refused("b@good.example", text, "scan_unavailable", 451)
	clamd = "stream: OK"
	rspamd.Close()
	s.refused("b@good.example", text, "scan_unavailable", 451)
}

func TestKeysAreHarvestedOfProvedAuthors(t *testing.T) {
	s := newSuite(t, dbtest.SQLite(t), nil)
	key := base64.StdEncoding.EncodeToString(append([]byte{0x98}, []byte(strings.Repeat("key", 50))...))
	field := func(addr string) string { return "Autocrypt: addr=" + addr + "; keydata=" + key + "\n" }
	for text, want := range map[string]int{
		field("b@good.example") + mailFrom("b@good.example"):                           1,
		field("c@good.example") + mailFrom("b@good.example"):                           0,
		field("b@good.example") + field("b@good.example") + mailFrom("b@good.example"): 0,
		field("b@else.example") + mailFrom("b@else.example"):                           0, // DMARC says nothing
		mailFrom("b@good.example"):                                                     0,
	} {
		s.harvests = nil
		s.arrived("b@good.example", text)
		if len(s.harvests) != want || want == 1 && s.harvests[0] != "b@good.example pgp" {
			t.Errorf("%v from\n%s", s.harvests, text)
		}
	}
}

// What the suite hands in for its own routed domain and that has been here
// would go back to it at once.
func TestWhatComesBackFromTheSuiteIsALoop(t *testing.T) {
	s := newSuite(t, dbtest.SQLite(t), nil)
	accept := func(source, to, received string) error {
		_, err := s.door.Accept(ctx, submit.Draft{Principal: inboundtest.Principal(s.Org.ID), Source: source, Sender: inboundtest.Sender(t, "ada@northclinic.example"),
			Recipients: []mail.Address{inboundtest.Sender(t, to)}, Message: strings.NewReader(received + "From: ada@northclinic.example\r\n\r\nx\r\n")})
		return err
	}
	once := "Received: from x.example ([192.0.2.1]) by " + ourHost + " with ESMTPS id 1; x\r\n"
	if err := accept(spool.FromRelay, "bob@northclinic.example", once); fault.SMTP(err).Enhanced != [3]int{5, 4, 6} {
		t.Errorf("back for its own domain: %v", err)
	}
	for name, err := range map[string]error{
		"first time":       accept(spool.FromRelay, "bob@northclinic.example", ""),
		"to somebody else": accept(spool.FromRelay, "bob@else.example", once),
		"twice":            accept(spool.FromRelay, "bob@else.example", once+once),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := accept(spool.FromSMTP, "bob@else.example", once+once+once); fault.From(err).Reason != "loop" {
		t.Errorf("three times: %v", err)
	}
}

func TestRoutesAreForVerifiedDomains(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSuite(t, d, nil)
		other := s.NewOrg("other", "other.example")
		for _, c := range []struct {
			org          id.ID
			domain, host string
			kind         fault.Kind
		}{
			{s.Org.ID, "other.example", "mx.suite.example", fault.Denied},
			{s.Org.ID, "nowhere.example", "mx.suite.example", fault.Denied},
			{other.ID, "other.example", "Mail.Clinic.test", fault.Invalid},
			{other.ID, "other.example", "mx", fault.Invalid},
		} {
			if err := s.routes.Set(ctx, c.org, c.domain, c.host, 0); !fault.Is(err, c.kind) {
				t.Errorf("%s to %s: %v", c.domain, c.host, err)
			}
		}
		if err := s.routes.Set(ctx, s.Org.ID, "northclinic.example", "mx2.suite.example", 2525); err != nil {
			t.Fatal(err)
		}
		if r, found, err := s.routes.Of(ctx, "northclinic.example"); err != nil || !found || r.Host != "mx2.suite.example" || r.Port != 2525 {
			t.Errorf("%+v, %v, %v", r, found, err)
		}
		if all, err := s.routes.List(ctx, other.ID); err != nil || len(all) != 0 {
			t.Errorf("%v, %v", all, err)
		}
		if err := s.routes.Off(ctx, other.ID, "northclinic.example"); !fault.Is(err, fault.NotFound) {
			t.Errorf("of another organization: %v", err)
		}
		if err := s.Accounts.RemoveDomain(ctx, s.Org.ID, "northclinic.example"); err != nil {
			t.Fatal(err)
		}
		s.clock.Advance(5 * time.Second)
		if _, found, err := s.routes.Of(ctx, "northclinic.example"); err != nil || found {
			t.Errorf("a domain that is gone: %v, %v", found, err)
		}
	})
}
