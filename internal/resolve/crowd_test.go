package resolve_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/internal/resolve"
)

// A resolver has a buffer, and what does not fit is lost: however many ask at
// once, few questions are under way, and everybody has an answer.
func TestCrowdsTakeTurns(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var under, most atomic.Int64
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		n := under.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(5 * time.Millisecond) // the time a real one takes
		under.Add(-1)
		_ = w.WriteMsg(new(dns.Msg).SetReply(q))
	})}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.ActivateAndServe() }()
	defer func() { _ = server.Shutdown(); <-served }()
	r, err := resolve.New(resolve.Deps{Servers: []string{conn.LocalAddr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	var failed atomic.Int64
	var all sync.WaitGroup
	for range 3000 {
		all.Go(func() {
			if _, err := r.Ask(context.Background(), "modern.example", dns.TypeMX); err != nil {
				failed.Add(1)
			}
		})
	}
	all.Wait()
	if failed.Load() > 0 || most.Load() > 200 {
		t.Errorf("%d questions had no answer; %d were under way at once", failed.Load(), most.Load())
	}
}
