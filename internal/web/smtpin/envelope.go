package smtpin

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/mail"
)

// parsePath reads "FROM:<path> parameters" (RFC 5321 section 4.1.1.2), given
// the word before the colon. Source routes are cut off (appendix C).
func parsePath(word, s string) (path string, params map[string]string, ok bool) {
	if len(s) <= len(word) || !strings.EqualFold(s[:len(word)], word) || s[len(word)] != ':' || !utf8.ValidString(s) {
		return "", nil, false
	}
	// A space behind the colon is wrong, and common.
	s, ok = strings.CutPrefix(strings.TrimLeft(s[len(word)+1:], " "), "<")
	if !ok {
		return "", nil, false
	}
	end := pathEnd(s)
	if end < 0 {
		return "", nil, false
	}
	path, s = s[:end], s[end+1:]
	if strings.HasPrefix(path, "@") {
		if _, path, ok = strings.Cut(path, ":"); !ok {
			return "", nil, false
		}
	}
	if s != "" && s[0] != ' ' {
		return "", nil, false
	}
	params, ok = parseParams(s)
	return path, params, ok
}

// pathEnd finds the > that ends a path; one within quotes does not.
func pathEnd(s string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == '>' && !quoted:
			return i
		}
	}
	return -1
}

// parseParams reads esmtp-params; a keyword without a value gives "".
func parseParams(s string) (map[string]string, bool) {
	params := map[string]string{}
	for word := range strings.FieldsSeq(s) {
		key, value, _ := strings.Cut(word, "=")
		key = strings.ToUpper(key)
		if _, twice := params[key]; twice || key == "" || len(params) == 16 {
			return nil, false
		}
		params[key] = value
	}
	return params, true
}

func (n *session) mail(rest string) {
	switch {
	case n.hello == "":
		n.reply(503, "5.5.1", "Say EHLO first.")
		return
	case !n.anonymous() && n.key.Empty():
		n.reply(530, "5.7.0", "Authenticate first.")
		return
	case n.tx.open:
		n.reply(503, "5.5.1", "A message is under way; RSET forgets it.")
		return
	}
	path, params, ok := parsePath("FROM", rest)
	if !ok {
		n.reply(501, "5.5.4", "Say MAIL FROM:<address>.")
		return
	}
	tx := transaction{open: true}
	if !n.mailParams(params, &tx) {
		return
	}
	if path != "" {
		var err error
		if tx.sender, err = mail.ParseAddress(path); err != nil {
			n.reply(553, "5.1.7", "The sender's address cannot be read.")
			return
		}
	}
	if tx.sender.NeedsSMTPUTF8() && !tx.utf8 {
		n.reply(553, "5.6.7", "This sender needs the parameter SMTPUTF8.")
		return
	}
	if !n.mayBring(&tx) {
		return
	}
	if !n.line.begin() {
		return // draining: the loop says so
	}
	n.tx = tx
	n.reply(250, "2.1.0", "The sender is right.")
}

// mayBring reports whether the peer may hand in mail of this sender.
func (n *session) mayBring(tx *transaction) (ok bool) {
	switch n.role {
	case inboundRole:
		return n.unhurried()
	case Relay:
		return n.mayRelay(tx)
	}
	if tx.principal, ok = n.acting(); !ok {
		return false
	}
	if err := n.s.Door.CheckSender(n.s.ctx, tx.principal, tx.sender); err != nil {
		n.replyFault(err)
		return false
	}
	return true
}

// acting gives who hands mail in now. A key is looked at again for each
// message, since it may have been revoked.
func (n *session) acting() (auth.Principal, bool) {
	p, err := n.s.Clients.Authenticate(n.s.ctx, n.key)
	if err != nil {
		n.replyFault(err)
	}
	return p, err == nil
}

func (n *session) mailParams(params map[string]string, tx *transaction) bool {
	for key, value := range params {
		switch key {
		case "SIZE": // RFC 1870; more digits than fit are too many octets
			size, err := strconv.ParseUint(value, 10, 63)
			if value == "" || len(value) > 20 || strings.Trim(value, "0123456789") != "" {
				n.reply(501, "5.5.4", "SIZE is a number of octets.")
				return false
			}
			if err != nil || int64(size) > n.s.MaxSize {
				n.reply(552, "5.3.4", "The message is larger than this server accepts.")
				return false
			}
		case "BODY": // RFC 6152
			if v := strings.ToUpper(value); v != "7BIT" && v != "8BITMIME" {
				n.reply(501, "5.5.4", "BODY is 7BIT or 8BITMIME.")
				return false
			}
		case "SMTPUTF8":
			tx.utf8 = true
		case "REQUIRETLS": // RFC 8689 section 2: only inside TLS
			if n.role == inboundRole { // not offered: a report is taken, not carried on
				n.reply(555, "5.5.4", "There is a parameter that is not known.")
				return false
			}
			if n.tls == nil {
				n.reply(530, "5.7.10", "REQUIRETLS can be asked for only inside TLS.")
				return false
			}
			tx.requireTLS = true
		case "AUTH": // RFC 4954 section 5: to be taken, and of no use here
			if n.anonymous() {
				n.reply(555, "5.5.4", "There is a parameter that is not known.")
				return false
			}
		default:
			n.reply(555, "5.5.4", "There is a parameter that is not known.")
			return false
		}
		if value != "" && (key == "SMTPUTF8" || key == "REQUIRETLS") {
			n.reply(501, "5.5.4", key+" has no value.")
			return false
		}
	}
	return true
}

func (n *session) rcpt(rest string) {
	if !n.tx.open {
		n.reply(503, "5.5.1", "Say MAIL first.")
		return
	}
	path, params, ok := parsePath("TO", rest)
	if !ok || path == "" {
		n.reply(501, "5.5.4", "Say RCPT TO:<address>.")
		return
	}
	if len(params) > 0 {
		n.reply(555, "5.5.4", "There is a parameter that is not known.")
		return
	}
	if n.role == inboundRole && strings.EqualFold(path, "postmaster") { // RFC 5321 section 4.5.1
		n.ticket(n.s.Inbound.PostmasterTicket())
		return
	}
	to, err := mail.ParseAddress(path)
	switch {
	case err != nil:
		n.reply(553, "5.1.3", "The recipient's address cannot be read.")
	case to.NeedsSMTPUTF8() && !n.tx.utf8:
		n.reply(553, "5.6.7", "This recipient needs the parameter SMTPUTF8.")
	case n.forUs(to):
		n.inboundRcpt(to)
	case len(n.tx.rcpts) >= n.s.MaxRecipients || len(n.tx.tickets) > 0: // RFC 5321 section 4.5.3.1.10
		n.reply(452, "4.5.3", "Too many recipients.")
	default:
		n.grant(messageTime)
		n.tx.rcpts = append(n.tx.rcpts, to)
		n.reply(250, "2.1.5", "The recipient is noted.")
	}
}
