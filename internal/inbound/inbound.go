// Package inbound is the door for what strangers send to port 25: bounces and
// complaints that come to return paths, reports, and mail for the postmaster.
//
//	RCPT ─▶ Recipient ─▶ a Ticket, or "no such mailbox"
//	DATA ─▶ Accept ─▶ bounce:    delivered | waiting ─▶ failed, rules of suppress
//	                  complaint: recorded, rules of suppress
//	                  delay, success: recorded
//	                  anything else: counted and dropped
//
// A return path (VERP) is an envelope sender that only one delivery has:
// b<delivery id, MAC in base32>@bounce.clinic.example.
//
// Invariants:
//   - Only an address whose MAC verifies under the index key of the
//     organization that owns its host stands for a delivery. A forged one gets
//     the answer of any unknown mailbox, and nothing of it is acted on.
//   - What comes settles only the delivery its address stands for; addresses
//     inside of a report never choose another.
//   - The same is recorded once of a delivery, however often it is reported.
//   - Nothing is answered and nothing is relayed: no mail goes out because one
//     came in, but the DSN that our own sender gets through package bounce.
//   - Octets kept, deliveries at once and time are bounded, and what is beyond
//     is read and dropped.
//   - Of what a report says, only words of fixed forms stand in clear. Its
//     texts are sealed under the message's key.
package inbound

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/sync/semaphore"

	"github.com/sealpost/sealpost/internal/bounce/classify"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/suppress"
)

// Kind is what a recipient is to us.
type Kind string

// The kinds.
const (
	Return     Kind = "return_path" // of one delivery
	Report     Kind = "report"      // DMARC or TLS reports of an organization
	Postmaster Kind = "postmaster"  // RFC 5321 section 4.5.1, RFC 2142
	Member     Kind = "member"      // a mailbox of an organization, behind Deps.Relay
)

// Ticket says that mail to one address is taken, and what for. All tickets of
// a message are of one kind and organization.
type Ticket struct {
	Kind Kind
	Org  id.ID        // zero for the postmaster of the installation
	To   mail.Address // zero for the postmaster without a domain
	Word string       // of a report: "dmarc" or "tlsrpt"

	delivery, message id.ID
}

// Arrival is a message on its way in: its envelope and who brings it.
type Arrival struct {
	Peer     netip.Addr
	EHLO     string
	Protocol string // for Received: ESMTPS, …
	Sender   mail.Address
	Tickets  []Ticket // one at least
}

// Relay takes mail for members of organizations.
type Relay struct {
	// Knows tells a stranger of some network whose member an address is; the
	// error NotFound means nobody's.
	Knows func(ctx context.Context, from netip.Prefix, to mail.Address) (org id.ID, err error)
	// Serves reports whether a domain is one of members.
	Serves func(ctx context.Context, domain string) (bool, error)
	// Accept stores a message before it returns.
	Accept func(ctx context.Context, a Arrival, message io.Reader) error
}

// Deps are what the door needs.
type Deps struct {
	DB       *db.DB
	Custody  *custody.Custody
	Clock    clock.Clock
	Log      *slog.Logger
	Paths    *Paths
	Suppress *suppress.Service
	Hostname string
	MaxSize  int64 // octets of a message
	// Tracer follows messages; nil: none are followed.
	Tracer trace.Tracer
	// Report takes a whole mail with a report; word is "dmarc" or "tlsrpt".
	// nil: there are no such mailboxes.
	Report func(ctx context.Context, org id.ID, word string, message io.Reader) error
	// Relay takes mail for members. nil: there are none.
	Relay *Relay
	// Told is called with what was heard of a delivery, once and after it is
	// committed: "bounced" or "complained". It may be nil.
	Told func(ctx context.Context, org, delivery id.ID, domain, what string)
}

// Door is the inbound door of one node.
type Door struct {
	Deps
	counts  counts
	bounces map[string]*atomic.Int64 // by class; never changed
	room    *semaphore.Weighted      // for octets of reports beyond what everybody has
	readers *semaphore.Weighted      // a mail made for it costs its reader much
}

const (
	keptMax    = 1 << 20  // octets of a mail to a return path that are looked at
	keptAlways = 64 << 10 // of these, without asking for room
	roomOctets = 64 << 20 // for all mails together
	returnsMax = 10       // return paths of one mail
	readersMax = 4

	// lateAfter is when a delivery is too long ago to be heard of: its return
	// path stands in the recipient's mailbox for ever.
	lateAfter = 30 * 24 * time.Hour
)

// New gives the door.
func New(d Deps) *Door {
	if d.Told == nil {
		d.Told = func(context.Context, id.ID, id.ID, string, string) {}
	}
	if d.Tracer == nil {
		d.Tracer = noop.NewTracerProvider().Tracer("")
	}
	bounces := map[string]*atomic.Int64{}
	for _, class := range classify.Classes() {
		bounces[string(class)] = new(atomic.Int64)
	}
	return &Door{Deps: d, bounces: bounces, room: semaphore.NewWeighted(roomOctets), readers: semaphore.NewWeighted(readersMax)}
}

var (
	// noMailbox is the one answer for all that is not here, is forged, or is
	// too long ago.
	noMailbox = fault.New(fault.NotFound, "no_mailbox", "There is no such mailbox here.")
	// underWay: the peer bounced what it took before we could note that it did.
	underWay = fault.New(fault.TooMany, "under_way", "The delivery is being recorded this moment. Try again in a minute.")
)

// Serves reports whether a domain is one of return paths, mail to which is never
// relayed, or one of members.
func (d *Door) Serves(ctx context.Context, domain string) (returns, members bool, err error) {
	_, returns, err = d.Paths.owner(ctx, domain)
	if err != nil || returns || d.Relay == nil {
		return returns, false, err
	}
	members, err = d.Relay.Serves(ctx, domain)
	return false, members, err
}

// Recipient tells what mail to an address would be taken for that a stranger of
// some network brings. The error NotFound means that it would not be taken.
func (d *Door) Recipient(ctx context.Context, from netip.Prefix, to mail.Address) (Ticket, error) {
	local := strings.ToLower(to.Local())
	if to.Domain() == strings.ToLower(d.Hostname) && isPostmaster(local) {
		return Ticket{Kind: Postmaster, To: to}, nil
	}
	org, found, err := d.Paths.owner(ctx, to.Domain())
	if err != nil {
		return Ticket{}, err
	}
	if !found {
		return d.member(ctx, from, to)
	}
	switch {
	case isPostmaster(local):
		return Ticket{Kind: Postmaster, Org: org, To: to}, nil
	case (local == "dmarc" || local == "tlsrpt") && d.Report != nil:
		return Ticket{Kind: Report, Org: org, To: to, Word: local}, nil
	}
	return d.returning(ctx, org, to)
}

func isPostmaster(local string) bool { return local == "postmaster" || local == "abuse" }

// PostmasterTicket is for RCPT TO:<postmaster>, without a domain.
func (d *Door) PostmasterTicket() Ticket { return Ticket{Kind: Postmaster} }

func (d *Door) member(ctx context.Context, from netip.Prefix, to mail.Address) (Ticket, error) {
	if d.Relay != nil {
		org, err := d.Relay.Knows(ctx, from, to)
		if err == nil || !fault.Is(err, fault.NotFound) {
			return Ticket{Kind: Member, Org: org, To: to}, err
		}
	}
	d.counts.add(countUnknown)
	return Ticket{}, noMailbox
}

// returning finds the delivery that a return path stands for.
func (d *Door) returning(ctx context.Context, org id.ID, to mail.Address) (Ticket, error) {
	delivery, ok, err := d.Paths.delivery(org, to)
	if err != nil && !fault.Is(err, fault.NotFound) { // its keys are destroyed
		return Ticket{}, err
	}
	if !ok {
		d.counts.add(countForged)
		return Ticket{}, noMailbox
	}
	var s spool.Standing
	err = d.DB.Read(ctx, org, func(tx *db.Tx) (err error) {
		s, err = spool.StandingOf(tx, delivery)
		return err
	})
	switch {
	case fault.Is(err, fault.NotFound), err == nil && !s.SettledAt.IsZero() && d.Clock.Now().Sub(s.SettledAt) > lateAfter:
		d.counts.add(countLate)
		return Ticket{}, noMailbox
	case err != nil:
		return Ticket{}, err
	case s.State == spool.Sending:
		return Ticket{}, underWay
	}
	return Ticket{Kind: Return, Org: org, To: to, delivery: delivery, message: s.Message}, nil
}

// With reports whether a message for the tickets so far may be for one more.
func (t Ticket) With(others []Ticket) bool {
	if len(others) == 0 {
		return true
	}
	if t.Kind == Return && len(others) >= returnsMax {
		return false
	}
	return t.Kind == others[0].Kind && t.Org == others[0].Org
}

// Accept takes a message for good, or refuses it. message is read to its end
// unless that fails.
func (d *Door) Accept(ctx context.Context, a Arrival, message io.Reader) (err error) {
	first := a.Tickets[0]
	ctx, span := d.Tracer.Start(ctx, "inbound", trace.WithAttributes(attribute.String("sealpost.kind", string(first.Kind)),
		attribute.String("sealpost.org", first.Org.Text(id.Org)), attribute.Int("sealpost.recipients", len(a.Tickets))))
	defer func() {
		if err != nil {
			span.SetStatus(codes.Error, fault.From(err).Reason)
		}
		span.End()
	}()
	in := &limited{r: message, left: d.MaxSize}
	err = d.take(ctx, a, in)
	if err == nil {
		_, err = io.Copy(io.Discard, in)
	}
	if in.over {
		d.counts.add(countLarge)
		return errTooLarge
	}
	return err
}

func (d *Door) take(ctx context.Context, a Arrival, in io.Reader) error {
	first := a.Tickets[0]
	switch first.Kind {
	case Member:
		err := d.Relay.Accept(ctx, a, in)
		d.counts.add(countOf(err))
		return err
	case Report:
		d.counts.add(countReport)
		return d.Report(ctx, first.Org, first.Word, in)
	}
	report, err := d.read(ctx, in)
	if err != nil {
		return err
	}
	if first.Kind == Postmaster {
		return d.postmaster(ctx, first, report)
	}
	for _, t := range a.Tickets {
		if err := d.settle(ctx, t, report); err != nil {
			return err
		}
	}
	return nil
}

// countOf tells what became of mail for a member.
func countOf(err error) int {
	switch {
	case err == nil:
		return countMember
	case fault.SMTP(err).Code >= 500:
		return countMemberRefused
	}
	return countMemberLater
}
