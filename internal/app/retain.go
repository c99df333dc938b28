package app

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/job"
	"github.com/sealpost/sealpost/internal/retain"
	"github.com/sealpost/sealpost/internal/spool"
)

// openRetention wires what lets go of things. Accounts ask it whether an
// organization's keys may be destroyed.
func (c *Core) openRetention() {
	c.Retention = retain.New(retain.Deps{DB: c.DB, Custody: c.Custody, Blob: c.Blob, Accounts: c.Accounts, Clock: c.Clock, Log: c.Log,
		Answers: c.Config.IdempotencyTTL})
}

// purgeEvery is how often somebody looks whether a night's purge is due.
const purgeEvery = 10 * time.Minute

func (s *Server) retentionJob() job.Task {
	return job.Task{Name: "retain.purge", Every: purgeEvery, Do: s.Retention.PurgeDue}
}

var journalDesc = prometheus.NewDesc("sealpost_journal_failed", "Copies for archives that could not be delivered in the last seven days.", nil, nil)

// JournalWindow is how far back copies that failed are counted.
const JournalWindow = 7 * 24 * time.Hour

// journalFailed counts when somebody asks.
type journalFailed struct{ s *Server }

func (journalFailed) Describe(ch chan<- *prometheus.Desc) { ch <- journalDesc }

func (j journalFailed) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var n int
	if err := j.s.DB.Read(ctx, db.System, func(tx *db.Tx) (err error) {
		n, err = spool.JournalFailed(tx, j.s.Clock.Now().Add(-JournalWindow))
		return err
	}); err != nil {
		return
	}
	ch <- prometheus.MustNewConstMetric(journalDesc, prometheus.GaugeValue, float64(n))
}
