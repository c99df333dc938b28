package app

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/suppress"
)

// tallies are figures that take a look at every row of tables that may be long.
// They are counted once a minute at most, and no more than a hundredth of the
// time, however often somebody asks.
type tallies struct {
	s *Server

	counting sync.Mutex // of the one who counts; others are told what is known
	next     time.Time  // they are not counted before

	mu         sync.Mutex
	piles      []spool.Pile
	suppressed map[suppress.Reason]int // nil: nothing is known, since the last count failed
}

const (
	tallyEvery = time.Minute
	tallyShare = 100
	tallyMost  = 30 * time.Second
)

func (*tallies) Describe(ch chan<- *prometheus.Desc) { ch <- depthDesc; ch <- suppressedDesc }

// Collect counts where it is time to, and tells what is known.
func (t *tallies) Collect(ch chan<- prometheus.Metric) {
	if t.counting.TryLock() {
		if began := t.s.Clock.Now(); !began.Before(t.next) {
			t.count(began)
			now := t.s.Clock.Now()
			t.next = now.Add(max(tallyEvery, tallyShare*now.Sub(began)))
		}
		t.counting.Unlock()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.suppressed == nil {
		return
	}
	for _, p := range t.piles {
		ch <- prometheus.MustNewConstMetric(depthDesc, prometheus.GaugeValue, float64(p.Count), string(p.State), string(p.Stream))
	}
	for reason, n := range t.suppressed {
		ch <- prometheus.MustNewConstMetric(suppressedDesc, prometheus.GaugeValue, float64(n), string(reason))
	}
}

func (t *tallies) count(now time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), tallyMost)
	defer cancel()
	var piles []spool.Pile
	var suppressed map[suppress.Reason]int
	if err := t.s.DB.Read(ctx, db.System, func(tx *db.Tx) (err error) {
		if piles, err = spool.Piles(tx); err != nil {
			return err
		}
		suppressed, err = suppress.Count(tx, now)
		return err
	}); err != nil {
		suppressed = nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.piles, t.suppressed = piles, suppressed
}
