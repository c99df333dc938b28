package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// latencies are the times from when a request was due until its answer was
// read, in ascending order.
type latencies struct {
	all []time.Duration
	cpu time.Duration // of the server, per message
}

// at gives a quantile by the nearest rank: at(1) is the largest.
func (l *latencies) at(q float64) time.Duration {
	if len(l.all) == 0 {
		return 0
	}
	rank := int(math.Ceil(q * float64(len(l.all))))
	return l.all[max(rank, 1)-1]
}

func (l *latencies) String() string {
	return fmt.Sprintf("p50 %s, p95 %s, p99 %s, max %s", ms(l.at(0.50)), ms(l.at(0.95)), ms(l.at(0.99)), ms(l.at(1)))
}

// openLoop sends requests to the API.
func openLoop(ctx context.Context, o options, p *sealpost) (*latencies, error) {
	body, err := apiMessage(o.size)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConns: 1000, MaxIdleConnsPerHost: 1000}, Timeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	return arrive(ctx, int(o.openFor.Seconds()*float64(o.apiRate)), o.apiRate, func() error { return post(ctx, client, p, body) })
}

// arrive does something count times by a fixed schedule that does not wait for
// what was begun before: a server that stalls gets the arrivals of that time
// all the same, and their waiting counts (Tene, "How not to measure latency").
func arrive(ctx context.Context, count, perSecond int, do func() error) (*latencies, error) {
	l := &latencies{all: make([]time.Duration, count)}
	errs := make([]error, count)
	var work sync.WaitGroup
	began := time.Now().Add(100 * time.Millisecond)
	for i := range count {
		due := began.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
		select {
		case <-ctx.Done():
			work.Wait()
			return nil, ctx.Err()
		case <-time.After(time.Until(due)):
		}
		work.Go(func() {
			errs[i] = do()
			l.all[i] = time.Since(due)
		})
	}
	work.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	slices.Sort(l.all)
	return l, nil
}

func apiMessage(size int) ([]byte, error) {
	line := strings.Repeat("X", 78) + "\n"
	return json.Marshal(map[string]any{
		"from": sender, "to": []string{sinkMailbox}, "subject": "A message of the benchmark",
		"text": strings.Repeat(line, size/len(line)+1)[:size],
	})
}

func post(ctx context.Context, client *http.Client, p *sealpost, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.api+"/api/v1/messages", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+p.key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("the API answered %s: %s", resp.Status, answer[:min(len(answer), 300)])
	}
	return nil
}
