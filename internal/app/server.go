package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealpost/sealpost/internal/bounce"
	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/deliver"
	"github.com/sealpost/sealpost/internal/deliver/smtpclient"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/inbound"
	"github.com/sealpost/sealpost/internal/job"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/pickup"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/shaping"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
	"github.com/sealpost/sealpost/internal/tlsrpt"
	"github.com/sealpost/sealpost/internal/web"
	"github.com/sealpost/sealpost/internal/web/api"
	"github.com/sealpost/sealpost/internal/web/portal"
	"github.com/sealpost/sealpost/internal/web/smtpin"
)

// Server is one running node.
type Server struct {
	*Core
	Addrs Addrs

	door     *submit.Door
	engine   *deliver.Engine // nil without the role
	pickup   *pickup.Pickup
	smtp     *smtpin.Server
	jobs     *job.Runner
	certs    *certificate
	https    []*http.Server
	lock     *folderLock
	orgNames orgNames
	tracer   tracing
	ready    atomic.Bool
	accepts  accepts
	figures  *deliver.Figures // nil without the role deliver

	inbound *inbound.Door
	members *inbound.Members

	sessions *tlsrpt.Counter // nil without the role deliver

	shaping *shaping.Rules // nil without the role deliver
}

// NewServer wires a node. Start sets it going.
func NewServer(c *Core) *Server {
	s := &Server{Core: c, accepts: newAccepts()}
	s.orgNames.find = c.Accounts.Org
	return s
}

// Start takes the lock of the data folder, brings up everything the node's
// roles name and returns when all listeners answer.
func (s *Server) Start(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			s.Stop(ctx)
		}
	}()
	if s.DB.Dialect == db.SQLite {
		if s.lock, err = lockFolder(s.Config.DataDir); err != nil {
			return err
		}
	}
	if s.certs, err = s.loadCertificates(ctx); err != nil {
		return err
	}
	if err := s.startPools(ctx); err != nil {
		return err
	}
	if s.tracer, err = startTracing(ctx, s.Config.Telemetry, s.Config.Hostname); err != nil {
		return err
	}
	s.startReports(ctx)
	s.wireDelivery()
	s.wireDoor()
	if err := s.wireInbound(); err != nil {
		return err
	}
	if s.engine != nil {
		if err := s.engine.Start(ctx); err != nil {
			return fmt.Errorf("start delivery: %w", err)
		}
	}
	if err := s.pickup.Start(ctx); err != nil {
		return err
	}
	if err := s.startJobs(ctx); err != nil {
		return err
	}
	if err := s.listen(ctx); err != nil {
		return err
	}
	s.certs.start(ctx)
	s.ready.Store(true)
	return nil
}

// Stop drains: listeners close, attempts under way may finish within the
// configured grace, and what was not attempted is given back.
func (s *Server) Stop(ctx context.Context) {
	s.ready.Store(false)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Config.ShutdownGrace)
	defer cancel()
	var doors sync.WaitGroup
	for _, h := range s.https {
		doors.Go(func() {
			if err := h.Shutdown(ctx); errors.Is(err, context.DeadlineExceeded) {
				_ = h.Close()
			}
		})
	}
	if s.smtp != nil {
		doors.Go(func() { _ = s.smtp.Shutdown(ctx) })
	}
	doors.Wait()
	if s.members != nil {
		s.members.Stop()
	}
	if s.jobs != nil {
		s.jobs.Stop()
	}
	if s.pickup != nil {
		s.pickup.Stop()
	}
	if s.engine != nil {
		s.engine.Stop(ctx)
	}
	if s.sessions != nil {
		s.sessions.Stop()
	}
	s.Pools.Stop()
	if s.certs != nil {
		s.certs.stop()
	}
	s.tracer.stop(ctx)
	s.lock.release()
}

// Reload reads certificates again.
func (s *Server) Reload() { s.certs.reload() }

func (s *Server) wireDelivery() {
	cfg := s.Config
	s.pickup = pickup.New(pickup.Deps{
		DB: s.DB, Custody: s.Custody, Accounts: s.Accounts, Blob: s.Blob, Clock: s.Clock, Log: s.Log,
		PublicURL: cfg.PublicURL, LinkTTL: cfg.Portal.LinkTTL, CodeTTL: cfg.Portal.CodeTTL, SessionTTL: cfg.Portal.SessionTTL,
		Posted: func(spool.Item) { s.poke() },
	})
	if !cfg.HasRole(config.RoleDeliver) {
		return
	}
	timeouts := smtpclient.Timeouts{Connect: cfg.Delivery.ConnectTimeout, TLS: cfg.Delivery.ConnectTimeout,
		Dot: cfg.Delivery.FinalTimeout}
	for _, t := range []*time.Duration{&timeouts.Banner, &timeouts.EHLO, &timeouts.StartTLS, &timeouts.Mail,
		&timeouts.Rcpt, &timeouts.Data, &timeouts.Block} {
		*t = cfg.Delivery.CommandTimeout
	}
	s.figures = deliver.NewFigures(s.shaping.Names())
	s.engine = deliver.New(deliver.Deps{
		Config: deliver.Config{
			Node: cfg.Hostname, Concurrency: cfg.Delivery.Concurrency, PerDestination: cfg.Delivery.PerDestination,
			RetryMin: cfg.Delivery.RetryMin, RetryMax: cfg.Delivery.RetryMax, ExpireAfter: cfg.Delivery.ExpireAfter, DelayAfter: cfg.Delivery.DelayNoticeAfter,
			NoTLSAfter: cfg.Delivery.NoTLSAfter,
			Alone:      s.DB.Dialect == db.SQLite, SMTPPort: cfg.Network.SMTPPort,
		},
		DB: s.DB, Custody: s.Custody, Blob: s.Blob, Posture: s.Posture, Clock: s.Clock, Log: s.Log,
		SMTP:       smtpclient.Deps{RootCAs: s.Roots, Name: cfg.Hostname, Clock: s.Clock, Timeouts: timeouts},
		Policy:     func(ctx context.Context, org id.ID) (policy.Document, int64, error) { return s.door.PolicyOf(ctx, org) },
		Keys:       s.Keyring.Find,
		Signer:     s.Identities.Signer,
		DKIM:       s.DKIM.Signers,
		ReturnPath: s.ReturnPaths.Address, Suppressed: s.suppressedNow, Refused: s.refused,
		Partner: s.Partners.Terms, TLSResult: s.countSession,
		Shape: s.site, Source: s.Pools.Source, Told: s.Pools.Heard,
		Route:   s.routeOf,
		OrgName: s.orgNames.get,
		Link:    s.pickup.EnsureLink,
		Figures: s.figures, Tracer: s.tracer,
	})
}

// poke makes this node's engine look for work that was just posted.
func (s *Server) poke() {
	if s.engine != nil {
		s.engine.Poke()
	}
}

func (s *Server) wireDoor() {
	cfg := s.Config
	s.door = submit.New(submit.Deps{
		Config: submit.Config{
			Hostname: cfg.Hostname, MaxSize: int64(cfg.Limits.MessageSize), MaxRecipients: cfg.Limits.Recipients,
			MessagesPerMinute: cfg.Limits.MessagesPerMinute, ExpireAfter: cfg.Delivery.ExpireAfter, IdempotencyTTL: cfg.IdempotencyTTL,
			TenantFields: cfg.Relay.TenantFields(),
		},
		DB: s.DB, Custody: s.Custody, Blob: s.Blob, Accounts: s.Accounts, Clock: s.Clock, Log: s.Log,
		Tracer: s.tracer, Posture: s.cachedPosture, Keys: s.Keyring.Known,
		Journal:    s.Retention.Journal,
		Suppressed: s.suppressed,
		Accepted:   s.accepts.count,
		Routed:     s.routed, Sent: s.sent,
		Reserve: func(items []spool.Item) id.ID {
			if s.engine == nil {
				return id.ID{}
			}
			return s.engine.Reserve(items)
		},
		Push: func(run id.ID, reserved []spool.Item, work []spool.Work) {
			if s.engine != nil {
				s.engine.Push(run, reserved, work)
			}
		},
	})
}

func (s *Server) cachedPosture(ctx context.Context, domain string) policy.Posture {
	known, ok := s.Posture.Cached(ctx, domain)
	if !ok {
		return policy.Posture{}
	}
	return known.Facts()
}

// placeEvery is well under the two seconds within which an entry has its
// position.
const placeEvery = 500 * time.Millisecond

func (s *Server) startJobs(ctx context.Context) error {
	if !s.Config.HasRole(config.RoleJobs) {
		return nil
	}
	dsns := bounce.New(bounce.Deps{
		DB: s.DB, Custody: s.Custody, Clock: s.Clock, Log: s.Log, Hostname: s.Config.Hostname,
		DelayAfter: s.Config.Delivery.DelayNoticeAfter, Posted: func([]spool.Item) { s.poke() },
	})
	s.jobs = job.New(job.Deps{DB: s.DB, Clock: s.Clock, Log: s.Log, Run: id.New(), Alone: s.lock != nil})
	for _, t := range append(s.poolTasks(), []job.Task{
		{Name: "ledger.place", Every: placeEvery, Do: func(ctx context.Context) error {
			_, err := ledger.Place(ctx, s.DB, 0)
			return err
		}},
		{Name: "ledger.checkpoint", Every: 5 * time.Second, Do: func(ctx context.Context) error {
			_, err := s.Ledger.CheckpointDue(ctx)
			return err
		}},
		{Name: "bounce", Every: time.Second, Do: dsns.Run},
		{Name: "pickup.expire", Every: time.Minute, Do: s.pickup.ExpireLinks},
		{Name: "pickup.purge", Every: time.Hour, Do: s.pickup.Purge},
		{Name: "keyring.tidy", Every: time.Hour, Do: s.Keyring.Tidy},
		{Name: "identity.expiring", Every: time.Hour, Do: s.Identities.WarnExpiring},
		{Name: "inbound.tidy", Every: 24 * time.Hour, Do: s.inbound.Tidy},
		{Name: "inbound.names", Every: 24 * time.Hour, Do: s.Core.names.Tidy},
		{Name: "suppress.tidy", Every: time.Hour, Do: s.Suppress.Tidy},
		{Name: "posture.tidy", Every: 24 * time.Hour, Do: s.Posture.Tidy},
		{Name: "partner.expiring", Every: time.Hour, Do: s.Partners.WarnExpiring},
		s.retentionJob(),
	}...) {
		s.jobs.Add(t)
	}
	for _, t := range slices.Concat(s.dkimJobs(), s.zoneJobs(), s.reportTasks()) {
		s.jobs.Add(t)
	}
	return s.jobs.Start(ctx)
}

// keysPerMinute is how many look-ups of our own keys one client may make.
const keysPerMinute = 120

// handler routes what the node's roles serve over HTTP.
func (s *Server) handler() (http.Handler, error) {
	mux := http.NewServeMux()
	if s.Config.HasRole(config.RoleAPI) {
		a, err := api.New(api.Deps{
			Door: s.door, Desk: &spool.Desk{DB: s.DB, Custody: s.Custody}, Suppress: s.Suppress, Clients: s.Clients, Clock: s.Clock, Log: s.Log,
			Events: func(ctx context.Context, org id.ID, after int64, limit int) ([]ledger.Event, int64, error) {
				return ledger.Read(ctx, s.DB, org, after, limit)
			},
			PublicURL: s.Config.PublicURL, MaxBody: int64(s.Config.Limits.APIBody),
		})
		if err != nil {
			return nil, err
		}
		a.Routes(mux)
	}
	if s.Config.HasRole(config.RolePortal) {
		p, err := portal.New(portal.Deps{Pickup: s.pickup, PublicURL: s.Config.PublicURL, Clock: s.Clock})
		if err != nil {
			return nil, err
		}
		p.Routes(mux)
		limit, err := web.NewLimiter(s.Clock, keysPerMinute, keysPerMinute)
		if err != nil {
			return nil, err
		}
		if err := s.serveZone(mux); err != nil {
			return nil, err
		}
		web.Directory{Keys: s.Identities.Published, Serves: s.Identities.Publishes, Limit: limit}.Routes(mux)
	}
	return web.Wrap(web.Deps{PublicURL: s.Config.PublicURL, Clock: s.Clock, Log: s.Log}, mux), nil
}
