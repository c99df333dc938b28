package smtpclient

import (
	"bufio"
	"context"
	"errors"
	"net"
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

	approved bool // the suite is ECDHE with AES-GCM
	broken   bool // nothing more can be said on it
	dirty    bool // a transaction may be open, so RSET comes first
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
// host, so the grade is worked out anew. After an error the connection is
// still good, but bound to nothing until Rebind succeeds.
func (c *Conn) Rebind(t Target, floor policy.Grade) (Evidence, error) {
	if t.Host != c.target.Host {
		return c.ev, errors.New("smtpclient: the connection leads to another host")
	}
	err := c.bind(t, floor)
	return c.ev, err
}

func (c *Conn) bind(t Target, floor policy.Grade) error {
	c.target, c.floor = t, max(floor, policy.Encrypted)
	valid := c.valid()
	proved := valid && t.STS.Enforce && t.STS.Match
	c.ev.Grade, c.ev.VerifiedBy, c.ev.STSPolicyID, c.ev.RequireTLS = policy.Encrypted, ByNone, "", false
	if valid {
		c.ev.VerifiedBy = ByPKIX
	}
	if proved {
		c.ev.VerifiedBy, c.ev.STSPolicyID = BySTS, t.STS.ID
	}
	switch {
	case proved && c.approved:
		c.ev.Grade = policy.Authenticated
	case valid && c.approved:
		c.ev.Grade = policy.Verified
	}
	if reason, wanted := c.tooWeak(c.floor); reason != "" {
		c.target.Domain = ""
		return &WeakError{Proved: c.ev.Grade, Wanted: wanted, Evidence: c.ev, Reason: reason}
	}
	return nil
}

// valid reports whether there is a certificate and it is valid for the host's
// name.
func (c *Conn) valid() bool { return c.ev.PeerFingerprint != "" && c.ev.VerifyError == "" }

func (c *Conn) tooWeak(floor policy.Grade) (reason string, wanted policy.Grade) {
	sts := c.target.STS
	switch {
	case sts.Enforce && !sts.Match:
		return WeakSTSMismatch, policy.Authenticated
	case sts.Enforce && !c.valid():
		return WeakSTSFailed, policy.Authenticated
	case c.ev.Grade >= floor:
		return "", floor
	case !c.valid():
		return WeakCertificate, floor
	case !c.approved:
		return WeakSuite, floor
	}
	return WeakUnproved, floor
}

// Alive reports whether the connection can be used again, as far as can be
// told without asking the peer.
func (c *Conn) Alive() bool {
	if c.broken || c.r.Buffered() > 0 {
		return false
	}
	if c.raw.SetDeadline(time.Time{}) != nil || !quiet(c.raw) {
		c.abort()
		return false
	}
	return true
}

// Close says QUIT where that is possible and ends the connection.
func (c *Conn) Close() error {
	if c.broken || !c.secure {
		c.abort()
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

// abort ends the connection at once. It may be called from another goroutine.
func (c *Conn) abort() { _ = c.raw.Close() }

// kill is abort by the goroutine that uses the connection.
func (c *Conn) kill() {
	c.broken = true
	c.abort()
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
