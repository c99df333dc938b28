// Package policy turns facts about one message to one recipient into a plan:
// which seals may protect the delivery, in which order, over which transport
// at least, and whether it is held or refused. It is pure: it sees no clock,
// no network and no database, and the same document and facts always give the
// same plan.
//
// Invariants:
//   - Rules only strengthen. They remove seals, raise a floor, make the
//     purpose stricter, hold or refuse; adding a rule to a document never adds
//     a seal, lowers a floor or lets something pass that was held or refused.
//   - All matching rules apply and their results combine to the strictest, so
//     the order of rules decides only which of them is named.
//   - No document, not even one made by hand, lowers the floor of tls under
//     verified or that of notices under encrypted.
//   - A plan without a seal is held. Nothing is ever sent unsealed.
//   - A later decision stays within the plan (Narrow): it never adds a seal,
//     lowers a floor, forgets a refusal or, unless an operator released the
//     delivery, a hold.
//   - A plan is stored and shown in clear: it holds names of rules, sentences
//     an administrator wrote and words of the document, never an address, a
//     subject or a header of a message.
//
// Requirements that the recipient's domain itself publishes (MTA-STS, DANE)
// are not written into the plan. They bind each attempt at the time it is
// made, on top of the plan's floor.
package policy

import (
	"slices"

	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
)

// Seal is the protection of one delivery.
type Seal string

// The seals, in the default order.
const (
	PGP    Seal = "pgp"
	SMIME  Seal = "smime"
	TLS    Seal = "tls"
	Portal Seal = "portal"
)

// Seals are all seals in the default order.
func Seals() []Seal { return []Seal{PGP, SMIME, TLS, Portal} }

// Words that a plan may hold in place of a rule's name or reason.
const (
	// RuleDefault names the document's own settings as what chose.
	RuleDefault = "default"
	// HoldNoSeal says that no seal is left. An operator cannot release it,
	// because no later decision adds a seal.
	HoldNoSeal = "no_seal_left"
)

// Header is a header field of the message.
type Header struct {
	Name  string
	Value private.String
}

// Keys tells how far usable keys of the recipient are trusted; NoTier stands
// for none. At acceptance nobody has looked outside yet: then keys move the
// forecast only, and their absence removes no seal.
type Keys struct {
	Looked bool
	PGP    Tier
	SMIME  Tier
}

// Posture is what is known of the recipient's domain. It moves the forecast
// only: a posture can be stale, so it never removes a seal from the plan.
type Posture struct {
	Known      bool  // false: nothing has been learned yet
	NullMX     bool  // the domain says it takes no mail (RFC 7505)
	TLSKnown   bool  // CanTLS has been learned
	CanTLS     Grade // the best grade its MX hosts are known to reach
	STSEnforce bool  // MTA-STS policy in mode enforce (RFC 8461)
	DANE       bool  // usable TLSA records (RFC 7672)
}

// Facts are about one message to one recipient.
type Facts struct {
	Sender    mail.Address   // of the envelope; zero for the null sender
	From      []mail.Address // that recipients see; a rule for senders looks at all of them
	Recipient mail.Address

	Purpose        Purpose // stated by the caller, or empty
	DefaultPurpose Purpose // of the credential; empty stands for treatment

	Subject  private.String // decoded
	Headers  []Header       // values decoded
	Size     int64          // octets of the whole message
	Findings []string       // words for what was found in the content

	RequestSeal Seal // the caller's choice, which removes all others; or empty
	RequireTLS  bool // REQUIRETLS (RFC 8689)
	Encrypted   bool // the sender's own program has encrypted it

	Posture Posture
	Keys    Keys
}

// Plan is the decision for one delivery.
type Plan struct {
	Seals       []Seal  `json:"seals"` // allowed, in order
	Floor       Grade   `json:"floor"` // of tls
	NoticeFloor Grade   `json:"notice_floor"`
	Purpose     Purpose `json:"purpose"`
	RequireTLS  bool    `json:"require_tls,omitempty"`

	Rule    string   `json:"rule"`              // name of the rule that chose, or RuleDefault
	Reasons []string `json:"reasons,omitempty"` // sentences for people

	Hold     string `json:"hold,omitempty"`     // why it waits for a person, or empty
	Released bool   `json:"released,omitempty"` // a person let it go: rules hold it no more
	Refuse   string `json:"refuse,omitempty"`   // why it is not sent at all, or empty

	Triggers []string `json:"triggers,omitempty"` // to be removed from the subject by mail.RemoveTrigger

	Forecast       Seal   `json:"forecast,omitempty"` // the seal to expect today; empty for none
	ForecastGrade  Grade  `json:"forecast_grade"`     // the grade to expect when Forecast is tls
	ForecastReason string `json:"forecast_reason,omitempty"`
}

// Sentence tells people what the plan comes to as things look now.
func (p Plan) Sentence() string {
	switch {
	case p.Refuse != "":
		return p.Refuse
	case p.Hold == HoldNoSeal:
		return "Held: the policy leaves no way to seal it."
	case p.Hold != "":
		return "Held for review: " + p.Hold
	}
	return p.ForecastReason
}

// Allows reports whether seal is in the plan.
func (p Plan) Allows(seal Seal) bool {
	return slices.Contains(p.Seals, seal)
}
