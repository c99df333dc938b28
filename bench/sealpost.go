package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const sealpostName = "sealpost"

// sealpost is a node of Sealpost in a folder of its own: SQLite, every role,
// defaults.
type sealpost struct {
	dir     string
	config  string
	env     []string
	cmd     *exec.Cmd
	log     *os.File
	relay   string
	api     string // URL
	metrics string // URL
	key     string
}

// sealpostTOML gives only what a node on loopback needs to be told.
const sealpostTOML = `data_dir = %[1]q
public_url = "http://127.0.0.1:%[2]d"
hostname = "mail.clinic.test"

[keys]
master_file = %[8]q

[tls]
cert_file = %[9]q
key_file = %[10]q

[listen]
http = "127.0.0.1:%[2]d"
http_tls = false
submission = ""
submissions = ""
relay = "127.0.0.1:%[3]d"
metrics = "127.0.0.1:%[11]d"

[[relay.source]]
networks = ["127.0.0.0/8"]
org = "clinic"

[network]
resolver = %[4]q
smtp_port = %[5]d
https_port = %[6]d
ca_file = %[7]q
`

// startSealpost sets a node up and starts it. env overrides its configuration.
func startSealpost(ctx context.Context, o options, dir string, s *sink, env ...string) (*sealpost, error) {
	p, err := prepareSealpost(ctx, o, dir, s, env...)
	if err != nil {
		return nil, err
	}
	return p, p.start(ctx, o)
}

// prepareSealpost sets a node up in dir.
func prepareSealpost(ctx context.Context, o options, dir string, s *sink, env ...string) (*sealpost, error) {
	httpPort, err := freePort()
	if err != nil {
		return nil, err
	}
	relayPort, err := freePort()
	if err != nil {
		return nil, err
	}
	metricsPort, err := freePort()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "sealpost.toml")
	text := fmt.Sprintf(sealpostTOML, filepath.Join(dir, "data"), httpPort, relayPort,
		s.Resolver, s.SMTPPort, s.HTTPSPort, s.CAFile, filepath.Join(dir, "master.key"), s.CertFile, s.KeyFile, metricsPort)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	p := &sealpost{dir: dir, config: config, env: append(os.Environ(), env...),
		relay: net.JoinHostPort("127.0.0.1", strconv.Itoa(relayPort)), api: "http://127.0.0.1:" + strconv.Itoa(httpPort),
		metrics: "http://127.0.0.1:" + strconv.Itoa(metricsPort)}
	return p, p.settle(ctx, o, s)
}

func (p *sealpost) command(ctx context.Context, o options, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, o.binary, append([]string{"--config", p.config, "--json"}, args...)...)
	cmd.Stderr, cmd.Env = os.Stderr, p.env
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", o.binary, args[0], err)
	}
	return out, nil
}

// settle makes keys, the organization, its domain, a key for the API and, if
// mail is signed, one for DKIM.
func (p *sealpost) settle(ctx context.Context, o options, s *sink) error {
	for _, args := range [][]string{
		{"migrate", "--apply"},
		{"keys", "init"},
		{"org", "create", "clinic", "--name", "Riverside Clinic"},
		{"domain", "add", senderDomain},
		{"domain", "verify", senderDomain, "--force"},
	} {
		if _, err := p.command(ctx, o, args...); err != nil {
			return err
		}
	}
	out, err := p.command(ctx, o, "apikey", "create", "--name", "bench")
	if err != nil {
		return err
	}
	var made struct{ Key string }
	if err := json.Unmarshal(out, &made); err != nil {
		return fmt.Errorf("read the API key: %w", err)
	}
	p.key = made.Key
	if o.dkim {
		return p.sign(ctx, o, s)
	}
	return nil
}

// sign makes the key that mail is signed with, and publishes its record.
func (p *sealpost) sign(ctx context.Context, o options, s *sink) error {
	out, err := p.command(ctx, o, "dkim", "create", senderDomain)
	if err != nil {
		return err
	}
	var made struct {
		Name  string `json:"record_name"`
		Value string `json:"record_value"`
	}
	if err := json.Unmarshal(out, &made); err != nil {
		return fmt.Errorf("read the DKIM key: %w", err)
	}
	if err := s.publish(made.Name, made.Value); err != nil {
		return err
	}
	if _, err := s.count(0); err != nil { // it has read the line before
		return err
	}
	_, err = p.command(ctx, o, "dkim", "activate", senderDomain)
	return err
}

func (p *sealpost) start(ctx context.Context, o options) (err error) {
	args := []string{o.binary, "--config", p.config, "serve"}
	if o.profile != "" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		args = []string{self, "serve", "-config", p.config, "-profile", o.profile}
	}
	if p.log, err = os.OpenFile(filepath.Join(p.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return err
	}
	// Not bound to ctx: stop lets it drain.
	p.cmd = apart(exec.Command(args[0], args[1:]...))
	p.cmd.Stderr, p.cmd.Env = p.log, p.env
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start Sealpost: %w", err)
	}
	if err := p.awaitReady(ctx); err != nil {
		p.stop()
		tail, _ := os.ReadFile(p.log.Name())
		return fmt.Errorf("start Sealpost: %w\n%s", err, tail)
	}
	return nil
}

func (p *sealpost) pids() []int       { return []int{p.cmd.Process.Pid} }
func (p *sealpost) relayAddr() string { return p.relay }

// awaitReady returns when the node says that it is ready.
func (p *sealpost) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.metrics+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready within a minute: %w", ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (p *sealpost) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(40*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	_ = p.cmd.Wait()
	_ = p.log.Close()
}
