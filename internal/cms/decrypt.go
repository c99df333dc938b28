package cms

import (
	"crypto"
	"crypto/x509"
)

// Recipient is a private key of ours with its certificate.
type Recipient struct {
	Key         crypto.PrivateKey // *rsa.PrivateKey, *ecdsa.PrivateKey or *ecdh.PrivateKey
	Certificate *x509.Certificate
}

// Decrypted is what was inside of an enveloped message.
type Decrypted struct {
	Plain      []byte
	Integrity  string // "gcm" or "chacha20-poly1305": proved; "none": CBC, anybody may have altered it
	Algorithms string
	Recipient  *x509.Certificate
}

// Decrypt opens EnvelopedData or AuthEnvelopedData, BER or DER.
func Decrypt(message []byte, keys []Recipient, max int64) (*Decrypted, error) {
	return nil, errNotBuilt
}
