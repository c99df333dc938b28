package cms

import "io"

// Kind is what sort of CMS content a message is.
type Kind string

// The kinds. Anything else is the empty Kind.
const (
	Enveloped     Kind = "enveloped"
	AuthEnveloped Kind = "auth-enveloped"
	SignedKind    Kind = "signed"
	Compressed    Kind = "compressed"
)

// KindOf tells the kind of a message from its structure, BER or DER.
func KindOf(message io.Reader) Kind { return "" }
