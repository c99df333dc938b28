package posture

import (
	"container/list"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
)

// load reads what was stored of a domain; nil means nothing.
func load(ctx context.Context, d *db.DB, domain string) (*Posture, error) {
	var text string
	err := d.Read(ctx, db.System, func(tx *db.Tx) error {
		return tx.Row("SELECT document FROM posture_domains WHERE domain = ?", domain).Scan(&text)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the posture of a domain: %w", err)
	}
	p := new(Posture)
	if err := json.Unmarshal([]byte(text), p); err != nil || p.Domain != domain {
		return nil, nil // another version wrote it; it is only a cache
	}
	return p, nil
}

func store(ctx context.Context, d *db.DB, p *Posture, now time.Time) error {
	text, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("write the posture of a domain: %w", err)
	}
	return d.Write(ctx, db.System, func(tx *db.Tx) error {
		_, err := tx.Exec(`INSERT INTO posture_domains (domain, document, updated_at) VALUES (?, ?, ?)
			ON CONFLICT (domain) DO UPDATE SET document = excluded.document, updated_at = excluded.updated_at`,
			p.Domain, string(text), clock.Micros(now))
		return err
	})
}

// forgetAfter is how long the posture of a domain is kept that nobody asked for.
// The longest-lived thing in it is an MTA-STS policy, which lives for a year at
// most (RFC 8461 section 3.2).
const forgetAfter = 400 * 24 * time.Hour

// Tidy forgets domains that nothing was sent to for longer than anything that
// is known of them holds.
func (s *Service) Tidy(ctx context.Context) error {
	return s.db.Sweep(ctx, "posture_domains", "domain", "updated_at < ?", clock.Micros(s.clock.Now().Add(-forgetAfter)))
}

// entry is what memory holds of a domain. The posture is replaced whole and
// never changed.
type entry struct {
	domain   string
	posture  *Posture  // nil: the database has nothing
	checked  time.Time // when the database said so
	storedAt time.Time // when the posture was last written, or zero

	failed      error // of the last look-up
	failedUntil time.Time
}

// memory keeps the domains used last.
type memory struct {
	mu    sync.Mutex
	limit int
	by    map[string]*list.Element
	order *list.List // of entry, newest first
}

func newMemory(limit int) *memory {
	return &memory{limit: limit, by: map[string]*list.Element{}, order: list.New()}
}

func (m *memory) get(domain string) (entry, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	el, ok := m.by[domain]
	if !ok {
		return entry{}, false
	}
	m.order.MoveToFront(el)
	return el.Value.(entry), true
}

// update changes the entry of a domain, which may be new.
func (m *memory) update(domain string, change func(*entry)) entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	el, ok := m.by[domain]
	if !ok {
		el = m.order.PushFront(entry{domain: domain})
		m.by[domain] = el
		if len(m.by) > m.limit {
			last := m.order.Back()
			delete(m.by, m.order.Remove(last).(entry).domain)
		}
	}
	e := el.Value.(entry)
	change(&e)
	el.Value = e
	return e
}
