package auth

import (
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/id"
)

// A client found in the database is trusted for this long, so revocation
// takes effect within it.
const (
	trustFor   = time.Second
	cacheLimit = 10_000
)

type cache struct {
	mu   sync.Mutex
	rows map[id.ID]cached
}

type cached struct {
	client Client
	sum    []byte
	until  time.Time
}

func (c *cache) get(client id.ID, now time.Time) (Client, []byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	row, ok := c.rows[client]
	if !ok || !now.Before(row.until) {
		return Client{}, nil, false
	}
	return row.client, row.sum, true
}

func (c *cache) put(cl Client, sum []byte, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rows == nil || len(c.rows) >= cacheLimit {
		c.rows = map[id.ID]cached{}
	}
	c.rows[cl.ID] = cached{cl, sum, now.Add(trustFor)}
}
