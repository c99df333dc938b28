package pool

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/resolve"
)

// TestBlockLists asks lists of every kind: one that works, one that lists
// everything, one that lists nothing, one that refuses our resolver, one whose
// domain was sold and now leads to a web server, and one that is down.
func TestBlockLists(t *testing.T) {
	n, err := fake.Start(t.Context(), fake.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	yes, no := netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.255.255.254")
	n.SetA("2.0.0.127.good.example", yes)
	n.SetA("10.2.0.192.good.example", yes, netip.MustParseAddr("127.0.0.10"))
	n.SetA("2.0.0.127.all.example", yes)
	n.SetA("1.0.0.127.all.example", yes)
	n.SetA("10.2.0.192.all.example", yes)
	n.SetA("10.2.0.192.none.example", yes)
	for _, q := range []string{"2.0.0.127", "1.0.0.127", "10.2.0.192", "11.2.0.192"} {
		n.SetA(q+".refuses.example", no)
		n.SetA(q+".sold.example", netip.MustParseAddr("203.0.113.80"))
	}
	const six = ".0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.good.example"
	n.SetA("2.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.good.example", yes)
	n.SetA("5.0"+six[4:], yes)
	for _, q := range []string{"2.0.0.127.down.example", "2.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.down.example", "11.2.0.192.good.example"} {
		n.SetDNSFault(q, fake.ServFail)
	}

	r, err := resolve.New(resolve.Deps{Servers: []string{n.ResolverAddr}, Timeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		at := clock.NewFake(noon)
		s := New(Deps{DB: d, Clock: at, Log: slog.New(slog.DiscardHandler), Resolver: r,
			BlockLists: []string{"good.example", "all.example", "none.example", "refuses.example", "sold.example", "down.example"},
			Pools: []config.Pool{
				{Name: "a", Addresses: []string{"192.0.2.10", "192.0.2.11", "10.1.2.3"}},
				{Name: "b", Addresses: []string{"10.1.2.4"}, PublicAddresses: []string{"2001:db8::5", "2001:db8::6"}},
			}})
		before := n.Queries("10.2.0.192.good.example")
		for range 26 { // hours: asked twice, and the answers are replaced
			if err := s.CheckListsDue(t.Context()); err != nil {
				t.Fatal(err)
			}
			at.Advance(time.Hour)
		}
		if asked := n.Queries("10.2.0.192.good.example") - before; asked != 2 {
			t.Errorf("asked %d times in 26 hours", asked)
		}
		all, err := s.Report(t.Context(), 7)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, st := range all {
			for _, l := range st.Listings {
				got[l.List+" "+l.Address.String()] = string(l.State) + " " + l.Codes
			}
		}
		want := map[string]string{}
		for _, a := range []string{"192.0.2.10", "192.0.2.11", "2001:db8::5", "2001:db8::6"} {
			want["good.example "+a] = "clean "
			want["down.example "+a] = "unanswered "
			for _, list := range []string{"all", "none", "refuses", "sold"} {
				want[list+".example "+a] = "broken "
			}
		}
		want["good.example 192.0.2.11"] = "unanswered "
		want["good.example 192.0.2.10"] = "listed 127.0.0.10 127.0.0.2"
		want["good.example 2001:db8::5"] = "listed 127.0.0.2"
		for key, w := range want {
			if got[key] != w {
				t.Errorf("%s: %q, want %q", key, got[key], w)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%d answers, want %d: a private address was asked about", len(got), len(want))
		}
		figures, err := s.Figures(t.Context())
		if err != nil || figures[0].Listed != 1 || figures[1].Listed != 1 || figures[2].Listed != 0 {
			t.Errorf("%+v %v", figures, err)
		}
	})
}
