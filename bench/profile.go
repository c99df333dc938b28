package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// profileSignal begins or ends the profile of a server that has a profiler.
func profileSignal(o options, v server) error {
	if o.profile == "" {
		return nil
	}
	return syscall.Kill(v.pids()[0], syscall.SIGUSR1)
}

// group is a part of the program by the functions in it.
type group struct {
	name  string
	parts []string
}

// groups are tried in order on each function of a stack, from the one that ran
// to its callers: the innermost that belongs to one decides. What the runtime
// does for a function, and system calls, count for that function.
func groups() []group {
	const own = "sealpost/internal/"
	return []group{
		{"garbage collection", []string{"runtime.gcBgMarkWorker", "runtime.gcAssistAlloc", "runtime.bgsweep", "runtime.bgscavenge", "runtime.gcStart"}},
		{"SQLite", []string{"modernc.org/", "database/sql."}},
		{"TLS", []string{"crypto/tls."}},
		{"encryption at rest", []string{own + "blob", own + "custody"}},
		{"ledger", []string{own + "ledger", "golang.org/x/mod/sumdb"}},
		{"database lane", []string{own + "db."}},
		{"delivery", []string{own + "deliver", own + "seal.", own + "posture"}},
		{"SMTP in", []string{own + "web/smtpin"}},
		{"HTTP in", []string{own + "web", "net/http."}},
		{"message checks and policy", []string{own + "mail.", own + "policy"}},
		{"front door and spool", []string{own + "submit", own + "spool", own + "account", own + "auth"}},
		{"logging", []string{"log/slog."}},
		{"jobs and the rest of Sealpost", []string{"sealpost/"}},
		{"scheduler and idle runtime", []string{"runtime."}},
	}
}

// groupOf says where a stack belongs. The collector comes first: it helps
// itself to the time of whoever allocates.
func groupOf(stack []string) string {
	all := groups()
	collector, callers, idle := all[0], all[1:len(all)-1], all[len(all)-1]
	if slices.ContainsFunc(stack, collector.has) {
		return collector.name
	}
	for _, f := range stack {
		for _, g := range callers {
			if g.has(f) {
				return g.name
			}
		}
	}
	return idle.name
}

func (g group) has(function string) bool {
	return slices.ContainsFunc(g.parts, func(p string) bool { return strings.Contains(function, p) })
}

// sampled is a stack with the time spent in it.
type sampled struct {
	stack []string // from the function that ran to its callers
	spent time.Duration
}

// parseTraces reads what "go tool pprof -traces" prints: blocks between lines
// of dashes, each with a time before its first function.
func parseTraces(text []byte) (all []sampled, err error) {
	var now *sampled
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for started := false; lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "-----------+") {
			now, started = nil, true
			continue
		}
		if !started || line == "" {
			continue
		}
		if now == nil {
			spent, function, _ := strings.Cut(line, " ")
			d, err := time.ParseDuration(spent)
			if err != nil {
				return nil, fmt.Errorf("read a profile: %w", err)
			}
			all = append(all, sampled{spent: d})
			now, line = &all[len(all)-1], strings.TrimSpace(function)
		}
		now.stack = append(now.stack, line)
	}
	return all, lines.Err()
}

// reportProfiles tells where the time went, for each profile in a folder.
func reportProfiles(ctx context.Context, dir string, out io.Writer) error {
	for _, p := range []struct{ what, file string }{
		{"relay", filepath.Join(dir, cpuFile)}, {"API", filepath.Join(dir, "api", cpuFile)},
	} {
		if _, err := os.Stat(p.file); errors.Is(err, os.ErrNotExist) {
			continue
		}
		cmd := exec.CommandContext(ctx, "go", "tool", "pprof", "-traces", p.file)
		cmd.Stderr = io.Discard
		text, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("go tool pprof: %w", err)
		}
		all, err := parseTraces(text)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "where the time goes (%s):\n", p.what)
		for _, s := range shares(all) {
			fmt.Fprintf(out, "  %5.1f %%  %s\n", s.percent, s.name)
		}
	}
	return nil
}

type share struct {
	name    string
	percent float64
}

// shares sums samples by group, the largest first.
func shares(all []sampled) (list []share) {
	var total time.Duration
	sums := map[string]time.Duration{}
	for _, s := range all {
		sums[groupOf(s.stack)] += s.spent
		total += s.spent
	}
	for name, sum := range sums {
		list = append(list, share{name, 100 * float64(sum) / float64(total)})
	}
	slices.SortFunc(list, func(a, b share) int {
		if a.percent != b.percent {
			return int(b.percent*1000) - int(a.percent*1000)
		}
		return strings.Compare(a.name, b.name)
	})
	return list
}
