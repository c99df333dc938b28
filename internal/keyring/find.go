package keyring

import (
	"context"
	"slices"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
)

// Known tells which keys are on record for an address, without asking the
// network: it moves forecasts.
func (k *Keyring) Known(ctx context.Context, org id.ID, a mail.Address) (policy.Keys, error) {
	own, shared, err := k.both(ctx, org, a)
	if err != nil {
		return policy.Keys{}, err
	}
	now := k.d.Clock.Now()
	best := func(kind policy.Seal) (t policy.Tier) {
		for _, r := range candidates(kind, own.rows, shared.rows) {
			if r.State == Active && r.m != nil && !r.m.dead(now) {
				t = max(t, r.Tier)
			}
		}
		return t
	}
	return policy.Keys{PGP: best(policy.PGP), SMIME: best(policy.SMIME)}, nil
}

// both gives what the organization and what the installation hold.
func (k *Keyring) both(ctx context.Context, org id.ID, a mail.Address) (own, shared *holding, err error) {
	if shared, err = k.hold(ctx, db.System, a); err != nil {
		return nil, nil, err
	}
	if org == db.System {
		return &holding{}, shared, nil
	}
	own, err = k.hold(ctx, org, a)
	return own, shared, err
}

// candidates are the entries of a kind that can come into question. Where the
// organization pinned a key, that one alone, and what waits to take its place.
func candidates(kind policy.Seal, own, shared []*row) (all []*row) {
	of := func(rows []*row) (some []*row) {
		for _, r := range rows {
			if r.Kind == kind {
				some = append(some, r)
			}
		}
		return some
	}
	own, shared = of(own), of(shared)
	alone := func(rows []*row) []*row {
		p := pinned(rows)
		if p == nil {
			return rows
		}
		return slices.DeleteFunc(rows, func(r *row) bool { return r != p && r.State != Proposed })
	}
	if pinned(own) != nil {
		return alone(own)
	}
	return append(own, alone(shared)...)
}

// Find gives the keys that a delivery can be sealed with now. It asks the
// sources whose last answer is too old; that one of them fails is no error.
func (k *Keyring) Find(ctx context.Context, org id.ID, a mail.Address) (Found, error) {
	answers, err := k.ask(ctx, a)
	if err != nil {
		return Found{}, err
	}
	return k.choose(ctx, org, a, answers)
}

// choose judges what is on record and takes the best.
func (k *Keyring) choose(ctx context.Context, org id.ID, a mail.Address, answers asking) (Found, error) {
	own, shared, err := k.both(ctx, org, a)
	if err != nil {
		return Found{}, err
	}
	f := Found{Failing: answers.failing}
	if len(own.rows) > 0 || len(shared.rows) > 0 {
		if own, shared, err = k.review(ctx, org, a, own, shared); err != nil {
			return Found{}, err
		}
		f.PGP = k.pick(policy.PGP, own, shared, &f)
		f.SMIME = k.pick(policy.SMIME, own, shared, &f)
	}
	if f.PGP == nil && f.SMIME == nil {
		f.Why = append(f.Why, answers.words...)
	}
	return f, nil
}

// review judges what is on record and writes down what has come to an end or
// may be used now.
func (k *Keyring) review(ctx context.Context, org id.ID, a mail.Address, own, shared *holding) (*holding, *holding, error) {
	shared, err := k.reviewOne(ctx, db.System, a, shared, nil, true)
	if err != nil {
		return nil, nil, err
	}
	own, err = k.reviewOne(ctx, org, a, own, shared.rows, true)
	return own, shared, err
}

func (k *Keyring) reviewOne(ctx context.Context, org id.ID, a mail.Address, h *holding, shared []*row, write bool) (*holding, error) {
	now := k.d.Clock.Now()
	r, err := k.judgeAll(ctx, a, h, shared, now)
	if err != nil || len(r.sights) == 0 || !write {
		return h, err
	}
	hmac, err := k.d.Custody.Index(org, addressLabel, a.Normal())
	if err != nil {
		return nil, err
	}
	if err := k.d.DB.Write(ctx, org, func(tx *db.Tx) error {
		_, err := k.settle(tx, a, hmac, r, now)
		return err
	}); err != nil {
		return nil, err
	}
	k.forget(org, a)
	if h, err = k.hold(ctx, org, a); err != nil {
		return nil, err
	}
	return k.reviewOne(ctx, org, a, h, shared, false)
}

// judgeAll judges what may come into question and gives what has changed.
func (k *Keyring) judgeAll(ctx context.Context, a mail.Address, h *holding, shared []*row, now time.Time) (r round, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.rows {
		judged := e.State == Active || e.State == Proposed || e.State == Refused && passing(e.Kind, e.Reason)
		if !judged || e.m == nil {
			continue
		}
		v, ok := h.verdicts[e.ID]
		if !ok || !now.Before(v.until) {
			v = k.judge(ctx, e.m, a, e.base(), now)
			if ctx.Err() != nil {
				return r, ctx.Err()
			}
			h.verdicts[e.ID] = v
		}
		twin := twinOf(shared, e)
		switch {
		case twin != nil && twin.Reason == wordRevoked:
			v = verdict{refused: fault.New(fault.Refused, wordRevoked, "The key was revoked."), until: v.until}
			h.verdicts[e.ID] = v
		case twin != nil && twin.m != nil && e.Kind == policy.PGP && h.met[e.ID] != twin:
			h.met[e.ID] = twin
			if absorb(e.m, twin.m, a) != e.m {
				r.sights = append(r.sights, sight{m: twin.m, source: e.Source, proof: twin.proof(), stored: true, renews: true, opens: e.Opens,
					verdict: judgeKey(twin.m, a, e.base(), now)})
			}
		}
		ended := e.State != Refused && v.word() == wordRevoked || e.State == Active && !v.good() && !passing(e.Kind, v.word())
		if ended || v.good() && (e.State == Refused || e.State == Proposed && mayRise(h.rows, e, now)) {
			r.sights = append(r.sights, sight{m: e.m, source: e.Source, proof: e.base(), verdict: v, stored: true, opens: e.Opens})
		}
	}
	return r, nil
}

// base is the tier that the way an entry came proves, without its chain.
func (r *row) base() policy.Tier { return max(r.proof(), policy.Harvested) }

// mayRise reports whether a proposal could take the place of one whose time is
// over.
func mayRise(rows []*row, e *row, now time.Time) bool {
	same := slices.DeleteFunc(slices.Clone(rows), func(r *row) bool { return r.Kind != e.Kind })
	return pinned(same) == nil && !slices.ContainsFunc(same, func(r *row) bool {
		return r.State == Active && (r.m == nil || !r.m.dead(now))
	})
}

// twinOf gives the shared entry of the same key.
func twinOf(shared []*row, e *row) *row {
	i := slices.IndexFunc(shared, func(r *row) bool {
		return r.Kind == e.Kind && r.Fingerprint.Reveal() == e.Fingerprint.Reveal()
	})
	if i < 0 {
		return nil
	}
	return shared[i]
}

// pick takes the best of a kind: the organization's own pin, then the highest
// tier, then the newest.
func (k *Keyring) pick(kind policy.Seal, own, shared *holding, f *Found) *Choice {
	var best *row
	var why []string
	now := k.d.Clock.Now()
	for _, r := range candidates(kind, own.rows, shared.rows) {
		switch r.State {
		case Active:
			v := k.verdictOf(r, own, shared)
			ended := r.m != nil && r.m.dead(now)
			if r.m == nil {
				v.refused = errStored
			} else if ended && v.good() {
				v.refused = fault.New(fault.Refused, wordExpired, "The key has expired.")
			}
			if !v.good() {
				f.Failing = f.Failing || v.failing
				why = append(why, r.why(v.refused))
				continue
			}
			if best == nil || r.Tier > best.Tier || r.Tier == best.Tier && r.m.created().After(best.m.created()) {
				best = r
			}
		case Refused:
			v := k.verdictOf(r, own, shared)
			f.Failing = f.Failing || v.failing && r.m != nil && passing(r.Kind, r.Reason)
			why = append(why, r.why(fault.New(fault.Refused, r.Reason, "")))
		case Proposed:
			why = append(why, "Another "+noun(kind)+" of the recipient waits for an administrator to accept it.")
		}
	}
	if best == nil {
		for _, w := range why {
			if !slices.Contains(f.Why, w) {
				f.Why = append(f.Why, w)
			}
		}
		return nil
	}
	c := &Choice{Entry: best.Entry, PGP: best.m.pgp, Certificate: best.m.cert}
	return c
}

// verdictOf gives the verdict of the review.
func (k *Keyring) verdictOf(r *row, own, shared *holding) verdict {
	for _, h := range []*holding{own, shared} {
		h.mu.Lock()
		v, ok := h.verdicts[r.ID]
		h.mu.Unlock()
		if ok {
			return v
		}
	}
	return verdict{refused: fault.New(fault.Refused, wordUnjudged, "The key could not be judged."), failing: true}
}
