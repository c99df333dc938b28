package deliver

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealpost/sealpost/internal/bounce/classify"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/spool"
)

// otherSites stands for every destination that no shaping rule names: which
// domains mail goes to is not for everybody who may read metrics.
const otherSites = "other"

// Figures counts what an engine does since it began. Every counter is made
// beforehand, so that counting takes no lock and makes nothing. A word that is
// not known here is not counted by itself.
type Figures struct {
	ended  map[spool.State]map[policy.Seal]prometheus.Counter
	tried  map[string]map[string]prometheus.Counter // result, class
	sites  map[string]map[string]prometheus.Counter // site, result
	grades map[policy.Grade]prometheus.Counter
	broken prometheus.Counter
	lost   prometheus.Counter
	took   prometheus.Histogram
	all    []prometheus.Collector
}

const unclassed = "none" // of attempts at which no peer said no

// NewFigures makes the counters; sites are those that may be named.
func NewFigures(sites []string) *Figures {
	f := &Figures{ended: map[spool.State]map[policy.Seal]prometheus.Counter{}, tried: map[string]map[string]prometheus.Counter{},
		sites: map[string]map[string]prometheus.Counter{}, grades: map[policy.Grade]prometheus.Counter{},
		took: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sealpost_attempt_seconds",
			Help: "How long attempts at deliveries took, from the first look-up to the recorded outcome.", Buckets: prometheus.ExponentialBuckets(0.01, 2.5, 12)})}
	vector := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		f.all = append(f.all, v)
		return v
	}
	ended := vector("sealpost_deliveries_total", "What deliveries came to at the end of each attempt, by state and seal.", "state", "seal")
	for _, state := range []spool.State{spool.Delivered, spool.Waiting, spool.Deferred, spool.Failed, spool.Expired, spool.Held, spool.Suppressed} {
		f.ended[state] = map[policy.Seal]prometheus.Counter{}
		for _, seal := range []policy.Seal{"", policy.PGP, policy.SMIME, policy.TLS, policy.Portal} {
			f.ended[state][seal] = ended.WithLabelValues(string(state), word(string(seal)))
		}
	}
	results := []string{spool.ResultDelivered, spool.ResultTemporary, spool.ResultPermanent, spool.ResultUnknown, spool.ResultWeak}
	tried := vector("sealpost_attempts_total", "Attempts at deliveries by result, and by what a peer that said no said it of.", "result", "class")
	for _, result := range results {
		f.tried[result] = map[string]prometheus.Counter{"": tried.WithLabelValues(result, unclassed)}
		for _, class := range classify.Classes() {
			f.tried[result][string(class)] = tried.WithLabelValues(result, string(class))
		}
	}
	bySite := vector("sealpost_site_attempts_total", "Attempts at deliveries by site and result; sites that no shaping rule names are together.", "site", "result")
	for _, site := range append([]string{otherSites}, sites...) {
		f.sites[site] = map[string]prometheus.Counter{}
		for _, result := range results {
			f.sites[site][result] = bySite.WithLabelValues(site, result)
		}
	}
	grades := vector("sealpost_tls_grades_total", "Messages that peers took, by how well the transport was proved.", "grade")
	for g := policy.None; g <= policy.Authenticated; g++ {
		f.grades[g] = grades.WithLabelValues(g.String())
	}
	f.broken = prometheus.NewCounter(prometheus.CounterOpts{Name: "sealpost_attempt_panics_total",
		Help: "Attempts that ended by a defect of Sealpost; the log has the stack."})
	f.lost = prometheus.NewCounter(prometheus.CounterOpts{Name: "sealpost_outcomes_abandoned_total",
		Help: "Outcomes of attempts that the database never took; what a peer took is sent again when the node stops."})
	f.all = append(f.all, f.took, f.broken, f.lost)
	return f
}

func word(s string) string {
	if s == "" {
		return unclassed
	}
	return s
}

// Describe and Collect make it a prometheus.Collector.
func (f *Figures) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range f.all {
		c.Describe(ch)
	}
}

// Collect gives the figures of now.
func (f *Figures) Collect(ch chan<- prometheus.Metric) {
	for _, c := range f.all {
		c.Collect(ch)
	}
}

// panicked counts an attempt that ended by a defect.
func (f *Figures) panicked() {
	if f != nil {
		f.broken.Inc()
	}
}

// abandoned counts an outcome that was given up.
func (f *Figures) abandoned() {
	if f != nil {
		f.lost.Inc()
	}
}

// count counts what came of an item.
func (f *Figures) count(o spool.Outcome) {
	if f == nil {
		return
	}
	var seal policy.Seal
	if a := o.Attempt; a != nil {
		seal = a.Seal
		one(f.tried[a.Result][a.Class])
		site := a.Site
		if f.sites[site] == nil {
			site = otherSites
		}
		one(f.sites[site][a.Result])
		if a.Result == spool.ResultDelivered {
			one(f.grades[o.Grade])
		}
		if d := o.At.Sub(a.Began); d >= 0 && d < 24*time.Hour {
			f.took.Observe(d.Seconds())
		}
	}
	one(f.ended[o.State][seal])
}

func one(c prometheus.Counter) {
	if c != nil {
		c.Inc()
	}
}

// Load is how much an engine has in hand.
type Load struct {
	Ready       int // deliveries and notices in memory
	Connections int // that make progress
	Stalled     int // that wait for a peer
	Suspended   int // sites that are left alone
	Troubled    int // sites that do not take mail well, those included
}

// Load tells how much is in hand now.
func (e *Engine) Load() (l Load) {
	for _, s := range e.Stats() {
		if !s.Suspended.IsZero() {
			l.Suspended++
		}
		if s.Trouble() > 0 {
			l.Troubled++
		}
	}
	l.Ready = e.Depth()
	for _, s := range []*slots{e.slots, e.express} {
		l.Connections += len(s.moving)
		l.Stalled += len(s.stalled)
	}
	return l
}
