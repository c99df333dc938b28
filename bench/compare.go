package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// allParts are what can be measured, in the order in which it is.
func allParts() []string {
	return []string{"relay", "large", "arrivals", "api", "queue", "queue-postgres", "nodes", "hanging"}
}

// compare measures what was asked for, each part in a folder of its own.
func compare(ctx context.Context, o options, out io.Writer) (err error) {
	if err := check(&o); err != nil {
		return err
	}
	dir, err := workFolder(o.dir)
	defer func() {
		if o.keep {
			fmt.Fprintln(out, "kept:", dir)
		} else if dir != "" {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if err != nil {
		return err
	}
	fmt.Fprintln(out, machine())
	if o.seals != nil {
		return compareSeals(ctx, o, dir, out)
	}
	for _, part := range o.parts {
		in := filepath.Join(dir, part)
		if err := os.Mkdir(in, 0o755); err != nil {
			return err
		}
		if err := measurePart(ctx, o, in, part, out); err != nil {
			return fmt.Errorf("%s: %w", part, err)
		}
	}
	return nil
}

func measurePart(ctx context.Context, o options, dir, part string, out io.Writer) error {
	switch part {
	case "large":
		o.size, o.messages = 100<<10, max(1, o.messages/5)
		return compareRelay(ctx, o, dir, out)
	case "arrivals":
		return compareArrivals(ctx, o, dir, out)
	case "api":
		return reportAPI(ctx, o, dir, out)
	case "queue":
		return fullQueue(ctx, o, dir, "", out)
	case "queue-postgres":
		return withPostgres(func(url string) error { return fullQueue(ctx, o, dir, url, out) })
	case "nodes":
		return withPostgres(func(url string) error { return twoNodes(ctx, o, dir, url, out) })
	case "hanging":
		return hangingSites(ctx, o, dir, out)
	}
	return compareRelay(ctx, o, dir, out)
}

// servers are those to be measured.
func (o options) servers() []string {
	if o.only != "" {
		return []string{o.only}
	}
	return []string{postfixName, sealpostName}
}

// compareRelay measures both servers round by round in turn.
func compareRelay(ctx context.Context, o options, dir string, out io.Writer) error {
	signed := "not signed"
	if o.dkim {
		rate, err := signingCeiling(2 * time.Second)
		if err != nil {
			return err
		}
		signed = fmt.Sprintf("signed with RSA-2048 (the machine makes %.0f such signatures a second at most)", rate)
	}
	fmt.Fprintf(out, "relay: %d messages of %d octets a round, %d sessions, %s, TLS to one sink, %s\n",
		o.messages, o.size, o.sessions, connections(o), signed)
	results := map[string][]round{}
	for n := range o.rounds {
		for _, name := range o.servers() {
			awaitRest(ctx, o.patient)
			r, err := inFolder(ctx, o, filepath.Join(dir, fmt.Sprintf("%s-%d", name, n+1)), name)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			fmt.Fprintf(out, "  round %d  %s  other programs %.0f %%\n", n+1, row(name, r), 100*r.others)
			results[name] = append(results[name], r)
		}
	}
	return report(ctx, o, out, results)
}

func check(o *options) error {
	if _, err := program("smtp-source"); err != nil {
		return err
	}
	if o.only != sealpostName {
		if err := checkPostfix(); err != nil {
			return err
		}
	}
	if o.only != postfixName {
		if _, err := os.Stat(o.binary); err != nil {
			return fmt.Errorf("there is no %s; \"make build\" makes it", o.binary)
		}
	}
	for _, path := range []*string{&o.binary, &o.dir, &o.profile} {
		if *path == "" {
			continue
		}
		var err error
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	if o.profile != "" {
		return os.MkdirAll(o.profile, 0o755)
	}
	return nil
}

// inFolder runs one round of one server, everything new.
func inFolder(ctx context.Context, o options, dir, name string) (r round, err error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return r, err
	}
	s, err := startSink(ctx, dir, crowd{})
	if err != nil {
		return r, err
	}
	defer s.stop()
	v, err := startServer(ctx, o, dir, name, s)
	if err != nil {
		return r, err
	}
	defer v.stop()
	return measureRound(ctx, o, s, v, 0)
}

func startServer(ctx context.Context, o options, dir, name string, s *sink) (server, error) {
	if name == postfixName {
		return startPostfix(ctx, o, dir, s)
	}
	return startSealpost(ctx, o, dir, s)
}

func reportAPI(ctx context.Context, o options, dir string, out io.Writer) error {
	if o.only == postfixName {
		return nil
	}
	awaitRest(ctx, o.patient)
	l, err := measureAPI(ctx, o, dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "API: %d requests at %d/s from the time each was due: %s; CPU %s a message\n", len(l.all), o.apiRate, l, us(l.cpu))
	return nil
}

func measureAPI(ctx context.Context, o options, dir string) (*latencies, error) {
	s, err := startSink(ctx, dir, crowd{})
	if err != nil {
		return nil, err
	}
	defer s.stop()
	if o.profile != "" {
		o.profile = filepath.Join(o.profile, "api")
		if err := os.MkdirAll(o.profile, 0o755); err != nil {
			return nil, err
		}
	}
	p, err := startSealpost(ctx, o, dir, s)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	if err := profileSignal(o, p); err != nil {
		return nil, err
	}
	used := cpu(p.pids()...)
	l, err := openLoop(ctx, o, p)
	if err != nil {
		return nil, err
	}
	if _, err := s.wait(len(l.all)); err != nil {
		return nil, err
	}
	l.cpu = (cpu(p.pids()...) - used) / time.Duration(len(l.all))
	return l, profileSignal(o, p)
}

func report(ctx context.Context, o options, out io.Writer, results map[string][]round) error {
	fmt.Fprintln(out, "median:")
	rate := map[string]float64{}
	for _, name := range []string{postfixName, sealpostName} {
		if len(results[name]) == 0 {
			continue
		}
		m := median(results[name])
		rate[name] = m.endToEnd
		fmt.Fprintf(out, "           %s\n", row(name, m))
	}
	if o.profile != "" {
		if err := reportProfiles(ctx, o.profile, out); err != nil {
			return err
		}
	}
	if busy := disturbed(results); busy > 0 {
		fmt.Fprintf(out, "In %d rounds other programs took more than a tenth of the processors: measure again on a quiet machine.\n", busy)
	}
	if len(rate) == 2 {
		fmt.Fprintf(out, "ratio end-to-end: %.1f\n", rate[sealpostName]/rate[postfixName])
	}
	return nil
}

// disturbed counts the rounds that say little.
func disturbed(results map[string][]round) (n int) {
	for _, rounds := range results {
		for _, r := range rounds {
			if r.others > 0.1 {
				n++
			}
		}
	}
	return n
}

// median takes the median of each figure on its own.
func median(rounds []round) round {
	return round{
		accepted: middle(rounds, func(r round) float64 { return r.accepted }),
		endToEnd: middle(rounds, func(r round) float64 { return r.endToEnd }),
		cpu:      time.Duration(middle(rounds, func(r round) float64 { return float64(r.cpu) })),
		memory: memory{
			peaks:  int64(middle(rounds, func(r round) float64 { return float64(r.memory.peaks) })),
			shared: int64(middle(rounds, func(r round) float64 { return float64(r.memory.shared) })),
		},
	}
}

func middle(rounds []round, of func(round) float64) float64 {
	all := make([]float64, len(rounds))
	for i, r := range rounds {
		all[i] = of(r)
	}
	slices.Sort(all)
	n := len(all)
	return (all[(n-1)/2] + all[n/2]) / 2
}

func row(name string, r round) string {
	return fmt.Sprintf("%-8s  accepted %5.0f/s  end to end %5.0f/s  CPU %s a message  VmHWM %d MB (Pss %d MB)",
		name, r.accepted, r.endToEnd, us(r.cpu), r.memory.peaks>>20, r.memory.shared>>20)
}

func us(d time.Duration) string { return fmt.Sprintf("%d µs", d.Microseconds()) }

func ms(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

func connections(o options) string {
	if o.reuse {
		return "incoming connections reused"
	}
	return "one incoming connection a message"
}

// machine tells on what the figures were made.
func machine() string {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	load, _ := os.ReadFile("/proc/loadavg")
	before, _, _ := strings.Cut(string(load), " ")
	return fmt.Sprintf("%d × %s, Linux %s, %s, load before %s", runtime.NumCPU(), model,
		strings.TrimSpace(string(kernel)), runtime.Version(), before)
}
