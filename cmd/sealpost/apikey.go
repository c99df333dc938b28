package main

import (
	"context"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/id"
)

// apikeyCmd looks after the keys of API clients.
type apikeyCmd struct {
	Create apikeyCreateCmd `cmd:"" help:"Make a key and print it, once."`
	List   apikeyListCmd   `cmd:"" help:"List keys, without the keys themselves."`
	Revoke apikeyRevokeCmd `cmd:"" help:"End a key within a second."`
}

type apikeyCreateCmd struct {
	orgFlag
	Name    string   `required:"" placeholder:"NAME" help:"What the key is for, to recognize it in lists."`
	Scope   []string `default:"messages:send,messages:read" placeholder:"SCOPE" help:"What it may do: messages:send, messages:read, messages:cancel, events:read, suppressions:read, suppressions:write. (default: messages:send and messages:read)"`
	Purpose string   `enum:",treatment,payment,operations,marketing,generic" default:"" placeholder:"PURPOSE" help:"Purpose of messages that state none: treatment, payment, operations, marketing or generic. (default: treatment)"`
	Expires string   `placeholder:"WHEN" help:"When it ends: a duration such as 90d, or a date such as 2030-12-31. Never when not given."`
}

// Help says how SMTP uses the key.
func (apikeyCreateCmd) Help() string {
	return "The key is the bearer token of the API and the password of SMTP, where the user is \"apikey\". It is stored as a hash only and cannot be shown again.\n\nExamples:\n\n" +
		"  $ sealpost apikey create --name lab-notices --scope messages:send --expires 365d\n" +
		"  $ sealpost apikey create --org clinic --name monitor --scope events:read"
}

type clientRow struct {
	ID             string       `json:"id"`
	Org            string       `json:"org"`
	Name           string       `json:"name"`
	Scopes         []auth.Scope `json:"scopes"`
	DefaultPurpose string       `json:"default_purpose,omitempty"`
	CreatedAt      time.Time    `json:"created_at"`
	ExpiresAt      time.Time    `json:"expires_at,omitzero"`
	RevokedAt      time.Time    `json:"revoked_at,omitzero"`
}

func clientRowOf(slug string, c auth.Client) clientRow {
	return clientRow{c.ID.Text(id.Client), slug, c.Name, c.Scopes, c.DefaultPurpose, stamp(c.CreatedAt), stamp(c.ExpiresAt), stamp(c.RevokedAt)}
}

// Run makes a key.
func (c apikeyCreateCmd) Run(ctx context.Context, env *environment) error {
	client := auth.Client{Name: c.Name, DefaultPurpose: c.Purpose}
	for _, s := range c.Scope {
		client.Scopes = append(client.Scopes, auth.Scope(s))
	}
	return env.withOrg(ctx, c.alive, func(core *app.Core, o account.Org) error {
		ends, err := moment(c.Expires, core.Clock.Now())
		if err != nil {
			return err
		}
		client.Org, client.ExpiresAt = o.ID, ends
		made, key, err := core.Clients.Create(ctx, client)
		if err != nil {
			return err
		}
		r := struct {
			clientRow
			Key string `json:"key"`
		}{clientRowOf(o.Slug, made), key.Reveal()}
		return env.result(r, func(p *page) {
			p.linef("%s", r.Key)
			env.sayf("This is the key of %s (%s). It is not shown again: keep it where secrets are kept.", r.ID, scopeText(made.Scopes))
		})
	})
}

// moment reads a duration from now or a day, which ends at midnight UTC.
func moment(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, form := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(form, text); err == nil {
			if !t.After(now) {
				return t, usagef("%s has passed already.", text)
			}
			return t, nil
		}
	}
	d, err := config.ParseDuration(text)
	if err != nil || d == 0 {
		return time.Time{}, usagef("%q is neither a duration such as 90d nor a date such as 2030-12-31 or 2030-12-31T18:00:00Z.", text)
	}
	return now.Add(d), nil
}

func scopeText(scopes []auth.Scope) string {
	words := make([]string, len(scopes))
	for i, s := range scopes {
		words[i] = string(s)
	}
	return strings.Join(words, ", ")
}

type apikeyListCmd struct{ orgFlag }

// Run lists keys.
func (c apikeyListCmd) Run(ctx context.Context, env *environment) error {
	return env.withOrg(ctx, c.pick, func(core *app.Core, o account.Org) error {
		all, err := core.Clients.List(ctx, o.ID)
		if err != nil {
			return err
		}
		r := struct {
			Org  string      `json:"org"`
			Keys []clientRow `json:"keys"`
		}{o.Slug, []clientRow{}}
		for _, cl := range all {
			r.Keys = append(r.Keys, clientRowOf(o.Slug, cl))
		}
		return env.result(r, func(p *page) {
			if len(all) == 0 {
				p.linef("%s has no key yet. \"sealpost apikey create\" makes one.", o.Slug)
				return
			}
			rows := [][]string{{"ID", "NAME", "SCOPES", "PURPOSE", "CREATED", "ENDS"}}
			for _, cl := range all {
				rows = append(rows, []string{cl.ID.Text(id.Client), cl.Name, scopeText(cl.Scopes), orDash(cl.DefaultPurpose),
					when(cl.CreatedAt, "-"), endOf(cl, core.Clock.Now())})
			}
			p.table(rows...)
		})
	})
}

func endOf(c auth.Client, now time.Time) string {
	switch {
	case !c.RevokedAt.IsZero():
		return "revoked " + when(c.RevokedAt, "")
	case c.ExpiresAt.IsZero():
		return "never"
	case !now.Before(c.ExpiresAt):
		return "expired " + when(c.ExpiresAt, "")
	}
	return when(c.ExpiresAt, "")
}

type apikeyRevokeCmd struct {
	orgFlag
	ID string `arg:"" help:"Id of the key, as \"sealpost apikey list\" shows it: cli_…"`
}

// Help says that it does not rehearse.
func (apikeyRevokeCmd) Help() string {
	return "It is done at once, without --apply, because a key that leaked must not wait. Messages that were handed in are delivered."
}

// Run revokes a key.
func (c apikeyRevokeCmd) Run(ctx context.Context, env *environment) error {
	client, err := id.Parse(id.Client, c.ID)
	if err != nil {
		return usagef("An id of a key looks like cli_06e9…; \"sealpost apikey list\" shows them.")
	}
	return env.withOrg(ctx, c.pick, func(core *app.Core, o account.Org) error {
		if err := core.Clients.Revoke(ctx, o.ID, client); err != nil {
			return err
		}
		r := struct {
			Org string `json:"org"`
			ID  string `json:"id"`
		}{o.Slug, client.Text(id.Client)}
		return env.result(r, func(p *page) { p.linef("Revoked %s. It stops working within a second.", r.ID) })
	})
}
