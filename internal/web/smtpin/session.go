package smtpin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/inbound"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
)

// maxErrors is how many commands of a session may fail before it ends.
const maxErrors = 50

const lingerFor = 500 * time.Millisecond

// session is one connection and what was said on it.
type session struct {
	s        *Server
	id       id.ID
	role     Role
	listener Role     // of the listener; role may be another on that for relays
	sources  []Source // that the peer of a relay is one of
	line     *line
	crowded  bool

	from     netip.Prefix // where the peer is
	stranger bool         // neither authenticated nor of a source that nobody shares; under Server.mu
	latest   time.Time    // that a stranger may stay

	tls       *tls.ConnectionState // nil in clear
	hello     string
	extended  bool           // greeted with EHLO
	key       private.String // of the client that authenticated
	principal auth.Principal // of that client, or of the relay's source

	tx      transaction
	pending string // a command that ended a chunked transfer

	record record
}

// transaction is what MAIL and RCPT have said.
type transaction struct {
	open       bool
	principal  auth.Principal
	sender     mail.Address
	utf8       bool
	requireTLS bool
	rcpts      []mail.Address
	sources    []Source         // of the peer, that may hand in mail of this sender
	outside    bool             // of a shared source, and for members
	tickets    []inbound.Ticket // in place of rcpts, for what comes in from outside
}

// record is what is logged of a session.
type record struct {
	began                        time.Time
	commands, errors, failedAuth int
	accepted, refused            int
	recipients, bdat, requireTLS int
	ended                        string
}

func newSession(s *Server, conn net.Conn, role Role) *session {
	n := &session{s: s, id: id.New(), role: role, listener: role, line: newLine(conn, s.IdleTimeout), record: record{began: s.Clock.Now()},
		from: neighborhood(conn.RemoteAddr()), stranger: true}
	n.recognize()
	n.stranger = !n.trusted()
	if n.stranger {
		n.latest = time.Now().Add(visitTime)
		n.line.until(time.Now().Add(s.StrangerTime))
	}
	return n
}

func (n *session) run() {
	defer n.close()
	defer func() {
		if p := recover(); p != nil {
			n.record.ended = "panic"
			n.s.Log.Error("an SMTP session panicked", "session", n.id.Text("ses"), "panic", private.Panic(p), "stack", string(debug.Stack()))
			n.reply(421, "4.3.0", "Something went wrong on our side. Try again later.")
		}
	}()
	n.end(n.serve())
}

func (n *session) serve() error {
	if n.role == Submissions {
		if n.crowded {
			n.record.ended = "crowded"
			return errEnd
		}
		if err := n.handshake(); err != nil {
			return err
		}
	}
	if n.crowded {
		n.record.ended = "crowded"
		n.reply(421, "4.3.2", "Too many connections. Try again later.")
		return errEnd
	}
	n.reply(220, "", n.s.Hostname+" ESMTP")
	for {
		text := n.pending
		if n.pending = ""; text == "" {
			b, err := n.line.command()
			if err != nil {
				return err
			}
			text = string(b)
		}
		if err := n.command(text); err != nil {
			return err
		}
		if n.record.errors > maxErrors {
			n.record.ended = "errors"
			n.reply(421, "4.7.0", "Too many errors.")
			return errEnd
		}
		if n.line.stopped() {
			return errDraining
		}
	}
}

var errDraining = errors.New("the server is stopping")

// end says why the session ends, where the peer can still hear it.
func (n *session) end(err error) {
	var timeout net.Error
	switch {
	case n.line.stopped() && !errors.Is(err, errEnd), errors.Is(err, errDraining):
		n.record.ended = "draining"
		n.reply(421, "4.3.2", "The server is being stopped. Try again later.")
	case errors.Is(err, errEnd):
	case errors.Is(err, errBareLine):
		n.record.ended = "bare_line"
		n.reply(500, "5.5.2", "A line must end in CRLF and hold no other CR or LF, and no NUL.")
	case errors.Is(err, errTooLong):
		n.record.ended = "line_too_long"
		n.reply(500, "5.5.2", "The line is too long.")
	case errors.Is(err, errFlood):
		n.record.ended = "message_too_large"
	case errors.As(err, &timeout) && timeout.Timeout():
		n.record.ended = "timeout"
		n.reply(421, "4.4.2", "You were silent for too long.")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		n.record.ended = "closed"
	case n.record.ended == "":
		n.record.ended = "connection_error"
	}
}

// close writes what is left and logs the session.
func (n *session) close() {
	_ = n.line.w.Flush()
	if t, ok := n.line.secure.(*tls.Conn); ok {
		_ = t.CloseWrite() // says that nothing was cut off
	}
	n.linger()
	_ = n.line.conn.Close()
	r := &n.record
	attrs := []slog.Attr{
		slog.String("session", n.id.Text("ses")), slog.String("listener", string(n.role)), slog.String("ended", r.ended),
		slog.Int64("duration_us", n.s.Clock.Now().Sub(r.began).Microseconds()),
		slog.Int("commands", r.commands), slog.Int("errors", r.errors), slog.Int("failed_auth", r.failedAuth),
		slog.Int("accepted", r.accepted), slog.Int("refused", r.refused), slog.Int("recipients", r.recipients),
		slog.Int("bdat", r.bdat), slog.Int("requiretls", r.requireTLS),
	}
	if n.tls != nil {
		attrs = append(attrs, slog.String("tls", tls.VersionName(n.tls.Version)), slog.String("suite", tls.CipherSuiteName(n.tls.CipherSuite)))
	}
	if !n.principal.Org.IsZero() {
		attrs = append(attrs, slog.String("org", n.principal.Org.Text(id.Org)))
	}
	if !n.principal.Client.IsZero() {
		attrs = append(attrs, slog.String("client", n.principal.Client.Text(id.Client)))
	}
	n.s.Log.LogAttrs(context.Background(), slog.LevelInfo, "SMTP session", attrs...)
}

// linger reads a little of what the peer still sends after we ended the
// session: to close a connection with unread octets is to reset it, and the
// peer would lose our last reply.
func (n *session) linger() {
	if n.record.ended == "quit" || n.record.ended == "closed" {
		return
	}
	half, ok := n.line.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || n.line.conn.SetReadDeadline(time.Now().Add(lingerFor)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, n.line.conn, 1<<20)
}

// reply writes one reply line. Its errors show at the next read.
func (n *session) reply(code int, enhanced, text string) {
	w := n.line.w
	_, _ = w.WriteString(strconv.Itoa(code))
	_ = w.WriteByte(' ')
	if enhanced != "" {
		_, _ = w.WriteString(enhanced)
		_ = w.WriteByte(' ')
	}
	_, _ = w.WriteString(text)
	_, _ = w.WriteString("\r\n")
	// What is wrong with a message or an address is no misuse of the protocol.
	if code >= 500 && code < 510 || code == 530 || code == 555 {
		n.record.errors++
	}
}

// replyFault turns an error of ours into a reply, and tells the log what is
// wrong with us.
func (n *session) replyFault(err error) {
	f := fault.From(err)
	if f.Kind == fault.Internal || f.Kind == fault.Unavailable {
		n.s.Log.Error("an SMTP command failed", "session", n.id.Text("ses"), "reason", f.Reason, "err", cause(err))
	}
	n.replyRefusal(f)
}

func (n *session) replyRefusal(err error) {
	r := fault.SMTP(err)
	n.reply(r.Code, fmt.Sprintf("%d.%d.%d", r.Enhanced[0], r.Enhanced[1], r.Enhanced[2]), replyText(r.Text))
}

// replyText keeps to what a reply line may hold (RFC 5321 section 4.2): a
// policy's reason is text that somebody wrote.
func replyText(s string) string {
	s = strings.Map(func(c rune) rune {
		switch {
		case c < ' ':
			return ' '
		case c > '~':
			return '?'
		}
		return c
	}, s)
	return s[:min(len(s), 480)]
}

// cause is what lies behind a fault, for the log.
func cause(err error) error {
	var f *fault.Fault
	if errors.As(err, &f) && errors.Unwrap(f) != nil {
		return errors.Unwrap(f)
	}
	return err
}

// command obeys one line.
func (n *session) command(text string) error {
	n.record.commands++
	verb, rest, _ := strings.Cut(text, " ")
	verb = strings.ToUpper(verb)
	switch verb {
	case "EHLO":
		n.ehlo(rest)
		return nil
	case "NOOP":
		n.reply(250, "2.0.0", "Still here.")
		return nil
	case "RSET":
		n.reset()
		n.reply(250, "2.0.0", "Forgotten.")
		return nil
	case "QUIT":
		n.record.ended = "quit"
		n.reply(221, "2.0.0", "Goodbye.")
		return errEnd
	case "STARTTLS":
		return n.startTLS(rest)
	}
	if n.needsTLS() {
		if verb == "BDAT" {
			return n.outOfStep(rest, 530, "5.7.0", "Use STARTTLS first.")
		}
		n.reply(530, "5.7.0", "Use STARTTLS first.")
		return nil
	}
	switch verb {
	case "HELO":
		n.helo(rest)
	case "AUTH":
		return n.auth(rest)
	case "MAIL":
		n.mail(rest)
	case "RCPT":
		n.rcpt(rest)
	case "DATA":
		return n.data(rest)
	case "BDAT":
		return n.bdat(rest)
	case "VRFY":
		n.reply(252, "2.5.0", "Send the message, and its delivery will tell.")
	case "EXPN", "HELP", "TURN", "ETRN", "SEND", "SOML", "SAML":
		n.reply(502, "5.5.1", "This command is not implemented.")
	default:
		n.reply(500, "5.5.2", "This is no command.")
	}
	return nil
}

// needsTLS reports whether the session may not go on in clear.
func (n *session) needsTLS() bool {
	return n.tls == nil && n.role != inboundRole && (n.role != Relay || !loopback(n.line.conn.RemoteAddr()))
}

// anonymous reports whether the peer is known by its network or not at all.
func (n *session) anonymous() bool { return n.role == Relay || n.role == inboundRole }

func (n *session) reset() {
	n.tx = transaction{}
	n.line.done()
}

func (n *session) helo(name string) {
	if !n.greet(name, false) {
		return
	}
	n.reply(250, "", n.s.Hostname)
}

// greet notes how the peer calls itself.
func (n *session) greet(name string, extended bool) bool {
	name = strings.Trim(name, " ")
	if name == "" || len(name) > 255 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		n.reply(501, "5.5.4", "Say the name of your host.")
		return false
	}
	n.reset()
	n.hello, n.extended = name, extended
	return true
}

func (n *session) ehlo(name string) {
	if !n.greet(name, true) {
		return
	}
	words := []string{n.s.Hostname, "PIPELINING", "8BITMIME", "SMTPUTF8", "CHUNKING", "ENHANCEDSTATUSCODES",
		"SIZE " + strconv.FormatInt(n.s.MaxSize, 10), "LIMITS RCPTMAX=" + strconv.Itoa(n.s.MaxRecipients)}
	switch {
	case n.tls == nil && n.s.TLS != nil:
		words = append(words, "STARTTLS")
	case n.tls != nil && n.role != inboundRole:
		words = append(words, "REQUIRETLS")
	}
	if n.tls != nil && !n.anonymous() {
		words = append(words, "AUTH PLAIN LOGIN")
	}
	for i, w := range words {
		sep := "-"
		if i == len(words)-1 {
			sep = " "
		}
		_, _ = n.line.w.WriteString("250" + sep + w + "\r\n")
	}
}

func (n *session) startTLS(rest string) error {
	switch {
	case n.tls != nil:
		n.reply(503, "5.5.1", "TLS is in use already.")
		return nil
	case n.s.TLS == nil:
		n.reply(502, "5.5.1", "There is no certificate here.")
		return nil
	case rest != "":
		n.reply(501, "5.5.4", "STARTTLS stands alone.")
		return nil
	}
	// What was sent in clear behind the command would be obeyed inside TLS (RFC
	// 3207 section 6).
	if n.line.r.Buffered() > 0 {
		n.record.ended = "behind_starttls"
		n.reply(503, "5.5.1", "Nothing may follow STARTTLS before the handshake.")
		return errEnd
	}
	n.reply(220, "2.0.0", "Go ahead.")
	if err := n.line.w.Flush(); err != nil {
		return err
	}
	return n.handshake()
}

func (n *session) handshake() error {
	cfg := n.s.TLS
	if n.listener == Relay {
		cfg = n.s.relayTLS
	}
	conn := tls.Server(n.line.secure, cfg)
	if err := conn.HandshakeContext(n.s.ctx); err != nil {
		n.record.ended = "tls_failed"
		// The peer may have spoken in clear, but nothing is said to it so.
		n.line.w.Reset(io.Discard)
		return errEnd
	}
	state := conn.ConnectionState()
	n.tls = &state
	n.line.on(conn)
	if n.recognize(); n.trusted() {
		n.s.welcome(n)
	}
	// RFC 3207 section 4.2: what was known from before is forgotten.
	n.hello, n.extended = "", false
	n.reset()
	return nil
}
