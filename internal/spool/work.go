package spool

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"math"
	"slices"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

// Attempt is one try to hand a delivery or notice to a peer.
type Attempt struct {
	Number   int
	Seal     policy.Seal
	Result   string // delivered, temporary, permanent, unknown, weak
	Pool     string // source pool it left from, or empty
	Site     string // destination as pools count it, or empty when it was not known yet
	Host     string // the MX that answered, or empty
	Code     int    // SMTP reply code, or 0
	Enhanced string // enhanced status (RFC 3463), or empty
	Class    string // why a peer said no (see classify), or empty
	Hard     bool   // it said that there is no such mailbox; not recorded
	Reply    private.String
	Evidence *Evidence // nil when no host was reached
	Began    time.Time
}

// Evidence says how the transport of an attempt was proved. It stands in the
// ledger in clear and holds nothing private.
type Evidence struct {
	Grade           policy.Grade `json:"grade"`
	TLSVersion      string       `json:"tls_version,omitempty"`      // "TLS 1.3"
	Suite           string       `json:"suite,omitempty"`            // IANA name
	KeyExchange     string       `json:"key_exchange,omitempty"`     // "X25519MLKEM768", "P256"
	PeerFingerprint string       `json:"peer_fingerprint,omitempty"` // SHA-256 of the certificate, hex
	VerifiedBy      string       `json:"verified_by,omitempty"`
	VerifyError     string       `json:"verify_error,omitempty"`
	TLSA            string       `json:"tlsa,omitempty"`               // the record that proved the host, or "unusable" (RFC 7672)
	ClientCert      string       `json:"client_certificate,omitempty"` // SHA-256 of the one that the organization showed, hex
	MX              string       `json:"mx"`
	Addr            string       `json:"addr,omitempty"`
	STSPolicyID     string       `json:"sts_policy_id,omitempty"`
	RequireTLS      bool         `json:"require_tls,omitempty"` // sent under REQUIRETLS (RFC 8689)
	Wanted          policy.Grade `json:"wanted,omitzero"`       // of a transport that was too weak
	Weak            string       `json:"weak,omitempty"`        // why it was
}

// Results of attempts.
const (
	ResultDelivered = "delivered"
	ResultTemporary = "temporary"
	ResultPermanent = "permanent"
	ResultUnknown   = "unknown"
	ResultWeak      = "weak" // the transport proved weaker than the floor; nothing was sent
)

// attemptedFact is the clear part of delivery.attempted.
type attemptedFact struct {
	Number   int             `json:"number"`
	Seal     policy.Seal     `json:"seal,omitempty"`
	Result   string          `json:"result"`
	Reason   string          `json:"reason,omitempty"`
	Pool     string          `json:"pool,omitempty"`
	Site     string          `json:"site,omitempty"`
	Host     string          `json:"host,omitempty"`
	Code     int             `json:"code,omitempty"`
	Enhanced string          `json:"enhanced,omitempty"`
	Class    string          `json:"class,omitempty"`
	Micros   int64           `json:"duration_us,omitempty"`
	Evidence json.RawMessage `json:"evidence,omitempty"`
}

// attemptedPrivate is its sealed part: peers quote addresses in replies.
type attemptedPrivate struct {
	Reply string `json:"reply"`
}

// Sealing says how an attempt seals a delivery.
type Sealing struct {
	Seal       policy.Seal
	Weaker     *Evidence   // what the transport showed that the seal before it could not use, or nil
	Protection *Protection // by the recipient's key, or nil
	PassedOver []string    // why keys of the recipient could not be used: sentences without content
}

// Protection says how a delivery was sealed to a key of the recipient. It
// stands in the ledger in clear, but for the key, which names a person.
type Protection struct {
	Tier       policy.Tier    `json:"tier"`
	Source     string         `json:"source"`           // where the key came from
	Algorithms string         `json:"algorithms"`       // "X25519, AES-256, SEIPDv1"
	Signed     string         `json:"signed,omitempty"` // pgp or smime: the sender's signature is inside
	Key        private.String `json:"-"`                // fingerprint, or serial and issuer
}

// sealedFact is the clear part of delivery.sealed.
type sealedFact struct {
	Seal       policy.Seal  `json:"seal"`
	Floor      policy.Grade `json:"floor"`
	Rule       string       `json:"rule,omitempty"`
	Weaker     *Evidence    `json:"weaker,omitempty"` // the transport that was not enough for the seal before
	Protection *Protection  `json:"protection,omitempty"`
	PassedOver []string     `json:"passed_over,omitempty"`
}

// sealedPrivate is its sealed part.
type sealedPrivate struct {
	Key string `json:"key"`
}

// Outcome is how an attempt, or the decision not to make one, left a delivery.
type Outcome struct {
	State   State // deferred, held or a settled one
	Reason  string
	Grade   policy.Grade // of the transport that took it
	NextAt  time.Time    // when deferred
	At      time.Time
	Attempt *Attempt // nil when nothing was attempted

	PassedOver []string // why keys of the recipient could not be used, when held for want of one
}

// takeDue gives what a statement takes, in the order in which it is due:
// RETURNING keeps none.
func takeDue(tx *db.Tx, query string, args ...any) ([]Item, error) {
	type due struct {
		Item
		at int64
	}
	all, err := db.All(tx, func(row db.Row) (d due, err error) {
		err = row.Scan(&d.ID, &d.Org, &d.Message, &d.Lane, &d.Domain, &d.at)
		return d, err
	}, query, args...)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b due) int { return cmp.Or(cmp.Compare(a.at, b.at), bytes.Compare(a.ID[:], b.ID[:])) })
	items := make([]Item, len(all))
	for i, d := range all {
		items[i] = d.Item
	}
	return items, nil
}

// itemsOf gives the deliveries and the notices that a run holds in a state, up
// to limit of each.
func itemsOf(tx *db.Tx, run id.ID, state State, limit int) ([]Item, error) {
	scan := func(notice bool) func(db.Row) (Item, error) {
		return func(row db.Row) (Item, error) {
			it := Item{Notice: notice}
			err := row.Scan(&it.ID, &it.Org, &it.Message, &it.Lane, &it.Domain)
			return it, err
		}
	}
	items, err := db.All(tx, scan(false), `SELECT delivery_id, org_id, message_id, lane, domain FROM spool_unsettled
		WHERE owner = ? AND state = ? LIMIT ?`, run, string(state), limit)
	if err != nil {
		return nil, err
	}
	notices, err := db.All(tx, scan(true), `SELECT id, org_id, message_id, 0, domain FROM spool_notices
		WHERE owner = ? AND state = ? LIMIT ?`, run, string(state), limit)
	return append(items, notices...), err
}

// Release gives ready deliveries that a run will not attempt back to whoever
// takes them next.
func Release(tx *db.Tx, run id.ID) error {
	if _, err := tx.Exec("UPDATE spool_unsettled SET owner = NULL WHERE owner = ? AND state = 'ready'", run); err != nil {
		return err
	}
	_, err := tx.Exec("UPDATE spool_notices SET owner = NULL WHERE owner = ? AND state = 'ready'", run)
	return err
}

// held fences the row of one item, which its key finds, by the run that owns it.
// PostgreSQL has no index for IS NOT DISTINCT FROM: that of owners looks as good
// as the key if nothing was owned when its statistics were made, and reads all
// that the run owns.
const held = "owner IS NOT DISTINCT FROM ?"

// GiveBack lets go of one item that its run will not attempt now, or began and
// sent nothing of: whoever takes it next may.
func GiveBack(tx *db.Tx, it Item, run id.ID) error {
	query := `UPDATE spool_unsettled SET state = 'ready', owner = NULL
		WHERE org_id = ? AND delivery_id = ? AND ` + held + ` AND state IN ('ready', 'sending')`
	if it.Notice {
		query = `UPDATE spool_notices SET state = 'ready', owner = NULL
			WHERE org_id = ? AND id = ? AND ` + held + ` AND state IN ('ready', 'sending')`
	}
	_, err := tx.Exec(query, tx.Org(), it.ID, run)
	return err
}

// Owners lists the runs that own anything, across organizations.
func Owners(tx *db.Tx) ([]id.ID, error) {
	return db.All(tx, db.Value[id.ID], `SELECT owner FROM spool_unsettled WHERE owner IS NOT NULL
		UNION SELECT owner FROM spool_notices WHERE owner IS NOT NULL`)
}

// Owned lists what a run owns and has not begun.
func Owned(tx *db.Tx, run id.ID) ([]Item, error) {
	return itemsOf(tx, run, Ready, math.MaxInt32)
}

// Abandoned lists what a dead run was sending: the outcome of those attempts
// is unknown.
func Abandoned(tx *db.Tx, run id.ID, limit int) ([]Item, error) {
	return itemsOf(tx, run, Sending, limit)
}

// Start begins an attempt: no row, no attempt. It records which seal was
// applied and how. key is the message's: it seals which key of the recipient
// was used, and may be nil where none was.
func Start(tx *db.Tx, it Item, run id.ID, plan policy.Plan, s Sealing, key *custody.DataKey, at time.Time) (bool, error) {
	n, err := tx.Exec("UPDATE spool_unsettled SET state = 'sending' WHERE org_id = ? AND delivery_id = ? AND state = 'ready' AND "+held, tx.Org(), it.ID, run)
	if err != nil || n == 0 {
		return false, err
	}
	if _, err := tx.Exec("UPDATE spool_deliveries SET seal = ?, final = 1 WHERE org_id = ? AND id = ?", string(s.Seal), tx.Org(), it.ID); err != nil {
		return false, err
	}
	floor := plan.Floor
	if s.Seal != policy.TLS {
		floor = plan.NoticeFloor
	}
	f := ledger.Fact{Type: ledger.DeliverySealed, Message: it.Message, Delivery: it.ID, At: at,
		Data: sealedFact{s.Seal, floor, plan.Rule, s.Weaker, s.Protection, s.PassedOver}}
	if s.Protection != nil && key != nil {
		f.Key, f.Private = key, sealedPrivate{s.Protection.Key.Reveal()}
	}
	return true, ledger.Append(tx, f)
}

// Finish records an outcome, if the run still holds the delivery. key seals
// the peer's reply; it may be nil when there is none.
func Finish(tx *db.Tx, it Item, run id.ID, key *custody.DataKey, o Outcome) (bool, error) {
	var n int64
	var err error
	if !o.State.Settled() { // deferred, or held by a rule that is new
		next := o.NextAt
		if next.IsZero() {
			next = o.At
		}
		n, err = tx.Exec(`UPDATE spool_unsettled SET state = ?, owner = NULL, next_at = ?
			WHERE org_id = ? AND delivery_id = ? AND `+held+` AND state IN ('ready', 'sending')`,
			string(o.State), clock.Micros(next), tx.Org(), it.ID, run)
	} else {
		n, err = tx.Exec("DELETE FROM spool_unsettled WHERE org_id = ? AND delivery_id = ? AND "+held+" AND state IN ('ready', 'sending')", tx.Org(), it.ID, run)
	}
	if err != nil || n == 0 {
		return false, err
	}
	if err := finishRecord(tx, it, o); err != nil {
		return false, err
	}
	if o.Attempt != nil {
		if err := appendAttempt(tx, it, key, o); err != nil {
			return false, err
		}
	}
	fact := stateFact{Domain: it.Domain, Reason: o.Reason, PassedOver: o.PassedOver}
	if o.Attempt != nil {
		fact.Seal = o.Attempt.Seal
	}
	return true, ledger.Append(tx, ledger.Fact{Type: ledger.Type("delivery." + string(o.State)), Message: it.Message, Delivery: it.ID, At: o.At, Data: fact})
}

func finishRecord(tx *db.Tx, it Item, o Outcome) error {
	tried := 0
	if o.Attempt != nil {
		tried = 1
	}
	var settled, settledAt any
	if o.State.Settled() {
		settled, settledAt = string(o.State), clock.Micros(o.At)
	}
	_, err := tx.Exec(`UPDATE spool_deliveries SET settled = ?, settled_at = ?, grade = ?, reason = ?, attempts = attempts + ?
		WHERE org_id = ? AND id = ?`, settled, settledAt, o.Grade.Word(), o.Reason, tried, tx.Org(), it.ID)
	return err
}

// evidenceOf writes out what a transport proved: the ledger takes no values
// whose fields are not known beforehand.
func evidenceOf(a *Attempt) (json.RawMessage, error) {
	if a.Evidence == nil {
		return nil, nil
	}
	return json.Marshal(a.Evidence)
}

func appendAttempt(tx *db.Tx, it Item, key *custody.DataKey, o Outcome) error {
	a := o.Attempt
	evidence, err := evidenceOf(a)
	if err != nil {
		return err
	}
	f := ledger.Fact{Type: ledger.DeliveryAttempted, Message: it.Message, Delivery: it.ID, At: o.At, Data: attemptedFact{
		Number: a.Number, Seal: a.Seal, Result: a.Result, Reason: o.Reason, Pool: a.Pool, Site: a.Site, Host: a.Host, Code: a.Code,
		Enhanced: a.Enhanced, Class: a.Class, Micros: o.At.Sub(a.Began).Microseconds(), Evidence: evidence,
	}}
	if key != nil && !a.Reply.Empty() {
		f.Key, f.Private = key, attemptedPrivate{a.Reply.Reveal()}
	}
	return ledger.Append(tx, f)
}

// TakeOver records that the outcome of a dead run's attempt is unknown and
// makes the delivery or notice ready for anybody.
func TakeOver(ctx context.Context, d *db.DB, it Item, dead id.ID, at time.Time) error {
	return d.Write(ctx, it.Org, func(tx *db.Tx) error {
		if it.Notice {
			_, err := tx.Exec(`UPDATE spool_notices SET state = 'ready', owner = NULL, attempts = attempts + 1
				WHERE org_id = ? AND id = ? AND `+held+` AND state = 'sending'`, tx.Org(), it.ID, dead)
			return err
		}
		n, err := tx.Exec(`UPDATE spool_unsettled SET state = 'ready', owner = NULL
			WHERE org_id = ? AND delivery_id = ? AND `+held+` AND state = 'sending'`, tx.Org(), it.ID, dead)
		if err != nil || n == 0 {
			return err
		}
		if _, err := tx.Exec("UPDATE spool_deliveries SET attempts = attempts + 1, reason = ? WHERE org_id = ? AND id = ?", ReasonUnknown, tx.Org(), it.ID); err != nil {
			return err
		}
		var number int
		if err := tx.Row("SELECT attempts FROM spool_deliveries WHERE org_id = ? AND id = ?", tx.Org(), it.ID).Scan(&number); err != nil {
			return err
		}
		return ledger.Append(tx, ledger.Fact{Type: ledger.DeliveryAttempted, Message: it.Message, Delivery: it.ID, At: at,
			Data: attemptedFact{Number: number, Result: ResultUnknown, Reason: "node_died"}})
	})
}

// MarkRead moves a waiting delivery to read; it does nothing to others.
func MarkRead(tx *db.Tx, message, delivery id.ID, at time.Time) error {
	return leaveWaiting(tx, message, delivery, Read, "", at)
}

// ExpireWaiting moves a waiting delivery that nobody read in time to expired.
func ExpireWaiting(tx *db.Tx, message, delivery id.ID, at time.Time) error {
	return leaveWaiting(tx, message, delivery, Expired, ReasonLinkExpired, at)
}

func leaveWaiting(tx *db.Tx, message, delivery id.ID, to State, reason string, at time.Time) error {
	n, err := tx.Exec("UPDATE spool_deliveries SET settled = ?, settled_at = ?, reason = ? WHERE org_id = ? AND id = ? AND settled = 'waiting'",
		string(to), clock.Micros(at), reason, tx.Org(), delivery)
	if err != nil || n == 0 {
		return err
	}
	return ledger.Append(tx, ledger.Fact{Type: ledger.Type("delivery." + string(to)), Message: message, Delivery: delivery, At: at,
		Data: stateFact{Reason: reason, Seal: policy.Portal}})
}

// replan writes a plan that a release has changed.
func replan(tx *db.Tx, delivery id.ID, plan policy.Plan) error {
	text, err := json.Marshal(plan)
	if err != nil {
		return err
	}
	_, err = tx.Exec("UPDATE spool_deliveries SET plan = ? WHERE org_id = ? AND id = ?", string(text), tx.Org(), delivery)
	return err
}
