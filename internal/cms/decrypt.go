package cms

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/fips140"
	"crypto/subtle"
	"crypto/x509"
	"encoding/asn1"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/sealpost/sealpost/internal/fault"
)

// Recipient is a private key of ours with its certificate.
type Recipient struct {
	Key         crypto.PrivateKey // *rsa.PrivateKey, *ecdsa.PrivateKey or *ecdh.PrivateKey
	Certificate *x509.Certificate
}

// Integrity of what was decrypted.
const (
	IntegrityGCM      = "gcm"
	IntegrityPoly1305 = "chacha20-poly1305"
	IntegrityNone     = "none" // CBC: anybody may have altered it
)

// Decrypted is what was inside of an enveloped message.
type Decrypted struct {
	Plain      []byte
	Integrity  string // one of the words above
	Algorithms string // "RSA-2048 PKCS#1 v1.5, AES-256-CBC"
	Recipient  *x509.Certificate
}

// mostVersion is the highest that RFC 5652 has for any structure.
const mostVersion = 5

// overhead is what a message may have beside its ciphertext: thousands of
// recipients, and the headers of a ciphertext in pieces.
const overhead = 4 << 20

// mostPlain bounds what a caller may allow; all of it is in memory.
const mostPlain = 1 << 30

var (
	errNotForUs           = fault.New(fault.Refused, "no_decryption_key", "The message is not encrypted to any key that we have.")
	errDecryption         = fault.New(fault.Refused, "decryption", "The message cannot be decrypted: it was damaged or altered on its way.")
	errUnsupportedCipher  = fault.New(fault.Refused, "unsupported", "The message is encrypted with a cipher that is not supported or too weak.")
	errUnsupportedWrap    = fault.New(fault.Refused, "unsupported", "The message's key is encrypted in a way that is not supported.")
	errUnsupportedContent = fault.New(fault.Refused, "unsupported", "What is encrypted is of a kind that is not supported.")
)

// Decrypt opens EnvelopedData or AuthEnvelopedData, BER or DER, of which no
// more than max octets come out. Whatever goes wrong once a key of ours is at
// work gives the same error, so that nobody learns from it which part was
// wrong (RFC 3218, and padding oracles of CBC).
func Decrypt(message []byte, keys []Recipient, max int64) (*Decrypted, error) {
	if max < 0 {
		return nil, errTooLarge
	}
	// Pieces of a ciphertext can double it when they are small; those of real
	// mail have a thousand octets and more.
	max = min(max, mostPlain)
	der, err := ToDER(message, int(max+max/2+overhead))
	if err != nil {
		return nil, err
	}
	e, err := readEnvelope(der)
	if err != nil {
		return nil, err
	}
	if int64(len(e.ciphertext)) > max+aes.BlockSize {
		return nil, errTooLarge
	}
	found, err := match(e.recipients, keys)
	if err != nil {
		return nil, err
	}
	for _, w := range found {
		key, ok := w.unwrap(e.cipher.keySize)
		if !ok {
			continue
		}
		plain, ok := e.open(key)
		if !ok {
			continue
		}
		if int64(len(plain)) > max {
			return nil, errTooLarge
		}
		return &Decrypted{plain, e.cipher.integrity, w.name + ", " + e.cipher.name, w.to.Certificate}, nil
	}
	return nil, errDecryption
}

// contentCipher is a cipher that is read.
type contentCipher struct {
	oid       asn1.ObjectIdentifier
	name      string
	keySize   int
	integrity string
	block     func(key []byte) (cipher.Block, error)
}

// contentCiphers has what RFC 8551 section 2.7 asks for, and triple DES, with
// which old mail is encrypted. RC2 is not read: its keys are guessed.
var contentCiphers = []contentCipher{
	{oidAES256CBC, "AES-256-CBC", 32, IntegrityNone, aes.NewCipher},
	{oidAES192CBC, "AES-192-CBC", 24, IntegrityNone, aes.NewCipher},
	{oidAES128CBC, "AES-128-CBC", 16, IntegrityNone, aes.NewCipher},
	{oidAES256GCM, "AES-256-GCM", 32, IntegrityGCM, aes.NewCipher},
	{oidAES192GCM, "AES-192-GCM", 24, IntegrityGCM, aes.NewCipher},
	{oidAES128GCM, "AES-128-GCM", 16, IntegrityGCM, aes.NewCipher},
	{oidChaCha20Poly1305, "ChaCha20-Poly1305", 32, IntegrityPoly1305, nil},
	{oidTripleDESCBC, "3DES-CBC (legacy)", 24, IntegrityNone, tripleDES},
}

// tripleDES is not approved by FIPS 140-3; it is only read, never written.
func tripleDES(key []byte) (block cipher.Block, err error) {
	fips140.WithoutEnforcement(func() { block, err = des.NewTripleDESCipher(key) })
	return block, err
}

// envelope is EnvelopedData (RFC 5652 section 6.1) or AuthEnvelopedData
// (RFC 5083 section 2.1), taken apart.
type envelope struct {
	recipients cryptobyte.String
	cipher     *contentCipher
	nonce      []byte
	ciphertext []byte
	additional []byte // authenticated attributes as a SET
	mac        []byte
}

// readContentInfo gives the content of a ContentInfo.
func readContentInfo(der []byte) (kind asn1.ObjectIdentifier, content cryptobyte.String, err error) {
	var info, wrapped cryptobyte.String
	s := cryptobyte.String(der)
	if !s.ReadASN1(&info, tags.SEQUENCE) || !s.Empty() || !info.ReadASN1ObjectIdentifier(&kind) ||
		!info.ReadASN1(&wrapped, tag0Construct) || !info.Empty() {
		return nil, nil, errMalformed
	}
	return kind, wrapped, nil
}

func readEnvelope(der []byte) (*envelope, error) {
	kind, wrapped, err := readContentInfo(der)
	if err != nil {
		return nil, err
	}
	authenticated := kind.Equal(oidAuthEnveloped)
	if !authenticated && !kind.Equal(oidEnveloped) {
		return nil, errUnsupportedContent
	}
	var s, content cryptobyte.String
	var version int
	e := &envelope{}
	if !wrapped.ReadASN1(&s, tags.SEQUENCE) || !wrapped.Empty() || !s.ReadASN1Integer(&version) ||
		version < 0 || version > mostVersion ||
		!s.SkipOptionalASN1(tag0Construct) || !s.ReadASN1(&e.recipients, tags.SET) || !s.ReadASN1(&content, tags.SEQUENCE) {
		return nil, errMalformed
	}
	if err := e.readContent(content, authenticated); err != nil {
		return nil, err
	}
	if authenticated && !e.readMAC(&s) || !authenticated && !s.SkipOptionalASN1(tag1Construct) || !s.Empty() {
		return nil, errMalformed
	}
	return e, nil
}

// readMAC reads what follows the content of AuthEnvelopedData. Authenticated
// attributes are additional data in the form of a SET OF (RFC 5083 section 2.2).
func (e *envelope) readMAC(s *cryptobyte.String) bool {
	if s.PeekASN1Tag(tag1Construct) {
		var attributes cryptobyte.String
		if !s.ReadASN1Element(&attributes, tag1Construct) {
			return false
		}
		e.additional = append([]byte{byte(tags.SET)}, attributes[1:]...)
	}
	return s.ReadASN1Bytes(&e.mac, tags.OCTET_STRING) && s.SkipOptionalASN1(tag2Construct)
}

// readContent reads EncryptedContentInfo.
func (e *envelope) readContent(s cryptobyte.String, authenticated bool) error {
	var kind asn1.ObjectIdentifier
	if !s.ReadASN1ObjectIdentifier(&kind) {
		return errMalformed
	}
	oid, parameters, _, ok := readIdentifier(&s)
	if !ok {
		return errMalformed
	}
	if e.ciphertext, ok = joined(&s, 0); !ok || !s.Empty() {
		return errMalformed
	}
	if !kind.Equal(oidData) {
		return errUnsupportedContent
	}
	for i := range contentCiphers {
		if c := &contentCiphers[i]; c.oid.Equal(oid) && authenticated == (c.integrity != IntegrityNone) {
			e.cipher = c
			return e.readNonce(parameters)
		}
	}
	return errUnsupportedCipher
}

// readNonce reads an initialization vector, or GCMParameters (RFC 5084 section
// 3.2), whose length of the tag only repeats what the tag says.
func (e *envelope) readNonce(parameters cryptobyte.String) error {
	if e.cipher.integrity == IntegrityGCM {
		var s cryptobyte.String
		if !parameters.ReadASN1(&s, tags.SEQUENCE) || !parameters.Empty() {
			return errMalformed
		}
		parameters = s
		var nonce cryptobyte.String
		if !s.ReadASN1(&nonce, tags.OCTET_STRING) || !s.SkipOptionalASN1(tags.INTEGER) || !s.Empty() {
			return errMalformed
		}
	}
	if !parameters.ReadASN1Bytes(&e.nonce, tags.OCTET_STRING) {
		return errMalformed
	}
	return nil
}

// joined reads an OCTET STRING with the implicit tag [n], which may be in
// pieces (see ToDER). Pieces are copied; one piece is not.
func joined(s *cryptobyte.String, n tags.Tag) ([]byte, bool) {
	var whole []byte
	if s.PeekASN1Tag(tag0 | n) {
		return whole, s.ReadASN1Bytes(&whole, tag0|n)
	}
	var pieces, piece cryptobyte.String
	if !s.ReadASN1(&pieces, tag0Construct|n) {
		return nil, false
	}
	whole = make([]byte, 0, len(pieces))
	for !pieces.Empty() {
		if !pieces.ReadASN1(&piece, tags.OCTET_STRING) {
			return nil, false
		}
		whole = append(whole, piece...)
	}
	return whole, true
}

// open decrypts the content.
func (e *envelope) open(key []byte) ([]byte, bool) {
	if len(key) != e.cipher.keySize {
		return nil, false
	}
	if e.cipher.integrity == IntegrityNone {
		return e.openCBC(key)
	}
	aead, err := e.aead(key)
	if err != nil || len(e.nonce) != aead.NonceSize() || len(e.mac) != aead.Overhead() {
		return nil, false
	}
	sealed := append(append(make([]byte, 0, len(e.ciphertext)+len(e.mac)), e.ciphertext...), e.mac...)
	plain, err := aead.Open(sealed[:0], e.nonce, sealed, e.additional)
	return plain, err == nil
}

func (e *envelope) aead(key []byte) (aead cipher.AEAD, err error) {
	// FIPS 140-3 approves of GCM with nonces from within the module alone, and
	// not of ChaCha20; the nonce of a message is its sender's.
	fips140.WithoutEnforcement(func() {
		if e.cipher.integrity == IntegrityPoly1305 {
			aead, err = chacha20poly1305.New(key)
			return
		}
		var block cipher.Block
		if block, err = e.cipher.block(key); err == nil {
			aead, err = cipher.NewGCMWithTagSize(block, len(e.mac)) // 12 to 16
		}
	})
	return aead, err
}

func (e *envelope) openCBC(key []byte) ([]byte, bool) {
	block, err := e.cipher.block(key)
	if err != nil {
		return nil, false
	}
	size := block.BlockSize()
	if len(e.nonce) != size || len(e.ciphertext) == 0 || len(e.ciphertext)%size != 0 {
		return nil, false
	}
	plain := make([]byte, len(e.ciphertext))
	// crypto/cipher does not let triple DES through in the mode of FIPS 140-3.
	fips140.WithoutEnforcement(func() {
		cipher.NewCBCDecrypter(block, e.nonce).CryptBlocks(plain, e.ciphertext)
	})
	return unpad(plain, size)
}

// unpad takes the padding away (RFC 5652 section 6.3). It looks at the whole
// last block, whatever is in it.
func unpad(plain []byte, size int) ([]byte, bool) {
	padding := int(plain[len(plain)-1])
	good := subtle.ConstantTimeLessOrEq(1, padding) & subtle.ConstantTimeLessOrEq(padding, size)
	for i := 1; i <= size; i++ {
		inside := subtle.ConstantTimeLessOrEq(i, padding)
		same := subtle.ConstantTimeByteEq(plain[len(plain)-i], byte(padding))
		good &= same | (1 - inside)
	}
	if good != 1 {
		return nil, false
	}
	return plain[:len(plain)-padding], true
}
