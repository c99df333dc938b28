package pool

import (
	"context"
	"net/netip"
	"slices"

	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/db"
)

// Standing is how a pool has done.
type Standing struct {
	Pool      string
	Gone      bool // no longer in the configuration
	Config    config.Pool
	Helo      []string
	Public    []netip.Addr
	Ceiling   int64 // of today, halvings counted in; 0 for none
	Taken     int64 // of it, by nodes
	Halvings  int64 // today
	Warming   bool
	WarmUpDay int64 // of the warm-up, from 1; 0 before and without
	Total     Counts
	Sites     []SiteCounts // most attempts first
	Listings  []Listing
}

// SiteCounts are the counts of one destination.
type SiteCounts struct {
	Site string
	Counts
}

// Rates are shares of messages: of all that were settled, but deferrals of all
// attempts and complaints of what was accepted. Each is 0 where nothing is known.
type Rates struct {
	Accepted, Deferred, Bounced, Complained float64
}

// Rates gives the shares.
func (c Counts) Rates() Rates {
	share := func(part, whole int64) float64 {
		if whole == 0 {
			return 0
		}
		return float64(part) / float64(whole)
	}
	return Rates{share(c.Accepted, c.settled()), share(c.Deferred, c.attempts()), share(c.Bounced, c.settled()), share(c.Complained, c.Accepted)}
}

const rowsMost = 50_000 // pools and sites of one report

// Report gives the pools of the configuration, and others that something left
// from, over the last days, today included. It works without Start.
func (s *Service) Report(ctx context.Context, days int) ([]Standing, error) {
	today := dayOf(s.Clock.Now())
	var out []Standing
	for _, p := range s.pools {
		out = append(out, p.standing(today))
	}
	err := s.DB.Read(ctx, db.System, func(tx *db.Tx) error {
		rows, err := db.All(tx, scanSum, `SELECT pool, site, CAST(SUM(accepted) AS BIGINT), CAST(SUM(deferred) AS BIGINT),
			CAST(SUM(bounced) AS BIGINT), CAST(SUM(complained) AS BIGINT) FROM pool_days WHERE day > ? AND day <= ?
			GROUP BY pool, site ORDER BY pool, SUM(accepted + deferred + bounced) DESC, site LIMIT ?`, today-int64(days), today, rowsMost)
		if err != nil {
			return err
		}
		for _, r := range rows {
			out = r.addTo(out)
		}
		for i := range out {
			if err := out[i].readToday(tx, today); err != nil {
				return err
			}
		}
		all, err := listings(tx)
		for i := range out {
			for _, l := range all {
				if slices.Contains(out[i].Public, l.Address) {
					out[i].Listings = append(out[i].Listings, l)
				}
			}
		}
		return err
	})
	return out, err
}

func (p *pool) standing(today int64) Standing {
	st := Standing{Pool: p.Name, Config: p.Pool, Helo: p.helo, Public: p.public(), Warming: p.warming(today)}
	st.Ceiling, _ = p.ceiling(today)
	if st.Warming {
		st.WarmUpDay = max(0, today-p.started+1)
	}
	return st
}

type sum struct {
	pool, site string
	Counts
}

func scanSum(row db.Row) (r sum, err error) {
	err = row.Scan(&r.pool, &r.site, &r.Accepted, &r.Deferred, &r.Bounced, &r.Complained)
	return r, err
}

func (r sum) addTo(all []Standing) []Standing {
	i := slices.IndexFunc(all, func(st Standing) bool { return st.Pool == r.pool })
	if i < 0 {
		i, all = len(all), append(all, Standing{Pool: r.pool, Gone: true})
	}
	switch {
	case r.site == "":
		all[i].Total = r.Counts
	case r.attempts()+r.Complained > 0:
		all[i].Sites = append(all[i].Sites, SiteCounts{r.site, r.Counts})
	}
	return all
}

func (st *Standing) readToday(tx *db.Tx, today int64) error {
	rows, err := db.All(tx, func(row db.Row) (r [2]int64, err error) {
		err = row.Scan(&r[0], &r[1])
		return r, err
	}, "SELECT granted, halvings FROM pool_days WHERE pool = ? AND site = '' AND day = ?", st.Pool, today)
	for _, r := range rows {
		st.Taken, st.Halvings = r[0], r[1]
		if st.Ceiling > 0 {
			st.Ceiling = max(1, st.Ceiling>>st.Halvings)
		}
	}
	return err
}

// Figure is a pool's day so far, for metrics.
type Figure struct {
	Pool     string
	Ceiling  int64 // 0 for none
	Taken    int64
	Halvings int64
	Today    Counts
	Listed   int // public addresses on a block list, counted once for each list
}

// Figures gives today's figures of each pool.
func (s *Service) Figures(ctx context.Context) ([]Figure, error) {
	all, err := s.Report(ctx, 1)
	var out []Figure
	for _, st := range all {
		f := Figure{Pool: st.Pool, Ceiling: st.Ceiling, Taken: st.Taken, Halvings: st.Halvings, Today: st.Total}
		for _, l := range st.Listings {
			if l.State == Listed {
				f.Listed++
			}
		}
		out = append(out, f)
	}
	return out, err
}
