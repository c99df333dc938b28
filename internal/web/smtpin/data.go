package smtpin

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
)

// errFlood ends a session that goes on sending what is refused already.
var errFlood = errors.New("the message goes on far beyond the limit")

// dotReader reads what follows DATA, up to CRLF.CRLF, and takes away the dots
// that stuff it (RFC 5321 section 4.5.2). It passes everything else on as it
// is: what is wrong with it is for mail.StrictReader to say.
type dotReader struct {
	line  *line
	start bool // behind a CRLF, or at the very beginning
	cr    bool // behind a CR
	done  bool // the end was read
	err   error
}

func newDotReader(l *line) *dotReader { return &dotReader{line: l, start: true} }

var lineStartDot = []byte("\r\n.")

// Read gives octets of the message and, behind the final dot only, io.EOF.
func (d *dotReader) Read(p []byte) (int, error) {
	if d.done || d.err != nil || len(p) == 0 {
		return 0, d.fail(nil)
	}
	r := d.line.r
	if d.start {
		head, err := r.Peek(1)
		if err == nil && head[0] == '.' {
			if head, err = r.Peek(3); err == nil && string(head) == ".\r\n" {
				d.done = true
				_, _ = r.Discard(3)
				return 0, io.EOF
			}
			if err == nil {
				_, err = r.Discard(1)
			}
		}
		if err != nil {
			return 0, d.fail(err)
		}
	}
	if r.Buffered() == 0 {
		if _, err := r.Peek(1); err != nil {
			return 0, d.fail(err)
		}
	}
	window, _ := r.Peek(r.Buffered())
	switch i := bytes.Index(window, lineStartDot); {
	case d.cr && window[0] == '\n':
		window = window[:1] // the CRLF was torn apart
	case i >= 0:
		window = window[:i+2]
	}
	n := copy(p, window)
	d.start = p[n-1] == '\n' && (n > 1 && p[n-2] == '\r' || n == 1 && d.cr)
	d.cr = p[n-1] == '\r'
	_, _ = r.Discard(n)
	return n, nil
}

func (d *dotReader) fail(err error) error {
	switch {
	case d.done:
		return io.EOF
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		d.err = err
	}
	return d.err
}

// skip reads up to limit octets to the end of the message.
func skip(r io.Reader, limit int64) error {
	n, err := io.Copy(io.Discard, io.LimitReader(r, limit))
	if err == nil && n == limit {
		return errFlood
	}
	return err
}

func (n *session) data(rest string) error {
	switch {
	case rest != "":
		n.reply(501, "5.5.4", "DATA stands alone.")
		return nil
	case !n.ready():
		return nil
	}
	n.reply(354, "", "Send the message; end it with <CRLF>.<CRLF>")
	dot := newDotReader(n.line)
	done, err := n.accept(dot)
	if dot.err != nil {
		return dot.err
	}
	flood := error(nil)
	if !dot.done {
		if flood = skip(dot, n.s.MaxSize); flood != nil && !errors.Is(flood, errFlood) {
			return flood
		}
	}
	n.answer(done, err)
	return flood
}

// ready reports whether a message may come now.
func (n *session) ready() bool {
	switch {
	case !n.tx.open:
		n.reply(503, "5.5.1", "Say MAIL first.")
	case n.tx.recipients() == 0:
		n.reply(503, "5.5.1", "There is no recipient.")
	default:
		return true
	}
	return false
}

// accept hands a message to the front door, or to the inbound one, and gives
// the words of success.
func (n *session) accept(body io.Reader) (done string, err error) {
	tx, message := n.tx, io.Reader(mail.NewStrictReader(body))
	if len(tx.tickets) > 0 {
		return "Taken.", n.acceptInbound(message)
	}
	draft := submit.Draft{Principal: tx.principal, Source: spool.FromSMTP, Sender: tx.sender, Recipients: tx.rcpts, RequireTLS: tx.requireTLS,
		Protocol: n.protocol(), EHLO: n.hello}
	if n.role == Relay {
		var src Source
		if src, message, err = n.whose(message); err != nil {
			return "", err
		}
		n.principal = src.principal()
		draft.Principal, draft.Source, draft.Tenant = n.principal, spool.FromRelay, src.Tenant
	}
	draft.Message = message
	receipt, err := n.s.Door.Accept(n.s.ctx, draft)
	if err == nil && n.stranger { // it proved its tenant
		n.s.welcome(n)
	}
	return "Accepted as " + receipt.Message.Text(id.Message), err
}

// protocol is the word for Received (RFC 3848, RFC 6531 section 4.3).
func (n *session) protocol() string {
	word := "ESMTP"
	switch {
	case n.tx.utf8:
		word = "UTF8SMTP"
	case !n.extended:
		word = "SMTP"
	}
	if n.tls != nil {
		word += "S"
	}
	if !n.anonymous() {
		word += "A"
	}
	return word
}

// answer tells what became of a message, and ends its transaction.
func (n *session) answer(done string, err error) {
	if n.tx.requireTLS {
		n.record.requireTLS++
	}
	n.record.recipients += n.tx.recipients()
	if err != nil {
		n.record.refused++
		n.replyFault(err)
	} else {
		n.record.accepted++
		n.reply(250, "2.0.0", done)
	}
	n.reset()
}

// chunkReader reads the chunks of BDAT (RFC 3030) as one message. It asks for
// the next chunk, with its command, when the message is read on.
type chunkReader struct {
	n    *session
	left int64 // octets of this chunk
	last bool
	size int64 // octets of this chunk in all
	err  error // of the connection, or errAborted
}

var errAborted = errors.New("the transfer was given up")

// Read gives octets of the message, and io.EOF behind the last chunk.
func (c *chunkReader) Read(p []byte) (int, error) {
	for c.err == nil && c.left == 0 {
		if c.last {
			return 0, io.EOF
		}
		c.err = c.next()
	}
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.n.line.r.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	c.err = err
	return n, err
}

// next answers a chunk and waits for the command of the next one.
func (c *chunkReader) next() error {
	c.n.reply(250, "2.0.0", strconv.FormatInt(c.size, 10)+" octets received.")
	for {
		b, err := c.n.line.command()
		if err != nil {
			return err
		}
		text := string(b)
		verb, rest, _ := strings.Cut(text, " ")
		switch verb = strings.ToUpper(verb); verb {
		case "BDAT":
			c.n.record.commands++
			return c.open(rest)
		case "RSET", "QUIT", "EHLO", "HELO":
			c.n.pending = text
			return errAborted
		case "NOOP":
			c.n.record.commands++
			c.n.reply(250, "2.0.0", "Still here.")
		default:
			c.n.record.commands++
			c.n.reply(503, "5.5.1", "A message is being transferred; go on with BDAT, or RSET.")
			if c.n.record.errors > maxErrors {
				c.n.record.ended = "errors"
				c.n.reply(421, "4.7.0", "Too many errors.")
				return errEnd
			}
		}
	}
}

// open reads the arguments of BDAT. Without its size the session is out of
// step, so it ends.
func (c *chunkReader) open(rest string) error {
	word, last, more := strings.Cut(rest, " ")
	size, err := strconv.ParseUint(word, 10, 62)
	if err != nil || strings.Trim(word, "0123456789") != "" || more && !strings.EqualFold(last, "LAST") {
		c.n.reply(501, "5.5.4", "Say BDAT and the number of octets, and LAST with the last ones.")
		c.n.record.ended = "bad_bdat"
		return errEnd
	}
	// So long a chunk is not even skipped.
	if int64(size) > 2*c.n.s.MaxSize {
		c.n.reply(552, "5.3.4", "The message is larger than this server accepts.")
		return errFlood
	}
	c.left, c.size, c.last = int64(size), int64(size), more
	return nil
}

func (n *session) bdat(rest string) error {
	switch {
	case !n.tx.open:
		return n.outOfStep(rest, 503, "5.5.1", "Say MAIL first.")
	case n.tx.recipients() == 0:
		return n.outOfStep(rest, 503, "5.5.1", "There is no recipient.")
	}
	c := &chunkReader{n: n}
	if err := c.open(rest); err != nil {
		return err
	}
	n.record.bdat++
	done, err := n.accept(c)
	switch {
	case errors.Is(c.err, errAborted):
		n.reset()
		return nil
	case c.err != nil:
		return c.err
	}
	// The rest of this chunk; a chunk that comes later finds no transaction.
	if err := skip(n.line.r, c.left); err != nil && !errors.Is(err, errFlood) {
		return err
	}
	n.answer(done, err)
	return nil
}

// outOfStep refuses a chunk that comes at the wrong time. Its octets come all
// the same, and must not be taken for commands.
func (n *session) outOfStep(rest string, code int, enhanced, text string) error {
	c := &chunkReader{n: n}
	if err := c.open(rest); err != nil {
		return err
	}
	if err := skip(n.line.r, c.left); err != nil && !errors.Is(err, errFlood) {
		return err
	}
	n.reply(code, enhanced, text)
	return nil
}
