package seal

import (
	"crypto/x509"
	"time"

	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

// Scope is how much of a message something covers.
type Scope string

// The scopes.
const (
	Nothing Scope = "none"
	Partly  Scope = "part"  // some parts; each part says whether it is one
	Whole   Scope = "whole" // all that is shown
)

// Outcome is the verdict in one word.
type Outcome string

// The outcomes.
const (
	// Proved: whole, unaltered, and signed by whom From names.
	Proved Outcome = "proved"
	// Doubted: there is something to read, and something to doubt.
	Doubted Outcome = "doubted"
	// Closed: the message could not be opened.
	Closed Outcome = "closed"
)

// Verdict says what is known about a message that was opened. Its sentences
// hold nothing of the message and can be shown to anybody; who signed is in
// Signers.
type Verdict struct {
	Outcome   Outcome
	Encrypted Scope
	// Integrity is how much of what was encrypted is proved to be as it was
	// sent; Nothing where nothing was encrypted.
	Integrity Scope
	// Signed is how much a valid signature covers, no matter whose.
	Signed Scope
	// Headers reports whether subject, sender and date are inside of all the
	// protection (RFC 9788).
	Headers bool
	Signers []Signer
	// Findings are sentences for people with stable words for programs, the
	// most important first.
	Findings []Finding
}

// Finding is one thing to know about a message.
type Finding struct {
	Word  string // stable: "no_integrity"
	Text  string // a sentence for people, without content
	Doubt bool   // it takes away from the trust in the message
}

// Has reports whether something was found, by its word.
func (v Verdict) Has(word string) bool {
	for _, f := range v.Findings {
		if f.Word == word {
			return true
		}
	}
	return false
}

// Signer is one signature of a message.
type Signer struct {
	Layer  int         // index in Opened.Layers
	Kind   policy.Seal // pgp or smime
	Status string      // valid, or the word of what is wrong with it
	// Author: the signature is inside of every encryption, so that whoever
	// made it knew what it is about.
	Author      bool
	Matches     bool           // the key or certificate is for the address in From
	Fingerprint private.String // of the key, or SHA-256 of the certificate
	Name        private.String // the address the key or certificate is for
	Tier        policy.Tier    // OpenPGP: how far the key is trusted to be that of Name
	At          time.Time      // when it says it was made; zero: it does not say

	names       []name // that the key or certificate is for
	certificate *x509.Certificate
	others      []*x509.Certificate
}

// name is an address a signer may speak for, and how far that is trusted.
type name struct {
	address mail.Address
	tier    policy.Tier
}

// Layer is one envelope or signature that was taken off.
type Layer struct {
	Path       string      // of the part it was at; "" is the message itself
	Kind       policy.Seal // pgp or smime
	Act        string      // "encrypted", "signed", "encrypted and signed"
	Algorithms string
	Integrity  string         // how alteration is noticed: mdc, aead, gcm, "none"; "" for a signature
	Opened     bool           // false: it could not be decrypted
	Key        private.String // which of our keys opened it
	Inline     bool           // armor in the text of the mail, not a MIME part
}

// findingText is what a word means to people.
type findingText struct {
	word  string
	doubt bool
	text  string
}

// sentences is the table of all findings, in the order in which they are told.
// A word is never changed: programs go by it.
var sentences = []findingText{
	{"malformed", true, "The header of this file does not parse, so nothing of it was read."},
	{"no_secret", true, "The message is encrypted, and there is no key here to try on it."},
	{"other_key", true, "The message is encrypted, but to none of the keys here."},
	{"cannot_decrypt", true, "The message is encrypted, and it does not open: it was damaged or altered on its way, or it is encrypted in a way that is not supported."},
	{"no_integrity_packet", true, "The message is encrypted in an old way that does not notice alteration, and is not opened."},
	{"too_large", true, "What is inside of the protection is far larger than the message itself, or over the limit, and is not opened."},
	{"too_deep", true, "There are more envelopes and signatures in each other than any mail program makes, and the rest is not opened."},
	{"compressed", true, "The content is compressed in a way (CMS CompressedData) that is not opened, because it is used to make a small message fill a machine."},
	{"malformed_inside", true, "What was encrypted or signed is not a mail, and is not shown."},
	{"cannot_read_signed", true, "The signed content cannot be read: it is damaged, or in a form that is not known."},

	{"signature_invalid", true, "A signature is not valid: what it covers was altered after it was signed, or it belongs to another message."},
	{"signature_with_content", true, "A signature brings other content along than the message shows. It is not believed."},
	{"signature_weak", true, "The message is signed in a way that can be forged (SHA-1 or older), so the signature proves nothing."},
	{"signature_unsupported", true, "The message is signed in a way that is not known here, so the signature proves nothing."},
	{"signer_unknown", true, "The message is signed with a key that is not known here, so the signature proves nothing about who wrote it."},
	{"signer_expired", true, "The key or certificate of the signature had expired."},
	{"signer_revoked", true, "The key or certificate of the signature was revoked by its owner or its issuer."},
	{"signer_differs", true, "The signature is valid, but it is by somebody else than the address in From."},
	{"signer_unproved", true, "The signature is valid, but nobody vouches that the key belongs to the address in From."},
	{"certificate_refused", true, "The signature is valid, but the certificate of the signer cannot be relied on."},
	{"certificate_unchecked", true, "The signature is valid, but there is no authority here to check the certificate of the signer against."},
	{"signers_unavailable", true, "The keys of the sender could not be looked up now."},
	{"signature_outside", true, "The signature is around the encryption and not inside: it shows who passed the message on, not who wrote it."},
	{"time_differs", true, "The signature was made at another time than the message says, or in the future: an old message may have been sent again."},
	{"not_signed", true, "Nobody signed the message: anybody could have written it."},

	{"no_integrity", true, "The encryption does not notice alteration (CBC without a signature inside): the message can be changed on its way by somebody who cannot read it."},
	{"html_withheld", true, "Only plain text and pictures are given. HTML and other files are withheld, because in a message that could have been changed they can send its content to somebody else when they are opened."},
	{"part_encrypted", true, "Only a part of the message was encrypted. It is shown by itself; everything around it can be by somebody else. Do not quote it in an answer."},
	{"part_signed", true, "Only a part of the message is signed. The signature says nothing about the rest."},
	{"charset_unprotected", true, "The text is not UTF-8, and only the header outside of the protection says which letters are meant: it could have been changed."},
	{"armor_in_text", true, "A text holds OpenPGP armor among other text. It is shown as it is and not opened."},
	{"malformed_protection", true, "A part calls itself encrypted or signed and is not built like that. It is treated as an ordinary part."},
	{"ambiguous_structure", true, "A field that says how to read a part is there twice. The part is offered as a file."},
	{"structure_broken", true, "The structure of the message does not parse or is too large. What is left is offered as a file."},
	{"no_from", true, "There is no readable sender in From."},
	{"several_from", true, "There is more than one sender in From, and mail programs show different ones."},
	{"name_poses", true, "The name of the sender looks like an address, and is not the address the message is from."},
	{"from_differs", true, "The sender inside of the protection is another one than outside, and no signature confirms it."},

	{"not_encrypted", false, "The message was not encrypted by its sender."},
	{"encrypted", false, "The whole message was encrypted."},
	{"integrity_proved", false, "It is proved to be as it was encrypted."},
	{"signed", false, "The whole message is signed, and the signature is by the address in From."},
	{"header_protected", false, "Subject, sender and date are those inside of the protection."},
	{"header_encrypted", false, "Subject, recipients and date were encrypted with the message, and no signature covers them: they are by whoever encrypted it."},
	{"header_hidden", false, "The header outside hides some of what the header inside says, as the sender meant it to."},
	{"outer_differs", false, "The header outside says something else than the header inside: it was changed on the way, and is not believed."},
	{"header_unprotected", false, "Subject, recipients and date are not covered by the protection and could have been changed on the way."},
	{"header_withheld", false, "The header inside of the encryption is not given, because neither the encryption nor the signature would show that it was changed."},
	{"inline", false, "The protection is in the text itself (inline OpenPGP): it covers no header, no attachment and no other part."},
	{"attached_message", false, "A message is attached. Its signature or encryption, if any, is its own and is not looked at."},
}
