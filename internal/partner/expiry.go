package partner

import (
	"context"
	"errors"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/identity"
	"github.com/sealpost/sealpost/internal/ledger"
)

// WarnExpiring tells of certificates that are pinned, or that organizations
// show themselves with, and that end soon: once per threshold. It is a periodic
// task.
func (s *Service) WarnExpiring(ctx context.Context) error {
	now := s.d.Clock.Now()
	type due struct {
		org    id.ID
		domain string
		ends   time.Time
		warned int
	}
	var all []due
	if err := s.d.DB.Read(ctx, db.System, func(tx *db.Tx) (err error) {
		all, err = db.All(tx, func(row db.Row) (d due, err error) {
			var us int64
			err = row.Scan(&d.org, &d.domain, &us, &d.warned)
			d.ends = clock.FromMicros(us)
			return d, err
		}, "SELECT org_id, domain, ends_at, warned FROM partner_domains WHERE ends_at > ? AND ends_at <= ? ORDER BY ends_at",
			clock.Micros(now), clock.Micros(now.AddDate(0, 0, identity.Thresholds[0])))
		return err
	}); err != nil {
		return err
	}
	var failed error
	for _, d := range all {
		t := identity.Threshold(d.ends.Sub(now))
		if d.warned != 0 && d.warned <= t {
			continue
		}
		failed = errors.Join(failed, s.warn(ctx, d.org, d.domain, t, now))
	}
	return failed
}

// warn tells of one arrangement, unless another node has done so meanwhile.
func (s *Service) warn(ctx context.Context, org id.ID, domain string, threshold int, now time.Time) error {
	told := false
	err := s.d.DB.WriteAlone(ctx, org, func(tx *db.Tx) error {
		told = false
		n, err := tx.Exec("UPDATE partner_domains SET warned = ? WHERE org_id = ? AND domain = ? AND (warned = 0 OR warned > ?)",
			threshold, org, domain, threshold)
		if err != nil || n == 0 {
			return err
		}
		r, err := s.load(tx, domain)
		if err != nil {
			return err
		}
		told = true
		return ledger.Append(tx, r.fact(ledger.PartnerExpiring, now, threshold))
	})
	if errors.Is(err, custody.ErrDestroyed) {
		return nil // nobody sends for a destroyed organization
	}
	if err == nil && told {
		s.d.Log.Warn("a certificate arranged with a partner expires soon: \"sealpost partner show\" names it", "org", org.Text(id.Org), "domain", domain, "within_days", threshold)
	}
	return err
}
