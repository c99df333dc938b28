package submit

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"strings"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/spool"
)

// Incoming is mail that strangers bring for members of an organization.
type Incoming struct {
	Org        id.ID
	Message    id.ID        // that it is to have
	Sender     mail.Address // of the envelope; zero for the null sender
	Recipients []mail.Address
	Header     mail.Header
	Body       io.Reader // what follows the header
	Peer       netip.Addr
	EHLO       string
	Protocol   string // for the Received field
	// Judge is asked once Body was read to its end, and may read it again as
	// often as it wants. An error refuses the message.
	Judge func(body func() io.Reader) (Judged, error)
}

// Judged is what became known of a message while it was read.
type Judged struct {
	Header mail.Header // as it goes on
	Proved bool        // the sender of the envelope is no forgery
	Fact   any         // the clear part of inbound.received
}

// Receive takes a message from outside for good, or refuses it. It keeps to
// what Accept promises; but what it takes is not planned: it goes on as it came,
// to where its recipient's domain is routed, over a transport that is proved.
func (d *Door) Receive(ctx context.Context, in Incoming) error {
	org, err := d.orgs.get(ctx, d, in.Org)
	if err != nil {
		return err
	}
	if org.destroyed {
		return fault.New(fault.NotFound, "no_mailbox", "There is no such mailbox here.")
	}
	if len(in.Header.Values("Received")) >= maxReceived {
		return errHops
	}
	if mail.Passes(in.Header, d.Hostname) >= maxPasses {
		return errLoop
	}
	p, fact, err := d.take(in, org)
	if err != nil {
		return err
	}
	defer p.staged.Close()
	return d.store(ctx, p, func(tx *db.Tx) error {
		return ledger.Append(tx, ledger.Fact{Type: ledger.InboundReceived, Message: in.Message, At: p.message.CreatedAt, Data: fact})
	})
}

// take reads and encrypts a message from outside, and hears what is said of it.
func (d *Door) take(in Incoming, org *orgFacts) (_ *prepared, fact any, err error) {
	now := d.Clock.Now()
	key, err := d.Custody.NewDataKey(in.Org)
	if err != nil {
		return nil, nil, err
	}
	m := spool.Message{ID: in.Message, Org: in.Org, Source: spool.FromOutside, Purpose: policy.Generic, Key: key, Blob: id.New(),
		PolicyVersion: org.policyVersion, Lane: spool.LaneOf("", spool.DefaultPriority), CreatedAt: now, SendAt: now, ExpiresAt: now.Add(d.ExpireAfter)}
	body := &inspected{r: in.Body, limit: org.maxSize - int64(len(in.Header.Bytes()))}
	staged, err := d.Blob.Stage(key, m.Blob, body)
	if err != nil {
		return nil, nil, body.fault(err)
	}
	p := &prepared{staged: staged, body: body.kept()}
	defer func() {
		if err != nil {
			err = errors.Join(err, staged.Close())
		}
	}()
	j, err := in.Judge(staged.Open)
	if err != nil {
		return nil, nil, err
	}
	j.Header = d.withoutProofs(j.Header)
	if err := j.Header.Prepend("Received", mail.Received(mail.Trace{EHLO: in.EHLO, Peer: in.Peer, By: d.Hostname,
		Protocol: in.Protocol, ID: m.ID.Text(id.Message), At: now})); err != nil {
		return nil, nil, err
	}
	m.Header = j.Header.Bytes()
	m.Size = int64(len(m.Header)) + body.size
	m.Envelope = spool.Envelope{Sender: in.Sender, EightBit: body.eightBit, UTF8: mail.NeedsSMTPUTF8(j.Header), Proved: j.Proved}
	m.Details = spool.Details{From: private.NewString(j.Header.Get("From")), Subject: private.NewString(mail.DecodeText(j.Header.Get("Subject")))}
	p.message, p.deliveries = m, relayed(m, in.Recipients)
	p.rows, err = spool.Prepare(m, p.deliveries, staged.SHA256(), func(address string) ([]byte, error) {
		return d.Custody.Index(m.Org, spool.IndexAddress, address)
	})
	return p, j.Fact, err
}

// relayed makes one delivery per distinct recipient. The floor is the least
// there is, because a route asks for its host's certificate whatever the floor.
func relayed(m spool.Message, recipients []mail.Address) (all []spool.Delivery) {
	plan := policy.Plan{Seals: []policy.Seal{policy.TLS}, Floor: policy.Encrypted, NoticeFloor: policy.Encrypted, Purpose: m.Purpose,
		Rule: policy.RuleDefault, Reasons: []string{"It came from outside and goes on to the mail host of the recipient's domain."},
		Forecast: policy.TLS, ForecastGrade: policy.Authenticated, ForecastReason: "It goes on by TLS to the host that the domain is routed to."}
	seen := map[string]bool{}
	for _, to := range recipients {
		if seen[to.Normal()] {
			continue
		}
		seen[to.Normal()] = true
		all = append(all, spool.Delivery{ID: id.New(), Org: m.Org, Message: m.ID, Recipient: to, Plan: plan, Seal: policy.TLS,
			State: spool.Ready, CreatedAt: m.CreatedAt, NextAt: m.SendAt})
	}
	return all
}

// maxPasses is how often a message may have come by here before: once on its
// way out and once on its way back in from a list or a mailbox that forwards it
// is not rare, and more is a loop.
const maxPasses = 3

var errLoop = fault.New(fault.Refused, "loop", "The message has come by here before: it runs in a loop. Check where mail for the recipient's domain is routed.")

// errHops does not say that it came by here: nothing shows that.
var errHops = fault.New(fault.Refused, "loop", "The message has passed too many mail servers (50 or more Received fields), as one does that runs in a loop. Check where mail for the recipient's domain is routed.")

// loops refuses what comes back. What a mail suite hands in for a domain that
// is routed to the suite, and that has been here already, would go back to it
// at once.
func (d *Door) loops(ctx context.Context, draft Draft, m *mail.Submitted) error {
	passes := mail.Passes(m.Header, d.Hostname)
	if m.Received >= maxReceived {
		return errHops
	}
	if passes >= maxPasses {
		return errLoop
	}
	if passes == 0 || draft.Source != spool.FromRelay || d.Routed == nil {
		return nil
	}
	for _, to := range draft.Recipients {
		routed, err := d.Routed(ctx, draft.Principal.Org, to.Domain())
		if err != nil {
			return err
		}
		if routed {
			return errLoop
		}
	}
	return nil
}

// ownFields begin the names of fields that mean something between an
// organization and its Sealpost alone.
const ownFields = "x-sealpost-"

// WithoutOwn gives a header without the fields that only we write or read:
// nobody outside is told them, and nobody outside writes them in our name.
func WithoutOwn(h mail.Header) mail.Header {
	return h.Where(func(name string) bool { return !strings.HasPrefix(strings.ToLower(name), ownFields) })
}
