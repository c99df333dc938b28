package identity

import (
	"context"
	"errors"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
)

// Thresholds are how many days ahead the end of a key is told of.
var Thresholds = []int{60, 30, 7}

const day = 24 * time.Hour

// WarnExpiring tells of active keys that end soon: once per threshold, and once
// only for those that were passed together. It is a periodic task.
func (s *Service) WarnExpiring(ctx context.Context) error {
	now := s.d.Clock.Now()
	type due struct {
		org, id id.ID
		expires time.Time
		warned  int
	}
	var all []due
	if err := s.d.DB.Read(ctx, db.System, func(tx *db.Tx) (err error) {
		all, err = db.All(tx, func(row db.Row) (d due, err error) {
			var us int64
			err = row.Scan(&d.org, &d.id, &us, &d.warned)
			d.expires = clock.FromMicros(us)
			return d, err
		}, "SELECT org_id, id, expires_at, warned FROM identity_keys WHERE state = 'active' AND expires_at > ? AND expires_at <= ? ORDER BY expires_at",
			clock.Micros(now), clock.Micros(now.Add(time.Duration(Thresholds[0])*day)))
		return err
	}); err != nil {
		return err
	}
	var failed error
	for _, d := range all {
		t := Threshold(d.expires.Sub(now))
		if d.warned != 0 && d.warned <= t {
			continue
		}
		if err := s.warn(ctx, d.org, d.id, t, now); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// Threshold is the least one that is passed when so much time is left.
func Threshold(left time.Duration) int {
	least := Thresholds[0]
	for _, t := range Thresholds {
		if left <= time.Duration(t)*day {
			least = t
		}
	}
	return least
}

// warn tells of one key, unless another node has done so meanwhile.
func (s *Service) warn(ctx context.Context, org, idn id.ID, threshold int, now time.Time) error {
	told, left := false, 0
	err := s.d.DB.WriteAlone(ctx, org, func(tx *db.Tx) error {
		told = false
		n, err := tx.Exec(`UPDATE identity_keys SET warned = ? WHERE id = ? AND org_id = ? AND state = 'active' AND (warned = 0 OR warned > ?)`,
			threshold, idn, org, threshold)
		if err != nil || n == 0 {
			return err
		}
		r, err := s.load(tx, idn)
		if err != nil {
			return err
		}
		told, left = true, DaysLeft(r.ExpiresAt, now)
		return ledger.Append(tx, r.fact(ledger.IdentityExpiring, now, keyFact{Days: threshold}))
	})
	if errors.Is(err, custody.ErrDestroyed) {
		return nil // nobody needs the key of a destroyed organization
	}
	if err == nil && told {
		s.d.Log.Warn("an own key expires soon: \"sealpost identity list\" shows it", "org", org.Text(id.Org), "identity", idn.Text(id.Identity), "days", left)
	}
	return err
}

// DaysLeft is how many days there are until a key ends, of which the last has
// begun: 1 on the last day, 0 or less when it has ended.
func DaysLeft(expires, now time.Time) int {
	left := expires.Sub(now)
	days := int(left / day)
	if left > 0 && left%day > 0 {
		days++
	}
	return days
}

// Ending counts the installation's active keys by how soon they end.
type Ending struct {
	Within map[int]int // of the Thresholds, each without those of the lesser ones
	Ended  int
}

// CountEnding counts for a gauge.
func CountEnding(tx *db.Tx, now time.Time) (Ending, error) {
	e := Ending{Within: map[int]int{}}
	for _, t := range Thresholds {
		e.Within[t] = 0
	}
	ends, err := db.All(tx, db.Value[int64], "SELECT expires_at FROM identity_keys WHERE state = 'active' AND expires_at <= ?",
		clock.Micros(now.Add(time.Duration(Thresholds[0])*day)))
	for _, us := range ends {
		if left := clock.FromMicros(us).Sub(now); left <= 0 {
			e.Ended++
		} else {
			e.Within[Threshold(left)]++
		}
	}
	return e, err
}
