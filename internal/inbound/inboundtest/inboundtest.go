// Package inboundtest gives tests an inbound door with a return path.
package inboundtest

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/inbound"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/resolve"
	"github.com/sealpost/sealpost/internal/submit/submittest"
	"github.com/sealpost/sealpost/internal/suppress"
)

// Hostname is the name of the mail system.
const Hostname = "mail.clinic.example"

// Zone is a DNS server whose records a test writes.
type Zone struct {
	Addr string

	mu      sync.Mutex
	records []dns.RR
	failing bool
}

// NewZone starts a DNS server with these records.
func NewZone(t testing.TB, records ...string) *Zone {
	t.Helper()
	z := &Zone{}
	z.Set(t, records...)
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	z.Addr = conn.LocalAddr().String()
	ready := make(chan struct{})
	server := &dns.Server{PacketConn: conn, Handler: z, NotifyStartedFunc: func() { close(ready) }}
	go func() { _ = server.ActivateAndServe() }()
	<-ready
	t.Cleanup(func() { _ = server.Shutdown() })
	return z
}

// Set replaces all records.
func (z *Zone) Set(t testing.TB, records ...string) {
	t.Helper()
	var all []dns.RR
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rr)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.records = all
}

// Fail makes every answer a failure.
func (z *Zone) Fail() {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.failing = true
}

// ServeDNS answers.
func (z *Zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	m := new(dns.Msg).SetReply(q)
	if z.failing {
		m.Rcode = dns.RcodeServerFailure
	}
	for _, rr := range z.records {
		if rr.Header().Name == q.Question[0].Name && rr.Header().Rrtype == q.Question[0].Qtype {
			m.Answer = append(m.Answer, rr)
		}
	}
	_ = w.WriteMsg(m)
}

// Door gives an inbound door of a house whose domain has the return path
// bounce.<domain>. change says what is different.
func Door(t testing.TB, h *submittest.House, org id.ID, domain string, change func(*inbound.Deps)) *inbound.Door {
	t.Helper()
	host := inbound.DefaultHost(domain)
	z := NewZone(t, host+". MX 10 "+Hostname+".", host+`. TXT "v=spf1 a:`+Hostname+` -all"`, Hostname+". A 192.0.2.25")
	r, err := resolve.New(resolve.Deps{Servers: []string{z.Addr}})
	if err != nil {
		t.Fatal(err)
	}
	d := inbound.Deps{
		DB: h.DB, Custody: h.Custody, Clock: h.Clock, Log: slog.New(slog.DiscardHandler), Hostname: Hostname, MaxSize: 200_000,
		Paths: inbound.NewPaths(inbound.PathsDeps{DB: h.DB, Custody: h.Custody, Accounts: h.Accounts, Clock: h.Clock, Resolver: r, Hostname: Hostname}),
		Suppress: suppress.New(suppress.Deps{DB: h.DB, Custody: h.Custody, Clock: h.Clock,
			Rules: suppress.Rules{HardFor: 180 * 24 * time.Hour, SoftCount: 3, SoftWithin: 14 * 24 * time.Hour, SoftFor: 14 * 24 * time.Hour}}),
	}
	if change != nil {
		change(&d)
	}
	if err := d.Paths.Set(context.Background(), org, domain, host); err != nil {
		t.Fatal(err)
	}
	return inbound.New(d)
}

// Sender is the address that tests send from.
func Sender(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
