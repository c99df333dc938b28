// Package openpgp reads, judges, makes and uses OpenPGP keys, messages and
// signatures.
package openpgp

import (
	"errors"
	"io"
	"time"

	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
)

var errNot = errors.New("not built yet")

type Key struct{ _ int }

func ReadKeys(data []byte) ([]Key, error)              { return nil, errNot }
func (k Key) Fingerprint() string                      { return "" }
func (k Key) Version() int                             { return 0 }
func (k Key) Bytes() []byte                            { return nil }
func (k Key) Addresses() []mail.Address                { return nil }
func (k Key) Created() time.Time                       { return time.Time{} }
func (k Key) Expires() time.Time                       { return time.Time{} }
func (k Key) Revoked(at time.Time) bool                { return false }
func (k Key) Judge(a mail.Address, at time.Time) error { return errNot }
func (k Key) JudgeAnyone(at time.Time) error           { return errNot }
func (k Key) Algorithm(at time.Time) string            { return "" }

type Content struct{ _ int }

func NewContent(v6 bool) (*Content, error)                                    { return nil, errNot }
func (c *Content) Sign(s *Secret, plaintext io.Reader, at time.Time) error    { return errNot }
func (c *Content) Encrypt(w io.Writer, plaintext io.Reader, size int64) error { return errNot }
func (c *Content) KeyPacket(k Key, at time.Time) ([]byte, error)              { return nil, errNot }
func (c *Content) Algorithms(k Key, at time.Time) string                      { return "" }

type Profile int

const (
	V4Curve25519 Profile = iota
	V4RSA3072
	V6Curve25519
	V4NISTP256
)

type Secret struct{ _ int }

func Generate(p Profile, name string, a mail.Address, at, expires time.Time) (*Secret, error) {
	return nil, errNot
}
func ReadSecret(data []byte, passphrase private.Bytes) (*Secret, error) { return nil, errNot }
func (s *Secret) Public() Key                                           { return Key{} }
func (s *Secret) Bytes() private.Bytes                                  { return private.Bytes{} }
func (s *Secret) Renew(at, expires time.Time) (*Secret, error)          { return nil, errNot }
func (s *Secret) Revoke(at time.Time, reason string) (Key, error)       { return Key{}, errNot }
func (s *Secret) SignDetached(r io.Reader, at time.Time) (armored []byte, micalg string, err error) {
	return nil, "", errNot
}

type Signature struct {
	Status, Fingerprint, KeyID string
	At                         time.Time
}

type Opened struct {
	Plain                            []byte
	Encrypted                        bool
	Integrity, Algorithms, Recipient string
	Signatures                       []Signature
}

func Open(message []byte, secrets []*Secret, signers []Key, at time.Time, max int64) (*Opened, error) {
	return nil, errNot
}
func VerifyDetached(signed io.Reader, signature []byte, signers []Key, at time.Time) ([]Signature, error) {
	return nil, errNot
}
func Encrypted(message io.Reader) bool { return false }
