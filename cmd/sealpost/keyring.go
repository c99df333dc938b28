package main

import (
	"context"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/keyring"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
)

// keyringCmd looks after the keys of recipients.
type keyringCmd struct {
	List   keyringListCmd   `cmd:"" help:"List keys and certificates of recipients."`
	Show   keyringShowCmd   `cmd:"" help:"Show one entry: who says so, and its history."`
	Import keyringImportCmd `cmd:"" help:"Take keys and certificates from files, or from a whole folder."`
	Find   keyringFindCmd   `cmd:"" help:"Ask every source for keys of an address and show what each says."`
	Trust  keyringTrustCmd  `cmd:"" help:"Accept a changed key, or vouch for one."`
	Remove keyringRemoveCmd `cmd:"" help:"Take an entry out of use."`
}

// Help says what the tiers are.
func (keyringCmd) Help() string {
	return "An entry is one OpenPGP key or S/MIME certificate for one address. Its tier says how far it is trusted: harvested (seen in mail), discovered (found where anybody could have put it), " +
		"confirmed (proved by DNSSEC or an authority), pinned (a person vouched for it). The policy says from which tier it seals by itself. What all organizations share is listed with --org system. docs/keyring.md tells the whole way."
}

type entryRow struct {
	ID          string        `json:"id,omitempty"` // empty: it is not on record
	Org         string        `json:"org"`
	Address     string        `json:"address,omitempty"`
	Kind        policy.Seal   `json:"kind,omitempty"`
	State       keyring.State `json:"state"`
	Tier        string        `json:"tier"` // none: it proves nothing
	Source      string        `json:"source,omitempty"`
	Key         string        `json:"key,omitempty"` // algorithm
	Opens       []string      `json:"opens,omitempty"`
	Reason      string        `json:"reason,omitempty"`
	Fingerprint string        `json:"fingerprint,omitempty"`
	FirstSeen   time.Time     `json:"first_seen,omitzero"`
	LastSeen    time.Time     `json:"last_seen,omitzero"`
	Expires     time.Time     `json:"expires_at,omitzero"`
}

func entryRowOf(slug string, e keyring.Entry) entryRow {
	r := entryRow{Org: slug, Address: e.Address.Reveal(), Kind: e.Kind, State: e.State, Tier: e.Tier.String(), Source: e.Source, Key: e.Algorithm, Opens: canOpen(e.Opens),
		Reason: e.Reason, Fingerprint: e.Fingerprint.Reveal(), FirstSeen: stamp(e.FirstSeen), LastSeen: stamp(e.LastSeen), Expires: stamp(e.Expires)}
	if !e.ID.IsZero() {
		r.ID = e.ID.Text(id.Key)
	}
	if e.FirstSeen.IsZero() {
		r.FirstSeen, r.LastSeen = time.Time{}, time.Time{}
	}
	if e.Expires.IsZero() {
		r.Expires = time.Time{}
	}
	return r
}

// ends says how long the key is good for.
func (r entryRow) ends(now time.Time) string {
	switch {
	case r.Expires.IsZero():
		return "never"
	case !now.Before(r.Expires):
		return "expired " + r.Expires.Format(time.DateOnly)
	}
	return r.Expires.Format(time.DateOnly)
}

func (r entryRow) standing() string {
	if r.Reason == "" {
		return string(r.State)
	}
	return string(r.State) + " (" + r.Reason + ")"
}

func mailAddress(text string) (mail.Address, error) {
	a, err := mail.ParseAddress(text)
	if err != nil {
		return a, usagef("An address looks like jane@example.org.")
	}
	return a, nil
}

func entryID(text string) (id.ID, error) {
	e, err := id.Parse(id.Key, text)
	if err != nil {
		return e, usagef("An id of an entry looks like key_06e9…; \"sealpost keyring list\" shows them.")
	}
	return e, nil
}

type keyringListCmd struct {
	orgFlag
	Address string `placeholder:"ADDRESS" help:"Only of this address."`
	Kind    string `enum:",pgp,smime" default:"" placeholder:"KIND" help:"Only pgp or smime."`
	State   string `enum:",active,proposed,superseded,withdrawn,removed,refused" default:"" placeholder:"STATE" help:"Only in this state: active, proposed, superseded, withdrawn, removed or refused."`
	Limit   int    `default:"100" placeholder:"N" help:"Most to list. (default: 100)"`
	After   string `placeholder:"ENTRY" help:"Go on behind this one."`
}

// Help shows an example.
func (keyringListCmd) Help() string {
	return "Oldest first. Keys that sources gave are shared by all organizations: --org system lists them.\n\nExamples:\n\n" +
		"  $ sealpost keyring list --state proposed\n  $ sealpost keyring list --org system --address jane@example.org"
}

type entriesListed struct {
	Entries []entryRow `json:"entries"`
	More    bool       `json:"more"` // --after the last one gives the next
}

func (c keyringListCmd) filter() (f keyring.Filter, err error) {
	if c.Limit < 1 || c.Limit > 10_000 {
		return f, usagef("--limit must be between 1 and 10000.")
	}
	f = keyring.Filter{State: keyring.State(c.State), Kind: policy.Seal(c.Kind), Limit: c.Limit}
	if c.Address != "" {
		if f.Address, err = mailAddress(c.Address); err != nil {
			return f, err
		}
	}
	if c.After != "" {
		f.After, err = entryID(c.After)
	}
	return f, err
}

// Run lists entries.
func (c keyringListCmd) Run(ctx context.Context, env *environment) error {
	f, err := c.filter()
	if err != nil {
		return err
	}
	return env.withOrg(ctx, c.orSystem, func(core *app.Core, o account.Org) error {
		all, more, err := core.Keyring.List(ctx, o.ID, f)
		if err != nil {
			return err
		}
		r := entriesListed{Entries: []entryRow{}, More: more}
		for _, e := range all {
			r.Entries = append(r.Entries, entryRowOf(o.Slug, e))
		}
		return env.result(r, func(p *page) { r.tell(p, o.Slug, core.Clock.Now()) })
	})
}

func (r entriesListed) tell(p *page, slug string, now time.Time) {
	if len(r.Entries) == 0 {
		p.linef("%s has no key of its own that fits.", slug)
		if slug != systemOrg {
			p.linef("What sources gave is shared: \"sealpost keyring list --org system\".")
		}
		return
	}
	p.table(entryTable(r.Entries, now)...)
	if r.More {
		p.linef("\nThere are more: add --after %s", r.Entries[len(r.Entries)-1].ID)
	}
}

func entryTable(entries []entryRow, now time.Time) [][]string {
	rows := [][]string{{"ID", "ADDRESS", "KIND", "KEY", "STATE", "TIER", "FROM", "ENDS"}}
	for _, e := range entries {
		rows = append(rows, []string{orDash(e.ID), orDash(e.Address), orDash(string(e.Kind)), orDash(e.Key), e.standing(), e.Tier, orDash(e.Source), e.ends(now)})
	}
	return rows
}

// entryArg names one entry.
type entryArg struct {
	orgFlag
	Entry string `arg:"" help:"Id of the entry, as \"sealpost keyring list\" shows it: key_…"`
}

func (a entryArg) with(ctx context.Context, env *environment, fn func(*app.Core, account.Org, id.ID) error) error {
	entry, err := entryID(a.Entry)
	if err != nil {
		return err
	}
	return env.withOrg(ctx, a.orSystem, func(core *app.Core, o account.Org) error { return fn(core, o, entry) })
}

type keyringShowCmd struct{ entryArg }

type sightingRow struct {
	Source    string    `json:"source"`
	Proof     string    `json:"proof"`
	FirstSeen time.Time `json:"first_seen"`
	LastSeen  time.Time `json:"last_seen"`
}

type changeRow struct {
	At     time.Time   `json:"at"`
	Event  ledger.Type `json:"event"`
	Tier   string      `json:"tier"`
	Source string      `json:"source"`
	Reason string      `json:"reason,omitempty"`
}

type entryShown struct {
	entryRow
	CreatedAt time.Time     `json:"created_at,omitzero"`
	Serial    string        `json:"serial,omitempty"`
	Issuer    string        `json:"issuer,omitempty"`
	SeenBy    []sightingRow `json:"seen_by"`
	History   []changeRow   `json:"history"`
}

// Run shows an entry.
func (c keyringShowCmd) Run(ctx context.Context, env *environment) error {
	return c.with(ctx, env, func(core *app.Core, o account.Org, entry id.ID) error {
		d, err := core.Keyring.Show(ctx, o.ID, entry)
		if err != nil {
			return err
		}
		r := entryShown{entryRow: entryRowOf(whose(o, d.Entry), d.Entry), CreatedAt: d.Created, Serial: d.Serial, Issuer: d.Issuer,
			SeenBy: []sightingRow{}, History: []changeRow{}}
		for _, s := range d.Sightings {
			r.SeenBy = append(r.SeenBy, sightingRow{s.Source, s.Proof.String(), s.FirstSeen, s.LastSeen})
		}
		for _, h := range d.History {
			r.History = append(r.History, changeRow{h.At, h.Event, h.Tier.String(), h.Source, h.Reason})
		}
		return env.result(r, func(p *page) { r.tell(p, core.Clock.Now()) })
	})
}

func whose(o account.Org, e keyring.Entry) string {
	if e.Org == o.ID {
		return o.Slug
	}
	return systemOrg
}

func (r entryShown) tell(p *page, now time.Time) {
	rows := [][]string{
		{"entry", r.ID}, {"organization", r.Org}, {"address", r.Address}, {"kind", string(r.Kind)}, {"key", orDash(r.Key)},
		{"fingerprint", keyring.Grouped(r.Fingerprint)},
	}
	if r.Serial != "" {
		rows = append(rows, []string{"serial", r.Serial}, []string{"issuer", r.Issuer})
	}
	rows = append(rows, []string{"state", r.standing()}, []string{"tier", r.Tier})
	if len(r.Opens) > 0 {
		rows = append(rows, []string{"can open", strings.Join(r.Opens, ", ")})
	}
	rows = append(rows, []string{"made", when(r.CreatedAt, "-")}, []string{"ends", r.ends(now)})
	p.table(rows...)
	if r.Reason != "" && r.State == keyring.Refused {
		p.linef("  %s", keyring.Sentence(r.Kind, r.Reason))
	}
	p.linef("\nSeen by:")
	seen := [][]string{}
	for _, s := range r.SeenBy {
		seen = append(seen, []string{"  " + s.Source, s.Proof, "since " + when(s.FirstSeen, "-"), "last " + when(s.LastSeen, "-")})
	}
	p.table(seen...)
	if len(seen) == 0 {
		p.linef("  nobody any more")
	}
	p.linef("\nHistory:")
	for _, h := range r.History {
		why := ""
		if h.Reason != "" {
			why = " (" + h.Reason + ")"
		}
		p.linef("  %s  %s%s, %s from %s", when(h.At, "-"), strings.TrimPrefix(string(h.Event), "keyring."), why, h.Tier, printable(h.Source))
	}
}

// canOpen names what the program of a certificate's owner can open.
func canOpen(o keyring.Opens) (all []string) {
	if o.GCM {
		all = append(all, "AES-256-GCM")
	}
	if o.OAEP {
		all = append(all, "RSA-OAEP")
	}
	return all
}
