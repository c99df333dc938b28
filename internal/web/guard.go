package web

import (
	"context"
	"maps"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/throttled/throttled/v2"

	"github.com/sealpost/sealpost/internal/clock"
)

// SameOrigin refuses forms that another site posts. Our pages say
// Referrer-Policy: no-referrer, so browsers post "Origin: null"; those that
// also send Sec-Fetch-Site are judged by that. Where it is missing (Safari
// before 16.4), null says nothing, and SameSite=Strict cookies protect alone.
func SameOrigin(next http.Handler) http.Handler {
	guarded := http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "null" {
			next.ServeHTTP(w, r)
			return
		}
		guarded.ServeHTTP(w, r)
	})
}

// Limiter bounds how often one client address may come.
type Limiter struct{ rate *throttled.GCRARateLimiterCtx }

// NewLimiter allows perMinute requests of each client address, burst of them
// at once. It counts on this node.
func NewLimiter(c clock.Clock, perMinute, burst int) (*Limiter, error) {
	store := &marks{clock: c, at: map[string]mark{}}
	rate, err := throttled.NewGCRARateLimiterCtx(store, throttled.RateQuota{MaxRate: throttled.PerMin(perMinute), MaxBurst: max(0, burst-1)})
	if err != nil {
		return nil, err
	}
	return &Limiter{rate}, nil
}

// Allow takes one request of a client address.
func (l *Limiter) Allow(ctx context.Context, client netip.Addr) bool {
	limited, _, err := l.rate.RateLimitCtx(ctx, door(client), 1)
	return err == nil && !limited
}

// door is whom an address stands for: of IPv6 the network of a household.
func door(a netip.Addr) string {
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// marks keeps what the limiter remembers, in memory and by the clock handed
// in. It is bounded: when it is full of live marks, newcomers share one.
type marks struct {
	clock clock.Clock
	mu    sync.Mutex
	at    map[string]mark
	swept time.Time
}

type mark struct {
	value int64
	until time.Time
}

const (
	maxMarks = 100_000
	crowd    = "crowd"
)

// GetWithTime is of throttled.GCRAStoreCtx.
func (m *marks) GetWithTime(_ context.Context, key string) (int64, time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock.Now()
	if e, ok := m.at[m.key(key, now)]; ok && now.Before(e.until) {
		return e.value, now, nil
	}
	return -1, now, nil
}

// SetIfNotExistsWithTTL is of throttled.GCRAStoreCtx.
func (m *marks) SetIfNotExistsWithTTL(_ context.Context, key string, value int64, ttl time.Duration) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock.Now()
	key = m.key(key, now)
	if e, ok := m.at[key]; ok && now.Before(e.until) {
		return false, nil
	}
	m.at[key] = mark{value, now.Add(ttl)}
	return true, nil
}

// CompareAndSwapWithTTL is of throttled.GCRAStoreCtx.
func (m *marks) CompareAndSwapWithTTL(_ context.Context, key string, old, value int64, ttl time.Duration) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock.Now()
	key = m.key(key, now)
	if e, ok := m.at[key]; !ok || e.value != old {
		return false, nil
	}
	m.at[key] = mark{value, now.Add(ttl)}
	return true, nil
}

// key makes room, and gives the name under which key is remembered.
func (m *marks) key(key string, now time.Time) string {
	if _, ok := m.at[key]; ok || len(m.at) < maxMarks {
		return key
	}
	if now.Sub(m.swept) >= time.Second {
		m.swept = now
		maps.DeleteFunc(m.at, func(_ string, e mark) bool { return !now.Before(e.until) })
	}
	if len(m.at) < maxMarks {
		return key
	}
	return crowd
}
