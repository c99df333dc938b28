package main

import (
	"context"
	"strings"

	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/doctor"
	"github.com/sealpost/sealpost/internal/fault"
)

// doctorCmd says what keeps mail from flowing.
type doctorCmd struct {
	MX string `name:"mx" default:"gmail.com" placeholder:"DOMAIN" help:"Domain whose mail host is tried, to see whether port 25 is open; empty for none. (default: gmail.com)"`
}

// Help says what is done, and what is not.
func (doctorCmd) Help() string {
	return "Looks at the database, the keys, the disk, the clock, the resolver, the names of this host, the certificate, the ports, the periodic tasks, the scanners and what was last found in the DNS of sender domains, and says what to do. " +
		"It changes nothing and sends no mail. The exit code is 1 when something is wrong.\n\nWhat a sender domain's DNS must say now, \"sealpost domain check\" tells."
}

// Run examines the installation.
func (c doctorCmd) Run(ctx context.Context, env *environment) error {
	cfg, err := env.load()
	if err != nil {
		return err
	}
	found, err := app.Examine(ctx, cfg, c.MX)
	if err != nil {
		return err
	}
	bad := 0
	for _, f := range found {
		if f.State == doctor.Wrong {
			bad++
		}
	}
	if err := env.result(struct {
		Findings []doctor.Finding `json:"findings"`
	}{found}, func(p *page) {
		rows := [][]string{}
		for _, f := range found {
			rows = append(rows, []string{mark(f.State), f.Check, f.Text})
			if f.Fix != "" {
				rows = append(rows, []string{"", "", "-> " + f.Fix})
			}
		}
		p.table(rows...)
	}); err != nil {
		return err
	}
	if bad > 0 {
		return fault.Newf(fault.Refused, "unwell", "%s wrong; the lines that begin with WRONG say what to do.", count(bad, "thing is", "things are"))
	}
	return nil
}

// mark makes what is not good stand out.
func mark(s doctor.State) string {
	if s == doctor.Good {
		return string(s)
	}
	return strings.ToUpper(string(s))
}
