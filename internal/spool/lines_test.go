package spool_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/spool/spooltest"
)

func compareLines(a, b spool.Line) int {
	return cmp.Or(cmp.Compare(a.Lane, b.Lane), strings.Compare(a.Domain, b.Domain), strings.Compare(string(a.Org[:]), string(b.Org[:])))
}

// TestLines: each line once, in order, with its earliest delivery; what is
// held, or a run has, makes none.
func TestLines(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		now := s.clk.Now()
		want := map[spool.Line]time.Time{}
		for _, lane := range []spool.Lane{spool.LaneOf(spool.Bulk, 0), spool.DefaultLane, spool.LaneOf(spool.Transactional, 9)} {
			for i, domain := range []string{"b.example", "a.example", "a-b.example", "z.example"} {
				for _, org := range []id.ID{s.org, s.other} {
					for _, ahead := range []time.Duration{time.Hour, time.Duration(i) * time.Minute, 2 * time.Hour} {
						s.accept(given{org: org, lane: lane, nextAt: now.Add(ahead), state: spool.Scheduled}, "p@"+domain)
					}
					want[spool.Line{Lane: lane, Domain: domain, Org: org}] = now.Add(time.Duration(i) * time.Minute)
				}
			}
		}
		s.accept(given{state: spool.Held}, "p@held.example")
		s.accept(given{owner: s.runs[1]}, "p@owned.example")
		var got []spool.Head
		for after := (spool.Line{}); ; {
			var page []spool.Head
			s.read(db.System, func(tx *db.Tx) (err error) {
				page, err = spool.Lines(tx, after, 5)
				return err
			})
			if len(page) == 0 {
				break
			}
			got, after = append(got, page...), page[len(page)-1].Line
		}
		if len(got) != len(want) {
			t.Fatalf("%d lines, want %d", len(got), len(want))
		}
		seen := map[spool.Line]bool{}
		for i, h := range got {
			if at, ok := want[h.Line]; !ok || !h.DueAt.Equal(at) || seen[h.Line] {
				t.Errorf("line %+v is due at %v, want %v", h.Line, h.DueAt, at)
			}
			if seen[h.Line] = true; i > 0 && got[i-1].Lane > h.Lane {
				t.Errorf("lane %d stands behind %d", h.Lane, got[i-1].Lane)
			}
		}
		var lately []spool.Line
		s.read(db.System, func(tx *db.Tx) (err error) {
			lately, err = spool.Lately(tx, now, now.Add(2*time.Minute), 100)
			return err
		})
		if len(lately) != 3*2*2 || slices.ContainsFunc(lately, func(l spool.Line) bool { return l.Domain != "a.example" && l.Domain != "a-b.example" }) {
			t.Errorf("%d lines became due of late", len(lately))
		}
		s.clk.Advance(time.Minute)
		items := s.takeOf(s.runs[1], 7, got[0].Line, got[1].Line, got[2].Line, got[3].Line)
		for _, it := range items {
			if at, ok := want[it.Line()]; !ok || at.After(s.clk.Now()) {
				t.Errorf("taken of a line that is not due: %+v", it)
			}
		}
		if len(items) == 0 || len(s.take(s.runs[1]))+len(items) != 3*2*2 {
			t.Error("not what is due was taken")
		}
	})
}

// TestEachLineGivesItsShare, however long the one before it is.
func TestEachLineGivesItsShare(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		var to []string
		for i := range 50 {
			to = append(to, fmt.Sprintf("p%d@long.example", i))
		}
		_, long := s.accept(given{}, to...)
		_, short := s.accept(given{org: s.other}, "p@long.example")
		got := s.takeOf(s.runs[1], 3, item(long[0]).Line(), item(short[0]).Line())
		if want := []id.ID{long[0].ID, long[1].ID, long[2].ID, short[0].ID}; !slices.Equal(ids(got), want) {
			t.Errorf("took %v, want %v", ids(got), want)
		}
	})
}

// BenchmarkLines says what finding and taking cost with so many deliveries
// waiting: the cost must follow the lines and not the deliveries.
func BenchmarkLines(b *testing.B) {
	for name, open := range map[string]func(testing.TB) *db.DB{"SQLite": dbtest.SQLite, "PostgreSQL": dbtest.PostgreSQL} {
		for _, many := range []int{10_000, 1_000_000} {
			b.Run(fmt.Sprintf("%s/%d", name, many), func(b *testing.B) {
				d := open(b)
				now := time.Now()
				if err := spooltest.Preload(context.Background(), d, spooltest.Load{Deliveries: many, Domains: 1000, Orgs: 5, DueAt: now}); err != nil {
					b.Fatal(err)
				}
				benchLines(b, d, now)
			})
		}
	}
}

func benchLines(b *testing.B, d *db.DB, now time.Time) {
	var heads []spool.Head
	b.Run("scan", func(b *testing.B) {
		for b.Loop() {
			if err := d.Read(ctx, db.System, func(tx *db.Tx) (err error) {
				heads, err = spool.Lines(tx, spool.Line{}, 1_000_000)
				return err
			}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(heads)), "lines")
	})
	slices.SortFunc(heads, func(a, b spool.Head) int { return compareLines(a.Line, b.Line) })
	b.Run("take", func(b *testing.B) {
		var wants []spool.Want
		for _, h := range heads[:100] {
			wants = append(wants, spool.Want{Line: h.Line, N: 1})
		}
		undo := errors.New("as it was")
		for b.Loop() {
			if err := d.WriteAlone(ctx, db.System, func(tx *db.Tx) error {
				items, err := spool.Take(tx, id.New(), now.Add(time.Hour), wants)
				if err == nil && len(items) != len(wants) {
					err = fmt.Errorf("%d taken", len(items))
				}
				return cmp.Or(err, error(undo))
			}); !errors.Is(err, undo) {
				b.Fatal(err)
			}
		}
	})
	b.Run("owners", func(b *testing.B) {
		for b.Loop() {
			if err := d.Read(ctx, db.System, func(tx *db.Tx) error {
				_, err := spool.Owners(tx)
				return err
			}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
