package app

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/deliver"
	"github.com/sealpost/sealpost/internal/dmarc"
	"github.com/sealpost/sealpost/internal/dmarc/intake"
	"github.com/sealpost/sealpost/internal/dmarc/parcel"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/fetch"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/job"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/tlsrpt"
)

const (
	// reportsAtOnce bounds how many reports are unpacked at once: a small mail
	// can unpack to much.
	reportsAtOnce = 2
	// reportOctets is how many octets of reports are held in memory, of all that
	// are on their way in or wait for their turn, beyond reportAlways of each.
	// It is taken in steps, so that who sends little holds little.
	reportOctets = 64 << 20
	reportAlways = 64 << 10
	reportStep   = 256 << 10
	// reportTurnIn is how long a report waits for its turn while its peer waits.
	reportTurnIn = 10 * time.Second
)

var errReportsBusy = fault.New(fault.Unavailable, "reports_busy", "Other reports are being read. Try again later.")

// openReports wires what receivers report to organizations.
func (c *Core) openReports() {
	c.DMARC = dmarc.NewReports(dmarc.Deps{DB: c.DB, Clock: c.Clock, Resolver: c.Resolver, Accounts: c.Accounts, Log: c.Log, Known: c.knownSources})
	c.TLSReports = tlsrpt.NewReceived(tlsrpt.Deps{DB: c.DB, Clock: c.Clock, Accounts: c.Accounts})
	c.reportTurns, c.reportRoom = make(chan struct{}, reportsAtOnce), semaphore.NewWeighted(reportOctets)
}

// TakeReport keeps a report that somebody sent to an organization; word is
// "dmarc" or "tlsrpt". It is read before it has a turn: a peer that sends slowly
// must not keep others from theirs.
func (c *Core) TakeReport(ctx context.Context, org id.ID, word string, message io.Reader) error {
	held := &holding{r: io.LimitReader(message, parcel.MaxPacked+1), room: c.reportRoom} // what is longer the parcel refuses
	defer held.release()
	b, err := io.ReadAll(held)
	if err != nil {
		return err
	}
	message = bytes.NewReader(b)
	wait, cancel := context.WithTimeout(ctx, reportTurnIn)
	defer cancel()
	select {
	case c.reportTurns <- struct{}{}:
		defer func() { <-c.reportTurns }()
	case <-wait.Done():
		return errReportsBusy
	}
	if word == "tlsrpt" {
		_, err = c.TLSReports.Receive(ctx, org, message)
		return err
	}
	_, err = c.DMARC.Receive(ctx, org, message)
	return err
}

// holding counts what is held in memory of a report beyond what every one may
// have, and ends where there is no room for it.
type holding struct {
	r         io.Reader
	room      *semaphore.Weighted // for octets
	had, held int64
}

func (h *holding) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.had += int64(n)
	for h.had > reportAlways+h.held {
		if !h.room.TryAcquire(reportStep) {
			return 0, errReportsBusy
		}
		h.held += reportStep
	}
	return n, err
}

func (h *holding) release() { h.room.Release(h.held) }

const ownSource = "Sealpost"

// knownSources are the networks that mail of an organization comes from as it
// should, as receivers see them.
func (c *Core) knownSources(ctx context.Context, org id.ID) ([]dmarc.Known, error) {
	var out []dmarc.Known
	own := func(p netip.Prefix) { out = append(out, dmarc.Known{Name: ownSource, Network: p}) }
	for _, p := range c.Config.Reports.Addresses {
		own(p)
	}
	for _, p := range c.Config.Pool {
		for _, text := range append(append([]string{}, p.Addresses...), p.PublicAddresses...) {
			if a, err := netip.ParseAddr(text); err == nil {
				own(netip.PrefixFrom(a, a.BitLen()))
			}
		}
	}
	local, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	for _, text := range local {
		if p, err := netip.ParsePrefix(text.String()); err == nil && fetch.Public(p.Addr()) {
			own(netip.PrefixFrom(p.Addr(), p.Addr().BitLen()))
		}
	}
	if len(c.Config.Reports.Source) == 0 {
		return out, nil
	}
	o, err := c.Accounts.Org(ctx, org)
	if err != nil {
		return nil, err
	}
	for _, s := range c.Config.Reports.Source {
		if s.Org != o.Slug {
			continue
		}
		for _, p := range s.Networks {
			out = append(out, dmarc.Known{Name: s.Name, Network: p})
		}
	}
	return out, nil
}

// startReports begins to count the TLS sessions of this node.
func (s *Server) startReports(ctx context.Context) {
	if s.Config.HasRole(config.RoleDeliver) {
		s.sessions = tlsrpt.NewCounter(tlsrpt.CounterDeps{DB: s.DB, Clock: s.Clock, Log: s.Log})
		s.sessions.Start(ctx)
	}
}

// countSession is for the engine.
func (s *Server) countSession(_ context.Context, r deliver.TLSResult) {
	out := tlsrpt.Session{At: r.At, Domain: r.Domain,
		Policy: tlsrpt.Applied{Type: r.PolicyType, Strings: r.PolicyString, Domain: r.PolicyDomain, MX: r.MXPatterns}}
	if r.Result != "" {
		out.Detail = tlsrpt.Cause{Result: r.Result, MX: r.MX, ReceivingIP: r.ReceivingIP, SendingIP: r.SendingIP, Reason: r.Reason}
	}
	s.sessions.Count(out)
}

func (s *Server) reportTasks() []job.Task {
	outside := s.Config.Network
	reporter := tlsrpt.NewReporter(tlsrpt.ReporterDeps{
		DB: s.DB, Custody: s.Custody, Clock: s.Clock, Log: s.Log, Resolver: s.Resolver,
		Fetch:    fetch.New(fetch.Deps{Resolver: s.Resolver, Roots: s.Roots, Clock: s.Clock, AnyAddress: outside.Replaced(), HTTPSPort: outside.HTTPSPort}),
		Hostname: s.Config.Hostname, Organization: s.Config.Reports.Organization, Contact: s.Config.Reports.Contact,
		Signed: func(ctx context.Context) (bool, error) {
			signers, err := s.DKIM.Signers(ctx, db.System, s.Config.Hostname)
			return len(signers) > 0, err
		},
		Posted: func([]spool.Item) { s.poke() },
	})
	return []job.Task{
		{Name: "tlsrpt.send", Every: time.Minute, Do: reporter.Run},
		{Name: "tlsrpt.tidy", Every: 24 * time.Hour, Do: reporter.Tidy},
		{Name: "reports.forget", Every: 24 * time.Hour, Do: func(ctx context.Context) error {
			if err := s.DMARC.Forget(ctx, intake.ByHand); err != nil {
				return err
			}
			return s.TLSReports.Forget(ctx, intake.ByHand)
		}},
	}
}

var (
	tlsReportsDesc = prometheus.NewDesc("sealpost_tls_reports", "Reports of TLS sessions that we owe to domains of the last days, by state.", []string{"state"}, nil)
	bypassDesc     = prometheus.NewDesc("sealpost_bypass_sources", "Sources of mail in the name of our domains that are not known, as reported of the last seven days.", nil, nil)
)

// reportFigures are read when somebody asks.
type reportFigures struct{ s *Server }

func (reportFigures) Describe(ch chan<- *prometheus.Desc) { ch <- tlsReportsDesc; ch <- bypassDesc }

func (f reportFigures) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var states map[string]int
	var sources int
	if err := f.s.DB.Read(ctx, db.System, func(tx *db.Tx) (err error) {
		if states, err = tlsrpt.Outgoing(tx); err != nil {
			return err
		}
		sources, err = dmarc.BypassSources(tx, f.s.Clock.Now().AddDate(0, 0, -7))
		return err
	}); err != nil {
		return
	}
	for state, n := range states {
		ch <- prometheus.MustNewConstMetric(tlsReportsDesc, prometheus.GaugeValue, float64(n), state)
	}
	ch <- prometheus.MustNewConstMetric(bypassDesc, prometheus.GaugeValue, float64(sources))
}
