// Package scan asks programs that look into mail: Rspamd for what is unwanted,
// ClamAV for what is harmful.
//
// Invariants:
//   - A message is streamed to a scanner and never written anywhere.
//   - No answer is no permission: what a scanner could not look at to its end
//     is a fault of kind Unavailable, and whoever brings the mail comes again.
//   - What a scanner says is bounded in size and time, and of its words only
//     those pass that are known here or are of a fixed form.
//   - Errors hold no content and no address.
package scan

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/sealpost/sealpost/internal/fault"
)

// Dial opens connections; nil stands for a plain net.Dialer.
type Dial func(ctx context.Context, network, addr string) (net.Conn, error)

func (d Dial) or() Dial {
	if d == nil {
		return (&net.Dialer{Timeout: connectTime}).DialContext
	}
	return d
}

const (
	connectTime = 5 * time.Second
	defaultTime = time.Minute // of one message
)

// unavailable is every failure of a scanner. The cause is for the log.
func unavailable(cause error) error {
	return fault.New(fault.Unavailable, "scan_unavailable", "The message cannot be checked now. Try again later.").Because(cause)
}

// source tells errors of reading the message, which are the caller's own, from
// those of the scanner.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

func (s *source) blame(err error) error {
	if s.err != nil {
		return s.err
	}
	return unavailable(err)
}
