package seal

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"time"

	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
)

var errNotBuilt = errors.New("not built yet")

// Batch is one message sealed once for all its recipients of one method.
type Batch struct{}

// Bytes is the memory the batch holds.
func (b *Batch) Bytes() int64 { return 0 }

// PGPBatch prepares a message for recipients with OpenPGP keys.
func PGPBatch(ctx context.Context, body Body, v6 bool, signer *openpgp.Secret, at time.Time) (*Batch, error) {
	return nil, errNotBuilt
}

// SMIMEBatch prepares a message for recipients with certificates.
func SMIMEBatch(ctx context.Context, body Body, c cms.Cipher, signer *cms.Signer, at time.Time) (*Batch, error) {
	return nil, errNotBuilt
}

// PGP seals to one recipient's OpenPGP key.
func PGP(b *Batch, from, to mail.Address, floor policy.Grade, key openpgp.Key, at time.Time) (*Artifact, error) {
	return nil, errNotBuilt
}

// SMIME seals to one recipient's certificate.
func SMIME(b *Batch, from, to mail.Address, floor policy.Grade, cert *x509.Certificate) (*Artifact, error) {
	return nil, errNotBuilt
}

// SignedBody signs a message that goes by TLS.
func SignedBody(ctx context.Context, body Body, pgp *openpgp.Secret, smime *cms.Signer, at time.Time) (Body, error) {
	return Body{}, errNotBuilt
}

// Sealed reports whether a message is already encrypted by its sender, told
// by parsed structure.
func Sealed(h mail.Header, body io.Reader) bool { return false }
