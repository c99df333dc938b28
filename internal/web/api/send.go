package api

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
)

// draftRequest is a message as a caller writes it.
type draftRequest struct {
	From        string            `json:"from" doc:"The sender, at a verified domain of your organization: an address, with a name if you like." example:"Riverside Clinic <results@clinic.example>"`
	To          []string          `json:"to,omitempty" doc:"Recipients. to, cc and bcc together name at least one." example:"[\"Ada Example <ada@example.org>\"]"`
	Cc          []string          `json:"cc,omitempty" doc:"Recipients named in the field Cc."`
	Bcc         []string          `json:"bcc,omitempty" doc:"Recipients that no other recipient learns of."`
	ReplyTo     []string          `json:"reply_to,omitempty" doc:"Where answers go, if not to the sender."`
	Subject     string            `json:"subject,omitempty" doc:"The subject, on one line." example:"Your results"`
	Text        string            `json:"text,omitempty" doc:"The message as plain text. A message has text, html or both, or attachments."`
	HTML        string            `json:"html,omitempty" doc:"The message as HTML."`
	Attachments []attachment      `json:"attachments,omitempty" doc:"Up to 100 files."`
	Headers     map[string]string `json:"headers,omitempty" doc:"Further header fields by name. Those that have a field of their own here, and those that servers write, are refused."`
	Purpose     string            `json:"purpose,omitempty" enum:"generic,treatment,payment,operations,marketing" doc:"Why the message is sent. The purpose of your key applies when it is left out; a rule can make it stricter."`
	Seal        string            `json:"seal,omitempty" enum:"pgp,smime,tls,portal" doc:"The only seal you want, of those that your policy allows."`
	Stream      string            `json:"stream,omitempty" enum:"transactional,bulk" doc:"How urgent this kind of mail is: bulk mail waits behind transactional mail to the same destination. Marketing is always bulk."`
	Priority    *int              `json:"priority,omitempty" minimum:"0" maximum:"9" doc:"What goes first within the stream: 0 the first, 9 the last; 5 when left out."`
	SendAt      time.Time         `json:"send_at,omitzero" doc:"Not before this time; up to a year ahead."`
	ExpiresAt   time.Time         `json:"expires_at,omitzero" doc:"Give up at this time instead of two days after sending."`
	Tags        []string          `json:"tags,omitempty" doc:"Up to 20 words of your own, of up to 100 characters. They are kept encrypted."`
	Metadata    map[string]string `json:"metadata,omitempty" doc:"Up to 50 values of your own, of up to 1,000 characters. They are kept encrypted and given back."`
}

type attachment struct {
	Filename    string `json:"filename" doc:"The name the recipient sees." example:"results.pdf"`
	ContentType string `json:"content_type,omitempty" doc:"application/octet-stream when left out." example:"application/pdf"`
	Content     []byte `json:"content" doc:"The file in base64."`
}

const (
	maxAttachments = 100
	maxTags        = 20
	maxTag         = 100
	maxMetadata    = 50
	maxMetaName    = 100
	maxMetaValue   = 1000
	maxKey         = 255
)

// sendAnswer is the answer to an accepted message.
type sendAnswer struct {
	ID         string         `json:"id" doc:"The message." example:"msg_06fz1k8mcdvxx0h4s8w3q2t9ag"`
	Deliveries []sendDelivery `json:"deliveries" doc:"One for each distinct recipient."`
}

type sendDelivery struct {
	ID string `json:"id" doc:"The delivery." example:"dlv_06fz1k8mcdvxx0h4s8w3q2t9ah"`
	Forecast
}

// Forecast is what to expect of one delivery.
type Forecast struct {
	Recipient  string   `json:"recipient" doc:"The address." example:"ada@example.org"`
	Seal       string   `json:"seal" doc:"The seal: pgp, smime, tls or portal, or empty when there is none." example:"tls"`
	Final      bool     `json:"final" doc:"Whether the seal was applied. Until then it is a forecast."`
	Grade      string   `json:"grade" doc:"How well the transport is expected to be proved, or empty: encrypted, verified or authenticated." example:"verified"`
	Reason     string   `json:"reason" doc:"Why, for people." example:"The recipient's domain is known to offer verified TLS."`
	ReasonCode string   `json:"reason_code" doc:"Stable word for why the delivery is in its state, or empty."`
	Rule       string   `json:"rule" doc:"The rule of the policy that chose, or default." example:"default"`
	Reasons    []string `json:"reasons" doc:"All that the policy has to say."`
	State      string   `json:"state" doc:"The state; see the page's section on states." example:"ready"`
}

type previewAnswer struct {
	Deliveries []Forecast `json:"deliveries" doc:"One for each distinct recipient. Nothing was stored or sent."`
}

func forecastOf(f submit.Forecast) Forecast {
	out := Forecast{Recipient: f.Recipient.Reveal(), Seal: string(f.Seal), Final: f.Final, Grade: f.Grade.Word(),
		Reason: f.Reason, Rule: f.Rule, Reasons: f.Reasons, State: string(f.State)}
	switch f.State {
	case spool.Held:
		out.ReasonCode = spool.ReasonHeld
	case spool.Scheduled:
		out.ReasonCode = spool.ReasonScheduled
	case spool.Failed:
		out.ReasonCode = spool.ReasonPolicyRefused
	}
	if out.Reasons == nil {
		out.Reasons = []string{}
	}
	return out
}

func send(c *call) (any, error) {
	draft, err := c.draft(body[draftRequest](c))
	if err != nil {
		return nil, err
	}
	if err := c.idempotency(&draft); err != nil {
		return nil, err
	}
	receipt, err := c.Door.Accept(c.r.Context(), draft)
	if err != nil {
		return nil, err
	}
	out := sendAnswer{ID: receipt.Message.Text(id.Message), Deliveries: []sendDelivery{}}
	for _, f := range receipt.Deliveries {
		out.Deliveries = append(out.Deliveries, sendDelivery{f.Delivery.Text(id.Delivery), forecastOf(f)})
	}
	if receipt.Repeated {
		c.w.Header().Set("Idempotent-Replayed", "true")
	}
	c.w.Header().Set("Location", "/api/v1/messages/"+out.ID)
	return out, nil
}

func preview(c *call) (any, error) {
	draft, err := c.draft(body[draftRequest](c))
	if err != nil {
		return nil, err
	}
	all, err := c.Door.Preview(c.r.Context(), draft)
	if err != nil {
		return nil, err
	}
	out := previewAnswer{Deliveries: []Forecast{}}
	for _, f := range all {
		out.Deliveries = append(out.Deliveries, forecastOf(f))
	}
	return out, nil
}

const idempotencyKey = "Idempotency-Key"

func (c *call) idempotency(draft *submit.Draft) error {
	keys := c.r.Header.Values(idempotencyKey)
	if len(keys) == 0 {
		return nil
	}
	key := keys[0]
	if len(keys) > 1 || key == "" || len(key) > maxKey || strings.ContainsFunc(key, func(r rune) bool { return r < '!' || r > '~' }) {
		return fault.Newf(fault.Invalid, "bad_idempotency_key",
			"An Idempotency-Key has up to %d visible ASCII characters; a UUID is a good one.", maxKey).At(inHeader + idempotencyKey)
	}
	draft.IdempotencyKey, draft.RequestHash = private.NewString(key), c.requestHash()
	return nil
}

// mistakes collects the faults of a request.
type mistakes []*fault.Fault

func (m *mistakes) add(err error, pointer string) {
	if err != nil {
		*m = append(*m, fault.From(err).At(pointer))
	}
}

func (m *mistakes) say(pointer, reason, format string, args ...any) {
	*m = append(*m, fault.Newf(fault.Invalid, reason, format, args...).At(pointer))
}

func (m mistakes) err() error {
	if len(m) == 0 {
		return nil
	}
	return fault.Join(m[:min(len(m), maxFaults)]...)
}

// draft makes a draft of a request: the message is built, and all mistakes in
// the request are told at once.
func (c *call) draft(in *draftRequest) (submit.Draft, error) {
	var m mistakes
	d := submit.Draft{Principal: c.principal, Source: spool.FromAPI, Protocol: "HTTP",
		Purpose: policy.Purpose(in.Purpose), Seal: policy.Seal(in.Seal), Stream: spool.Stream(in.Stream), Priority: in.Priority, SendAt: in.SendAt, ExpiresAt: in.ExpiresAt}
	built := mail.Draft{Subject: private.NewString(in.Subject), Text: private.NewString(in.Text), HTML: private.NewString(in.HTML), Date: c.Clock.Now()}
	built.From = m.mailbox(in.From, "/from")
	built.To, built.Cc = m.mailboxes(in.To, "/to"), m.mailboxes(in.Cc, "/cc")
	built.ReplyTo = m.mailboxes(in.ReplyTo, "/reply_to")
	for _, box := range slices.Concat(built.To, built.Cc, m.mailboxes(in.Bcc, "/bcc")) {
		d.Recipients = append(d.Recipients, box.Address)
	}
	d.Sender = built.From.Address
	m.words(in)
	m.content(in)
	d.Tags, d.Metadata = m.tags(in.Tags), m.metadata(in.Metadata)
	for _, a := range in.Attachments {
		built.Attachments = append(built.Attachments, mail.File{Filename: private.NewString(a.Filename), ContentType: a.ContentType, Content: private.NewBytes(a.Content)})
	}
	for _, name := range slices.Sorted(maps.Keys(in.Headers)) {
		built.Headers = append(built.Headers, mail.Field{Name: name, Value: private.NewString(in.Headers[name]), Pointer: "/headers/" + escapeKey(name)})
	}
	if err := m.err(); err != nil {
		return d, err
	}
	message, err := mail.Build(built)
	d.Message = bytes.NewReader(message)
	return d, err
}

func (m *mistakes) mailbox(text, pointer string) mail.Mailbox {
	name, address, err := mail.ParseMailbox(text)
	m.add(err, pointer)
	return mail.NewMailbox(name, address)
}

func (m *mistakes) mailboxes(texts []string, pointer string) (all []mail.Mailbox) {
	for i, t := range texts {
		all = append(all, m.mailbox(t, fmt.Sprintf("%s/%d", pointer, i)))
	}
	return all
}

// words checks what has a fixed set of values.
func (m *mistakes) words(in *draftRequest) {
	if in.Purpose != "" && !policy.Purpose(in.Purpose).Valid() {
		m.say("/purpose", "unknown_purpose", "A purpose is one of generic, treatment, payment, operations and marketing.")
	}
	if in.Seal != "" && !policy.Seal(in.Seal).Valid() {
		m.say("/seal", "unknown_seal", "A seal is one of pgp, smime, tls and portal.")
	}
	if in.Stream != "" && !spool.Stream(in.Stream).Valid() {
		m.say("/stream", "unknown_stream", "A stream is one of transactional and bulk.")
	}
	if in.Priority != nil && (*in.Priority < 0 || *in.Priority > spool.LastPriority) {
		m.say("/priority", "bad_priority", "A priority is a number from 0, the first, to %d, the last.", spool.LastPriority)
	}
}

func (m *mistakes) content(in *draftRequest) {
	if in.Text == "" && in.HTML == "" && len(in.Attachments) == 0 {
		m.say("/text", "no_content", "A message has text, html or an attachment.")
	}
	for pointer, text := range map[string]string{"/text": in.Text, "/html": in.HTML} {
		if strings.Contains(text, "\x00") {
			m.say(pointer, "control_character", "The text contains a NUL.")
		}
	}
	if len(in.Attachments) > maxAttachments {
		m.say("/attachments", "too_many", "A message has at most %d attachments.", maxAttachments)
	}
}

func (m *mistakes) tags(texts []string) (all []private.String) {
	if len(texts) > maxTags {
		m.say("/tags", "too_many", "A message has at most %d tags.", maxTags)
	}
	for i, t := range texts[:min(len(texts), maxTags)] {
		m.label(t, maxTag, fmt.Sprintf("/tags/%d", i))
		all = append(all, private.NewString(t))
	}
	return all
}

func (m *mistakes) metadata(values map[string]string) (all []spool.Pair) {
	if len(values) > maxMetadata {
		m.say("/metadata", "too_many", "A message has at most %d metadata values.", maxMetadata)
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		m.label(name, maxMetaName, "/metadata/"+escapeKey(name))
		m.line(values[name], maxMetaValue, "/metadata/"+escapeKey(name))
		all = append(all, spool.Pair{Name: private.NewString(name), Value: private.NewString(values[name])})
	}
	return all
}

func (m *mistakes) label(text string, most int, pointer string) {
	if text == "" {
		m.say(pointer, "empty", "This must not be empty.")
	}
	m.line(text, most, pointer)
}

// line checks text of one line.
func (m *mistakes) line(text string, most int, pointer string) {
	m.add(mail.CheckText(text), pointer)
	if utf8.RuneCountInString(text) > most {
		m.say(pointer, "too_long", "This can have at most %d characters.", most)
	}
}
