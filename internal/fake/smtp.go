package fake

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// session is one connection to one host, under the behavior that the host had
// when the connection came.
type session struct {
	n    *Internet
	h    *host
	b    *Behavior
	tlsc *tls.Config
	conn net.Conn
	r    *bufio.Reader
	w    *bufio.Writer

	tls      string // version and suite, empty in clear
	greeted  bool
	from     string
	mail     bool
	utf8     bool // SMTPUTF8 was asked for in MAIL
	require  bool // REQUIRETLS was
	size     int64
	rcpts    []string
	chunks   []byte // BDAT so far
	chunked  int64
	chunkBad string
	taken    int // messages on this connection
}

// errEnd ends a session without it being anybody's failure.
var errEnd = errors.New("end of session")

const lineLimit = 32 << 10

func (n *Internet) serveSMTP(h *host, conn net.Conn) {
	h.connections.Add(1)
	h.open.Add(1)
	defer h.open.Add(-1)
	p := h.posture.Load()
	s := &session{n: n, h: h, b: &p.Behavior, tlsc: p.tls, conn: conn}
	s.r, s.w = bufio.NewReaderSize(conn, lineLimit), bufio.NewWriterSize(conn, 4096)
	_ = s.run() // whatever ended it, the peer notices
	_ = s.w.Flush()
	_ = s.conn.Close()
}

func (s *session) run() error {
	if s.b.Hang == HangBanner {
		return s.hang()
	}
	if err := s.reply(220, "", s.h.name+" ESMTP"); err != nil {
		return err
	}
	for {
		line, err := s.readLine()
		if err != nil {
			return err
		}
		if s.tls == "" {
			s.h.note(line)
		}
		if err := s.command(line); err != nil {
			return err
		}
	}
}

// hang reads and says nothing until the peer or Close ends the connection.
func (s *session) hang() error {
	if err := s.w.Flush(); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, s.conn)
	return errEnd
}

// readLine reads one command without its CRLF. Replies are flushed when the
// peer has no further complete command under way (RFC 2920 section 3.2).
func (s *session) readLine() (string, error) {
	if ahead, _ := s.r.Peek(s.r.Buffered()); bytes.IndexByte(ahead, '\n') < 0 {
		if err := s.w.Flush(); err != nil {
			return "", err
		}
	}
	line, err := s.r.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	text, ok := strings.CutSuffix(string(line), "\r\n")
	if !ok {
		_ = s.reply(500, "5.5.2", "lines end in CRLF")
		return "", errEnd
	}
	return text, nil
}

func (s *session) reply(code int, enhanced, text string) error {
	if err := s.pause(); err != nil {
		return err
	}
	s.w.WriteString(strconv.Itoa(code))
	s.w.WriteByte(' ')
	if enhanced != "" && !s.b.NoEnhancedCodes {
		s.w.WriteString(enhanced)
		s.w.WriteByte(' ')
	}
	s.w.WriteString(text)
	_, err := s.w.WriteString("\r\n")
	return err
}

// replyLine sends a whole reply written by a posture: "451 4.7.1 Later".
func (s *session) replyLine(line string) error {
	if err := s.pause(); err != nil {
		return err
	}
	_, err := s.w.WriteString(line + "\r\n")
	return err
}

// pause delays a reply where the host is slow.
func (s *session) pause() error {
	if s.b.Delay == 0 {
		return nil
	}
	if err := s.w.Flush(); err != nil {
		return err
	}
	timer := time.NewTimer(s.b.Delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-s.n.done:
		return errEnd
	}
}

func (s *session) command(line string) error {
	verb, rest, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO", "HELO":
		return s.ehlo(strings.EqualFold(verb, "EHLO"))
	case "STARTTLS":
		return s.startTLS()
	case "MAIL":
		return s.mailFrom(rest)
	case "RCPT":
		return s.rcptTo(rest)
	case "DATA":
		return s.data()
	case "BDAT":
		return s.bdat(rest)
	case "RSET":
		s.reset()
		return s.reply(250, "2.0.0", "flushed")
	case "NOOP":
		return s.reply(250, "2.0.0", "still here")
	case "VRFY":
		return s.reply(252, "2.5.0", "send and see")
	case "QUIT":
		_ = s.reply(221, "2.0.0", "goodbye")
		return errEnd
	}
	return s.reply(500, "5.5.1", "unknown command")
}

func (s *session) reset() {
	s.from, s.mail, s.utf8, s.require, s.size, s.rcpts = "", false, false, false, 0, s.rcpts[:0]
	s.chunks, s.chunked, s.chunkBad = nil, 0, ""
}

func (s *session) ehlo(extended bool) error {
	if s.b.Hang == HangEHLO {
		return s.hang()
	}
	s.reset()
	s.greeted = true
	if !extended {
		return s.reply(250, "", s.h.name)
	}
	lines := []string{s.h.name}
	add := func(on bool, keyword string) {
		if on {
			lines = append(lines, keyword)
		}
	}
	add(!s.b.NoPipelining, "PIPELINING")
	add(!s.b.No8BitMIME, "8BITMIME")
	add(true, "SIZE "+strconv.FormatInt(s.b.size(), 10))
	add(!s.b.NoSMTPUTF8, "SMTPUTF8")
	add(s.b.Chunking, "CHUNKING")
	add(!s.b.NoEnhancedCodes, "ENHANCEDSTATUSCODES")
	add(s.tls == "" && s.b.StartTLS != StartTLSAbsent, "STARTTLS")
	// RFC 8689 section 2: the keyword is offered only inside TLS.
	add(s.tls != "" && s.b.RequireTLS, "REQUIRETLS")
	if err := s.pause(); err != nil {
		return err
	}
	for i, l := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		if _, err := s.w.WriteString("250" + sep + l + "\r\n"); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) startTLS() error {
	switch {
	case s.b.StartTLS == StartTLSAbsent:
		return s.reply(502, "5.5.1", "not here")
	case s.tls != "":
		return s.reply(503, "5.5.1", "already inside TLS")
	case s.b.Hang == HangStartTLS:
		return s.hang()
	case s.b.StartTLS == StartTLSRefused:
		return s.reply(454, "4.7.0", "TLS not available at the moment")
	}
	// RFC 3207 section 4.2: what came in clear behind the command is void. It
	// is kept in the transcript, for it should not have been sent.
	if ahead, _ := s.r.Peek(s.r.Buffered()); len(ahead) > 0 {
		s.h.note(string(ahead))
		return s.reply(503, "5.5.1", "nothing may follow STARTTLS")
	}
	if err := s.reply(220, "2.0.0", "go ahead"); err != nil {
		return err
	}
	s.w.WriteString(s.b.Inject)
	if err := s.w.Flush(); err != nil {
		return err
	}
	switch {
	case s.b.Hang == HangTLS:
		return s.hang()
	case s.b.StartTLS == StartTLSGarbage:
		_, _ = s.r.ReadByte() // the peer's hello has begun
		_, _ = s.conn.Write([]byte("HTTP/1.0 400 Bad Request\r\n\r\n<h1>this is no TLS</h1>"))
		return errEnd
	}
	conn := tls.Server(s.conn, s.tlsc)
	if err := conn.Handshake(); err != nil {
		return err
	}
	s.h.handshakes.Add(1)
	state := conn.ConnectionState()
	s.h.shake(state)
	s.tls = tls.VersionName(state.Version) + " " + tls.CipherSuiteName(state.CipherSuite)
	s.conn = conn
	s.r, s.w = bufio.NewReaderSize(conn, lineLimit), bufio.NewWriterSize(conn, 4096)
	s.reset()
	s.greeted = false
	return nil
}

// path reads "FROM:<a@b> KEY=VALUE …" of MAIL and RCPT.
func path(rest, word string) (addr string, params []string, ok bool) {
	if len(rest) < len(word) || !strings.EqualFold(rest[:len(word)], word) {
		return "", nil, false
	}
	rest = strings.TrimLeft(rest[len(word):], " ")
	end := strings.LastIndexByte(rest, '>')
	if !strings.HasPrefix(rest, "<") || end < 0 {
		return "", nil, false
	}
	return rest[1:end], strings.Fields(rest[end+1:]), true
}

func (s *session) mailFrom(rest string) error {
	if s.b.Hang == HangMail {
		return s.hang()
	}
	if s.b.MaxPerConn > 0 && s.taken >= s.b.MaxPerConn {
		_ = s.reply(421, "4.7.0", "enough for one connection")
		return errEnd
	}
	addr, params, ok := path(rest, "FROM:")
	switch {
	case !s.greeted:
		return s.reply(503, "5.5.1", "say EHLO first")
	case s.mail:
		return s.reply(503, "5.5.1", "one MAIL at a time")
	case !ok:
		return s.reply(501, "5.5.4", "MAIL FROM:<address>")
	}
	for _, p := range params {
		key, value, _ := strings.Cut(p, "=")
		if problem := s.mailParam(strings.ToUpper(key), strings.ToUpper(value)); problem != "" {
			s.reset()
			return s.replyLine(problem)
		}
	}
	if !isASCII(addr) && !s.utf8 {
		s.reset()
		return s.reply(553, "5.6.7", "address needs SMTPUTF8")
	}
	s.mail, s.from = true, addr
	return s.reply(250, "2.1.0", "sender ok")
}

func (s *session) mailParam(key, value string) (problem string) {
	switch key {
	case "SIZE":
		size, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return "501 5.5.4 SIZE is a number"
		}
		if s.size = size; size > s.b.size() {
			return "552 5.3.4 message too big"
		}
		return ""
	case "BODY":
		if value == "7BIT" || value == "8BITMIME" && !s.b.No8BitMIME {
			return ""
		}
	case "SMTPUTF8":
		if !s.b.NoSMTPUTF8 {
			s.utf8 = true
			return ""
		}
	case "REQUIRETLS":
		if s.tls != "" && s.b.RequireTLS {
			s.require = true
			return ""
		}
	}
	return "555 5.5.4 parameter not known here"
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func (s *session) rcptTo(rest string) error {
	if s.b.Hang == HangRcpt {
		return s.hang()
	}
	addr, params, ok := path(rest, "TO:")
	_, domain, hasDomain := cutLast(addr, '@')
	switch {
	case !s.mail:
		return s.reply(503, "5.5.1", "MAIL first")
	case !ok || !hasDomain:
		return s.reply(501, "5.1.3", "RCPT TO:<address>")
	case len(params) > 0:
		return s.reply(555, "5.5.4", "parameter not known here")
	case !isASCII(addr) && !s.utf8:
		return s.reply(553, "5.6.7", "address needs SMTPUTF8")
	case !s.n.zone.routes(domain, s.h.name):
		return s.reply(550, "5.7.1", "mail for this domain does not belong here")
	}
	if s.b.Rcpt != nil {
		if line := s.b.Rcpt(addr, s.h.attempt("rcpt", addr)); line != "" {
			return s.replyLine(line)
		}
	}
	s.rcpts = append(s.rcpts, addr)
	return s.reply(250, "2.1.5", "recipient ok")
}

func cutLast(s string, sep byte) (before, after string, found bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// accept stores a message for each recipient and answers, or drops the
// connection where the host does that.
func (s *session) accept(raw []byte) error {
	if s.b.Hang == HangDot {
		return s.hang()
	}
	drop := false
	for _, to := range s.rcpts {
		s.h.messages.Add(1)
		s.n.boxes.add(Message{
			From: s.from, To: to, Raw: raw, TLS: s.tls, Host: s.h.name,
			ReceivedAt: s.n.opts.Clock.Now(), RequireTLS: s.require,
		})
		if status, from := s.b.Returns, s.from; status != "" {
			s.n.work.Go(func() { s.n.sendBack(s.h, status, from, to) })
		}
		if s.b.DropAfterDot > 0 && s.h.attempt("dot", to) <= s.b.DropAfterDot {
			drop = true
		}
	}
	if drop {
		return errEnd
	}
	s.taken++
	s.reset()
	return s.reply(250, "2.0.0", fmt.Sprintf("taken as %d", s.taken))
}
