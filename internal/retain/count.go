package retain

import (
	"database/sql"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
)

// LastPurge tells when the organization was last purged whose last purge is
// longest ago; zero when none ever was.
func LastPurge(tx *db.Tx) (at time.Time, err error) {
	at, _, err = lastPurges(tx)
	return at, err
}

func lastPurges(tx *db.Tx) (oldest, newest time.Time, err error) {
	var least, most sql.NullInt64
	if err := tx.Row("SELECT min(purged_at), max(purged_at) FROM retain_orgs WHERE purged_at > 0").Scan(&least, &most); err != nil || !least.Valid {
		return oldest, newest, err
	}
	return clock.FromMicros(least.Int64), clock.FromMicros(most.Int64), nil
}
