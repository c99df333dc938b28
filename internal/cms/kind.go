package cms

import "io"

// Kind is what sort of CMS content a message is.
type Kind string

// The kinds. Anything else is the empty Kind.
const (
	KindEnveloped     Kind = "enveloped"
	KindAuthEnveloped Kind = "auth-enveloped"
	KindSigned        Kind = "signed"
	KindCompressed    Kind = "compressed"
)

// KindOf tells the kind of a message from its structure, BER or DER.
func KindOf(message io.Reader) Kind { return "" }
