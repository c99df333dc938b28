package mail

import (
	"bufio"
	"io"
	netmail "net/mail"
	"time"

	"github.com/sealpost/sealpost/internal/private"
)

// Given is what a submitted message may lack and is given.
type Given struct {
	Domain string    // for a new Message-ID
	Now    time.Time // for a new Date
}

// Submitted is a message as it goes on its way.
type Submitted struct {
	// Header is without Bcc, Resent-Bcc and Return-Path and with a Message-ID
	// and a Date. All other fields have the bytes they came with.
	Header Header
	// Body is everything behind the empty line, not read yet.
	Body io.Reader
	// From holds the mailboxes of the From field, and nothing when the field
	// is missing or is no list of mailboxes. Whoever authorizes a sender must
	// refuse an empty list.
	From []Mailbox
	// Subject is decoded for rules and records.
	Subject   private.String
	MessageID string
	// Received counts trace fields; the caller decides what is a loop (RFC
	// 5321 section 6.3).
	Received int
}

// Submission takes a message as it came by SMTP.
func Submission(r io.Reader, give Given) (*Submitted, error) {
	// Small, because the reader of the body goes past it.
	br := bufio.NewReaderSize(r, 4<<10)
	h, err := ParseHeader(br)
	if err != nil {
		return nil, err
	}
	// Two of them show one author, or one subject with what rules look for in
	// it, to us and another one to the reader.
	for _, name := range []string{"From", "Subject"} {
		if h.count(name) > 1 {
			return nil, badHeader("The message has more than one " + name + " field.")
		}
	}
	for _, name := range []string{"Bcc", "Resent-Bcc", "Return-Path"} {
		h.Del(name)
	}
	if h.Get("Message-ID") == "" {
		if err := h.Set("Message-ID", NewMessageID(give.Domain)); err != nil {
			return nil, err
		}
	}
	if h.Get("Date") == "" {
		if err := h.Set("Date", FormatDate(give.Now)); err != nil {
			return nil, err
		}
	}
	return &Submitted{
		Header:    h,
		Body:      br,
		From:      h.Mailboxes("From"),
		Subject:   private.NewString(DecodeText(h.Get("Subject"))),
		MessageID: h.Get("Message-ID"),
		Received:  h.count("Received"),
	}, nil
}

// maxMailboxList bounds what Mailboxes looks at.
const maxMailboxList = 64 << 10

// Mailboxes reads the address list of the first field of that name, groups
// included. It gives nothing when any part of it does not parse, so that
// nobody decides by half a list.
func (h Header) Mailboxes(name string) []Mailbox {
	value := h.Get(name)
	if value == "" || len(value) > maxMailboxList {
		return nil
	}
	parser := netmail.AddressParser{WordDecoder: &words}
	list, err := parser.ParseList(value)
	if err != nil {
		return nil
	}
	var out []Mailbox
	for _, m := range list {
		a, err := fromNetMail(m)
		if err != nil {
			return nil
		}
		out = append(out, NewMailbox(showable(m.Name), a))
	}
	return out
}
