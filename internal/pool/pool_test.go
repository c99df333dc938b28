package pool

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("database/sql.(*DB).connectionOpener"))
}

var (
	noon   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	clinic = id.New()
	lab    = id.New()
)

func orgBySlug(_ context.Context, slug string) (id.ID, error) {
	switch slug {
	case "clinic":
		return clinic, nil
	case "lab":
		return lab, nil
	}
	return id.ID{}, fault.New(fault.NotFound, "no_org", "There is no such organization.")
}

func local(a netip.Addr) bool { return a.String() == "192.0.2.1" || a.String() == "192.0.2.2" }

// service gives a bound service whose loop does not run, so that tests say when
// things are written down.
func service(t *testing.T, d *db.DB, at clock.Clock, pools ...config.Pool) *Service {
	t.Helper()
	s := New(Deps{Pools: pools, Hostname: "mail.example", DB: d, Clock: at, Log: slog.New(slog.DiscardHandler), Org: orgBySlug, Local: local})
	if err := s.bind(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// sent asks for n messages and gives how many may leave, by pool.
func sent(t *testing.T, s *Service, n int, site string) map[string]int {
	t.Helper()
	got := map[string]int{}
	for range n {
		src, err := s.Source(t.Context(), clinic, "bulk", site)
		var full *Full
		if errors.As(err, &full) {
			got["full"]++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got[src.Pool]++
	}
	return got
}

func TestTheMostTellingBindingCounts(t *testing.T) {
	s := service(t, nil, clock.NewFake(noon),
		config.Pool{Name: "bulk", Streams: []string{"bulk"}},
		config.Pool{Name: "clinic", Orgs: []string{"clinic"}, Addresses: []string{"192.0.2.1", "192.0.2.2"}, Helo: []string{"a.example", "b.example"}},
		config.Pool{Name: "clinic-bulk", Orgs: []string{"clinic"}, Streams: []string{"bulk"}, Helo: []string{"c.example"}})
	for _, tc := range []struct {
		org          id.ID
		stream, pool string
	}{
		{clinic, "bulk", "clinic-bulk"}, {clinic, "transactional", "clinic"}, {lab, "bulk", "bulk"}, {lab, "transactional", "default"},
	} {
		src, err := s.Source(t.Context(), tc.org, tc.stream, "google")
		if err != nil || src.Pool != tc.pool {
			t.Errorf("%s: %+v %v", tc.pool, src, err)
		}
	}
	seen := map[string]int{}
	for range 10 {
		src, _ := s.Source(t.Context(), clinic, "transactional", "google")
		seen[src.Addr.String()+" "+src.Helo]++
	}
	if seen["192.0.2.1 a.example"] != 5 || seen["192.0.2.2 b.example"] != 5 {
		t.Errorf("addresses are not used in turn: %v", seen)
	}
	if src, _ := s.Source(t.Context(), lab, "", "google"); src.Addr.IsValid() || src.Helo != "mail.example" {
		t.Errorf("the pool default: %+v", src)
	}
}

func TestMistakesAreToldAtOnce(t *testing.T) {
	s := New(Deps{Clock: clock.NewFake(noon), Org: orgBySlug, Local: local, Pools: []config.Pool{
		{Name: "a", Orgs: []string{"nobody", "clinic"}, Addresses: []string{"192.0.2.1", "198.51.100.7"}}}})
	err := s.Start(t.Context())
	f := fault.From(err)
	if !fault.Is(err, fault.Invalid) || len(f.Also) != 1 || !strings.Contains(f.Text, "198.51.100.7") || !strings.Contains(f.Also[0].Text, "\"nobody\"") {
		t.Errorf("%v %v", err, f.Also)
	}
	s.Stop()
}

func TestWarmUp(t *testing.T) {
	day := dayOf(noon)
	grown := config.Pool{WarmUpStarted: "2026-03-01", WarmUpDays: []int{50, 100}, WarmUpGrowth: 50, DailyCeiling: 400}
	for _, tc := range []struct {
		c    config.Pool
		want []int64 // from the day before the start
	}{
		{grown, []int64{50, 50, 100, 150, 225, 337, 400, 400}},
		{config.Pool{WarmUpStarted: "2026-03-01", WarmUpDays: []int{50, 100}}, []int64{50, 50, 100, 0}},
		{config.Pool{WarmUpStarted: "2026-03-01", WarmUpDays: []int{50, 100}, DailyCeiling: 70}, []int64{50, 50, 70, 70}},
		{config.Pool{WarmUpStarted: "2026-03-01", WarmUpDays: []int{1}, WarmUpGrowth: 1, DailyCeiling: 3}, []int64{1, 1, 2, 3, 3}},
		{config.Pool{DailyCeiling: 9}, []int64{9, 9}},
		{config.Pool{}, []int64{0, 0}},
	} {
		p := ready(tc.c, "")
		for i, want := range tc.want {
			if got, limited := p.ceiling(day - 1 + int64(i)); got != want || limited != (want > 0) {
				t.Errorf("%+v, day %d: %d (%v), want %d", tc.c, i, got, limited, want)
			}
		}
	}
	p := ready(grown, "")
	if !p.warming(day) || !p.warming(day+4) || p.warming(day+5) {
		t.Error("the warm-up ends at another day")
	}
	if most, _ := p.ceiling(day + 1e9); most != 400 {
		t.Errorf("in a far future: %d", most)
	}
}

// TestNodesTogetherKeepTheCeiling: two nodes that send side by side as fast as
// they are let never exceed it, and use nearly all of it.
func TestNodesTogetherKeepTheCeiling(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		at := clock.NewFake(noon)
		const ceiling = 270
		c := config.Pool{Name: "bulk", Streams: []string{"bulk"}, DailyCeiling: ceiling}
		nodes := []*Service{service(t, d, at, c), service(t, d, at, c)}
		got := make([]int, 2*len(nodes))
		var group sync.WaitGroup
		for i := range got {
			group.Go(func() {
				for range ceiling {
					if _, err := nodes[i%2].Source(t.Context(), clinic, "bulk", "google"); err == nil {
						got[i]++
					}
				}
			})
		}
		group.Wait()
		if all := got[0] + got[1] + got[2] + got[3]; all != ceiling {
			t.Errorf("%v: %d messages of %d", got, all, ceiling)
		}
		_, err := nodes[0].Source(t.Context(), clinic, "bulk", "google")
		var full *Full
		if !fault.Is(err, fault.TooMany) || !errors.As(err, &full) || !full.Until.Equal(noon.Add(12*time.Hour)) || full.Pool != "bulk" {
			t.Errorf("%v %+v", err, full)
		}
		at.Advance(12 * time.Hour)
		if got := sent(t, nodes[1], 300, "google"); got["bulk"] != ceiling {
			t.Errorf("the next day: %v", got)
		}
	})
}

// TestUnusedAllowanceComesBack: from a message that was not sent, from a node
// that stops, and from one that rests.
func TestUnusedAllowanceComesBack(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		at := clock.NewFake(noon)
		c := config.Pool{Name: "bulk", Streams: []string{"bulk"}, DailyCeiling: 100}
		one, two := service(t, d, at, c), service(t, d, at, c)
		if got := sent(t, one, 3, "google"); got["bulk"] != 3 {
			t.Fatal(got)
		}
		one.Heard("bulk", "google", Unsent)
		if got := sent(t, two, 100, "google"); got["bulk"] != 95 { // the first holds a block of 5
			t.Fatal(got)
		}
		for range 2 {
			if err := one.giveBack(t.Context(), false); err != nil {
				t.Fatal(err)
			}
		}
		at.Advance(lookAgain)
		if got := sent(t, two, 100, "google"); got["bulk"] != 3 {
			t.Errorf("of what a resting node gave back: %v", got)
		}
		two.Heard("bulk", "google", Unsent)
		if err := two.giveBack(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if got := sent(t, one, 5, "google"); got["bulk"] != 1 {
			t.Errorf("of what a stopped node gave back: %v", got)
		}
	})
}

// TestNothingIsTakenIntoAForgottenBlock: blocks are given back all the time
// while messages are allowed. In the end as much is taken of the day as was
// sent.
func TestNothingIsTakenIntoAForgottenBlock(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := service(t, d, clock.NewFake(noon), config.Pool{Name: "default", DailyCeiling: 1000})
		over := make(chan struct{})
		var back sync.WaitGroup
		back.Go(func() {
			for {
				if err := s.giveBack(t.Context(), true); err != nil {
					t.Error(err)
				}
				select {
				case <-over:
					return
				default:
				}
			}
		})
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 25 {
					if err := s.allow(t.Context(), s.rest, "google"); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		close(over)
		back.Wait()
		if err := s.giveBack(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		var granted int
		if err := d.Read(t.Context(), db.System, func(tx *db.Tx) error {
			return tx.Row("SELECT granted FROM pool_days WHERE pool = 'default' AND site = ''").Scan(&granted)
		}); err != nil {
			t.Fatal(err)
		}
		if granted != 100 {
			t.Errorf("%d are taken of the day for 100 messages", granted)
		}
	})
}

func TestOverflowAndShares(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := service(t, d, clock.NewFake(noon),
			config.Pool{Name: "bulk", Streams: []string{"bulk"}, DailyCeiling: 40, SiteShare: 25, Overflow: "spare"},
			config.Pool{Name: "spare", DailyCeiling: 7, Overflow: "default"})
		if got := sent(t, s, 30, "google"); got["bulk"] != 10 || got["spare"] != 7 || got["default"] != 13 {
			t.Errorf("one site: %v", got)
		}
		if got := sent(t, s, 30, "yahoo"); got["bulk"] != 10 || got["default"] != 20 {
			t.Errorf("another site: %v", got)
		}
		for _, site := range []string{"a.example", "b.example", "c.example"} {
			sent(t, s, 30, site)
		}
		if got := sent(t, s, 5, "d.example"); got["bulk"] != 0 {
			t.Errorf("sites together exceed the pool: %v", got)
		}
	})
}

// TestTheClockJumps: a day back and forth, no day gets more than its ceiling,
// and days do not take from each other.
func TestTheClockJumps(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		at := clock.NewFake(noon)
		s := service(t, d, at, config.Pool{Name: "bulk", Streams: []string{"bulk"}, DailyCeiling: 20})
		total := map[int64]int{}
		for _, jump := range []time.Duration{0, -24 * time.Hour, 48 * time.Hour, -24 * time.Hour, 24 * time.Hour, -10 * 365 * 24 * time.Hour, 10 * 365 * 24 * time.Hour} {
			at.Advance(jump)
			got := sent(t, s, 15, "google")
			total[dayOf(at.Now())] += got["bulk"]
			s.Heard("bulk", "google", Accepted)
			if err := s.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for day, n := range total {
			if n > 20 || n < 15 {
				t.Errorf("%d messages on %s", n, startOf(day).Format(time.DateOnly))
			}
		}
	})
}

func TestBouncesHalveTheDay(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		at := clock.NewFake(noon)
		c := config.Pool{Name: "bulk", Streams: []string{"bulk"}, DailyCeiling: 400, SlowBounces: 5, SlowDeferrals: 50, Overflow: "default"}
		one, two := service(t, d, at, c), service(t, d, at, c)
		heard := func(s *Service, n int, what Result) {
			for range n {
				s.Heard("bulk", "google", what)
			}
			if err := s.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		today := func() Standing {
			all, err := two.Report(t.Context(), 1)
			if err != nil {
				t.Fatal(err)
			}
			return all[0]
		}
		heard(one, 94, Accepted)
		heard(two, 5, Bounced)
		if st := today(); st.Halvings != 0 {
			t.Errorf("judged too early: %+v", st)
		}
		heard(one, 1, Bounced) // the hundredth attempt, counted by both nodes together
		heard(two, 90, Deferred)
		if st := today(); st.Halvings != 1 || st.Ceiling != 200 || st.Total.Bounced != 6 || st.Total.Deferred != 90 {
			t.Errorf("%+v", st)
		}
		heard(one, 50, Accepted) // six in a hundred and fifty is little
		if got := sent(t, two, 400, "google"); got["bulk"] != 200 || got["full"] != 200 {
			t.Errorf("after the halving: %v", got)
		}
		heard(one, 200, Deferred)
		if st := today(); st.Halvings != 2 {
			t.Errorf("as many attempts again are not judged: %+v", st)
		}
		if got := facts(t, d); len(got) != 2 || got[0].Why != "bounces" || got[0].Ceiling != 200 || got[0].Day != "2026-03-01" || got[1].Why != "deferrals" {
			t.Errorf("ledger: %+v", got)
		}
		at.Advance(24 * time.Hour)
		if st := today(); st.Halvings != 0 || st.Ceiling != 400 {
			t.Errorf("the next day: %+v", st)
		}
	})
}

func facts(t *testing.T, d *db.DB) (out []slowedFact) {
	t.Helper()
	if err := d.Read(t.Context(), db.System, func(tx *db.Tx) error {
		leaves, err := db.All(tx, db.Value[[]byte], "SELECT leaf FROM ledger_entries ORDER BY num")
		for _, leaf := range leaves {
			var entry struct {
				Type string     `json:"type"`
				Data slowedFact `json:"data"`
			}
			if err := json.Unmarshal(leaf, &entry); err != nil {
				return err
			}
			if entry.Type == "pool.slowed" {
				out = append(out, entry.Data)
			}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestCountsSurvive: what is heard is written by the loop and when it stops,
// and what a closed database does not take is kept.
func TestCountsSurvive(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		at := clock.NewFake(noon)
		s := New(Deps{DB: d, Clock: at, Log: slog.New(slog.DiscardHandler), Org: orgBySlug, Local: local})
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Heard("default", "google", Accepted)
		s.Heard("default", "yahoo", Complained)
		s.Stop()
		s.Stop()
		s.Heard("old", "a.example", Bounced)
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		at.Advance(48 * time.Hour)
		for days, want := range map[int]int{1: 0, 2: 0, 3: 2} {
			all, err := s.Report(t.Context(), days)
			if err != nil || len(all[0].Sites) != want {
				t.Errorf("%d days: %+v %v", days, all, err)
			}
			if want > 0 && (all[0].Total != Counts{Accepted: 1, Complained: 1} || len(all) != 2 || !all[1].Gone || all[1].Total.Rates().Bounced != 1) {
				t.Errorf("%+v", all)
			}
		}
		s.Heard("default", "google", Accepted)
		ctx, cancel := context.WithCancel(t.Context())
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(ctx); err == nil || s.counts[countKey{"default", "google", dayOf(at.Now())}].Accepted != 1 {
			t.Errorf("a count is lost: %v", err)
		}
		cancel()
	})
}

func TestOldDaysAreForgotten(t *testing.T) {
	d := dbtest.SQLite(t)
	at := clock.NewFake(noon)
	s := service(t, d, at)
	s.Heard("default", "google", Accepted)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	at.Advance(keepDays * oneDay)
	if err := s.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all, err := s.Report(t.Context(), 2*keepDays); err != nil || all[0].Total.Accepted != 1 {
		t.Errorf("a day too early: %+v %v", all, err)
	}
	at.Advance(oneDay)
	if err := s.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all, err := s.Report(t.Context(), 2*keepDays); err != nil || all[0].Total.Accepted != 0 {
		t.Errorf("kept for too long: %+v %v", all, err)
	}
}

func TestCountsAreBounded(t *testing.T) {
	s := service(t, nil, clock.NewFake(noon))
	for i := range keysMost + 500 {
		s.Heard("default", "site"+string(rune('a'+i%26))+id.New().Text("x"), Accepted)
	}
	other := s.counts[countKey{"default", otherSites, dayOf(noon)}]
	if len(s.counts) > keysMost+2 || other == nil || s.counts[countKey{"default", "", dayOf(noon)}].Accepted != keysMost+500 {
		t.Errorf("%d keys", len(s.counts))
	}
}

// TestTheClockIsSet: a day's ceiling is the day's, however often the clock comes
// back to it, and setting it forward by a year forgets nothing of today.
func TestTheClockIsSet(t *testing.T) {
	clk := clock.NewFake(noon)
	s := service(t, dbtest.SQLite(t), clk, config.Pool{Name: "bulk", Streams: []string{"bulk"}, DailyCeiling: 5})
	all := func(what string, leave int) {
		t.Helper()
		if got := sent(t, s, 10, "google"); got["bulk"] != leave {
			t.Errorf("%s: %d of 10 may leave, want %d", what, got["bulk"], leave)
		}
	}
	all("today", 5)
	s.Heard("bulk", "google", Accepted)
	clk.Jump(-24 * time.Hour)
	all("yesterday", 5)
	clk.Jump(24 * time.Hour)
	all("today once more", 0)
	clk.Jump(365 * 24 * time.Hour)
	all("in a year", 5)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	clk.Jump(-365 * 24 * time.Hour)
	all("today after all", 0)
	var accepted int64
	if err := s.DB.Read(t.Context(), db.System, func(tx *db.Tx) error {
		return tx.Row("SELECT accepted FROM pool_days WHERE pool = 'bulk' AND site = '' AND day = ?", dayOf(noon)).Scan(&accepted)
	}); err != nil || accepted != 1 {
		t.Errorf("%d were taken today, %v", accepted, err)
	}
}
