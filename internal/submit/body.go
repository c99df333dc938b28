package submit

import (
	"io"
	"log/slog"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/seal"
)

// keepInMemory is up to which size a body is handed to the engine in memory
// instead of being read and decrypted again.
const keepInMemory = 64 << 10

// inspected passes a body through, counts it and remembers what the transport
// must know of it.
type inspected struct {
	r        io.Reader
	limit    int64
	size     int64
	eightBit bool
	over     bool
	copied   []byte
	whole    bool // copied holds everything so far
	started  bool

	look  *io.PipeWriter // to who looks whether it is encrypted already; nil: it cannot be
	found chan bool
}

// inspect reads the body of a message of at most limit octets. Call encrypted
// or stop in the end.
func inspect(m *mail.Submitted, limit int64, log *slog.Logger) *inspected {
	b := &inspected{r: m.Body, limit: limit - int64(len(m.Header.Bytes()))}
	if !seal.MaybeSealed(m.Header) {
		return b
	}
	r, w := io.Pipe()
	b.look, b.found = w, make(chan bool, 1)
	go func() {
		b.found <- sealed(m.Header, r, log)
		_ = r.Close() // what is left to write goes nowhere
	}()
	return b
}

// sealed takes what makes us fail for what is not encrypted, which asks for
// more protection and not for less.
func sealed(h mail.Header, body io.Reader, log *slog.Logger) (found bool) {
	var defect error
	defer private.RecoverLogged(&defect, log, "look whether a message is encrypted")
	return seal.Sealed(h, body)
}

// encrypted reports whether the sender's own program has encrypted the
// message, once all of it was read.
func (b *inspected) encrypted() bool {
	if b.look == nil {
		return false
	}
	_ = b.look.Close()
	found := <-b.found
	b.found <- found
	return found
}

// stop ends looking at a body that was not read to its end.
func (b *inspected) stop() {
	if b.look != nil {
		_ = b.look.CloseWithError(io.ErrUnexpectedEOF)
	}
}

func (b *inspected) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.look != nil {
		_, _ = b.look.Write(p[:n]) // who looks may have seen enough
	}
	if !b.started {
		b.started, b.whole = true, true
	}
	b.size += int64(n)
	if b.size > b.limit {
		b.over = true
		return n, errTooLarge
	}
	if !b.eightBit {
		b.eightBit = mail.Has8Bit(p[:n])
	}
	if b.whole = b.whole && b.size <= keepInMemory; b.whole {
		b.copied = append(b.copied, p[:n]...)
	} else {
		b.copied = nil
	}
	return n, err
}

// kept is the body if it was small, else nil.
func (b *inspected) kept() []byte {
	if !b.whole {
		return nil
	}
	return b.copied
}

var errTooLarge = fault.New(fault.TooLarge, "message_too_large", "The message is larger than this server accepts.")

// fault tells which limit a failed read met; other errors pass.
func (b *inspected) fault(err error) error {
	if b.over {
		return errTooLarge
	}
	return err
}
