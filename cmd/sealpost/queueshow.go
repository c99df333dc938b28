package main

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/spool"
)

type queueShowCmd struct {
	Delivery string `arg:"" help:"Id of the delivery: dlv_…"`
}

type deliveryShown struct {
	Delivery string      `json:"delivery"`
	Org      string      `json:"org"`
	Message  string      `json:"message"`
	Domain   string      `json:"recipient_domain,omitempty"` // unknown once the content is destroyed
	Journal  bool        `json:"journal,omitempty"`          // the archive's copy
	State    spool.State `json:"state"`
	Reason   string      `json:"reason"`
	laneShown
	Seal      policy.Seal  `json:"seal"`
	Final     bool         `json:"final"`
	Grade     string       `json:"grade"` // empty for none
	Attempts  int          `json:"attempts"`
	Plan      policy.Plan  `json:"plan"`
	CreatedAt time.Time    `json:"created_at"`
	NextAt    time.Time    `json:"next_at,omitzero"`
	SettledAt time.Time    `json:"settled_at,omitzero"`
	Events    []eventShown `json:"events"`
}

type eventShown struct {
	At   time.Time       `json:"at"`
	Type ledger.Type     `json:"type"`
	Data json.RawMessage `json:"data"`
}

// Run shows a delivery.
func (c queueShowCmd) Run(ctx context.Context, env *environment) error {
	delivery, err := deliveryID(c.Delivery)
	if err != nil {
		return err
	}
	return env.withCore(ctx, func(core *app.Core) error {
		org, err := orgOf(ctx, core, delivery)
		if err != nil {
			return err
		}
		o, err := core.Accounts.Org(ctx, org)
		if err != nil {
			return err
		}
		var d spool.Delivery
		var lane spool.Lane
		var events []ledger.Event
		if err := core.DB.Read(ctx, org, func(tx *db.Tx) (err error) {
			if d, lane, err = loadDelivery(tx, core.Custody, delivery); err != nil {
				return err
			}
			events, err = ledger.ForMessage(tx, d.Message)
			return err
		}); err != nil {
			return err
		}
		r := deliveryShown{Delivery: c.Delivery, Org: o.Slug, Message: d.Message.Text(id.Message), Domain: d.Recipient.Domain(), Journal: d.Journal, State: d.State,
			Reason: d.Reason, laneShown: showLane(lane), Seal: d.Seal, Final: d.Final, Grade: d.Grade.Word(), Attempts: d.Attempts, Plan: d.Plan,
			CreatedAt: d.CreatedAt, NextAt: d.NextAt, SettledAt: d.SettledAt, Events: []eventShown{}}
		for _, e := range events {
			if !e.Delivery.IsZero() && e.Delivery != delivery {
				continue
			}
			r.Events = append(r.Events, eventShown{e.At, e.Type, e.Data})
		}
		return env.result(r, r.tell)
	})
}

// loadDelivery also gives a delivery whose content is destroyed, without its
// recipient.
func loadDelivery(tx *db.Tx, keys *custody.Custody, delivery id.ID) (d spool.Delivery, lane spool.Lane, err error) {
	message, err := spool.MessageOf(tx, delivery)
	if err != nil {
		return d, 0, err
	}
	m, err := spool.LoadMessage(tx, keys, message)
	if err != nil && fault.From(err).Reason != custody.ErrDestroyed.Reason {
		return d, 0, err
	}
	d, err = spool.LoadDelivery(tx, m.Key, delivery)
	return d, m.Lane, err
}

func (r deliveryShown) tell(p *page) {
	state := string(r.State)
	if r.Reason != "" {
		state += " (" + r.Reason + ")"
	}
	seal := orDash(string(r.Seal))
	if r.Seal != "" && !r.Final {
		seal += " expected"
	}
	seals := make([]string, len(r.Plan.Seals))
	for i, s := range r.Plan.Seals {
		seals[i] = string(s)
	}
	rows := [][]string{
		{"delivery", r.Delivery}, {"message", r.Message}, {"organization", r.Org}, {"recipient's domain", orDash(r.Domain)},
		{"state", state}, {"lane", string(r.Stream) + ", priority " + strconv.Itoa(r.Priority)}, {"seal", seal}, {"grade", orDash(r.Grade)},
		{"allowed seals", orDash(strings.Join(seals, ", ")) + "; tls at no less than " + r.Plan.Floor.String()},
		{"chosen by rule", r.Plan.Rule}, {"purpose", string(r.Plan.Purpose)}, {"attempts", strconv.Itoa(r.Attempts)},
		{"accepted", when(r.CreatedAt, "-")},
	}
	if r.Journal {
		rows = append(rows, []string{"is for", "the archive (sealpost retention journal)"})
	}
	switch {
	case !r.SettledAt.IsZero():
		rows = append(rows, []string{"settled", when(r.SettledAt, "-")})
	case r.State != spool.Held && r.State != spool.Sending:
		rows = append(rows, []string{"next attempt", when(r.NextAt, "-")})
	}
	p.table(rows...)
	for _, why := range r.Plan.Reasons {
		p.linef("  %s", printable(why))
	}
	if r.State == spool.Held && r.Plan.Hold != "" {
		p.linef("  Held: %s", printable(r.Plan.Hold))
	}
	p.linef("\nHistory:")
	for _, e := range r.Events {
		p.linef("  %s  %s%s", when(e.At, "-"), e.Type, dataText(e.Data))
	}
}

// dataText writes the clear part of an entry as name=value.
func dataText(data json.RawMessage) string {
	var fields map[string]any
	if json.Unmarshal(data, &fields) != nil {
		return ""
	}
	var out strings.Builder
	writeFields(&out, "", fields)
	return out.String()
}

func writeFields(out *strings.Builder, prefix string, fields map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if inner, ok := fields[name].(map[string]any); ok {
			writeFields(out, prefix+name+".", inner)
			continue
		}
		value, ok := fields[name].(string)
		if !ok {
			text, _ := json.Marshal(fields[name]) // it was JSON a moment ago
			value = string(text)
		}
		out.WriteString(" " + printable(prefix+name+"="+value))
	}
}
