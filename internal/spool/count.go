package spool

import "github.com/sealpost/sealpost/internal/db"

// Count tells how much the organization has: messages, deliveries, and those
// of them that are not settled.
func Count(tx *db.Tx) (messages, deliveries, unsettled int64, err error) {
	err = tx.Row(`SELECT (SELECT count(*) FROM spool_messages WHERE org_id = ?),
		(SELECT count(*) FROM spool_deliveries WHERE org_id = ?),
		(SELECT count(*) FROM spool_unsettled WHERE org_id = ?)`, tx.Org(), tx.Org(), tx.Org()).
		Scan(&messages, &deliveries, &unsettled)
	return messages, deliveries, unsettled, err
}
