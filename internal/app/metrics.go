package app

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/spool"
)

// metrics are figures without names: no address, no domain of a recipient.
func (s *Server) metrics() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), depth{s})
	return r
}

var depthDesc = prometheus.NewDesc("sealpost_unsettled_deliveries", "Deliveries that are not settled yet.", []string{"state"}, nil)

// depth counts the queue when somebody asks.
type depth struct{ s *Server }

func (depth) Describe(ch chan<- *prometheus.Desc) { ch <- depthDesc }

func (d depth) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var byState map[spool.State]int
	if err := d.s.DB.Read(ctx, db.System, func(tx *db.Tx) (err error) {
		byState, err = spool.Depth(tx)
		return err
	}); err != nil {
		return
	}
	for _, state := range []spool.State{spool.Held, spool.Scheduled, spool.Ready, spool.Sending, spool.Deferred} {
		ch <- prometheus.MustNewConstMetric(depthDesc, prometheus.GaugeValue, float64(byState[state]), string(state))
	}
}
