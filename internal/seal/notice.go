package seal

import (
	"bytes"
	"embed"
	"fmt"
	htmltemplate "html/template"
	texttemplate "text/template"
	"time"

	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

//go:embed text
var texts embed.FS

var (
	portalPlain = texttemplate.Must(texttemplate.ParseFS(texts, "text/portal.txt"))
	portalHTML  = htmltemplate.Must(htmltemplate.ParseFS(texts, "text/portal.html"))
	codePlain   = texttemplate.Must(texttemplate.ParseFS(texts, "text/code.txt"))
)

// noticeLocal is the local part of From in every notice. It is no mailbox:
// nobody reads answers to it, and the text says so.
const noticeLocal = "secure-message"

// PortalText is what goes into the notice of a portal delivery. Everything but
// the link and the recipient is the same for all messages of an organization.
type PortalText struct {
	Sender     mail.Address // of the envelope: the return path of the delivery, or zero
	To         mail.Address
	OrgName    string
	FromDomain string // of the message's sender, without its local part
	Link       private.String
	ExpiresAt  time.Time
	MessageID  string // made under FromDomain when empty
	Date       time.Time
}

// CodeMail is what goes into the mail that brings a portal code.
type CodeMail struct {
	To         mail.Address
	OrgName    string
	FromDomain string
	Code       private.String // six digits
	ValidFor   time.Duration
	MessageID  string // made under FromDomain when empty
	Date       time.Time
}

// PortalNotice makes the notice of a portal delivery. It holds nothing of the
// message: no subject, no name and no local part of its sender.
func PortalNotice(t PortalText, floor policy.Grade) (*Artifact, error) {
	data := struct{ Org, Link, Until string }{t.OrgName, t.Link.Reveal(), day(t.Date, t.ExpiresAt)}
	var plain, rich bytes.Buffer
	if err := portalPlain.Execute(&plain, data); err != nil {
		return nil, fmt.Errorf("portal notice: %w", err)
	}
	if err := portalHTML.Execute(&rich, data); err != nil {
		return nil, fmt.Errorf("portal notice: %w", err)
	}
	text, err := fixedText(t.OrgName, t.FromDomain, t.To, mail.Draft{
		Subject:   private.NewString(t.OrgName + " sent you a secure message"),
		Text:      private.NewString(plain.String()),
		HTML:      private.NewString(rich.String()),
		MessageID: t.MessageID,
		Date:      t.Date,
	})
	if err != nil {
		return nil, fmt.Errorf("portal notice: %w", err)
	}
	a := notice(t.To, floor, text)
	a.from = t.Sender
	return a, nil
}

// CodeText makes the mail that brings a code. It is stored sealed until it is
// sent; Code makes an artifact of it.
func CodeText(c CodeMail) ([]byte, error) {
	code := c.Code.Reveal()
	if len(code) == 6 {
		code = code[:3] + " " + code[3:]
	}
	var plain bytes.Buffer
	if err := codePlain.Execute(&plain, struct{ Org, Code, Minutes string }{c.OrgName, code, minutes(c.ValidFor)}); err != nil {
		return nil, fmt.Errorf("code mail: %w", err)
	}
	text, err := fixedText(c.OrgName, c.FromDomain, c.To, mail.Draft{
		Subject:   private.NewString("Your code for the secure message from " + c.OrgName),
		Text:      private.NewString(plain.String()),
		MessageID: c.MessageID,
		Date:      c.Date,
	})
	if err != nil {
		return nil, fmt.Errorf("code mail: %w", err)
	}
	return text, nil
}

// fixedText addresses a draft and marks it as written by a machine (RFC 3834
// section 5), so that vacation programs do not answer it.
func fixedText(org, domain string, to mail.Address, d mail.Draft) ([]byte, error) {
	from, err := mail.ParseAddress(noticeLocal + "@" + domain)
	if err != nil {
		return nil, err
	}
	d.From = mail.NewMailbox(org, from)
	d.To = []mail.Mailbox{mail.NewMailbox("", to)}
	d.Headers = []mail.Field{
		{Name: "Auto-Submitted", Value: private.NewString("auto-generated")},
		{Name: "X-Auto-Response-Suppress", Value: private.NewString("All")},
	}
	return mail.Build(d)
}

// day says until when, as exactly as the time that is left asks for.
func day(now, until time.Time) string {
	until = until.UTC()
	if until.Sub(now) < 48*time.Hour {
		return until.Format("January 2, 2006, 3:04 PM") + " UTC"
	}
	return until.Format("January 2, 2006")
}

func minutes(d time.Duration) string {
	switch n := int(d.Round(time.Minute) / time.Minute); n {
	case 0, 1:
		return "one minute"
	case 10:
		return "ten minutes"
	default:
		return fmt.Sprintf("%d minutes", n)
	}
}
