package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestQuantilesAreNearestRanks(t *testing.T) {
	l := &latencies{}
	for i := 1; i <= 100; i++ {
		l.all = append(l.all, time.Duration(i)*time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{0.50: 50, 0.95: 95, 0.99: 99, 1: 100, 0: 1} {
		if got := l.at(q); got != want*time.Millisecond {
			t.Errorf("quantile %v is %v, want %d ms", q, got, want)
		}
	}
}

func TestMedianTakesEachFigureOnItsOwn(t *testing.T) {
	m := median([]round{
		{accepted: 3, endToEnd: 10, cpu: 5}, {accepted: 1, endToEnd: 30, cpu: 4}, {accepted: 2, endToEnd: 20, cpu: 6},
	})
	if m.accepted != 2 || m.endToEnd != 20 || m.cpu != 5 {
		t.Errorf("median is %+v", m)
	}
	if two := median([]round{{endToEnd: 10}, {endToEnd: 20}}); two.endToEnd != 15 {
		t.Errorf("median of two is %v", two.endToEnd)
	}
}

func TestStatIsReadWhateverTheNameHolds(t *testing.T) {
	p, err := parseStat([]byte("42 (a) S 9 (b) S 7 1 1 0 -1 4194560 1 2 3 4 150 50 30 20 20 0 1 0 1 1 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	if want := (process{pid: 42, parent: 7, own: 2 * time.Second, reaped: 500 * time.Millisecond}); p != want {
		t.Errorf("got %+v, want %+v", p, want)
	}
	for _, bad := range []string{"", "42", "42 (x) S 7", "x (x) S 7 1 1 0 -1 4194560 1 2 3 4 150 50 30 20 20 0"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestBusyTimeLeavesIdleOut(t *testing.T) {
	const stat = "cpu  100 20 30 4000 500 6 7 8 50 60\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
	if got, want := parseBusy([]byte(stat)), (100+20+30+6+7+8)*time.Second/100; got != want {
		t.Errorf("busy for %v, want %v", got, want)
	}
}

// A shell that burns time in a child is the family whose account is known.
func TestFamilyCountsChildrenAliveAndEnded(t *testing.T) {
	cmd := exec.Command("sh", "-c", `sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; echo done; sh -c 'echo child; read x'; :`)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	want := "done\nchild\n"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(out, got); err != nil || string(got) != want {
		t.Fatalf("%q, %v", got, err)
	}
	all, used, m := family(cmd.Process.Pid), cpu(cmd.Process.Pid), measure(cmd.Process.Pid)
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 {
		t.Errorf("the family has %d members, want 2", len(all))
	}
	if used == 0 {
		t.Error("the time of the child that ended is not counted")
	}
	if m.peaks < 500<<10 || m.shared == 0 || m.shared > m.peaks {
		t.Errorf("memory is %+v", m)
	}
}

func TestTracesAreSummedByGroup(t *testing.T) {
	const text = `File: bench
Type: cpu
Duration: 2s, Total samples = 100ms
-----------+-------------------------------------------------------
      60ms   runtime.memmove
             github.com/sealpost/sealpost/internal/web/smtpin.(*session).data
             github.com/sealpost/sealpost/internal/web/smtpin.(*Server).serve
-----------+-------------------------------------------------------
      30ms   internal/runtime/syscall.Syscall6
             crypto/tls.(*Conn).Write
             github.com/sealpost/sealpost/internal/deliver/smtpclient.(*Conn).send
-----------+-------------------------------------------------------
       8ms   runtime.scanobject
             runtime.gcAssistAlloc
             modernc.org/sqlite.(*conn).step
-----------+-------------------------------------------------------
      2ms   runtime.futex
`
	all, err := parseTraces([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{"SMTP in": 60, "TLS": 30, "garbage collection": 8, "scheduler and idle runtime": 2}
	got := shares(all)
	if len(got) != len(want) {
		t.Errorf("groups are %+v", got)
	}
	for _, s := range got {
		if d := s.percent - want[s.name]; d > 0.01 || d < -0.01 {
			t.Errorf("%s has %.1f %%, want %.1f", s.name, s.percent, want[s.name])
		}
	}
	if _, err := parseTraces([]byte("-----------+---\n  soon   f\n")); err == nil {
		t.Error("a trace without a time was read")
	}
}

// The sink speaks over pipes; here it runs in this process.
func TestSinkCountsWhatArrives(t *testing.T) {
	toSink, ask := io.Pipe()
	answers, fromSink := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- runSink(t.Context(), []string{"-dir", t.TempDir()}, toSink, fromSink) }()
	dec := json.NewDecoder(answers)
	var addrs sinkAddrs
	if err := dec.Decode(&addrs); err != nil {
		t.Fatal(err)
	}
	s := &sink{in: ask, out: dec}
	if err := sendClear(addrs, 3); err != nil {
		t.Fatal(err)
	}
	if _, err := s.wait(3); err != nil {
		t.Error(err)
	}
	if err := sendClear(addrs, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := s.wait(3); err == nil || !strings.Contains(err.Error(), "received 4 messages, not 3") {
		t.Errorf("a message too many: %v", err)
	}
	_ = ask.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// sendClear hands in messages without TLS, which the sink takes as any mail
// host does.
func sendClear(a sinkAddrs, n int) error {
	c, err := smtp.Dial(net.JoinHostPort(a.Host, strconv.Itoa(a.SMTPPort)))
	if err != nil {
		return err
	}
	defer c.Close()
	for range n {
		if err := errors.Join(c.Mail(sender), c.Rcpt(sinkMailbox)); err != nil {
			return err
		}
		w, err := c.Data()
		if err != nil {
			return err
		}
		if _, err := w.Write([]byte("Subject: x\r\n\r\nx\r\n")); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
	}
	return c.Quit()
}

func TestOptionsAreRefusedPolitely(t *testing.T) {
	for _, args := range [][]string{{"-n", "0"}, {"more"}, {"-only", "exim"}, {"-rounds", "0"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
	if o, err := parse([]string{"-profile", "x"}); err != nil || o.only != sealpostName {
		t.Errorf("a profile measures %q: %v", o.only, err)
	}
}

func TestMemoryDisksAreRefused(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Fatal("the benchmark is for Linux")
	}
	dir, err := workFolder("/dev/shm")
	if dir != "" {
		defer os.RemoveAll(dir)
	}
	if err == nil || !strings.Contains(err.Error(), "in memory") {
		t.Errorf("a memory disk: %v", err)
	}
	var buf bytes.Buffer
	if err := run(t.Context(), []string{"-only", "sealpost", "-sealpost", "/nonexistent"}, &buf); err == nil {
		t.Error("measured a program that is not there")
	}
}
