package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/pool"
)

// poolCmd looks at where mail leaves from.
type poolCmd struct {
	Show poolShowCmd `cmd:"" help:"Show the source pools: ceilings, warm-up, what came of their mail, block lists."`
}

type poolShowCmd struct {
	Days  int `default:"7" placeholder:"N" help:"Days to look back, today included. (default: 7)"`
	Sites int `default:"10" placeholder:"N" help:"Most destinations to show of each pool. (default: 10)"`
}

// Help says what the figures are.
func (poolShowCmd) Help() string {
	return "Days are of UTC. A running server writes its figures down every few seconds. Accepted and bounced are shares of what was settled, " +
		"deferred of all attempts, complained of what was accepted.\n\nExample:\n\n  $ sealpost pool show --days 30"
}

type poolCounts struct {
	Accepted       int64   `json:"accepted"`
	Deferred       int64   `json:"deferred"`
	Bounced        int64   `json:"bounced"`
	Complained     int64   `json:"complained"`
	AcceptedRate   float64 `json:"accepted_rate"`
	DeferredRate   float64 `json:"deferred_rate"`
	BouncedRate    float64 `json:"bounced_rate"`
	ComplainedRate float64 `json:"complained_rate"`
}

func poolCountsOf(c pool.Counts) poolCounts {
	r := c.Rates()
	return poolCounts{c.Accepted, c.Deferred, c.Bounced, c.Complained, r.Accepted, r.Deferred, r.Bounced, r.Complained}
}

type poolSiteRow struct {
	Site string `json:"site"`
	poolCounts
}

type poolListingRow struct {
	List      string    `json:"list"`
	Address   string    `json:"address"`
	State     string    `json:"state"`
	Codes     string    `json:"codes,omitempty"`
	CheckedAt time.Time `json:"checked_at"`
}

type poolRow struct {
	Pool         string           `json:"pool"`
	Configured   bool             `json:"configured"`
	Addresses    []string         `json:"addresses"`
	Helo         []string         `json:"helo"`
	Orgs         []string         `json:"orgs"`
	Streams      []string         `json:"streams"`
	Overflow     string           `json:"overflow,omitempty"`
	CeilingToday int64            `json:"ceiling_today"` // 0 for none
	TakenToday   int64            `json:"taken_today"`
	Halvings     int64            `json:"halvings_today"`
	WarmUp       bool             `json:"warming_up"`
	WarmUpDay    int64            `json:"warm_up_day,omitempty"`
	Total        poolCounts       `json:"total"`
	Sites        []poolSiteRow    `json:"sites"`
	MoreSites    int              `json:"more_sites"`
	Listings     []poolListingRow `json:"block_lists"`
}

type poolsShown struct {
	Days  int       `json:"days"`
	Pools []poolRow `json:"pools"`
}

// Run shows the pools.
func (c poolShowCmd) Run(ctx context.Context, env *environment) error {
	if c.Days < 1 || c.Days > 400 {
		return usagef("--days must be between 1 and 400.")
	}
	if c.Sites < 0 || c.Sites > 10_000 {
		return usagef("--sites must be between 0 and 10000.")
	}
	return env.withCore(ctx, func(core *app.Core) error {
		all, err := core.Pools.Report(ctx, c.Days)
		if err != nil {
			return err
		}
		r := poolsShown{Days: c.Days, Pools: []poolRow{}}
		for _, st := range all {
			r.Pools = append(r.Pools, c.row(st))
		}
		return env.result(r, r.tell)
	})
}

func (c poolShowCmd) row(st pool.Standing) poolRow {
	row := poolRow{Pool: st.Pool, Configured: !st.Gone, Addresses: append([]string{}, st.Config.Addresses...), Helo: append([]string{}, st.Helo...),
		Orgs: append([]string{}, st.Config.Orgs...), Streams: append([]string{}, st.Config.Streams...), Overflow: st.Config.Overflow,
		CeilingToday: st.Ceiling, TakenToday: st.Taken, Halvings: st.Halvings, WarmUp: st.Warming, WarmUpDay: st.WarmUpDay,
		Total: poolCountsOf(st.Total), Sites: []poolSiteRow{}, Listings: []poolListingRow{}}
	for i, s := range st.Sites {
		if i == c.Sites {
			row.MoreSites = len(st.Sites) - i
			break
		}
		row.Sites = append(row.Sites, poolSiteRow{s.Site, poolCountsOf(s.Counts)})
	}
	for _, l := range st.Listings {
		row.Listings = append(row.Listings, poolListingRow{l.List, l.Address.String(), string(l.State), l.Codes, stamp(l.CheckedAt)})
	}
	return row
}

func (r poolsShown) tell(p *page) {
	for i, row := range r.Pools {
		if i > 0 {
			p.linef("")
		}
		row.tell(p, r.Days)
	}
}

func (row poolRow) tell(p *page, days int) {
	p.linef("POOL %s", row.Pool)
	if row.Configured {
		p.linef("  %s", row.place())
		p.linef("  %s", row.today())
	} else {
		p.linef("  It is not in the configuration any more.")
	}
	cells := [][]string{{"  LAST " + strconv.Itoa(days) + " DAYS", "ACCEPTED", "DEFERRED", "BOUNCED", "COMPLAINED"}, row.Total.cells("all")}
	for _, s := range row.Sites {
		cells = append(cells, s.cells(s.Site))
	}
	p.table(cells...)
	if row.MoreSites > 0 {
		p.linef("  and %d more destinations; --sites shows more", row.MoreSites)
	}
	for _, l := range row.Listings {
		line := fmt.Sprintf("  %s about %s: %s", l.List, l.Address, l.State)
		switch pool.State(l.State) {
		case pool.Listed:
			line += " (" + l.Codes + ")"
		case pool.Broken:
			line += ", so it is left aside: it fails the test of RFC 5782, or refuses this resolver"
		}
		p.linef("%s, asked %s", line, when(l.CheckedAt, "-"))
	}
}

func (row poolRow) place() string {
	from := "the system's address"
	if len(row.Addresses) > 0 {
		from = strings.Join(row.Addresses, ", ")
	}
	mail := "mail that no other pool is for"
	if len(row.Orgs)+len(row.Streams) > 0 {
		var of []string
		if len(row.Orgs) > 0 {
			of = append(of, "organizations "+strings.Join(row.Orgs, ", "))
		}
		if len(row.Streams) > 0 {
			of = append(of, "streams "+strings.Join(row.Streams, ", "))
		}
		mail = strings.Join(of, "; ")
	} else if row.Pool != "default" {
		mail = "what other pools overflow with"
	}
	return fmt.Sprintf("From %s as %s, for %s.", from, strings.Join(row.Helo, ", "), mail)
}

func (row poolRow) today() string {
	if row.CeilingToday == 0 {
		return "No ceiling."
	}
	text := fmt.Sprintf("Today's ceiling is %d, of which %d are taken", row.CeilingToday, row.TakenToday)
	if row.WarmUp {
		text += fmt.Sprintf("; day %d of the warm-up", row.WarmUpDay)
	}
	if row.Halvings > 0 {
		text += fmt.Sprintf("; halved %d times today for bounces or deferrals", row.Halvings)
	}
	if row.Overflow != "" {
		text += "; " + row.Overflow + " takes over"
	}
	return text + "."
}

func (c poolCounts) cells(name string) []string {
	cell := func(n int64, rate float64) string { return fmt.Sprintf("%d (%.1f%%)", n, 100*rate) }
	return []string{"  " + name, cell(c.Accepted, c.AcceptedRate), cell(c.Deferred, c.DeferredRate), cell(c.Bounced, c.BouncedRate), cell(c.Complained, c.ComplainedRate)}
}
