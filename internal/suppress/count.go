package suppress

import (
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
)

// Count counts the addresses that nothing, or nothing bulk, is sent to, across
// organizations, by reason, for a gauge.
func Count(tx *db.Tx, now time.Time) (map[Reason]int, error) {
	n := map[Reason]int{HardBounce: 0, SoftBounces: 0, Complaint: 0, Manual: 0, Import: 0}
	_, err := db.All(tx, func(row db.Row) (struct{}, error) {
		var reason string
		var count int
		err := row.Scan(&reason, &count)
		n[Reason(reason)] = count
		return struct{}{}, err
	}, "SELECT reason, count(*) FROM suppress_entries WHERE scope <> 'none' AND (expires_at IS NULL OR expires_at > ?) GROUP BY reason", clock.Micros(now))
	return n, err
}
