package app

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/job"
	"github.com/sealpost/sealpost/internal/pool"
	"github.com/sealpost/sealpost/internal/shaping"
)

// ShapingRules are the shipped rules with those of delivery.shaping_file over
// them.
func ShapingRules(cfg *config.Config) (*shaping.Rules, error) {
	rules := shaping.Default()
	file := cfg.Delivery.ShapingFile
	if file == "" {
		return rules, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("delivery.shaping_file cannot be read: %w", err)
	}
	theirs, err := shaping.Parse(file, text)
	if err != nil {
		return nil, err
	}
	return rules.With(theirs), nil
}

// openPools wires the source pools, for reading; a server that delivers starts
// them.
func (c *Core) openPools() {
	c.Pools = pool.New(pool.Deps{
		Pools: c.Config.Pool, BlockLists: c.Config.Reputation.BlockLists, Hostname: c.Config.Hostname,
		DB: c.DB, Clock: c.Clock, Log: c.Log, Resolver: c.Resolver,
		Org: func(ctx context.Context, slug string) (id.ID, error) {
			o, err := c.Accounts.OrgBySlug(ctx, slug)
			return o.ID, err
		},
		Local: canBind,
	})
}

// canBind asks the system, which may allow addresses that no interface has.
func canBind(a netip.Addr) bool {
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	if err != nil {
		return false
	}
	_ = l.Close() // nobody has connected
	return true
}

// startPools reads the shaping rules and starts the source pools of a node that
// delivers.
func (s *Server) startPools(ctx context.Context) (err error) {
	if !s.Config.HasRole(config.RoleDeliver) {
		return nil
	}
	if s.shaping, err = ShapingRules(s.Config); err != nil {
		return err
	}
	return s.Pools.Start(ctx)
}

// site is a destination's limits; one that no rule names has as many
// connections as the configuration says.
func (s *Server) site(domain string, mx []string) shaping.Site {
	site := s.shaping.Site(domain, mx)
	if site.Connections == 0 {
		site.Connections = s.Config.Delivery.PerDestination
	}
	return site
}

func (s *Server) poolTasks() []job.Task {
	return []job.Task{
		{Name: "pool.tidy", Every: time.Hour, Do: s.Pools.Tidy},
		{Name: "pool.block_lists", Every: time.Hour, Do: s.Pools.CheckListsDue},
	}
}

var (
	poolResultsDesc = prometheus.NewDesc("sealpost_pool_results_today", "What came of the messages that left from a source pool this day (UTC).", []string{"pool", "result"}, nil)
	poolCeilingDesc = prometheus.NewDesc("sealpost_pool_ceiling_today", "Most messages that may leave from a source pool this day (UTC); absent where there is no limit.", []string{"pool"}, nil)
	poolTakenDesc   = prometheus.NewDesc("sealpost_pool_taken_today", "How much of the ceiling nodes have taken.", []string{"pool"}, nil)
	poolSlowedDesc  = prometheus.NewDesc("sealpost_pool_halvings_today", "How often the ceiling was halved this day for bounces or deferrals.", []string{"pool"}, nil)
	poolListedDesc  = prometheus.NewDesc("sealpost_pool_listed", "Listings of the pool's public addresses on DNS block lists.", []string{"pool"}, nil)
)

// poolFigures are read from the database when somebody asks.
type poolFigures struct{ pools *pool.Service }

func (poolFigures) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{poolResultsDesc, poolCeilingDesc, poolTakenDesc, poolSlowedDesc, poolListedDesc} {
		ch <- d
	}
}

func (p poolFigures) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	figures, err := p.pools.Figures(ctx)
	if err != nil {
		return
	}
	gauge := func(d *prometheus.Desc, n int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	for _, f := range figures {
		gauge(poolResultsDesc, f.Today.Accepted, f.Pool, "accepted")
		gauge(poolResultsDesc, f.Today.Deferred, f.Pool, "deferred")
		gauge(poolResultsDesc, f.Today.Bounced, f.Pool, "bounced")
		gauge(poolResultsDesc, f.Today.Complained, f.Pool, "complained")
		if f.Ceiling > 0 {
			gauge(poolCeilingDesc, f.Ceiling, f.Pool)
			gauge(poolTakenDesc, f.Taken, f.Pool)
		}
		gauge(poolSlowedDesc, f.Halvings, f.Pool)
		gauge(poolListedDesc, int64(f.Listed), f.Pool)
	}
}
