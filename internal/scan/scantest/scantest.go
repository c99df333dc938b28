// Package scantest starts the real scanners for tests, on loopback and without
// anything but what the tests bring along.
package scantest

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/scan"
)

// What the scanners know.
const (
	Harm     = "harmful-sealpost-sample" // a text that ClamAV finds
	HarmName = "Sealpost.Test.Harm"      // under this name, which it makes longer
	// Rspamd's own test texts: one that it refuses, one that it marks.
	Unwanted   = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
	Suspicious = "YJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
)

// StreamMax is the most that this clamd takes.
const StreamMax = 1 << 20

// Rspamd starts Rspamd with nothing but its test texts, and gives its URL.
func Rspamd(t testing.TB) (url string) {
	t.Helper()
	dir, addr := t.TempDir(), freeAddr(t)
	write(t, dir, "tld", "example\n")
	write(t, dir, "rspamd.conf", fmt.Sprintf(`options {
  pidfile = "%[1]s/pid"; tempdir = "%[1]s"; hs_cache_dir = "%[1]s"; disable_hyperscan = true;
  url_tld = "%[1]s/tld"; filters = ""; enable_test_patterns = true; dns { nameserver = ["127.0.0.1:9"]; }
}
logging { type = "console"; level = "error"; }
worker "normal" { bind_socket = "%[2]s"; count = 1; mime = true; }
actions { reject = 15; add_header = 6; greylist = 4; }
`, dir, addr))
	args := []string{"-f", "-c", filepath.Join(dir, "rspamd.conf")}
	if os.Getuid() == 0 {
		args = append(args, "--insecure") // it would not stay root otherwise
	}
	run(t, "rspamd", args...)
	r, err := scan.NewRspamd(scan.RspamdDeps{URL: "http://" + addr})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "rspamd", func(ctx context.Context) error {
		_, err := r.Check(ctx, scan.Envelope{}, strings.NewReader("Subject: x\r\n\r\nx\r\n"))
		return err
	})
	return "http://" + addr
}

// ClamAV starts clamd with one signature, and gives its two URLs.
func ClamAV(t testing.TB) (tcp, unix string) {
	t.Helper()
	dir, addr := t.TempDir(), freeAddr(t)
	host, port, _ := net.SplitHostPort(addr)
	socket := shortSocket(t)
	write(t, dir, "test.ndb", HarmName+":0:*:"+hex.EncodeToString([]byte(Harm))+"\n")
	write(t, dir, "clamd.conf", fmt.Sprintf("DatabaseDirectory %[1]s\nTemporaryDirectory %[1]s\nLocalSocket %[2]s\nTCPSocket %[3]s\nTCPAddr %[4]s\n"+
		"Foreground yes\nStreamMaxLength %[5]d\nMaxThreads 4\nCommandReadTimeout 30\n", dir, socket, port, host, StreamMax))
	run(t, "clamd", "-c", filepath.Join(dir, "clamd.conf"))
	c, err := scan.NewClamAV(scan.ClamAVDeps{URL: "tcp://" + addr})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "clamd", c.Ping)
	return "tcp://" + addr, "unix://" + socket
}

// shortSocket is a path that fits into a socket address.
func shortSocket(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "clamd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

func write(t testing.TB, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath(filepath.Join("/usr/sbin", name)); err != nil {
			t.Fatalf("%s is missing; scripts/test-deps.sh says what to install", name)
		}
	}
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		done := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		done.Stop()
	})
}

// wait asks until a program answers.
func wait(t testing.TB, name string, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		err := ask(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s does not answer: %v", name, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
