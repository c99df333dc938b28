package api

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/spool"
)

// messageAnswer is an accepted message.
type messageAnswer struct {
	ID         string            `json:"id" doc:"The message." example:"msg_06fz1k8mcdvxx0h4s8w3q2t9ag"`
	CreatedAt  time.Time         `json:"created_at" doc:"When it was accepted."`
	Source     string            `json:"source" doc:"How it came: api, smtp or relay; inbound is mail from outside for a member." example:"api"`
	ClientID   string            `json:"client_id,omitempty" doc:"The key that handed it in."`
	Purpose    string            `json:"purpose" doc:"Why it is sent, after the policy looked at it." example:"treatment"`
	Stream     string            `json:"stream" doc:"transactional or bulk." example:"transactional"`
	Priority   int               `json:"priority" doc:"From 0, the first within the stream, to 9." example:"5"`
	From       string            `json:"from" doc:"The sender as recipients see it."`
	Subject    string            `json:"subject" doc:"The subject."`
	Size       int64             `json:"size" doc:"Octets of the message." example:"10240"`
	SendAt     time.Time         `json:"send_at" doc:"Not sent before."`
	ExpiresAt  time.Time         `json:"expires_at" doc:"Given up at."`
	Tags       []string          `json:"tags" doc:"Your tags."`
	Metadata   map[string]string `json:"metadata" doc:"Your metadata."`
	Deliveries []DeliverySummary `json:"deliveries" doc:"One for each distinct recipient, and one for your organization's archive if it has one."`
	Destroyed  bool              `json:"destroyed,omitempty" doc:"The content was destroyed when its time was over: from, subject, recipients, tags and metadata are empty."`
}

// DeliverySummary is a delivery without its history.
type DeliverySummary struct {
	ID         string    `json:"id" doc:"The delivery." example:"dlv_06fz1k8mcdvxx0h4s8w3q2t9ah"`
	Recipient  string    `json:"recipient" doc:"The address." example:"ada@example.org"`
	State      string    `json:"state" doc:"The state; see the page's section on states." example:"delivered"`
	Seal       string    `json:"seal" doc:"The seal, or empty when there is none." example:"tls"`
	Final      bool      `json:"final" doc:"Whether the seal was applied. Until then it is a forecast."`
	Grade      string    `json:"grade" doc:"How well the transport that took it was proved, or empty." example:"verified"`
	Reason     string    `json:"reason" doc:"Why it is in its state, for people."`
	ReasonCode string    `json:"reason_code" doc:"Stable word for why it is in its state, or empty."`
	Attempted  int       `json:"attempted" doc:"How many attempts were made." example:"1"`
	CreatedAt  time.Time `json:"created_at" doc:"When it was accepted."`
	NextAt     time.Time `json:"next_at,omitzero" doc:"When it is tried next, while it is not settled."`
	SettledAt  time.Time `json:"settled_at,omitzero" doc:"When it was settled."`
	Journal    bool      `json:"journal,omitempty" doc:"Whether it is the copy for your organization's archive."`
}

// deliveryAnswer is a delivery with its history.
type deliveryAnswer struct {
	DeliverySummary
	MessageID  string    `json:"message_id" doc:"Its message."`
	Seals      []string  `json:"seals" doc:"The seals that the policy allows, in order."`
	Floor      string    `json:"floor" doc:"The least grade of transport for the seal tls." example:"verified"`
	RequireTLS bool      `json:"require_tls" doc:"Whether REQUIRETLS was asked for."`
	Rule       string    `json:"rule" doc:"The rule of the policy that chose, or default." example:"default"`
	Reasons    []string  `json:"reasons" doc:"All that the policy had to say."`
	Attempts   []attempt `json:"attempts" doc:"All attempts, oldest first."`
}

// attempt is one try to hand a delivery over.
type attempt struct {
	Number     int             `json:"number" doc:"1 is the first." example:"1"`
	At         time.Time       `json:"at" doc:"When its outcome was known."`
	DurationUS int64           `json:"duration_us" doc:"How long it took, in microseconds." example:"183000"`
	Result     string          `json:"result" doc:"delivered, temporary, permanent, unknown, or weak: the transport was weaker than the floor, and nothing was sent." example:"delivered"`
	Reason     string          `json:"reason" doc:"Stable word for why, or empty."`
	Seal       string          `json:"seal" doc:"The seal that was tried." example:"tls"`
	Host       string          `json:"host" doc:"The server that answered." example:"mx1.example.org"`
	Code       int             `json:"code,omitempty" doc:"Its SMTP reply code." example:"250"`
	Status     string          `json:"status,omitempty" doc:"Its enhanced status code (RFC 3463)." example:"2.0.0"`
	Class      string          `json:"class,omitempty" doc:"Why it said no: mailbox_unknown, mailbox_full, policy, spam, content, dns, tls, rate, expired or other." example:"mailbox_full"`
	Reply      string          `json:"reply,omitempty" doc:"Its words."`
	Evidence   *spool.Evidence `json:"evidence,omitempty" doc:"What proves the transport: grade, TLS version and suite, key exchange, fingerprint of the certificate and how it was verified, MTA-STS policy."`
	Protection *protection     `json:"protection,omitempty" doc:"How it was sealed to a key of the recipient, for the seals pgp and smime."`
	PassedOver []string        `json:"passed_over,omitempty" doc:"Why keys of the recipient could not be used."`
}

// protection is how a delivery was sealed to a key of the recipient.
type protection struct {
	Key        string `json:"key" doc:"Fingerprint of the OpenPGP key, or serial number and issuer of the certificate."`
	Tier       string `json:"tier" doc:"How far the key is trusted: harvested, discovered, confirmed or pinned." example:"confirmed"`
	Source     string `json:"source" doc:"Where the key came from." example:"wkd"`
	Algorithms string `json:"algorithms" doc:"Of the key and of the content." example:"X25519, AES-256, SEIPDv1"`
	Signed     string `json:"signed,omitempty" doc:"By which kind of key the sender signed, pgp or smime."`
}

func protectionOf(p *spool.Protection) *protection {
	if p == nil {
		return nil
	}
	return &protection{Key: p.Key.Reveal(), Tier: p.Tier.String(), Source: p.Source, Algorithms: p.Algorithms, Signed: p.Signed}
}

func messageOf(s spool.Shown) messageAnswer {
	m := s.Message
	out := messageAnswer{ID: m.ID.Text(id.Message), CreatedAt: m.CreatedAt, Source: m.Source, Purpose: string(m.Purpose),
		Stream: string(m.Lane.Stream()), Priority: m.Lane.Priority(),
		From: mail.DecodeText(m.Details.From.Reveal()), Subject: m.Details.Subject.Reveal(), Size: m.Size,
		SendAt: m.SendAt, ExpiresAt: m.ExpiresAt,
		Tags: []string{}, Metadata: map[string]string{}, Deliveries: []DeliverySummary{}, Destroyed: s.Destroyed}
	if !m.Client.IsZero() {
		out.ClientID = m.Client.Text(id.Client)
	}
	for _, t := range m.Details.Tags {
		out.Tags = append(out.Tags, t.Reveal())
	}
	for _, kv := range m.Details.Metadata {
		out.Metadata[kv.Name.Reveal()] = kv.Value.Reveal()
	}
	for _, d := range s.Deliveries {
		out.Deliveries = append(out.Deliveries, summaryOf(d))
	}
	return out
}

func summaryOf(d spool.Delivery) DeliverySummary {
	return DeliverySummary{ID: d.ID.Text(id.Delivery), Recipient: d.Recipient.Reveal(), State: string(d.State), Seal: string(d.Seal),
		Final: d.Final, Grade: d.Grade.Word(), Reason: sentence(d), ReasonCode: d.Reason, Attempted: d.Attempts,
		CreatedAt: d.CreatedAt, NextAt: d.NextAt, SettledAt: d.SettledAt, Journal: d.Journal}
}

func (c *call) messageID() (id.ID, error) {
	m, err := id.Parse(id.Message, c.r.PathValue("id"))
	if err != nil {
		return m, spool.ErrNoMessage
	}
	return m, nil
}

func getMessage(c *call) (any, error) {
	m, err := c.messageID()
	if err != nil {
		return nil, err
	}
	shown, err := c.Desk.Message(c.r.Context(), c.principal.Org, m)
	if err != nil {
		return nil, err
	}
	return messageOf(shown), nil
}

func getDelivery(c *call) (any, error) {
	dlv, err := id.Parse(id.Delivery, c.r.PathValue("id"))
	if err != nil {
		return nil, spool.ErrNoDelivery
	}
	d, tried, err := c.Desk.Delivery(c.r.Context(), c.principal.Org, dlv)
	if err != nil {
		return nil, err
	}
	out := deliveryAnswer{DeliverySummary: summaryOf(d), MessageID: d.Message.Text(id.Message), Seals: []string{}, Floor: d.Plan.Floor.String(),
		RequireTLS: d.Plan.RequireTLS, Rule: d.Plan.Rule, Reasons: []string{}, Attempts: []attempt{}}
	for _, s := range d.Plan.Seals {
		out.Seals = append(out.Seals, string(s))
	}
	out.Reasons = append(out.Reasons, d.Plan.Reasons...)
	for _, t := range tried {
		out.Attempts = append(out.Attempts, attempt{Number: t.Number, At: t.At.UTC(), DurationUS: t.Took.Microseconds(), Result: t.Result,
			Reason: t.Reason, Seal: string(t.Seal), Host: t.Host, Code: t.Code, Status: t.Enhanced, Class: t.Class, Reply: t.Reply.Reveal(), Evidence: t.Evidence,
			Protection: protectionOf(t.Protection), PassedOver: t.PassedOver})
	}
	return out, nil
}

type cancelRequest struct{}

type cancelAnswer struct {
	ID         string            `json:"id" doc:"The message." example:"msg_06fz1k8mcdvxx0h4s8w3q2t9ag"`
	Canceled   int               `json:"canceled" doc:"How many deliveries this request canceled. Others are on their way, settled or canceled already." example:"1"`
	Deliveries []DeliverySummary `json:"deliveries" doc:"All deliveries as they are now."`
}

func cancel(c *call) (any, error) {
	m, err := c.messageID()
	if err != nil {
		return nil, err
	}
	ctx, org := c.r.Context(), c.principal.Org
	canceled, err := c.Desk.Cancel(ctx, org, m, c.principal.Client.Text(id.Client), c.Clock.Now())
	if err != nil {
		return nil, err
	}
	shown, err := c.Desk.Message(ctx, org, m)
	if err != nil {
		return nil, err
	}
	return cancelAnswer{ID: m.Text(id.Message), Canceled: canceled, Deliveries: messageOf(shown).Deliveries}, nil
}

// searchRequest names addresses in the body, since URLs are logged
// everywhere.
type searchRequest struct {
	Sender    string    `json:"sender,omitempty" doc:"Address of the sender of the envelope." example:"results@clinic.example"`
	Recipient string    `json:"recipient,omitempty" doc:"Address of a recipient." example:"ada@example.org"`
	State     string    `json:"state,omitempty" enum:"held,scheduled,ready,sending,deferred,waiting,delivered,read,failed,expired,canceled,suppressed" doc:"State of a delivery."`
	Since     time.Time `json:"since,omitzero" doc:"Accepted at this time or later."`
	Until     time.Time `json:"until,omitzero" doc:"Accepted before this time."`
	Before    string    `json:"before,omitempty" doc:"The next of the page before: older messages than this one."`
	Limit     int       `json:"limit,omitempty" minimum:"1" maximum:"100" doc:"How many messages; 25 when left out."`
}

type searchAnswer struct {
	Messages []messageAnswer `json:"messages" doc:"Newest first."`
	Next     string          `json:"next,omitempty" doc:"Give it as before to get the next page; missing on the last one."`
}

const (
	searchLimit, searchMost = 25, 100
	eventsLimit, eventsMost = 100, 1000
)

func search(c *call) (any, error) {
	in := body[searchRequest](c)
	var m mistakes
	w := spool.Wanted{State: spool.State(in.State), Since: in.Since, Until: in.Until, Limit: in.Limit}
	if in.Sender != "" {
		w.Sender = m.mailbox(in.Sender, "/sender").Address
	}
	if in.Recipient != "" {
		w.Recipient = m.mailbox(in.Recipient, "/recipient").Address
	}
	if _, known := states[w.State]; in.State != "" && !known {
		m.say("/state", "unknown_state", "This is no state of a delivery.")
	}
	var err error
	if in.Before != "" {
		if w.Before, err = id.Parse(id.Message, in.Before); err != nil {
			m.say("/before", "bad_id", "This must be the next of another answer.")
		}
	}
	switch {
	case in.Limit == 0:
		w.Limit = searchLimit
	case in.Limit < 0 || in.Limit > searchMost:
		m.say("/limit", "out_of_range", "This must be from 1 to %d.", searchMost)
	}
	if err := m.err(); err != nil {
		return nil, err
	}
	found, more, err := c.Desk.Search(c.r.Context(), c.principal.Org, w)
	if err != nil {
		return nil, err
	}
	out := searchAnswer{Messages: []messageAnswer{}}
	for _, s := range found {
		out.Messages = append(out.Messages, messageOf(s))
	}
	if more {
		out.Next = out.Messages[len(out.Messages)-1].ID
	}
	return out, nil
}

type eventsAnswer struct {
	Events []event `json:"events" doc:"In the order of the ledger, without gaps."`
	Next   string  `json:"next" doc:"Give it as after to go on. It is the same when nothing is new." example:"42"`
}

// event is an entry of the ledger, without its private part.
type event struct {
	ID         string          `json:"id" doc:"The event." example:"evt_06fz1k8mcdvxx0h4s8w3q2t9aj"`
	Seq        int64           `json:"seq" doc:"Its position in your organization's ledger." example:"42"`
	Type       string          `json:"type" doc:"What happened. Ignore types you do not know." example:"delivery.delivered"`
	V          int             `json:"v" doc:"Version of the form." example:"1"`
	At         time.Time       `json:"at" doc:"When it happened."`
	MessageID  string          `json:"message_id,omitempty" doc:"The message it is about."`
	DeliveryID string          `json:"delivery_id,omitempty" doc:"The delivery it is about."`
	Data       json.RawMessage `json:"data" doc:"Details by type. Ignore fields you do not know. It holds no content and no addresses."`
}

func events(c *call) (any, error) {
	after, limit := ledger.Start, eventsLimit
	var m mistakes
	if c.query.Has("after") {
		n, err := strconv.ParseInt(c.query.Get("after"), 10, 64)
		if err != nil || n < 0 {
			m.say(inQuery+"after", "bad_cursor", "This must be the next of another answer.")
		}
		after = n
	}
	if c.query.Has("limit") {
		n, err := strconv.Atoi(c.query.Get("limit"))
		if err != nil || n < 1 || n > eventsMost {
			m.say(inQuery+"limit", "out_of_range", "This must be from 1 to %d.", eventsMost)
		}
		limit = n
	}
	if err := m.err(); err != nil {
		return nil, err
	}
	all, next, err := c.Events(c.r.Context(), c.principal.Org, after, limit)
	if err != nil {
		return nil, err
	}
	out := eventsAnswer{Events: []event{}}
	if next != ledger.Start {
		out.Next = strconv.FormatInt(next, 10)
	}
	for _, e := range all {
		out.Events = append(out.Events, eventOf(e))
	}
	return out, nil
}

func eventOf(e ledger.Event) event {
	out := event{ID: e.ID.Text(id.Event), Seq: e.Seq, Type: string(e.Type), V: e.V, At: e.At.UTC(), Data: e.Data}
	if !e.Message.IsZero() {
		out.MessageID = e.Message.Text(id.Message)
	}
	if !e.Delivery.IsZero() {
		out.DeliveryID = e.Delivery.Text(id.Delivery)
	}
	return out
}
