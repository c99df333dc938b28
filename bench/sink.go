package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
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
	At       time.Time `json:"at"`
}

// patience is how long a sink waits while no message comes.
const patience = 30 * time.Second

// runSink is the process that takes mail. It reads numbers, and answers each
// when it has received as many messages altogether. It ends with its input.
func runSink(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	f := flag.NewFlagSet("bench sink", flag.ContinueOnError)
	dir := f.String("dir", "", "folder for the certificate of the sink's authority")
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
	var want int
	for {
		if _, err := fmt.Fscan(in, &want); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := answer.Encode(awaitReceived(n, want)); err != nil {
			return err
		}
	}
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
			return sinkCount{got, now}
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

func startSink(ctx context.Context, dir string) (*sink, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &sink{cmd: apart(exec.CommandContext(ctx, self, "sink", "-dir", dir))}
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

// wait gives the time at which the sink had received want messages since its
// start.
func (s *sink) wait(want int) (time.Time, error) {
	if _, err := fmt.Fprintln(s.in, want); err != nil {
		return time.Time{}, fmt.Errorf("ask the sink: %w", err)
	}
	var c sinkCount
	if err := s.out.Decode(&c); err != nil {
		return time.Time{}, fmt.Errorf("ask the sink: %w", err)
	}
	if c.Received != want {
		return c.At, fmt.Errorf("the sink received %d messages, not %d", c.Received, want)
	}
	return c.At, nil
}

func (s *sink) stop() {
	_ = s.in.Close()
	_ = s.cmd.Wait() // it ends with its input, or with ctx
}
