package e2e

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/e2e/internal/await"
	"github.com/sealpost/sealpost/internal/fake"
)

// outcome is what the API says of a delivery, in the words of fake.Entry.
type outcome struct {
	State  string `json:"state"`
	Seal   string `json:"seal"`
	Grade  string `json:"grade"`
	Reason string `json:"reason_code"`
}

func (o outcome) is(e fake.Entry) bool {
	if o.State != e.EndState {
		return false
	}
	if o.State == fake.Delivered || o.State == fake.Waiting {
		return o.Seal == e.Seal && o.Grade == e.Grade
	}
	return o.Reason == e.Reason
}

// TestDowngrades sends to an address of every posture, through both doors, and
// then strips TLS from hosts that had it. Every delivery ends as the table
// says, and in a capture of the wire no mail host is told anything in clear
// but EHLO and STARTTLS.
func TestDowngrades(t *testing.T) {
	s := newSite(t, "", "")
	wire := tcpdump(t, filepath.Join(s.dir, "smtp.pcap"), "tcp", "port", strconv.Itoa(s.net.SMTPPort))
	if err := s.net.AddDomain(fake.Domain{Name: "injects.example", Host: &fake.Behavior{Inject: "250 mx.injects.example\r\n"}}); err != nil {
		t.Fatal(err)
	}
	sent := map[string]fake.Entry{}
	trusted := s.trustedDomains(t)
	s.start()
	for _, e := range trusted {
		s.sendBoth(t, sent, e)
	}
	for _, e := range fake.Table() {
		if !e.Late {
			s.sendBoth(t, sent, e.WithKeys())
		}
	}
	reachAll(t, s, sent)
	stripped := []string{"mx.modern.example", "mx.sts-enforce.example"}
	for _, host := range stripped {
		if err := s.net.Change(host, func(b *fake.Behavior) { b.StartTLS = fake.StartTLSAbsent; b.MaxPerConn = 1 }); err != nil {
			t.Fatal(err)
		}
	}
	await.Until(t, func() string { // an idle connection, inside TLS, is kept a while
		for _, host := range stripped {
			if n := s.net.Stats(host).Open; n > 0 {
				return fmt.Sprintf("%d connections to %s end", n, host)
			}
		}
		return ""
	})
	clear(sent)
	for _, e := range []fake.Entry{
		{Address: "anna@modern.example", EndState: fake.Failed, Reason: fake.NoPrivateChannel},
		{Address: "lena@sts-enforce.example", EndState: fake.Failed, Reason: fake.NoPrivateChannel},
		{Address: "ivan@injects.example", EndState: fake.Deferred, Reason: "unreachable"},
	} {
		s.sendBoth(t, sent, e)
	}
	reachAll(t, s, sent)
	for _, m := range s.net.Messages("") {
		if m.TLS == "" {
			t.Errorf("a message arrived in clear at %s", m.Host)
		}
	}
	for _, domain := range []string{"dane-other.example", "dane-stripped.example", "dane-bogus.example", "pinned-other.example", "pinned-stripped.example"} {
		if n := len(s.net.Messages("pat@" + domain)); n != 0 {
			t.Errorf("%d mails arrived at %s", n, domain)
		}
	}
	checkWire(t, s, wire())
}

// trustedDomains are held to their TLSA records, or to what the organization
// pinned, and some fail them or have TLS stripped from them: their mail waits
// and goes nowhere.
func (s *site) trustedDomains(t *testing.T) (all []fake.Entry) {
	t.Helper()
	add := func(domain string, b fake.Behavior) (host string) {
		if err := s.net.AddDomain(fake.Domain{Name: domain, Host: &b}); err != nil {
			t.Fatal(err)
		}
		all = append(all, fake.Entry{Address: "pat@" + domain, EndState: fake.Delivered, Seal: fake.TLS, Grade: fake.Authenticated})
		return "mx." + domain
	}
	waits := func(reason string) {
		all[len(all)-1].EndState, all[len(all)-1].Reason = fake.Deferred, reason
	}
	dane := func(host string, of string) {
		s.net.SetSecure(strings.TrimPrefix(host, "mx."), true)
		s.net.PutTLSA(host, fake.TLSAOf(3, 1, 1, s.net.Certificate(of)))
	}
	dane(add("dane.example", fake.Behavior{Cert: fake.CertSelfSigned}), "mx.dane.example")
	dane(add("dane-other.example", fake.Behavior{}), "mx.modern.example")
	waits("dane_failed")
	dane(add("dane-stripped.example", fake.Behavior{StartTLS: fake.StartTLSAbsent}), "mx.dane-stripped.example")
	waits(fake.TLSUnavailable)
	s.net.SetDNSFault(s.net.TLSAName(add("dane-bogus.example", fake.Behavior{})), fake.ServFail)
	s.net.SetSecure("dane-bogus.example", true)
	waits("dane_failed")
	pin := func(host, of string) {
		s.run("partner", "add", strings.TrimPrefix(host, "mx."), "--pin-key", fmt.Sprintf("%x", sha256.Sum256(s.net.Certificate(of).RawSubjectPublicKeyInfo)))
	}
	pin(add("pinned.example", fake.Behavior{Cert: fake.CertExpired}), "mx.pinned.example")
	pin(add("pinned-other.example", fake.Behavior{}), "mx.modern.example")
	waits("partner_not_proved")
	pin(add("pinned-stripped.example", fake.Behavior{StartTLS: fake.StartTLSAbsent}), "mx.pinned-stripped.example")
	waits(fake.TLSUnavailable)
	return all
}

// sendBoth hands in one message by the API and, if the address fits, one by
// SMTP.
func (s *site) sendBoth(t *testing.T, sent map[string]fake.Entry, e fake.Entry) {
	t.Helper()
	r, err := s.post(map[string]any{"to": []string{e.Address}, "subject": "Your results", "text": "private"})
	if err != nil {
		t.Fatalf("%s: %v", e.Address, err)
	}
	sent[r.Deliveries[0].ID] = e
	if strings.ContainsFunc(e.Address, func(c rune) bool { return c > '~' }) {
		return
	}
	id, err := relay(s.relay, e.Address, "Subject: Your results\r\n\r\nprivate\r\n")
	if err != nil {
		t.Fatalf("%s: %v", e.Address, err)
	}
	if _, err := s.call(http.MethodGet, "/api/v1/messages/"+id, nil, &r); err != nil {
		t.Fatal(err)
	}
	sent[r.Deliveries[0].ID] = e
}

func reachAll(t *testing.T, s *site, sent map[string]fake.Entry) {
	t.Helper()
	deadline := time.Now().Add(45 * time.Second)
	for id, e := range sent {
		for {
			var got outcome
			if _, err := s.call(http.MethodGet, "/api/v1/deliveries/"+id, nil, &got); err != nil {
				t.Fatal(err)
			}
			if got.is(e) {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("%s: got %+v, want %+v", e.Address, got, e)
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

func checkWire(t *testing.T, s *site, captured []byte) {
	t.Helper()
	clients, encrypted, seen := 0, 0, map[string]bool{}
	for _, c := range streams(t, captured) {
		if int(c.to.Port()) != s.net.SMTPPort {
			continue
		}
		clients++
		secure, err := onlyTLS(c.data)
		if err != nil {
			t.Errorf("to %s: %v", c.to, err)
		}
		if secure {
			encrypted++
		}
		if len(c.data) > 0 {
			seen[c.to.String()] = true
		}
	}
	if clients < 50 || encrypted < 30 {
		t.Errorf("only %d connections were captured, %d of them with TLS", clients, encrypted)
	}
	for _, d := range []string{"no-starttls", "starttls-454", "starttls-garbage", "tls10", "expired", "injects", "modern",
		"dane", "dane-other", "dane-stripped", "pinned", "pinned-other", "pinned-stripped"} {
		if !seen[s.net.HostAddr("mx."+d+".example")] {
			t.Errorf("nothing was captured to the host of %s.example", d)
		}
	}
}

// onlyTLS checks what a client of SMTP sent: EHLO and STARTTLS, and after
// those nothing but TLS records (RFC 8446 section 5.1). It reports whether
// there were any.
func onlyTLS(data []byte) (secure bool, err error) {
	started := false
	for len(data) > 0 && data[0] != 22 {
		line, rest, whole := bytes.Cut(data, []byte("\r\n"))
		switch {
		case !whole:
			return false, fmt.Errorf("%d octets in clear that are no line", len(data))
		case started:
			return false, errors.New("a command in clear behind STARTTLS")
		case string(line) == "STARTTLS":
			started = true
		case !bytes.HasPrefix(line, []byte("EHLO ")):
			return false, errors.New("a command in clear that is neither EHLO nor STARTTLS")
		}
		data = rest
	}
	if len(data) > 0 && !started {
		return false, errors.New("TLS without STARTTLS")
	}
	for first := true; len(data) > 0; first = false {
		header := append(slices.Clone(data[:min(5, len(data))]), 3, 3, 0, 0) // a connection can break off
		if header[0] < 20 || header[0] > 23 || header[1] != 3 || first && header[0] != 22 {
			return false, errors.New("something in clear within TLS")
		}
		size := 5 + int(header[3])<<8 + int(header[4])
		data = data[min(size, len(data)):]
	}
	return started, nil
}

// TestOnlyTLS gives the check what it must not pass.
func TestOnlyTLS(t *testing.T) {
	const hello = "EHLO mail.clinic.test\r\n"
	record := string([]byte{22, 3, 1, 0, 2, 9, 9, 23, 3, 3, 0, 1, 7})
	for text, want := range map[string]bool{
		"": true, hello: true, hello + "STARTTLS\r\n": true, hello + "STARTTLS\r\n" + record: true, hello + hello + "STARTTLS\r\n" + record[:9]: true,
		hello + "MAIL FROM:<x@clinic.test>\r\n": false, hello + "STARTTLS\r\nMAIL FROM:<x@clinic.test>\r\n": false,
		hello + "STARTTLS\r\n" + record + "MAIL FROM:<x@clinic.test>\r\n": false, hello + "QUIT\r\n": false, hello + "NO": false,
		hello + record: false, "HELO x\r\n": false,
	} {
		if _, err := onlyTLS([]byte(text)); (err == nil) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}
