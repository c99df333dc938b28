package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const postfixName = "postfix"

// postfix is an installation of Postfix in a folder of its own. It shares the
// programs of Debian's package, and nothing else, with the machine's.
type postfix struct {
	config string
	queue  string
	relay  string
	master int
	signer *opendkim // nil: nothing is signed
}

// program finds a program of Debian's packages; their folder is not in every
// user's path.
func program(name string) (string, error) {
	for _, at := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(at); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed: sudo apt-get install --no-install-recommends postfix", name)
}

// checkPostfix says what is missing to run Postfix.
func checkPostfix() error {
	if _, err := program("postfix"); err != nil {
		return err
	}
	if _, err := user.Lookup("postfix"); err != nil {
		return fmt.Errorf("there is no user postfix: %w", err)
	}
	if os.Getuid() != 0 {
		return errors.New("to start Postfix takes root: run it with sudo, or measure Sealpost alone with -only sealpost")
	}
	return nil
}

// mainCF is the configuration. What differs from the defaults makes Postfix a
// relay to the sink over verified TLS, or makes it faster: connections are
// reused from the first message on, and names of clients are not looked up.
// Both servers open at most 20 connections to a destination, the default of
// both; -postfix-set shows what more would give.
const mainCF = `compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = %[1]s/log
maillog_file_prefixes = %[1]s
myhostname = relay.clinic.test
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
disable_dns_lookups = yes
transport_maps = inline:{ %[2]s=smtp:[%[3]s]:%[4]d }
smtp_tls_security_level = secure
smtp_tls_secure_cert_match = %[5]s
smtp_tls_CAfile = %[6]s
smtp_tls_connection_reuse = yes
smtp_connection_cache_destinations = static:all
`

// masterCF runs what a relay needs, without chroot: the programs find the
// sink's certificate and the log where they are.
const masterCF = `127.0.0.1:%d inet n - n - - smtpd
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
tlsproxy  unix  - - n - 0 tlsproxy
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp      unix  - - n - - smtp
relay     unix  - - n - - smtp
showq     unix  n - n - - showq
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
`

func startPostfix(ctx context.Context, o options, dir string, s *sink) (_ server, err error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	p := &postfix{config: filepath.Join(dir, "config"), queue: filepath.Join(dir, "queue"),
		relay: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	for _, d := range []string{p.config, p.queue, filepath.Join(dir, "data")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return nil, err
		}
	}
	if err := giveToPostfix(filepath.Join(dir, "data")); err != nil {
		return nil, err
	}
	extra := strings.Join(o.mainCF, "\n") + "\n"
	if o.dkim {
		if p.signer, err = startOpenDKIM(ctx, dir); err != nil {
			return nil, err
		}
		extra += fmt.Sprintf(milterCF, p.signer.at)
	}
	defer func() {
		if err != nil {
			p.signer.stop()
		}
	}()
	conf := fmt.Sprintf(mainCF, dir, sinkDomain, s.Host, s.SMTPPort, sinkHost, s.CAFile) + extra
	for name, text := range map[string]string{"main.cf": conf, "master.cf": fmt.Sprintf(masterCF, port)} {
		if err := os.WriteFile(filepath.Join(p.config, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	if err := p.control(ctx, "start"); err != nil {
		return nil, err
	}
	if err := p.findMaster(ctx); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

func giveToPostfix(dir string) error {
	u, err := user.Lookup("postfix")
	if err != nil {
		return err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return err
	}
	return os.Chown(dir, uid, -1)
}

func (p *postfix) control(ctx context.Context, verb string) error {
	path, err := program("postfix")
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, path, "-c", p.config, verb).CombinedOutput(); err != nil {
		return fmt.Errorf("postfix %s: %w\n%s", verb, err, out)
	}
	return nil
}

func (p *postfix) findMaster(ctx context.Context) error {
	text, err := os.ReadFile(filepath.Join(p.queue, "pid", "master.pid"))
	if err != nil {
		return fmt.Errorf("find the master process of Postfix: %w", err)
	}
	if p.master, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
		return fmt.Errorf("find the master process of Postfix: %w", err)
	}
	return awaitListener(ctx, p.relay)
}

func (p *postfix) pids() []int {
	if p.signer == nil {
		return []int{p.master}
	}
	return []int{p.master, p.signer.cmd.Process.Pid}
}

func (p *postfix) relayAddr() string { return p.relay }

// stop returns when no process of this Postfix is left.
func (p *postfix) stop() {
	defer p.signer.stop()
	left := family(p.master)
	_ = p.control(context.Background(), "stop") // waits for the master
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if !anyAlive(left) {
			return
		}
	}
}

func anyAlive(all []process) bool {
	for _, p := range all {
		if _, err := os.Stat(filepath.Join("/proc", strconv.Itoa(p.pid))); err == nil {
			return true
		}
	}
	return false
}
