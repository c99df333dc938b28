package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Decide makes the plan for one delivery.
func Decide(doc Document, facts Facts) Plan {
	rules, set, setAside := matching(doc.Rules, facts)
	p := Plan{
		Seals:       []Seal{},
		Floor:       max(doc.TLSFloor, Verified),
		NoticeFloor: max(doc.NoticeFloor, Encrypted),
		Purpose:     set.strictest(),
		RequireTLS:  facts.RequireTLS,
	}
	for _, s := range doc.Order {
		if s.Valid() && !p.Allows(s) {
			p.Seals = append(p.Seals, s)
		}
	}
	if setAside {
		p.say("The stated purpose is less strict than the credential's default, so the default applies.")
	}
	p.applyRules(rules)
	p.applyRequest(facts)
	p.applyEncrypted(doc, facts)
	p.applyKeys(doc, facts.Keys)
	p.holdWithoutSeal()
	p.Rule = chosen(rules, p)
	p.forecast(doc, facts)
	return p
}

// holdWithoutSeal keeps what nothing may protect: it is never sent unsealed.
func (p *Plan) holdWithoutSeal() {
	if len(p.Seals) == 0 {
		p.Hold = HoldNoSeal
		p.say("No seal is left that policy allows, so the delivery is held.")
	}
}

func (p *Plan) say(sentence string) {
	if !slices.Contains(p.Reasons, sentence) {
		p.Reasons = append(p.Reasons, sentence)
	}
}

func (p *Plan) remove(unwanted func(Seal) bool) {
	p.Seals = slices.DeleteFunc(p.Seals, unwanted)
}

func (p *Plan) applyRules(rules []*Rule) {
	for _, r := range rules {
		p.remove(func(s Seal) bool { return slices.Contains(r.Then.Remove, s) })
		p.Floor = max(p.Floor, r.Then.Floor)
		if p.Hold == "" {
			p.Hold = r.Then.Hold
		}
		if p.Refuse == "" {
			p.Refuse = r.Then.Refuse
		}
		for _, t := range r.When.Trigger {
			if !slices.Contains(p.Triggers, t) {
				p.Triggers = append(p.Triggers, t)
			}
		}
		p.say(describe(r))
	}
}

// describe tells what a matching rule asks for, without repeating what it
// matched.
func describe(r *Rule) string {
	var asks []string
	if len(r.Then.Remove) > 0 {
		words := make([]string, len(r.Then.Remove))
		for i, s := range r.Then.Remove {
			words[i] = string(s)
		}
		asks = append(asks, "removes "+strings.Join(words, ", "))
	}
	if r.Then.Floor > None {
		asks = append(asks, "asks for "+r.Then.Floor.String()+" TLS")
	}
	if r.Then.Purpose != "" {
		asks = append(asks, "makes the purpose at least "+string(r.Then.Purpose))
	}
	if r.Then.Hold != "" {
		asks = append(asks, "holds the delivery for review")
	}
	if r.Then.Refuse != "" {
		asks = append(asks, "refuses the delivery")
	}
	if len(asks) == 0 {
		asks = []string{"asks for nothing"}
	}
	return fmt.Sprintf("Rule %s matches: it %s.", r.Name, strings.Join(asks, ", "))
}

func (p *Plan) applyRequest(f Facts) {
	if f.RequestSeal != "" {
		p.remove(func(s Seal) bool { return s != f.RequestSeal })
		if f.RequestSeal.Valid() {
			p.say("The request asks for " + string(f.RequestSeal) + " and nothing else.")
		}
	}
	if f.RequireTLS {
		p.requireTLS()
		p.say("REQUIRETLS was asked for: only tls to an authenticated server, never the portal.")
	}
}

// requireTLS keeps tls alone. The portal would break the chain of transports
// that RFC 8689 section 4.2.1 asks for: the notice is another message.
func (p *Plan) requireTLS() {
	p.remove(func(s Seal) bool { return s != TLS })
	p.Floor = Authenticated
}

// applyEncrypted leaves alone what the sender's own program has encrypted: most
// mail clients open one layer only. A document that knows nothing but keys
// still wraps it.
func (p *Plan) applyEncrypted(doc Document, f Facts) {
	if !f.Encrypted || !slices.Contains(doc.Order, TLS) && !slices.Contains(doc.Order, Portal) {
		return
	}
	p.remove(func(s Seal) bool { return s == PGP || s == SMIME })
	p.say("The sender has encrypted it already, so it is not encrypted again.")
}

// applyKeys removes the seals that the recipient has no key for, once it has
// been looked for.
func (p *Plan) applyKeys(doc Document, k Keys) {
	if !k.Looked {
		return
	}
	if p.Allows(PGP) && p.Allows(SMIME) && k.PGP == NoTier && k.SMIME == NoTier {
		p.say("No OpenPGP key and no S/MIME certificate of the recipient can be used.")
	} else {
		p.sayOfKey(PGP, "OpenPGP key", k.PGP, doc.KeyTiers.PGP)
		p.sayOfKey(SMIME, "S/MIME certificate", k.SMIME, doc.KeyTiers.SMIME)
	}
	p.remove(func(s Seal) bool { return !doc.takes(s, k) })
}

func (p *Plan) sayOfKey(s Seal, what string, has, least Tier) {
	switch {
	case !p.Allows(s) || has > NoTier && has >= least:
	case has == NoTier:
		p.say("No " + what + " of the recipient can be used.")
	default:
		p.say("The recipient's " + what + " is only " + has.String() + ", and the policy asks for " + least.String() + ".")
	}
}

// takes reports whether a seal can be used with the keys that are known.
func (doc Document) takes(s Seal, k Keys) bool {
	switch s {
	case PGP:
		return k.PGP > NoTier && k.PGP >= doc.KeyTiers.PGP
	case SMIME:
		return k.SMIME > NoTier && k.SMIME >= doc.KeyTiers.SMIME
	}
	return true
}

// chosen names the first rule behind the most drastic thing in the plan: a
// refusal, a hold, a seal taken away or a floor raised.
func chosen(rules []*Rule, p Plan) string {
	tests := []func(*Rule) bool{
		func(r *Rule) bool { return r.Then.Refuse != "" },
		func(r *Rule) bool { return r.Then.Hold != "" && p.Hold != HoldNoSeal },
		func(r *Rule) bool { return len(r.Then.Remove) > 0 || r.Then.Floor > Verified },
		func(r *Rule) bool { return r.Then.Purpose != "" },
	}
	for _, test := range tests {
		for _, r := range rules {
			if test(r) {
				return r.Name
			}
		}
	}
	return RuleDefault
}

// Narrow decides again, later, within the plan. facts need hold only what is
// known by then: what the plan says stays.
func Narrow(was Plan, doc Document, facts Facts) Plan {
	now := Decide(doc, facts)
	p := now
	p.Seals = []Seal{}
	for _, s := range was.Seals {
		if now.Allows(s) {
			p.Seals = append(p.Seals, s)
		}
	}
	p.Floor = max(was.Floor, now.Floor)
	p.NoticeFloor = max(was.NoticeFloor, now.NoticeFloor)
	p.RequireTLS = was.RequireTLS || now.RequireTLS
	if p.RequireTLS {
		p.requireTLS()
	}
	if was.Purpose.StricterThan(now.Purpose) {
		p.Purpose = was.Purpose
	}
	p.Triggers = union(was.Triggers, now.Triggers)
	p.Reasons = union(was.Reasons, now.Reasons)
	p.Refuse = first(was.Refuse, now.Refuse)
	p.Released = was.Released
	p.Hold = laterHold(was, now, p)
	if !p.stricterThan(was) {
		p.Rule = was.Rule
	}
	p.forecast(doc, facts)
	return p
}

// NarrowKeys is Narrow where nothing has changed since the plan was made but
// that the recipient's keys have been looked for.
func NarrowKeys(was Plan, doc Document, keys Keys) Plan {
	p := was
	p.Seals, p.Reasons = slices.Clone(was.Seals), slices.Clone(was.Reasons)
	p.applyKeys(doc, keys)
	p.holdWithoutSeal()
	return p
}

// Release is Narrow after a person has let a held delivery go: rules hold it
// no more. A delivery without a seal stays held.
func Release(was Plan, doc Document, facts Facts) Plan {
	was.Released = true
	return Narrow(was, doc, facts)
}

func laterHold(was, now, p Plan) string {
	switch {
	case len(p.Seals) == 0:
		return HoldNoSeal
	case p.Released:
		return ""
	default:
		return first(was.Hold, now.Hold)
	}
}

func (p Plan) stricterThan(was Plan) bool {
	return len(p.Seals) < len(was.Seals) || p.Floor > was.Floor || p.NoticeFloor > was.NoticeFloor ||
		p.Purpose.StricterThan(was.Purpose) || p.Hold != "" && was.Hold == "" || p.Refuse != "" && was.Refuse == ""
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
