package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/shaping"
)

// shapingCmd looks at how much destinations get at once.
type shapingCmd struct {
	Show  shapingShowCmd  `cmd:"" help:"Print the rules that come with the program, with comments."`
	Check shapingCheckCmd `cmd:"" help:"Say everything that is wrong with a file of rules."`
	Site  shapingSiteCmd  `cmd:"" help:"Say which rules hold for a recipient domain, and why."`
}

type shapingShowCmd struct{}

// Run prints the shipped rules.
func (shapingShowCmd) Run(env *environment) error {
	if env.JSON {
		return env.result(struct {
			Rules string `json:"rules"`
		}{shaping.DefaultText()}, nil)
	}
	_, err := io.WriteString(env.stdout, shaping.DefaultText())
	return err
}

type shapingCheckCmd struct {
	File string `arg:"" help:"File of rules, to be named as delivery.shaping_file."`
}

// Help shows an example.
func (shapingCheckCmd) Help() string {
	return "Mistakes are listed all at once and the exit code is 1.\n\nExample:\n\n  $ sealpost shaping check /etc/sealpost/shaping.toml"
}

// Run checks.
func (c shapingCheckCmd) Run(env *environment) error {
	text, err := os.ReadFile(c.File)
	if err != nil {
		return fmt.Errorf("read the rules: %w", err)
	}
	r := struct {
		OK       bool            `json:"ok"`
		File     string          `json:"file"`
		Sites    []string        `json:"sites"`
		Mistakes []configMistake `json:"mistakes"`
	}{File: c.File, Sites: []string{}, Mistakes: []configMistake{}}
	rules, err := shaping.Parse(c.File, text)
	var bad *config.Mistakes
	if errors.As(err, &bad) && env.JSON {
		for _, m := range bad.List {
			r.Mistakes = append(r.Mistakes, configMistake(m))
		}
		return errors.Join(env.result(r, nil), errSaid)
	}
	if err != nil {
		return err
	}
	r.OK, r.Sites = true, append(r.Sites, rules.Names()...)
	return env.result(r, func(p *page) {
		p.linef("The rules in %s are good. Sites: %s.", c.File, orDash(strings.Join(r.Sites, ", ")))
	})
}

type shapingSiteCmd struct {
	Domain string   `arg:"" help:"Recipient domain."`
	MX     []string `name:"mx" placeholder:"HOST" help:"Mail host to go by, in place of those in the DNS; can be given several times."`
}

// Help shows an example.
func (shapingSiteCmd) Help() string {
	return "The limits are of all nodes together, for each source pool. What a site has said lately can narrow them for a time.\n\nExample:\n\n" +
		"  $ sealpost shaping site clinic.example --mx aspmx.l.google.com"
}

type reactionShown struct {
	Name   string   `json:"name"`
	Code   int      `json:"code,omitempty"`
	Status []string `json:"status,omitempty"`
	Text   string   `json:"text,omitempty"`
	Act    string   `json:"act"`
	For    string   `json:"for"`
}

type siteShown struct {
	Domain        string          `json:"domain"`
	MX            []string        `json:"mx"`
	Site          string          `json:"site"`
	Matched       string          `json:"matched,omitempty"`
	Connections   int             `json:"connections"` // 0 for no limit, as below
	PerConnection int             `json:"messages_per_connection"`
	Rate          string          `json:"rate"`
	From          siteFrom        `json:"from"`
	Reactions     []reactionShown `json:"reactions"`
}

type siteFrom struct {
	Connections   string `json:"connections,omitempty"`
	PerConnection string `json:"messages_per_connection,omitempty"`
	Rate          string `json:"rate,omitempty"`
}

// Run explains.
func (c shapingSiteCmd) Run(ctx context.Context, env *environment) error {
	name, err := domainName(c.Domain)
	if err != nil {
		return err
	}
	cfg, err := env.load()
	if err != nil {
		return err
	}
	rules, err := app.ShapingRules(cfg)
	if err != nil {
		return err
	}
	hosts := c.MX
	if len(hosts) == 0 {
		if hosts, err = mailHosts(ctx, env, name); err != nil {
			return err
		}
	}
	site, why := rules.Explain(name, hosts)
	from := siteFrom{why.Connections, why.PerConnection, why.Rate}
	if site.Connections == 0 {
		site.Connections, from.Connections = cfg.Delivery.PerDestination, "delivery.per_destination"
	}
	r := siteShown{Domain: name, MX: append([]string{}, hosts...), Site: site.Name, Matched: why.Matched, Connections: site.Connections,
		PerConnection: site.PerConnection, Rate: site.Rate.String(), From: from, Reactions: []reactionShown{}}
	for _, re := range site.Reactions {
		shown := reactionShown{Name: re.Name, Code: re.Code, Status: re.Status, Act: string(re.Act), For: asWritten(re.For)}
		if re.Text != nil {
			shown.Text = strings.TrimPrefix(re.Text.String(), "(?i)")
		}
		r.Reactions = append(r.Reactions, shown)
	}
	return env.result(r, r.tell)
}

func mailHosts(ctx context.Context, env *environment, domain string) (hosts []string, err error) {
	err = env.withCore(ctx, func(core *app.Core) error {
		known, err := core.Posture.Refresh(ctx, domain)
		for _, mx := range known.MX {
			hosts = append(hosts, mx.Host)
		}
		return err
	})
	return hosts, err
}

func (r siteShown) tell(p *page) {
	matched := "no rule names it, so the domain is a site of its own"
	if r.Matched != "" {
		matched = "the rules name " + r.Matched
	}
	p.table([][]string{
		{"domain", r.Domain}, {"mail hosts", orDash(strings.Join(r.MX, ", "))}, {"site", r.Site + ", because " + matched},
		{"connections", strconv.Itoa(r.Connections), fromFile(r.From.Connections)},
		{"messages per connection", orNone(r.PerConnection), fromFile(r.From.PerConnection)},
		{"rate", r.Rate, fromFile(r.From.Rate)},
	}...)
	p.linef("\nReplies that slow it down or suspend it, the first that matches:")
	rows := [][]string{{"WHY", "CODE", "STATUS", "TEXT", "ACT", "FOR"}}
	for _, re := range r.Reactions {
		code := "-"
		if re.Code != 0 {
			code = strconv.Itoa(re.Code)
		}
		rows = append(rows, []string{re.Name, code, orDash(strings.Join(re.Status, " ")), orDash(re.Text), re.Act, re.For})
	}
	p.table(rows...)
}

// fromFile says where a limit is from, of one that any file sets.
func fromFile(file string) string {
	if file == "" {
		return ""
	}
	return "from " + file
}

// orNone writes a limit of which 0 means none.
func orNone(n int) string {
	if n == 0 {
		return "none"
	}
	return strconv.Itoa(n)
}

// asWritten writes a duration as files have it: 30m and not 30m0s.
func asWritten(d time.Duration) string {
	switch {
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return d.String()
}
