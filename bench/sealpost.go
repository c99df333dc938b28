package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
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
	cmd   *exec.Cmd
	log   *os.File
	relay string
	api   string // URL
	key   string
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
metrics = ""

[[relay.source]]
networks = ["127.0.0.0/8"]
org = "clinic"

[network]
resolver = %[4]q
smtp_port = %[5]d
https_port = %[6]d
ca_file = %[7]q
`

func startSealpost(ctx context.Context, o options, dir string, s *sink) (*sealpost, error) {
	httpPort, err := freePort()
	if err != nil {
		return nil, err
	}
	relayPort, err := freePort()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "sealpost.toml")
	text := fmt.Sprintf(sealpostTOML, filepath.Join(dir, "data"), httpPort, relayPort,
		s.Resolver, s.SMTPPort, s.HTTPSPort, s.CAFile, filepath.Join(dir, "master.key"), s.CertFile, s.KeyFile)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	p := &sealpost{relay: net.JoinHostPort("127.0.0.1", strconv.Itoa(relayPort)), api: "http://127.0.0.1:" + strconv.Itoa(httpPort)}
	if p.key, err = settle(ctx, o.binary, config); err != nil {
		return nil, err
	}
	if err := p.start(ctx, o, dir, config); err != nil {
		return nil, err
	}
	return p, nil
}

// settle makes keys, the organization, its domain and a key for the API.
func settle(ctx context.Context, binary, config string) (key string, err error) {
	command := func(args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, binary, append([]string{"--config", config, "--json"}, args...)...)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", binary, args[0], err)
		}
		return out, nil
	}
	for _, args := range [][]string{
		{"keys", "init"},
		{"org", "create", "clinic", "--name", "Riverside Clinic"},
		{"domain", "add", senderDomain},
		{"domain", "verify", senderDomain, "--force"},
	} {
		if _, err := command(args...); err != nil {
			return "", err
		}
	}
	out, err := command("apikey", "create", "--name", "bench")
	if err != nil {
		return "", err
	}
	var made struct{ Key string }
	if err := json.Unmarshal(out, &made); err != nil {
		return "", fmt.Errorf("read the API key: %w", err)
	}
	return made.Key, nil
}

func (p *sealpost) start(ctx context.Context, o options, dir, config string) (err error) {
	args := []string{o.binary, "--config", config, "serve"}
	if o.profile != "" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		args = []string{self, "serve", "-config", config, "-profile", o.profile}
	}
	if p.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return err
	}
	// Not bound to ctx: stop lets it drain.
	p.cmd = apart(exec.Command(args[0], args[1:]...))
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start Sealpost: %w", err)
	}
	if err := awaitListener(ctx, p.relay); err != nil {
		p.stop()
		tail, _ := os.ReadFile(p.log.Name())
		return fmt.Errorf("start Sealpost: %w\n%s", err, tail)
	}
	return nil
}

func (p *sealpost) pid() int          { return p.cmd.Process.Pid }
func (p *sealpost) relayAddr() string { return p.relay }

func (p *sealpost) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(40*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	_ = p.cmd.Wait()
	_ = p.log.Close()
}
