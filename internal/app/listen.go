package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/acme"
	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/submit"
	"github.com/sealpost/sealpost/internal/web"
	"github.com/sealpost/sealpost/internal/web/smtpin"
)

// Addrs are the addresses the node really listens on; empty means off.
type Addrs struct {
	HTTP, Submission, Submissions, Relay, Metrics, ACMEHTTP string
}

func (s *Server) listen(ctx context.Context) error {
	l := s.Config.Listen
	if err := s.listenACME(); err != nil {
		return err
	}
	if s.Config.HasRole(config.RoleAPI) || s.Config.HasRole(config.RolePortal) {
		h, err := s.handler()
		if err != nil {
			return err
		}
		if err := s.serveHTTP(l.HTTP, l.HTTPTLS, h, &s.Addrs.HTTP); err != nil {
			return err
		}
	}
	if err := s.serveHTTP(l.Metrics, false, s.adminHandler(), &s.Addrs.Metrics); err != nil {
		return err
	}
	if !s.Config.HasRole(config.RoleSMTP) {
		return nil
	}
	return s.listenSMTP(ctx)
}

func (s *Server) listenSMTP(ctx context.Context) error {
	cfg := s.Config
	sources, err := s.sources(ctx)
	if err != nil {
		return err
	}
	roots, err := loadRoots(cfg.Relay.CAFile, "relay.ca_file")
	if err != nil {
		return err
	}
	strangers, err := web.NewLimiter(s.Clock, messagesOfStranger, messagesOfStranger)
	if err != nil {
		return err
	}
	s.smtp = smtpin.New(smtpin.Deps{
		Config: smtpin.Config{Hostname: cfg.Hostname, MaxSize: int64(cfg.Limits.MessageSize), MaxRecipients: cfg.Limits.Recipients},
		Door:   s.door, Clients: s.Clients, TLS: s.certs.config(), Clock: s.Clock, Log: s.Log, Sources: sources, SourceRoots: roots,
		Inbound: s.inbound, Strangers: strangers,
	})
	for _, door := range []struct {
		addr string
		role smtpin.Role
		got  *string
	}{
		{cfg.Listen.Submission, smtpin.Submission, &s.Addrs.Submission},
		{cfg.Listen.Submissions, smtpin.Submissions, &s.Addrs.Submissions},
		{cfg.Listen.Relay, smtpin.Relay, &s.Addrs.Relay},
	} {
		if door.addr == "" {
			continue
		}
		l, err := bind(door.addr)
		if err != nil {
			return err
		}
		*door.got = l.Addr().String()
		go func() {
			if err := s.smtp.Serve(l, door.role); err != nil {
				s.Log.Error("a mail listener ended", "listener", door.role, "error", err)
			}
		}()
	}
	return nil
}

// sources finds the organizations that the relay's networks belong to.
func (s *Server) sources(ctx context.Context) ([]smtpin.Source, error) {
	var all []smtpin.Source
	for _, src := range s.Config.Relay.Source {
		o, err := s.Accounts.OrgBySlug(ctx, src.Org)
		if fault.Is(err, fault.NotFound) {
			return nil, fault.Newf(fault.Invalid, "no_org",
				"[[relay.source]] names the organization %q, which does not exist. Make it with \"sealpost org create\" or correct the name.", src.Org)
		}
		if err != nil {
			return nil, err
		}
		one := smtpin.Source{Networks: src.Networks, Names: src.CertificateNames, Org: o.ID}
		if src.TenantHeader != "" {
			one.Tenant = &submit.Tenant{Field: src.TenantHeader, Value: src.TenantValue}
		}
		all = append(all, one)
	}
	return all, nil
}

func (s *Server) serveHTTP(addr string, secure bool, h http.Handler, got *string) error {
	if addr == "" {
		return nil
	}
	l, err := bind(addr)
	if err != nil {
		return err
	}
	*got = l.Addr().String()
	if secure {
		cfg := s.certs.config()
		cfg.NextProtos = []string{"h2", "http/1.1"}
		if s.ACME != nil {
			cfg.NextProtos = append(cfg.NextProtos, acme.Protocol)
		}
		l = tls.NewListener(l, cfg)
	}
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 5 * time.Minute, WriteTimeout: 5 * time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10, ErrorLog: quietLog(s.Log),
	}
	s.https = append(s.https, server)
	go func() {
		if err := server.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.Log.Error("an HTTP listener ended", "error", err)
		}
	}()
	return nil
}

// bind listens, and says how where the port needs a privilege.
func bind(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, fault.Newf(fault.Invalid, "port_needs_privilege",
			"Listening on %s needs a privilege. Run \"sudo setcap cap_net_bind_service=+ep\" on the program, or "+
				"\"sudo sysctl net.ipv4.ip_unprivileged_port_start=25\", or set AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit, "+
				"or choose a port above 1023.", addr)
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fault.Newf(fault.Conflict, "port_taken", "Another program listens on %s already.", addr)
	}
	return nil, fmt.Errorf("listen on %s: %w", addr, err)
}

// adminHandler serves health, readiness and metrics.
func (s *Server) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics(), promhttp.HandlerOpts{}))
	return mux
}

// orgNames remembers how organizations call themselves.
type orgNames struct {
	find  func(context.Context, id.ID) (account.Org, error)
	names sync.Map
}

func (n *orgNames) get(ctx context.Context, org id.ID) (string, error) {
	if name, ok := n.names.Load(org); ok {
		return name.(string), nil
	}
	o, err := n.find(ctx, org)
	if err != nil {
		return "", err
	}
	n.names.Store(org, o.Name)
	return o.Name, nil
}

// folderLock keeps a second server out of a SQLite data folder.
type folderLock struct{ f *os.File }

func lockFolder(dir string) (*folderLock, error) {
	f, err := os.OpenFile(filepath.Join(dir, "serve.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fault.New(fault.Conflict, "folder_in_use", "Another \"sealpost serve\" uses this data folder. Stop it first, or use PostgreSQL to run several.")
	}
	return &folderLock{f}, nil
}

func (l *folderLock) release() {
	if l != nil {
		_ = l.f.Close()
	}
}
