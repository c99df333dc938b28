package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/emersion/go-smtp"
)

// compareArrivals measures how long clients wait for the answer to their
// message when messages arrive at a fixed rate that both servers can bear.
func compareArrivals(ctx context.Context, o options, dir string, out io.Writer) error {
	fmt.Fprintf(out, "arrivals: %d messages a second of %d octets by SMTP, until the answer to the final dot, from the time each was due:\n", o.arrivalRate, o.size)
	for _, name := range o.servers() {
		awaitRest(ctx, o.patient)
		l, err := measureArrivals(ctx, o, filepath.Join(dir, name), name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(out, "  %-8s  %s; CPU %s a message\n", name, l, us(l.cpu))
	}
	return nil
}

func measureArrivals(ctx context.Context, o options, dir, name string) (*latencies, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	s, err := startSink(ctx, dir, crowd{})
	if err != nil {
		return nil, err
	}
	defer s.stop()
	v, err := startServer(ctx, o, dir, name, s)
	if err != nil {
		return nil, err
	}
	defer v.stop()
	used, count := cpu(v.pids()...), int(o.openFor.Seconds()*float64(o.arrivalRate))
	text := "From: <" + sender + ">\r\nTo: <" + sinkMailbox + ">\r\nSubject: A message of the benchmark\r\n\r\n" +
		strings.Repeat(strings.Repeat("X", 78)+"\r\n", o.size/80)
	l, err := arrive(ctx, count, o.arrivalRate, func() error {
		return handIn(v.relayAddr(), text)
	})
	if err != nil {
		return nil, err
	}
	if _, err := s.wait(count); err != nil {
		return nil, err
	}
	l.cpu = (cpu(v.pids()...) - used) / time.Duration(max(1, count))
	return l, checkSigned(o, s, count)
}

// handIn hands in one message over a connection of its own, in clear like
// smtp-source.
func handIn(relay, text string) error {
	c, err := smtp.Dial(relay)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Mail(sender, nil); err != nil {
		return err
	}
	if err := c.Rcpt(sinkMailbox, nil); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	return w.Close() // with the answer to the final dot
}
