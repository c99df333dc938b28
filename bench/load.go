package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"time"
)

// round is what one round of one server gave.
type round struct {
	accepted float64 // messages a second, until the generator had its last answer
	endToEnd float64 // messages a second, until the sink had the last one
	cpu      time.Duration
	memory   memory
	others   float64 // part of the processors that went to other programs
}

// generate hands in messages with smtp-source of the postfix package.
func generate(ctx context.Context, o options, addr string, messages int) error {
	path, err := program("smtp-source")
	if err != nil {
		return err
	}
	args := []string{"-s", strconv.Itoa(o.sessions), "-l", strconv.Itoa(o.size), "-m", strconv.Itoa(messages),
		// -N gives each message a recipient of its own: one for all would fit
		// into caches and indexes as real mail does not.
		"-N", "-f", sender, "-t", sinkMailbox, "-M", "generator.clinic.test"}
	if o.reuse {
		args = append(args, "-d")
	}
	// It says every refusal on standard error, and goes on.
	if out, err := apart(exec.CommandContext(ctx, path, append(args, addr)...)).CombinedOutput(); err != nil || len(out) > 0 {
		return fmt.Errorf("smtp-source: %v: %s", err, out[:min(len(out), 500)])
	}
	return nil
}

// measureRound warms a server up and measures it once. received is what the
// sink has had before.
func measureRound(ctx context.Context, o options, s *sink, v server, received int) (r round, err error) {
	if o.warmup > 0 {
		if err := generate(ctx, o, v.relayAddr(), o.warmup); err != nil {
			return r, err
		}
		if _, err := s.wait(received + o.warmup); err != nil {
			return r, err
		}
	}
	if err := profileSignal(o, v); err != nil {
		return r, err
	}
	usedBefore, stopWatching, others := cpu(v.pids()...), watchMemory(v.pids()...), watchOthers(v.pids()...)
	began := time.Now()
	if err := generate(ctx, o, v.relayAddr(), o.messages); err != nil {
		stopWatching()
		return r, err
	}
	accepted := time.Since(began)
	arrived, err := s.wait(received + o.warmup + o.messages)
	r.others = others()
	r.memory = stopWatching()
	if err != nil {
		return r, err
	}
	if err := checkSigned(o, s, received+o.warmup+o.messages); err != nil {
		return r, err
	}
	if err := profileSignal(o, v); err != nil {
		return r, err
	}
	r.cpu = (cpu(v.pids()...) - usedBefore) / time.Duration(o.messages)
	r.accepted = float64(o.messages) / accepted.Seconds()
	r.endToEnd = float64(o.messages) / arrived.Sub(began).Seconds()
	return r, nil
}

// checkSigned makes sure that a server did the work that it is compared by.
func checkSigned(o options, s *sink, want int) error {
	c, err := s.count(want)
	if err == nil && o.dkim && c.Signed != want {
		err = fmt.Errorf("%d of %d messages are signed", c.Signed, want)
	}
	return err
}
