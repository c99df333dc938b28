package fake

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
)

func (s *session) data() error {
	switch {
	case s.b.Hang == HangData:
		return s.hang()
	case len(s.rcpts) == 0:
		return s.reply(503, "5.5.1", "RCPT first")
	case s.chunked > 0:
		return s.reply(503, "5.5.1", "BDAT has begun")
	}
	if err := s.reply(354, "", "end with a dot"); err != nil {
		return err
	}
	if err := s.w.Flush(); err != nil {
		return err
	}
	raw, problem, err := s.readData()
	if err != nil {
		return err
	}
	if problem != "" && s.b.Hang != HangDot {
		s.reset()
		return s.replyLine(problem)
	}
	return s.accept(raw)
}

// readData reads up to CRLF.CRLF, which alone ends a message (RFC 5321
// section 4.1.1.4), and undoes dot stuffing. problem is the reply where the
// message breaks a rule of this host.
func (s *session) readData() (raw []byte, problem string, err error) {
	keep := !s.n.opts.DiscardBodies
	if keep && s.size > 0 {
		raw = make([]byte, 0, min(s.size+512, s.b.size()))
	}
	total := int64(0)
	lineStart, crBefore, signed := true, false, false
	for {
		time.Sleep(s.b.Drip)
		chunk, err := s.r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, "", err
		}
		whole := err == nil
		if lineStart && len(chunk) == 3 && string(chunk) == ".\r\n" {
			if signed && problem == "" {
				s.n.signed.Add(1)
			}
			return raw, problem, nil
		}
		crlf := whole && (len(chunk) > 1 && chunk[len(chunk)-2] == '\r' || len(chunk) == 1 && crBefore)
		if problem == "" {
			problem = s.inspect(chunk, whole, crlf, crBefore)
		}
		signed = signed || lineStart && bytes.HasPrefix(chunk, []byte("DKIM-Signature:"))
		crBefore = chunk[len(chunk)-1] == '\r'
		if lineStart && chunk[0] == '.' {
			chunk = chunk[1:]
		}
		lineStart = crlf
		if total += int64(len(chunk)); total > s.b.size() {
			problem, keep, raw = "552 5.3.4 message too big", false, nil
		}
		if keep {
			raw = append(raw, chunk...)
		}
	}
}

// inspect finds bare CR and LF, NUL, and octets that the host cannot take, in
// one piece of a message: a line, or a part of a very long one.
func (s *session) inspect(chunk []byte, whole, crlf, crBefore bool) string {
	cr := bytes.IndexByte(chunk, '\r')
	switch {
	case whole && !crlf:
		return "554 5.6.0 bare LF"
	case crBefore && chunk[0] != '\n',
		cr >= 0 && whole && cr != len(chunk)-2,
		cr >= 0 && !whole && cr != len(chunk)-1:
		return "554 5.6.0 bare CR"
	case bytes.IndexByte(chunk, 0) >= 0:
		return "554 5.6.0 NUL"
	case s.b.No8BitMIME && bytes.ContainsFunc(chunk, func(r rune) bool { return r >= 0x80 }):
		return "554 5.6.3 8-bit data not taken here"
	}
	return ""
}

// bdat takes one chunk of RFC 3030.
func (s *session) bdat(rest string) error {
	count, last, _ := strings.Cut(rest, " ")
	size, err := strconv.ParseInt(count, 10, 64)
	if !s.b.Chunking || err != nil || size < 0 || last != "" && !strings.EqualFold(last, "LAST") {
		_ = s.reply(500, "5.5.1", "no such BDAT")
		return errEnd // what follows cannot be told from commands
	}
	if s.b.Hang == HangData {
		return s.hang()
	}
	s.chunked = min(s.chunked+min(size, s.b.size()+1), s.b.size()+1)
	keep := len(s.rcpts) > 0 && s.chunked <= s.b.size()
	if keep {
		before := len(s.chunks)
		s.chunks = append(s.chunks, make([]byte, size)...)
		_, err = io.ReadFull(s.r, s.chunks[before:])
	} else {
		_, err = io.CopyN(io.Discard, s.r, size)
	}
	switch {
	case err != nil:
		return err
	case len(s.rcpts) == 0:
		return s.reply(503, "5.5.1", "RCPT first")
	case !keep:
		s.chunkBad = "552 5.3.4 message too big"
	}
	if last == "" {
		return s.reply(250, "2.0.0", "chunk taken")
	}
	if s.chunkBad == "" {
		s.chunkBad = s.inspectWhole(s.chunks)
	}
	if problem := s.chunkBad; problem != "" {
		s.reset()
		return s.replyLine(problem)
	}
	raw := s.chunks
	if s.n.opts.DiscardBodies {
		raw = nil
	}
	return s.accept(raw)
}

func (s *session) inspectWhole(raw []byte) string {
	for line := range bytes.Lines(raw) {
		whole := line[len(line)-1] == '\n'
		if problem := s.inspect(line, whole, bytes.HasSuffix(line, []byte("\r\n")), false); problem != "" {
			return problem
		}
	}
	return ""
}
