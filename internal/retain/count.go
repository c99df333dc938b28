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
	var purged sql.NullInt64
	if err := tx.Row("SELECT min(purged_at) FROM retain_orgs WHERE purged_at > 0").Scan(&purged); err != nil || !purged.Valid {
		return at, err
	}
	return clock.FromMicros(purged.Int64), nil
}
