// Package classify reads what mail systems send back: that a message was not
// delivered, is late or has arrived, that its recipient complains or is away.
//
//	Read:  a whole mail that came to a return path → Report
//	Reply: one SMTP reply that a delivery of ours heard → Class
//
// A mail is understood from the firmest ground down: the fields of a delivery
// status notification (RFC 3464, RFC 6533) or a feedback report (RFC 5965);
// the SMTP reply that stands in the text; the enhanced status (RFC 3463); and
// at last phrases that mail systems use.
//
// Invariants:
//   - Read takes what anybody may send: it reads no more than MaxBytes, looks
//     at no more than fixed numbers of parts, fields, lines and recipients, and
//     passes over each octet a fixed number of times. It takes less than a
//     second and 64 MB whatever comes in.
//   - A mail that is not surely about a delivery is None. A wrong "bounced"
//     would stop mail to a patient.
//   - Nothing of the returned message is kept but its Message-ID and its
//     return path. Addresses and texts are private.
//   - Every address returned parses as a mail.Address.
package classify

import "github.com/sealpost/sealpost/internal/private"

// Kind is what a mail tells.
type Kind string

// The kinds. None is the zero value: nothing about a delivery.
const (
	None      Kind = ""
	Bounce    Kind = "bounce"    // the peer has given up
	Delay     Kind = "delay"     // the peer is still trying
	Delivered Kind = "delivered" // a success DSN, a relayed or expanded one too
	Complaint Kind = "complaint" // a feedback report (RFC 5965)
	Autoreply Kind = "autoreply" // an answer no person wrote (RFC 3834)
)

// Class is why a message was not delivered.
type Class string

// The classes; the list is fixed, because rules and statistics name them.
const (
	MailboxUnknown Class = "mailbox_unknown" // no such mailbox, moved away, or closed for good
	MailboxFull    Class = "mailbox_full"
	Policy         Class = "policy" // refused for who sends it, or for what the recipient's system allows
	Spam           Class = "spam"   // refused for what it seems to be
	Content        Class = "content"
	DNS            Class = "dns" // the domain does not exist or takes no mail
	TLS            Class = "tls"
	Rate           Class = "rate"
	Expired        Class = "expired" // nobody answered until time was up
	Other          Class = "other"
)

// Classes lists them.
func Classes() []Class {
	return []Class{MailboxUnknown, MailboxFull, Policy, Spam, Content, DNS, TLS, Rate, Expired, Other}
}

// Report is what a mail tells of our deliveries.
type Report struct {
	Kind       Kind
	Recipients []Recipient // each once, in the order of the report
	// OriginalMessageID, without angle brackets, and OriginalReturnPath are of
	// the returned message: they tie a report to a delivery where the address
	// it came to does not.
	OriginalMessageID  private.String
	OriginalReturnPath private.String
	Feedback           string // of a complaint: abuse, fraud, virus, not-spam, opt-out, auth-failure, other
	Reporter           string // host name of the system that reports, lower case
}

// Recipient is what became of one recipient.
type Recipient struct {
	Address private.String
	// Original is the address we sent to, where the report tells it and it is
	// not Address: the peer had forwarded the message.
	Original private.String
	Kind     Kind // Bounce, Delay or Delivered, and in others what the report is
	// Permanent: the status is of class 5, so sending the same again later
	// would fail too. A peer can also give up on what is not permanent (Kind
	// Bounce, status 4.4.7).
	Permanent bool
	// Hard: the mailbox does not exist and is not expected to, so that nothing
	// should be sent there anymore.
	Hard       bool
	Class      Class
	Status     string // enhanced status (RFC 3463), or ""
	Code       int    // SMTP reply code, or 0
	Diagnostic private.String
}

// Sent is the address that the message was sent to, as far as is known.
func (r Recipient) Sent() private.String {
	if !r.Original.Empty() {
		return r.Original
	}
	return r.Address
}

// sentences say each class to people.
var sentences = map[Class]string{
	MailboxUnknown: "The mailbox does not exist.",
	MailboxFull:    "The mailbox is full.",
	Policy:         "The recipient's mail system does not accept mail from this sender.",
	Spam:           "The recipient's mail system takes the message for spam.",
	Content:        "The recipient's mail system does not accept what the message contains or how it is made.",
	DNS:            "The recipient's domain does not exist or takes no mail.",
	TLS:            "The connection to the recipient's mail system was not secure enough.",
	Rate:           "The recipient's mail system takes no more mail from this sender for now.",
	Expired:        "The recipient's mail system did not answer until the time for delivery was up.",
	Other:          "The recipient's mail system did not accept the message.",
}

// Sentence says the class to people.
func (c Class) Sentence() string {
	if s, ok := sentences[c]; ok {
		return s
	}
	return sentences[Other]
}
