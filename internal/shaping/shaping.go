// Package shaping says how much mail a destination gets at once, and learns
// from its replies when that is too much.
//
// Rules name sites: a site is a mailbox provider, known by the hosts its
// customers' MX records lead to, or else one recipient domain. A Governor
// holds one site to its limits for one source of mail.
//
//	         three failures in a row, or a rule says so
//	┌──────┐ ──────────────────────────────────────────► ┌───────────┐
//	│ open │                                             │ suspended │ ◄─┐
//	└──────┘ ◄────────────┐                              └───────────┘   │
//	                      │ it answers                         │ time    │ it fails:
//	                      │                              ┌─────▼─────┐   │ a longer pause
//	                      └───────────────────────────── │  probing  │ ──┘
//	                                                     └───────────┘
//
// Invariants:
//   - In no stretch of time as long as a rate's does one Governor allow more
//     messages than its share of the rate, and the shares of all nodes together
//     are no more than the rate (but see share for rates below one message each).
//   - Nothing stands still for good: every no comes with a later time at which
//     asking again makes sense, and no pause is longer than a rule's or than
//     pauseMost.
//   - The clock is what the caller says. A clock that is set back or forth does
//     no harm beyond what was allowed anyway.
//   - What a peer said is matched and forgotten. It stands in no state, no
//     reason and no error.
package shaping

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/private"
)

// Rate is a number of messages in a stretch of time. Zero stands for no limit.
type Rate struct {
	Messages int
	Per      time.Duration
}

// Site is one destination and its limits. Zero stands for no limit.
type Site struct {
	Name          string
	Connections   int // at once, of all nodes
	PerConnection int // messages over one connection
	Rate          Rate
	Reactions     []Reaction // the first that matches a reply counts
	Known         bool       // a rule names this site; else it is a recipient domain
}

// Act is what a reaction does.
type Act string

// The acts.
const (
	Slow    Act = "slow"    // half the rate and half the connections, for a time
	Suspend Act = "suspend" // nothing at all, for a time
)

// Reaction is what a temporary or permanent refusal of a site leads to. All
// that is given must match; at least one of Code, Status and Text is.
type Reaction struct {
	Name   string   // a word for logs and people: why the site is slowed down
	Code   int      // 421
	Status []string // enhanced: 4.7.28, or a beginning of it such as 4.7
	Text   *regexp.Regexp
	Act    Act
	For    time.Duration
}

// matchMost bounds how much of a reply is looked at.
const matchMost = 2 << 10

// matches reports whether a reply is meant.
func (r Reaction) matches(e Event) bool {
	if r.Code != 0 && r.Code != e.Code {
		return false
	}
	if len(r.Status) > 0 && !slices.ContainsFunc(r.Status, func(want string) bool { return begins(e.Enhanced, want) }) {
		return false
	}
	if r.Text == nil {
		return true
	}
	text := e.Text.Reveal()
	return r.Text.MatchString(text[:min(len(text), matchMost)])
}

// begins reports whether a status is want or lies below it: 4.7.28 below 4.7,
// and 4.70.1 not.
func begins(status [3]int, want string) bool {
	full := fmt.Sprintf("%d.%d.%d", status[0], status[1], status[2])
	return full == want || strings.HasPrefix(full, want+".")
}

// Kind is what came of using a site.
type Kind int

// The kinds.
const (
	Accepted    Kind = iota // a message was taken
	Deferred                // a temporary refusal
	Refused                 // a permanent refusal
	TimedOut                // the site was silent for too long
	Unreachable             // there was no connection to any host
	WeakTLS                 // it answers, but not as privately as it must
)

// Event is what a Governor hears.
type Event struct {
	Kind     Kind
	Code     int            // of the reply, or 0
	Enhanced [3]int         // RFC 3463; zero where the reply had none
	Text     private.String // of the reply
}
