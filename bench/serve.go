package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"syscall"

	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/config"
)

// The files that a profiled server leaves behind.
const (
	cpuFile  = "cpu.pprof"
	heapFile = "heap.pprof"
)

// runServe is "sealpost serve" under a profiler. The product has no door for
// profilers, so this command runs its wiring itself. The profile begins at the
// first SIGUSR1, and ends at the next or with the server.
func runServe(ctx context.Context, args []string) (err error) {
	f := flag.NewFlagSet("bench serve", flag.ContinueOnError)
	file := f.String("config", "", "configuration")
	dir := f.String("profile", "", "folder for profiles")
	if err := f.Parse(args); err != nil {
		return err
	}
	cfg, err := config.Load(*file, os.Environ())
	if err != nil {
		return err
	}
	begin := make(chan os.Signal, 1)
	signal.Notify(begin, syscall.SIGUSR1)
	core, err := app.Open(ctx, cfg, app.Options{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	server := app.NewServer(core)
	if err := server.Start(ctx); err != nil {
		return errors.Join(err, core.Close())
	}
	p := profiler{dir: *dir}
	for running := true; running; {
		select {
		case <-begin:
			err = errors.Join(err, p.toggle())
		case <-ctx.Done():
			running = false
		}
	}
	err = errors.Join(err, p.end())
	server.Stop(context.WithoutCancel(ctx))
	return errors.Join(err, core.Close())
}

// profiler writes where the time went between two calls.
type profiler struct {
	dir string
	cpu *os.File
}

func (p *profiler) toggle() error {
	if p.cpu != nil {
		return p.end()
	}
	var err error
	if p.cpu, err = os.Create(filepath.Join(p.dir, cpuFile)); err != nil {
		return fmt.Errorf("make a profile: %w", err)
	}
	return pprof.StartCPUProfile(p.cpu)
}

func (p *profiler) end() error {
	if p.cpu == nil {
		return nil
	}
	pprof.StopCPUProfile()
	heap, err := os.Create(filepath.Join(p.dir, heapFile))
	if err == nil {
		err = errors.Join(pprof.Lookup("allocs").WriteTo(heap, 0), heap.Close())
	}
	err = errors.Join(err, p.cpu.Close())
	p.cpu = nil
	return err
}
