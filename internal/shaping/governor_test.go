package shaping

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sealpost/sealpost/internal/private"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func event(k Kind) Event { return Event{Kind: k} }

var rates = rapid.Custom(func(t *rapid.T) Rate {
	return Rate{rapid.SampledFrom([]int{1, 3, 20, 60, 200}).Draw(t, "messages"),
		rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour}).Draw(t, "per")}
})

// TestRateHoldsInEveryWindow sends as fast as it is let, with pauses that let
// the bucket fill, through slowdowns and a clock that wavers. No window of the
// rate's length has more messages than the rate, over all nodes.
func TestRateHoldsInEveryWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rates.Draw(t, "rate")
		nodes := rapid.IntRange(1, min(4, rate.Messages)).Draw(t, "nodes")
		slowing := Reaction{Name: "slow", Code: 421, Act: Slow, For: 3 * rate.Per}
		governors := make([]*Governor, nodes)
		for i := range governors {
			governors[i] = NewGovernor(Site{Name: "s", Rate: rate, Reactions: []Reaction{slowing}})
		}
		now := start
		var sent []time.Time
		for range 300 {
			next := now.Add(rate.Per)
			for _, g := range governors {
				for {
					ok, retry := g.Send(now, nodes)
					if !ok {
						if !retry.After(now) {
							t.Fatalf("a no without a later time: %v", retry.Sub(now))
						}
						next = earlier(next, retry)
						break
					}
					sent = append(sent, now)
				}
			}
			switch rapid.IntRange(0, 99).Draw(t, "what") {
			case 50: // rapid likes the ends
				governors[0].Heard(now, Event{Kind: Deferred, Code: 421})
			case 60, 61, 62:
				next = next.Add(time.Duration(rapid.Int64Range(0, int64(2*rate.Per)).Draw(t, "pause")))
			case 70, 71, 72: // another goroutine read the clock a little earlier
				if ok, _ := governors[0].Send(now.Add(-time.Millisecond), nodes); ok {
					sent = append(sent, now)
				}
			}
			now = next
		}
		slices.SortFunc(sent, time.Time.Compare)
		for i := range sent {
			if j := i + rate.Messages; j < len(sent) && sent[j].Sub(sent[i]) < rate.Per {
				t.Fatalf("%d messages within %s at %s for %d nodes", rate.Messages+1, sent[j].Sub(sent[i]), rate, nodes)
			}
		}
	})
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// TestRateIsUsed: the limit is kept, and most of it can be had by all nodes
// together, even where a node's share is less than one message.
func TestRateIsUsed(t *testing.T) {
	for _, tc := range []struct {
		rate        Rate
		nodes       int
		least, most int // in 100 times Per
	}{
		{Rate{10, time.Second}, 1, 950, 1000}, {Rate{100, time.Minute}, 1, 9000, 10000}, {Rate{10, time.Second}, 3, 850, 900},
		{Rate{1, time.Second}, 4, 96, 104}, {Rate{2, time.Minute}, 5, 190, 205},
	} {
		sent := 0
		for range tc.nodes {
			g := NewGovernor(Site{Rate: tc.rate})
			for now := start; now.Before(start.Add(100 * tc.rate.Per)); {
				ok, retry := g.Send(now, tc.nodes)
				if ok {
					sent++
					continue
				}
				now = retry
			}
		}
		if sent < tc.least || sent > tc.most {
			t.Errorf("%s over %d nodes: %d messages in 100 stretches, want %d to %d", tc.rate, tc.nodes, sent, tc.least, tc.most)
		}
	}
}

// TestNodesShareConnections: what all nodes may open together is no more than
// the site's limit, however wide it has grown, as long as each has one.
func TestNodesShareConnections(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 50).Draw(t, "connections")
		nodes := rapid.IntRange(1, 8).Draw(t, "nodes")
		open := 0
		for range nodes {
			g := NewGovernor(Site{Connections: most})
			for range 100 {
				g.Heard(start, event(Accepted))
			}
			for {
				ok, retry := g.Connect(start, nodes)
				if !ok {
					if !retry.After(start) {
						t.Fatal("a no without a later time")
					}
					break
				}
				open++
			}
		}
		if open > max(most, nodes) || open <= most-nodes {
			t.Fatalf("%d nodes open %d connections of %d", nodes, open, most)
		}
	})
}

// TestNeverStuck: whatever a site says, for however long, once it takes mail
// again its connections and its rate come back.
func TestNeverStuck(t *testing.T) {
	site := Site{Name: "s", Connections: 8, Rate: Rate{60, time.Minute}, Reactions: []Reaction{
		{Name: "a", Code: 421, Act: Slow, For: time.Hour}, {Name: "b", Code: 450, Act: Suspend, For: 2 * time.Hour}}}
	rapid.Check(t, func(t *rapid.T) {
		g, now, nodes, open := NewGovernor(site), start, rapid.IntRange(1, 12).Draw(t, "nodes"), 0
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "act") {
			case 0:
				if ok, _ := g.Connect(now, nodes); ok {
					open++
				}
			case 1:
				if open > 0 {
					g.Closed()
					open--
				}
			case 2:
				g.Send(now, nodes)
			case 3:
				kind := Kind(rapid.IntRange(int(Accepted), int(WeakTLS)).Draw(t, "kind"))
				g.Heard(now, Event{Kind: kind, Code: rapid.SampledFrom([]int{0, 250, 421, 450, 451, 550}).Draw(t, "code")})
			case 4: // time passes, or the clock is set
				now = now.Add(time.Duration(rapid.Int64Range(-int64(30*time.Hour), int64(6*time.Hour)).Draw(t, "time")))
			}
		}
		for ; open > 0; open-- {
			g.Closed()
		}
		if until, _ := g.Suspended(now); until.Sub(now) > 2*time.Hour+jitter {
			t.Fatalf("suspended for %s", until.Sub(now))
		}
		now = comesBack(t, g, now, nodes)
		// A day of taking mail later, all limits are back.
		for end := now.Add(24 * time.Hour); now.Before(end); now = now.Add(time.Minute) {
			g.Heard(now, event(Accepted))
		}
		if s := g.State(); s.Most != 8 || s.Slowed != 0 || s.Probing || !s.Suspended.IsZero() || s.Reason != "" {
			t.Fatalf("a day later: %+v", s)
		}
	})
}

// comesBack asks as an engine does until a connection and a message pass.
func comesBack(t *rapid.T, g *Governor, now time.Time, nodes int) time.Time {
	end := now.Add(3 * time.Hour)
	for _, ask := range []func(time.Time, int) (bool, time.Time){g.Connect, g.Send} {
		for {
			ok, retry := ask(now, nodes)
			if ok {
				break
			}
			if !retry.After(now) || retry.After(end) {
				t.Fatalf("a no with %s to wait: %+v", retry.Sub(now), g.State())
			}
			now = retry
		}
	}
	g.Closed()
	return now
}

func TestWidthFollowsWhatTheSiteTakes(t *testing.T) {
	g := NewGovernor(Site{Connections: 20})
	if s := g.State(); s.Most != startWidth {
		t.Fatalf("a site nobody knows begins with %d", s.Most)
	}
	for range 40 {
		g.Heard(start, event(Accepted))
	}
	if s := g.State(); s.Most != 20 {
		t.Errorf("grown to %d", s.Most)
	}
	for range 20 {
		g.Connect(start, 1)
	}
	for range 5 { // together, as connections that are cut at once are
		g.Heard(start.Add(time.Second), Event{Kind: Deferred, Code: 421})
	}
	if s := g.State(); s.Most != 10 || s.Open != 20 {
		t.Errorf("after a complaint %+v", s)
	}
	for range 10 {
		g.Heard(start, event(Accepted))
	}
	if s := g.State(); s.Most != 11 {
		t.Errorf("after as many messages as connections: %d", s.Most)
	}
	now := start
	for range 10 {
		now = now.Add(calm)
		g.Heard(now, Event{Kind: Deferred, Code: 421})
	}
	if s := g.State(); s.Most != 1 {
		t.Errorf("after complaints without end: %d", s.Most)
	}
}

// Deferrals narrow a site only when most of what it says are deferrals.
func TestShareOfDeferrals(t *testing.T) {
	for taken, want := range map[int]int{3: 20, 1: 10} { // for two deferred
		g := NewGovernor(Site{Connections: 20})
		for range 40 {
			g.Heard(start, event(Accepted))
		}
		for range 20 {
			g.Connect(start, 1)
		}
		for range 8 {
			for range 2 {
				g.Heard(start.Add(time.Minute), Event{Kind: Deferred, Code: 451})
			}
			for range taken {
				g.Heard(start.Add(time.Minute), event(Refused))
			}
		}
		if s := g.State(); s.Most != want {
			t.Errorf("with %d others to 2 deferrals: %d, want %d", taken, s.Most, want)
		}
	}
}

func TestFailuresSuspendLongerEachTime(t *testing.T) {
	g, now := NewGovernor(Site{Connections: 5}), start
	for range failuresMost - 1 {
		g.Heard(now, event(Unreachable))
	}
	if until, _ := g.Suspended(now); !until.IsZero() {
		t.Fatal("suspended too early")
	}
	for range 2 { // what is under way when it is suspended does not make it longer
		g.Heard(now, event(TimedOut))
	}
	for _, minutes := range []int{1, 2, 4, 8, 16, 30, 30} {
		until, why := g.Suspended(now)
		if until.Sub(now) != time.Duration(minutes)*time.Minute || why != "timeout" {
			t.Fatalf("suspended for %s (%s), want %d minutes", until.Sub(now), why, minutes)
		}
		if ok, retry := g.Connect(now, 1); ok || retry != until {
			t.Fatal("a connection while suspended")
		}
		if ok, retry := g.Send(now, 1); ok || retry != until {
			t.Fatal("a message while suspended")
		}
		now = until
		if ok, _ := g.Connect(now, 1); !ok {
			t.Fatal("no probe after the pause")
		}
		if ok, _ := g.Connect(now, 1); ok {
			t.Fatal("two probes at a time")
		}
		g.Heard(now, event(TimedOut))
		g.Closed()
	}
	now = now.Add(pauseMost)
	g.Connect(now, 1)
	g.Heard(now, event(Refused))
	if ok, _ := g.Connect(now, 1); g.State().Probing || !ok && g.State().Most > 1 {
		t.Errorf("a site that answers is still probed: %+v", g.State())
	}
}

func TestReactions(t *testing.T) {
	site := Default().Site("a.example", []string{"mta5.am0.yahoodns.net"})
	g := NewGovernor(site)
	g.Heard(start, reply(421, "4.7.0", "[TSS04] Messages from 192.0.2.7 deferred canary"))
	until, why := g.Suspended(start)
	if until.Sub(start) != 30*time.Minute || why != "volume-or-complaints" {
		t.Errorf("suspended for %s: %s", until.Sub(start), why)
	}
	g.Heard(start.Add(time.Second), event(Accepted)) // begun before
	if until, _ := g.Suspended(start.Add(time.Second)); until.IsZero() {
		t.Error("an answer under way ends a suspension")
	}
	if shown := fmt.Sprintf("%+v %+v", g.State(), Event{Text: private.NewString("canary")}); strings.Contains(shown, "canary") {
		t.Errorf("the reply is shown: %s", shown)
	}
	if text := private.NewString(strings.Repeat("x", 2*matchMost) + "TSS04"); g.site.Reactions[0].matches(Event{Code: 421, Text: text}) {
		t.Error("more of a reply is looked at than its beginning")
	}
}

// TestSlowHalvesAndHeals: each complaint halves the rate again, and it comes
// back by one halving at a time.
func TestSlowHalvesAndHeals(t *testing.T) {
	g := NewGovernor(Site{Connections: 4, Rate: Rate{64, time.Second}, Reactions: []Reaction{{Name: "r", Code: 421, Act: Slow, For: time.Hour}}})
	now := start
	count := func() (n int) {
		for end := now.Add(10 * time.Second); now.Before(end); {
			ok, retry := g.Send(now, 1)
			if !ok {
				now = retry
				continue
			}
			n++
		}
		return n
	}
	for i, want := range []int{600, 300, 150} {
		if got := count(); got < want-60/(i+1) || got > 640>>i {
			t.Errorf("slowed %d times: %d messages in 10 s", i, got)
		}
		g.Heard(now, Event{Kind: Deferred, Code: 421})
		now = now.Add(calm)
	}
	for i, want := range []int{3, 2, 1, 0} {
		if s := g.State(); s.Slowed != want || s.SlowedUntil.IsZero() != (want == 0) {
			t.Errorf("%d: %+v, want %d", i, s, want)
		}
		now = now.Add(time.Hour - calm*time.Duration(1-min(i, 1)))
		g.Heard(now, event(Accepted))
	}
}

func TestTheClockIsSetBack(t *testing.T) {
	g := NewGovernor(Site{Connections: 4, Rate: Rate{60, time.Minute}})
	for range failuresMost {
		g.Heard(start, event(Unreachable))
	}
	g.Send(start, 1)
	day := start.Add(-24 * time.Hour)
	if until, _ := g.Suspended(day); until.Sub(day) != time.Minute {
		t.Errorf("suspended for %s", until.Sub(day))
	}
	if ok, _ := g.Connect(day.Add(time.Minute), 1); !ok {
		t.Error("the pause does not end")
	}
}
