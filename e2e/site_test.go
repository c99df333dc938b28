package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealpost/sealpost/e2e/internal/product"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fake"
)

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) { os.Exit(product.Main(m, &binary)) }

// site is an installation in a folder of its own, on a loopback internet.
type site struct {
	t    testing.TB
	dir  string // configuration, master key, certificates, logs
	data string // data_dir
	net  *fake.Internet
	key  string // API key with all scopes
	http string // host:port
	relay, submission,
	submissions, metrics string
	url    string
	client *http.Client
}

// eachSite runs a test on an installation with SQLite and on one with
// PostgreSQL. settings are more lines for the configuration file.
func eachSite(t *testing.T, settings string, fn func(t *testing.T, s *site)) {
	t.Run("SQLite", func(t *testing.T) { fn(t, newSite(t, "", settings)) })
	t.Run("PostgreSQL", func(t *testing.T) { fn(t, newSite(t, dbtest.PostgresURL(t), settings)) })
}

func newSite(t testing.TB, databaseURL, settings string) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	s.data = filepath.Join(s.dir, "data")
	var err error
	if s.net, err = fake.Start(context.Background(), fake.Options{Dir: s.dir, SlowBy: 20 * time.Millisecond, MaxBytes: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.net.Close)
	cert, key, err := s.net.IssueFiles(s.dir, "server", []string{"localhost", "127.0.0.1"}, fake.CertOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []*string{&s.http, &s.relay, &s.submission, &s.submissions, &s.metrics} {
		*addr = "127.0.0.1:" + strconv.Itoa(freePort(t))
	}
	_, port, _ := net.SplitHostPort(s.http)
	s.url = "https://localhost:" + port
	s.client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: s.net.CAPool()}, MaxIdleConnsPerHost: 100}}
	conf := fmt.Sprintf(`data_dir = %q
public_url = %q
hostname = "mail.clinic.test"
%s
[log]
level = "debug"
[database]
url = %q
[keys]
master_file = %q
[tls]
cert_file = %q
key_file = %q
[listen]
http = %q
submission = %q
submissions = %q
relay = %q
metrics = %q
[[relay.source]]
networks = ["127.0.0.0/8"]
org = "clinic"
[network]
resolver = %q
smtp_port = %d
https_port = %d
ca_file = %q
dnssec = true
[keyring]
smime_ca_file = %q
`, s.data, s.url, settings, databaseURL, filepath.Join(s.dir, "master.key"), cert, key, s.http, s.submission, s.submissions,
		s.relay, s.metrics, s.net.ResolverAddr, s.net.SMTPPort, s.net.HTTPSPort, s.net.CAFile, s.net.MailCAFile)
	if !strings.Contains(settings, "[delivery]") {
		conf += "[delivery]\nretry_min = \"500ms\"\nretry_max = \"3s\"\nno_tls_after = \"1s\"\nconnect_timeout = \"3s\"\ncommand_timeout = \"3s\"\nfinal_timeout = \"3s\"\n"
	}
	if err := os.WriteFile(s.config(), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	s.setUp()
	return s
}

func (s *site) config() string { return filepath.Join(s.dir, "sealpost.toml") }

// handedOut are the ports that freePort gave: the system may offer one again
// that nobody listens on yet.
var handedOut sync.Map

func freePort(t testing.TB) int {
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		port := l.Addr().(*net.TCPAddr).Port
		if _, before := handedOut.LoadOrStore(port, true); !before {
			return port
		}
	}
}

// setUp does what an administrator does once, by the commands of the help.
func (s *site) setUp() {
	s.t.Helper()
	s.run("migrate", "--apply")
	s.run("keys", "init")
	s.run("org", "create", "clinic", "--name", "Riverside Clinic")
	s.addDomain("clinic.test")
	var made struct {
		Key string `json:"key"`
	}
	s.runJSON(&made, "apikey", "create", "--name", "e2e", "--scope", "messages:send,messages:read,messages:cancel,events:read")
	s.key = made.Key
}

func (s *site) addDomain(name string, flags ...string) {
	s.t.Helper()
	var d struct {
		Name  string `json:"record_name"`
		Value string `json:"record_value"`
	}
	s.runJSON(&d, append([]string{"domain", "add", name}, flags...)...)
	s.net.SetTXT(d.Name, d.Value)
	s.run(append([]string{"domain", "verify", name}, flags...)...)
}

func (s *site) command(args ...string) *exec.Cmd {
	cmd := exec.Command(binary, append([]string{"--config", s.config()}, args...)...)
	// This one is for tests; the program refuses variables that it does not know.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "SEALPOST_TEST_DATA=") })
	return cmd
}

// run runs a command that must succeed and gives its standard output.
func (s *site) run(args ...string) []byte {
	s.t.Helper()
	var out, errs bytes.Buffer
	cmd := s.command(args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		s.t.Fatalf("sealpost %s: %v\n%s%s", strings.Join(args, " "), err, out.Bytes(), errs.Bytes())
	}
	return out.Bytes()
}

func (s *site) runJSON(into any, args ...string) {
	s.t.Helper()
	out := s.run(append([]string{"--json"}, args...)...)
	if err := json.Unmarshal(out, into); err != nil {
		s.t.Fatalf("sealpost %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// server is one running "sealpost serve".
type server struct {
	s      *site
	cmd    *exec.Cmd
	log    *os.File
	exited chan error
	once   sync.Once
}

// start runs the server and returns when it is ready.
func (s *site) start() *server {
	s.t.Helper()
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	sv := &server{s: s, cmd: s.command("serve"), log: log, exited: make(chan error, 1)}
	sv.cmd.Stdout, sv.cmd.Stderr = log, log
	if err := sv.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() { sv.exited <- sv.cmd.Wait(); log.Close() }()
	s.t.Cleanup(func() { sv.end(syscall.SIGKILL) })
	deadline := time.Now().Add(30 * time.Second)
	for {
		resp, err := http.Get("http://" + s.metrics + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return sv
			}
		}
		select {
		case err := <-sv.exited:
			s.t.Fatalf("serve ended: %v\n%s", err, s.tail())
		default:
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("serve is not ready\n%s", s.tail())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// tail is the end of the server's log.
func (s *site) tail() string {
	b, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return string(b[max(0, len(b)-4000):])
}

// end sends a signal and waits for the process to be gone.
func (sv *server) end(sig syscall.Signal) (err error) {
	sv.once.Do(func() {
		_ = sv.cmd.Process.Signal(sig)
		select {
		case err = <-sv.exited:
		case <-time.After(60 * time.Second):
			_ = sv.cmd.Process.Kill()
			err = errors.New("it did not stop within a minute")
		}
	})
	return err
}

// call does an API request and decodes the answer.
func (s *site) call(method, path string, body, into any) (int, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, s.url+path, r)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+s.key)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.StatusCode, err
	}
	if into != nil && resp.StatusCode/100 == 2 {
		return resp.StatusCode, json.Unmarshal(b, into)
	}
	if resp.StatusCode/100 != 2 {
		return resp.StatusCode, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, b)
	}
	return resp.StatusCode, nil
}

type delivery struct {
	ID        string `json:"id"`
	Recipient string `json:"recipient"`
	Seal      string `json:"seal"`
	State     string `json:"state"`
	Reason    string `json:"reason"`
}

type receipt struct {
	ID         string     `json:"id"`
	Deliveries []delivery `json:"deliveries"`
}

// post hands in a message through the API.
func (s *site) post(message map[string]any) (r receipt, err error) {
	if message["from"] == nil {
		message["from"] = "dr.ada@clinic.test"
	}
	_, err = s.call(http.MethodPost, "/api/v1/messages", message, &r)
	return r, err
}

// state asks for a delivery's state of now.
func (s *site) state(id string) (d delivery) {
	s.t.Helper()
	if _, err := s.call(http.MethodGet, "/api/v1/deliveries/"+id, nil, &d); err != nil {
		s.t.Fatal(err)
	}
	return d
}

// settles waits until a delivery is in one of the states.
func (s *site) settles(id string, states ...string) (d delivery) {
	s.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		d = s.state(id)
		for _, want := range states {
			if d.State == want {
				return d
			}
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("delivery is %s (%s), want %v", d.State, d.Reason, states)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
