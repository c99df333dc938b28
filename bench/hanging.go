package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const (
	sitesCount   = 1000
	perSite      = 30
	sitesHanging = 0.2 // they take connections and never say anything
)

// hangingSites compares the deliveries to sites that answer while a fifth of
// all sites hang with the same deliveries while none does.
func hangingSites(ctx context.Context, o options, dir string, out io.Writer) error {
	o.dkim = false
	const answering = int(sitesCount * (1 - sitesHanging))
	fmt.Fprintf(out, "hanging sites: %d deliveries to each of %d sites, of which %.0f %% take connections and say nothing\n", perSite, sitesCount, 100*sitesHanging)
	rate := map[float64]float64{}
	for _, hanging := range []float64{0, sitesHanging} {
		awaitRest(ctx, o.patient)
		r, err := siteRound(ctx, o, filepath.Join(dir, strconv.FormatFloat(hanging, 'f', 1, 64)), hanging)
		if err != nil {
			return err
		}
		rate[hanging] = r
		fmt.Fprintf(out, "  %3.0f %% hanging: %d deliveries to the others at %.0f/s\n", 100*hanging, answering*perSite, r)
	}
	fmt.Fprintf(out, "  ratio with to without: %.2f\n", rate[sitesHanging]/rate[0])
	return nil
}

// siteRound tells how many deliveries a second reach the sites that answer.
// Without hanging sites there are fewer, so that the work is the same.
func siteRound(ctx context.Context, o options, dir string, hanging float64) (float64, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return 0, err
	}
	sites := sitesCount
	if hanging == 0 {
		sites = int(sitesCount * (1 - sitesHanging))
	}
	s, err := startSink(ctx, dir, crowd{domains: sites, hosts: sites, hanging: hanging})
	if err != nil {
		return 0, err
	}
	defer s.stop()
	p, err := prepareSealpost(ctx, o, dir, s)
	if err != nil {
		return 0, err
	}
	if err := p.fill(ctx, "-n", strconv.Itoa(sites*perSite), "-domains", strconv.Itoa(sites)); err != nil {
		return 0, err
	}
	if err := p.start(ctx, o); err != nil {
		return 0, err
	}
	defer p.stop()
	began, want := time.Now(), int(sitesCount*(1-sitesHanging))*perSite
	at, err := s.wait(want)
	return float64(want) / at.Sub(began).Seconds(), err
}
