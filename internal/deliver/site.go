package deliver

import (
	"errors"
	"time"

	"github.com/sealpost/sealpost/internal/deliver/smtpclient"
	"github.com/sealpost/sealpost/internal/pool"
	"github.com/sealpost/sealpost/internal/shaping"
)

// siteKey names a destination as one source pool sees it.
type siteKey struct{ pool, site string }

// site is one destination: a recipient domain, or a provider that many domains
// share. Its fields belong to the engine's lock.
type site struct {
	key           siteKey
	gov           *shaping.Governor
	perConnection int
	waiting       []*queue // have ready mail and may not connect yet
	idle          []*worker
	open          int    // connections that the Governor allowed
	taken         [2]int // messages in this minute and the one before
	minute        time.Time
	last          string // class of the last reply
	used          time.Time
}

// siteOf finds or makes a site as a pool sees it.
func (e *Engine) siteOf(source string, s shaping.Site) *site {
	key := siteKey{source, s.Name}
	e.mu.Lock()
	defer e.mu.Unlock()
	known := e.sites[key]
	if known == nil {
		known = &site{key: key, gov: shaping.NewGovernor(s), perConnection: s.PerConnection}
		e.sites[key] = known
	}
	known.used = e.Clock.Now()
	return known
}

// left tells which pool the item under way leaves from and for which site, or
// nothing while that is not known.
func (w *worker) left() (pool, site string) {
	if w.aim == nil {
		return "", ""
	}
	return w.aim.key.pool, w.aim.key.site
}

// next takes the first queue that waits for a connection. The caller holds the
// engine's lock.
func (s *site) next() *queue {
	for len(s.waiting) > 0 {
		q := s.waiting[0]
		s.waiting = s.waiting[1:]
		q.waits = false
		if q.ready.count > 0 {
			return q
		}
	}
	return nil
}

func (s *site) count(now time.Time) {
	s.slide(now)
	s.taken[0]++
}

func (s *site) slide(now time.Time) {
	switch age := now.Sub(s.minute); {
	case age >= 2*time.Minute || age < 0:
		s.taken, s.minute = [2]int{}, now
	case age >= time.Minute:
		s.taken, s.minute = [2]int{0, s.taken[0]}, now
	}
}

// heard tells a worker's site, and the pool its mail left from, what came of a
// connection or a message.
func (w *worker) heard(err error) {
	event, told := eventOf(err)
	if !told || w.aim == nil {
		return
	}
	e, now := w.e, w.e.Clock.Now()
	w.aim.gov.Heard(now, event)
	w.note(event, now)
	if e.Told != nil {
		if r, ok := poolResult[event.Kind]; ok {
			w.sourced = false
			e.Told(w.aim.key.pool, w.aim.key.site, r)
		}
	}
}

// note keeps in the engine what came of a connection or a message.
func (w *worker) note(event shaping.Event, now time.Time) {
	e, s, q := w.e, w.aim, w.q
	e.mu.Lock()
	defer e.mu.Unlock()
	s.last = kindWords[event.Kind]
	switch event.Kind {
	case shaping.Accepted:
		s.count(now)
		q.slide(now)
		q.taken[0]++
		e.prove(q, true)
		q.failing = false
		e.staff(q, false)
	case shaping.TimedOut, shaping.Unreachable:
		e.prove(q, false)
		q.failing = true
	}
}

var kindWords = map[shaping.Kind]string{shaping.Accepted: "accepted", shaping.Deferred: "deferred", shaping.Refused: "refused",
	shaping.TimedOut: "timeout", shaping.Unreachable: "unreachable", shaping.WeakTLS: "weak_tls"}

var poolResult = map[shaping.Kind]pool.Result{shaping.Accepted: pool.Accepted, shaping.Deferred: pool.Deferred, shaping.Refused: pool.Bounced}

// eventOf says what an error tells of the site. A connection that is lost
// after it was open may be lost for the message's sake, and what is our own
// doing tells nothing.
func eventOf(err error) (shaping.Event, bool) {
	var refused *smtpclient.RefusedError
	var lost *smtpclient.ConnError
	var weak *smtpclient.WeakError
	var unknown *smtpclient.UnknownError
	switch {
	case err == nil:
		return shaping.Event{Kind: shaping.Accepted}, true
	case errors.As(err, &refused):
		if refused.Local {
			return shaping.Event{}, false
		}
		kind := shaping.Deferred
		if refused.Reply.Permanent() {
			kind = shaping.Refused
		}
		return shaping.Event{Kind: kind, Code: refused.Reply.Code, Enhanced: refused.Reply.Enhanced, Text: refused.Reply.Text}, true
	case silent(err):
		return shaping.Event{Kind: shaping.TimedOut}, true
	case errors.As(err, &weak):
		return shaping.Event{Kind: shaping.WeakTLS}, true
	case errors.As(err, &unknown):
		return shaping.Event{Kind: shaping.TimedOut}, unknown.Word == smtpclient.ConnTimeout
	case errors.As(err, &lost):
		return shaping.Event{Kind: shaping.Unreachable}, lost.Stage == smtpclient.StageConnect || lost.Stage == smtpclient.StageBanner
	case errors.Is(err, errNoHost):
		return shaping.Event{Kind: shaping.Unreachable}, true
	}
	return shaping.Event{}, false
}
