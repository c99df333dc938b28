package inbound

import (
	"context"
	"regexp"
	"slices"

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

// Of what reports say only these forms stand in clear.
var (
	statusForm = regexp.MustCompile(`^[245]\.\d{1,3}\.\d{1,3}$`) // RFC 3463 section 2
	hostForm   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}\.)+[a-z0-9-]{1,63}$`)
)

// unwanted are the complaints after which no bulk mail is sent (RFC 5965
// section 7.3); the others say something else of a message.
var unwanted = []string{"abuse", "fraud", "opt-out"}

var feedbackWords = []string{"abuse", "fraud", "virus", "not-spam", "opt-out", "auth-failure"}

// Counts reports whether a failed delivery says something of its mailbox: that
// it is not there, or could not take mail for a reason of its own that may
// pass. Whatever is about the sender, the message or the way says nothing.
func Counts(class classify.Class, hard bool) bool {
	switch class {
	case classify.MailboxUnknown, classify.MailboxFull, classify.Expired, classify.Other:
		return true
	}
	return hard
}

// settle does what a report asks for with the delivery that its address stands
// for.
func (d *Door) settle(ctx context.Context, t Ticket, report classify.Report) error {
	switch report.Kind {
	case classify.None:
		d.counts.add(countUnreadable)
		return nil
	case classify.Autoreply:
		d.counts.add(countAutoreply)
		return nil
	}
	var key *custody.DataKey
	var dl spool.Delivery
	err := d.DB.Read(ctx, t.Org, func(tx *db.Tx) error {
		m, err := spool.LoadMessage(tx, d.Custody, t.message)
		if err != nil {
			return err
		}
		key = m.Key
		dl, err = spool.LoadDelivery(tx, m.Key, t.delivery)
		return err
	})
	if fault.Is(err, fault.NotFound) { // destroyed since RCPT
		d.counts.add(countLate)
		return nil
	}
	if err != nil {
		return err
	}
	if dl.State == spool.Sending {
		return underWay
	}
	n := news{d: d, key: key, delivery: dl, kind: report.Kind, report: report}
	n.said, n.ours = about(report, dl.Recipient)
	if report.Kind != classify.Complaint && n.said.Kind != classify.None {
		n.kind = n.said.Kind
	}
	var done bool
	if err := d.DB.Write(context.WithoutCancel(ctx), t.Org, func(tx *db.Tx) (err error) {
		done, err = n.record(tx)
		return err
	}); err != nil {
		return err
	}
	d.told(ctx, n, done)
	return nil
}

func (d *Door) told(ctx context.Context, n news, done bool) {
	what, counted := "", map[classify.Kind]int{classify.Bounce: countBounce, classify.Delay: countDelay,
		classify.Delivered: countDelivered, classify.Complaint: countComplaint}
	switch {
	case !done:
		d.counts.add(countRepeated)
		return
	case n.kind == classify.Bounce:
		what = "bounced"
		if n := d.bounces[string(n.said.Class)]; n != nil {
			n.Add(1)
		}
	case n.kind == classify.Complaint && slices.Contains(unwanted, n.report.Feedback):
		what = "complained"
	}
	d.counts.add(counted[n.kind])
	if what != "" {
		d.Told(ctx, n.delivery.Org, n.delivery.ID, n.delivery.Recipient.Domain(), what)
	}
}

// about picks what a report says of our recipient. A delivery has one, so
// whoever else is named is one that our mail was forwarded to: the delivery
// failed there, but ours is not known to be at fault, and may read its mail.
func about(r classify.Report, to mail.Address) (said classify.Recipient, ours bool) {
	for _, rc := range r.Recipients {
		if a, err := mail.ParseAddress(rc.Sent().Reveal()); err == nil && a.Normal() == to.Normal() {
			return rc, true
		}
	}
	if i := slices.IndexFunc(r.Recipients, func(rc classify.Recipient) bool { return rc.Kind == r.Kind }); i >= 0 {
		return r.Recipients[i], false
	}
	return classify.Recipient{Kind: r.Kind, Class: classify.Other}, true
}

// news is one report of one delivery.
type news struct {
	d        *Door
	key      *custody.DataKey
	delivery spool.Delivery
	kind     classify.Kind
	report   classify.Report
	said     classify.Recipient
	ours     bool // it is said of our recipient, and not of one that it forwards to
}

// record writes it down, and reports whether it is new.
func (n news) record(tx *db.Tx) (bool, error) {
	dl, h := n.delivery, n.heard()
	if n.kind == classify.Bounce {
		settled, err := spool.Bounced(tx, n.key, dl.Message, dl.ID, h)
		if err != nil {
			return false, err
		}
		if settled {
			if _, err := n.first(tx); err != nil {
				return false, err
			}
			if !n.ours {
				return true, nil
			}
			return true, n.suppress(tx)
		}
	}
	first, err := n.first(tx)
	if err != nil || !first {
		return false, err
	}
	if n.kind != classify.Complaint {
		return true, spool.Reported(tx, n.key, dl.Message, dl.ID, h)
	}
	if err := spool.Complained(tx, n.key, dl.Message, dl.ID, h); err != nil {
		return false, err
	}
	return true, n.complain(tx)
}

// first notes that this kind of report came, and reports whether none had.
func (n news) first(tx *db.Tx) (bool, error) {
	rows, err := tx.Exec(`INSERT INTO inbound_heard (delivery_id, kind, org_id, at) VALUES (?, ?, ?, ?)
		ON CONFLICT (delivery_id, kind) DO NOTHING`, n.delivery.ID, string(n.kind), tx.Org(), clock.Micros(n.d.Clock.Now()))
	return rows == 1, err
}

// Tidy deletes what is too long ago to be heard again.
func (d *Door) Tidy(ctx context.Context) error {
	return d.DB.Sweep(ctx, "inbound_heard", "delivery_id, kind", "at <= ?", clock.Micros(d.Clock.Now().Add(-2*lateAfter)))
}

func (n news) suppress(tx *db.Tx) error {
	if n.delivery.Journal || !Counts(n.said.Class, n.said.Hard) {
		return nil
	}
	return n.d.Suppress.Bounced(tx, suppress.Bounce{Recipient: n.delivery.Recipient, Delivery: n.delivery.ID, Hard: n.said.Hard})
}

func (n news) complain(tx *db.Tx) error {
	if !slices.Contains(unwanted, n.report.Feedback) {
		return nil
	}
	return n.d.Suppress.Complained(tx, n.delivery.Recipient, n.delivery.ID)
}

// heard is the report as the spool records it.
func (n news) heard() spool.Heard {
	h := spool.Heard{Kind: string(n.kind), Permanent: n.said.Permanent, Diagnostic: n.said.Diagnostic, At: n.d.Clock.Now()}
	if n.kind == classify.Bounce || n.kind == classify.Delay {
		h.Class = string(n.said.Class)
	}
	if statusForm.MatchString(n.said.Status) {
		h.Status = n.said.Status
	}
	if n.said.Code >= 200 && n.said.Code <= 599 {
		h.Code = n.said.Code
	}
	if hostForm.MatchString(n.report.Reporter) && len(n.report.Reporter) <= 253 {
		h.Reporter = n.report.Reporter
	}
	if n.kind == classify.Complaint {
		h.Feedback = "other"
		if slices.Contains(feedbackWords, n.report.Feedback) {
			h.Feedback = n.report.Feedback
		}
	}
	return h
}

// postmaster takes complaints that carry a return path of ours inside, as
// providers send them to an address they were told. Anything else is counted
// and dropped: this host has no people's mailboxes.
func (d *Door) postmaster(ctx context.Context, t Ticket, report classify.Report) error {
	d.counts.add(countPostmaster)
	path, err := mail.ParseAddress(report.OriginalReturnPath.Reveal())
	if err != nil || report.Kind != classify.Complaint {
		d.Log.Warn("mail for the postmaster was dropped: this host has no mailboxes", "org", t.Org.Text(id.Org))
		return nil
	}
	org, found, err := d.Paths.owner(ctx, path.Domain())
	if err != nil || !found {
		return err
	}
	own, err := d.returning(ctx, org, path)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return d.settle(ctx, own, report)
}
