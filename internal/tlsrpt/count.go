package tlsrpt

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
)

// Session is what came of one TLS session with a mail host, or of not having
// had one.
type Session struct {
	At     time.Time
	Domain string // of the recipients
	Policy Applied
	Detail Cause // zero for a success
}

// Applied is the policy that a session was judged by.
type Applied struct {
	Type    string   `json:"t"` // sts, tlsa, no-policy-found
	Strings []string `json:"s,omitempty"`
	Domain  string   `json:"d,omitempty"`
	MX      []string `json:"m,omitempty"` // patterns of an MTA-STS policy
}

// Cause is why a session failed.
type Cause struct {
	Result      string `json:"r,omitempty"` // a word of RFC 8460 section 4.3
	MX          string `json:"m,omitempty"`
	ReceivingIP string `json:"i,omitempty"`
	SendingIP   string `json:"s,omitempty"`
	Reason      string `json:"w,omitempty"`
}

const (
	flushEvery = 5 * time.Second
	flushRows  = 500              // in one transaction
	maxKeys    = 20_000           // in memory
	maxDetails = 100              // of one domain and day in memory
	patience   = 10 * time.Second // with a database that does not answer
)

const day = 24 * time.Hour

// CounterDeps are what a Counter works with.
type CounterDeps struct {
	DB    *db.DB
	Clock clock.Clock
	Log   *slog.Logger
}

// Counter counts the sessions of one node and adds them up in the database.
type Counter struct {
	CounterDeps

	mu      sync.Mutex
	counts  map[key]int64
	details map[place]int
	lost    int64 // sessions that found no room

	stop context.CancelFunc
	done chan struct{}
}

type place struct {
	day    int64
	domain string
}

type key struct {
	place
	policy, detail string // JSON
}

// NewCounter gives a Counter that Start sets going.
func NewCounter(d CounterDeps) *Counter {
	return &Counter{CounterDeps: d, counts: map[key]int64{}, details: map[place]int{}}
}

// Count takes a session. It does not wait for anything.
func (c *Counter) Count(s Session) {
	policy, err := json.Marshal(s.Policy)
	if err != nil {
		return // strings alone always marshal
	}
	at := place{clock.Micros(s.At.UTC().Truncate(day)), s.Domain}
	c.mu.Lock()
	defer c.mu.Unlock()
	k := key{at, string(policy), detailOf(s.Detail)}
	if c.room(k) {
		c.counts[k]++
		return
	}
	k.detail = detailOf(Cause{Result: s.Detail.Result})
	if c.counts[k] == 0 && len(c.counts) >= 2*maxKeys {
		c.lost++
		return
	}
	c.counts[k]++
}

func detailOf(c Cause) string {
	if c.Result == "" {
		return ""
	}
	text, err := json.Marshal(c)
	if err != nil {
		return "" // strings alone always marshal
	}
	return string(text)
}

// room reports whether a key is there or may become a new one.
func (c *Counter) room(k key) bool {
	if c.counts[k] > 0 {
		return true
	}
	if len(c.counts) >= maxKeys || c.details[k.place] >= maxDetails {
		return false
	}
	c.details[k.place]++
	return true
}

// Start begins to write counts into the database every few seconds.
func (c *Counter) Start(ctx context.Context) {
	ctx, c.stop = context.WithCancel(context.WithoutCancel(ctx))
	c.done = make(chan struct{})
	go func() {
		defer close(c.done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-c.Clock.After(flushEvery):
			}
			if err := c.Flush(ctx); err != nil && ctx.Err() == nil {
				c.Log.Warn("TLS sessions could not be counted yet", "error", err)
			}
		}
	}()
}

// Stop writes what is left. It may be called more than once.
func (c *Counter) Stop() {
	if c.stop == nil {
		return
	}
	c.stop()
	<-c.done
	if err := c.Flush(context.Background()); err != nil {
		c.Log.Warn("the last TLS sessions were not counted", "error", err)
	}
}

// Lost is how many sessions found no room and are in no report.
func (c *Counter) Lost() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

// Flush adds what was counted to the database. What could not be written is
// kept for the next time.
func (c *Counter) Flush(ctx context.Context) error {
	c.mu.Lock()
	counts := c.counts
	c.counts, c.details = map[key]int64{}, map[place]int{}
	c.mu.Unlock()
	batch := make([]key, 0, flushRows)
	for k := range counts {
		if batch = append(batch, k); len(batch) < flushRows && len(batch) < len(counts) {
			continue
		}
		if err := c.write(ctx, batch, counts); err != nil {
			c.keep(counts)
			return err
		}
		for _, k := range batch {
			delete(counts, k)
		}
		batch = batch[:0]
	}
	return nil
}

// write does not end with its caller: what became of it would not be known,
// and sessions would count twice or never.
func (c *Counter) write(ctx context.Context, batch []key, counts map[key]int64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return c.DB.Write(ctx, db.System, func(tx *db.Tx) error {
		for _, k := range batch {
			sum := sha256.Sum256([]byte(k.policy + "\x00" + k.detail))
			if _, err := tx.Exec(`INSERT INTO tlsrpt_sessions (day, domain, hash, policy, detail, sessions) VALUES (?, ?, ?, ?, ?, ?)
				ON CONFLICT (day, domain, hash) DO UPDATE SET sessions = tlsrpt_sessions.sessions + excluded.sessions`,
				k.day, k.domain, sum[:16], k.policy, k.detail, counts[k]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *Counter) keep(counts map[key]int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, n := range counts {
		if c.counts[k] == 0 && len(c.counts) >= 2*maxKeys {
			c.lost += n
			continue
		}
		c.counts[k] += n
	}
}
