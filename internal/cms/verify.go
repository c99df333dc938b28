package cms

import (
	"crypto/x509"
	"errors"
	"io"
	"time"
)

// Signature is the verdict on one SignerInfo.
type Signature struct {
	Status       string // valid invalid unknown_signer weak_hash unsupported
	Digest       string // "SHA-256"
	Algorithm    string // "RSA-2048 PSS"
	At           time.Time
	Certificate  *x509.Certificate
	Capabilities []string // "AES-256-GCM"
}

// Signed is what a SignedData holds.
type Signed struct {
	Content      []byte // nil when detached
	Signatures   []Signature
	Certificates []*x509.Certificate
}

// Verify checks the signatures of a SignedData, BER or DER.
func Verify(message []byte, detached io.Reader, max int64) (*Signed, error) {
	return nil, errors.New("not built yet")
}
