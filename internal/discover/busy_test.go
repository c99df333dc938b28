package discover

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/fetch"
)

// mute takes connections at an address of the internet on loopback, says
// nothing, and counts them.
func mute(t *testing.T, n *fake.Internet, addr string) *atomic.Int64 {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(addr, strconv.Itoa(n.HTTPSPort)))
	if err != nil {
		t.Fatal(err)
	}
	var count atomic.Int64
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			count.Add(1)
			all.Go(func() { defer c.Close(); _, _ = io.Copy(io.Discard, c) })
		}
	})
	t.Cleanup(func() { ln.Close(); all.Wait() })
	return &count
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// TestOneDomainThatHangsKeepsNobodyWaiting: a hundred addresses below one
// registered domain, all of whose hosts hang, leave turns for all others, and
// who waited in vain learned nothing about anybody.
func TestOneDomainThatHangsKeepsNobodyWaiting(t *testing.T) {
	w := start(t, func(n *fake.Internet, d *Deps) {
		d.Limit = sourceLimit
		if err := n.PutWKD("good.example", "bob", n.PGPKey("cora@pgp-curve.example"), fake.WKDOptions{}); err != nil {
			t.Fatal(err)
		}
	})
	met := mute(t, w.net, "127.77.0.2")
	ctx, leave := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range 100 {
		domain := fmt.Sprintf("s%d.evil.example", i)
		w.net.SetA("openpgpkey."+domain, netip.MustParseAddr("127.77.0.2"))
		a := address(t, "u@"+domain)
		all.Go(func() {
			if got := w.Ask(ctx, a)[0]; got.Word != Busy {
				t.Errorf("%+v", got)
			}
		})
	}
	until(t, "nobody was asked", func() bool { return met.Load() >= perDomain })
	for range 10 {
		begin := time.Now()
		if a := w.from(t, WKD, "bob@good.example"); len(a.Findings) != 1 || time.Since(begin) > 2*time.Second {
			t.Errorf("after %s: %+v", time.Since(begin), a.Word)
		}
	}
	leave()
	all.Wait()
	if n := met.Load(); n > perDomain {
		t.Errorf("%d hosts of one domain at once", n)
	}
	for i := range 100 {
		if f, _ := w.facts.get(fmt.Sprintf("%s s%d.evil.example", WKD, i)); f.word != "" || f.fails != 0 {
			t.Errorf("a host that had no time is blamed: %+v", f)
		}
	}
}

// TestWaitingBlamesNobody: a host or directory that answers is asked again
// after others have kept it from us.
func TestWaitingBlamesNobody(t *testing.T) {
	silent := silence(t)
	w := start(t, func(n *fake.Internet, d *Deps) {
		d.Limit = 300 * time.Millisecond
		d.Directories = []string{"ldaps://" + silent + "/"}
		// One turn, which one host holds for longer than anybody waits.
		d.Fetch = fetch.New(fetch.Deps{Resolver: d.Resolver, Roots: n.CAPool(), AnyAddress: true, HTTPSPort: n.HTTPSPort, AtOnce: 1})
		if err := n.PutWKD("good.example", "bob", n.PGPKey("cora@pgp-curve.example"), fake.WKDOptions{}); err != nil {
			t.Fatal(err)
		}
	})
	met := mute(t, w.net, "127.77.0.3")
	w.net.SetA("hangs.example", netip.MustParseAddr("127.77.0.3"))
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	var all sync.WaitGroup
	all.Go(func() {
		_, _ = w.fetch.Get(ctx, fetch.Request{URL: "https://hangs.example/", Timeout: 30 * time.Second})
	})
	until(t, "the turn is not taken", func() bool { return met.Load() == 1 })
	if a := w.from(t, WKD, "bob@good.example"); a.Word != Busy || a.Absent || a.Until.After(w.clock.Now().Add(busyFor)) {
		t.Errorf("without a turn: %+v", a)
	}
	leave()
	all.Wait()
	if a := w.from(t, WKD, "bob@good.example"); len(a.Findings) != 1 {
		t.Errorf("with a turn: %+v", a)
	}
	// So it is with directories.
	w.clock.Advance(time.Hour)
	var held []func()
	for range perDirectory {
		done, ok := w.directories[0].turns.Take(t.Context(), w.directories[0].host)
		if !ok {
			t.Fatal("no turn")
		}
		held = append(held, done)
	}
	short, end := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer end()
	if a := w.askDirectories(short, address(t, "bob@good.example")); a.Word != Busy {
		t.Errorf("%+v", a)
	}
	for _, done := range held {
		done()
	}
	if a := w.askDirectories(t.Context(), address(t, "bob@good.example")); a.Word != fetch.Timeout {
		t.Errorf("a directory that had its time: %+v", a)
	}
}

// TestACallerWhoGoesBlamesNobody: what it did not wait for is no fact.
func TestACallerWhoGoesBlamesNobody(t *testing.T) {
	w := start(t, func(n *fake.Internet, d *Deps) {
		d.Directories, d.KeyServers = []string{"ldaps://" + silence(t) + "/"}, []string{"keys.example"}
		n.SetDNSFault("_openpgpkey.hangs.example", fake.NoAnswer)
		n.SetDNSFault("_smimecert.hangs.example", fake.NoAnswer)
		for _, host := range []string{"openpgpkey.hangs.example", "keys.example"} {
			n.SetA(host, netip.MustParseAddr("127.77.0.4"))
		}
	})
	mute(t, w.net, "127.77.0.4")
	for _, went := range []bool{true, false} {
		ctx, end := context.WithCancel(t.Context())
		if went {
			time.AfterFunc(100*time.Millisecond, end)
		}
		for _, a := range w.Ask(ctx, address(t, "a@hangs.example")) {
			if word := map[bool]string{true: Busy, false: fetch.Timeout}[went]; a.Word != word || a.Absent {
				t.Errorf("%s, the caller went %v: %+v", a.Source, went, a)
			}
		}
		end()
	}
}
