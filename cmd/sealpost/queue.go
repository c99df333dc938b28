package main

import (
	"context"
	"strconv"
	"time"

	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/spool"
)

// queueCmd works on what is not settled.
type queueCmd struct {
	List    queueListCmd    `cmd:"" help:"List deliveries that are not settled."`
	Top     queueTopCmd     `cmd:"" help:"Watch the destinations live: what waits, what flows, and who is in trouble."`
	Show    queueShowCmd    `cmd:"" help:"Show one delivery and its history, settled or not."`
	Hold    queueHoldCmd    `cmd:"" help:"Stop deliveries until they are released."`
	Release queueReleaseCmd `cmd:"" help:"Let held deliveries go."`
	Retry   queueRetryCmd   `cmd:"" help:"Try deferred or scheduled deliveries now."`
	Cancel  queueCancelCmd  `cmd:"" help:"End deliveries for good; take back what nobody has read yet."`
}

// Help says what is hidden.
func (queueCmd) Help() string {
	return "These commands work beside a running server. Recipients are shown by their domain only."
}

type queueListCmd struct {
	Org    string `placeholder:"SLUG" help:"Only of this organization."`
	State  string `enum:",held,scheduled,ready,sending,deferred" default:"" placeholder:"STATE" help:"Only in this state: held, scheduled, ready, sending or deferred."`
	Domain string `placeholder:"DOMAIN" help:"Only to this recipient domain."`
	Stream string `enum:",transactional,bulk" default:"" placeholder:"STREAM" help:"Only of this stream: transactional or bulk."`
	Limit  int    `default:"100" placeholder:"N" help:"Most to list. (default: 100)"`
	After  string `placeholder:"DELIVERY" help:"Go on behind this one."`
}

// Help shows an example.
func (queueListCmd) Help() string {
	return "Oldest first, of all organizations.\n\nExample:\n\n  $ sealpost queue list --state held"
}

type queuedRow struct {
	Delivery string      `json:"delivery"`
	Org      string      `json:"org"`
	Message  string      `json:"message"`
	Domain   string      `json:"recipient_domain"`
	State    spool.State `json:"state"`
	laneShown
	Seal      policy.Seal `json:"seal"`
	Reason    string      `json:"reason"`
	Attempts  int         `json:"attempts"`
	NextAt    time.Time   `json:"next_at"`
	CreatedAt time.Time   `json:"created_at"`
}

// laneShown says when a delivery's turn comes.
type laneShown struct {
	Stream   spool.Stream `json:"stream"`
	Priority int          `json:"priority"` // 0 goes first
}

func showLane(l spool.Lane) laneShown { return laneShown{l.Stream(), l.Priority()} }

func (l laneShown) String() string { return string(l.Stream) + " " + strconv.Itoa(l.Priority) }

type queueListed struct {
	Deliveries []queuedRow         `json:"deliveries"`
	More       bool                `json:"more"`  // --after the last one gives the next
	Depth      map[spool.State]int `json:"depth"` // of all organizations

	narrowed bool
}

func (c queueListCmd) filter() (f spool.QueueFilter, err error) {
	if c.Limit < 1 || c.Limit > 100_000 {
		return f, usagef("--limit must be between 1 and 100000.")
	}
	f = spool.QueueFilter{State: spool.State(c.State), Stream: spool.Stream(c.Stream), Limit: c.Limit + 1}
	if c.Domain != "" {
		if f.Domain, err = domainName(c.Domain); err != nil {
			return f, err
		}
	}
	if c.After != "" {
		f.After, err = deliveryID(c.After)
	}
	return f, err
}

// Run lists the queue.
func (c queueListCmd) Run(ctx context.Context, env *environment) error {
	f, err := c.filter()
	if err != nil {
		return err
	}
	return env.withCore(ctx, func(core *app.Core) error {
		org := db.System
		if c.Org != "" {
			o, err := core.Accounts.OrgBySlug(ctx, c.Org)
			if err != nil {
				return err
			}
			org = o.ID
		}
		slugs, err := slugsByID(ctx, core)
		if err != nil {
			return err
		}
		var all []spool.Queued
		r := queueListed{Deliveries: []queuedRow{}, narrowed: c != queueListCmd{Limit: c.Limit}}
		if err := core.DB.Read(ctx, org, func(tx *db.Tx) (err error) {
			if r.Depth, err = spool.Depth(tx); err != nil {
				return err
			}
			all, err = spool.Queue(tx, f)
			return err
		}); err != nil {
			return err
		}
		if r.More = len(all) > c.Limit; r.More {
			all = all[:c.Limit]
		}
		for _, q := range all {
			r.Deliveries = append(r.Deliveries, queuedRow{q.Delivery.Text(id.Delivery), slugs[q.Org], q.Message.Text(id.Message), q.Domain,
				q.State, showLane(q.Lane), q.Seal, q.Reason, q.Attempts, q.NextAt, q.CreatedAt})
		}
		return env.result(r, r.tell)
	})
}

func (r queueListed) tell(p *page) {
	if len(r.Deliveries) == 0 {
		if r.narrowed {
			p.linef("No delivery of this kind waits. \"sealpost queue list\" shows all that do.")
		} else {
			p.linef("No delivery waits: all are settled.")
		}
		return
	}
	rows := [][]string{{"DELIVERY", "ORG", "TO", "STATE", "LANE", "SEAL", "TRIES", "NEXT", "WHY"}}
	for _, q := range r.Deliveries {
		next := when(q.NextAt, "-")
		if q.State == spool.Held || q.State == spool.Sending {
			next = "-"
		}
		rows = append(rows, []string{q.Delivery, q.Org, q.Domain, string(q.State), q.laneShown.String(), orDash(string(q.Seal)), strconv.Itoa(q.Attempts), next, orDash(q.Reason)})
	}
	p.table(rows...)
	if r.More {
		p.linef("\nThere are more: add --after %s", r.Deliveries[len(r.Deliveries)-1].Delivery)
	}
}

func deliveryID(s string) (id.ID, error) {
	d, err := id.Parse(id.Delivery, s)
	if err != nil {
		return d, usagef("An id of a delivery looks like dlv_06e9…; \"sealpost queue list\" shows them.")
	}
	return d, nil
}

// orgOf finds whose a delivery is.
func orgOf(ctx context.Context, core *app.Core, delivery id.ID) (org id.ID, err error) {
	err = core.DB.Read(ctx, db.System, func(tx *db.Tx) (err error) {
		org, err = spool.OrgOfDelivery(tx, delivery)
		return err
	})
	return org, err
}
