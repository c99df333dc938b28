package shaping

import (
	_ "embed" // default.toml
	"slices"
	"strings"
)

//go:embed default.toml
var defaultText []byte

// DefaultText is the commented file of the rules that come with the program.
func DefaultText() string { return string(defaultText) }

// Default are the rules that come with the program.
func Default() *Rules {
	r, err := read("default.toml", defaultText, func() []string { return nil })
	if err != nil {
		panic(err) // a test reads the file, so this cannot happen
	}
	return r
}

// Rules tell the site of a recipient domain and its limits.
type Rules struct {
	rest  rule // what holds for sites that no rule names, and for gaps in those
	sites []rule
	ready []Site // of sites, with what rest says of their gaps
}

// rule is one table of a file. What it does not say is zero.
type rule struct {
	name          string
	mx, domains   []string
	connections   limit[int]
	perConnection limit[int]
	rate          limit[Rate]
	reactions     []Reaction
}

// limit is a value and the file it was read from; empty when none says it.
type limit[T any] struct {
	value T
	file  string
}

func (l limit[T]) or(other limit[T]) limit[T] {
	if l.file == "" {
		return other
	}
	return l
}

// With gives the rules with those of the operator over them: what a site's rule
// of theirs says holds, and of what it does not say the shipped one. Their
// reactions are looked at first.
func (r *Rules) With(theirs *Rules) *Rules {
	out := &Rules{rest: theirs.rest.over(r.rest)}
	for _, t := range theirs.sites {
		if i := r.find(t.name); i >= 0 {
			t = t.over(r.sites[i])
		}
		out.sites = append(out.sites, t)
	}
	for _, s := range r.sites {
		if theirs.find(s.name) < 0 {
			out.sites = append(out.sites, s)
		}
	}
	return out.prepare()
}

func (r *Rules) find(name string) int {
	return slices.IndexFunc(r.sites, func(s rule) bool { return s.name == name })
}

func (t rule) over(u rule) rule {
	if len(t.mx)+len(t.domains) == 0 {
		t.mx, t.domains = u.mx, u.domains
	}
	t.connections = t.connections.or(u.connections)
	t.perConnection = t.perConnection.or(u.perConnection)
	t.rate = t.rate.or(u.rate)
	t.reactions = slices.Concat(t.reactions, u.reactions)
	return t
}

// Names are the sites that rules name.
func (r *Rules) Names() []string {
	var out []string
	for _, s := range r.sites {
		out = append(out, s.name)
	}
	return out
}

// Site gives the site of a recipient domain. A rule for the domain itself goes
// before those for mail hosts; of these the one that names most of a host's
// labels counts, whatever the order of the hosts.
func (r *Rules) Site(domain string, mxHosts []string) Site {
	i, _ := r.rule(domain, mxHosts)
	if i < 0 {
		return r.rest.site(lower(domain), false)
	}
	return r.ready[i]
}

// prepare fills the gaps of the rules, once for all questions.
func (r *Rules) prepare() *Rules {
	r.ready = nil
	for _, t := range r.sites {
		r.ready = append(r.ready, t.over(r.rest).site(t.name, true))
	}
	return r
}

func (t rule) site(name string, known bool) Site {
	return Site{Name: name, Connections: t.connections.value, PerConnection: t.perConnection.value, Rate: t.rate.value,
		Reactions: t.reactions, Known: known}
}

// rule finds the rule of a domain, -1 for none, and the name in it that matches.
func (r *Rules) rule(domain string, mxHosts []string) (found int, by string) {
	domain = lower(domain)
	for i, s := range r.sites {
		if slices.Contains(s.domains, domain) {
			return i, domain
		}
	}
	found = -1
	for _, host := range mxHosts {
		host = lower(host)
		for i, s := range r.sites {
			for _, suffix := range s.mx {
				if (len(suffix) > len(by) || len(suffix) == len(by) && suffix < by) && below(host, suffix) {
					found, by = i, suffix
				}
			}
		}
	}
	return found, by
}

// below reports whether a host is suffix or lies under it.
func below(host, suffix string) bool {
	rest, ok := strings.CutSuffix(host, suffix)
	return ok && (rest == "" || strings.HasSuffix(rest, "."))
}

func lower(name string) string { return strings.TrimSuffix(strings.ToLower(name), ".") }

// Reason says where a site and its limits come from: a name of the rules, and
// files. What no file says is empty.
type Reason struct {
	Matched                          string // the domain or mail host in the rules; empty for a site no rule names
	Connections, PerConnection, Rate string
}

// Explain is Site, with its reasons.
func (r *Rules) Explain(domain string, mxHosts []string) (Site, Reason) {
	all := r.rest
	i, by := r.rule(domain, mxHosts)
	if i >= 0 {
		all = r.sites[i].over(r.rest)
	}
	return r.Site(domain, mxHosts), Reason{by, all.connections.file, all.perConnection.file, all.rate.file}
}
