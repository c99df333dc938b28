package smtpin

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"sync"
	"time"
)

// Errors that end a session.
var (
	errEnd      = errors.New("end of session")
	errBareLine = errors.New("a command line holds a bare CR, a bare LF or a NUL")
	errTooLong  = errors.New("a command line is too long")
)

const (
	// readBuffer holds the longest command line: RFC 4954 section 4 asks for
	// 12,288 octets in AUTH.
	readBuffer  = 16 << 10
	writeBuffer = 4 << 10
)

// line is a connection with the deadlines of a session. Replies are written
// out when there is nothing left to read: that answers a group of pipelined
// commands at once (RFC 2920 section 3.2).
type line struct {
	conn    net.Conn // in clear
	secure  net.Conn // inside TLS, or conn
	timeout time.Duration
	r       *bufio.Reader
	w       *bufio.Writer

	mu       sync.Mutex
	busy     bool // within a transaction, which draining lets finish
	draining bool
	last     time.Time // nothing is read behind it; zero for no end
}

func newLine(conn net.Conn, timeout time.Duration) *line {
	l := &line{conn: conn, timeout: timeout}
	l.on(clearText{l})
	return l
}

// on continues the session on another layer of the connection.
func (l *line) on(c net.Conn) {
	l.secure = c
	l.r = bufio.NewReaderSize(flushing{l}, readBuffer)
	l.w = bufio.NewWriterSize(c, writeBuffer)
}

// clearText is the raw connection; every read and write gets a deadline.
type clearText struct{ l *line }

func (c clearText) Read(p []byte) (int, error) {
	c.l.mu.Lock()
	deadline := time.Now().Add(c.l.timeout)
	if !c.l.last.IsZero() && c.l.last.Before(deadline) {
		deadline = c.l.last
	}
	if c.l.draining && !c.l.busy {
		deadline = past
	}
	err := c.l.conn.SetReadDeadline(deadline)
	c.l.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return c.l.conn.Read(p)
}

func (c clearText) Write(p []byte) (int, error) {
	if err := c.l.conn.SetWriteDeadline(time.Now().Add(c.l.timeout)); err != nil {
		return 0, err
	}
	return c.l.conn.Write(p)
}

func (c clearText) Close() error                       { return c.l.conn.Close() }
func (c clearText) LocalAddr() net.Addr                { return c.l.conn.LocalAddr() }
func (c clearText) RemoteAddr() net.Addr               { return c.l.conn.RemoteAddr() }
func (c clearText) SetDeadline(t time.Time) error      { return c.l.conn.SetDeadline(t) }
func (c clearText) SetReadDeadline(t time.Time) error  { return c.l.conn.SetReadDeadline(t) }
func (c clearText) SetWriteDeadline(t time.Time) error { return c.l.conn.SetWriteDeadline(t) }

// flushing writes replies out before it waits for more.
type flushing struct{ l *line }

func (f flushing) Read(p []byte) (int, error) {
	if f.l.w.Buffered() > 0 {
		if err := f.l.w.Flush(); err != nil {
			return 0, err
		}
	}
	return f.l.secure.Read(p)
}

// until ends reading at a time, however often the peer says something; zero
// lets it go on.
func (l *line) until(t time.Time) {
	l.mu.Lock()
	l.last = t
	l.mu.Unlock()
}

var past = time.Unix(1, 0)

// drain ends the session at once if it is idle, else after its transaction.
func (l *line) drain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.draining = true
	if !l.busy {
		_ = l.conn.SetReadDeadline(past)
	}
}

// begin starts a transaction unless the server drains.
func (l *line) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy = !l.draining
	return l.busy
}

func (l *line) done() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy = false
}

// stopped reports whether the server drains and nothing keeps this session.
func (l *line) stopped() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.draining && !l.busy
}

// command reads a line without its CRLF. The bytes are valid until the next
// read.
func (l *line) command() ([]byte, error) {
	b, err := l.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, errTooLong
	}
	if err != nil {
		return nil, err
	}
	b, ok := bytes.CutSuffix(b, []byte("\r\n"))
	if !ok || bytes.IndexByte(b, '\r') >= 0 || bytes.IndexByte(b, 0) >= 0 {
		return nil, errBareLine
	}
	return b, nil
}
