package mail

import (
	"bytes"
	"io"

	"github.com/sealpost/sealpost/internal/fault"
)

// MaxLine is the longest line a StrictReader lets through, CRLF not counted.
const MaxLine = 8192

// StrictReader passes a message through unchanged and fails at the first bare
// CR, bare LF, NUL or overlong line. Accepting such line ends is how one
// message is smuggled inside another (RFC 5321 section 2.3.8).
type StrictReader struct {
	r    io.Reader
	line int  // octets of the line so far
	cr   bool // the last octet was CR
	err  error
}

// NewStrictReader reads from r.
func NewStrictReader(r io.Reader) *StrictReader { return &StrictReader{r: r} }

// Read gives only octets that have been checked.
func (s *StrictReader) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.r.Read(p)
	if bad := s.check(p[:n]); bad != nil {
		s.err = bad
		return 0, s.err
	}
	if err == io.EOF && s.cr {
		err = bareLineEnding()
	}
	s.err = err
	return n, err
}

func bareLineEnding() error {
	return fault.New(fault.Invalid, "bare_line_ending",
		"The message contains a CR or LF that is not part of a CRLF line end.")
}

func (s *StrictReader) check(b []byte) error {
	if bytes.IndexByte(b, 0) >= 0 {
		return fault.New(fault.Invalid, "nul_byte", "The message contains a NUL octet.")
	}
	if s.cr && len(b) > 0 {
		if b[0] != '\n' {
			return bareLineEnding()
		}
		b, s.cr, s.line = b[1:], false, 0
	}
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		line := b
		if i >= 0 {
			line = b[:i]
		}
		// The only CR is the last octet before the LF, or of what has come.
		j := bytes.IndexByte(line, '\r')
		if j >= 0 && j != len(line)-1 || j < 0 && i >= 0 {
			return bareLineEnding()
		}
		text := len(line)
		if j >= 0 {
			text--
		}
		if s.line += text; s.line > MaxLine {
			return fault.Newf(fault.Invalid, "line_too_long", "The message contains a line of more than %d octets.", MaxLine)
		}
		if i < 0 {
			s.cr = j >= 0
			return nil
		}
		b, s.line = b[i+1:], 0
	}
	return nil
}
