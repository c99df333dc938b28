package main

import (
	"context"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/keyring"
	"github.com/sealpost/sealpost/internal/policy"
)

type keyringFindCmd struct {
	orgFlag
	Address string `arg:"" help:"Address of the recipient."`
}

// Help says that it records.
func (keyringFindCmd) Help() string {
	return "It asks every source now, however old the last answers are, and keeps what they say, just as a delivery does. Below the answers stands what mail of the organization to this address would be sealed with.\n\nExample:\n\n" +
		"  $ sealpost keyring find jane@example.org"
}

type foundKeyRow struct {
	Kind        policy.Seal `json:"kind"`
	Key         string      `json:"key"`
	Fingerprint string      `json:"fingerprint"`
	Tier        string      `json:"tier"`
	Expires     time.Time   `json:"expires_at,omitzero"`
	Refused     string      `json:"refused,omitempty"`
	Why         string      `json:"why,omitempty"`
}

type answerRow struct {
	Source string        `json:"source"`
	Result string        `json:"result"`
	Word   string        `json:"word,omitempty"`
	TookMS int64         `json:"took_ms"`
	Keys   []foundKeyRow `json:"keys,omitempty"`
}

type addressFound struct {
	Org     string      `json:"org"`
	Address string      `json:"address"`
	Sources []answerRow `json:"sources"`
	Entries []entryRow  `json:"entries"` // on record, the organization's and the shared ones
	PGP     *entryRow   `json:"pgp,omitempty"`
	SMIME   *entryRow   `json:"smime,omitempty"`
	Why     []string    `json:"why,omitempty"`
	Failing bool        `json:"failing,omitempty"` // a source could not be asked: a later delivery may know more
}

// Run asks.
func (c keyringFindCmd) Run(ctx context.Context, env *environment) error {
	a, err := mailAddress(c.Address)
	if err != nil {
		return err
	}
	return env.withOrg(ctx, c.orSystem, func(core *app.Core, o account.Org) error {
		report, err := core.Keyring.Ask(ctx, o.ID, a)
		if err != nil {
			return err
		}
		r := addressFound{Org: o.Slug, Address: a.Reveal(), Sources: []answerRow{}, Entries: []entryRow{}, Why: report.Found.Why, Failing: report.Found.Failing}
		for _, s := range report.Answers {
			row := answerRow{Source: s.Source, Result: s.Result, Word: s.Word, TookMS: s.Took.Milliseconds()}
			for _, k := range s.Keys {
				row.Keys = append(row.Keys, foundKeyRow{k.Kind, k.Algorithm, k.Fingerprint, k.Tier.String(), k.Expires, k.Word, k.Sentence})
			}
			r.Sources = append(r.Sources, row)
		}
		for _, org := range []account.Org{o, {ID: id.ID{}, Slug: systemOrg}} {
			if org.ID.IsZero() && len(r.Entries) > 0 && o.ID.IsZero() {
				break // the installation's own were asked for
			}
			all, _, err := core.Keyring.List(ctx, org.ID, keyring.Filter{Address: a, Limit: 100})
			if err != nil {
				return err
			}
			for _, e := range all {
				r.Entries = append(r.Entries, entryRowOf(org.Slug, e))
			}
		}
		r.PGP, r.SMIME = chosen(o, report.Found.PGP), chosen(o, report.Found.SMIME)
		return env.result(r, func(p *page) { r.tell(p, core.Clock.Now()) })
	})
}

func chosen(o account.Org, c *keyring.Choice) *entryRow {
	if c == nil {
		return nil
	}
	r := entryRowOf(whose(o, c.Entry), c.Entry)
	return &r
}

func (r addressFound) tell(p *page, now time.Time) {
	if len(r.Sources) == 0 {
		p.linef("No source is configured: only what was imported is known.")
	} else {
		rows := [][]string{{"SOURCE", "ANSWER", "TOOK"}}
		for _, s := range r.Sources {
			answer := s.Result
			if s.Word != "" {
				answer += " (" + s.Word + ")"
			}
			rows = append(rows, []string{s.Source, answer, (time.Duration(s.TookMS) * time.Millisecond).String()})
		}
		p.table(rows...)
	}
	for _, s := range r.Sources {
		for _, k := range s.Keys {
			verdict := "can be used, " + k.Tier
			if k.Refused != "" {
				verdict = "refused: " + k.Why
			}
			name := strings.TrimSpace(keyName(k.Kind) + " " + printable(k.Key))
			p.linef("\n%s gives an %s\n  %s\n  %s", s.Source, name, keyring.Grouped(k.Fingerprint), printable(verdict))
		}
	}
	if len(r.Entries) > 0 {
		p.linef("\nOn record:")
		p.table(entryTable(r.Entries, now)...)
	}
	p.linef("")
	for _, c := range []*entryRow{r.PGP, r.SMIME} {
		if c != nil {
			p.linef("Mail can be sealed with %s: %s, %s from %s.", c.ID, keyName(c.Kind), c.Tier, c.Source)
		}
	}
	if r.PGP == nil && r.SMIME == nil {
		p.linef("No key of this address can be used now.")
	}
	for _, why := range r.Why {
		p.linef("  %s", printable(why))
	}
}

func keyName(kind policy.Seal) string {
	if kind == policy.SMIME {
		return "S/MIME certificate"
	}
	return "OpenPGP key"
}

type keyringTrustCmd struct {
	entryArg
	Tier string `enum:",harvested,discovered,confirmed,pinned" default:"" placeholder:"TIER" help:"How far to trust it. What the way it came proves is not lowered. (default: pinned)"`
}

// Help says what becomes of shared entries.
func (keyringTrustCmd) Help() string {
	return "Compare the fingerprint with the recipient first, by telephone for example. The entry is then the one in use, and the one before it is superseded. Of a shared entry the organization gets a copy of its own. " +
		"A pinned key is never replaced by what sources say.\n\nExample:\n\n  $ sealpost keyring trust key_06e9…"
}

// Run trusts an entry.
func (c keyringTrustCmd) Run(ctx context.Context, env *environment) error {
	tier := policy.Pinned
	if c.Tier != "" {
		tier, _ = policy.ParseTier(c.Tier) // kong has looked
	}
	return c.with(ctx, env, func(core *app.Core, o account.Org, entry id.ID) error {
		e, err := core.Keyring.Trust(ctx, o.ID, entry, tier)
		if err != nil {
			return err
		}
		r := entryRowOf(o.Slug, e)
		return env.result(r, func(p *page) {
			p.linef("%s is in use for %s: %s.", r.ID, printable(r.Address), r.Tier)
		})
	})
}

type keyringRemoveCmd struct{ entryArg }

// Help says what does not bring it back.
func (keyringRemoveCmd) Help() string {
	return "Sources do not bring it back; \"sealpost keyring trust\" and \"sealpost keyring import\" do. Its history stays. A proposal for the same address can take its place, at the tier that it has."
}

// Run removes an entry.
func (c keyringRemoveCmd) Run(ctx context.Context, env *environment) error {
	return c.with(ctx, env, func(core *app.Core, o account.Org, entry id.ID) error {
		e, err := core.Keyring.Remove(ctx, o.ID, entry)
		if err != nil {
			return err
		}
		r := entryRowOf(o.Slug, e)
		return env.result(r, func(p *page) { p.linef("Removed %s, a key of %s.", r.ID, printable(r.Address)) })
	})
}
