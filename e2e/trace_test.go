package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tracer is strace on running processes.
type tracer struct {
	t    *testing.T
	cmd  *exec.Cmd
	file string
	errs bytes.Buffer
}

// trace attaches to processes with all their threads, and returns once their
// system calls are recorded. more are further arguments of strace.
func (sv *server) trace(t *testing.T, pids []int, more ...string) *tracer {
	t.Helper()
	tr := &tracer{t: t, file: filepath.Join(t.TempDir(), "trace")}
	args := append([]string{"-f", "-yy", "-s", "64", "-o", tr.file,
		"-e", "trace=read,write,writev,sendto,pwrite64,pwritev,fsync,fdatasync"}, more...)
	for _, pid := range append([]int{sv.cmd.Process.Pid}, pids...) {
		args = append(args, "-p", strconv.Itoa(pid))
	}
	tr.cmd = exec.Command("strace", args...)
	tr.cmd.Stderr = &tr.errs
	if err := tr.cmd.Start(); err != nil {
		t.Fatalf("strace: %v", err)
	}
	t.Cleanup(func() { tr.detach() })
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		sv.s.probe("/healthz")
		if b, _ := os.ReadFile(tr.file); bytes.Contains(b, []byte("HTTP/1.1 200")) {
			return tr
		}
		if time.Now().After(deadline) {
			t.Fatalf("strace records nothing: %s", tr.errs.Bytes())
		}
	}
}

// detach lets the processes go on alone.
func (tr *tracer) detach() {
	if tr.cmd.ProcessState == nil {
		_ = tr.cmd.Process.Signal(syscall.SIGINT)
		_ = tr.cmd.Wait() // it dies of the signal that it was sent
	}
}

// syscallMade is one system call: the lines of the trace at which it began and
// at which it was over.
type syscallMade struct {
	name       string
	fd         string // number and what it stands for
	text       string
	begin, end int
	ok         bool
}

var (
	callForm    = regexp.MustCompile(`^(\d+) +(\w+)\((\d+<(?:->|[^<>])*>)(.*)$`)
	resumedForm = regexp.MustCompile(`^(\d+) +<\.\.\. \w+ resumed>(.*)$`)
)

// calls detaches and gives what was recorded. strace handles one event of one
// thread at a time, so the order of its lines is the order of the events.
func (tr *tracer) calls() []*syscallMade {
	tr.t.Helper()
	tr.detach()
	return parseTrace(tr.t, tr.file)
}

func parseTrace(t *testing.T, file string) (all []*syscallMade) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	open := map[string]*syscallMade{}
	for i, line := range strings.Split(string(b), "\n") {
		if m := resumedForm.FindStringSubmatch(line); m != nil {
			if c := open[m[1]]; c != nil {
				c.end, c.ok = i, succeeded(m[2])
				delete(open, m[1])
			}
			continue
		}
		m := callForm.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		c := &syscallMade{name: m[2], fd: m[3], text: m[4], begin: i, end: i, ok: succeeded(m[4])}
		if all = append(all, c); strings.HasSuffix(line, "<unfinished ...>") {
			c.end = 1 << 30
			open[m[1]] = c
		}
	}
	return all
}

func succeeded(rest string) bool {
	i := strings.LastIndex(rest, " = ")
	return i >= 0 && !strings.HasPrefix(rest[i+3:], "-")
}

func (c *syscallMade) writes() bool { return strings.Contains(c.name, "write") || c.name == "sendto" }

func (c *syscallMade) syncs() bool { return strings.HasSuffix(c.name, "sync") }

// writesTo are the writes on the connection of a client's port.
func writesTo(all []*syscallMade, port int) (writes []*syscallMade) {
	for _, c := range all {
		if c.writes() && strings.Contains(c.fd, fmt.Sprintf("->127.0.0.1:%d]", port)) {
			writes = append(writes, c)
		}
	}
	return writes
}

// answers gives the last n writes on the connection of a client's port, each
// with the write before it.
func answers(t *testing.T, all []*syscallMade, port, n int) (pairs [][2]*syscallMade) {
	t.Helper()
	writes := writesTo(all, port)
	if len(writes) < n+1 {
		t.Fatalf("%d writes to the client, want more than %d", len(writes), n)
	}
	for i := len(writes) - n; i < len(writes); i++ {
		pairs = append(pairs, [2]*syscallMade{writes[i-1], writes[i]})
	}
	return pairs
}

// syncedBetween reports whether the log was written and then brought to the
// disk after one call and before another.
func syncedBetween(all []*syscallMade, log *regexp.Regexp, after, before *syscallMade) bool {
	written := -1
	for _, c := range all {
		if c.begin <= after.begin || c.end >= before.begin || !c.ok || !log.MatchString(c.fd) {
			continue
		}
		if c.writes() && written < 0 {
			written = c.end
		}
		if c.syncs() && written >= 0 && c.begin >= written {
			return true
		}
	}
	return false
}

// quiet waits until the log has not been written for a while, so that what is
// seen next belongs to what is done next.
func (tr *tracer) quiet(log *regexp.Regexp) {
	tr.t.Helper()
	count := func() (n int) {
		b, _ := os.ReadFile(tr.file)
		for line := range bytes.Lines(b) {
			if log.Match(line) {
				n++
			}
		}
		return n
	}
	last, since := count(), time.Now()
	for deadline := time.Now().Add(30 * time.Second); time.Since(since) < 600*time.Millisecond; time.Sleep(50 * time.Millisecond) {
		if n := count(); n != last {
			last, since = n, time.Now()
		}
		if time.Now().After(deadline) {
			tr.t.Fatal("the database is never quiet")
		}
	}
}
