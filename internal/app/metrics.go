package app

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/dkim"
	"github.com/sealpost/sealpost/internal/doctor"
	"github.com/sealpost/sealpost/internal/identity"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/retain"
	"github.com/sealpost/sealpost/internal/spool"
)

// metrics are figures without names: no address, and no domain of a recipient
// but the sites that shaping rules name.
func (s *Server) metrics() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), poolFigures{s.Pools}, arrivals{s.inbound})
	r.MustRegister(journalFailed{s}, reportFigures{s})
	r.MustRegister(domains{s}, validity{s})
	r.MustRegister(records{s}, &tallies{s: s}, nodeFigures{s}, s.accepts.took, s.accepts.drafts)
	if s.figures != nil {
		r.MustRegister(s.figures)
	}
	return r
}

// accepts counts what the front door was asked to take.
type accepts struct {
	took          prometheus.Histogram
	drafts        *prometheus.CounterVec
	taken, denied prometheus.Counter
}

func newAccepts() accepts {
	a := accepts{
		took: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sealpost_accept_seconds",
			Help: "How long the front door took to store a message for good, or to refuse it.", Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 10)}),
		drafts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sealpost_messages_total", Help: "Messages that were offered to the front door, accepted or refused."}, []string{"outcome"}),
	}
	a.taken, a.denied = a.drafts.WithLabelValues("accepted"), a.drafts.WithLabelValues("refused")
	return a
}

// count is for the front door.
func (a accepts) count(took time.Duration, err error) {
	a.took.Observe(took.Seconds())
	if err != nil {
		a.denied.Inc()
		return
	}
	a.taken.Inc()
}

var (
	endingDesc     = prometheus.NewDesc("sealpost_identities_ending", "Active keys of our own that end within so many days and no fewer of those named; 0 are those that have ended.", []string{"within_days"}, nil)
	depthDesc      = prometheus.NewDesc("sealpost_unsettled_deliveries", "Deliveries that are not settled yet.", []string{"state", "stream"}, nil)
	oldestDesc     = prometheus.NewDesc("sealpost_oldest_due_seconds", "How long the delivery waits that is due and waits longest for its turn.", nil, nil)
	suppressedDesc = prometheus.NewDesc("sealpost_suppressed_addresses", "Addresses that nothing, or nothing bulk, is sent to.", []string{"reason"}, nil)
	dkimDesc       = prometheus.NewDesc("sealpost_dkim_keys", "Keys that sign for sender domains.", []string{"state"}, nil)
	unplacedDesc   = prometheus.NewDesc("sealpost_ledger_unplaced", "Entries of ledgers that have no position yet.", nil, nil)
	unsignedDesc   = prometheus.NewDesc("sealpost_ledger_unsigned_seconds", "Age of the last checkpoint of the ledger that has grown since and waits longest for the next; 0 when all are signed.", nil, nil)
	purgedDesc     = prometheus.NewDesc("sealpost_retention_purged_timestamp_seconds", "When the organization was purged whose last purge is longest ago; 0 when none ever was.", nil, nil)
)

// records are read from the database when somebody asks.
type records struct{ s *Server }

func (records) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{endingDesc, oldestDesc, dkimDesc, unplacedDesc, unsignedDesc, purgedDesc} {
		ch <- d
	}
}

// recorded is what one look at the database found.
type recorded struct {
	due    time.Time
	ending identity.Ending
	dkim   map[dkim.State]int
	ledger ledger.Standing
	purged time.Time
}

func (r *recorded) read(tx *db.Tx, now time.Time) (err error) {
	if r.due, err = spool.OldestDue(tx, now); err != nil {
		return err
	}
	if r.ending, err = identity.CountEnding(tx, now); err != nil {
		return err
	}
	if r.dkim, err = dkim.Count(tx); err != nil {
		return err
	}
	if r.ledger, err = ledger.Stand(tx); err != nil {
		return err
	}
	r.purged, err = retain.LastPurge(tx)
	return err
}

// Collect looks once.
func (d records) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var r recorded
	now := d.s.Clock.Now()
	if err := d.s.DB.Read(ctx, db.System, func(tx *db.Tx) error { return r.read(tx, now) }); err != nil {
		return
	}
	tell := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	tell(oldestDesc, age(now, r.due))
	tell(endingDesc, float64(r.ending.Ended), "0")
	for days, n := range r.ending.Within {
		tell(endingDesc, float64(n), strconv.Itoa(days))
	}
	for state, n := range r.dkim {
		tell(dkimDesc, float64(n), string(state))
	}
	tell(unplacedDesc, float64(r.ledger.Unplaced))
	tell(unsignedDesc, age(now, r.ledger.Since))
	tell(purgedDesc, unix(r.purged))
}

// age is the time since at in seconds, 0 for no time.
func age(now, at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return max(0, now.Sub(at).Seconds())
}

// unix is a time as Prometheus likes it, 0 for none.
func unix(at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return float64(at.UnixMilli()) / 1000
}

var (
	readyDesc     = prometheus.NewDesc("sealpost_memory_deliveries", "Deliveries and notices that this node has in memory.", nil, nil)
	connsDesc     = prometheus.NewDesc("sealpost_connections", "Connections to mail hosts: moving, or stalled because the peer lets us wait.", []string{"state"}, nil)
	troubleDesc   = prometheus.NewDesc("sealpost_sites", "Destinations that this node leaves alone, and all that do not take mail well, those included.", []string{"state"}, nil)
	writesDesc    = prometheus.NewDesc("sealpost_db_writes_total", "Writes that were committed.", nil, nil)
	commitsDesc   = prometheus.NewDesc("sealpost_db_transactions_total", "Transactions in which they were, and those that were rolled back.", []string{"outcome"}, nil)
	commitSecDesc = prometheus.NewDesc("sealpost_db_transaction_seconds_total", "Time that all these transactions took.", nil, nil)
	waitingDesc   = prometheus.NewDesc("sealpost_db_waiting_writes", "Writes that wait for a transaction.", nil, nil)
	jobDoneDesc   = prometheus.NewDesc("sealpost_job_done_timestamp_seconds", "When this node last did a periodic task.", []string{"job"}, nil)
	jobEveryDesc  = prometheus.NewDesc("sealpost_job_interval_seconds", "How often a periodic task is to be done.", []string{"job"}, nil)
	jobFailedDesc = prometheus.NewDesc("sealpost_job_failures_total", "Runs of a periodic task that failed at this node.", []string{"job"}, nil)
	diskDesc      = prometheus.NewDesc("sealpost_disk_bytes", "The file system of data_dir: what is free of it, and all.", []string{"what"}, nil)
)

// nodeFigures are of this node alone.
type nodeFigures struct{ s *Server }

func (nodeFigures) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{readyDesc, connsDesc, troubleDesc, writesDesc, commitsDesc, commitSecDesc, waitingDesc, jobDoneDesc, jobEveryDesc, jobFailedDesc, diskDesc} {
		ch <- d
	}
}

// Collect reads counters, and asks the system for the disk.
func (n nodeFigures) Collect(ch chan<- prometheus.Metric) {
	tell := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	w := n.s.DB.Figures()
	tell(writesDesc, prometheus.CounterValue, float64(w.Writes))
	tell(commitsDesc, prometheus.CounterValue, float64(w.Transactions), "committed")
	tell(commitsDesc, prometheus.CounterValue, float64(w.Failed), "rolled_back")
	tell(commitSecDesc, prometheus.CounterValue, w.Took.Seconds())
	tell(waitingDesc, prometheus.GaugeValue, float64(w.Waiting))
	if n.s.engine != nil {
		l := n.s.engine.Load()
		tell(readyDesc, prometheus.GaugeValue, float64(l.Ready))
		tell(connsDesc, prometheus.GaugeValue, float64(l.Connections), "moving")
		tell(connsDesc, prometheus.GaugeValue, float64(l.Stalled), "stalled")
		tell(troubleDesc, prometheus.GaugeValue, float64(l.Suspended), "left_alone")
		tell(troubleDesc, prometheus.GaugeValue, float64(l.Troubled), "troubled")
	}
	if n.s.jobs != nil {
		for _, j := range n.s.jobs.Standings() {
			tell(jobDoneDesc, prometheus.GaugeValue, unix(j.DoneAt), j.Name)
			tell(jobEveryDesc, prometheus.GaugeValue, j.Every.Seconds(), j.Name)
			tell(jobFailedDesc, prometheus.CounterValue, float64(j.Failed), j.Name)
		}
	}
	if free, all, err := doctor.DiskOf(n.s.Config.DataDir); err == nil {
		tell(diskDesc, prometheus.GaugeValue, float64(free), "free")
		tell(diskDesc, prometheus.GaugeValue, float64(all), "all")
	}
}
