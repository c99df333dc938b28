package shaping

import (
	"sync"
	"time"
)

const (
	failuresMost = 3                // in a row, before the site is left alone
	pauseLeast   = time.Minute      // after that; each further failure doubles it
	pauseMost    = 30 * time.Minute // and this is the end of it
	askAgain     = time.Second      // where only a connection that closes helps
	calm         = 10 * time.Second // one halving for what happens together
	slowMost     = 5                // halvings of the rate by rules
	windowLeast  = 20               // replies that make a share of deferrals mean something
	jitter       = 5 * time.Second  // callers read the clock before they wait for the lock
	// unlimited is how wide a site without a limit may get.
	unlimited = 1 << 20
	// startWidth is where a site begins that nobody has used yet.
	startWidth = 4
)

// Governor holds one site to its limits. Make one with NewGovernor for each
// source pool and site; it is safe for concurrent use.
//
// How many connections may be open follows TCP: it grows with each message
// taken until the site first complains (slow start), then by one for as many
// messages as there are connections, and a complaint halves it.
type Governor struct {
	site Site

	mu   sync.Mutex
	last time.Time // the clock, never behind what was said before
	open int

	width    int // connections that may be open now, of this node
	limit    int // that they may grow to
	credits  int // messages taken since width grew
	steady   bool
	halvedAt time.Time
	replies  int // of the running window
	deferred int // of them

	bucket bucket

	slow      int // halvings by rules
	slowedAt  time.Time
	slowUntil time.Time
	slowFor   time.Duration

	failures int // in a row
	pause    time.Duration
	until    time.Time // suspended
	probing  bool
	reason   string
}

// NewGovernor gives a Governor that has heard nothing yet.
func NewGovernor(s Site) *Governor {
	limit := s.Connections
	if limit <= 0 {
		limit = unlimited
	}
	return &Governor{site: s, limit: limit, width: min(startWidth, limit), bucket: bucket{rate: s.Rate}}
}

// Connect asks to open one more connection. The caller opens it after a yes,
// and calls Closed when it is gone or did not come about. After a no, retry is
// when to ask again.
func (g *Governor) Connect(now time.Time, nodes int) (ok bool, retry time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now = g.tick(now)
	if now.Before(g.until) {
		return false, g.until
	}
	most := max(1, min(g.width, g.limit/max(1, nodes)))
	if g.slow > 0 {
		most = max(1, most>>g.slow)
	}
	if g.probing {
		most = 1
	}
	if g.open >= most {
		return false, now.Add(askAgain)
	}
	g.open++
	return true, time.Time{}
}

// Closed tells that a connection that Connect allowed is gone.
func (g *Governor) Closed() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = max(0, g.open-1)
}

// Send asks to send one message now, and counts it after a yes.
func (g *Governor) Send(now time.Time, nodes int) (ok bool, retry time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now = g.tick(now)
	if now.Before(g.until) {
		return false, g.until
	}
	return g.bucket.take(now, max(1, nodes)<<g.slow)
}

// Heard tells what came of a connection or a message.
func (g *Governor) Heard(now time.Time, e Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now = g.tick(now)
	switch e.Kind {
	case TimedOut, Unreachable:
		g.failed(now, e.Kind)
		return
	case Accepted:
		g.answered(now)
		g.grow()
	default:
		g.answered(now)
		if g.react(now, e) {
			return
		}
	}
	g.count(now, e)
}

// answered ends a row of failures. What comes in while the site is suspended
// was begun before and does not end that.
func (g *Governor) answered(now time.Time) {
	if now.Before(g.until) {
		return
	}
	g.failures, g.pause, g.probing = 0, 0, false
	if g.slow == 0 {
		g.reason = ""
	}
}

// failed counts a failure. What is under way while the site is suspended
// already fails with it and tells nothing new.
func (g *Governor) failed(now time.Time, k Kind) {
	g.halve(now)
	if now.Before(g.until) {
		return
	}
	g.failures++
	if g.failures < failuresMost && !g.probing {
		return
	}
	g.pause = min(max(pauseLeast, 2*g.pause), pauseMost)
	g.reason = "unreachable"
	if k == TimedOut {
		g.reason = "timeout"
	}
	g.suspend(now.Add(g.pause))
}

func (g *Governor) suspend(until time.Time) {
	if until.After(g.until) {
		g.until = until
	}
	g.probing = true
}

// grow widens the site after a message was taken.
func (g *Governor) grow() {
	g.credits++
	if g.steady && g.credits < g.width {
		return
	}
	g.credits = 0
	g.width = min(g.width+1, g.limit)
}

// halve narrows the site, once for what happens together.
func (g *Governor) halve(now time.Time) {
	if now.Sub(g.halvedAt) < calm {
		return
	}
	// What was never used says nothing about what is too much.
	g.width = max(1, min(g.width, max(g.open, startWidth))/2)
	g.halvedAt, g.steady, g.credits = now, true, 0
}

// count looks for a peer that defers more than it takes. A single deferral
// tells of one mailbox, except 421, which RFC 5321 section 3.8 has a host say
// that wants to be left alone.
func (g *Governor) count(now time.Time, e Event) {
	if e.Kind == Deferred && e.Code == 421 {
		g.halve(now)
		return
	}
	g.replies++
	if e.Kind == Deferred {
		g.deferred++
	}
	if g.replies < max(windowLeast, g.width) {
		return
	}
	if 2*g.deferred > g.replies {
		g.halve(now)
	}
	g.replies, g.deferred = 0, 0
}

// react follows the rule that a reply calls for, and reports whether there is
// one.
func (g *Governor) react(now time.Time, e Event) bool {
	for _, r := range g.site.Reactions {
		if !r.matches(e) {
			continue
		}
		g.reason, g.steady = r.Name, true
		if r.Act == Suspend {
			g.halve(now)
			g.suspend(now.Add(r.For))
			return true
		}
		if g.slow == 0 || now.Sub(g.slowedAt) >= calm {
			g.slow, g.slowedAt = min(g.slow+1, slowMost), now
		}
		g.slowFor, g.slowUntil = r.For, now.Add(r.For)
		return true
	}
	return false
}

// tick brings the clock forward and lets time heal.
func (g *Governor) tick(now time.Time) time.Time {
	if back := g.last.Sub(now); back > 0 {
		if back <= jitter {
			return g.last
		}
		g.shift(-back) // the clock was set back, and all that waits for it with it
	}
	g.last = now
	for g.slow > 0 && !now.Before(g.slowUntil) {
		g.slow--
		g.slowUntil = g.slowUntil.Add(g.slowFor)
	}
	if g.slow == 0 && !g.probing {
		g.reason = ""
	}
	return now
}

func (g *Governor) shift(d time.Duration) {
	for _, t := range []*time.Time{&g.halvedAt, &g.slowedAt, &g.slowUntil, &g.until, &g.bucket.at} {
		if !t.IsZero() {
			*t = t.Add(d)
		}
	}
}

// Suspended tells until when nothing is sent and why, as a word.
func (g *Governor) Suspended(now time.Time) (until time.Time, reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now = g.tick(now); !now.Before(g.until) {
		return time.Time{}, ""
	}
	return g.until, g.reason
}

// Recovered reports whether the site is neither left alone nor slowed down, so
// that nothing is lost with a Governor that was not used for long.
func (g *Governor) Recovered(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now = g.tick(now)
	return g.slow == 0 && !now.Before(g.until)
}

// State is a Governor as people see it.
type State struct {
	Site        string
	Open        int       // connections
	Most        int       // that may be open now, of this node
	Slowed      int       // how often rules have halved the rate
	SlowedUntil time.Time // zero unless slowed
	Suspended   time.Time // until then; zero unless suspended
	Probing     bool      // one connection at a time, until the site answers
	Reason      string    // of being slowed or suspended: a word of the rules
}

// State tells how things stood when the Governor was last used.
func (g *Governor) State() State {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := State{Site: g.site.Name, Open: g.open, Most: max(1, g.width>>g.slow), Slowed: g.slow, Probing: g.probing, Reason: g.reason}
	if g.probing {
		s.Most = 1
	}
	if g.slow > 0 {
		s.SlowedUntil = g.slowUntil
	}
	if g.last.Before(g.until) {
		s.Suspended, s.Most = g.until, 0
	}
	return s
}
