package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// DefaultPool is the pool that mail leaves from when no other is for it.
const DefaultPool = "default"

// Pool is one table of that name: addresses that mail leaves from.
type Pool struct {
	Name            string   `toml:"name" example:"campaigns" doc:"Name of the pool."`
	Addresses       []string `toml:"addresses" example:"192.0.2.10,192.0.2.11" doc:"Addresses of this machine, all IPv4 or all IPv6, used in turn. The system's choice when not given."`
	PublicAddresses []string `toml:"public_addresses" example:"198.51.100.10" doc:"The addresses as the internet sees them, where this machine is behind NAT."`
	Helo            []string `toml:"helo" example:"out1.example.org,out2.example.org" doc:"Names in EHLO: one, or one for each address. They should resolve to it and its PTR record back. hostname when not given."`
	Orgs            []string `toml:"orgs" example:"clinic" doc:"Short names of the organizations whose mail leaves from here. All when not given."`
	Streams         []string `toml:"streams" example:"bulk" set:"transactional,bulk" doc:"Streams that leave from here. All when not given."`
	Overflow        string   `toml:"overflow" example:"default" doc:"Pool that takes over when the day's ceiling is reached. Mail waits for the next day (UTC) when not given."`
	DailyCeiling    int      `toml:"daily_ceiling" example:"50000" min:"0" max:"1000000000" doc:"Most messages a day (UTC), of all nodes together; 0 is no limit."`
	SiteShare       int      `toml:"site_share" example:"50" min:"0" max:"100" doc:"Most of the day's ceiling, in percent, that one destination may take; 0 is no limit."`
	WarmUpStarted   string   `toml:"warm_up_started" example:"2026-03-01" doc:"First day (UTC) of the warm-up."`
	WarmUpDays      []int    `toml:"warm_up_days" example:"50,100,200,400" min:"1" max:"1000000000" doc:"Ceilings of the first days of the warm-up."`
	WarmUpGrowth    int      `toml:"warm_up_growth" example:"40" min:"0" max:"400" doc:"Growth from day to day behind warm_up_days, in percent, until daily_ceiling; 0 means daily_ceiling at once."`
	SlowBounces     int      `toml:"slow_bounces" example:"5" min:"0" max:"100" doc:"When more than so many percent of a day's messages bounce, the day's ceiling is halved; 0 is never."`
	SlowDeferrals   int      `toml:"slow_deferrals" example:"40" min:"0" max:"100" doc:"The same for attempts that are deferred; 0 is never."`
}

// Reputation is the section of that name.
type Reputation struct {
	BlockLists []string `toml:"block_lists" default:"" example:"zen.spamhaus.org" doc:"DNS block lists that are asked once a day about the pools' public addresses. None by default: each list has terms of use, many want registration from professional users, and most refuse resolvers that many share."`
}

// poolsMost bounds the pools of an installation.
const poolsMost = 200

func (l *loader) checkPools() {
	pools := l.config.Pool
	if len(pools) > poolsMost {
		l.wrong("pool", fmt.Sprintf("there can be at most %d", poolsMost))
		return
	}
	names := map[string]int{}
	bound := map[string]string{}
	for i, p := range pools {
		table := fmt.Sprintf("pool[%d]", i)
		if !slugForm.MatchString(p.Name) {
			l.at(table, ".name", "must be a name of small letters, digits and -")
		} else if _, twice := names[p.Name]; twice {
			l.at(table, ".name", "is the name of another pool")
		} else {
			names[p.Name] = i
		}
		l.checkAddresses(table, p)
		l.checkWarmUp(table, p)
		l.checkBindings(table, p, bound)
	}
	l.checkOverflow(names)
	for _, list := range l.config.Reputation.BlockLists {
		if !hostForm.MatchString(list) || !strings.Contains(list, ".") || len(list) > 180 {
			l.wrong("reputation.block_lists", "must be names of DNS zones such as zen.spamhaus.org")
		}
	}
}

func (l *loader) checkAddresses(table string, p Pool) {
	var families []bool
	for key, list := range map[string][]string{".addresses": p.Addresses, ".public_addresses": p.PublicAddresses} {
		for _, text := range list {
			a, err := netip.ParseAddr(text)
			if err != nil || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast() {
				l.at(table, key, "must be IP addresses such as 192.0.2.10")
			} else if key == ".addresses" {
				families = append(families, a.Is4())
			}
		}
	}
	if slices.Contains(families, true) && slices.Contains(families, false) {
		l.at(table, ".addresses", "must be all IPv4 or all IPv6; make a pool of each")
	}
	for _, name := range p.Helo {
		if !hostForm.MatchString(name) || len(name) > 253 {
			l.at(table, ".helo", "must be host names such as out1.example.org")
		}
	}
	if n := len(p.Helo); n > 1 && n != len(p.Addresses) {
		l.at(table, ".helo", "must be one name, or one for each address")
	}
}

func (l *loader) checkWarmUp(table string, p Pool) {
	if p.WarmUpStarted != "" {
		if _, err := time.Parse(time.DateOnly, p.WarmUpStarted); err != nil {
			l.at(table, ".warm_up_started", "must be a day such as 2026-03-01")
		}
	}
	if (p.WarmUpStarted == "") != (len(p.WarmUpDays) == 0) && !l.failed[table+".warm_up_days"] {
		l.at(table, ".warm_up_started", "goes with warm_up_days: give both or none")
	}
	for _, needs := range []struct {
		key   string
		given bool
	}{
		{".warm_up_growth", p.WarmUpGrowth > 0}, {".slow_bounces", p.SlowBounces > 0}, {".slow_deferrals", p.SlowDeferrals > 0},
		{".site_share", p.SiteShare > 0},
	} {
		if needs.given && p.DailyCeiling == 0 {
			l.at(table, needs.key, "needs daily_ceiling")
		}
	}
	if p.WarmUpGrowth > 0 && len(p.WarmUpDays) == 0 {
		l.at(table, ".warm_up_growth", "needs warm_up_started and warm_up_days")
	}
}

// checkBindings finds mail that two pools are for, and pools that none is for.
func (l *loader) checkBindings(table string, p Pool, bound map[string]string) {
	orgs, streams := p.Orgs, p.Streams
	free := len(orgs)+len(streams) == 0
	if p.Name == DefaultPool {
		if !free {
			l.at(table, ".name", "this pool takes what no other is for, so it has no orgs and no streams")
		}
		return
	}
	for _, org := range orgs {
		if !slugForm.MatchString(org) {
			l.at(table, ".orgs", "must be short names of organizations: small letters, digits and -")
		}
	}
	if free {
		if !slices.ContainsFunc(l.config.Pool, func(o Pool) bool { return o.Overflow == p.Name && o.Name != p.Name }) {
			l.at(table, ".name", "nothing leaves from this pool: give orgs or streams, or let another pool overflow to it")
		}
		return
	}
	if len(orgs) == 0 {
		orgs = []string{""}
	}
	if len(streams) == 0 {
		streams = []string{""}
	}
	for _, org := range orgs {
		for _, stream := range streams {
			if other := bound[org+" "+stream]; other != "" {
				l.at(table, ".name", "the same mail would leave from pool "+clean(other))
			}
			bound[org+" "+stream] = p.Name
		}
	}
}

func (l *loader) checkOverflow(names map[string]int) {
	for i, p := range l.config.Pool {
		table := fmt.Sprintf("pool[%d]", i)
		_, known := names[p.Overflow]
		switch {
		case p.Overflow == "":
		case !known && p.Overflow != DefaultPool:
			l.at(table, ".overflow", "there is no pool of that name")
		case p.DailyCeiling == 0 && len(p.WarmUpDays) == 0:
			l.at(table, ".overflow", "never happens without daily_ceiling or a warm-up")
		default:
			if way := l.overflowWay(p, names); len(way) > 0 {
				l.at(table, ".overflow", "leads back to a pool that overflows: "+clean(strings.Join(way, ">")))
			}
		}
	}
}

// overflowWay follows the pools that take over; it is empty when that ends.
func (l *loader) overflowWay(p Pool, names map[string]int) []string {
	way := []string{p.Name}
	for p.Overflow != "" {
		next, known := names[p.Overflow]
		if twice := slices.Contains(way, p.Overflow); twice || !known {
			if !twice {
				return nil
			}
			return append(way, p.Overflow)
		}
		way = append(way, p.Overflow)
		p = l.config.Pool[next]
	}
	return nil
}
