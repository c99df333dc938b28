// Package submit is the front door: every source hands its drafts to Accept,
// and only Accept adds to the spool.
//
// Invariants:
//   - Accept returns success only after the message, its deliveries, its body,
//     its data key and its ledger entries are committed together.
//   - Accept never waits for the network. It decides by what is known; the
//     seal in its answer is a forecast.
//   - What is refused leaves nothing behind.
//   - A blind copy shows nowhere: the header loses Bcc before it is stored.
//   - The same idempotency key with the same request gives the same answer and
//     accepts nothing twice.
package submit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/blob"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/spool"
)

// Draft is what a source hands in.
type Draft struct {
	Principal  auth.Principal
	Source     string       // spool.FromAPI, FromSMTP, FromRelay
	Sender     mail.Address // of the envelope; zero for the null sender
	Recipients []mail.Address
	Message    io.Reader // RFC 5322, CRLF line ends
	Protocol   string    // for the Received field: HTTP, ESMTPSA, …
	EHLO       string    // as the client said it, or empty

	Tenant     *Tenant        // that the message must be of; nil: its source is nobody else's
	Purpose    policy.Purpose // as the caller states it, or empty
	Seal       policy.Seal    // removes all others, or empty
	RequireTLS bool
	Stream     spool.Stream // or empty: bulk for marketing, else transactional
	Priority   *int         // 0 to 9, the first to the last; nil: 5
	SendAt     time.Time    // zero for now
	ExpiresAt  time.Time    // zero for the default
	Tags       []private.String
	Metadata   []spool.Pair

	IdempotencyKey private.String // or empty
	RequestHash    []byte         // of the whole request; only with a key
}

// Suppression are the reasons for which nothing, and no bulk mail, is sent to a
// recipient.
type Suppression struct{ All, Bulk string }

// Receipt is the answer to an accepted draft.
type Receipt struct {
	Message    id.ID
	Deliveries []Forecast
	Repeated   bool // the answer to an earlier request of the same key
}

// Forecast is what will happen to one delivery as things look now.
type Forecast struct {
	Delivery  id.ID
	Recipient mail.Address
	Seal      policy.Seal
	Final     bool
	Grade     policy.Grade // expected of the transport
	Rule      string
	Reason    string   // sentence for people
	Reasons   []string // all of them
	State     spool.State
}

// Config bounds what is accepted.
type Config struct {
	Hostname          string
	MaxSize           int64 // octets of a message
	MaxRecipients     int
	MessagesPerMinute int // of an organization that has no limit of its own; 0 for none
	ExpireAfter       time.Duration
	IdempotencyTTL    time.Duration
	TenantFields      []string // the header fields of all tenants, which nothing that goes on has
}

// Deps are what the front door needs.
type Deps struct {
	Config
	DB       *db.DB
	Custody  *custody.Custody
	Blob     *blob.Store
	Accounts *account.Accounts
	Clock    clock.Clock
	Log      *slog.Logger
	// Tracer follows messages; nil: none are followed.
	Tracer trace.Tracer
	// Posture gives what is known of a domain, never asking the network.
	Posture func(ctx context.Context, domain string) policy.Posture
	// Keys gives what is known of a recipient's keys, never asking the network.
	// nil: nothing is known of anybody's.
	Keys func(ctx context.Context, org id.ID, recipient mail.Address) (policy.Keys, error)
	// Journal gives the organization's archive address, or zero, which gets a
	// copy of everything. nil: no organization has one.
	Journal func(ctx context.Context, org id.ID) (mail.Address, error)
	// Suppressed gives, of each recipient, the reasons for which nothing and no
	// bulk mail is sent to it, or "". It may give none at all. nil: there never is one.
	Suppressed func(ctx context.Context, org id.ID, recipients []mail.Address) ([]Suppression, error)
	// Routed reports whether mail for a domain of the organization comes in
	// here and goes on to a host of its own. nil: none does.
	Routed func(ctx context.Context, org id.ID, domain string) (bool, error)
	// Accepted is told how long it took to take a draft or to refuse it. It must
	// not wait for anything. nil: nobody asks.
	Accepted func(took time.Duration, err error)
	// Sent is told of whose message was accepted. nil: nobody asks.
	Sent func(ctx context.Context, org id.ID, from []mail.Mailbox)
	// Reserve gives the run that will attempt deliveries at once, or zero when
	// they must wait in the database: this node does not deliver, or holds
	// enough for one of their domains.
	Reserve func(items []spool.Item) id.ID
	// Push hands what was accepted to that run. Without a run the engine hears
	// that it is there; without work a reservation is given back.
	Push func(run id.ID, reserved []spool.Item, work []spool.Work)
}

// Door is the front door of one node.
type Door struct {
	Deps
	orgs orgCache
}

// New gives the front door.
func New(d Deps) *Door {
	if d.Keys == nil {
		d.Keys = func(context.Context, id.ID, mail.Address) (policy.Keys, error) { return policy.Keys{}, nil }
	}
	if d.Tracer == nil {
		d.Tracer = noop.NewTracerProvider().Tracer("")
	}
	return &Door{Deps: d}
}

// Accept takes a draft for good, or refuses it.
func (d *Door) Accept(ctx context.Context, draft Draft) (r Receipt, err error) {
	ctx, span := d.Tracer.Start(ctx, "accept", trace.WithAttributes(
		attribute.String("sealpost.org", draft.Principal.Org.Text(id.Org)), attribute.String("sealpost.source", draft.Source)))
	began := d.Clock.Now()
	defer func() {
		if d.Accepted != nil {
			d.Accepted(d.Clock.Now().Sub(began), err)
		}
		if err != nil {
			span.SetStatus(codes.Error, fault.From(err).Reason)
		} else {
			span.SetAttributes(attribute.String("sealpost.message", r.Message.Text(id.Message)), attribute.Int("sealpost.deliveries", len(r.Deliveries)))
		}
		span.End()
	}()
	return d.accept(ctx, draft)
}

func (d *Door) accept(ctx context.Context, draft Draft) (Receipt, error) {
	org, err := d.admit(ctx, draft)
	if err != nil {
		return Receipt{}, err
	}
	if !draft.IdempotencyKey.Empty() {
		if r, found, err := d.answered(ctx, draft); found || err != nil {
			return r, err
		}
	}
	if !org.allow(d.Clock.Now()) {
		return Receipt{}, fault.New(fault.TooMany, "rate_limited", "Your organization sends more than its limit per minute. Try again in a minute.")
	}
	p, err := d.prepare(ctx, draft, org)
	if err != nil {
		return Receipt{}, err
	}
	defer p.staged.Close()
	r, err := d.commit(ctx, draft, p)
	if err == nil && d.Sent != nil {
		d.Sent(context.WithoutCancel(ctx), draft.Principal.Org, p.from)
	}
	return r, err
}

// Preview says what Accept would do, and stores nothing.
func (d *Door) Preview(ctx context.Context, draft Draft) ([]Forecast, error) {
	org, err := d.admit(ctx, draft)
	if err != nil {
		return nil, err
	}
	opened, err := d.open(ctx, draft, org)
	if err != nil {
		return nil, err
	}
	body := inspect(opened, org.maxSize, d.Log)
	if _, err := io.Copy(io.Discard, body); err != nil {
		body.stop()
		return nil, body.fault(err)
	}
	ask, err := asked(draft, &opened.Header)
	if err != nil {
		return nil, err
	}
	deliveries, err := d.decide(ctx, draft, ask, org, opened, body, d.Clock.Now())
	if fault.Is(err, fault.Refused) { // the forecasts tell
		err = nil
	}
	return forecasts(deliveries), err
}

// admit checks what needs no look at the message.
func (d *Door) admit(ctx context.Context, draft Draft) (*orgFacts, error) {
	org, err := d.orgOf(ctx, draft.Principal)
	if err != nil {
		return nil, err
	}
	if len(draft.Recipients) == 0 {
		return nil, fault.New(fault.Invalid, "no_recipient", "The message has no recipient.").At("/to")
	}
	if len(draft.Recipients) > org.maxRecipients {
		return nil, fault.Newf(fault.TooLarge, "too_many_recipients", "A message can have at most %d recipients.", org.maxRecipients).At("/to")
	}
	if err := org.checkSender(draft.Sender); err != nil {
		return nil, err
	}
	return org, d.checkTimes(draft)
}

// maxAhead is how far ahead a message can be scheduled.
const maxAhead = 366 * 24 * time.Hour

func (d *Door) checkTimes(draft Draft) error {
	now := d.Clock.Now()
	if draft.SendAt.After(now.Add(maxAhead)) {
		return fault.New(fault.Invalid, "send_at_too_far", "send_at can be at most a year ahead.").At("/send_at")
	}
	start := now
	if draft.SendAt.After(now) {
		start = draft.SendAt
	}
	if !draft.ExpiresAt.IsZero() && !draft.ExpiresAt.After(start) {
		return fault.New(fault.Invalid, "expires_too_soon", "expires_at must be later than now and than send_at.").At("/expires_at")
	}
	return nil
}

// open reads the header and authorizes what it says.
func (d *Door) open(ctx context.Context, draft Draft, org *orgFacts) (*mail.Submitted, error) {
	now := d.Clock.Now()
	m, err := mail.Submission(draft.Message, mail.Given{Domain: d.messageIDDomain(draft), Now: now})
	if err != nil {
		return nil, err
	}
	if err := d.loops(ctx, draft, m); err != nil {
		return nil, err
	}
	if draft.Tenant != nil && !org.proves(*draft.Tenant, m.Header) {
		return nil, notTenant
	}
	if len(m.From) == 0 {
		return nil, fault.New(fault.Invalid, "bad_from", "The message's From field is missing or cannot be read.").At("/from")
	}
	for _, f := range m.From {
		if !org.domains[f.Address.Domain()] {
			return nil, notOurs
		}
	}
	return m, nil
}

// maxReceived is when a message is taken to run in a loop. RFC 5321 section
// 6.3 would have at least 100, for mail that crosses the internet; what has
// passed 50 servers on its way to this door is lost already.
const maxReceived = 50

func (d *Door) messageIDDomain(draft Draft) string {
	if !draft.Sender.IsZero() {
		return draft.Sender.Domain()
	}
	return d.Hostname
}

type prepared struct {
	message    spool.Message
	deliveries []spool.Delivery
	staged     *blob.Staged
	rows       *spool.Prepared
	body       []byte // the whole body if it is small enough to stay in memory
	from       []mail.Mailbox
}

// prepare does everything that needs no transaction: reads the message,
// encrypts it and decides.
func (d *Door) prepare(ctx context.Context, draft Draft, org *orgFacts) (*prepared, error) {
	opened, err := d.open(ctx, draft, org)
	if err != nil {
		return nil, err
	}
	ask, err := asked(draft, &opened.Header)
	if err != nil {
		return nil, err
	}
	now := d.Clock.Now()
	key, err := d.Custody.NewDataKey(draft.Principal.Org)
	if err != nil {
		return nil, err
	}
	m := spool.Message{
		ID: id.New(), Org: draft.Principal.Org, Client: draft.Principal.Client, Source: draft.Source, Key: key, Blob: id.New(),
		PolicyVersion: org.policyVersion, Lane: ask, CreatedAt: now, SendAt: now,
	}
	if err := opened.Header.Prepend("Received", mail.Received(mail.Trace{
		EHLO: draft.EHLO, By: d.Hostname, Protocol: draft.Protocol, ID: m.ID.Text(id.Message), At: now})); err != nil {
		return nil, err
	}
	body := inspect(opened, org.maxSize, d.Log)
	staged, err := d.Blob.Stage(key, m.Blob, body)
	if err != nil {
		body.stop()
		return nil, body.fault(err)
	}
	p := &prepared{staged: staged, body: body.kept(), from: opened.From}
	if err := d.fill(ctx, p, m, draft, org, opened, body); err != nil {
		return nil, errors.Join(err, staged.Close())
	}
	return p, nil
}

// fill decides and seals, once the body's size is known.
func (d *Door) fill(ctx context.Context, p *prepared, m spool.Message, draft Draft, org *orgFacts, opened *mail.Submitted, body *inspected) error {
	if draft.SendAt.After(m.CreatedAt) {
		m.SendAt = draft.SendAt
	}
	m.ExpiresAt = m.SendAt.Add(d.ExpireAfter)
	if !draft.ExpiresAt.IsZero() {
		m.ExpiresAt = draft.ExpiresAt
	}
	deliveries, err := d.decide(ctx, draft, m.Lane, org, opened, body, m.CreatedAt)
	if err != nil {
		return err
	}
	m.Purpose = policy.Generic
	for i := range deliveries {
		dl := &deliveries[i]
		dl.Org, dl.Message, dl.CreatedAt, dl.NextAt = m.Org, m.ID, m.CreatedAt, m.SendAt
		if dl.State == spool.Ready && m.SendAt.After(m.CreatedAt) {
			dl.State, dl.Reason = spool.Scheduled, spool.ReasonScheduled
		}
		if dl.Plan.Purpose.StricterThan(m.Purpose) {
			m.Purpose = dl.Plan.Purpose
		}
		for _, trigger := range dl.Plan.Triggers {
			if _, err := mail.RemoveTrigger(&opened.Header, trigger); err != nil {
				return err
			}
		}
	}
	if m.Purpose == policy.Marketing {
		m.Lane = spool.LaneOf(spool.Bulk, m.Lane.Priority())
	}
	opened.Header = d.withoutProofs(WithoutOwn(opened.Header))
	m.Header = opened.Header.Bytes()
	m.Size = int64(len(m.Header)) + body.size
	m.Envelope = spool.Envelope{Sender: draft.Sender, RequireTLS: draft.RequireTLS, EightBit: body.eightBit, UTF8: mail.NeedsSMTPUTF8(opened.Header)}
	m.Details = spool.Details{From: private.NewString(opened.Header.Get("From")),
		Subject: private.NewString(mail.DecodeText(opened.Header.Get("Subject"))), Tags: draft.Tags, Metadata: draft.Metadata}
	p.message, p.deliveries = m, deliveries
	p.rows, err = spool.Prepare(m, deliveries, p.staged.SHA256(), func(address string) ([]byte, error) {
		return d.Custody.Index(m.Org, spool.IndexAddress, address)
	})
	return err
}

// decide makes one delivery per distinct recipient, and one for the archive.
func (d *Door) decide(ctx context.Context, draft Draft, ask spool.Lane, org *orgFacts, opened *mail.Submitted, body *inspected, now time.Time) ([]spool.Delivery, error) {
	facts := policy.Facts{
		Sender: draft.Sender, Purpose: draft.Purpose, DefaultPurpose: policy.Purpose(draft.Principal.DefaultPurpose),
		Subject: opened.Subject, Headers: org.policy.Headers(opened.Header.Values), Size: body.size,
		RequestSeal: draft.Seal, RequireTLS: draft.RequireTLS, Encrypted: body.encrypted(),
	}
	for _, m := range opened.From {
		facts.From = append(facts.From, m.Address)
	}
	var all []spool.Delivery
	seen := map[string]bool{}
	refused := 0
	for _, to := range draft.Recipients {
		if seen[to.Normal()] {
			continue
		}
		seen[to.Normal()] = true
		facts.Recipient, facts.Posture = to, d.Posture(ctx, to.Domain())
		var err error
		if facts.Keys, err = d.Keys(ctx, draft.Principal.Org, to); err != nil {
			return nil, err
		}
		plan := policy.Decide(org.policy, facts)
		dl := spool.Delivery{ID: id.New(), Recipient: to, Plan: plan, Seal: plan.Forecast, State: spool.Ready, CreatedAt: now}
		switch {
		case plan.Refuse != "":
			dl.State, dl.Reason, dl.Seal = spool.Failed, spool.ReasonPolicyRefused, ""
			refused++
		case plan.Hold != "":
			dl.State, dl.Reason = spool.Held, spool.ReasonHeld
		}
		all = append(all, dl)
	}
	if err := d.suppress(ctx, draft.Principal.Org, ask, all); err != nil {
		return nil, err
	}
	if refused == len(all) {
		return all, fault.New(fault.Refused, "refused_by_policy", "Your organization's policy refuses this message: "+all[0].Plan.Refuse)
	}
	archive, err := d.journal(ctx, draft, org, facts, now)
	return append(all, archive...), err
}

// commit writes everything in one transaction and hands the work over.
func (d *Door) commit(ctx context.Context, draft Draft, p *prepared) (Receipt, error) {
	receipt := Receipt{Message: p.message.ID, Deliveries: forecasts(p.deliveries)}
	answer, err := d.sealAnswer(draft, p, receipt)
	if err != nil {
		return Receipt{}, err
	}
	err = d.store(ctx, p, func(tx *db.Tx) error {
		if answer == nil {
			return nil
		}
		return answer.insert(tx, p.message.CreatedAt.Add(-d.IdempotencyTTL))
	})
	if errors.Is(err, errAnswered) {
		r, found, err := d.answered(ctx, draft)
		if err == nil && !found { // it has just grown too old
			err = errAnswerGone
		}
		return r, err
	}
	if err != nil {
		return Receipt{}, err
	}
	return receipt, nil
}

// store commits a message, and with it what else belongs to it, and hands its
// work over.
func (d *Door) store(ctx context.Context, p *prepared, also func(*db.Tx) error) error {
	ready := p.ready()
	run := d.Reserve(ready)
	err := d.DB.Write(context.WithoutCancel(ctx), p.message.Org, func(tx *db.Tx) error {
		if err := also(tx); err != nil {
			return err
		}
		if err := d.Custody.SaveDataKey(tx, p.message.Key); err != nil {
			return err
		}
		if err := p.staged.Save(tx); err != nil {
			return err
		}
		return p.rows.Insert(tx, run)
	})
	if err != nil {
		d.Push(run, ready, nil)
		return fmt.Errorf("accept: %w", err)
	}
	d.Push(run, ready, p.work(run))
	return nil
}

var errAnswerGone = fault.New(fault.Unavailable, "try_again", "The earlier answer to this Idempotency-Key has just been forgotten. Try again.")

// ready lists what can be attempted at once.
func (p *prepared) ready() (items []spool.Item) {
	for _, w := range p.work(id.ID{}) {
		items = append(items, w.Item)
	}
	return items
}

// work gives what is ready to the engine, with the message still in memory.
func (p *prepared) work(run id.ID) []spool.Work {
	var all []spool.Work
	for i := range p.deliveries {
		dl := &p.deliveries[i]
		if dl.State != spool.Ready {
			continue
		}
		all = append(all, spool.Work{
			Item: spool.Item{ID: dl.ID, Org: dl.Org, Message: dl.Message, Lane: p.message.Lane, Domain: dl.Recipient.Domain()}, Run: run,
			Message: &p.message, Delivery: dl, Body: p.body,
		})
	}
	return all
}

// forecasts are what the sender is told. The copy for the archive is not the
// sender's business.
func forecasts(deliveries []spool.Delivery) []Forecast {
	all := make([]Forecast, 0, len(deliveries))
	for _, dl := range deliveries {
		if dl.Journal {
			continue
		}
		all = append(all, Forecast{Delivery: dl.ID, Recipient: dl.Recipient, Seal: dl.Seal, Grade: dl.Plan.ForecastGrade,
			Rule: dl.Plan.Rule, Reason: dl.Plan.Sentence(), Reasons: slices.Clone(dl.Plan.Reasons), State: dl.State})
	}
	return all
}
