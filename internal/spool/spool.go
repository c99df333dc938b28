// Package spool keeps messages and deliveries: what was accepted, what is
// still to be done and who is doing it.
//
// A delivery is unsettled in one of the upper states and then settles. A
// waiting delivery (its notice is accepted, nobody has read it yet) is settled
// and can still become read, expired or canceled; and what a mail system has
// taken and then returns becomes failed.
//
//	           ┌───────── hold ─────────┐
//	           ▼                        │
//	(new) ─▶ held ── release ─▶ ready ◀─┴─▶ deferred     (release: scheduled, while send_at is ahead)
//	  │                          ▲  │          │
//	  ├──▶ scheduled ── due ─────┘  │◀── due ──┘
//	  ├──▶ ready                    ▼
//	  │                          sending ─▶ delivered ─ bounce ─▶ failed
//	  │                             │  ├──▶ waiting ─▶ read | expired | canceled
//	  │                             │  │      └───── bounce ───▶ failed
//	  │                             │  ├──▶ failed
//	  │                             │  └──▶ expired
//	  │                             └─ temporary ─▶ deferred
//	  └──▶ suppressed ◀── ready     (the address is one that nothing is sent to)
//	held | scheduled | ready | deferred ── cancel ─▶ canceled
//
// Invariants:
//   - Messages and deliveries are records that stay for years: only retain
//     destroys them, in stages. The table of unsettled deliveries holds only
//     work to be done, and stays small.
//   - Every change of state is one transaction with its ledger entry.
//   - An unsettled delivery in a node's memory names that node's run as its
//     owner. An attempt begins by moving it from ready to sending under that
//     owner, and its outcome is recorded only if it is still there: who lost
//     the row, lost the right to say what happened.
//   - Subjects, addresses, header fields, tags and metadata are sealed under
//     the message's data key; what is in clear is what queues need: domains,
//     states, times, plans.
//   - Only submit adds messages; only pickup, bounce and tlsrpt add notices.
package spool

import (
	"time"

	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

// State is where a delivery stands.
type State string

// The states. The first five are unsettled.
const (
	Held      State = "held"
	Scheduled State = "scheduled"
	Ready     State = "ready"
	Sending   State = "sending"
	Deferred  State = "deferred"

	Waiting    State = "waiting"
	Delivered  State = "delivered"
	Read       State = "read"
	Failed     State = "failed"
	Expired    State = "expired"
	Canceled   State = "canceled"
	Suppressed State = "suppressed"
)

// Settled reports whether nothing is left to be done by the engine.
func (s State) Settled() bool {
	switch s {
	case Held, Scheduled, Ready, Sending, Deferred:
		return false
	}
	return true
}

// Sources of messages.
const (
	FromAPI   = "api"
	FromSMTP  = "smtp"
	FromRelay = "relay"
	// FromOutside is mail that strangers bring for members. In the table it is
	// a mark beside FromRelay, since a check there names the sources of old.
	FromOutside = "inbound"
)

// Labels bind ciphertexts to their use for ever.
const (
	labelRecipient = "spool.recipient.v1"
	labelEnvelope  = "spool.envelope.v1"
	labelHeader    = "spool.header.v1"
	labelDetails   = "spool.details.v1"
	labelNotice    = "spool.notice.v1"

	// IndexAddress labels HMACs of addresses in their normal form v1.
	IndexAddress = "spool.address.v1"
)

// Message is an accepted draft.
type Message struct {
	ID, Org, Client id.ID
	Source          string
	Purpose         policy.Purpose
	Key             *custody.DataKey
	Blob            id.ID // the body, without the header
	Size            int64 // octets of header and body
	Envelope        Envelope
	Header          []byte // the header as it is sent, with the blank line
	Details         Details
	PolicyVersion   int64
	Lane            Lane
	CreatedAt       time.Time
	SendAt          time.Time
	ExpiresAt       time.Time
}

// Envelope is what the transport needs to know of a message.
type Envelope struct {
	Sender     mail.Address // zero for the null sender
	RequireTLS bool
	EightBit   bool
	UTF8       bool
	// Proved says of mail from outside that the sender is no forgery, so that
	// it may be told what became of its mail.
	Proved bool
}

// Details are what people see of a message in lists and answers.
type Details struct {
	From     private.String // as in the header
	Subject  private.String
	Tags     []private.String
	Metadata []Pair
}

// Pair is one entry of a message's metadata.
type Pair struct{ Name, Value private.String }

// Delivery is one message to one recipient.
type Delivery struct {
	ID, Org, Message id.ID
	Recipient        mail.Address
	Plan             policy.Plan
	Seal             policy.Seal  // a forecast until Final
	Final            bool         // the seal was applied
	Grade            policy.Grade // of the transport that took it; None before
	Reason           string       // stable word: why it is in its state
	Attempts         int
	State            State
	NextAt           time.Time // when an unsettled delivery is due
	CreatedAt        time.Time
	SettledAt        time.Time // zero while unsettled
	Journal          bool      // the copy for the organization's archive, not a recipient's
}

// Item is an unsettled delivery or notice as the engine holds it in memory.
type Item struct {
	ID, Org, Message id.ID
	Notice           bool
	Lane             Lane
	Domain           string
}

// Reasons: stable words for why a delivery is in its state.
const (
	ReasonNoPrivateChannel = "no_private_channel" // no transport of the recipient's domain is private enough
	ReasonTLSUnavailable   = "tls_unavailable"    // the same, but it may be better later
	ReasonDANE             = "dane_failed"        // the TLSA records of the domain's hosts cannot be had or kept
	ReasonPartner          = "partner_not_proved" // what the organization arranged with the domain cannot be kept
	ReasonPolicyRefused    = "refused_by_policy"  // a rule refuses it
	ReasonRejected         = "rejected"           // the peer refused it for good
	ReasonUserUnknown      = "user_unknown"       // the peer has no such mailbox
	ReasonMailboxFull      = "mailbox_full"
	ReasonTemporary        = "temporary_failure" // the peer asked to try later
	ReasonUnreachable      = "unreachable"       // no host of the domain could be reached
	ReasonTimeout          = "timeout"           // the peer fell silent
	ReasonLookup           = "dns_failure"       // the DNS did not answer
	ReasonNullMX           = "null_mx"           // the domain says it takes no mail (RFC 7505)
	ReasonNoDomain         = "no_such_domain"
	ReasonUnknown          = "outcome_unknown"    // the connection was lost after the final dot
	ReasonRequireTLS       = "requiretls_missing" // REQUIRETLS cannot be kept (RFC 8689)
	ReasonUTF8             = "smtputf8_required"  // the address needs SMTPUTF8 and the peer has it not
	ReasonTooLarge         = "too_large_for_peer"
	ReasonExpired          = "tried_too_long"
	ReasonLinkExpired      = "not_read_in_time"
	ReasonOperator         = "by_operator"
	ReasonSender           = "by_sender"
	ReasonContentDestroyed = "content_destroyed"
	ReasonHeld             = "held_for_review"
	ReasonScheduled        = "send_at"
	ReasonSuspended        = "site_suspended"    // the recipient's site is left alone for a while
	ReasonSource           = "source_exhausted"  // the pool it leaves from has reached its ceiling
	ReasonNoKey            = "no_usable_key"     // the plan asks for one and the recipient has none
	ReasonNoRoute          = "no_route"          // mail from outside has nowhere to go: its domain's route is gone
	ReasonKeyLookup        = "key_lookup_failed" // the same, but a source could not be asked now
	ReasonBounced          = "bounced"           // the peer took it and returned it later

	// Why the address is suppressed.
	ReasonSuppressedHard      = "suppressed_hard_bounce"
	ReasonSuppressedSoft      = "suppressed_soft_bounces"
	ReasonSuppressedComplaint = "suppressed_complaint"
	ReasonSuppressedManual    = "suppressed_manual"
	ReasonSuppressedImport    = "suppressed_import"

	// Why the portal was taken in place of TLS.
	ReasonByPolicy        = "by_policy" // or by the caller's choice
	ReasonCertExpired     = "certificate_expired"
	ReasonCertWrongName   = "certificate_wrong_name"
	ReasonCertUntrusted   = "certificate_untrusted"
	ReasonCertInvalid     = "certificate_invalid"
	ReasonWeakSuite       = "tls_too_weak"
	ReasonServerNotProved = "server_not_proved" // nothing but plain DNS vouches for it
)

// Work is an item on its way to an attempt. What is nil is read from the
// database.
type Work struct {
	Item
	Run      id.ID // that owns it
	Message  *Message
	Delivery *Delivery
	Body     []byte
}

// Bytes is how much memory the message takes while it waits.
func (w Work) Bytes() int64 {
	if w.Message == nil {
		return 0
	}
	return int64(len(w.Body) + len(w.Message.Header))
}
