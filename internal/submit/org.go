package submit

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
)

// orgFacts are the local facts of one organization. They are read anew after
// a second, so a change of policy or domains takes effect within it.
type orgFacts struct {
	policy        policy.Document
	policyVersion int64
	domains       map[string]bool
	journal       mail.Address // of the archive, or zero
	destroyed     bool
	maxSize       int64
	maxRecipients int
	until         time.Time
	limiter       *rate.Limiter
}

const trustFor = time.Second

// allow takes one message from the organization's rate.
func (o *orgFacts) allow(now time.Time) bool { return o.limiter.AllowN(now, 1) }

type orgCache struct {
	mu   sync.Mutex
	rows map[id.ID]*orgFacts
}

func (c *orgCache) get(ctx context.Context, d *Door, org id.ID) (*orgFacts, error) {
	now := d.Clock.Now()
	c.mu.Lock()
	had := c.rows[org]
	c.mu.Unlock()
	if had != nil && now.Before(had.until) {
		return had, nil
	}
	facts, err := d.readOrg(ctx, org, had)
	if err != nil {
		return nil, err
	}
	facts.until = now.Add(trustFor)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rows == nil {
		c.rows = map[id.ID]*orgFacts{}
	}
	c.rows[org] = facts
	return facts, nil
}

// readOrg reads an organization's facts; a policy version that was read
// before is not parsed again.
func (d *Door) readOrg(ctx context.Context, org id.ID, had *orgFacts) (*orgFacts, error) {
	o, err := d.Accounts.Org(ctx, org)
	if err != nil {
		return nil, err
	}
	facts := &orgFacts{domains: map[string]bool{}, destroyed: !o.DestroyedAt.IsZero(), limiter: d.limiter(o, had),
		maxSize: d.MaxSize, maxRecipients: d.MaxRecipients}
	if n := int64(o.Limits.MessageSize); n > 0 {
		facts.maxSize = min(facts.maxSize, n)
	}
	if n := o.Limits.Recipients; n > 0 {
		facts.maxRecipients = min(facts.maxRecipients, n)
	}
	domains, err := d.Accounts.Domains(ctx, org)
	if err != nil {
		return nil, err
	}
	for _, dm := range domains {
		facts.domains[dm.Name] = !dm.VerifiedAt.IsZero()
	}
	if facts.destroyed {
		return facts, nil
	}
	if d.Journal != nil {
		if facts.journal, err = d.Journal(ctx, org); err != nil {
			return nil, err
		}
	}
	facts.policy, facts.policyVersion, err = d.readPolicy(ctx, org, had)
	return facts, err
}

// PolicyOf gives the organization's policy of the last second and its version;
// version 0 is the default.
func (d *Door) PolicyOf(ctx context.Context, org id.ID) (policy.Document, int64, error) {
	facts, err := d.orgs.get(ctx, d, org)
	if err != nil {
		return policy.Document{}, 0, err
	}
	return facts.policy, facts.policyVersion, nil
}

func (d *Door) readPolicy(ctx context.Context, org id.ID, had *orgFacts) (doc policy.Document, version int64, err error) {
	err = d.DB.Read(ctx, org, func(tx *db.Tx) error {
		if version, err = account.PolicyVersion(tx); err != nil {
			return err
		}
		if version == 0 {
			doc = policy.Default()
			return nil
		}
		if had != nil && had.policyVersion == version {
			doc = had.policy
			return nil
		}
		text, err := account.PolicyDocument(tx, d.Custody, version)
		if err != nil {
			return err
		}
		doc, err = policy.Parse(text)
		return err
	})
	return doc, version, err
}

// limiter keeps the running limiter while the limit stays the same.
func (d *Door) limiter(o account.Org, had *orgFacts) *rate.Limiter {
	perMinute := o.Limits.MessagesPerMinute
	if perMinute == 0 {
		perMinute = d.MessagesPerMinute
	}
	limit, burst := rate.Inf, 0
	if perMinute > 0 {
		limit, burst = rate.Limit(float64(perMinute)/60), perMinute
	}
	if had != nil && had.limiter.Limit() == limit {
		return had.limiter
	}
	return rate.NewLimiter(limit, burst)
}
