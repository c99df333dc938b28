package inbound

import (
	"context"
	"sync"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/inbound/lookalike"
	"github.com/sealpost/sealpost/internal/mail"
)

// labelName labels HMACs of members' names. It is fixed for ever.
const labelName = "inbound.name.v1"

const (
	nameAgain  = 7 * 24 * time.Hour   // between writes of one name
	nameForget = 365 * 24 * time.Hour // after which a name that nobody writes under is forgotten
	namesMax   = 100_000              // in memory
)

// Names remember under which names members write, as HMACs that tell nobody
// what they are.
type Names struct {
	DB      *db.DB
	Custody *custody.Custody
	Clock   clock.Clock
	Routes  *Routes

	mu   sync.Mutex
	seen map[string]time.Time // by HMAC
}

// Saw remembers the names of senders whose domain has a route; of others
// nothing comes in.
func (n *Names) Saw(ctx context.Context, org id.ID, from []mail.Mailbox) error {
	for _, m := range from {
		key := lookalike.NameKey(m.Name.Reveal())
		if key == "" {
			continue
		}
		if _, routed, err := n.Routes.Of(ctx, m.Address.Domain()); err != nil || !routed {
			return err
		}
		if err := n.saw(ctx, org, key); err != nil {
			return err
		}
	}
	return nil
}

func (n *Names) saw(ctx context.Context, org id.ID, key string) error {
	mac, err := n.Custody.Index(org, labelName, key)
	if err != nil {
		return err
	}
	now := n.Clock.Now()
	n.mu.Lock()
	at, had := n.seen[string(mac)]
	n.mu.Unlock()
	if had && now.Sub(at) < nameAgain {
		return nil
	}
	if err := n.DB.Write(ctx, org, func(tx *db.Tx) error {
		_, err := tx.Exec(`INSERT INTO inbound_names (org_id, name_hmac, seen_at) VALUES (?, ?, ?)
			ON CONFLICT (org_id, name_hmac) DO UPDATE SET seen_at = excluded.seen_at`, org, mac, clock.Micros(now))
		return err
	}); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.seen == nil || len(n.seen) >= namesMax {
		n.seen = map[string]time.Time{}
	}
	n.seen[string(mac)] = now
	return nil
}

// Has reports whether a member writes under a name of this key.
func (n *Names) Has(ctx context.Context, org id.ID, key string) (bool, error) {
	mac, err := n.Custody.Index(org, labelName, key)
	if err != nil {
		return false, err
	}
	var found int
	err = n.DB.Read(ctx, org, func(tx *db.Tx) error {
		return tx.Row("SELECT count(*) FROM inbound_names WHERE org_id = ? AND name_hmac = ?", org, mac).Scan(&found)
	})
	return found > 0, err
}

// Tidy forgets names that were not seen for a year.
func (n *Names) Tidy(ctx context.Context) error {
	return n.DB.Sweep(ctx, "inbound_names", "org_id, name_hmac", "seen_at < ?", clock.Micros(n.Clock.Now().Add(-nameForget)))
}
