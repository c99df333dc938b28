package keyring

import (
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
)

const (
	orgFor  = time.Second // how long it is believed whether an organization has keys
	heldFor = time.Minute // how long memory is believed without a look at the tables
)

// lru keeps what was used last.
type lru[K comparable, V any] struct {
	mu    sync.Mutex
	limit int         // of all that it holds
	cost  func(V) int // nil: each counts one
	used  int
	by    map[K]*list.Element
	order *list.List // of pair, newest first
}

type pair[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](limit int, cost func(V) int) *lru[K, V] {
	if cost == nil {
		cost = func(V) int { return 1 }
	}
	return &lru[K, V]{limit: limit, cost: cost, by: map[K]*list.Element{}, order: list.New()}
}

func (l *lru[K, V]) get(key K) (v V, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	el, ok := l.by[key]
	if !ok {
		return v, false
	}
	l.order.MoveToFront(el)
	return el.Value.(pair[K, V]).value, true
}

func (l *lru[K, V]) put(key K, v V) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if el, ok := l.by[key]; ok {
		l.used -= l.cost(el.Value.(pair[K, V]).value)
		el.Value = pair[K, V]{key, v}
		l.order.MoveToFront(el)
	} else {
		l.by[key] = l.order.PushFront(pair[K, V]{key, v})
	}
	l.used += l.cost(v)
	for l.used > l.limit {
		l.take(l.order.Back())
	}
}

func (l *lru[K, V]) take(el *list.Element) {
	p := l.order.Remove(el).(pair[K, V])
	l.used -= l.cost(p.value)
	delete(l.by, p.key)
}

func (l *lru[K, V]) drop(key K) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if el, ok := l.by[key]; ok {
		l.take(el)
	}
}

// orgMemo says whether an organization has any entry, and counts what people
// changed there.
type orgMemo struct {
	at      time.Time
	changes int64 // 0: it has none
}

// changes asks at most once a second.
func (k *Keyring) changes(ctx context.Context, org id.ID) (int64, error) {
	now := k.d.Clock.Now()
	if m, ok := k.orgs.get(org); ok && within(m.at, now, orgFor) {
		return m.changes, nil
	}
	v, err := k.once(ctx, "org "+org.Text(id.Org), func(ctx context.Context) (any, error) {
		m, epoch := orgMemo{at: now}, k.epoch.Load()
		err := k.d.DB.Read(ctx, org, func(tx *db.Tx) error {
			return tx.Row("SELECT coalesce(max(changes), 0) FROM keyring_orgs WHERE org_id = ?", org).Scan(&m.changes)
		})
		if err != nil {
			return m, err
		}
		if k.epoch.Load() == epoch {
			k.orgs.put(org, m)
		}
		return m, nil
	})
	if err != nil {
		return 0, err
	}
	return v.(orgMemo).changes, nil
}

func within(at, now time.Time, d time.Duration) bool {
	age := now.Sub(at)
	return age >= 0 && age < d
}

// onceLimit ends what many may be waiting for.
const onceLimit = 30 * time.Second

// once does something for all callers who want it at the same time. It does
// not end with the one that happened to come first.
func (k *Keyring) once(ctx context.Context, what string, do func(context.Context) (any, error)) (any, error) {
	flight := k.flights.DoChan(what, func() (_ any, err error) {
		defer private.RecoverLogged(&err, k.d.Log, "look for keys") // or it ends the node
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), onceLimit)
		defer cancel()
		return do(ctx)
	})
	select {
	case r := <-flight:
		return r.Val, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// holder names what memory holds of an address in an organization.
type holder struct {
	org     id.ID
	address string // normal form
}

// holding is what memory holds: entries as they were read, and what judging
// them came to. Entries are not changed once they are here.
type holding struct {
	at       time.Time
	changes  int64
	rows     []*row
	mu       sync.Mutex // held while judging, so that many callers judge once
	verdicts map[id.ID]verdict
	met      map[id.ID]*row // shared entries of the same key, as they were when last compared
	octets   int
}

const (
	heldOctets  = 64 << 20 // of all that is held, about
	emptyOctets = 1 << 10  // of an address, beside its entries
	rowOctets   = 4 << 10  // of an entry, beside its key
	parsed      = 4        // times its octets is what a key takes when it is read
)

// slim lets go of what was read, and counts what stays.
func (h *holding) slim() {
	h.octets = emptyOctets
	for _, r := range h.rows {
		r.named, r.data = nil, nil
		h.octets += rowOctets
		if r.m != nil {
			h.octets += parsed * r.m.size
		}
	}
}

// hold gives the entries of an address, from memory when nobody has changed
// anything and the last look is not long ago.
func (k *Keyring) hold(ctx context.Context, org id.ID, a mail.Address) (*holding, error) {
	changes, err := k.changes(ctx, org)
	if err != nil || changes == 0 {
		return &holding{}, err
	}
	now, name := k.d.Clock.Now(), holder{org, a.Normal()}
	if h, ok := k.held.get(name); ok && h.changes == changes && within(h.at, now, heldFor) {
		return h, nil
	}
	v, err := k.once(ctx, name.flight(), func(ctx context.Context) (any, error) {
		epoch := k.epoch.Load()
		rows, err := k.rows(ctx, org, a)
		if err != nil {
			return nil, err
		}
		h := &holding{at: now, changes: changes, rows: rows, verdicts: map[id.ID]verdict{}, met: map[id.ID]*row{}}
		h.slim()
		if k.epoch.Load() == epoch {
			k.held.put(name, h)
		}
		return h, nil
	})
	if err != nil {
		return nil, err
	}
	return v.(*holding), nil
}

func (h holder) flight() string { return "held " + h.org.Text(id.Org) + " " + h.address }

// forget makes the next caller look at the tables. Who began to look before
// the change neither serves that caller nor leaves what they saw in memory.
func (k *Keyring) forget(org id.ID, a mail.Address) {
	name := holder{org, a.Normal()}
	k.epoch.Add(1)
	k.flights.Forget(name.flight())
	k.flights.Forget("org " + org.Text(id.Org))
	k.held.drop(name)
	k.orgs.drop(org)
}
