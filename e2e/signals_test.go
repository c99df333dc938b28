package e2e

import (
	"bytes"
	"crypto/tls"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/fake"
)

// TestDrain stops the server by SIGTERM under load, again and again: it ends
// within its grace and in order, and what was acknowledged is delivered once,
// with not one attempt of unknown outcome.
func TestDrain(t *testing.T) {
	const grace = 10 * time.Second
	eachSite(t, "shutdown_grace = \"10s\"", func(t *testing.T, s *site) {
		s.refuseWith("no such person")
		l := &load{s: s}
		for range 3 {
			sv := s.start()
			stop := l.begin()
			l.reaches(t, len(l.acked())+20)
			began := time.Now()
			if err := sv.end(syscall.SIGTERM); err != nil {
				t.Errorf("it ended with %v\n%s", err, s.tail())
			}
			if took := time.Since(began); took > grace+5*time.Second {
				t.Errorf("it took %v to end", took)
			}
			stop()
		}
		s.start()
		acked := l.acked()
		checkAcknowledged(t, s, acked)
		for _, a := range acked {
			if copies := len(s.net.Messages(a.to)); copies > 1 {
				t.Errorf("%s arrived %d times", a.to, copies)
			}
		}
		verifyLedger(t, s)
	})
}

// TestDrainTells shows what clients meet: an idle session is told to come
// again, a message under way is finished.
func TestDrainTells(t *testing.T) {
	s := newSite(t, "", "")
	sv := s.start()
	idle, busy := dialRelay(t, s.relay), dialRelay(t, s.relay)
	busy.mail(t, "dr.ada@clinic.test", "mira@modern.example")
	if reply := busy.ask(t, "DATA"); !strings.HasPrefix(reply, "354 ") {
		t.Fatal(reply)
	}
	ended := make(chan error, 1)
	go func() { ended <- sv.end(syscall.SIGTERM) }()
	if reply := idle.reply(t); !strings.HasPrefix(reply, "421 4.3.2 ") {
		t.Errorf("an idle session hears %s", reply)
	}
	if reply := busy.ask(t, "From: dr.ada@clinic.test\r\nSubject: x\r\n\r\nx\r\n."); !strings.HasPrefix(reply, "250 2.0.0 ") {
		t.Errorf("a message under way: %s", reply)
	}
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
	s.start()
	if _, err := s.net.Wait(t.Context(), "mira@modern.example", 1); err != nil {
		t.Error(err)
	}
}

// TestReload replaces the certificate and the log level under a running
// server.
func TestReload(t *testing.T) {
	s := newSite(t, "", "")
	sv := s.start()
	before := s.serial(t)
	if _, _, err := s.net.IssueFiles(s.dir, "server", []string{"localhost", "127.0.0.1"}, fake.CertOptions{}); err != nil {
		t.Fatal(err)
	}
	conf, err := os.ReadFile(s.config())
	if err == nil {
		err = os.WriteFile(s.config(), bytes.Replace(conf, []byte(`level = "debug"`), []byte(`level = "error"`), 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if s.serial(t) != before {
		t.Fatal("the new certificate is used before anybody asked for it")
	}
	_ = sv.cmd.Process.Signal(syscall.SIGHUP)
	for deadline := time.Now().Add(10 * time.Second); s.serial(t) == before; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("new connections see the old certificate")
		}
	}
	log := filepath.Join(s.dir, "log")
	size := func() int64 {
		info, err := os.Stat(log)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		at := size()
		if _, err := s.post(map[string]any{"to": []string{"mira@modern.example"}, "text": "x"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
		if size() == at {
			break // a request leaves no record any more
		}
		if time.Now().After(deadline) {
			t.Fatal("the log level stays as it was")
		}
	}
	// A broken file must not take the listeners' certificate away.
	if err := os.WriteFile(filepath.Join(s.dir, "server.crt"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := size()
	_ = sv.cmd.Process.Signal(syscall.SIGHUP)
	for deadline := time.Now().Add(10 * time.Second); size() == at; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing is said of a broken certificate")
		}
	}
	s.serial(t)
}

// serial gives the number of the certificate that a new connection sees.
func (s *site) serial(t *testing.T) string {
	t.Helper()
	c, err := tls.Dial("tcp", s.http, &tls.Config{RootCAs: s.net.CAPool(), ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// TestLowPorts starts the server without privileges on a port that needs one.
// It says how to allow that, and does not start by halves.
func TestLowPorts(t *testing.T) {
	s := newSite(t, "", "")
	conf, err := os.ReadFile(s.config())
	if err != nil {
		t.Fatal(err)
	}
	conf = bytes.ReplaceAll(conf, []byte(s.submission), []byte("127.0.0.1:587"))
	if err := os.WriteFile(s.config(), conf, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := s.command("serve")
	if os.Getuid() == 0 {
		const nobody = 65534
		open := filepath.Dir(s.dir)
		for _, args := range [][]string{{"chown", "-R", "nobody", open}, {"chmod", "-R", "u+rwX", open}} {
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
		for _, dir := range []string{open, filepath.Dir(binary)} {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatal("it starts")
	}
	for _, want := range []string{"127.0.0.1:587", "setcap", "ip_unprivileged_port_start", "AmbientCapabilities"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in: %s", want, out)
		}
	}
}
