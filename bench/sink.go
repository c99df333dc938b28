package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/fake"
)

// The names on both ends of every message.
const (
	sinkDomain   = "sink.example"
	sinkHost     = "mx." + sinkDomain
	sinkMailbox  = "recipient@" + sinkDomain
	senderDomain = fake.SenderDomain
	sender       = "sender@" + senderDomain
)

// sinkAddrs is the first line that a sink prints.
type sinkAddrs struct {
	CAFile    string `json:"ca_file"`
	Resolver  string `json:"resolver"`
	Host      string `json:"host"` // address without port
	SMTPPort  int    `json:"smtp_port"`
	HTTPSPort int    `json:"https_port"`
	CertFile  string `json:"cert_file"` // for servers on 127.0.0.1
	KeyFile   string `json:"key_file"`
}

// sinkCount is a line that a sink prints when it is asked for a number of
// messages and has them, or has given up.
type sinkCount struct {
	Received int       `json:"received"`
	Signed   int       `json:"signed"` // of them, with a DKIM signature
	At       time.Time `json:"at"`
}

// patience is how long a sink waits while no message comes.
const patience = 30 * time.Second

// runSink is the process that takes mail. It reads numbers, and answers each
// when it has received as many messages altogether. It ends with its input.
func runSink(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	f := flag.NewFlagSet("bench sink", flag.ContinueOnError)
	dir := f.String("dir", "", "folder for the certificate of the sink's authority")
	var crowd crowd
	f.IntVar(&crowd.domains, "domains", 0, "further domains, see crowdDomain")
	f.IntVar(&crowd.hosts, "hosts", 1, "mail hosts that they share")
	f.Float64Var(&crowd.hanging, "hanging", 0, "part of the hosts that take connections and say nothing")
	f.DurationVar(&crowd.delay, "delay", 0, "what the others wait before each reply")
	if err := f.Parse(args); err != nil {
		return err
	}
	n, err := fake.Start(ctx, fake.Options{Dir: *dir, DiscardBodies: true, TTL: time.Hour})
	if err != nil {
		return err
	}
	defer n.Close()
	if err := n.AddDomain(fake.Domain{Name: sinkDomain, Host: &fake.Behavior{}}); err != nil {
		return err
	}
	if err := crowd.gather(n); err != nil {
		return err
	}
	addrs := sinkAddrs{CAFile: n.CAFile, Resolver: n.ResolverAddr, SMTPPort: n.SMTPPort, HTTPSPort: n.HTTPSPort}
	if addrs.Host, _, err = net.SplitHostPort(n.HostAddr(sinkHost)); err != nil {
		return err
	}
	if addrs.CertFile, addrs.KeyFile, err = n.IssueFiles(*dir, "server", []string{"127.0.0.1"}, fake.CertOptions{}); err != nil {
		return err
	}
	answer := json.NewEncoder(out)
	if err := answer.Encode(addrs); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), " TXT "); ok {
			n.SetTXT(name, value)
			continue
		}
		want, err := strconv.Atoi(lines.Text())
		if err != nil {
			return err
		}
		if err := answer.Encode(awaitReceived(n, want)); err != nil {
			return err
		}
	}
	return lines.Err()
}

// crowd is many domains whose mail goes to fewer hosts.
type crowd struct {
	domains, hosts int
	hanging        float64
	delay          time.Duration
}

// crowdDomain names the domains of a crowd; domain i has the host i modulo
// their number. Each is registered by somebody else: about those of one
// registered domain little is asked at once.
func crowdDomain(i int) string { return "crowd" + strconv.Itoa(i) + ".example" }

func (c crowd) gather(n *fake.Internet) error {
	host := func(i int) string { return "mx" + strconv.Itoa(i%c.hosts) + ".crowd.example" }
	for i := range min(c.hosts, c.domains) {
		b := fake.Behavior{Delay: c.delay}
		if float64(i) < c.hanging*float64(c.hosts) {
			b = fake.Behavior{Hang: fake.HangBanner}
		}
		if err := n.AddHost(host(i), b); err != nil {
			return err
		}
	}
	for i := range c.domains {
		if err := n.AddDomain(fake.Domain{Name: crowdDomain(i), HostName: host(i)}); err != nil {
			return err
		}
	}
	return nil
}

func (c crowd) args() []string {
	return []string{"-domains", strconv.Itoa(c.domains), "-hosts", strconv.Itoa(max(1, c.hosts)),
		"-hanging", strconv.FormatFloat(c.hanging, 'f', -1, 64), "-delay", c.delay.String()}
}

// awaitReceived looks again and again: to be told of every message would cost
// the sink a tenth of its time.
func awaitReceived(n *fake.Internet, want int) sinkCount {
	last, since := n.Received(), time.Now()
	for {
		got, now := n.Received(), time.Now()
		if got != last {
			last, since = got, now
		}
		if got >= want || now.Sub(since) > patience {
			return sinkCount{got, n.Signed(), now}
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// sink is the process that takes the mail of one round.
type sink struct {
	sinkAddrs
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

func startSink(ctx context.Context, dir string, c crowd) (*sink, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &sink{cmd: apart(exec.CommandContext(ctx, self, append([]string{"sink", "-dir", dir}, c.args()...)...))}
	s.cmd.Stderr = os.Stderr
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the sink: %w", err)
	}
	s.out = json.NewDecoder(bufio.NewReader(out))
	if err := s.out.Decode(&s.sinkAddrs); err != nil {
		s.stop()
		return nil, fmt.Errorf("start the sink: %w", err)
	}
	return s, nil
}

// publish puts a TXT record into the sink's DNS.
func (s *sink) publish(name, value string) error {
	_, err := fmt.Fprintf(s.in, "%s TXT %s\n", name, value)
	return err
}

// wait gives the time at which the sink had received want messages since its
// start.
func (s *sink) wait(want int) (time.Time, error) {
	c, err := s.count(want)
	if err == nil && c.Received != want {
		err = fmt.Errorf("the sink received %d messages, not %d", c.Received, want)
	}
	return c.At, err
}

// count waits until the sink has received at least want messages, or has
// waited in vain.
func (s *sink) count(want int) (c sinkCount, err error) {
	if _, err := fmt.Fprintln(s.in, want); err != nil {
		return c, fmt.Errorf("ask the sink: %w", err)
	}
	if err := s.out.Decode(&c); err != nil {
		return c, fmt.Errorf("ask the sink: %w", err)
	}
	return c, nil
}

func (s *sink) stop() {
	_ = s.in.Close()
	_ = s.cmd.Wait() // it ends with its input, or with ctx
}
