package smtpclient

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/seal"
)

// Send hands over one artifact. The error is nil only when the peer took it;
// otherwise it is a *RefusedError, *ConnError, *UnknownError, *SourceError or
// *WeakError. What the peer does not have but for the final dot within left
// is not handed over: the connection ends as canceled, which says nothing of
// the peer. The connection is good for another Send while Alive says so.
func (c *Conn) Send(ctx context.Context, a *seal.Artifact, left time.Duration) (Reply, error) {
	if err := c.admit(ctx, a); err != nil {
		return Reply{}, err
	}
	seven := a.EightBit() && !c.ext.eightBit
	if err := c.cannotTake(a); err != nil {
		return err.Reply, err
	}
	body, err := open(ctx, a, seven)
	if err != nil {
		return sourceFailed(err, seven)
	}
	defer body.Close() // it was only read
	stop := context.AfterFunc(ctx, c.Abort)
	defer func() {
		if !stop() {
			c.broken = true
		}
	}()
	if reply, err := c.beforeDot(ctx, a, body, seven, left); err != nil {
		return reply, err
	}
	return c.dot(ctx, a)
}

// slowest is what a peer must take in a second, on the whole: one that takes
// a block just in time, again and again, would hold a message up for days.
const slowest = 1 << 10

// beforeDot brings the transaction to where only the final dot is wanting.
func (c *Conn) beforeDot(ctx context.Context, a *seal.Artifact, body io.Reader, seven bool, left time.Duration) (Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, c.t.Whole+time.Duration(a.Size()/slowest)*time.Second)
	defer cancel()
	defer time.AfterFunc(left, cancel).Stop()
	stop := context.AfterFunc(ctx, c.Abort)
	own, began := &timed{r: body}, time.Now()
	reply, err := c.transact(ctx, a, own, seven)
	if !stop() {
		if c.broken = true; err == nil {
			err = connError(ctx, StageData, ctx.Err())
		}
	}
	var lost *ConnError
	if errors.As(err, &lost) && errors.Is(ctx.Err(), context.DeadlineExceeded) && own.took > time.Since(began)/2 {
		err = &SourceError{fmt.Errorf("it took %s", own.took)} // the peer waited for us
	}
	return reply, err
}

// timed measures how long the artifact is waited for.
type timed struct {
	r    io.Reader
	took time.Duration
}

func (t *timed) Read(p []byte) (int, error) {
	began := time.Now()
	n, err := t.r.Read(p)
	t.took += time.Since(began)
	return n, err
}

// admit makes sure that a may travel over this connection.
func (c *Conn) admit(ctx context.Context, a *seal.Artifact) error {
	if err := ctx.Err(); err != nil {
		return connError(ctx, StageMail, err)
	}
	if c.broken || !c.secure {
		return &ConnError{Stage: StageMail, Word: ConnClosed, cause: errors.New("the connection is closed")}
	}
	if a.To().Domain() != c.target.Domain {
		return errors.New("smtpclient: the connection is not bound to the recipient's domain")
	}
	if need := max(a.Floor(), c.floor); c.ev.Grade < need {
		reason, wanted := c.tooWeak(need)
		return &WeakError{Proved: c.ev.Grade, Wanted: wanted, Evidence: c.ev, Reason: reason}
	}
	// RFC 8689 section 4.2.1: the next hop itself must be proved.
	if a.RequireTLS() && c.ev.Grade < policy.Authenticated {
		return &WeakError{Proved: c.ev.Grade, Wanted: policy.Authenticated, Evidence: c.ev, Reason: WeakRequireGrade}
	}
	return nil
}

// cannotTake finds what the peer would refuse, or must not be given.
func (c *Conn) cannotTake(a *seal.Artifact) *RefusedError {
	switch {
	case c.ext.size > 0 && a.Size() > c.ext.size:
		return local(552, [3]int{5, 3, 4}, "The message is larger than the mail host takes.") // RFC 1870 section 6.1
	case a.RequireTLS() && !c.ext.requireTLS:
		return local(550, [3]int{5, 7, 30}, "The mail host does not offer REQUIRETLS.") // RFC 8689 section 4.2.1
	case a.UTF8() && !c.ext.utf8:
		return local(553, [3]int{5, 6, 7}, "The mail host does not offer SMTPUTF8, which an address or a header needs.") // RFC 6531 section 3.5
	}
	return nil
}

func local(code int, enhanced [3]int, text string) *RefusedError {
	return &RefusedError{Stage: StageMail, Local: true,
		Reply: Reply{Code: code, Enhanced: enhanced, Text: private.NewString(text)}}
}

func open(ctx context.Context, a *seal.Artifact, seven bool) (io.ReadCloser, error) {
	if seven {
		return a.OpenSevenBit(ctx)
	}
	return a.Open(ctx)
}

// sourceFailed tells a message that cannot be re-encoded, which no later
// attempt will change, from a store that cannot be read now.
func sourceFailed(err error, seven bool) (Reply, error) {
	if seven && errors.Is(err, mail.ErrNotSevenBit) {
		refused := local(554, [3]int{5, 6, 3}, "The mail host takes 7-bit mail only and the message cannot be converted.") // RFC 6152 section 3
		return refused.Reply, refused
	}
	return Reply{}, &SourceError{err}
}

// transact brings the envelope and the message to the peer, without the final
// dot. It gives a reply where there is an error alone.
func (c *Conn) transact(ctx context.Context, a *seal.Artifact, body io.Reader, seven bool) (Reply, error) {
	if reply, err := c.envelope(ctx, a, seven); err != nil {
		return reply, err
	}
	n, err := c.message(mail.NewStrictReader(body))
	if err == nil && !seven && n != a.Size() {
		err = &SourceError{fmt.Errorf("it gave %d octets in place of %d", n, a.Size())}
	}
	var source *SourceError
	switch {
	case errors.As(err, &source):
		c.kill() // without the final dot, so that the peer drops what it has
		return sourceFailed(source.cause, seven)
	case err != nil:
		return Reply{}, c.lost(ctx, StageData, err)
	}
	return c.early(ctx)
}

// dot ends the message. From here on a lost connection tells nothing: a write
// that fails may have got through.
func (c *Conn) dot(ctx context.Context, a *seal.Artifact) (Reply, error) {
	_, _ = c.w.WriteString(".\r\n")
	reply, err := c.ask(c.t.Dot)
	if err == nil && reply.Code/100 == 3 {
		err = protocolError("an intermediate reply to the final dot")
	}
	if err != nil {
		c.kill()
		return Reply{}, &UnknownError{Word: connWord(ctx, err), cause: err}
	}
	c.dirty = false // either answer ends the transaction
	c.heed(reply)
	if !reply.Accepted() {
		return reply, &RefusedError{Stage: StageDot, Reply: reply}
	}
	c.ev.RequireTLS = c.requires(a)
	return reply, nil
}

// early finds what the peer said, or that it left, before it has the final
// dot. That it took the message it cannot have said yet.
func (c *Conn) early(ctx context.Context) (Reply, error) {
	switch err := c.heard(); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Reply{}, nil
	case err != nil:
		return Reply{}, c.lost(ctx, StageData, err)
	}
	reply, err := c.reply(c.t.Data)
	if err == nil && reply.Code/100 < 4 {
		err = protocolError("reply " + strconv.Itoa(reply.Code) + " before the final dot")
	}
	if err != nil {
		return Reply{}, c.lost(ctx, StageData, err)
	}
	c.kill() // in the middle of a message
	return reply, &RefusedError{Stage: StageData, Reply: reply}
}

// heed notices that the peer is about to hang up (RFC 5321 section 3.8).
func (c *Conn) heed(reply Reply) {
	if reply.Code == 421 {
		c.kill()
	}
}

type command struct {
	stage   Stage
	line    string
	timeout time.Duration
}

// requires reports whether REQUIRETLS is said.
func (c *Conn) requires(a *seal.Artifact) bool {
	return a.RequireTLS() || a.PrefersRequireTLS() && c.ext.requireTLS && c.ev.Grade >= policy.Authenticated
}

func (c *Conn) commands(a *seal.Artifact, seven bool) []command {
	from := "MAIL FROM:<" + a.From().Reveal() + ">"
	if c.ext.size > 0 && !seven {
		from += " SIZE=" + strconv.FormatInt(a.Size(), 10)
	}
	if a.EightBit() && !seven {
		from += " BODY=8BITMIME"
	}
	if a.UTF8() {
		from += " SMTPUTF8"
	}
	if c.requires(a) {
		from += " REQUIRETLS"
	}
	cmds := []command{
		{StageMail, from, c.t.Mail},
		{StageRcpt, "RCPT TO:<" + a.To().Reveal() + ">", c.t.Rcpt},
		{StageData, "DATA", c.t.Data},
	}
	if c.dirty {
		cmds = append([]command{{StageReset, "RSET", c.t.Mail}}, cmds...)
	}
	return cmds
}

// envelope brings the transaction to 354. With PIPELINING all commands go out
// at once and the first refusal counts (RFC 2920 section 3.1).
func (c *Conn) envelope(ctx context.Context, a *seal.Artifact, seven bool) (Reply, error) {
	cmds := c.commands(a, seven)
	c.dirty = true
	if c.ext.pipelining {
		for _, cmd := range cmds {
			c.command(cmd.line)
		}
	}
	var refused *RefusedError
	for _, cmd := range cmds {
		if !c.ext.pipelining {
			c.command(cmd.line)
		}
		reply, err := c.ask(cmd.timeout)
		if err == nil {
			err = c.expected(cmd.stage, reply)
		}
		if err != nil {
			err = c.lost(ctx, cmd.stage, err)
			if refused != nil {
				break // what was said before counts
			}
			return Reply{}, err
		}
		if cmd.stage == StageData && reply.Code == 354 {
			if refused == nil {
				return reply, nil
			}
			c.emptyMessage()
			break
		}
		if !reply.Accepted() && refused == nil {
			refused = &RefusedError{Stage: cmd.stage, Reply: reply}
		}
		if c.heed(reply); c.broken || refused != nil && !c.ext.pipelining {
			break
		}
	}
	return refused.Reply, refused
}

// expected finds replies that make no sense for their command.
func (c *Conn) expected(stage Stage, reply Reply) error {
	class := reply.Code / 100
	switch {
	case stage == StageData && class == 2, stage == StageData && class == 3 && reply.Code != 354,
		stage != StageData && class == 3, stage == StageReset && class == 5:
		return protocolError("reply " + strconv.Itoa(reply.Code) + " to " + string(stage))
	}
	return nil
}

// emptyMessage ends a message that the peer waits for although it refused the
// recipient (RFC 2920 section 3.1). What it says to that changes nothing.
func (c *Conn) emptyMessage() {
	_, _ = c.w.WriteString(".\r\n")
	if reply, err := c.ask(c.t.Dot); err != nil {
		c.kill()
	} else {
		c.heed(reply)
	}
}

// message writes the body, dot-stuffed and ended by CRLF, and counts what it
// read.
func (c *Conn) message(body io.Reader) (int64, error) {
	if c.buf == nil {
		c.buf = make([]byte, 16<<10)
	}
	stuff := stuffer{w: c.w, lineStart: true}
	var total int64
	for {
		n, err := body.Read(c.buf)
		total += int64(n)
		if werr := stuff.write(c.buf[:n]); werr != nil {
			return total, werr
		}
		if err == io.EOF {
			return total, stuff.end()
		}
		if err != nil {
			return total, &SourceError{err}
		}
	}
}

// stuffer doubles dots at the start of lines (RFC 5321 section 4.5.2).
type stuffer struct {
	w         *bufio.Writer
	lineStart bool
	afterCR   bool
}

func (s *stuffer) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if s.afterCR && p[0] == '\n' {
		if err := s.w.WriteByte('\n'); err != nil {
			return err
		}
		s.lineStart, s.afterCR = true, false
		return s.write(p[1:])
	}
	if s.lineStart && p[0] == '.' {
		if err := s.w.WriteByte('.'); err != nil {
			return err
		}
	}
	s.lineStart, s.afterCR = bytes.HasSuffix(p, crlf), p[len(p)-1] == '\r'
	for {
		i := bytes.Index(p, crlfDot)
		if i < 0 {
			_, err := s.w.Write(p)
			return err
		}
		if _, err := s.w.Write(p[:i+3]); err != nil {
			return err
		}
		p = p[i+2:] // the dot once more
	}
}

func (s *stuffer) end() error {
	if s.lineStart {
		return nil
	}
	_, err := s.w.Write(crlf)
	return err
}

var (
	crlf    = []byte("\r\n")
	crlfDot = []byte("\r\n.")
)
