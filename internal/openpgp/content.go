package openpgp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"math"
	"time"

	"github.com/ProtonMail/go-crypto/ocb"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Sizes of AES-256, of the SEIPDv1 prefix and MDC (RFC 9580 section 5.13.1) and
// of SEIPDv2 (section 5.13.2). OCB is the mode that every reader of version 6
// has.
const (
	keySize      = 32
	prefixSize   = aes.BlockSize + 2
	mdcSize      = 2 + sha1.Size
	saltSize     = 32
	ocbNonceSize = 15
	tagSize      = 16
	chunkOctet   = 10
	chunkSize    = 1 << (chunkOctet + 6)
)

var (
	errSize       = errors.New("the plaintext has not the size that was told")
	errSignedOnce = errors.New("the content is signed already")
)

// Content is what all recipients of a message get: one content key, one
// ciphertext. Everything random is drawn in NewContent, so Encrypt writes the
// same octets whenever it is called. After Sign it may be used concurrently.
// It holds the key, and never prints.
type Content struct {
	redacted
	v6            bool
	key           [keySize]byte
	prefix        [aes.BlockSize]byte // SEIPDv1
	salt          [saltSize]byte      // SEIPDv2
	before, after []byte              // one-pass signature and signature
	signed        int64               // octets that were signed
}

// NewContent draws a content key: for SEIPDv1 with AES-256 and MDC, or, for
// keys of version 6, for SEIPDv2 with AES-256 in OCB.
func NewContent(v6 bool) (*Content, error) {
	c := &Content{v6: v6}
	for _, b := range [][]byte{c.key[:], c.prefix[:], c.salt[:]} {
		if _, err := rand.Read(b); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Sign puts a signature inside. It is called once, before Encrypt, with the
// plaintext that Encrypt will get.
func (c *Content) Sign(s *Secret, plaintext io.Reader, at time.Time) error {
	if c.after != nil {
		return errSignedOnce
	}
	count := &counter{r: plaintext}
	sig, signer, err := s.sign(count, at)
	if err != nil {
		return err
	}
	one := &packet.OnePassSignature{
		Version: 3, SigType: sig.SigType, Hash: sig.Hash, PubKeyAlgo: sig.PubKeyAlgo, KeyId: signer.KeyId, IsLast: true,
	}
	if sig.Version == 6 {
		one.Version, one.Salt, one.KeyFingerprint = 6, sig.Salt(), signer.Fingerprint
	}
	var before, after writer
	if err := one.Serialize(&before); err != nil {
		return err
	}
	if err := sig.Serialize(&after); err != nil {
		return err
	}
	c.before, c.after, c.signed = before, after, count.n
	return nil
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

// Encrypt writes the encrypted packet. size is the exact number of octets of
// plaintext; where that turns out wrong, what was written is not complete and
// the error says so. Memory does not grow with size.
func (c *Content) Encrypt(w io.Writer, plaintext io.Reader, size int64) error {
	if size < 0 || c.after != nil && size != c.signed {
		return errSize
	}
	// A binary literal without name and date (section 5.9).
	inner := appendHead(bytes.Clone(c.before), tagLiteral, size+6)
	inner = append(inner, 'b', 0, 0, 0, 0, 0)
	total := int64(len(inner)) + size + int64(len(c.after))
	body := 1 + prefixSize + total + mdcSize
	if c.v6 {
		body = 4 + saltSize + total + ((total+chunkSize-1)/chunkSize+1)*tagSize
	}
	if size > math.MaxUint32-6 || body > math.MaxUint32 {
		return refuse(TooLarge)
	}
	if _, err := w.Write(appendHead(nil, tagSEIPD, body)); err != nil {
		return err
	}
	seal, err := c.sealer(w)
	if err != nil {
		return err
	}
	if _, err := seal.Write(inner); err != nil {
		return err
	}
	if err := copyExactly(seal, plaintext, size); err != nil {
		return err
	}
	if _, err := seal.Write(c.after); err != nil {
		return err
	}
	return seal.Close()
}

func copyExactly(w io.Writer, r io.Reader, size int64) error {
	buf := make([]byte, 32<<10)
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{io.LimitReader(r, size)}, buf)
	if err != nil {
		return err
	}
	if m, err := io.ReadFull(r, buf[:1]); n != size || m != 0 {
		return errSize
	} else if err != io.EOF {
		return err
	}
	return nil
}

func (c *Content) sealer(w io.Writer) (io.WriteCloser, error) {
	if c.v6 {
		return newChunks(w, c.key[:], c.salt[:])
	}
	return newMDC(w, c.key[:], c.prefix[:])
}

// mdc writes SEIPDv1: CFB with a zero IV over prefix, plaintext and MDC.
type mdc struct {
	w      io.Writer
	stream cipher.Stream
	digest hash.Hash
	buf    []byte
}

func newMDC(w io.Writer, key, prefix []byte) (*mdc, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	m := &mdc{w: w}
	_ = library(func() error {
		//lint:ignore SA1019 The MDC makes CFB authenticated; the format allows no other mode.
		m.stream = cipher.NewCFBEncrypter(block, make([]byte, aes.BlockSize))
		m.digest = sha1.New()
		return nil
	})
	if _, err := w.Write([]byte{1}); err != nil {
		return nil, err
	}
	_, err = m.Write(append(bytes.Clone(prefix), prefix[len(prefix)-2:]...))
	return m, err
}

func (m *mdc) Write(b []byte) (int, error) {
	m.buf = append(m.buf[:0], b...)
	err := library(func() error {
		m.digest.Write(b)
		m.stream.XORKeyStream(m.buf, m.buf)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return m.w.Write(m.buf)
}

func (m *mdc) Close() error {
	tail := []byte{0xc0 | 19, sha1.Size}
	err := library(func() error {
		m.digest.Write(tail)
		tail = m.digest.Sum(tail)
		m.stream.XORKeyStream(tail, tail)
		return nil
	})
	if err != nil {
		return err
	}
	_, err = m.w.Write(tail)
	return err
}

// chunks writes SEIPDv2: chunks of plaintext, each with its tag, and a last
// tag over how much there was.
type chunks struct {
	w       io.Writer
	aead    cipher.AEAD
	ad      []byte
	nonce   []byte // its last eight octets count chunks
	index   uint64
	total   uint64
	pending []byte
	out     []byte
}

func newChunks(w io.Writer, key, salt []byte) (*chunks, error) {
	ad := []byte{0xc0 | tagSEIPD, 2, byte(packet.CipherAES256), byte(packet.AEADModeOCB), chunkOctet}
	const ivSize = ocbNonceSize - 8
	derived, err := hkdf.Key(sha256.New, key, salt, string(ad), keySize+ivSize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived[:keySize])
	if err != nil {
		return nil, err
	}
	aead, err := ocb.NewOCBWithNonceAndTagSize(block, ocbNonceSize, tagSize)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(append(bytes.Clone(ad[1:]), salt...)); err != nil {
		return nil, err
	}
	return &chunks{
		w: w, aead: aead, ad: ad, nonce: append(derived[keySize:], make([]byte, 8)...),
		pending: make([]byte, 0, chunkSize), out: make([]byte, 0, chunkSize+tagSize),
	}, nil
}

func (c *chunks) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		take := min(len(b), chunkSize-len(c.pending))
		c.pending, b = append(c.pending, b[:take]...), b[take:]
		if len(c.pending) == chunkSize {
			if err := c.flush(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

func (c *chunks) flush() error {
	c.total += uint64(len(c.pending))
	err := c.seal(c.pending, c.ad)
	c.pending = c.pending[:0]
	return err
}

func (c *chunks) seal(plain, ad []byte) error {
	binary.BigEndian.PutUint64(c.nonce[ocbNonceSize-8:], c.index)
	c.index++
	_, err := c.w.Write(c.aead.Seal(c.out[:0], c.nonce, plain, ad))
	return err
}

func (c *chunks) Close() error {
	if len(c.pending) > 0 {
		if err := c.flush(); err != nil {
			return err
		}
	}
	return c.seal(nil, binary.BigEndian.AppendUint64(bytes.Clone(c.ad), c.total))
}

// KeyPacket gives the content key to one recipient: a PKESK of version 3, or
// 6 for a content of version 6. It is sent before what Encrypt writes.
func (c *Content) KeyPacket(k Key, at time.Time) ([]byte, error) {
	pub, err := c.recipient(k, at)
	if err != nil {
		return nil, err
	}
	var out writer
	err = library(func() error {
		return packet.SerializeEncryptedKeyAEAD(&out, pub, packet.CipherAES256, c.v6, c.key[:], nil)
	})
	if err != nil { // a point or modulus that is none
		return nil, refuse(Malformed).Because(err)
	}
	return out, nil
}

func (c *Content) recipient(k Key, at time.Time) (*packet.PublicKey, error) {
	if k.k == nil {
		return nil, refuse(Malformed)
	}
	pub, word := k.k.encryptionKey(at)
	if word == "" && c.v6 && pub.Version != 6 {
		word = Unsupported
	}
	if word != "" {
		return nil, refuse(word)
	}
	return pub, nil
}

// Algorithms says how one recipient's copy is sealed: "X25519, AES-256, SEIPDv1".
func (c *Content) Algorithms(k Key, at time.Time) string {
	pub, err := c.recipient(k, at)
	if err != nil {
		return ""
	}
	name, _ := algorithmOf(pub)
	if c.v6 {
		return name + ", AES-256-OCB, SEIPDv2"
	}
	return name + ", AES-256, SEIPDv1"
}
