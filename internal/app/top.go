package app

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/deliver"
	"github.com/sealpost/sealpost/internal/shaping"
	"github.com/sealpost/sealpost/internal/spool"
)

// Top is how the destinations stand, of all nodes together.
type Top struct {
	At        time.Time          `json:"at"`
	Nodes     []deliver.Snapshot `json:"nodes"`
	Sites     []TopSite          `json:"sites"` // those in trouble first, then the largest
	CountedAt time.Time          `json:"counted_at"`
	AtLeast   bool               `json:"at_least"` // more waits than was counted
}

// TopSite is one destination.
type TopSite struct {
	deliver.SiteStat
	Scheduled int `json:"scheduled"` // wait in the database for their time
}

func (s TopSite) size() int { return s.Ready + s.Scheduled }

const (
	countEvery  = 10 * time.Second
	countLimit  = 100_000 // deliveries that are looked at each time
	namedMost   = 500     // domains whose mail hosts are looked up to learn their site
	shownAtMost = 1000    // sites
)

// Watcher looks at the engines of all nodes through the database: what they say
// of themselves each time it is asked, and what waits now and then.
type Watcher struct {
	core    *Core
	rules   *shaping.Rules
	waiting []TopSite
	counted time.Time
	atLeast bool
}

// Watch gives a Watcher.
func (c *Core) Watch() (*Watcher, error) {
	rules, err := ShapingRules(c.Config)
	return &Watcher{core: c, rules: rules}, err
}

// Look tells how things stand.
func (w *Watcher) Look(ctx context.Context) (Top, error) {
	now := w.core.Clock.Now()
	if now.Sub(w.counted) >= countEvery {
		if err := w.count(ctx, now); err != nil {
			return Top{}, err
		}
	}
	nodes, err := deliver.Snapshots(ctx, w.core.DB)
	if err != nil {
		return Top{}, err
	}
	t := Top{At: now.UTC(), Nodes: nodes, CountedAt: w.counted.UTC(), AtLeast: w.atLeast, Sites: []TopSite{}}
	by := map[string]*TopSite{}
	add := func(s TopSite) {
		if known := by[s.Site]; known != nil {
			known.SiteStat, known.Scheduled = known.Add(s.SiteStat), known.Scheduled+s.Scheduled
			return
		}
		by[s.Site] = &s
	}
	for _, n := range nodes {
		for _, s := range n.Sites {
			s.Pool = ""
			add(TopSite{SiteStat: s})
		}
	}
	for _, s := range w.waiting {
		add(s)
	}
	for _, s := range by {
		if s.size()+s.InFlight+s.Connections+s.PerMinute > 0 || !s.Suspended.IsZero() { // trouble that nothing waits for is over
			t.Sites = append(t.Sites, *s)
		}
	}
	slices.SortFunc(t.Sites, func(a, b TopSite) int {
		return cmp.Or(cmp.Compare(b.Trouble(), a.Trouble()), cmp.Compare(b.size(), a.size()), a.Before(b.SiteStat))
	})
	t.Sites = t.Sites[:min(len(t.Sites), shownAtMost)]
	return t, nil
}

// count looks at what waits in the database.
func (w *Watcher) count(ctx context.Context, now time.Time) error {
	var all []spool.Backlog
	if err := w.core.DB.Read(ctx, db.System, func(tx *db.Tx) (err error) {
		all, w.atLeast, err = spool.Backlogs(tx, now, countLimit)
		return err
	}); err != nil {
		return err
	}
	w.counted, w.waiting = now, nil
	for i, d := range all {
		name := d.Domain
		if i < namedMost {
			name = w.siteOf(ctx, d.Domain)
		}
		w.waiting = append(w.waiting, TopSite{SiteStat: deliver.SiteStat{Site: name, Ready: d.Due}, Scheduled: d.Later})
	}
	return nil
}

// siteOf is the site that the engine would find, as far as the domain's mail
// hosts are known.
func (w *Watcher) siteOf(ctx context.Context, domain string) string {
	var hosts []string
	if known, ok := w.core.Posture.Cached(ctx, domain); ok {
		for _, mx := range known.MX {
			hosts = append(hosts, mx.Host)
		}
	}
	return w.rules.Site(domain, hosts).Name
}
