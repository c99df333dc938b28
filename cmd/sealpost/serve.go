package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/config"
)

// serveCmd runs a node until it is told to stop.
type serveCmd struct{}

// Help says what the signals do.
func (serveCmd) Help() string {
	return "SIGTERM drains: listeners close and attempts under way finish. SIGHUP reads the certificates and the log level again."
}

// Run serves until SIGTERM or SIGINT.
func (serveCmd) Run(ctx context.Context, env *environment) error {
	cfg, err := env.load()
	if err != nil {
		return err
	}
	level := new(slog.LevelVar)
	log := newLog(cfg.Log, level)
	core, err := app.Open(ctx, cfg, app.Options{Log: log})
	if err != nil {
		return err
	}
	defer core.Close()
	server := app.NewServer(core)
	if err := server.Start(ctx); err != nil {
		return err
	}
	log.Info("serving", "version", version, "public_url", cfg.PublicURL, "http", server.Addrs.HTTP,
		"submission", server.Addrs.Submission, "submissions", server.Addrs.Submissions, "relay", server.Addrs.Relay,
		"metrics", server.Addrs.Metrics)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	for s := range signals {
		if s != syscall.SIGHUP {
			log.Info("draining", "signal", s.String())
			break
		}
		server.Reload()
		if again, err := env.load(); err != nil {
			log.Error("the configuration could not be read again; nothing changed", "error", err)
		} else {
			setLevel(level, again.Log)
		}
	}
	server.Stop(ctx)
	log.Info("stopped")
	return nil
}

// newLog writes one line per event to standard error.
func newLog(c config.Log, level *slog.LevelVar) *slog.Logger {
	setLevel(level, c)
	opts := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts))
}

func setLevel(level *slog.LevelVar, c config.Log) {
	_ = level.UnmarshalText([]byte(c.Level)) // config allows only levels
}
