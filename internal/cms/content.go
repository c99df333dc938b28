package cms

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"sync"

	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// Cipher is how the content is encrypted.
type Cipher int

// The ciphers for sealing.
const (
	AES256CBC Cipher = iota // EnvelopedData, what every S/MIME program reads
	AES256GCM               // AuthEnvelopedData
)

func (c Cipher) String() string {
	if c == AES256GCM {
		return "AES-256-GCM"
	}
	return "AES-256-CBC"
}

const (
	gcmNonce = 12
	gcmTag   = 16
	// gcmLimit is how much one nonce may encrypt: 2^32 - 2 blocks
	// (NIST SP 800-38D section 5.2.1.1).
	gcmLimit = (1<<32 - 2) * aes.BlockSize

	// chunkSize is how much is read, compared and encrypted at a time.
	chunkSize = 64 << 10
)

// errOtherPlaintext keeps a key and nonce from meeting a second plaintext,
// which in GCM would give away both, and the key of the authentication.
var errOtherPlaintext = errors.New("cms: the plaintext is not the one that was encrypted before")

// Content is one content key and one ciphertext, for all recipients of a
// message. It is safe for concurrent use.
type Content struct {
	cipher Cipher
	size   int64
	key    []byte
	iv     []byte // or nonce
	block  cipher.Block

	mu   sync.Mutex
	seen [][sha256.Size]byte // of the chunks that were encrypted
	mac  []byte
}

// NewContent draws a content key and a nonce. size is the exact number of
// octets of the plaintext.
func NewContent(c Cipher, size int64) (*Content, error) {
	if c != AES256CBC && c != AES256GCM {
		return nil, fmt.Errorf("cms: no cipher %d", int(c))
	}
	if size < 0 || size > gcmLimit {
		return nil, fmt.Errorf("cms: a content cannot have %d octets", size)
	}
	random := make([]byte, 32+aes.BlockSize)
	if _, err := rand.Read(random); err != nil {
		return nil, fmt.Errorf("cms: draw a content key: %w", err)
	}
	content := &Content{cipher: c, size: size, key: random[:32], iv: random[32:]}
	if c == AES256GCM {
		content.iv = content.iv[:gcmNonce]
	}
	var err error
	content.block, err = aes.NewCipher(content.key)
	return content, err
}

// Head is the DER from ContentInfo up to the ciphertext, for exactly this one
// recipient.
func (c *Content) Head(recipientInfo []byte) []byte {
	n, tail := c.ciphertext(), c.tailSize()
	inner := append(identifierDER(oidData), c.contentAlgorithm()...)
	inner = appendHeader(inner, tag0, n)

	body := append([]byte{byte(tags.INTEGER), 1, c.version(recipientInfo)},
		enclose(tags.SET, recipientInfo, 0)...)
	body = append(body, enclose(tags.SEQUENCE, inner, n)...)
	body = enclose(tag0Construct, enclose(tags.SEQUENCE, body, n+tail), n+tail)

	kind := oidEnveloped
	if c.cipher == AES256GCM {
		kind = oidAuthEnveloped
	}
	return enclose(tags.SEQUENCE, append(identifierDER(kind), body...), n+tail)
}

// version is 0 for AuthEnvelopedData (RFC 5083 section 2.1) and for recipients
// all of version 0, which are those of key transport by issuer and serial
// number; else 2 (RFC 5652 section 6.1).
func (c *Content) version(recipientInfo []byte) byte {
	if c.cipher == AES256GCM || bytes.HasPrefix(recipientInfo, []byte{byte(tags.SEQUENCE)}) {
		return 0
	}
	return 2
}

func (c *Content) contentAlgorithm() []byte {
	iv := enclose(tags.OCTET_STRING, c.iv, 0)
	if c.cipher == AES256GCM {
		iv = append(iv, byte(tags.INTEGER), 1, gcmTag)
		return algorithmDER(oidAES256GCM, enclose(tags.SEQUENCE, iv, 0)...)
	}
	return algorithmDER(oidAES256CBC, iv...)
}

// ciphertext is its number of octets.
func (c *Content) ciphertext() int64 {
	if c.cipher == AES256GCM {
		return c.size
	}
	return (c.size/aes.BlockSize + 1) * aes.BlockSize
}

func (c *Content) tailSize() int64 {
	if c.cipher == AES256GCM {
		return 2 + gcmTag
	}
	return 0
}

// Tail is what follows the ciphertext. That of AES256GCM is known after
// Encrypt, and nil before.
func (c *Content) Tail() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mac == nil {
		return nil
	}
	return enclose(tags.OCTET_STRING, c.mac, 0)
}

// Size is the number of octets of head, ciphertext and tail.
func (c *Content) Size(recipientInfo []byte) int64 {
	return int64(len(c.Head(recipientInfo))) + c.ciphertext() + c.tailSize()
}

// Encrypt writes the ciphertext: the same octets for the same plaintext,
// however often it is called. Of another plaintext nothing is written from the
// first chunk on that differs, and an error is given.
func (c *Content) Encrypt(w io.Writer, plaintext io.Reader) error {
	var mac *gcmStream
	var step func(buffer []byte, n int, last bool) []byte
	if c.cipher == AES256GCM {
		mac = c.gcm(c.Tail() != nil)
		step = mac.encrypt
	} else {
		step = c.cbc()
	}
	// Room for the padding of the last chunk.
	buffer := make([]byte, min(chunkSize, c.size)+aes.BlockSize)
	for at, index := int64(0), 0; ; index++ {
		n := min(chunkSize, c.size-at)
		last := at+n == c.size
		if err := c.read(plaintext, buffer[:n], last); err != nil {
			return err
		}
		if err := c.same(index, buffer[:n]); err != nil {
			return err
		}
		if _, err := w.Write(step(buffer, int(n), last)); err != nil {
			return fmt.Errorf("cms: write ciphertext: %w", err)
		}
		at += n
		if last {
			break
		}
	}
	if mac != nil && !mac.known {
		c.mu.Lock()
		c.mac = mac.tag()
		c.mu.Unlock()
	}
	return nil
}

// read fills b and, if it is the last, looks that nothing follows.
func (c *Content) read(r io.Reader, b []byte, last bool) error {
	if _, err := io.ReadFull(r, b); err != nil {
		return fmt.Errorf("cms: plaintext of %d octets: %w", c.size, err)
	}
	if !last {
		return nil
	}
	switch _, err := io.ReadFull(r, make([]byte, 1)); {
	case err == nil:
		return fmt.Errorf("cms: the plaintext has more than %d octets", c.size)
	case err != io.EOF:
		return fmt.Errorf("cms: plaintext of %d octets: %w", c.size, err)
	}
	return nil
}

// same compares a chunk with what was encrypted at its place before, and
// remembers it otherwise. Chunks begin at the same places every time.
func (c *Content) same(index int, chunk []byte) error {
	sum := sha256.Sum256(chunk)
	c.mu.Lock()
	defer c.mu.Unlock()
	if index == len(c.seen) {
		c.seen = append(c.seen, sum)
		return nil
	}
	if subtle.ConstantTimeCompare(c.seen[index][:], sum[:]) != 1 {
		return errOtherPlaintext
	}
	return nil
}

// cbc encrypts n octets of a buffer in place and pads the last.
func (c *Content) cbc() func(buffer []byte, n int, last bool) []byte {
	mode := cipher.NewCBCEncrypter(c.block, c.iv)
	return func(buffer []byte, n int, last bool) []byte {
		if last {
			padding := aes.BlockSize - n%aes.BlockSize
			for i := range padding {
				buffer[n+i] = byte(padding)
			}
			n += padding
		}
		mode.CryptBlocks(buffer[:n], buffer[:n])
		return buffer[:n]
	}
}

// gcmStream is GCM without additional data (NIST SP 800-38D section 7.1), put
// together of AES in counter mode and our own GHASH so that it streams. It only
// encrypts: what is decrypted must not be seen before the tag is proved. Here
// is no GCM of a validated module, which FIPS 140-3 asks for, and
// GODEBUG=fips140=only cannot notice: where it matters, content is sealed in CBC.
type gcmStream struct {
	counter cipher.Stream
	hash    *ghash
	mask    [gcmTag]byte
	known   bool // the tag: the same plaintext (see same) has the same
}

func (c *Content) gcm(known bool) *gcmStream {
	var key, first [aes.BlockSize]byte
	c.block.Encrypt(key[:], key[:])
	copy(first[:], c.iv)
	first[aes.BlockSize-1] = 1
	g := &gcmStream{hash: newGHASH(&key), known: known}
	c.block.Encrypt(g.mask[:], first[:])
	first[aes.BlockSize-1] = 2
	// The counter cannot run over into the nonce: see gcmLimit.
	g.counter = cipher.NewCTR(c.block, first[:])
	return g
}

func (g *gcmStream) encrypt(buffer []byte, n int, _ bool) []byte {
	g.counter.XORKeyStream(buffer[:n], buffer[:n])
	if !g.known {
		g.hash.write(buffer[:n])
	}
	return buffer[:n]
}

func (g *gcmStream) tag() []byte {
	sum := g.hash.sum()
	subtle.XORBytes(sum[:], sum[:], g.mask[:])
	return sum[:]
}
