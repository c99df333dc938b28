package deliver

import (
	"cmp"
	"slices"
	"time"
)

// SiteStat is how one site stands, as one source pool sees it. It names no
// address.
type SiteStat struct {
	Pool        string    `json:"pool"`
	Site        string    `json:"site"`
	Domains     int       `json:"domains"`            // with mail in memory
	Ready       int       `json:"ready"`              // deliveries in memory
	InFlight    int       `json:"in_flight"`          // workers at it
	Connections int       `json:"connections"`        // that the Governor allowed
	PerMinute   int       `json:"per_minute"`         // messages taken in the last minute, about
	LastReply   string    `json:"last_reply"`         // accepted, deferred, refused, timeout, unreachable, weak_tls or empty
	Suspended   time.Time `json:"suspended,omitzero"` // until then it is left alone; zero unless it is
	Why         string    `json:"why,omitempty"`      // of that, or of being slowed down
}

// Stats tells of every site with mail or connections and of those in trouble,
// the busiest first. What is scheduled stands in the database.
func (e *Engine) Stats() []SiteStat {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.Clock.Now()
	by := map[*site]*SiteStat{}
	for key, s := range e.sites {
		s.slide(now)
		state := s.gov.State()
		stat := &SiteStat{Pool: key.pool, Site: key.site, Connections: s.open, PerMinute: max(s.taken[0], s.taken[1]), LastReply: s.last, Why: state.Reason}
		if state.Suspended.After(now) { // it is not told of time that passes unused
			stat.Suspended = state.Suspended
		}
		by[s] = stat
	}
	var all []SiteStat
	for _, q := range e.queues {
		if q.empty() {
			continue
		}
		s := by[q.site]
		if s == nil {
			all = append(all, SiteStat{Site: q.domain, Domains: 1, Ready: q.ready.count, InFlight: q.workers})
			continue
		}
		s.Domains++
		s.Ready += q.ready.count
		s.InFlight += q.workers
	}
	for _, s := range by {
		if s.Ready+s.InFlight+s.Connections+s.PerMinute+s.Trouble() > 0 {
			all = append(all, *s)
		}
	}
	slices.SortFunc(all, func(a, b SiteStat) int {
		return cmp.Or(cmp.Compare(b.PerMinute, a.PerMinute), cmp.Compare(b.Ready, a.Ready), cmp.Compare(a.Site, b.Site), cmp.Compare(a.Pool, b.Pool))
	})
	return all
}

// Trouble grades how badly a site stands: 0 for well.
func (s SiteStat) Trouble() int {
	switch {
	case !s.Suspended.IsZero():
		return 5
	case s.LastReply == "unreachable", s.LastReply == "timeout":
		return 4
	case s.LastReply == "weak_tls":
		return 3
	case s.LastReply == "refused", s.LastReply == "deferred":
		return 2
	case s.Why != "":
		return 1
	}
	return 0
}

// Before orders sites for people: those in trouble first, then the largest.
func (s SiteStat) Before(o SiteStat) int {
	return cmp.Or(cmp.Compare(o.Trouble(), s.Trouble()), cmp.Compare(o.Ready, s.Ready), cmp.Compare(o.PerMinute, s.PerMinute),
		cmp.Compare(s.Site, o.Site), cmp.Compare(s.Pool, o.Pool))
}

// Add puts together what pools or nodes say of one site: numbers add up, and of
// words the most troubled is told.
func (s SiteStat) Add(o SiteStat) SiteStat {
	if o.Trouble() > s.Trouble() || s.LastReply == "" && s.Trouble() == 0 {
		s.LastReply, s.Why = o.LastReply, o.Why
	}
	if o.Suspended.After(s.Suspended) {
		s.Suspended = o.Suspended
	}
	s.Domains += o.Domains
	s.Ready += o.Ready
	s.InFlight += o.InFlight
	s.Connections += o.Connections
	s.PerMinute += o.PerMinute
	return s
}
