package cms

import (
	"crypto/x509"
	"errors"
	"io"
)

// Cipher is how the content is encrypted.
type Cipher int

// The ciphers for sealing.
const (
	AES256CBC Cipher = iota // EnvelopedData, what every S/MIME program reads
	AES256GCM               // AuthEnvelopedData
)

// WrapOptions say how a recipient's key is used.
type WrapOptions struct {
	OAEP bool // RSA: OAEP with SHA-256 instead of PKCS #1 v1.5
}

// Content is one content key and one ciphertext, for all recipients of a
// message. It is safe for concurrent use.
type Content struct{}

var errNotBuilt = errors.New("cms: not built yet")

// NewContent draws a content key. size is the exact number of octets of the
// plaintext.
func NewContent(c Cipher, size int64) (*Content, error) { return nil, errNotBuilt }

// RecipientInfo is the content key wrapped for one recipient.
func (c *Content) RecipientInfo(cert *x509.Certificate, o WrapOptions) ([]byte, error) {
	return nil, errNotBuilt
}

// Head is the DER from ContentInfo up to the ciphertext, for one recipient.
func (c *Content) Head(recipientInfo []byte) []byte { return nil }

// Encrypt writes the ciphertext: the same octets for the same plaintext,
// however often it is called. Another plaintext is an error.
func (c *Content) Encrypt(w io.Writer, plaintext io.Reader) error { return errNotBuilt }

// Tail is what follows the ciphertext. It is known after Encrypt.
func (c *Content) Tail() []byte { return nil }

// Size is the number of octets of head, ciphertext and tail.
func (c *Content) Size(recipientInfo []byte) int64 { return 0 }

// Algorithms names what protects the content and its key.
func (c *Content) Algorithms(cert *x509.Certificate, o WrapOptions) string { return "" }
