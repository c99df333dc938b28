package pickup

import (
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
)

// LinkLives reports whether a delivery of the organization has a link that a
// recipient can still use.
func LinkLives(tx *db.Tx, delivery id.ID, now time.Time) (bool, error) {
	var n int
	err := tx.Row("SELECT count(*) FROM pickup_links WHERE org_id = ? AND delivery_id = ? AND revoked_at IS NULL AND expires_at > ?",
		tx.Org(), delivery, clock.Micros(now)).Scan(&n)
	return n > 0, err
}

// ForgetDelivery deletes what the portal keeps of a delivery. Only retain calls
// it, with the record itself.
func ForgetDelivery(tx *db.Tx, delivery id.ID) error {
	for _, table := range []string{"pickup_codes", "pickup_links"} {
		if _, err := tx.Exec("DELETE FROM "+table+" WHERE delivery_id = ? AND org_id = ?", delivery, tx.Org()); err != nil {
			return err
		}
	}
	return nil
}
