package certs

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/mail"
)

// Deps are what a Judge works with.
type Deps struct {
	DB    *db.DB
	Clock clock.Clock
	Log   *slog.Logger
	Roots *x509.CertPool // nil: those of the machine
	// Get fetches from outside: GET without a body, POST with one.
	Get func(ctx context.Context, url string, body []byte, bodyType string, max int64) ([]byte, error)
}

// Judge says whether a certificate may be used.
type Judge struct{}

// New makes a Judge.
func New(d Deps) *Judge { return &Judge{} }

// Verdict is what was found out about a certificate that may be used.
type Verdict struct {
	Chain      []*x509.Certificate
	Revocation string // "ocsp", "crl", "none published"
	Until      time.Time
}

var errNotBuilt = errors.New("not built yet")

// ForSealing judges a certificate that mail to a is to be encrypted to.
func (j *Judge) ForSealing(ctx context.Context, cert *x509.Certificate, others []*x509.Certificate, a mail.Address) (Verdict, error) {
	return Verdict{}, errNotBuilt
}

// Revocation asks whether a certificate proved otherwise was revoked.
func (j *Judge) Revocation(ctx context.Context, cert, issuer *x509.Certificate) (string, error) {
	return "", errNotBuilt
}

// Signature judges the certificate of a signature made at a time.
func (j *Judge) Signature(ctx context.Context, cert *x509.Certificate, others []*x509.Certificate, at time.Time) error {
	return errNotBuilt
}
