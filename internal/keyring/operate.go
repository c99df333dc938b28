package keyring

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/certs"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
)

var errNoEntry = fault.New(fault.NotFound, "no_entry", "There is no such entry in the keyring. \"sealpost keyring list\" shows them.")

// Filter says what to list.
type Filter struct {
	State   State       // empty: all
	Kind    policy.Seal // empty: both
	Address mail.Address
	After   id.ID // go on behind this one
	Limit   int
}

// List gives the organization's own entries, oldest first, and whether there
// are more. For db.System it gives the shared ones.
func (k *Keyring) List(ctx context.Context, org id.ID, f Filter) (entries []Entry, more bool, err error) {
	if !f.Address.IsZero() {
		return k.listAddress(ctx, org, f)
	}
	query, args := `SELECT `+columns+` FROM keyring_entries WHERE org_id = ? AND id > ?`, []any{org, f.After}
	if f.State != "" {
		query, args = query+" AND state = ?", append(args, string(f.State))
	}
	if f.Kind != "" {
		query, args = query+" AND kind = ?", append(args, string(f.Kind))
	}
	limit := max(f.Limit, 1)
	err = k.d.DB.Read(ctx, org, func(tx *db.Tx) error {
		rows, err := db.All(tx, scan, query+" ORDER BY id LIMIT ?", append(args, limit+1)...)
		if err != nil {
			return err
		}
		if more = len(rows) > limit; more {
			rows = rows[:limit]
		}
		entries = make([]Entry, len(rows))
		for i, r := range rows {
			if err := r.open(tx, k.d.Custody, false); err != nil {
				return err
			}
			entries[i] = r.Entry
		}
		return nil
	})
	return entries, more, err
}

// listAddress lists the few entries of one address. They are picked out here:
// told to sort by id, SQLite would walk through all ids.
func (k *Keyring) listAddress(ctx context.Context, org id.ID, f Filter) (entries []Entry, more bool, err error) {
	rows, err := k.rows(ctx, org, f.Address)
	if err != nil {
		return nil, false, err
	}
	slices.SortFunc(rows, func(a, b *row) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	for _, r := range rows {
		if bytes.Compare(r.ID[:], f.After[:]) <= 0 || f.State != "" && r.State != f.State || f.Kind != "" && r.Kind != f.Kind {
			continue
		}
		if len(entries) == max(f.Limit, 1) {
			return entries, true, nil
		}
		entries = append(entries, r.Entry)
	}
	return entries, false, nil
}

// Change is one line of an entry's history.
type Change struct {
	At     time.Time
	Event  ledger.Type
	Tier   policy.Tier
	Source string
	Reason string
}

// Sighting says which source shows an entry.
type Sighting struct {
	Source    string
	Proof     policy.Tier
	FirstSeen time.Time
	LastSeen  time.Time
}

// Detail is everything about one entry.
type Detail struct {
	Entry
	Created        time.Time
	Serial, Issuer string // of a certificate
	Sightings      []Sighting
	History        []Change
}

// Show gives one entry, the organization's own or a shared one.
func (k *Keyring) Show(ctx context.Context, org, entry id.ID) (d Detail, err error) {
	r, err := k.entry(ctx, org, entry)
	if err != nil {
		return d, err
	}
	d.Entry = r.Entry
	if r.m != nil {
		d.Created = r.m.created()
		if r.m.cert != nil {
			d.Serial, d.Issuer, _ = certs.Identify(r.m.cert)
		}
	}
	err = k.d.DB.Read(ctx, r.Org, func(tx *db.Tx) error {
		d.Sightings, err = db.All(tx, func(from db.Row) (s Sighting, err error) {
			var proof string
			var first, last int64
			err = from.Scan(&s.Source, &proof, &first, &last)
			s.Proof, _ = policy.ParseTier(proof)
			s.FirstSeen, s.LastSeen = clock.FromMicros(first), clock.FromMicros(last)
			return s, err
		}, "SELECT source, proof, first_seen, last_seen FROM keyring_sightings WHERE entry_id = ? AND org_id = ? ORDER BY source", entry, r.Org)
		if err != nil {
			return err
		}
		d.History, err = db.All(tx, func(from db.Row) (c Change, err error) {
			var at int64
			var tier string
			err = from.Scan(&at, &c.Event, &tier, &c.Source, &c.Reason)
			c.At = clock.FromMicros(at)
			c.Tier, _ = policy.ParseTier(tier)
			return c, err
		}, "SELECT at, event, tier, source, reason FROM keyring_history WHERE entry_id = ? AND org_id = ? ORDER BY n", entry, r.Org)
		return err
	})
	return d, err
}

// entry reads one entry of the organization or of the installation.
func (k *Keyring) entry(ctx context.Context, org, entry id.ID) (r *row, err error) {
	for _, whose := range []id.ID{org, db.System} {
		err = k.d.DB.Read(ctx, whose, func(tx *db.Tx) error {
			if r, err = scan(tx.Row("SELECT "+columns+" FROM keyring_entries WHERE id = ? AND org_id = ?", entry, whose)); err != nil {
				return err
			}
			return r.open(tx, k.d.Custody, true)
		})
		if !errors.Is(err, sql.ErrNoRows) {
			return r, err
		}
	}
	return nil, errNoEntry
}

// Trust makes an entry the one in use, because a person says so: it accepts a
// proposal, or pins. Of a shared entry the organization gets one of its own.
// tier zero stands for pinned; what the way it came proves is never lowered.
func (k *Keyring) Trust(ctx context.Context, org, entry id.ID, tier policy.Tier) (Entry, error) {
	r, err := k.entry(ctx, org, entry)
	if err != nil {
		return Entry{}, err
	}
	if r.m == nil && r.Reason == wordLarge {
		return Entry{}, fault.New(fault.Refused, wordLarge, r.why(errLarge)+" It cannot be trusted.")
	}
	if r.m == nil {
		return Entry{}, errStored
	}
	if tier == policy.NoTier {
		tier = policy.Pinned
	}
	if r.Kind == policy.SMIME && tier < policy.Pinned {
		tier = min(tier, policy.Discovered) // the rest is for its chain to prove
	}
	now := k.d.Clock.Now()
	x := sight{m: r.m, source: SourceTrust, proof: tier, person: true, chosen: true, opens: r.Opens,
		verdict: k.judge(ctx, r.m, r.Address, max(tier, r.base()), now)}
	if !x.verdict.good() {
		return Entry{}, fault.New(fault.Refused, x.verdict.word(), r.why(x.verdict.refused)+" It cannot be trusted.")
	}
	e, err := k.hand(ctx, org, r.Address, x, now)
	if err != nil {
		return Entry{}, err
	}
	k.noticed(ctx, org)
	return e, nil
}

// Remove takes an entry out of use. Sources do not bring it back; Import and
// Trust do.
func (k *Keyring) Remove(ctx context.Context, org, entry id.ID) (Entry, error) {
	r, err := k.entry(ctx, org, entry)
	if err != nil {
		return Entry{}, err
	}
	if r.Org != org {
		return Entry{}, fault.New(fault.Denied, "shared_entry", "This entry is shared by all organizations: remove it with --org system.")
	}
	now := k.d.Clock.Now()
	err = k.d.DB.Write(ctx, org, func(tx *db.Tx) error {
		if err := lock(tx, r.addressHMAC); err != nil {
			return err
		}
		rows, err := k.load(tx, r.addressHMAC)
		if err != nil {
			return err
		}
		for _, e := range rows {
			if e.ID != entry || e.State == Removed {
				continue
			}
			e.State, e.Reason = Removed, ""
			if err := e.record(tx, ledger.KeyringRemoved, "", now); err != nil {
				return err
			}
			r = e
			return k.update(tx, e, false)
		}
		return nil
	})
	if err != nil {
		return Entry{}, fmt.Errorf("remove a key: %w", err)
	}
	k.forget(org, r.Address)
	k.noticed(ctx, org)
	r.State, r.Outcome = Removed, "removed"
	return r.Entry, nil
}

// Judged is what was thought of one key that a source gave.
type Judged struct {
	Kind        policy.Seal
	Fingerprint string
	Algorithm   string
	Tier        policy.Tier // that it would have
	Expires     time.Time
	Word        string // why it was refused; empty: it can be used
	Sentence    string
}

// Answered is what one source said.
type Answered struct {
	Source string
	Result string // found, absent, failed
	Word   string // why it failed
	Took   time.Duration
	Keys   []Judged
}

// Report is what all sources said, and what a delivery would be sealed with.
type Report struct {
	Answers []Answered
	Found   Found
}

// Ask asks all sources now, however old their last answers are, records what
// they say as Find does, and tells about it.
func (k *Keyring) Ask(ctx context.Context, org id.ID, a mail.Address) (r Report, err error) {
	m := asking{}
	if k.d.Discover != nil {
		if m, r.Answers, err = k.report(ctx, a); err != nil {
			return r, err
		}
		k.asked.put(a.Normal(), m)
	}
	k.forget(org, a)
	r.Found, err = k.choose(ctx, org, a, m)
	return r, err
}

func (k *Keyring) report(ctx context.Context, a mail.Address) (m asking, all []Answered, err error) {
	hmac, err := k.d.Custody.Index(db.System, addressLabel, a.Normal())
	if err != nil {
		return m, nil, err
	}
	known, err := k.lookups(ctx, hmac)
	if err != nil {
		return m, nil, err
	}
	m, answers, err := k.askNow(ctx, a, hmac, known)
	if err != nil {
		return m, nil, err
	}
	now := k.d.Clock.Now()
	for _, answer := range answers {
		one := Answered{Source: answer.Source, Result: "found", Word: answer.Word, Took: answer.Took}
		switch {
		case answer.Word != "":
			one.Result = "failed"
		case answer.Absent || len(answer.Findings) == 0:
			one.Result = "absent"
		}
		for _, s := range k.sights(ctx, a, answer, now) {
			j := Judged{Kind: s.m.kind, Fingerprint: s.m.fingerprint, Algorithm: s.m.algorithm(now), Tier: s.tier(), Expires: s.m.expires()}
			if !s.verdict.good() {
				j.Word = s.verdict.word()
				j.Sentence = sentence(s.m.kind, s.verdict.refused, s.m.created(), s.m.expires())
			}
			one.Keys = append(one.Keys, j)
		}
		all = append(all, one)
	}
	return m, all, nil
}

// Grouped writes a fingerprint as people compare it.
func Grouped(fingerprint string) string {
	var b strings.Builder
	for i, c := range fingerprint {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(c)
	}
	return b.String()
}
