package deliver

import (
	"cmp"
	"slices"
	"time"
)

// SiteStat is how one site stands, as one source pool sees it. It names no
// address.
type SiteStat struct {
	Pool, Site  string
	Domains     int       // with mail in memory
	Ready       int       // deliveries in memory
	InFlight    int       // workers at it
	Connections int       // that the Governor allowed
	PerMinute   int       // messages taken in the last minute, about
	LastReply   string    // accepted, deferred, refused, timeout, unreachable, weak_tls or empty
	Suspended   time.Time // until then it is left alone; zero unless it is
	Why         string    // of that, or of being slowed down
}

// Stats tells of every site with mail or connections, the busiest first. What
// is scheduled stands in the database.
func (e *Engine) Stats() []SiteStat {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.Clock.Now()
	by := map[*site]*SiteStat{}
	for key, s := range e.sites {
		s.slide(now)
		state := s.gov.State()
		by[s] = &SiteStat{Pool: key.pool, Site: key.site, Connections: s.open, PerMinute: max(s.taken[0], s.taken[1]),
			LastReply: s.last, Suspended: state.Suspended, Why: state.Reason}
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
		if s.Ready+s.InFlight+s.Connections > 0 || !s.Suspended.IsZero() || s.PerMinute > 0 {
			all = append(all, *s)
		}
	}
	slices.SortFunc(all, func(a, b SiteStat) int {
		return cmp.Or(cmp.Compare(b.PerMinute, a.PerMinute), cmp.Compare(b.Ready, a.Ready), cmp.Compare(a.Site, b.Site), cmp.Compare(a.Pool, b.Pool))
	})
	return all
}
