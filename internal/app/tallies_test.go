package app

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/spool/spooltest"
)

// TestTallies: every delivery that waits is counted, but not whenever somebody
// asks, and what cannot be counted is not told as nothing.
func TestTallies(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		clk := clock.NewFake(time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC))
		r := prometheus.NewRegistry()
		tally := &tallies{s: &Server{Core: &Core{DB: d, Clock: clk}}}
		r.MustRegister(tally)
		told := func() (series int, waiting float64) {
			t.Helper()
			families, err := r.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range families {
				series += len(f.GetMetric())
				for _, m := range f.GetMetric() {
					if f.GetName() == "sealpost_unsettled_deliveries" {
						waiting += m.GetGauge().GetValue()
					}
				}
			}
			return series, waiting
		}
		load := func() {
			t.Helper()
			if err := spooltest.Preload(context.Background(), d, spooltest.Load{Deliveries: 7, Domains: 1, Orgs: 1, DueAt: clk.Now()}); err != nil {
				t.Fatal(err)
			}
		}
		load()
		for _, c := range []struct {
			after   time.Duration
			waiting float64
		}{{0, 7}, {tallyEvery - 1, 7}, {1, 14}} {
			clk.Advance(c.after)
			if series, waiting := told(); waiting != c.waiting || series != 5*2+5 {
				t.Errorf("%d series, %v wait; want %v", series, waiting, c.waiting)
			}
			if c.after == 0 {
				load()
			}
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		clk.Advance(tallyEvery)
		if series, _ := told(); series != 0 {
			t.Errorf("%d series of a database that does not answer", series)
		}
	})
}
