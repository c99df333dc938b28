package app

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealpost/sealpost/internal/bounce/classify"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/inbound"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/pool"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
	"github.com/sealpost/sealpost/internal/suppress"
)

// openReturns wires return paths and suppressions, which commands look after
// too.
func (c *Core) openReturns() {
	rules := c.Config.Suppress
	c.Suppress = suppress.New(suppress.Deps{DB: c.DB, Custody: c.Custody, Clock: c.Clock, Rules: suppress.Rules{
		HardFor: rules.HardFor, SoftCount: rules.SoftCount, SoftWithin: rules.SoftWithin, SoftFor: rules.SoftFor}})
	c.ReturnPaths = inbound.NewPaths(inbound.PathsDeps{DB: c.DB, Custody: c.Custody, Accounts: c.Accounts, Clock: c.Clock,
		Resolver: c.Resolver, Hostname: c.Config.Hostname, Sources: c.sources()})
}

// sources are the addresses that the internet sees mail of source pools come
// from.
func (c *Core) sources() (all []netip.Addr) {
	for _, p := range c.Config.Pool {
		seen := p.PublicAddresses
		if len(seen) == 0 {
			seen = p.Addresses
		}
		for _, text := range seen {
			if a, err := netip.ParseAddr(text); err == nil && a.IsGlobalUnicast() && !a.IsPrivate() && !slices.Contains(all, a) {
				all = append(all, a)
			}
		}
	}
	return all
}

// messagesOfStranger is how many messages a minute one address from outside may
// bring: a large provider returns much from few.
const messagesOfStranger = 600

func (s *Server) wireInbound() error {
	if err := s.wireMembers(); err != nil {
		return err
	}
	s.inbound = inbound.New(inbound.Deps{DB: s.DB, Custody: s.Custody, Clock: s.Clock, Log: s.Log, Tracer: s.tracer, Paths: s.ReturnPaths,
		Suppress: s.Suppress, Hostname: s.Config.Hostname, MaxSize: int64(s.Config.Limits.MessageSize), Report: s.TakeReport,
		Relay: s.members.Relay(), Told: s.cameBack})
	return nil
}

// cameBack tells the pool that a delivery left from what was heard of it.
func (s *Server) cameBack(ctx context.Context, org, delivery id.ID, _, what string) {
	var from, site string
	err := s.DB.Read(ctx, org, func(tx *db.Tx) error {
		message, err := spool.MessageOf(tx, delivery)
		if err == nil {
			from, site, err = spool.LeftFrom(tx, message, delivery)
		}
		return err
	})
	switch {
	case err != nil:
		s.Log.Warn("a report could not be counted with the pool its delivery left from", "delivery", delivery.Text(id.Delivery), "error", err)
	case site == "": // it left before this was recorded
	case what == "bounced":
		s.Pools.Heard(from, site, pool.Bounced)
	case what == "complained":
		s.Pools.Heard(from, site, pool.Complained)
	}
	if s.engine != nil || err != nil {
		return
	}
	if err := s.Pools.Flush(ctx); err != nil { // nothing writes down what a node counts that does not deliver
		s.Log.Warn("a report could not be counted with the pool its delivery left from", "delivery", delivery.Text(id.Delivery), "error", err)
	}
}

// suppressionReasons are the words of the spool for those of suppress.
var suppressionReasons = map[suppress.Reason]string{
	suppress.HardBounce: spool.ReasonSuppressedHard, suppress.SoftBounces: spool.ReasonSuppressedSoft,
	suppress.Complaint: spool.ReasonSuppressedComplaint, suppress.Manual: spool.ReasonSuppressedManual,
	suppress.Import: spool.ReasonSuppressedImport,
}

// suppressed is for the front door.
func (c *Core) suppressed(ctx context.Context, org id.ID, recipients []mail.Address) ([]submit.Suppression, error) {
	found, err := c.Suppress.Check(ctx, org, recipients)
	if err != nil || found == nil {
		return nil, err
	}
	all := make([]submit.Suppression, len(found))
	for i, f := range found {
		all[i] = submit.Suppression{All: suppressionReasons[f.All], Bulk: suppressionReasons[f.Bulk]}
	}
	return all, nil
}

// suppressedNow is for the engine, before an attempt.
func (c *Core) suppressedNow(ctx context.Context, org id.ID, to mail.Address, bulk bool) (string, error) {
	found, err := c.Suppress.Check(ctx, org, []mail.Address{to})
	if err != nil || found == nil {
		return "", err
	}
	return suppressionReasons[found[0].Of(bulk)], nil
}

// refused is for the engine, when a peer said no in the end.
func (c *Core) refused(tx *db.Tx, to mail.Address, delivery id.ID, class classify.Class, hard bool) error {
	if !inbound.Counts(class, hard) {
		return nil
	}
	err := c.Suppress.Bounced(tx, suppress.Bounce{Recipient: to, Delivery: delivery, Hard: hard})
	if errors.Is(err, custody.ErrDestroyed) { // there is nobody left to spare
		return nil
	}
	return err
}

var inboundDesc = prometheus.NewDesc("sealpost_inbound_total", "What came from outside to port 25 since this node began, by what it was.", []string{"what"}, nil)

var bouncesDesc = prometheus.NewDesc("sealpost_bounces_total", "Deliveries that were reported undeliverable after a mail host had taken them, by class.", []string{"class"}, nil)

// arrivals counts what strangers brought.
type arrivals struct{ door *inbound.Door }

func (arrivals) Describe(ch chan<- *prometheus.Desc) { ch <- inboundDesc; ch <- bouncesDesc }

func (a arrivals) Collect(ch chan<- prometheus.Metric) {
	for what, n := range a.door.Counts() {
		ch <- prometheus.MustNewConstMetric(inboundDesc, prometheus.CounterValue, float64(n), what)
	}
	for class, n := range a.door.Bounces() {
		ch <- prometheus.MustNewConstMetric(bouncesDesc, prometheus.CounterValue, float64(n), class)
	}
}
