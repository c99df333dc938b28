package seal

import (
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
	// Headers reports whether subject, sender and date are inside of the
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
	Matches     bool           // the key or certificate names the address in From
	Fingerprint private.String // of the key, or SHA-256 of the certificate
	Name        private.String // the address the key or certificate names
	Tier        policy.Tier    // OpenPGP: how far the key is trusted
	At          time.Time      // when it says it was made; zero: it does not say
}

// Layer is one envelope or signature that was taken off.
type Layer struct {
	Path       string      // of the part it was at; "" is the message itself
	Kind       policy.Seal // pgp or smime
	Act        string      // "encrypted", "signed", "encrypted and signed"
	Algorithms string
	Integrity  string // how alteration is noticed: mdc, aead, gcm, "none"; "" for a signature
	Opened     bool   // false: it could not be decrypted
	Recipient  mail.Address
}
