package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	nodesDelay       = 200 * time.Millisecond
	nodesConnections = 100 // of each node
	nodesDeliveries  = 12_000
	nodesDomains     = 400
)

// twoNodes compares two nodes on one PostgreSQL with one of them, where the
// peers and not the processors are what limits; then one of two is killed.
func twoNodes(ctx context.Context, o options, dir, url string, out io.Writer) error {
	o.dkim = false
	fmt.Fprintf(out, "nodes: %d deliveries to %d domains whose hosts answer each command after %s, %d connections a node\n",
		nodesDeliveries, nodesDomains, nodesDelay, nodesConnections)
	s, err := startSink(ctx, dir, crowd{domains: nodesDomains, hosts: nodesDomains, delay: nodesDelay})
	if err != nil {
		return err
	}
	defer s.stop()
	first, err := prepareSealpost(ctx, o, dir, s, "SEALPOST_DATABASE_URL="+url, "SEALPOST_DELIVERY_CONCURRENCY="+strconv.Itoa(nodesConnections))
	if err != nil {
		return err
	}
	second, err := first.twin(dir)
	if err != nil {
		return err
	}
	one, err := drainBy(ctx, o, s, nodesDeliveries, first)
	if err != nil {
		return err
	}
	two, err := drainBy(ctx, o, s, nodesDeliveries, first, second)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "  one node %.0f/s, two nodes %.0f/s, ratio %.2f, each delivery once\n", one, two, two/one)
	return killOne(ctx, o, s, first, second, out)
}

// twin is another node on the same database and keys.
func (p *sealpost) twin(dir string) (*sealpost, error) {
	in := filepath.Join(dir, "second")
	if err := os.Mkdir(in, 0o755); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(p.config)
	if err != nil {
		return nil, err
	}
	t := *p
	t.dir, t.config = in, filepath.Join(in, "sealpost.toml")
	conf := strings.Replace(string(text), "[keys]\n", fmt.Sprintf("[keys]\ndir = %q\n", filepath.Join(dir, "data", "keys")), 1)
	conf = strings.Replace(conf, fmt.Sprintf("data_dir = %q", filepath.Join(dir, "data")), fmt.Sprintf("data_dir = %q", filepath.Join(in, "data")), 1)
	for _, url := range []*string{&t.api, &t.metrics, &t.relay} {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		old := (*url)[strings.LastIndexByte(*url, ':'):]
		conf = strings.ReplaceAll(conf, old, ":"+strconv.Itoa(port))
		*url = strings.TrimSuffix(*url, old) + ":" + strconv.Itoa(port)
	}
	return &t, os.WriteFile(t.config, []byte(conf), 0o600)
}

// drainBy fills the queue and tells how many deliveries a second leave it by
// the nodes given.
func drainBy(ctx context.Context, o options, s *sink, n int, nodes ...*sealpost) (float64, error) {
	before, err := s.count(0)
	if err != nil {
		return 0, err
	}
	if err := nodes[0].fill(ctx, "-n", strconv.Itoa(n), "-domains", strconv.Itoa(nodesDomains)); err != nil {
		return 0, err
	}
	for _, p := range nodes {
		if err := p.start(ctx, o); err != nil {
			return 0, err
		}
		defer p.stop()
	}
	began, most := time.Now(), n*3/4 // what is left at last may be one node's alone
	c, err := s.count(before.Received + most)
	if err != nil {
		return 0, err
	}
	_, err = s.wait(before.Received + n)
	return float64(c.Received-before.Received) / c.At.Sub(began).Seconds(), err
}

// killOne kills one of two nodes in the middle. What it was sending when it
// died may arrive twice, and nothing else.
func killOne(ctx context.Context, o options, s *sink, first, second *sealpost, out io.Writer) error {
	before, err := s.count(0)
	if err != nil {
		return err
	}
	if err := first.fill(ctx, "-n", strconv.Itoa(nodesDeliveries), "-domains", strconv.Itoa(nodesDomains)); err != nil {
		return err
	}
	for _, p := range []*sealpost{first, second} {
		if err := p.start(ctx, o); err != nil {
			return err
		}
	}
	defer first.stop()
	if _, err := s.count(before.Received + nodesDeliveries/2); err != nil {
		return err
	}
	killed := time.Now()
	if err := errors.Join(second.cmd.Process.Kill(), second.cmd.Wait()); err == nil {
		return errors.New("the killed node ended well")
	}
	end, err := s.count(before.Received + nodesDeliveries)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "  one of two killed half-way: the other had sent the rest %.1f s later; %d of %d deliveries arrived, %d twice\n",
		end.At.Sub(killed).Seconds(), min(end.Received-before.Received, nodesDeliveries), nodesDeliveries, max(0, end.Received-before.Received-nodesDeliveries))
	return nil
}
