package fetch

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/fake"
)

func TestRegistered(t *testing.T) {
	for host, want := range map[string]string{
		"mta-sts.modern.example": "modern.example", "modern.example": "modern.example", "example": "example",
		"A.B.Modern.Example.": "modern.example", "a.b.co.uk": "b.co.uk", "b.co.uk": "b.co.uk", "co.uk": "co.uk",
		"x.free.github.io": "github.io", "other.github.io": "github.io", "github.io": "github.io",
		"x.s3.amazonaws.com": "amazonaws.com", "amazonaws.com": "amazonaws.com", "com": "com",
		"9.9.9.9": "9.9.9.0/24", "::ffff:9.9.9.9": "9.9.9.0/24", "2a00:1:2:3::4": "2a00:1:2::/48", "fe80::1%x": "fe80::/48",
	} {
		if got := registered(host); got != want {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
	}
}

// hang takes connections at an address of the internet on loopback, says
// nothing and tells how many there were at most at once.
func hang(t *testing.T, n *fake.Internet, addr string) *atomic.Int64 {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(addr, strconv.Itoa(n.HTTPSPort)))
	if err != nil {
		t.Fatal(err)
	}
	var now, most atomic.Int64
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				if v := now.Add(1); v > most.Load() {
					most.Store(v)
				}
				_, _ = io.Copy(io.Discard, c)
				now.Add(-1)
			})
		}
	})
	t.Cleanup(func() { ln.Close(); all.Wait() })
	return &most
}

// TestHostsThatHangTakeNobodysTurns: however many hosts of a domain hang, all
// others are heard, and only a host that had its time is said to be too slow.
func TestHostsThatHangTakeNobodysTurns(t *testing.T) {
	n, c := start(t, nil)
	most := hang(t, n, "127.77.0.1")
	if err := n.PutPage("good.example", "/", []byte("good"), "text/plain"); err != nil {
		t.Fatal(err)
	}
	const limit = 500 * time.Millisecond
	words := map[string]int{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range 100 {
		host := fmt.Sprintf("s%d.evil.example", i)
		n.SetA(host, netip.MustParseAddr("127.77.0.1"))
		all.Go(func() {
			begin := time.Now()
			_, err := c.Get(t.Context(), Request{URL: "https://" + host + "/", Timeout: limit})
			mu.Lock()
			defer mu.Unlock()
			words[Word(err)]++
			if took := time.Since(begin); Word(err) == Timeout && took < limit {
				t.Errorf("a host had %s", took)
			}
		})
	}
	for end := time.Now().Add(5 * time.Second); most.Load() < 4; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no host was asked")
		}
	}
	for range 10 {
		if _, err := c.Get(t.Context(), Request{URL: "https://good.example/", Timeout: limit}); err != nil {
			t.Errorf("a healthy host: %v", err)
		}
	}
	all.Wait()
	// In the time that the others wait, each of the four turns is had twice.
	if words[Timeout]+words[Busy] != 100 || words[Timeout] < 4 || words[Timeout] > 8 {
		t.Errorf("%v", words)
	}
}

// TestTheTimeOfAHostBeginsWithItsTurn: who waits for others loses nothing of
// its own time by that.
func TestTheTimeOfAHostBeginsWithItsTurn(t *testing.T) {
	n, c := start(t, func(d *Deps) { d.PerDomain = 1 })
	put(t, n, "/slow", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(600 * time.Millisecond):
		case <-r.Context().Done():
		}
	})
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			if _, err := c.Get(t.Context(), Request{URL: "https://pages.example/slow", Timeout: time.Second}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// TestACallerWhoGoesBlamesNobody: only a host that had the time it was given
// is too slow.
func TestACallerWhoGoesBlamesNobody(t *testing.T) {
	n, c := start(t, nil)
	hang(t, n, "127.77.0.1")
	n.SetA("hangs.example", netip.MustParseAddr("127.77.0.1"))
	n.SetDNSFault("silent.example", fake.NoAnswer)
	for _, host := range []string{"hangs.example", "silent.example"} {
		get := func(ctx context.Context, limit time.Duration) string {
			_, err := c.Get(ctx, Request{URL: "https://" + host + "/", Timeout: limit})
			return Word(err)
		}
		short, end := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer end()
		if word := get(short, time.Second); word != Busy {
			t.Errorf("%s, the caller had less time: %s", host, word)
		}
		gone, leave := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, leave)
		if word := get(gone, time.Second); word != Busy {
			t.Errorf("%s, the caller went: %s", host, word)
		}
		long, end := context.WithTimeout(t.Context(), 5*time.Second)
		defer end()
		if word := get(long, 150*time.Millisecond); word != Timeout {
			t.Errorf("%s: %s", host, word)
		}
	}
}

// TestAConnectionEndsWithItsFetch, also that of a host that takes it and never
// begins TLS.
func TestAConnectionEndsWithItsFetch(t *testing.T) {
	n, c := start(t, nil)
	ln, err := net.Listen("tcp", net.JoinHostPort("127.77.0.5", strconv.Itoa(n.HTTPSPort)))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	n.SetA("hangs.example", netip.MustParseAddr("127.77.0.5"))
	if _, err := c.Get(t.Context(), Request{URL: "https://hangs.example/", Timeout: 100 * time.Millisecond}); Word(err) != Timeout {
		t.Fatal(err)
	}
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Errorf("the connection is still there: %v", err)
	}
}
