// Package fault holds the kinds of error the product distinguishes and the
// tables that turn them, once per edge, into HTTP and SMTP replies.
//
// Invariants:
//   - A fault's text says what is wrong and what to do. It never contains
//     content, an address or a secret: it is shown to callers and logged.
//   - What is not a fault is shown to nobody: the edges reply with a generic
//     text and log the cause.
package fault

import (
	"errors"
	"fmt"
)

// Kind is what sort of thing went wrong.
type Kind int

// The kinds.
const (
	Internal        Kind = iota // a defect or an unexpected failure of ours
	Invalid                     // the request itself is wrong
	Unauthenticated             // no or wrong credentials
	Denied                      // known caller, not allowed
	NotFound                    // absent, or somebody else's
	Conflict                    // contradicts what is recorded
	TooLarge                    // over a size or count limit
	TooMany                     // over a rate limit
	Unavailable                 // cannot be done now; the same request may succeed later
	Refused                     // policy refuses it for good
)

// Fault is an error that may be shown to the caller.
type Fault struct {
	Kind    Kind
	Reason  string // stable word for programs: "sender_not_verified"
	Text    string // sentence for people
	Pointer string // RFC 6901 pointer to the field, or empty
	Also    []*Fault
	cause   error
}

// New makes a fault. reason is a stable snake_case word; text is a sentence.
func New(kind Kind, reason, text string) *Fault {
	return &Fault{Kind: kind, Reason: reason, Text: text}
}

// Newf is New with a format. Only numbers, limits and names of fields may be
// put in, never values that a caller sent.
func Newf(kind Kind, reason, format string, args ...any) *Fault {
	return New(kind, reason, fmt.Sprintf(format, args...))
}

// At gives a copy that points to the field at fault.
func (f *Fault) At(pointer string) *Fault {
	c := *f
	c.Pointer = pointer
	return &c
}

// Because gives a copy that keeps the cause for the log. The cause is never
// shown to the caller.
func (f *Fault) Because(cause error) *Fault {
	c := *f
	c.cause = cause
	return &c
}

// Join makes one fault of several, so that all mistakes are reported at once.
// It gives nil for none.
func Join(faults ...*Fault) *Fault {
	if len(faults) == 0 {
		return nil
	}
	c := *faults[0]
	c.Also = append(append([]*Fault(nil), c.Also...), faults[1:]...)
	return &c
}

// Error is the sentence, without the cause.
func (f *Fault) Error() string {
	if f.Pointer != "" {
		return f.Pointer + ": " + f.Text
	}
	return f.Text
}

// Unwrap gives the cause.
func (f *Fault) Unwrap() error { return f.cause }

// From finds the fault in err, or gives a generic one that says nothing.
func From(err error) *Fault {
	var f *Fault
	if errors.As(err, &f) {
		return f
	}
	return New(Internal, "internal", "Something went wrong on our side. Try again; if it keeps happening, tell the administrator the request id.").Because(err)
}

// Is reports whether err is a fault of this kind.
func Is(err error, kind Kind) bool {
	var f *Fault
	return errors.As(err, &f) && f.Kind == kind
}

var httpStatus = map[Kind]int{
	Internal: 500, Invalid: 400, Unauthenticated: 401, Denied: 403, NotFound: 404,
	Conflict: 409, TooLarge: 413, TooMany: 429, Unavailable: 503, Refused: 422,
}

// HTTP is the status of the reply.
func HTTP(err error) int { return httpStatus[From(err).Kind] }

// Reply is an SMTP reply: code, enhanced status (RFC 3463) and text.
type Reply struct {
	Code     int
	Enhanced [3]int
	Text     string
}

var smtpReply = map[Kind]Reply{
	Internal:        {451, [3]int{4, 3, 0}, ""},
	Invalid:         {554, [3]int{5, 6, 0}, ""},
	Unauthenticated: {535, [3]int{5, 7, 8}, ""},
	Denied:          {550, [3]int{5, 7, 1}, ""},
	NotFound:        {550, [3]int{5, 1, 1}, ""},
	Conflict:        {554, [3]int{5, 5, 0}, ""},
	TooLarge:        {552, [3]int{5, 3, 4}, ""},
	TooMany:         {451, [3]int{4, 7, 1}, ""},
	Unavailable:     {451, [3]int{4, 3, 0}, ""},
	Refused:         {550, [3]int{5, 7, 1}, ""},
}

// smtpReason has the reasons for which SMTP has a reply that says more than
// that of their kind.
var smtpReason = map[string]Reply{
	"loop":             {554, [3]int{5, 4, 6}, ""}, // RFC 3463 section 3.5
	"virus_found":      {554, [3]int{5, 7, 1}, ""},
	"scan_unavailable": {451, [3]int{4, 7, 1}, ""},
}

// SMTP is the reply for err.
func SMTP(err error) Reply {
	f := From(err)
	r, special := smtpReason[f.Reason]
	if !special {
		r = smtpReply[f.Kind]
	}
	r.Text = f.Text
	return r
}
