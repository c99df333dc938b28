package pool

import (
	"context"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
)

const (
	blockMost   = 100         // messages that a node takes at a time
	blockParts  = 20          // and no more than this part of the ceiling
	lookAgain   = time.Minute // for what other nodes gave back of a ceiling
	halvingMost = 10
	// The words of a Full.
	ceilingReached = "pool_ceiling"
	slowedDown     = "pool_slowed"
)

const oneDay = 24 * time.Hour

// dayOf counts days of UTC from 1970.
func dayOf(t time.Time) int64 {
	day := t.Unix() / int64(oneDay/time.Second)
	if t.Unix() < 0 {
		day-- // nothing was sent then, but a clock may say so
	}
	return day
}

func startOf(day int64) time.Time { return time.Unix(day*int64(oneDay/time.Second), 0).UTC() }

// ceiling is the most that may leave on a day before anything slows the pool
// down; limited is false where there is none. Before a warm-up begins its first
// day's ceiling holds.
func (p *pool) ceiling(day int64) (most int64, limited bool) {
	daily := int64(p.DailyCeiling)
	if len(p.WarmUpDays) == 0 {
		return daily, daily > 0
	}
	at := max(0, day-p.started)
	days := int64(len(p.WarmUpDays))
	if at < days {
		return capped(int64(p.WarmUpDays[at]), daily), true
	}
	if p.WarmUpGrowth == 0 {
		return daily, daily > 0
	}
	most = int64(p.WarmUpDays[days-1])
	for ; at >= days && most < daily; at-- {
		most += max(1, most*int64(p.WarmUpGrowth)/100)
	}
	return capped(most, daily), true
}

// warming reports whether a day lies in the warm-up.
func (p *pool) warming(day int64) bool {
	if len(p.WarmUpDays) == 0 {
		return false
	}
	most, limited := p.ceiling(day)
	return limited && (p.DailyCeiling == 0 || most < int64(p.DailyCeiling))
}

func capped(n, most int64) int64 {
	if most > 0 {
		return min(n, most)
	}
	return n
}

// blockKey is what allowance is held for; the site is empty where all sites
// share it.
type blockKey struct{ pool, site string }

// block is allowance that this node has taken and not used.
type block struct {
	mu       sync.Mutex
	day      int64
	left     int64
	idle     bool // unused since the last look
	gone     bool // forgotten: nobody would give back what is taken into it
	deniedAt time.Time
	denied   *Full
}

// lockBlock gives the block of a pool and site, locked. One that was forgotten
// while its lock was waited for is not taken.
func (s *Service) lockBlock(p *pool, site string) *block {
	key := blockKey{pool: p.Name}
	if p.SiteShare > 0 {
		key.site = site
	}
	for {
		s.mu.Lock()
		b := s.blocks[key]
		if b == nil {
			b = &block{}
			s.blocks[key] = b
		}
		s.mu.Unlock()
		b.mu.Lock()
		if !b.gone {
			return b
		}
		b.mu.Unlock()
	}
}

// allow takes one message's part of the ceiling.
func (s *Service) allow(ctx context.Context, p *pool, site string) error {
	now := s.Clock.Now()
	day := dayOf(now)
	if _, limited := p.ceiling(day); !limited {
		return nil
	}
	b := s.lockBlock(p, site)
	defer b.mu.Unlock()
	if b.day != day { // what was left belongs to another day
		b.day, b.left, b.denied = day, 0, nil
	}
	b.idle = false
	if b.left > 0 {
		b.left--
		return nil
	}
	if since := now.Sub(b.deniedAt); b.denied != nil && since >= 0 && since < lookAgain {
		return b.denied
	}
	got, halvings, err := s.reserve(ctx, p, site, day)
	if err != nil {
		return err
	}
	if got == 0 {
		b.denied, b.deniedAt = full(p, day, halvings), now
		return b.denied
	}
	b.left, b.denied = got-1, nil
	return nil
}

func full(p *pool, day, halvings int64) *Full {
	reason, text := ceilingReached, "The pool %s has sent what it may send today. The rest waits for the next day (UTC)."
	if halvings > 0 {
		reason, text = slowedDown, "The pool %s was slowed down today for too many bounces or deferrals. The rest waits for the next day (UTC); see \"sealpost pool show\"."
	}
	return &Full{Fault: fault.Newf(fault.TooMany, reason, text, p.Name), Pool: p.Name, Until: startOf(day + 1)}
}

// reserve takes a block of the day's ceiling from the database.
func (s *Service) reserve(ctx context.Context, p *pool, site string, day int64) (int64, int64, error) {
	var got, halvings int64 // read only after success: the write may outlive this call
	err := s.DB.WriteAlone(ctx, db.System, func(tx *db.Tx) error {
		got = 0
		granted, halved, err := lockDay(tx, p.Name, "", day)
		if err != nil {
			return err
		}
		halvings = halved
		most, _ := p.ceiling(day)
		most = max(1, most>>halved)
		room := most - granted
		if p.SiteShare > 0 {
			granted, _, err := lockDay(tx, p.Name, site, day)
			if err != nil {
				return err
			}
			room = min(room, max(1, most*int64(p.SiteShare)/100)-granted)
		}
		if room <= 0 {
			return nil
		}
		got = min(room, max(1, min(blockMost, most/blockParts)))
		return s.grant(tx, p, site, day, got)
	})
	if err != nil {
		return 0, 0, err
	}
	return got, halvings, nil
}

// grant changes how much is taken of a day's ceiling.
func (s *Service) grant(tx *db.Tx, p *pool, site string, day, n int64) error {
	sites := []string{""}
	if p.SiteShare > 0 {
		sites = append(sites, site)
	}
	for _, site := range sites {
		if _, err := tx.Exec("UPDATE pool_days SET granted = granted + ? WHERE pool = ? AND site = ? AND day = ?", n, p.Name, site, day); err != nil {
			return err
		}
	}
	return nil
}

// lockDay holds a row until the transaction ends, and makes it where there is
// none. All who lock several take the pool's own row first.
func lockDay(tx *db.Tx, pool, site string, day int64) (granted, halvings int64, err error) {
	if _, err := tx.Exec("INSERT INTO pool_days (pool, site, day) VALUES (?, ?, ?) ON CONFLICT (pool, site, day) DO NOTHING", pool, site, day); err != nil {
		return 0, 0, err
	}
	err = tx.Row("UPDATE pool_days SET granted = granted WHERE pool = ? AND site = ? AND day = ? RETURNING granted, halvings", pool, site, day).
		Scan(&granted, &halvings)
	return granted, halvings, err
}

// unused takes back what was allowed for a message that was not sent.
func (s *Service) unused(name, site string) {
	p := s.find(name)
	if p == nil {
		return
	}
	day := dayOf(s.Clock.Now())
	if _, limited := p.ceiling(day); !limited {
		return
	}
	b := s.lockBlock(p, site)
	defer b.mu.Unlock()
	if b.day == day {
		b.left++
		b.denied = nil
	}
}

// giveBack returns what this node holds of today's ceilings; only what has
// lain unused since the last call, unless all is asked for.
func (s *Service) giveBack(ctx context.Context, all bool) error {
	s.mu.Lock()
	held := map[blockKey]*block{}
	for key, b := range s.blocks {
		held[key] = b
	}
	s.mu.Unlock()
	for key, b := range held {
		if err := s.giveBackOne(ctx, key, b, all); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) giveBackOne(ctx context.Context, key blockKey, b *block, all bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.idle && !all {
		b.idle = true
		return nil
	}
	day, left := b.day, b.left
	if left > 0 {
		b.left = 0 // what is not known to be given back is not used either
		if err := s.DB.WriteAlone(ctx, db.System, func(tx *db.Tx) error {
			return s.grant(tx, s.find(key.pool), key.site, day, -left)
		}); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.blocks, key) // sites come and go
	b.gone = true
	return nil
}
