package smtpin

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/inbound"
	"github.com/sealpost/sealpost/internal/mail"
)

const (
	// messageTime is what a stranger has for one message once its recipient is
	// known: a member's mail may be large and the line slow.
	messageTime = 10 * time.Minute
	// visitTime is what a stranger has in all.
	visitTime = 30 * time.Minute
)

func (t transaction) recipients() int { return len(t.rcpts) + len(t.tickets) }

func (n *session) peer() netip.Addr {
	if tcp, ok := n.line.conn.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// unhurried reports whether a stranger may bring another message now.
func (n *session) unhurried() bool {
	if n.s.Strangers == nil || n.s.Strangers.Allow(n.s.ctx, n.peer()) {
		return true
	}
	n.reply(451, "4.7.1", "Your address brings too many messages. Try again in a minute.")
	return false
}

// forUs reports whether a recipient is one of the inbound door: all those of
// strangers, those at return paths of anybody, and members whom a shared source
// brings what has no sender. The mail hosts of an organization may relay here,
// and are among those that return mail.
func (n *session) forUs(to mail.Address) bool {
	if n.role == inboundRole || n.tx.outside {
		return true
	}
	if n.role != Relay || n.s.Inbound == nil {
		return false
	}
	// What cannot be found out now is mail that will be deferred: its domain leads here.
	returns, members, err := n.s.Inbound.Serves(n.s.ctx, to.Domain())
	return err == nil && (returns || members && n.nobodys())
}

func (n *session) inboundRcpt(to mail.Address) {
	t, err := n.s.Inbound.Recipient(n.s.ctx, n.from, to)
	if err == nil {
		n.ticket(t)
		return
	}
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Unavailable) {
		n.record.errors++ // who guesses has few guesses, and what cannot be told now is asked for later
	}
	if errors.Is(err, inbound.ErrUnverified) {
		n.replyRefusal(err)
		return
	}
	n.replyFault(err)
}

// ticket notes a recipient of the inbound door.
func (n *session) ticket(t inbound.Ticket) {
	if len(n.tx.rcpts) > 0 || !t.With(n.tx.tickets) || len(n.tx.tickets) >= n.s.MaxRecipients {
		n.reply(452, "4.5.3", "Too many recipients of different kinds. Send to this one in a message of its own.")
		return
	}
	if t.Kind != inbound.Postmaster { // which anybody knows
		n.grant(messageTime)
	}
	n.tx.tickets = append(n.tx.tickets, t)
	n.reply(250, "2.1.5", "The recipient is noted.")
}

// acceptInbound hands a message to the inbound door.
func (n *session) acceptInbound(message io.Reader) error {
	err := n.s.Inbound.Accept(n.s.ctx, inbound.Arrival{
		Peer: n.peer(), EHLO: n.hello, Protocol: n.protocol(), Sender: n.tx.sender, Tickets: n.tx.tickets,
	}, message)
	n.grant(n.s.StrangerTime)
	return err
}

// grant gives a stranger more time, within that of the visit.
func (n *session) grant(more time.Duration) {
	if !n.stranger {
		return
	}
	until := time.Now().Add(more)
	if until.After(n.latest) {
		until = n.latest
	}
	n.line.until(until)
}
