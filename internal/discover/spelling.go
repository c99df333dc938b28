package discover

import "github.com/sealpost/sealpost/internal/mail"

// eachSpelling asks for the normal form of an address, by which we tell
// mailboxes apart, and where there is nothing also for the address as somebody
// wrote it, which the sources may tell apart from that. That one spelling has
// nothing proves nothing about the mailbox: only all of them do.
func eachSpelling(a mail.Address, ask func(mail.Address) Answer) Answer {
	normal, err := mail.ParseAddress(a.Normal())
	if err != nil { // lower case may be longer than an address can be
		out := ask(a)
		out.Certain = false
		return out
	}
	first := ask(normal)
	if a.Reveal() == normal.Reveal() || !first.Absent {
		return first
	}
	second := ask(a)
	if second.Absent {
		second.Certain = second.Certain && first.Certain
		if first.Until.Before(second.Until) {
			second.Until = first.Until
		}
	}
	return second
}
