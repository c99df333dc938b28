package seal

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

// keepSealed is up to which size a ciphertext is held in memory from one
// recipient to the next. A larger one is made again from the stored message.
const keepSealed = 256 << 10

// pipeBuffer is how much ciphertext is made at a time.
const pipeBuffer = 32 << 10

var errOtherBatch = errors.New("seal: the batch was made for the other kind of seal")

// Batch is one message sealed once for all its recipients of one method: one
// content key and one ciphertext. It is safe for concurrent use. An artifact
// holds the wrapped key of its own recipient and no other, so that no one
// learns from it who else got the message.
type Batch struct {
	outer    []byte // header fields around it, without the empty line
	boundary string
	plain    stream
	sum      []byte // SHA-256 of it
	size     int64  // of the ciphertext
	kept     []byte // the ciphertext, unless it is large

	pgp    *openpgp.Content
	v6     bool
	cms    *cms.Content
	cipher cms.Cipher
}

// Bytes is the memory the batch holds.
func (b *Batch) Bytes() int64 { return int64(len(b.outer) + len(b.kept)) }

// PGPBatch prepares a message for recipients with OpenPGP keys, all of
// version 6 or none. With a signer the message is signed inside the
// encryption (RFC 3156 section 6.2), unless its sender has signed it already.
func PGPBatch(ctx context.Context, body Body, v6 bool, signer *openpgp.Secret, at time.Time) (*Batch, error) {
	h, rest, err := body.parted(ctx)
	if err != nil {
		return nil, fmt.Errorf("seal with OpenPGP: %w", err)
	}
	b := &Batch{boundary: newBoundary(), v6: v6}
	var record []byte
	b.outer, record = envelopeHeader(h)
	b.plain = rest.between(payloadHeader(h, hpCipher, record), nil)
	if b.pgp, err = openpgp.NewContent(v6); err != nil {
		return nil, err
	}
	if signer != nil && !signedOrSealed(h) {
		err := b.read(ctx, func(r io.Reader) error { return b.pgp.Sign(signer, r, at) })
		if err != nil {
			return nil, fmt.Errorf("sign with OpenPGP: %w", err)
		}
	}
	if err := b.first(ctx); err != nil {
		return nil, fmt.Errorf("seal with OpenPGP: %w", err)
	}
	return b, nil
}

// SMIMEBatch prepares a message for recipients with certificates. With a
// signer it is signed, then encrypted (RFC 8551 section 3.7), unless its
// sender has signed it already. The subject stands a second time on top of the
// text, because S/MIME programs look for no header inside (see withDisplay).
func SMIMEBatch(ctx context.Context, body Body, c cms.Cipher, signer *cms.Signer, at time.Time) (*Batch, error) {
	h, ahead, rest, err := body.partedAhead(ctx, displayAhead)
	if err != nil {
		return nil, fmt.Errorf("seal with S/MIME: %w", err)
	}
	b := &Batch{cipher: c}
	var record []byte
	b.outer, record = envelopeHeader(h)
	converts := body.Size <= maxConverted
	h, rest, eightBit := withDisplay(h, ahead, rest, body.EightBit || signer == nil || converts)
	if signer != nil && !signedOrSealed(h) {
		if (body.EightBit || eightBit) && converts {
			if h, rest, err = sevenBit(ctx, h, rest); err != nil && !errors.Is(err, mail.ErrNotSevenBit) {
				return nil, fmt.Errorf("sign with S/MIME: %w", err)
			}
		}
		b.plain, err = signed(ctx, rest.between(payloadHeader(h, hpCipher, record), nil), signedBySMIME(signer, at))
		if err != nil {
			return nil, fmt.Errorf("sign with S/MIME: %w", err)
		}
	} else {
		b.plain = rest.between(payloadHeader(h, hpCipher, record), nil)
	}
	if b.cms, err = cms.NewContent(c, b.plain.size); err != nil {
		return nil, err
	}
	if err := b.first(ctx); err != nil {
		return nil, fmt.Errorf("seal with S/MIME: %w", err)
	}
	return b, nil
}

// read hands the stream's octets to a function and closes it.
func (s stream) read(ctx context.Context, f func(io.Reader) error) error {
	r, err := s.open(ctx)
	if err != nil {
		return err
	}
	err = f(stoppable{ctx, r})
	return errors.Join(err, r.Close())
}

// stoppable ends reading when the context does.
type stoppable struct {
	ctx context.Context
	r   io.Reader
}

func (s stoppable) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}

// read hands on the plaintext, which has to be the same every time: with one
// key and nonce, the ciphertexts of two plaintexts tell of both. Who writes
// holds back the end until this returns.
func (b *Batch) read(ctx context.Context, f func(io.Reader) error) error {
	digest := sha256.New()
	err := b.plain.read(ctx, func(r io.Reader) error { return f(io.TeeReader(r, digest)) })
	if err != nil {
		return err
	}
	sum := digest.Sum(nil)
	if b.sum == nil {
		b.sum = sum
	}
	if !bytes.Equal(b.sum, sum) {
		return errOther
	}
	return nil
}

// first makes the ciphertext once: to know its size, to have read the whole
// message before anything of it is promised to a peer, and to keep it where
// it is small.
func (b *Batch) first(ctx context.Context) error {
	k := &keeper{limit: keepSealed}
	if err := b.encrypt(ctx, k); err != nil {
		return err
	}
	b.size = k.n
	if k.n <= keepSealed {
		b.kept = bytes.Clone(k.buf.Bytes())
		if b.kept == nil {
			b.kept = []byte{}
		}
		b.plain = stream{}
	}
	return nil
}

// keeper counts what is written and keeps it up to a limit.
type keeper struct {
	buf   bytes.Buffer
	n     int64
	limit int64
}

func (k *keeper) Write(p []byte) (int, error) {
	k.n += int64(len(p))
	if k.n <= k.limit {
		k.buf.Write(p)
	} else {
		k.buf = bytes.Buffer{}
	}
	return len(p), nil
}

// encrypt writes what comes behind the recipient's own part.
func (b *Batch) encrypt(ctx context.Context, w io.Writer) error {
	return b.read(ctx, func(r io.Reader) error {
		if b.pgp != nil {
			return b.pgp.Encrypt(w, r, b.plain.size)
		}
		if err := b.cms.Encrypt(w, r); err != nil {
			return err
		}
		_, err := w.Write(b.cms.Tail())
		return err
	})
}

// ciphertext is the same octets at every opening.
func (b *Batch) ciphertext() stream {
	if b.kept != nil {
		return fixed(b.kept)
	}
	return stream{b.size, func(ctx context.Context) (io.ReadCloser, error) {
		return pull(ctx, b.size, b.encrypt), nil
	}}
}

// pulled is read while another goroutine writes.
type pulled struct {
	*io.PipeReader
	stop context.CancelFunc
	done chan struct{}
}

// pull lets a function that writes size octets be read. What it fails with is
// what the reader fails with, before the last octets are given.
func pull(ctx context.Context, size int64, write func(context.Context, io.Writer) error) io.ReadCloser {
	ctx, stop := context.WithCancel(ctx)
	r, w := io.Pipe()
	p := &pulled{r, stop, make(chan struct{})}
	unwatch := context.AfterFunc(ctx, func() { _ = w.CloseWithError(ctx.Err()) })
	go func() {
		defer close(p.done)
		defer unwatch()
		buffered := bufio.NewWriterSize(w, pipeBuffer)
		counted := &countingWriter{w: buffered}
		err := guarded(ctx, counted, write)
		if err == nil && counted.n != size {
			err = errOther
		}
		if err == nil {
			err = buffered.Flush()
		}
		_ = w.CloseWithError(cut(err))
	}()
	return p
}

// guarded lets a panic, which what is in the message may bring about, end this
// one message: nobody else would catch it.
func guarded(ctx context.Context, w io.Writer, write func(context.Context, io.Writer) error) (err error) {
	defer private.Recover(&err)
	return write(ctx, w)
}

// Close waits until the message is no longer read.
func (p *pulled) Close() error {
	err := p.PipeReader.Close()
	p.stop()
	<-p.done
	return err
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// artifact puts the header of a MIME part and its body behind the fields that
// all artifacts of the batch have.
func (b *Batch) artifact(from, to mail.Address, floor policy.Grade, part []byte, content stream, end []byte) *Artifact {
	head := make([]byte, 0, len(b.outer)+len(part))
	head = append(append(head, b.outer...), part...)
	whole := content.between(head, end)
	return &Artifact{from: from, to: to, floor: max(floor, policy.Encrypted), body: Body{
		Size: whole.size, UTF8: mail.Has8Bit(b.outer), Open: whole.open,
	}}
}

// newBoundary gives a boundary that nobody can have foreseen. "=_" never
// stands in base64 or quoted-printable (RFC 2045 section 6.7).
func newBoundary() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return "=_" + hex.EncodeToString(b[:])
}
