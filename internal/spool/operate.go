package spool

import (
	"database/sql"
	"errors"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/policy"
)

// busy is the answer to an act on a delivery that is not in the right state:
// it is being sent this moment, or settled.
func busy(doing string) error {
	return fault.Newf(fault.Conflict, "wrong_state",
		"The delivery cannot be %s in its present state. Look at it again: it may be on its way or settled.", doing)
}

// Hold stops a delivery that is not being sent until somebody releases it.
func Hold(tx *db.Tx, delivery id.ID, by string, at time.Time) error {
	n, err := tx.Exec(`UPDATE spool_unsettled SET state = 'held', owner = NULL
		WHERE org_id = ? AND delivery_id = ? AND state IN ('ready', 'scheduled', 'deferred')`, tx.Org(), delivery)
	if err != nil {
		return err
	}
	if n == 0 {
		return busy("held")
	}
	return act(tx, delivery, ledger.DeliveryHeld, ReasonOperator, by, at)
}

// ReleaseHeld lets a held delivery go, at its message's send_at if that is
// still ahead. It decides again before the attempt, within its plan; without a
// seal in the plan it stays held.
func ReleaseHeld(tx *db.Tx, delivery id.ID, by string, at time.Time) error {
	d, err := LoadDelivery(tx, nil, delivery)
	if err != nil {
		return err
	}
	if d.State != Held {
		return busy("released")
	}
	if len(d.Plan.Seals) == 0 {
		return fault.New(fault.Conflict, "no_seal_left",
			"The policy leaves this delivery no way to be sealed, so it cannot be released. Cancel it, or change the policy and send the message again.")
	}
	var sendAt int64
	if err := tx.Row("SELECT send_at FROM spool_messages WHERE org_id = ? AND id = ?", tx.Org(), d.Message).Scan(&sendAt); err != nil {
		return err
	}
	state, due := Ready, clock.Micros(at)
	if sendAt > due {
		state, due = Scheduled, sendAt
	}
	n, err := tx.Exec("UPDATE spool_unsettled SET state = ?, next_at = ? WHERE org_id = ? AND delivery_id = ? AND state = 'held'",
		string(state), due, tx.Org(), delivery)
	if err != nil {
		return err
	}
	if n == 0 { // somebody was faster
		return busy("released")
	}
	plan := d.Plan
	plan.Released, plan.Hold = true, "" // a rule that is there by now holds it no more either
	if err := replan(tx, delivery, plan); err != nil {
		return err
	}
	return act(tx, delivery, ledger.DeliveryReleased, ReasonOperator, by, at)
}

// Retry makes a deferred or scheduled delivery due now.
func Retry(tx *db.Tx, delivery id.ID, by string, at time.Time) error {
	n, err := tx.Exec(`UPDATE spool_unsettled SET next_at = ? WHERE org_id = ? AND delivery_id = ?
		AND state IN ('deferred', 'scheduled')`, clock.Micros(at), tx.Org(), delivery)
	if err != nil {
		return err
	}
	if n == 0 {
		return busy("retried")
	}
	return act(tx, delivery, ledger.DeliveryRetried, ReasonOperator, by, at)
}

// Cancel ends a delivery that is not being sent, and takes back one that
// waits to be read. It reports whether anything changed.
func Cancel(tx *db.Tx, delivery id.ID, reason, by string, at time.Time) (bool, error) {
	n, err := tx.Exec(`DELETE FROM spool_unsettled WHERE org_id = ? AND delivery_id = ?
		AND state IN ('held', 'scheduled', 'ready', 'deferred')`, tx.Org(), delivery)
	if err != nil {
		return false, err
	}
	only := "settled = 'waiting'"
	if n == 1 {
		only = "settled IS NULL"
	}
	n, err = tx.Exec("UPDATE spool_deliveries SET settled = 'canceled', settled_at = ?, reason = ? WHERE org_id = ? AND id = ? AND "+only,
		clock.Micros(at), reason, tx.Org(), delivery)
	if err != nil || n == 0 {
		return false, err
	}
	return true, act(tx, delivery, ledger.DeliveryCanceled, reason, by, at)
}

// CancelMessage cancels every delivery to a recipient that can still be, and
// gives their number. The copy for the archive goes on its way: who could call
// it back could keep from the archive what the recipients get.
func CancelMessage(tx *db.Tx, message id.ID, reason, by string, at time.Time) (int, error) {
	ids, err := db.All(tx, db.Value[id.ID], "SELECT id FROM spool_deliveries WHERE org_id = ? AND message_id = ? AND journal = 0 ORDER BY id", tx.Org(), message)
	if err != nil {
		return 0, err
	}
	if len(ids) == 0 {
		return 0, ErrNoMessage
	}
	canceled := 0
	for _, d := range ids {
		ok, err := Cancel(tx, d, reason, by, at)
		if err != nil {
			return 0, err
		}
		if ok {
			canceled++
		}
	}
	return canceled, nil
}

func act(tx *db.Tx, delivery id.ID, t ledger.Type, reason, by string, at time.Time) error {
	message, err := MessageOf(tx, delivery)
	if err != nil {
		return err
	}
	return ledger.Append(tx, ledger.Fact{Type: t, Message: message, Delivery: delivery, At: at, Data: stateFact{Reason: reason, By: by}})
}

// Queued is an unsettled delivery as an operator sees it: no addresses.
type Queued struct {
	Delivery, Org, Message id.ID
	Domain                 string
	State                  State
	Lane                   Lane
	Seal                   policy.Seal
	Reason                 string
	Attempts               int
	NextAt                 time.Time
	CreatedAt              time.Time
}

// QueueFilter narrows a queue listing; zero values match everything.
type QueueFilter struct {
	State  State
	Domain string
	Stream Stream
	After  id.ID // deliveries after this one, in order of acceptance
	Limit  int
}

// Queue lists unsettled deliveries of the organization; of all organizations
// when the transaction is the system's.
func Queue(tx *db.Tx, f QueueFilter) ([]Queued, error) {
	query := `SELECT u.delivery_id, u.org_id, u.message_id, u.domain, u.state, u.lane, u.next_at, d.seal, d.reason, d.attempts, d.created_at
		FROM spool_unsettled u JOIN spool_deliveries d ON d.id = u.delivery_id WHERE u.delivery_id > ?`
	args := []any{f.After}
	if tx.Org() != db.System {
		query, args = query+" AND u.org_id = ?", append(args, tx.Org())
	}
	if f.State != "" {
		query, args = query+" AND u.state = ?", append(args, string(f.State))
	}
	if f.Domain != "" {
		query, args = query+" AND u.domain = ?", append(args, f.Domain)
	}
	switch first := LaneOf(Bulk, 0); f.Stream {
	case Transactional:
		query, args = query+" AND u.lane < ?", append(args, int64(first))
	case Bulk:
		query, args = query+" AND u.lane >= ?", append(args, int64(first))
	}
	return db.All(tx, scanQueued, query+" ORDER BY u.delivery_id LIMIT ?", append(args, f.Limit)...)
}

func scanQueued(row db.Row) (q Queued, err error) {
	var state, seal string
	var next, created int64
	err = row.Scan(&q.Delivery, &q.Org, &q.Message, &q.Domain, &state, &q.Lane, &next, &seal, &q.Reason, &q.Attempts, &created)
	q.State, q.Seal = State(state), policy.Seal(seal)
	q.NextAt, q.CreatedAt = clock.FromMicros(next), clock.FromMicros(created)
	return q, err
}

// Depth counts unsettled deliveries by state, across organizations.
func Depth(tx *db.Tx) (map[State]int, error) {
	rows, err := tx.Query("SELECT state, count(*) FROM spool_unsettled GROUP BY state")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[State]int{}
	for rows.Next() {
		var s string
		var n int
		if err := rows.Scan(&s, &n); err != nil {
			return nil, err
		}
		all[State(s)] = n
	}
	return all, rows.Err()
}

// OrgOfDelivery finds whose a delivery is. It is a door without an
// organization, for commands on the machine itself.
func OrgOfDelivery(tx *db.Tx, delivery id.ID) (org id.ID, err error) {
	err = tx.Row("SELECT org_id FROM spool_deliveries WHERE id = ?", delivery).Scan(&org)
	if errors.Is(err, sql.ErrNoRows) {
		return org, ErrNoDelivery
	}
	return org, err
}
