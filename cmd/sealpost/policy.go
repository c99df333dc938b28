package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/policy"
)

// policyCmd looks after an organization's rules.
type policyCmd struct {
	Show    policyShowCmd    `cmd:"" help:"Print the policy in effect, or an earlier one."`
	Preset  policyPresetCmd  `cmd:"" help:"Print a policy to begin with: default or end-to-end."`
	Publish policyPublishCmd `cmd:"" help:"Put a new version of the policy in effect."`
	Test    policyTestCmd    `cmd:"" help:"Say what would happen to a message, without sending it."`
}

type policyShowCmd struct {
	orgFlag
	Version int64 `placeholder:"N" help:"Version to show. The newest when not given."`
}

// Help shows how a change is made.
func (policyShowCmd) Help() string {
	return "To change the policy:\n\n  $ sealpost policy show > policy.json   # edit it\n" +
		"  $ sealpost policy test --file policy.json --from a@clinic.example --to b@example.org\n  $ sealpost policy publish policy.json"
}

// Run prints a policy.
func (c policyShowCmd) Run(ctx context.Context, env *environment) error {
	if c.Version < 0 {
		return usagef("Versions count from 1.")
	}
	return env.withOrg(ctx, c.pick, func(core *app.Core, o account.Org) error {
		doc, n, err := readPolicy(ctx, core, o.ID, c.Version)
		if err != nil {
			return err
		}
		text := policy.Render(doc)
		if env.JSON {
			return env.result(struct {
				Org     string          `json:"org"`
				Version int64           `json:"version"` // 0: the default, nothing is published
				Policy  json.RawMessage `json:"policy"`
			}{o.Slug, n, text}, nil)
		}
		if n == 0 {
			env.sayf("%s has published no policy: this is the default.", o.Slug)
		} else {
			env.sayf("Policy of %s, version %d.", o.Slug, n)
		}
		_, err = env.stdout.Write(text)
		return err
	})
}

type policyPresetCmd struct {
	Name string `arg:"" enum:"default,end-to-end" help:"Which: default or end-to-end."`
}

// Help tells what the presets mean.
func (policyPresetCmd) Help() string {
	return "default takes the strongest seal that a recipient can open. end-to-end takes pgp and smime only: whoever has no key that is trusted enough gets nothing until there is one, and the delivery is held.\n\n" +
		"  $ sealpost policy preset end-to-end | sealpost policy publish -"
}

// Run prints a preset.
func (c policyPresetCmd) Run(_ context.Context, env *environment) error {
	_, err := env.stdout.Write(policy.Render(policy.Presets()[c.Name]))
	return err
}

// readPolicy gives a version of the policy; 0 asks for the newest, and is the
// answer when none was published.
func readPolicy(ctx context.Context, core *app.Core, org id.ID, version int64) (doc policy.Document, n int64, err error) {
	err = core.DB.Read(ctx, org, func(tx *db.Tx) (err error) {
		if n = version; n == 0 {
			if n, err = account.PolicyVersion(tx); err != nil {
				return err
			}
		}
		if n == 0 {
			doc = policy.Default()
			return nil
		}
		text, err := account.PolicyDocument(tx, core.Custody, n)
		if err != nil {
			return err
		}
		doc, err = policy.Parse(text)
		return err
	})
	return doc, n, err
}

type policyPublishCmd struct {
	orgFlag
	File string `arg:"" help:"Policy as JSON; - for standard input."`
}

// Help says when it takes effect.
func (policyPublishCmd) Help() string {
	return "All mistakes are told at once and nothing is published then. It takes effect within a second, also for what is queued: there it can only make things stricter. " +
		"Earlier versions are kept; publish one again to go back."
}

// Run publishes a policy.
func (c policyPublishCmd) Run(ctx context.Context, env *environment) error {
	doc, err := env.parsePolicy(c.File)
	if err != nil {
		return err
	}
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		n, err := core.Accounts.PublishPolicy(ctx, o.ID, policy.Render(doc))
		if err != nil {
			return err
		}
		r := struct {
			Org     string `json:"org"`
			Version int64  `json:"version"`
			Rules   int    `json:"rules"`
		}{o.Slug, n, len(doc.Rules)}
		return env.result(r, func(p *page) {
			p.linef("Published version %d of the policy of %s, with %s.", n, o.Slug, count(r.Rules, "rule", "rules"))
		})
	})
}

func (e *environment) parsePolicy(file string) (policy.Document, error) {
	text, err := e.readInput(file, policy.MaxDocument+1)
	if err != nil {
		return policy.Document{}, err
	}
	return policy.Parse(text)
}

// readInput reads a file, or standard input for "-", up to a limit: the
// reader of what is cut off sees that it is too long.
func (e *environment) readInput(file string, limit int64) ([]byte, error) {
	in := e.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read the file: %w", err)
		}
		defer f.Close()
		in = f
	}
	return io.ReadAll(io.LimitReader(in, limit))
}
