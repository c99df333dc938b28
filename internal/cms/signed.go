package cms

import (
	"crypto"
	"crypto/x509"
	"errors"
	"io"
	"time"
)

// Signer is an own key with its certificate and the certificates that lead
// from it towards a root; all of them are put into the message.
type Signer struct {
	Key         crypto.Signer
	Certificate *x509.Certificate
	Chain       []*x509.Certificate
	PSS         bool // RSASSA-PSS (RFC 4056) in place of PKCS #1 v1.5
}

// Sign makes a detached SignedData for multipart/signed.
func Sign(s *Signer, content io.Reader, at time.Time) (der []byte, micalg string, err error) {
	return nil, "", errors.New("not built yet")
}

// SignOpaque makes a SignedData that holds the content.
func SignOpaque(s *Signer, content []byte, at time.Time) ([]byte, error) {
	return nil, errors.New("not built yet")
}
