package keyring

import (
	"context"
	"slices"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/discover"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
)

// How long an answer is not asked for again.
const (
	foundFor   = 24 * time.Hour
	absentFor  = 12 * time.Hour
	failedMin  = 10 * time.Minute // doubled with each failure
	failedMax  = 2 * time.Hour
	busyFor    = 30 * time.Second
	answerMin  = 5 * time.Minute // even when the answer says less
	lookLimit  = 20 * time.Second
	forgetAge  = 30 * 24 * time.Hour
	unusable   = "unusable" // the word of an answer whose keys cannot be read
	wordSource = "failed"   // of a source that gives no word of its own
)

// asking is what memory holds of the answers about an address.
type asking struct {
	at      time.Time // of the last look at the table
	next    time.Time // when a source is to be asked again
	failing bool
	words   []string // of sources whose answer is of no use
}

// lookup is a row of keyring_lookups.
type lookup struct {
	source, result, word string
	failures             int64
	next                 time.Time
}

// ask sees to it that what the sources say is known and not too old.
func (k *Keyring) ask(ctx context.Context, a mail.Address) (asking, error) {
	if k.d.Discover == nil {
		return asking{}, nil
	}
	name, now := a.Normal(), k.d.Clock.Now()
	if m, ok := k.asked.get(name); ok && within(m.at, now, heldFor) && now.Before(m.next) {
		return m, nil
	}
	if m, ok, err := k.standing(ctx, a, now); ok || err != nil {
		return m, err
	}
	v, err := k.once(ctx, "ask "+name, func(ctx context.Context) (any, error) {
		hmac, err := k.d.Custody.Index(db.System, addressLabel, name)
		if err != nil {
			return asking{}, err
		}
		known, err := k.lookups(ctx, hmac)
		if err != nil {
			return asking{}, err
		}
		m := k.remember(known, now)
		if !now.Before(m.next) {
			if m, _, err = k.askNow(ctx, a, hmac, known); err != nil {
				return m, err
			}
		}
		k.asked.put(name, m)
		return m, nil
	})
	if err != nil {
		return asking{}, err
	}
	return v.(asking), nil
}

// lookups reads what the sources said last.
func (k *Keyring) lookups(ctx context.Context, hmac []byte) (known []lookup, err error) {
	err = k.d.DB.Read(ctx, db.System, func(tx *db.Tx) (err error) {
		known, err = db.All(tx, func(from db.Row) (l lookup, err error) {
			var next int64
			err = from.Scan(&l.source, &l.result, &l.word, &l.failures, &next)
			l.next = clock.FromMicros(next)
			return l, err
		}, `SELECT source, result, word, failures, next_at FROM keyring_lookups WHERE org_id = ? AND address_hmac = ?`, db.System, hmac)
		return err
	})
	return known, err
}

// remember gives what memory holds of answers. A source without one is to be
// asked now.
func (k *Keyring) remember(known []lookup, now time.Time) asking {
	m := asking{at: now, next: now.Add(foundFor)}
	for _, l := range known {
		if len(k.d.Sources) > 0 && !slices.Contains(k.d.Sources, l.source) {
			continue // no longer asked
		}
		if l.next.Before(m.next) {
			m.next = l.next
		}
		m.failing = m.failing || l.result == "failed"
		if l.word != "" {
			m.words = append(m.words, answerSentence(l))
		}
	}
	for _, s := range k.d.Sources {
		if !slices.ContainsFunc(known, func(l lookup) bool { return l.source == s }) {
			m.next = now
		}
	}
	if len(known) == 0 {
		m.next = now
	}
	return m
}

func answerSentence(l lookup) string {
	if l.result == "failed" {
		return "Whether there are keys of the recipient could not be asked: " + l.source + " (" + l.word + ")."
	}
	return "What " + l.source + " gives for the recipient cannot be read as a key."
}

// askNow asks all sources and records what they say.
func (k *Keyring) askNow(ctx context.Context, a mail.Address, hmac []byte, known []lookup) (asking, []discover.Answer, error) {
	// What is found late is still written down.
	look, done := context.WithTimeout(ctx, lookLimit)
	defer done()
	a, err := k.spelling(look, a)
	if err != nil {
		return asking{}, nil, err
	}
	answers := k.d.Discover(look, a)
	now := k.d.Clock.Now()
	r, next, busy := round{}, make([]lookup, 0, len(answers)), []lookup(nil)
	for _, answer := range answers {
		l := lookup{source: answer.Source}
		switch {
		case answer.Word == discover.Busy: // nobody's failure, and soon over
			l.result, l.word, l.next = "failed", answer.Word, now.Add(busyFor)
			if answer.Until.After(now) && answer.Until.Before(now.Add(heldFor)) {
				l.next = answer.Until
			}
			busy = append(busy, l)
			r.failed = append(r.failed, answer.Source)
			continue
		case answer.Word != "" || !answer.Absent && len(answer.Findings) == 0:
			l.result, l.word, l.failures = "failed", answer.Word, 1
			if l.word == "" {
				l.word = wordSource
			}
			if i := slices.IndexFunc(known, func(old lookup) bool { return old.source == l.source }); i >= 0 {
				l.failures = known[i].failures + 1
			}
			l.next = now.Add(min(failedMin<<min(l.failures-1, 10), failedMax))
			r.failed = append(r.failed, answer.Source)
		case answer.Absent:
			l.result, l.next = "absent", bounded(now, absentFor, answer.Until)
			if answer.Certain {
				r.absent = append(r.absent, answer.Source)
			}
		default:
			sights := k.sights(look, a, answer, now)
			l.result, l.next = "found", bounded(now, foundFor, answer.Until)
			if len(sights) == 0 {
				l.word = unusable
			}
			r.sights = append(r.sights, sights...)
		}
		next = append(next, l)
	}
	if err := k.store(ctx, a, hmac, next, r, now); err != nil {
		return asking{}, answers, err
	}
	next = append(next, busy...)
	m := k.remember(next, now)
	if len(next) < len(k.d.Sources) || len(next) == 0 {
		m.next = now.Add(heldFor) // a source that says nothing at all
	}
	return m, answers, nil
}

// spelling is how sources are asked for an address. They look for the normal
// form and for what is written; what was found under one spelling is asked for
// under the same again, so that another one does not withdraw it.
func (k *Keyring) spelling(ctx context.Context, a mail.Address) (mail.Address, error) {
	h, err := k.hold(ctx, db.System, a)
	if err != nil {
		return a, err
	}
	for _, r := range h.rows {
		if len(r.sightings) > 0 {
			if a = r.Address; a.Reveal() != a.Normal() {
				break
			}
		}
	}
	return a, nil
}

// bounded is when an answer is too old: after the longest time it is believed,
// or when it says so itself, but not at once.
func bounded(now time.Time, most time.Duration, until time.Time) time.Time {
	next := now.Add(most)
	if !until.IsZero() && until.Before(next) {
		next = until
	}
	if least := now.Add(answerMin); next.Before(least) {
		return least
	}
	return next
}

// sights reads and judges what one source found.
func (k *Keyring) sights(ctx context.Context, a mail.Address, answer discover.Answer, now time.Time) (all []sight) {
	for _, f := range answer.Findings {
		list, err := read(f.Kind, f.Data)
		if err != nil {
			continue
		}
		for _, m := range list[:min(len(list), keysPerFinding)] {
			all = append(all, k.sight(ctx, a, m, answer.Source, f, now))
		}
	}
	return all
}

// sight judges one key. A certificate is proved by the way it came only when
// DNSSEC vouches for the certificate itself (RFC 8162, usage 3); in all other
// cases its chain must do that.
func (k *Keyring) sight(ctx context.Context, a mail.Address, m *material, source string, f discover.Finding, now time.Time) sight {
	m = m.about(a)
	proof := max(min(f.Proof, policy.Confirmed), policy.Harvested)
	if m.kind == policy.SMIME && (source != discover.SMIMEA || f.Usage != 3) {
		proof = min(proof, policy.Discovered)
	}
	return sight{m: m, source: source, proof: proof, verdict: k.judge(ctx, m, a, proof, now)}
}

const upsertLookup = `INSERT INTO keyring_lookups (org_id, address_hmac, source, result, word, failures, checked_at, next_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
	ON CONFLICT (org_id, address_hmac, source) DO UPDATE SET result = excluded.result, word = excluded.word,
	failures = excluded.failures, checked_at = excluded.checked_at, next_at = excluded.next_at`

// store writes answers and what they showed in one transaction. Where nothing
// was found and the installation shares no key, there is nothing to settle.
func (k *Keyring) store(ctx context.Context, a mail.Address, hmac []byte, answers []lookup, r round, now time.Time) error {
	if len(answers) == 0 {
		return nil
	}
	slices.SortFunc(answers, func(x, y lookup) int { // in one order everywhere: no deadlocks
		if x.source < y.source {
			return -1
		}
		return 1
	})
	settles := len(r.sights) > 0
	if !settles && len(r.absent) > 0 {
		changes, err := k.changes(ctx, db.System)
		if err != nil {
			return err
		}
		settles = changes > 0
	}
	err := k.d.DB.Write(ctx, db.System, func(tx *db.Tx) error {
		for _, l := range answers {
			if _, err := tx.Exec(upsertLookup, db.System, hmac, l.source, l.result, l.word, l.failures, clock.Micros(now), clock.Micros(l.next)); err != nil {
				return err
			}
		}
		if !settles {
			return nil
		}
		_, err := k.settle(tx, a, hmac, r, now)
		return err
	})
	if err == nil && settles {
		k.forget(db.System, a)
	}
	return err
}

// Tidy forgets answers about addresses that nobody has written to for long.
func (k *Keyring) Tidy(ctx context.Context) error {
	return k.d.DB.Sweep(ctx, "keyring_lookups", "org_id, address_hmac, source", "next_at < ?", clock.Micros(k.d.Clock.Now().Add(-forgetAge)))
}
