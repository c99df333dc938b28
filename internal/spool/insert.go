package spool

import (
	"encoding/json"
	"fmt"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/policy"
)

// acceptedFact is the clear part of message.accepted.
type acceptedFact struct {
	Source        string         `json:"source"`
	Client        string         `json:"client,omitempty"`
	Purpose       policy.Purpose `json:"purpose"`
	Size          int64          `json:"size"`
	Recipients    int            `json:"recipients"`
	Journal       string         `json:"journal,omitempty"` // the delivery to the archive, which is no recipient
	PolicyVersion int64          `json:"policy_version"`
	DataKey       string         `json:"data_key"`
	BodySHA256    string         `json:"body_ciphertext_sha256,omitempty"`
}

// stateFact is the clear part of delivery.<state> where nothing was attempted.
type stateFact struct {
	Domain string      `json:"domain,omitempty"`
	Seal   policy.Seal `json:"seal,omitempty"`
	Reason string      `json:"reason,omitempty"`
	Rule   string      `json:"rule,omitempty"`
	By     string      `json:"by,omitempty"`

	PassedOver []string `json:"passed_over,omitempty"` // why keys of the recipient could not be used
}

// wireEnvelope and wireDetails are how sealed columns are written.
type wireEnvelope struct {
	Sender     string `json:"s,omitempty"`
	RequireTLS bool   `json:"r,omitempty"`
	EightBit   bool   `json:"8,omitempty"`
	UTF8       bool   `json:"u,omitempty"`
	Proved     bool   `json:"p,omitempty"`
}

type wireDetails struct {
	From     string      `json:"f,omitempty"`
	Subject  string      `json:"s,omitempty"`
	Tags     []string    `json:"t,omitempty"`
	Metadata [][2]string `json:"m,omitempty"`
}

// Prepared is a message whose columns are sealed, ready to be inserted as
// often as its transaction runs.
type Prepared struct {
	m          Message
	envelope   []byte
	header     []byte
	details    []byte
	senderMAC  []byte
	bodySum    string
	deliveries []preparedDelivery
}

type preparedDelivery struct {
	d         Delivery
	recipient []byte
	mac       []byte
	plan      []byte
}

// Index makes the HMAC of an address by which it can be found.
type Index func(address string) ([]byte, error)

// Prepare seals a message and its deliveries. bodySum is the hex SHA-256 of
// the body's ciphertext.
func Prepare(m Message, deliveries []Delivery, bodySum string, index Index) (*Prepared, error) {
	p := &Prepared{m: m, bodySum: bodySum, header: m.Key.Seal(labelHeader, m.ID, m.Header)}
	envelope, err := json.Marshal(wireEnvelope{m.Envelope.Sender.Reveal(), m.Envelope.RequireTLS, m.Envelope.EightBit, m.Envelope.UTF8, m.Envelope.Proved})
	if err != nil {
		return nil, err
	}
	p.envelope = m.Key.Seal(labelEnvelope, m.ID, envelope)
	w := wireDetails{From: m.Details.From.Reveal(), Subject: m.Details.Subject.Reveal()}
	for _, t := range m.Details.Tags {
		w.Tags = append(w.Tags, t.Reveal())
	}
	for _, kv := range m.Details.Metadata {
		w.Metadata = append(w.Metadata, [2]string{kv.Name.Reveal(), kv.Value.Reveal()})
	}
	details, err := json.Marshal(w)
	if err != nil {
		return nil, err
	}
	p.details = m.Key.Seal(labelDetails, m.ID, details)
	if p.senderMAC, err = index(m.Envelope.Sender.Normal()); err != nil {
		return nil, err
	}
	for _, d := range deliveries {
		pd := preparedDelivery{d: d, recipient: m.Key.Seal(labelRecipient, d.ID, []byte(d.Recipient.Reveal()))}
		if pd.mac, err = index(d.Recipient.Normal()); err != nil {
			return nil, err
		}
		if pd.plan, err = json.Marshal(d.Plan); err != nil {
			return nil, err
		}
		p.deliveries = append(p.deliveries, pd)
	}
	return p, nil
}

// Insert writes the message, its deliveries and their ledger entries. owner
// is the run that will attempt what is ready, or zero to leave it to whoever
// takes it. Only submit calls it.
func (p *Prepared) Insert(tx *db.Tx, owner id.ID) error {
	m := p.m
	null, source, outside := 0, m.Source, 0
	if m.Envelope.Sender.IsZero() {
		null = 1
	}
	if m.Source == FromOutside {
		source, outside = FromRelay, 1
	}
	if _, err := tx.Exec(`INSERT INTO spool_messages
		(id, org_id, client_id, source, purpose, key_id, blob_id, size, envelope_sealed, header_sealed, details_sealed,
		 sender_hmac, sender_domain, null_sender, policy_version, created_at, send_at, expires_at, lane, inbound)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		m.ID, m.Org, m.Client, source, string(m.Purpose), m.Key.ID, m.Blob, m.Size, p.envelope, p.header, p.details,
		p.senderMAC, m.Envelope.Sender.Domain(), null, m.PolicyVersion,
		clock.Micros(m.CreatedAt), clock.Micros(m.SendAt), clock.Micros(m.ExpiresAt), int64(m.Lane), outside); err != nil {
		return fmt.Errorf("insert message: %w", err)
	}
	fact := acceptedFact{Source: m.Source, Purpose: m.Purpose, Size: m.Size,
		PolicyVersion: m.PolicyVersion, DataKey: m.Key.ID.Text(id.DataKey), BodySHA256: p.bodySum}
	for _, pd := range p.deliveries {
		if pd.d.Journal {
			fact.Journal = pd.d.ID.Text(id.Delivery)
		} else {
			fact.Recipients++
		}
	}
	if !m.Client.IsZero() {
		fact.Client = m.Client.Text(id.Client)
	}
	if err := ledger.Append(tx, ledger.Fact{Type: ledger.MessageAccepted, Message: m.ID, At: m.CreatedAt, Data: fact}); err != nil {
		return err
	}
	for i := range p.deliveries {
		if err := p.deliveries[i].insert(tx, m, owner); err != nil {
			return err
		}
	}
	return nil
}

func (p *preparedDelivery) insert(tx *db.Tx, m Message, owner id.ID) error {
	d := p.d
	var settled, settledAt any
	journal := 0
	if d.Journal {
		journal = 1
	}
	if d.State.Settled() {
		settled, settledAt = string(d.State), clock.Micros(m.CreatedAt)
	}
	if _, err := tx.Exec(`INSERT INTO spool_deliveries
		(id, org_id, message_id, recipient_sealed, recipient_hmac, recipient_domain, plan, seal, final, grade, reason,
		 attempts, settled, settled_at, created_at, journal)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, '', ?, 0, ?, ?, ?, ?)`,
		d.ID, m.Org, m.ID, p.recipient, p.mac, d.Recipient.Domain(), string(p.plan), string(d.Seal), d.Reason,
		settled, settledAt, clock.Micros(m.CreatedAt), journal); err != nil {
		return fmt.Errorf("insert delivery: %w", err)
	}
	if !d.State.Settled() {
		var own any
		if d.State == Ready && !owner.IsZero() {
			own = owner
		}
		if _, err := tx.Exec(`INSERT INTO spool_unsettled
			(delivery_id, org_id, message_id, domain, state, owner, next_at, lane) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			d.ID, m.Org, m.ID, d.Recipient.Domain(), string(d.State), own, clock.Micros(d.NextAt), int64(m.Lane)); err != nil {
			return fmt.Errorf("insert unsettled delivery: %w", err)
		}
	}
	if d.State == Ready {
		return nil // told by message.accepted
	}
	return ledger.Append(tx, ledger.Fact{Type: ledger.Type("delivery." + string(d.State)), Message: m.ID, Delivery: d.ID,
		At: m.CreatedAt, Data: stateFact{Domain: d.Recipient.Domain(), Seal: d.Seal, Reason: d.Reason, Rule: d.Plan.Rule}})
}
