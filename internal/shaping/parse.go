package shaping

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/config"
)

// document is the file. Its tags are read by config.ReadDocument.
type document struct {
	Default defaultTable `toml:"default"`
	Site    []siteTable  `toml:"site"`
}

type defaultTable struct {
	Connections   int             `toml:"connections" min:"1" max:"1000"`
	PerConnection int             `toml:"messages_per_connection" min:"1" max:"100000"`
	Rate          string          `toml:"rate"`
	Reaction      []reactionTable `toml:"reaction"`
}

type siteTable struct {
	Name          string          `toml:"name"`
	MX            []string        `toml:"mx"`
	Domains       []string        `toml:"domains"`
	Connections   int             `toml:"connections" min:"1" max:"1000"`
	PerConnection int             `toml:"messages_per_connection" min:"1" max:"100000"`
	Rate          string          `toml:"rate"`
	Reaction      []reactionTable `toml:"reaction"`
}

type reactionTable struct {
	Name   string        `toml:"name"`
	Code   int           `toml:"code" min:"400" max:"599"`
	Status []string      `toml:"status"`
	Text   string        `toml:"text"`
	Act    string        `toml:"act" set:"slow,suspend"`
	For    time.Duration `toml:"for" min:"1s" max:"24h"`
}

const (
	sitesMost     = 1000
	namesMost     = 200 // mail hosts and domains of a site
	reactionsMost = 50  // of a site
	patternMost   = 200 // characters
)

var (
	nameForm   = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	hostForm   = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)
	statusForm = regexp.MustCompile(`^[45](\.[0-9]{1,3}){0,2}$`)
)

// Parse reads an operator's file, which goes over the shipped rules (With). Its
// error is a *config.Mistakes with every mistake.
func Parse(name string, text []byte) (*Rules, error) {
	return read(name, text, func() []string { return Default().Names() })
}

// read parses a file. A site that is none of those shipped must say whom it is
// for.
func read(name string, text []byte, shipped func() []string) (*Rules, error) {
	p := parser{file: name, shipped: shipped, taken: map[string]string{}}
	p.doc = config.ReadDocument(name, text, &p.read)
	d := p.read.Default
	out := &Rules{rest: p.limits("default", d.Connections, d.PerConnection, d.Rate, d.Reaction)}
	if len(p.read.Site) > sitesMost {
		p.doc.Wrong("", "site", fmt.Sprintf("there can be at most %d", sitesMost))
		p.read.Site = nil
	}
	for i, s := range p.read.Site {
		out.sites = append(out.sites, p.site(fmt.Sprintf("site[%d]", i), s))
	}
	if err := p.doc.Err(); err != nil {
		return nil, err
	}
	return out.prepare(), nil
}

type parser struct {
	file    string
	doc     *config.Document
	read    document
	shipped func() []string
	taken   map[string]string // what stands once in a file → where
}

func (p *parser) site(table string, s siteTable) rule {
	t := p.limits(table, s.Connections, s.PerConnection, s.Rate, s.Reaction)
	t.name, t.mx, t.domains = s.Name, s.MX, s.Domains
	if !nameForm.MatchString(s.Name) {
		p.doc.Wrong(table, "name", "must name the site in small letters, digits and -")
	}
	p.once(table, "name", "site "+s.Name)
	for key, hosts := range map[string][]string{"mx": s.MX, "domains": s.Domains} {
		if len(hosts) > namesMost {
			p.doc.Wrong(table, key, fmt.Sprintf("can have at most %d names", namesMost))
			continue
		}
		for _, h := range hosts {
			if !hostForm.MatchString(h) || len(h) > 253 || !strings.Contains(h, ".") {
				p.doc.Wrong(table, key, "must be names such as example.net, in small letters, without a dot before or behind")
			}
			p.once(table, key, key+" "+h)
		}
	}
	if len(s.MX)+len(s.Domains) == 0 {
		if names := p.shipped(); !slices.Contains(names, s.Name) {
			p.doc.Wrong(table, "mx", "this site is none of those shipped ("+strings.Join(names, ", ")+"), so give mx or domains")
		}
	}
	return t
}

// once reports what two sites of one file both claim.
func (p *parser) once(table, key, what string) {
	if first, twice := p.taken[what]; twice {
		p.doc.Wrong(table, key, "stands in "+first+" already")
		return
	}
	p.taken[what] = table
}

func (p *parser) limits(table string, connections, perConnection int, rate string, reactions []reactionTable) rule {
	t := rule{connections: given(connections, p.file), perConnection: given(perConnection, p.file)}
	if p.doc.Has(table + ".rate") {
		r, err := ParseRate(rate)
		if err != nil {
			p.doc.Wrong(table, "rate", err.Error())
		}
		t.rate = limit[Rate]{r, p.file}
	}
	if len(reactions) > reactionsMost {
		p.doc.Wrong(table, "reaction", fmt.Sprintf("there can be at most %d", reactionsMost))
		return t
	}
	for i, r := range reactions {
		t.reactions = append(t.reactions, p.reaction(fmt.Sprintf("%s.reaction[%d]", table, i), r))
	}
	return t
}

func given(n int, file string) limit[int] {
	if n == 0 {
		return limit[int]{}
	}
	return limit[int]{n, file}
}

func (p *parser) reaction(table string, r reactionTable) Reaction {
	out := Reaction{Name: r.Name, Code: r.Code, Status: r.Status, Act: Act(r.Act), For: r.For}
	if !nameForm.MatchString(r.Name) {
		p.doc.Wrong(table, "name", "must say in a word of small letters, digits and - what the reply means")
	}
	if r.Act == "" {
		p.doc.Wrong(table, "act", "is required: slow or suspend")
	}
	if r.For == 0 {
		p.doc.Wrong(table, "for", "is required: a duration such as 10m")
	}
	for _, s := range r.Status {
		if !statusForm.MatchString(s) {
			p.doc.Wrong(table, "status", "must be enhanced status codes such as 4.7.28, or their beginnings such as 4.7")
		}
	}
	if r.Code == 0 && len(r.Status) == 0 && r.Text == "" {
		p.doc.Wrong(table, "code", "a reaction needs a code, a status or a text; without, every refusal would match")
	}
	if r.Text != "" {
		out.Text = p.pattern(table, r.Text)
	}
	return out
}

func (p *parser) pattern(table, text string) *regexp.Regexp {
	if len(text) > patternMost {
		p.doc.Wrong(table, "text", fmt.Sprintf("can have at most %d characters", patternMost))
		return nil
	}
	re, err := regexp.Compile("(?i)" + text)
	var bad *syntax.Error
	switch {
	case errors.As(err, &bad): // its words, and not the text
		p.doc.Wrong(table, "text", "is not a regular expression (RE2): "+bad.Code.String())
	case re.MatchString(""):
		p.doc.Wrong(table, "text", "matches every reply")
	}
	return re
}

var errRate = errors.New(`must be messages per second, minute or hour such as 20/s, 600/m or 5000/h, or "none"`)

var ratePers = map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}

// ParseRate reads a rate such as 20/s.
func ParseRate(text string) (Rate, error) {
	if text == "none" {
		return Rate{}, nil
	}
	number, unit, _ := strings.Cut(text, "/")
	n, err := strconv.ParseUint(number, 10, 24)
	per := ratePers[unit]
	if err != nil || n == 0 || per == 0 {
		return Rate{}, errRate
	}
	return Rate{int(n), per}, nil
}

// String writes the rate as ParseRate reads it.
func (r Rate) String() string {
	for unit, per := range ratePers {
		if r.Messages > 0 && r.Per == per {
			return strconv.Itoa(r.Messages) + "/" + unit
		}
	}
	if r.Messages > 0 {
		return fmt.Sprintf("%d in %s", r.Messages, r.Per)
	}
	return "none"
}
