package bounce

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"mime/quotedprintable"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/spool"
)

// report is what one notice tells.
type report struct {
	kind              string // spool.KindDSN or spool.KindDelay
	hostname          string
	now               time.Time
	arrived, happened time.Time
	until             time.Time // of our tries
	message, delivery id.ID
	sender, recipient mail.Address
	reason            string
	before            string    // why it was deferred the last time, or empty
	refusal           string    // the policy's sentence, or empty
	tried             time.Time // the last attempt, or zero
	last              attemptData
	returned          *attemptData // what the peer reported after it had taken the message, or nil
}

var (
	// Of what peers say only these forms pass, and nothing else of it.
	enhancedCode = regexp.MustCompile(`^[45]\.\d{1,3}\.\d{1,3}$`) // RFC 3463 section 2
	hostName     = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?$`)
)

const (
	personTime = "2 January 2006, 15:04 UTC"
	lineLength = 72
)

// text writes the whole mail.
func (r report) text() ([]byte, error) {
	var boundary [16]byte
	_, _ = rand.Read(boundary[:]) // never fails
	// "=_" stands in neither quoted-printable nor base64 text (RFC 2045
	// section 6.7), nor in the fields of the report.
	mark := fmt.Sprintf("=_%x", boundary)
	h, err := r.header(mark)
	if err != nil {
		return nil, fmt.Errorf("header of a delivery report: %w", err)
	}
	var out bytes.Buffer
	out.Write(h.Bytes())
	out.WriteString("--" + mark + "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	out.Write(quoted(r.human()))
	out.WriteString("\r\n--" + mark + "\r\n")
	if r.native() {
		out.WriteString("Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
		out.Write(quoted(r.machine()))
	} else {
		out.WriteString("Content-Type: message/delivery-status\r\nContent-Transfer-Encoding: 7bit\r\n\r\n")
		out.WriteString(r.machine())
	}
	// The third part of RFC 6522 section 3 would return the message or its
	// header; it is optional and left out.
	out.WriteString("\r\n--" + mark + "--\r\n")
	return out.Bytes(), nil
}

func quoted(text string) []byte {
	var out bytes.Buffer
	w := quotedprintable.NewWriter(&out)
	_, _ = w.Write([]byte(text)) // to memory
	_ = w.Close()
	return out.Bytes()
}

func (r report) header(boundary string) (h mail.Header, err error) {
	from, err := r.from()
	if err != nil {
		return h, err
	}
	if err := h.SetMailboxes("From", []mail.Mailbox{mail.NewMailbox("Mail delivery", from)}); err != nil {
		return h, err
	}
	if err := h.SetMailboxes("To", []mail.Mailbox{mail.NewMailbox("", r.sender)}); err != nil {
		return h, err
	}
	for _, f := range [][2]string{
		{"Subject", r.subject()},
		{"Date", mail.FormatDate(r.now)},
		{"Message-ID", mail.NewMessageID(from.Domain())},
		{"Auto-Submitted", "auto-replied"}, // RFC 3834 section 5
		{"X-Auto-Response-Suppress", "All"},
		{"MIME-Version", "1.0"},
		{"Content-Type", `multipart/report; report-type=delivery-status; boundary="` + boundary + `"`},
	} {
		if err := h.Set(f[0], f[1]); err != nil {
			return h, err
		}
	}
	return h, nil
}

// from is under the name that reports, which SPF can confirm for mail with the
// null sender (RFC 7208 section 2.4); a machine without a full name writes
// under the sender's domain.
func (r report) from() (mail.Address, error) {
	if strings.Contains(r.hostname, ".") {
		if a, err := mail.ParseAddress("mailer-daemon@" + r.hostname); err == nil {
			return a, nil
		}
	}
	return mail.ParseAddress("mailer-daemon@" + r.sender.Domain())
}

func (r report) subject() string {
	switch {
	case r.kind == spool.KindDelay:
		return "Your message is delayed"
	case r.reason == spool.ReasonLinkExpired:
		return "Your message was not read in time"
	}
	return "Your message was not delivered"
}

// human is the part for people.
func (r report) human() string {
	w := word(r.reason)
	var b strings.Builder
	say := func(text string) { b.WriteString(wrap(text) + "\r\n") }
	switch {
	case r.kind == spool.KindDelay:
		say("Your message has not been delivered to this recipient yet:")
	case r.reason == spool.ReasonLinkExpired:
		say("Your message was not read by this recipient in time:")
	default:
		say("Your message could not be delivered to this recipient:")
	}
	b.WriteString("    " + r.recipient.Reveal() + "\r\n\r\n")
	say(r.why(w))
	if r.kind == spool.KindDelay {
		say("You need not do anything: we keep trying until " + r.until.UTC().Format(personTime) +
			" and will tell you if the message cannot be delivered by then. Please do not send it again.")
	} else {
		say(w.do)
	}
	line := func(name, value string) { fmt.Fprintf(&b, "%-12s%s\r\n", name, value) }
	line("Accepted:", r.arrived.UTC().Format(personTime))
	if !r.tried.IsZero() && r.reason != spool.ReasonLinkExpired {
		line("Last tried:", r.tried.UTC().Format(personTime))
	}
	switch {
	case r.reason == spool.ReasonLinkExpired:
		line("Expired:", r.happened.UTC().Format(personTime))
	case r.kind == spool.KindDSN:
		line("Given up:", r.happened.UTC().Format(personTime))
	}
	line("Message:", r.message.Text(id.Message))
	line("Delivery:", r.delivery.Text(id.Delivery))
	b.WriteString("\r\n")
	say("To protect privacy nothing of the message is repeated here. Please do not reply to this mail; nobody would read your answer.")
	return strings.TrimSuffix(b.String(), "\r\n")
}

// why is what happened, in sentences.
func (r report) why(w wording) string {
	all := w.why
	if r.reason == spool.ReasonPolicyRefused && r.refusal != "" {
		all += " The policy says: " + r.refusal
	}
	if r.reason == spool.ReasonExpired && r.before != "" {
		all += " What stood in the way: " + word(r.before).why
	}
	if d := r.diagnostic(); d != "" {
		server := "The other mail server"
		if said, _ := r.said(); hostName.MatchString(said.Host) {
			server = "The mail server " + said.Host
		}
		all += " " + server + " answered " + d + "."
	}
	return all
}

// wrap breaks a paragraph into lines and ends it.
func wrap(text string) string {
	var b strings.Builder
	line := 0
	for i, w := range strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		n := len([]rune(w))
		switch {
		case i == 0:
		case line+1+n > lineLength:
			b.WriteString("\r\n")
			line = 0
		default:
			b.WriteByte(' ')
			line++
		}
		b.WriteString(w)
		line += n
	}
	return b.String() + "\r\n"
}

// machine is the part for programs: the fields of RFC 3464 sections 2.2 and
// 2.3, in the order of their grammar.
func (r report) machine() string {
	var b strings.Builder
	field := func(name, value string) {
		if value != "" {
			b.WriteString(name + ": " + value + "\r\n")
		}
	}
	// The reply to DATA gave the sender this id (section 2.2.1 (b)).
	field("Original-Envelope-Id", r.message.Text(id.Message))
	field("Reporting-MTA", "dns; "+r.hostname)
	field("Arrival-Date", mail.FormatDate(r.arrived))
	b.WriteString("\r\n")
	field("Final-Recipient", r.finalRecipient())
	field("Action", map[string]string{spool.KindDSN: "failed", spool.KindDelay: "delayed"}[r.kind])
	field("Status", r.status())
	if said, ok := r.said(); ok && hostName.MatchString(said.Host) {
		field("Remote-MTA", "dns; "+said.Host)
	}
	if d := r.diagnostic(); d != "" {
		field("Diagnostic-Code", "smtp; "+d)
	}
	if !r.tried.IsZero() {
		field("Last-Attempt-Date", mail.FormatDate(r.tried))
	}
	if r.kind == spool.KindDelay {
		field("Will-Retry-Until", mail.FormatDate(r.until))
	}
	field("X-Sealpost-Delivery", r.delivery.Text(id.Delivery))
	return b.String()
}

// said is what a peer said that this notice is about.
func (r report) said() (attemptData, bool) {
	if r.returned != nil {
		return *r.returned, true
	}
	return r.last, r.last.Result != spool.ResultDelivered && !r.tried.IsZero() &&
		(r.tried.Equal(r.happened) || r.reason == spool.ReasonExpired)
}

// diagnostic is the numbers of the peer's reply, or empty.
func (r report) diagnostic() string {
	said, ok := r.said()
	if !ok || said.Code < 400 || said.Code > 599 {
		return ""
	}
	if enhancedCode.MatchString(said.Enhanced) {
		return fmt.Sprintf("%d %s", said.Code, said.Enhanced)
	}
	return fmt.Sprint(said.Code)
}

// status is the enhanced status of the delivery: of class 4 while it is
// delayed, and of either class when it failed (RFC 3464 section 2.3.4).
func (r report) status() string {
	w := word(r.reason)
	s := w.status
	if said, ok := r.said(); ok && w.peer && enhancedCode.MatchString(said.Enhanced) {
		s = said.Enhanced
	}
	if r.kind == spool.KindDelay {
		s = "4" + s[1:]
	}
	return s
}

// native reports whether addresses beyond ASCII may stand as they are: only
// where the sender's own address shows that his mail system can read them.
func (r report) native() bool {
	return r.recipient.NeedsSMTPUTF8() && r.sender.NeedsSMTPUTF8()
}

// finalRecipient is the typed address (RFC 3464 section 2.3.2, RFC 6533
// section 3).
func (r report) finalRecipient() string {
	a := r.recipient.Reveal()
	switch {
	case !r.recipient.NeedsSMTPUTF8():
		return "rfc822; " + a
	case r.native():
		return "utf-8; " + a
	}
	return "utf-8; " + xtext(a)
}

// xtext writes an address as utf-8-addr-xtext, the seven-bit form of RFC 6533
// section 3.
func xtext(s string) string {
	var b strings.Builder
	for _, c := range s {
		if c > ' ' && c < 0x7f && c != '+' && c != '=' && c != '\\' {
			b.WriteRune(c)
		} else {
			fmt.Fprintf(&b, `\x{%02X}`, c)
		}
	}
	return b.String()
}
