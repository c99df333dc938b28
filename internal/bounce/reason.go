package bounce

import "github.com/sealpost/sealpost/internal/spool"

// wording is what a sender is told of a reason.
type wording struct {
	status string // RFC 3463, RFC 5248
	peer   bool   // a status that the peer gave says more
	why    string // one sentence, true of failures and of delays
	do     string // what to do once it is over
}

const (
	sayAgain   = "If it is still needed, send it again later, or reach the recipient in another way."
	sayAdmin   = "If this is not what you expect, ask your mail administrator and name the two ids below."
	sayAllowed = "If the address is right and works, ask your mail administrator to allow it again, or reach the recipient in another way."
	sayAddress = "Check the address for mistakes and send the message again, or ask the recipient in another way."
)

// wordings has every reason of package spool; a test compares the two.
var wordings = map[string]wording{
	spool.ReasonNoPrivateChannel: {"5.7.4", false,
		"The recipient's mail system offers no connection that is private enough for your organization's mail, so the message was not sent to it.",
		"Reach the recipient in another way, or ask your mail administrator whether the secure portal may be used for this recipient."},
	spool.ReasonTLSUnavailable: {"4.7.4", false,
		"The connection to the recipient's mail system was not private enough for your organization's mail, so nothing was sent over it.", sayAgain},
	spool.ReasonDANE: {"4.7.5", false, // RFC 5248: cryptographic failure
		"The recipient's domain says in the DNS which certificate its mail system has, and the mail system did not prove itself by it, so nothing was sent to it.",
		"Tell the recipient in another way that mail to the domain fails, so that its administrators can put their DANE records right."},
	spool.ReasonPartner: {"4.7.5", false,
		"The recipient's mail system did not prove itself in the way that your organization has arranged with its domain, so nothing was sent to it.",
		"Ask your mail administrator whether the recipient's organization has changed its certificate."},
	spool.ReasonPolicyRefused: {"5.7.1", false,
		"Your organization's policy does not allow this message to be sent to this recipient.", sayAdmin},
	spool.ReasonNoRoute: {"5.4.4", false, // RFC 3463: unable to route
		"This mail system does not take mail for the recipient's domain any more.", sayAddress},
	spool.ReasonRejected: {"5.0.0", true,
		"The recipient's mail system refused the message for good.", sayAddress},
	spool.ReasonUserUnknown: {"5.1.1", true,
		"The recipient's mail system has no mailbox of this address.", sayAddress},
	spool.ReasonMailboxFull: {"4.2.2", true,
		"The recipient's mailbox is full.", sayAgain},
	spool.ReasonTemporary: {"4.0.0", true,
		"The message could not be handed over, for a reason that may pass.", sayAgain},
	spool.ReasonUnreachable: {"4.4.1", false,
		"No mail server of the recipient's domain could be reached.", sayAgain},
	spool.ReasonTimeout: {"4.4.2", false,
		"The recipient's mail system stopped answering.", sayAgain},
	spool.ReasonLookup: {"4.4.3", false,
		"The recipient's domain could not be looked up, because the domain name system did not answer.", sayAgain},
	spool.ReasonNullMX: {"5.1.10", false, // RFC 7505 section 4.1
		"The recipient's domain takes no mail at all.", sayAddress},
	spool.ReasonNoDomain: {"5.1.2", false,
		"The recipient's domain does not exist.", sayAddress},
	spool.ReasonUnknown: {"4.4.2", false,
		"The connection was lost before the recipient's mail system confirmed the message, so it may have arrived or not.",
		"Ask the recipient in another way before you send it again."},
	spool.ReasonRequireTLS: {"5.7.30", false, // RFC 8689 section 4.2.1
		"You asked that every server on the way protects the message (REQUIRETLS), and the recipient's mail system does not promise that.",
		"Send the message without this request if your organization's own rules are enough for it, or reach the recipient in another way."},
	spool.ReasonUTF8: {"5.6.7", false, // RFC 6531 section 4.6
		"An address or the header of the message has characters that the recipient's mail system cannot handle.",
		"Ask the recipient for an address of plain letters, or reach the recipient in another way."},
	spool.ReasonTooLarge: {"5.3.4", true,
		"The message is larger than the recipient's mail system accepts.", "Send it again with smaller or fewer attachments."},
	spool.ReasonExpired: {"4.4.7", false,
		"The message could not be handed over before its time was up, so we stopped trying.", sayAgain},
	spool.ReasonLinkExpired: {"4.4.7", false,
		"The recipient was told that a secure message is waiting, but did not read it before its link expired.",
		"If it is still needed, send it again, and tell the recipient in another way to expect it."},
	spool.ReasonOperator: {"5.7.1", false, "An administrator of the mail system stopped the message.", sayAdmin},
	spool.ReasonSender:   {"5.7.1", false, "The message was canceled by its sender.", sayAdmin},
	spool.ReasonContentDestroyed: {"5.3.0", false,
		"The content of the message was destroyed before it could be sent.", sayAdmin},
	spool.ReasonHeld: {"4.7.1", false, "The message waits for a person to review it.", sayAdmin},
	spool.ReasonNoKey: {"4.7.5", false, // RFC 5248: cryptographic failure
		"Your organization's policy asks for encryption to the recipient's own key, and no key of this recipient can be used.",
		"Ask the recipient for an OpenPGP key or an S/MIME certificate and give it to your mail administrator, or reach the recipient in another way."},
	spool.ReasonKeyLookup: {"4.7.5", false,
		"Your organization's policy asks for encryption to the recipient's own key, and the place where it is published did not answer.", sayAgain},
	spool.ReasonSuspended: {"4.4.5", false,
		"The recipient's mail system takes no mail from us for a while, so nothing is sent to it meanwhile.", sayAgain},
	spool.ReasonSource: {"4.4.5", false,
		"The addresses that this mail leaves from have reached what they may send in a day.", sayAgain},
	spool.ReasonBounced: {"5.0.0", true,
		"The recipient's mail system took the message and returned it later.", sayAddress},
	spool.ReasonSuppressedHard: {"5.1.1", false,
		"Nothing was sent: earlier mail to this address was returned, because there is no such mailbox.", sayAllowed},
	spool.ReasonSuppressedSoft: {"5.2.1", false,
		"Nothing was sent: earlier mail to this address was returned several times, so it is not used for a time.", sayAllowed},
	spool.ReasonSuppressedComplaint: {"5.7.1", false,
		"Nothing was sent: the owner of this address complained about bulk mail of your organization.", sayAdmin},
	spool.ReasonSuppressedManual: {"5.7.1", false,
		"Nothing was sent: your organization has decided to send nothing to this address.", sayAdmin},
	spool.ReasonSuppressedImport: {"5.7.1", false,
		"Nothing was sent: the address is on a list of those that your organization sends nothing to.", sayAdmin},
	spool.ReasonScheduled: {"4.3.0", false, "The message is to be sent later.", sayAdmin},

	// Why the portal was taken. A delivery that ends badly behind it has a
	// reason of its own, so these are here for the day one does not.
	spool.ReasonByPolicy: {"5.7.1", false,
		"Your organization's policy lets this recipient read the message in the secure portal only.", sayAdmin},
	spool.ReasonCertExpired: {"5.7.5", false,
		"The certificate of the recipient's mail server is not valid at this time.", sayAdmin},
	spool.ReasonCertWrongName: {"5.7.5", false,
		"The certificate of the recipient's mail server is for another name.", sayAdmin},
	spool.ReasonCertUntrusted: {"5.7.5", false,
		"The certificate of the recipient's mail server comes from an authority that we do not know.", sayAdmin},
	spool.ReasonCertInvalid: {"5.7.5", false,
		"The certificate of the recipient's mail server cannot be verified.", sayAdmin},
	spool.ReasonWeakSuite: {"5.7.5", false,
		"The recipient's mail server encrypts too weakly for your organization's mail.", sayAdmin},
	spool.ReasonServerNotProved: {"5.7.5", false,
		"Nothing proves that the mail server is the one of the recipient's domain.", sayAdmin},
}

// unexplained is said of a word that the table does not have.
var unexplained = wording{"5.0.0", true, "The message could not be delivered.", sayAdmin}

func word(reason string) wording {
	if w, ok := wordings[reason]; ok {
		return w
	}
	return unexplained
}
