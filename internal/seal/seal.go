// Package seal makes artifacts: sealed bytes ready for one transport. It also
// opens what comes back sealed.
//
// Invariants:
//   - A transport takes only an Artifact, and only this package makes one, for
//     deliver alone. What is not an Artifact cannot be sent.
//   - An artifact names the least grade of transport it may travel over. The
//     original message travels readable only in an artifact of TLS, whose floor
//     is never below verified; notices carry nothing of the message, and mail
//     sealed to a person carries it unreadable: both need encrypted or better.
//   - Mail sealed to a person shows of its header only what is needed to carry
//     and to answer it. The whole header is inside (RFC 9788), and Bcc nowhere.
//     An artifact holds one wrapped key, its own recipient's.
//   - One content key encrypts one plaintext. A message that reads otherwise
//     than before, or fails midway, ends its artifact with an error and never
//     as a shorter message.
//   - An artifact is a stream over what is stored encrypted. It is never
//     stored itself.
//   - A signature for the domain (DKIM) covers the octets that leave, in the
//     form in which they leave: nothing is changed behind it.
//   - Notices and codes are fixed texts: no subject, no content, no local part
//     but the recipient's own address in To. They are never planned.
//   - What is opened is told apart by what covers it, part by part; no two
//     parts are joined. Of a ciphertext that could have been altered nothing is
//     given that does anything when it is shown, and nothing is ever fetched.
//     The verdict is proved only when all of it is signed, inside of every
//     encryption, by the address in From.
package seal

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
)

// Body is a complete RFC 5322 message that can be read as often as needed.
type Body struct {
	Size     int64 // octets, as opened
	EightBit bool  // has octets above 127 (RFC 6152)
	UTF8     bool  // has non-ASCII header fields (RFC 6532)
	Open     func(context.Context) (io.ReadCloser, error)

	unsigned  *Body            // without the signature on top
	signature *DomainSignature // nil for none
}

// Artifact is sealed mail for one recipient. Only this package fills one in.
type Artifact struct {
	from, to   mail.Address
	floor      policy.Grade
	requireTLS bool
	preferTLS  bool // REQUIRETLS where the next hop offers it
	body       Body
}

// From is the envelope sender; the zero address stands for the null sender.
func (a *Artifact) From() mail.Address { return a.from }

// To is the one recipient.
func (a *Artifact) To() mail.Address { return a.to }

// Floor is the least grade of transport this may travel over.
func (a *Artifact) Floor() policy.Grade { return a.floor }

// RequireTLS asks the next hop for REQUIRETLS (RFC 8689).
func (a *Artifact) RequireTLS() bool { return a.requireTLS }

// PrefersRequireTLS asks for REQUIRETLS where the next hop offers it.
func (a *Artifact) PrefersRequireTLS() bool { return a.preferTLS }

// Protected is a report about a message under REQUIRETLS. It goes under that
// too, where it can (RFC 8689 section 5). It holds nothing of the message, so
// it goes without where it cannot, rather than be lost.
func (a *Artifact) Protected() *Artifact {
	p := *a
	p.preferTLS = true
	return &p
}

// Size is the number of octets, as declared with SIZE (RFC 1870).
func (a *Artifact) Size() int64 { return a.body.Size }

// EightBit reports whether the peer must offer 8BITMIME or the artifact be
// read re-encoded.
func (a *Artifact) EightBit() bool { return a.body.EightBit }

// UTF8 reports whether the peer must offer SMTPUTF8 (RFC 6531 section 3.4).
func (a *Artifact) UTF8() bool {
	return a.body.UTF8 || a.from.NeedsSMTPUTF8() || a.to.NeedsSMTPUTF8()
}

// Open gives the bytes from the start: CRLF line ends, not dot-stuffed.
func (a *Artifact) Open(ctx context.Context) (io.ReadCloser, error) { return a.body.Open(ctx) }

// OpenSevenBit gives the bytes with every 8-bit part re-encoded, for a peer
// without 8BITMIME (RFC 6152 section 3). It fails where the MIME structure
// does not parse. What is signed for its domain is signed in this form.
func (a *Artifact) OpenSevenBit(ctx context.Context) (io.ReadCloser, error) {
	return a.body.sevenBitForm(ctx)
}

// converted opens the message re-encoded: what to close, the header with its
// empty line, and the body.
func (b Body) converted(ctx context.Context) (io.Closer, []byte, io.Reader, error) {
	r, err := b.Open(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	buffered := bufio.NewReader(r)
	h, err := mail.ParseHeader(buffered)
	if err != nil {
		return nil, nil, nil, errors.Join(err, r.Close())
	}
	h, body, err := mail.ToSevenBit(h, buffered, b.Size)
	if err != nil {
		return nil, nil, nil, errors.Join(err, r.Close())
	}
	return r, h.Bytes(), body, nil
}

// TLS seals by enforced transport: the message as it was accepted, over
// nothing less than floor.
func TLS(from, to mail.Address, floor policy.Grade, requireTLS bool, body Body) *Artifact {
	return &Artifact{from: from, to: to, floor: max(floor, policy.Verified), requireTLS: requireTLS, body: body}
}

// Report carries a notice that was written and stored before: a code, a DSN or
// a delay notice.
func Report(to mail.Address, floor policy.Grade, text []byte) *Artifact {
	return notice(to, floor, text)
}

// notice has the null sender, so that it can never be answered by a bounce
// (RFC 5321 section 4.5.5). Only that of a portal delivery may have a return
// path, which answers nothing.
func notice(to mail.Address, floor policy.Grade, text []byte) *Artifact {
	return &Artifact{to: to, floor: max(floor, policy.Encrypted), body: Body{
		Size: int64(len(text)),
		UTF8: to.NeedsSMTPUTF8(),
		Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(text)), nil
		},
	}}
}
