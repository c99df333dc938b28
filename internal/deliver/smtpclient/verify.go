package smtpclient

import (
	"context"
	"errors"

	"github.com/sealpost/sealpost/internal/mail"
)

// Verify asks the host whether it takes mail for an address, and sends nothing
// (RFC 5321 section 3.3: what follows RCPT may be left out). The error is a
// *RefusedError of the stage that said no, or a *ConnError.
func (c *Conn) Verify(ctx context.Context, to mail.Address) (Reply, error) {
	if to.Domain() != c.target.Domain {
		return Reply{}, errors.New("smtpclient: the connection is not bound to the recipient's domain")
	}
	from := "MAIL FROM:<>"
	if to.NeedsSMTPUTF8() {
		if !c.ext.utf8 {
			refused := local(553, [3]int{5, 6, 7}, "The mail host does not offer SMTPUTF8, which the address needs.")
			return refused.Reply, refused
		}
		from += " SMTPUTF8"
	}
	stop := context.AfterFunc(ctx, c.Abort)
	defer func() {
		if !stop() {
			c.broken = true
		}
	}()
	cmds := []command{{StageMail, from, c.t.Mail}, {StageRcpt, "RCPT TO:<" + to.Reveal() + ">", c.t.Rcpt}}
	if c.dirty {
		cmds = append([]command{{StageReset, "RSET", c.t.Mail}}, cmds...)
	}
	c.dirty = true
	var reply Reply
	for _, cmd := range cmds {
		c.command(cmd.line)
		var err error
		if reply, err = c.ask(cmd.timeout); err == nil {
			err = c.expected(cmd.stage, reply)
		}
		if err != nil {
			return Reply{}, c.lost(ctx, cmd.stage, err)
		}
		if c.heed(reply); !reply.Accepted() {
			return reply, &RefusedError{Stage: cmd.stage, Reply: reply}
		}
	}
	return reply, nil
}
