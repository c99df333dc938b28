package pool

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/ledger"
)

// Result is what came of a message that left from a pool.
type Result int

// The results.
const (
	Accepted   Result = iota
	Deferred          // a temporary refusal
	Bounced           // refused for good, at once or by a report later
	Complained        // its recipient called it spam
	Unsent            // Source was asked, and then nothing was sent
)

// Counts are numbers of results.
type Counts struct {
	Accepted, Deferred, Bounced, Complained int64
}

func (c *Counts) add(d Counts) {
	c.Accepted += d.Accepted
	c.Deferred += d.Deferred
	c.Bounced += d.Bounced
	c.Complained += d.Complained
}

// settled is how many messages were taken or refused for good.
func (c Counts) settled() int64 { return c.Accepted + c.Bounced }

// attempts is how many replies there were.
func (c Counts) attempts() int64 { return c.settled() + c.Deferred }

type countKey struct {
	pool, site string
	day        int64
}

const (
	writeEvery = 5 * time.Second
	writeWait  = 10 * time.Second // for the database, when stopping
	keysMost   = 20_000           // in memory
	otherSites = "(others)"       // stands for sites beyond that
	judgeLeast = 100              // attempts before a day is judged
	keepDays   = 400
)

// Heard counts what came of a message. It never waits for the database.
func (s *Service) Heard(pool, site string, what Result) {
	if what == Unsent {
		s.unused(pool, site)
		return
	}
	var one Counts
	switch what {
	case Accepted:
		one.Accepted = 1
	case Deferred:
		one.Deferred = 1
	case Bounced:
		one.Bounced = 1
	case Complained:
		one.Complained = 1
	}
	day := dayOf(s.Clock.Now())
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.counts) >= keysMost && s.counts[countKey{pool, site, day}] == nil {
		site = otherSites
	}
	s.count(countKey{pool, site, day}, one)
	s.count(countKey{pool, "", day}, one)
}

func (s *Service) count(key countKey, c Counts) {
	if s.counts[key] == nil {
		s.counts[key] = &Counts{}
	}
	s.counts[key].add(c)
}

// keepWriting writes down counts every few seconds and, at last, all there is.
func (s *Service) keepWriting() {
	defer close(s.done)
	for last := false; !last; {
		select {
		case <-s.Clock.After(writeEvery):
		case <-s.stop:
			last = true
		}
		ctx, cancel := context.WithTimeout(context.Background(), writeWait)
		if err := errors.Join(s.Flush(ctx), s.giveBack(ctx, last)); err != nil {
			s.Log.Warn("counts of the source pools could not be written down yet", "error", err)
		}
		cancel()
	}
}

// Flush writes down what was counted. What cannot be written is kept.
func (s *Service) Flush(ctx context.Context) error {
	s.mu.Lock()
	counts := s.counts
	s.counts = map[countKey]*Counts{}
	s.mu.Unlock()
	if len(counts) == 0 {
		return nil
	}
	err := s.DB.WriteAlone(ctx, db.System, func(tx *db.Tx) error { return s.write(tx, counts) })
	if err == nil || ctx.Err() != nil { // unknown: better lost than counted twice
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, c := range counts {
		s.count(key, *c)
	}
	return err
}

// write adds counts in the order in which rows are locked everywhere: a pool's
// own row, with the empty site, stands first.
func (s *Service) write(tx *db.Tx, counts map[countKey]*Counts) error {
	keys := slices.SortedFunc(maps.Keys(counts), func(a, b countKey) int {
		return cmp.Or(cmp.Compare(a.pool, b.pool), cmp.Compare(a.day, b.day), cmp.Compare(a.site, b.site))
	})
	for _, k := range keys {
		c := counts[k]
		if _, err := tx.Exec(`INSERT INTO pool_days (pool, site, day, accepted, deferred, bounced, complained) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (pool, site, day) DO UPDATE SET accepted = pool_days.accepted + excluded.accepted,
			deferred = pool_days.deferred + excluded.deferred, bounced = pool_days.bounced + excluded.bounced,
			complained = pool_days.complained + excluded.complained`,
			k.pool, k.site, k.day, c.Accepted, c.Deferred, c.Bounced, c.Complained); err != nil {
			return err
		}
	}
	for _, k := range keys {
		if p := s.find(k.pool); p != nil && k.site == "" {
			if err := s.judge(tx, p, k.day); err != nil {
				return err
			}
		}
	}
	return nil
}

// judge halves a day's ceiling when too much of what left bounced or was
// deferred. Between two halvings as many attempts again must be made.
func (s *Service) judge(tx *db.Tx, p *pool, day int64) error {
	if p.SlowBounces+p.SlowDeferrals == 0 {
		return nil
	}
	var c Counts
	var halvings, judged int64
	if err := tx.Row("SELECT accepted, deferred, bounced, halvings, judged FROM pool_days WHERE pool = ? AND site = '' AND day = ?", p.Name, day).
		Scan(&c.Accepted, &c.Deferred, &c.Bounced, &halvings, &judged); err != nil {
		return err
	}
	why := ""
	switch {
	case c.attempts() < max(judgeLeast, 2*judged) || halvings >= halvingMost:
	case p.SlowBounces > 0 && 100*c.Bounced > int64(p.SlowBounces)*c.settled():
		why = "bounces"
	case p.SlowDeferrals > 0 && 100*c.Deferred > int64(p.SlowDeferrals)*c.attempts():
		why = "deferrals"
	}
	if why == "" {
		return nil
	}
	if _, err := tx.Exec("UPDATE pool_days SET halvings = halvings + 1, judged = ? WHERE pool = ? AND site = '' AND day = ?",
		c.attempts(), p.Name, day); err != nil {
		return err
	}
	most, _ := p.ceiling(day)
	return ledger.Append(tx, ledger.Fact{Type: ledger.PoolSlowed, At: s.Clock.Now(), Data: slowedFact{
		Pool: p.Name, Day: startOf(day).Format(time.DateOnly), Why: why, Ceiling: max(1, most>>(halvings+1)),
		Attempts: c.attempts(), Bounced: c.Bounced, Deferred: c.Deferred}})
}

type slowedFact struct {
	Pool     string `json:"pool"`
	Day      string `json:"day"`
	Why      string `json:"why"`
	Ceiling  int64  `json:"ceiling"` // of the day, from now on
	Attempts int64  `json:"attempts"`
	Bounced  int64  `json:"bounced"`
	Deferred int64  `json:"deferred"`
}

// Tidy forgets days that nobody asks for any more.
func (s *Service) Tidy(ctx context.Context) error {
	return s.DB.Sweep(ctx, "pool_days", "pool, site, day", "day < ?", dayOf(s.Clock.Now())-keepDays)
}
