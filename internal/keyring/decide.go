package keyring

import (
	"github.com/sealpost/sealpost/internal/policy"
)

// standing is the key in use that a changed one meets: the active one, or a
// pinned one that was refused later.
type standing struct {
	tier  policy.Tier
	dead  bool // expired or revoked
	shown bool // a source shows it beside the changed one, or could not be asked
	newer bool // than the changed one, or as old
}

// challenge is the changed key.
type challenge struct {
	tier   policy.Tier
	person bool // somebody handed it in
	chosen bool // somebody said that it is the one
}

// decide says what becomes of a good key. Reasons are words.
func decide(old *standing, c challenge) (State, string) {
	switch {
	case old == nil, c.chosen:
		return Active, ""
	case c.person && c.tier >= policy.Confirmed && c.tier >= old.tier:
		return Active, ""
	case old.tier == policy.Pinned:
		return Proposed, ""
	case old.dead:
		return Active, ""
	case c.tier < policy.Confirmed || c.tier < old.tier:
		return Proposed, ""
	case old.shown && old.newer && !c.person:
		// Both are shown at once, so nothing has changed: the newer one stays,
		// whichever answer comes last.
		return Superseded, "older"
	}
	return Active, ""
}
