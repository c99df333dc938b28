package smtpin

import (
	"encoding/base64"
	"errors"
	"strings"

	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/private"
)

// user is the name that goes with every key; the client's id is another.
const user = "apikey"

// maxFailedAuth ends a session.
const maxFailedAuth = 5

// errDialog says that the dialog of AUTH was ended with a reply.
var errDialog = errors.New("the dialog has ended")

func (n *session) auth(rest string) error {
	mechanism, initial, _ := strings.Cut(strings.Trim(rest, " "), " ")
	mechanism = strings.ToUpper(mechanism)
	switch {
	case n.anonymous():
		n.reply(502, "5.5.1", "Nobody needs to authenticate here.")
		return nil
	case n.hello == "" || !n.extended:
		n.reply(503, "5.5.1", "Say EHLO first.")
		return nil
	case !n.key.Empty() || n.tx.open:
		n.reply(503, "5.5.1", "Not now.")
		return nil
	case mechanism != "PLAIN" && mechanism != "LOGIN":
		n.reply(504, "5.5.4", "The mechanisms are PLAIN and LOGIN.")
		return nil
	}
	var name string
	var key private.String
	var err error
	if mechanism == "PLAIN" {
		name, key, err = n.plain(initial)
	} else {
		name, key, err = n.login(initial)
	}
	if errors.Is(err, errDialog) {
		return nil
	}
	if err != nil {
		return err
	}
	return n.check(name, key)
}

// plain is RFC 4616. A name to act as is taken only if it is the same.
func (n *session) plain(initial string) (name string, key private.String, err error) {
	text, err := n.response(initial, "")
	if err != nil {
		return "", key, err
	}
	parts := strings.Split(text, "\x00")
	if len(parts) != 3 || parts[0] != "" && parts[0] != parts[1] {
		return "", key, nil // fails like a wrong key
	}
	return parts[1], private.NewString(parts[2]), nil
}

func (n *session) login(initial string) (name string, key private.String, err error) {
	if name, err = n.response(initial, "VXNlcm5hbWU6"); err != nil { // Username:
		return "", key, err
	}
	text, err := n.response("", "UGFzc3dvcmQ6") // Password:
	return name, private.NewString(text), err
}

// response decodes what came with the command, or asks for it.
func (n *session) response(given, challenge string) (string, error) {
	if given == "" {
		n.reply(334, "", challenge)
		b, err := n.line.command()
		if err != nil {
			return "", err
		}
		given = string(b)
	}
	switch given {
	case "*": // RFC 4954 section 4
		n.reply(501, "5.7.0", "As you like.")
		return "", errDialog
	case "=":
		return "", nil
	}
	b, err := base64.StdEncoding.Strict().DecodeString(given)
	if err != nil {
		n.reply(501, "5.5.2", "This is not base64.")
		return "", errDialog
	}
	return string(b), nil
}

// check answers every credential that does not work alike.
func (n *session) check(name string, key private.String) error {
	p, err := n.s.Clients.Authenticate(n.s.ctx, key)
	if err != nil && !fault.Is(err, fault.Unauthenticated) {
		n.s.Log.Error("an SMTP client could not be authenticated", "session", n.id.Text("ses"), "err", cause(err))
		n.reply(454, "4.7.0", "Keys cannot be checked now. Try again later.")
		return nil
	}
	if err == nil && p.May(auth.Send) && (strings.EqualFold(name, user) || name == p.Client.Text(id.Client)) {
		n.key, n.principal = key, p
		n.s.welcome(n)
		n.reply(235, "2.7.0", "Welcome.")
		return nil
	}
	n.record.failedAuth++
	if n.s.AuthDelay > 0 {
		select {
		case <-n.s.Clock.After(n.s.AuthDelay):
		case <-n.s.ctx.Done():
		}
	}
	if n.record.failedAuth >= maxFailedAuth {
		n.record.ended = "failed_auth"
		n.reply(421, "4.7.0", "Too many failed attempts.")
		return errEnd
	}
	n.reply(535, "5.7.8", "The user name is \""+user+"\", and the password is an API key that may send messages.")
	return nil
}
