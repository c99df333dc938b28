package smtpclient

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"slices"
	"time"

	"github.com/sealpost/sealpost/internal/policy"
)

// Conn is a connection inside TLS, ready to send. It is used by one goroutine
// at a time.
type Conn struct {
	t      Timeouts
	target Target
	floor  policy.Grade
	ev     Evidence

	raw    net.Conn // TCP
	conn   net.Conn // TLS over raw once secure
	secure bool
	r      *bufio.Reader
	w      *bufio.Writer
	ext    extensions

	approved bool                // the suite is ECDHE with AES-GCM
	chain    []*x509.Certificate // that the peer showed
	pkix     string              // what is wrong with it by the authorities of the machine: a Cert word
	at       time.Time           // of the handshake
	shown    bool                // our certificate was asked for and sent
	broken   bool                // nothing more can be said on it
	dirty    bool                // a transaction may be open, so RSET comes first
	buf      []byte
}

// Evidence says how the transport was proved for the domain it is bound to.
func (c *Conn) Evidence() Evidence { return c.ev }

// Grade is what is proved for the domain the connection is bound to.
func (c *Conn) Grade() policy.Grade { return c.ev.Grade }

// Floor is what the connection was dialed with or last bound to.
func (c *Conn) Floor() policy.Grade { return c.floor }

// Target is what the connection is bound to.
func (c *Conn) Target() Target { return c.target }

// Rebind makes a connection serve another recipient domain whose MX is the
// same host, or another floor: policy belongs to the domain and not to the
// host, so the grade is worked out anew. What was said in the handshake cannot
// be taken back: a target that asks for another name or shows another client
// certificate needs a connection of its own. After an error the connection is
// still good, but bound to nothing until Rebind succeeds.
func (c *Conn) Rebind(t Target, floor policy.Grade) (Evidence, error) {
	c.target.Domain = ""
	switch {
	case t.Host != c.target.Host:
		return c.ev, errors.New("smtpclient: the connection leads to another host")
	case t.name() != c.target.name():
		return c.ev, errors.New("smtpclient: the connection was opened to another name")
	case !sameClient(t.Client, c.target.Client):
		return c.ev, errors.New("smtpclient: the connection shows another client certificate")
	}
	err := c.bind(t, floor)
	return c.ev, err
}

func sameClient(a, b *tls.Certificate) bool {
	if a == nil || b == nil {
		return a == b
	}
	return bytes.Equal(a.Certificate[0], b.Certificate[0])
}

func (c *Conn) bind(t Target, floor policy.Grade) error {
	c.target, c.floor = t, max(floor, t.Floor, policy.Encrypted)
	proved := c.prove()
	c.ev.Grade = policy.Encrypted
	switch {
	case proved && c.approved:
		c.ev.Grade = policy.Authenticated
	case c.ev.VerifiedBy == ByPKIX && c.approved:
		c.ev.Grade = policy.Verified
	}
	if reason, wanted := c.tooWeak(c.floor); reason != "" {
		weak := &WeakError{Proved: c.ev.Grade, Wanted: wanted, Evidence: c.ev, Reason: reason}
		weak.Temporary = slices.Contains(amendable, reason)
		c.target.Domain = ""
		return weak
	}
	return nil
}

// amendable are the verdicts that are expected to be put right soon, by those
// who run the host, the domain or the organization: certificates and what
// vouches for them change at different times (RFC 7672 section 2.2).
var amendable = []string{WeakDANELookup, WeakDANEFailed, WeakPinFailed, WeakPinHost, WeakNoClientCert, WeakRouteFailed}

// prove puts into the evidence what vouches for the host: the first thing
// there is (see the package's invariants). It reports whether the host is
// proved to be the domain's.
func (c *Conn) prove() bool {
	t, ev := &c.target, &c.ev
	ev.VerifiedBy, ev.VerifyError, ev.STSPolicyID, ev.TLSA, ev.RequireTLS = ByNone, c.pkix, "", "", false
	switch {
	case t.Pin.proves():
		if ev.VerifyError = t.Pin.prove(t.Host, c.chain, c.at); ev.VerifyError == "" {
			ev.VerifiedBy = ByPin
		}
		return ev.VerifiedBy == ByPin
	case t.Routed:
		if c.valid() {
			ev.VerifiedBy = ByRoute
		}
		return ev.VerifiedBy == ByRoute
	case t.DANE != nil && len(t.DANE.Records) > 0:
		var record TLSA
		if ev.VerifiedBy, record, ev.VerifyError = t.DANE.prove(c.chain, c.at); ev.VerifiedBy != ByNone {
			ev.TLSA = record.String()
		}
		return ev.VerifiedBy != ByNone
	case t.DANE != nil:
		ev.TLSA = TLSAUnusable
	}
	switch {
	case !c.valid():
		return false
	case t.STS.Enforce && t.STS.Match:
		ev.VerifiedBy, ev.STSPolicyID = BySTS, t.STS.ID
		return true
	}
	ev.VerifiedBy = ByPKIX
	return false
}

// valid reports whether there is a certificate and it is valid for the host's
// name.
func (c *Conn) valid() bool { return len(c.chain) > 0 && c.pkix == "" }

func (c *Conn) tooWeak(floor policy.Grade) (reason string, wanted policy.Grade) {
	if reason := c.unproved(); reason != "" {
		return reason, policy.Authenticated
	}
	switch {
	case c.ev.Grade >= floor:
		return "", floor
	case c.ev.VerifiedBy == ByNone:
		return WeakCertificate, floor
	case !c.approved:
		return WeakSuite, floor
	}
	return WeakUnproved, floor
}

// unproved says what the host must be proved by and is not, whatever the floor.
func (c *Conn) unproved() string {
	t, by := &c.target, c.ev.VerifiedBy
	if reason := t.outOfQuestion(); reason != "" {
		return reason
	}
	switch {
	case t.Client != nil && !c.shown:
		return WeakNoClientCert
	case t.Pin.proves():
		if by != ByPin {
			return WeakPinFailed
		}
	case t.Routed:
		if by != ByRoute {
			return WeakRouteFailed
		}
	case t.DANE != nil && len(t.DANE.Records) > 0:
		if by != ByDANEEE && by != ByDANETA {
			return WeakDANEFailed
		}
	case t.STS.Enforce && by != BySTS:
		return WeakSTSFailed
	}
	return ""
}

// Alive reports whether the connection can be used again, as far as can be
// told without asking the peer.
func (c *Conn) Alive() bool {
	if c.broken || c.r.Buffered() > 0 {
		return false
	}
	if c.raw.SetDeadline(time.Time{}) != nil || !errors.Is(c.heard(), os.ErrDeadlineExceeded) {
		c.Abort()
		return false
	}
	return true
}

// heard waits no longer than it takes to read what has arrived: nil where the
// peer said something that it was not asked for. A timeout means that it did
// not, and that the connection is good; records of TLS itself say nothing.
func (c *Conn) heard() error {
	until := time.Unix(1, 0) // what the layer of TLS has read already is there all the same
	if !quiet(c.raw) {
		until = time.Now().Add(20 * time.Millisecond) // a record may be torn apart
	}
	if err := c.conn.SetReadDeadline(until); err != nil {
		return err
	}
	_, err := c.r.Peek(1)
	return err
}

// Close says QUIT where that is possible and ends the connection.
func (c *Conn) Close() error {
	if c.broken || !c.secure {
		c.Abort()
		return nil
	}
	// The peer gets its chance to answer, and no more: all is said and done.
	if c.raw.SetDeadline(time.Now().Add(c.t.Quit)) == nil {
		c.command("QUIT")
		if c.w.Flush() == nil && c.raw.SetDeadline(time.Now().Add(c.t.Quit)) == nil {
			_, _ = readReply(c.r)
		}
	}
	c.broken = true
	return c.conn.Close()
}

// Abort ends the connection at once, without a word. It may be called from
// another goroutine.
func (c *Conn) Abort() { _ = c.raw.Close() }

// kill is Abort by the goroutine that uses the connection.
func (c *Conn) kill() {
	c.broken = true
	c.Abort()
}

// command puts a line into the buffer. An error stays in the writer and comes
// back with the next flush.
func (c *Conn) command(line string) {
	_, _ = c.w.WriteString(line)
	_, _ = c.w.WriteString("\r\n")
}

// ask sends what is buffered and reads one reply.
func (c *Conn) ask(timeout time.Duration) (Reply, error) {
	if err := c.w.Flush(); err != nil {
		return Reply{}, err
	}
	return c.reply(timeout)
}

// reply reads one reply, which must be whole within the timeout.
func (c *Conn) reply(timeout time.Duration) (Reply, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return Reply{}, err
	}
	return readReply(c.r)
}

// lost marks the connection as broken and names the cause.
func (c *Conn) lost(ctx context.Context, stage Stage, err error) error {
	c.kill()
	return connError(ctx, stage, err)
}
