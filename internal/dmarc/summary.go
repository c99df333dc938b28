package dmarc

import (
	"cmp"
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/private"
)

// Summary is what receivers saw of mail in the name of a domain and of names
// below it.
type Summary struct {
	Domain    string      `json:"domain"`
	From      time.Time   `json:"from"`
	Until     time.Time   `json:"until"`
	Reports   int         `json:"reports"`
	Reporters []string    `json:"reporters"`
	Asked     Disposition `json:"policy,omitempty"` // as the newest report found it published
	Messages  int64       `json:"messages"`
	Passed    int64       `json:"passed"`
	Failures  int64       `json:"failure_reports"` // reported one by one
	Blind     bool        `json:"blind,omitempty"` // no source is known, so none can be told to be a stranger's
	Sources   []Source    `json:"sources"`
	More      int         `json:"more_sources"` // unknown ones that are left out of the list; their mail is in the sums
}

// Source is one host, or all of one known network.
type Source struct {
	Source   string   `json:"source"`          // address, or the name of a known network
	Known    bool     `json:"known"`           // mail leaves from there as it should
	Host     string   `json:"host,omitempty"`  // name of the address that leads back to it
	Provider string   `json:"provider"`        // empty: not known
	Messages int64    `json:"messages"`        //
	Passed   int64    `json:"passed"`          // DMARC
	SPF      int64    `json:"spf_aligned"`     // of them
	DKIM     int64    `json:"dkim_aligned"`    // of them
	Stopped  int64    `json:"stopped"`         // quarantined or rejected
	Names    []string `json:"names"`           // domains in From
	Keys     []string `json:"keys,omitempty"`  // selectors of ours that signed
	Steps    []string `json:"steps,omitempty"` // what to do
}

const (
	maxSources  = 200 // of one summary
	maxNames    = 20  // domains of one source
	maxHosts    = 40  // addresses whose name is looked up
	hostTimeout = 5 * time.Second
)

// Summarize sums up what was reported of a domain in the last days.
func (s *Reports) Summarize(ctx context.Context, org id.ID, domain string, days int) (Summary, error) {
	domain = clean(domain)
	now := s.Clock.Now()
	out := Summary{Domain: domain, From: now.Add(-time.Duration(days) * day).Truncate(day), Until: now, Reporters: []string{}}
	known, err := s.Known(ctx, org)
	if err != nil {
		return out, err
	}
	g := &gathering{known: known, domain: domain, by: map[string]*Source{}}
	err = s.DB.Read(ctx, org, func(tx *db.Tx) error {
		if err := out.reports(tx); err != nil {
			return err
		}
		if err := g.rows(tx, out.From); err != nil {
			return err
		}
		return tx.Row("SELECT coalesce(sum(incidents), 0) FROM dmarc_failures WHERE org_id = ? AND domain = ? AND day >= ?",
			org, domain, clock.Micros(out.From)).Scan(&out.Failures)
	})
	if err != nil {
		return out, err
	}
	out.Blind = len(g.known) == 0
	for _, src := range g.sorted() {
		out.Messages += src.Messages
		out.Passed += src.Passed
		if len(out.Sources) < maxSources {
			out.Sources = append(out.Sources, *src)
		} else {
			out.More++
		}
	}
	s.nameHosts(ctx, out.Sources)
	for i := range out.Sources {
		src := &out.Sources[i]
		if src.Provider == "" && !src.Known {
			src.Provider = provider(src.Source, src.Host)
		}
		if !out.Blind {
			src.Steps = steps(domain, out.Asked, *src)
		}
	}
	return out, nil
}

func (s *Summary) reports(tx *db.Tx) error {
	type line struct{ reporter, asked string }
	all, err := db.All(tx, func(row db.Row) (l line, err error) {
		err = row.Scan(&l.reporter, &l.asked)
		return l, err
	}, "SELECT r.reporter, r.asked FROM dmarc_reports r WHERE r.org_id = ? AND r.end_at >= ? AND "+under+" ORDER BY r.end_at",
		append([]any{tx.Org(), clock.Micros(s.From)}, underArgs(s.Domain)...)...)
	for _, l := range all {
		s.Reports++
		s.Reporters = append(s.Reporters, l.reporter)
		if l.asked != "" {
			s.Asked = Disposition(l.asked)
		}
	}
	slices.Sort(s.Reporters)
	s.Reporters = slices.Compact(s.Reporters)
	return err
}

// under is the condition that a report is of a domain or of a name below it.
// What has a meaning for LIKE stands in no domain that ParseDomain gives.
const under = "(r.domain = ? OR r.domain LIKE ?)"

func underArgs(domain string) []any { return []any{domain, "%." + domain} }

// gathering sums rows up by source.
type gathering struct {
	known  []Known
	domain string
	by     map[string]*Source
}

func (g *gathering) rows(tx *db.Tx, from time.Time) error {
	rows, err := tx.Query(`SELECT w.source, w.messages, w.disposition, w.dkim, w.spf, w.header_from, w.auth
		FROM dmarc_reports r JOIN dmarc_rows w ON w.report = r.id WHERE r.org_id = ? AND r.end_at >= ? AND `+under,
		append([]any{tx.Org(), clock.Micros(from)}, underArgs(g.domain)...)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var source, disposition, header, auth string
		var messages int64
		var dkim, spf int
		if err := rows.Scan(&source, &messages, &disposition, &dkim, &spf, &header, &auth); err != nil {
			return err
		}
		var w wireAuths
		if err := json.Unmarshal([]byte(auth), &w); err != nil {
			return err
		}
		addr, err := netip.ParseAddr(source)
		if err != nil {
			return err
		}
		g.add(Row{Source: addr, Count: messages, Disposition: Disposition(disposition), DKIMAligned: dkim == 1, SPFAligned: spf == 1,
			HeaderFrom: header, DKIM: w.DKIM, SPF: w.SPF})
	}
	return rows.Err()
}

func (g *gathering) add(r Row) {
	name, known := r.Source.String(), false
	if n := nameOf(g.known, r.Source); n != "" {
		name, known = n, true
	}
	src := g.by[name]
	if src == nil {
		src = &Source{Source: name, Known: known}
		g.by[name] = src
	}
	src.Messages += r.Count
	if r.Pass() {
		src.Passed += r.Count
	}
	if r.SPFAligned {
		src.SPF += r.Count
	}
	if r.DKIMAligned {
		src.DKIM += r.Count
	}
	if r.Disposition == Quarantine || r.Disposition == Reject {
		src.Stopped += r.Count
	}
	note(&src.Names, r.HeaderFrom)
	for _, a := range r.DKIM {
		if r.DKIMAligned && a.Result == "pass" && a.Selector != "" && (a.Domain == g.domain || strings.HasSuffix(a.Domain, "."+g.domain)) {
			note(&src.Keys, a.Selector+"._domainkey."+a.Domain)
		}
	}
}

// note keeps a name once, up to a number of them, in order.
func note(list *[]string, name string) {
	at, there := slices.BinarySearch(*list, name)
	if name != "" && !there && len(*list) < maxNames {
		*list = slices.Insert(*list, at, name)
	}
}

// sorted puts known sources first, then unknown ones that pass, then the rest,
// each by the number of messages.
func (g *gathering) sorted() []*Source {
	var out []*Source
	for _, s := range g.by {
		out = append(out, s)
	}
	rank := func(s *Source) int {
		switch {
		case s.Known:
			return 0
		case s.Passed > 0:
			return 1
		}
		return 2
	}
	slices.SortFunc(out, func(a, b *Source) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Source, b.Source))
	})
	return out
}

func sortBypasses(all []bypass) {
	slices.SortStableFunc(all, func(a, b bypass) int {
		return cmp.Or(cmp.Compare(b.fact.Passed, a.fact.Passed), cmp.Compare(b.fact.Messages, a.fact.Messages), cmp.Compare(a.source, b.source))
	})
}

// nameHosts looks up what unknown hosts are called. A name counts only if it
// leads back to the address: whoever owns an address can call it anything.
func (s *Reports) nameHosts(ctx context.Context, list []Source) {
	if s.Resolver == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, hostTimeout)
	defer cancel()
	var group sync.WaitGroup
	asked := 0
	for i := range list {
		addr, err := netip.ParseAddr(list[i].Source)
		if err != nil || asked == maxHosts {
			continue
		}
		asked++
		group.Go(func() {
			var defect error // then it has no name
			defer private.RecoverLogged(&defect, s.Log, "look up the name of a host")
			list[i].Host = s.hostName(ctx, addr)
		})
	}
	group.Wait()
}

func (s *Reports) hostName(ctx context.Context, addr netip.Addr) string {
	reverse, err := dns.ReverseAddr(addr.String())
	if err != nil {
		return ""
	}
	a, err := s.Resolver.Ask(ctx, reverse, dns.TypePTR)
	if err != nil {
		return ""
	}
	for _, rr := range a.RRs[:min(len(a.RRs), 4)] {
		ptr, ok := rr.(*dns.PTR)
		if !ok {
			continue
		}
		name := domainOf(ptr.Ptr)
		if name == "" {
			continue
		}
		if back, _, _ := s.Resolver.Addresses(ctx, name); slices.Contains(back, addr.Unmap()) {
			return name
		}
	}
	return ""
}
