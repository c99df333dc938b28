package app

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/identity"
	"github.com/sealpost/sealpost/internal/spool"
)

// metrics are figures without names: no address, no domain of a recipient.
func (s *Server) metrics() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), depth{s}, poolFigures{s.Pools}, arrivals{s.inbound})
	r.MustRegister(journalFailed{s}, reportFigures{s})
	r.MustRegister(domains{s}, validity{s})
	return r
}

var endingDesc = prometheus.NewDesc("sealpost_identities_ending", "Active keys of our own that end within so many days and no fewer of those named; 0 are those that have ended.", []string{"within_days"}, nil)

var depthDesc = prometheus.NewDesc("sealpost_unsettled_deliveries", "Deliveries that are not settled yet.", []string{"state"}, nil)

// depth counts the queue when somebody asks.
type depth struct{ s *Server }

func (depth) Describe(ch chan<- *prometheus.Desc) { ch <- depthDesc; ch <- endingDesc }

func (d depth) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var byState map[spool.State]int
	var ending identity.Ending
	if err := d.s.DB.Read(ctx, db.System, func(tx *db.Tx) (err error) {
		if byState, err = spool.Depth(tx); err != nil {
			return err
		}
		ending, err = identity.CountEnding(tx, d.s.Clock.Now())
		return err
	}); err != nil {
		return
	}
	ch <- prometheus.MustNewConstMetric(endingDesc, prometheus.GaugeValue, float64(ending.Ended), "0")
	for days, n := range ending.Within {
		ch <- prometheus.MustNewConstMetric(endingDesc, prometheus.GaugeValue, float64(n), strconv.Itoa(days))
	}
	for _, state := range []spool.State{spool.Held, spool.Scheduled, spool.Ready, spool.Sending, spool.Deferred} {
		ch <- prometheus.MustNewConstMetric(depthDesc, prometheus.GaugeValue, float64(byState[state]), string(state))
	}
}
