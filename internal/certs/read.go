package certs

import (
	"crypto/x509"
	"time"

	"github.com/sealpost/sealpost/internal/mail"
)

// Read gives the certificates of a PEM, DER or PKCS #7 file.
func Read(data []byte) ([]*x509.Certificate, error) { return nil, errNotBuilt }

// Addresses are those a certificate speaks for.
func Addresses(c *x509.Certificate) []mail.Address { return nil }

// Describe names the key: "RSA-2048", "ECDSA P-256", "X25519".
func Describe(c *x509.Certificate) string { return "" }

// Identify names the certificate.
func Identify(c *x509.Certificate) (serial, issuer, sha256 string) { return "", "", "" }

// Weak refuses what needs neither chain nor network to be refused.
func Weak(c *x509.Certificate, at time.Time) error { return errNotBuilt }
