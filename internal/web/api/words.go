package api

import (
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/spool"
)

// states says what each state of a delivery means.
var states = map[spool.State]string{
	spool.Held:       "Waits for a person of your organization to release or cancel it.",
	spool.Scheduled:  "Waits for its send_at.",
	spool.Ready:      "Will be tried now.",
	spool.Sending:    "Is being tried this moment.",
	spool.Deferred:   "Was tried without success and will be tried again.",
	spool.Waiting:    "The notice was delivered; the message waits in the portal to be read.",
	spool.Delivered:  "The recipient's mail server has it.",
	spool.Read:       "The recipient read it in the portal.",
	spool.Failed:     "Will not be delivered.",
	spool.Expired:    "Was not delivered, or not read, in time.",
	spool.Canceled:   "Was taken back before it was delivered or read.",
	spool.Suppressed: "Is not sent, because the recipient's address is suppressed.",
}

// stateOrder is how they are listed: first those that are not settled.
var stateOrder = []spool.State{spool.Held, spool.Scheduled, spool.Ready, spool.Sending, spool.Deferred,
	spool.Waiting, spool.Delivered, spool.Read, spool.Failed, spool.Expired, spool.Canceled, spool.Suppressed}

// sentences says what the words for reasons mean.
var sentences = map[string]string{
	spool.ReasonNoPrivateChannel: "No transport of the recipient's domain is private enough.",
	spool.ReasonTLSUnavailable:   "No transport of the recipient's domain was private enough; it is tried again.",
	spool.ReasonDANE:             "The recipient's domain says in the DNS which certificate its mail server has, and that cannot be verified.",
	spool.ReasonPartner:          "The recipient's mail server does not prove itself as your organization has arranged with its domain.",
	spool.ReasonPolicyRefused:    "A rule of your organization's policy refuses it.",
	spool.ReasonRejected:         "The recipient's mail server refused it for good.",
	spool.ReasonUserUnknown:      "The recipient's mail server has no such mailbox.",
	spool.ReasonMailboxFull:      "The recipient's mailbox is full.",
	spool.ReasonTemporary:        "The recipient's mail server asked to try again later.",
	spool.ReasonUnreachable:      "No mail server of the recipient's domain could be reached.",
	spool.ReasonTimeout:          "The recipient's mail server fell silent.",
	spool.ReasonLookup:           "The DNS did not answer.",
	spool.ReasonNullMX:           "The recipient's domain says that it takes no mail.",
	spool.ReasonNoDomain:         "The recipient's domain does not exist.",
	spool.ReasonUnknown:          "The connection was lost before the recipient's mail server answered.",
	spool.ReasonRequireTLS:       "REQUIRETLS cannot be kept on the way to the recipient.",
	spool.ReasonUTF8:             "The recipient's mail server does not know SMTPUTF8, which an address needs.",
	spool.ReasonTooLarge:         "The message is larger than the recipient's mail server takes.",
	spool.ReasonExpired:          "It was tried until it expired.",
	spool.ReasonLinkExpired:      "It was not read before its link expired.",
	spool.ReasonOperator:         "An operator did this.",
	spool.ReasonSender:           "The sender took it back.",
	spool.ReasonContentDestroyed: "Its content was destroyed.",
	spool.ReasonHeld:             "It is held for review.",
	spool.ReasonNoKey:            "The policy asks for encryption to the recipient's own key, and none can be used. It is held until there is one.",
	spool.ReasonKeyLookup:        "The policy asks for encryption to the recipient's own key, and a place where it may be published did not answer. It is tried again.",
	spool.ReasonScheduled:        "It waits for its send_at.",
	spool.ReasonSuspended:        "The recipient's mail servers do not answer or asked to be left alone; it is tried when they may be asked again.",
	spool.ReasonSource:           "The addresses it leaves from have reached what they may send today; it is tried when they may send again.",
	spool.ReasonBounced:          "The recipient's mail server took it and returned it later.",

	spool.ReasonSuppressedHard:      "Nothing is sent to this address, because mail to it was returned: there is no such mailbox.",
	spool.ReasonSuppressedSoft:      "Nothing is sent to this address for a time, because mail to it was returned again and again.",
	spool.ReasonSuppressedComplaint: "No bulk mail is sent to this address, because its owner complained.",
	spool.ReasonSuppressedManual:    "Nothing is sent to this address, because your organization wants it so.",
	spool.ReasonSuppressedImport:    "Nothing is sent to this address: it is on a list that your organization imported.",

	spool.ReasonByPolicy:        "The policy, or the caller, chose the portal.",
	spool.ReasonCertExpired:     "The certificate of the recipient's mail server is not valid at this time, so the message waits in the portal.",
	spool.ReasonCertWrongName:   "The certificate of the recipient's mail server is for another name, so the message waits in the portal.",
	spool.ReasonCertUntrusted:   "The certificate of the recipient's mail server comes from no trusted authority, so the message waits in the portal.",
	spool.ReasonCertInvalid:     "The certificate of the recipient's mail server is not valid, so the message waits in the portal.",
	spool.ReasonWeakSuite:       "The recipient's mail server offers no TLS that is strong enough, so the message waits in the portal.",
	spool.ReasonServerNotProved: "Nothing proves that the server is the recipient's, as the policy asks, so the message waits in the portal.",
}

// sentence tells people why a delivery is as it is.
func sentence(d spool.Delivery) string {
	switch {
	case d.State == spool.Held && d.Plan.Hold != "" && d.Reason == spool.ReasonHeld && len(d.Plan.Seals) > 0:
		return "Held for review: " + d.Plan.Hold
	case d.State == spool.Failed && d.Plan.Refuse != "":
		return d.Plan.Refuse
	}
	if s, ok := sentences[d.Reason]; ok {
		return s
	}
	if d.State == spool.Delivered && (d.Seal == policy.PGP || d.Seal == policy.SMIME) {
		return "Encrypted to the recipient's own key; the transport was " + d.Grade.String() + "."
	}
	if d.State == spool.Delivered {
		return "Sent over TLS; the transport was " + d.Grade.String() + "."
	}
	return d.Plan.ForecastReason
}
