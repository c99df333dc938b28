package submit

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/spool"
)

const (
	labelAnswer  = "submit.answer.v1"
	indexKey     = "submit.key.v1"
	indexRequest = "submit.request.v1"
)

// errAnswered says that another request of the same key was faster.
var errAnswered = errors.New("the idempotency key is taken")

// answer is the row that makes a repeated request harmless.
type answer struct {
	org, client, message, key id.ID
	keyMAC, requestMAC        []byte
	sealed                    []byte
	at                        time.Time
}

type wireForecast struct {
	Delivery  id.ID        `json:"d"`
	Recipient string       `json:"r"`
	Seal      policy.Seal  `json:"s"`
	Grade     policy.Grade `json:"g"`
	Rule      string       `json:"u"`
	Reason    string       `json:"w"`
	Reasons   []string     `json:"ws"`
	State     spool.State  `json:"st"`
}

func (d *Door) macs(draft Draft) (key, request []byte, err error) {
	if key, err = d.Custody.Index(draft.Principal.Org, indexKey, draft.IdempotencyKey.Reveal()); err != nil {
		return nil, nil, err
	}
	request, err = d.Custody.Index(draft.Principal.Org, indexRequest, hex.EncodeToString(draft.RequestHash))
	return key, request, err
}

func (d *Door) sealAnswer(draft Draft, p *prepared, r Receipt) (*answer, error) {
	if draft.IdempotencyKey.Empty() {
		return nil, nil
	}
	keyMAC, requestMAC, err := d.macs(draft)
	if err != nil {
		return nil, err
	}
	wire := make([]wireForecast, 0, len(r.Deliveries))
	for _, f := range r.Deliveries {
		wire = append(wire, wireForecast{f.Delivery, f.Recipient.Reveal(), f.Seal, f.Grade, f.Rule, f.Reason, f.Reasons, f.State})
	}
	text, err := json.Marshal(wire)
	if err != nil {
		return nil, err
	}
	m := p.message
	return &answer{m.Org, m.Client, m.ID, m.Key.ID, keyMAC, requestMAC, m.Key.Seal(labelAnswer, m.ID, text), m.CreatedAt}, nil
}

// insert takes the key, also from an answer older than stale.
func (a *answer) insert(tx *db.Tx, stale time.Time) error {
	n, err := tx.Exec(`INSERT INTO submit_answers (org_id, client_id, key_hmac, body_hmac, message_id, key_id, sealed, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (org_id, client_id, key_hmac) DO UPDATE SET
		body_hmac = excluded.body_hmac, message_id = excluded.message_id, key_id = excluded.key_id,
		sealed = excluded.sealed, created_at = excluded.created_at WHERE submit_answers.created_at <= ?`,
		a.org, a.client, a.keyMAC, a.requestMAC, a.message, a.key, a.sealed, clock.Micros(a.at), clock.Micros(stale))
	if err == nil && n == 0 {
		return errAnswered
	}
	return err
}

// answered looks for the answer to an earlier request of the same key.
func (d *Door) answered(ctx context.Context, draft Draft) (r Receipt, found bool, err error) {
	keyMAC, requestMAC, err := d.macs(draft)
	if err != nil {
		return r, false, err
	}
	stale := clock.Micros(d.Clock.Now().Add(-d.IdempotencyTTL))
	err = d.DB.Read(ctx, draft.Principal.Org, func(tx *db.Tx) error {
		var keyID id.ID
		var mac, sealed []byte
		err := tx.Row(`SELECT body_hmac, message_id, key_id, sealed FROM submit_answers
			WHERE org_id = ? AND client_id = ? AND key_hmac = ? AND created_at > ?`,
			draft.Principal.Org, draft.Principal.Client, keyMAC, stale).Scan(&mac, &r.Message, &keyID, &sealed)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		if string(mac) != string(requestMAC) {
			return fault.New(fault.Conflict, "idempotency_conflict",
				"This Idempotency-Key was used for another request. Use a new key for a new message.")
		}
		found = true
		key, err := d.Custody.DataKey(tx, keyID)
		if err != nil {
			return err
		}
		text, err := key.Open(labelAnswer, r.Message, sealed)
		if err != nil {
			return err
		}
		r.Deliveries, err = parseAnswer(text)
		r.Repeated = true
		return err
	})
	return r, found, err
}

func parseAnswer(text []byte) ([]Forecast, error) {
	var wire []wireForecast
	if err := json.Unmarshal(text, &wire); err != nil {
		return nil, errors.New("stored answer does not parse")
	}
	var all []Forecast
	for _, w := range wire {
		to, err := mail.ParseAddress(w.Recipient)
		if err != nil {
			return nil, errors.New("stored answer does not parse")
		}
		all = append(all, Forecast{Delivery: w.Delivery, Recipient: to, Seal: w.Seal, Grade: w.Grade, Rule: w.Rule,
			Reason: w.Reason, Reasons: w.Reasons, State: w.State})
	}
	return all, nil
}

// The index is in its order.
const oldAnswers = `SELECT org_id, client_id, key_hmac FROM submit_answers WHERE org_id = ? AND created_at <= ? ORDER BY created_at LIMIT ?`

// ForgetAnswers deletes some answers of the transaction's organization that
// were made before a time, the oldest first. Only retain calls it, which knows
// what must be kept.
func ForgetAnswers(tx *db.Tx, before time.Time, most int) (n int64, err error) {
	return tx.Exec("DELETE FROM submit_answers WHERE (org_id, client_id, key_hmac) IN ("+oldAnswers+")", tx.Org(), clock.Micros(before), most)
}
